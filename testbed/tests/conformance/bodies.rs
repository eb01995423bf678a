//! Paths and bodies as korder sends them, in the case's own namespace.

use serde_json::{Value, json};

pub(crate) const NAMESPACES: &str = "/api/v1/namespaces";
pub(crate) const TICKETS: &str = "/apis/core.korder.dev/v1alpha1/namespaces/${ns}/tickets";
pub(crate) const ORDERS: &str = "/apis/core.korder.dev/v1alpha1/namespaces/${ns}/orders";
pub(crate) const SHARDS: &str = "/apis/core.korder.dev/v1alpha1/namespaces/${ns}/shards";
pub(crate) const PODS: &str = "/api/v1/namespaces/${ns}/pods";
pub(crate) const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/${ns}/leases";
pub(crate) const EVENTS: &str = "/apis/events.k8s.io/v1/namespaces/${ns}/events";
pub(crate) const NODES: &str = "/api/v1/nodes";
pub(crate) const CLASSES: &str = "/apis/scheduling.k8s.io/v1/priorityclasses";

/// `PATH/NAME`, with whatever follows the name.
pub(crate) fn at(path: &str, name: &str) -> String {
    format!("{path}/{name}")
}

pub(crate) fn ticket(name: &str) -> Value {
    json!({
        "apiVersion": "core.korder.dev/v1alpha1",
        "kind": "Ticket",
        "metadata": { "name": name },
        "spec": { "nodeName": "n1", "nodeUID": "u1", "sequence": 0, "templateHash": "h1" },
    })
}

/// A Ticket as korder makes it.
pub(crate) fn full_ticket(name: &str) -> Value {
    with(
        ticket(name),
        json!({
            "metadata": { "labels": {
                "korder.dev/order": "o1",
                "korder.dev/order-uid": "8c1b5d1e-0000-4000-8000-000000000001",
                "korder.dev/node-uid": "u1",
                "korder.dev/shard": "7",
            }},
            "spec": {
                "duration": "1h",
                "resources": { "requests": { "cpu": "100m", "memory": "128Mi" } },
                "tolerations": [{ "key": "a", "operator": "Exists", "effect": "NoSchedule" }],
                "lifecycle": { "cleanupPolicy": "Retain", "ttlSecondsAfterFinished": 5 },
            },
        }),
    )
}

pub(crate) fn order(name: &str) -> Value {
    json!({
        "apiVersion": "core.korder.dev/v1alpha1",
        "kind": "Order",
        "metadata": { "name": name },
        "spec": {
            "daemonSet": true,
            "template": { "spec": { "resources": { "requests": { "cpu": "100m" } } } },
        },
    })
}

pub(crate) fn shard(name: &str) -> Value {
    json!({
        "apiVersion": "core.korder.dev/v1alpha1",
        "kind": "Shard",
        "metadata": { "name": name },
        "spec": { "shard": 7, "page": 0 },
    })
}

/// A Guardian as korder makes it, of no Ticket.
pub(crate) fn guardian(name: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "labels": { "korder.dev/guardian": "true", "korder.dev/shard": "7" },
            "annotations": {
                "cluster-autoscaler.kubernetes.io/daemonset-pod": "true",
                "cluster-autoscaler.kubernetes.io/safe-to-evict": "true",
            },
        },
        "spec": {
            "affinity": { "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{ "matchFields": [
                    { "key": "metadata.name", "operator": "In", "values": ["n1"] },
                ]}],
            }}},
            "automountServiceAccountToken": false,
            "containers": [{
                "name": "guardian",
                "image": "registry.k8s.io/pause:3.10",
                "resources": { "requests": { "cpu": "100m", "memory": "128Mi" } },
                "securityContext": {
                    "allowPrivilegeEscalation": false,
                    "capabilities": { "drop": ["ALL"] },
                    "readOnlyRootFilesystem": true,
                },
            }],
            "enableServiceLinks": false,
            "securityContext": {
                "runAsNonRoot": true,
                "runAsUser": 65535,
                "runAsGroup": 65535,
                "seccompProfile": { "type": "RuntimeDefault" },
            },
            "terminationGracePeriodSeconds": 0,
            "tolerations": [{ "key": "a", "operator": "Exists", "effect": "NoSchedule" }],
        },
    })
}

/// A claimant, as a user makes it.
pub(crate) fn claimant(name: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": name, "annotations": { "korder.dev/order": "o1" } },
        "spec": {
            "schedulingGates": [{ "name": "korder.dev/claim" }],
            "containers": [{ "name": "main", "image": "registry.example/main:1" }],
        },
    })
}

pub(crate) fn lease(name: &str) -> Value {
    json!({
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": { "name": name },
        "spec": {
            "holderIdentity": "r0",
            "leaseDurationSeconds": 15,
            "acquireTime": "2030-01-01T00:00:00.000000Z",
            "renewTime": "2030-01-01T00:00:05.123456Z",
            "leaseTransitions": 1,
        },
    })
}

pub(crate) fn node(name: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": { "name": name, "labels": { "run": "${id}", "kubernetes.io/hostname": name } },
        "spec": {},
        "status": { "allocatable": { "cpu": "4", "memory": "8Gi", "pods": "110" } },
    })
}

pub(crate) fn event(name: &str) -> Value {
    json!({
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": { "name": name, "namespace": "${ns}" },
        "eventTime": "2030-01-01T00:00:00.000001Z",
        "action": "Reconcile",
        "reason": "NoEligibleNodes",
        "note": "no node is eligible",
        "type": "Warning",
        "reportingController": "korder.dev/controller",
        "reportingInstance": "korder-0",
        "regarding": {
            "apiVersion": "core.korder.dev/v1alpha1",
            "kind": "Order",
            "name": "o1",
            "namespace": "${ns}",
            "uid": "8c1b5d1e-0000-4000-8000-000000000001",
        },
    })
}

pub(crate) fn binding(pod: &str, node: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": { "name": pod },
        "target": { "apiVersion": "v1", "kind": "Node", "name": node },
    })
}

/// The object with a merge patch applied.
pub(crate) fn with(mut object: Value, patch: Value) -> Value {
    crate::memory::merge(&mut object, &patch);
    object
}

/// The object with these labels.
pub(crate) fn labelled(object: Value, labels: Value) -> Value {
    with(object, json!({ "metadata": { "labels": labels } }))
}

/// The object with a finalizer of ours.
pub(crate) fn held(object: Value) -> Value {
    with(
        object,
        json!({ "metadata": { "finalizers": ["test.korder.dev/hold"] } }),
    )
}
