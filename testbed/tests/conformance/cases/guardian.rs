//! Pods as korder and its claimants use them: defaults, gates, binding, nomination and what may change.

use serde_json::{Value, json};

use crate::{
    bodies::{CLASSES, PODS, TICKETS, binding, claimant, guardian, ticket, with},
    step::Case,
};

pub(super) fn cases() -> Vec<Case> {
    let p1 = format!("{PODS}/p1");
    let (bind, status) = (format!("{p1}/binding"), format!("{p1}/status"));
    vec![
        Case::new("guardian_gets_its_defaults")
            .post(201, TICKETS, ticket("t1"))
            .post(201, PODS, with(guardian("p1"), json!({ "metadata": { "ownerReferences": [{
                "apiVersion": "core.korder.dev/v1alpha1", "kind": "Ticket", "name": "t1",
                "uid": "${uid tickets/t1}", "controller": true,
            }]}})))
            .get(200, &p1)
            .post(409, PODS, guardian("p1")),
        Case::new("claimant_gets_its_defaults").post(201, PODS, claimant("p1")).get(200, &p1),
        Case::new("limits_become_requests").post(
            201,
            PODS,
            resources(json!({ "limits": { "cpu": "2", "memory": "1Gi" } })),
        ),
        Case::new("equal_requests_and_limits_are_guaranteed").post(
            201,
            PODS,
            resources(json!({
                "limits": { "cpu": "2", "memory": "1Gi" }, "requests": { "cpu": "2", "memory": "1Gi" },
            })),
        ),
        Case::new("no_resources_are_best_effort").post(201, PODS, {
            let mut pod = guardian("p1");
            pod["spec"]["containers"][0]["resources"] = json!({});
            pod
        }),
        Case::new("requests_must_fit_limits")
            .post(
                422,
                PODS,
                resources(json!({ "limits": { "cpu": "1" }, "requests": { "cpu": "2" } })),
            )
            .post(422, PODS, resources(json!({ "requests": { "cpu": "-1" } }))),
        Case::new("quantities_are_made_canonical").post(
            201,
            PODS,
            resources(json!({ "requests": { "cpu": "0.5", "memory": "1024Mi" } })),
        ),
        Case::new("quantity_must_be_one").post(
            400,
            PODS,
            resources(json!({ "requests": { "cpu": "lots" } })),
        ),
        Case::new("priority_class_gives_the_priority")
            .post(201, CLASSES, class("low-${id}", -5))
            .post(201, CLASSES, class("none-${id}", 0))
            .post(201, PODS, spec(guardian("p1"), json!({ "priorityClassName": "low-${id}" })))
            .post(201, PODS, spec(guardian("p2"), json!({ "priorityClassName": "none-${id}" })))
            .post(201, PODS, guardian("p3"))
            .post(
                201,
                PODS,
                spec(guardian("p4"), json!({ "priorityClassName": "system-node-critical" })),
            ),
        Case::new("unknown_priority_class_is_refused").post(
            403,
            PODS,
            spec(guardian("p1"), json!({ "priorityClassName": "unknown" })),
        ),
        Case::new("priority_without_its_class_is_refused")
            .post(403, PODS, spec(guardian("p1"), json!({ "priority": 5 }))),
        Case::new("tolerations_are_completed")
            .post(201, PODS, tolerations(json!([])))
            .post(201, PODS, with(
                tolerations(json!([{ "key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5 }])),
                json!({ "metadata": { "name": "p2" } }),
            ))
            .post(201, PODS, with(
                tolerations(json!([{ "operator": "Exists" }])),
                json!({ "metadata": { "name": "p3" } }),
            )),
        Case::new("toleration_must_be_valid")
            .post(422, PODS, tolerations(json!([{ "value": "v" }])))
            .post(422, PODS, tolerations(json!([{ "key": "a", "operator": "Exists", "value": "v" }])))
            .post(422, PODS, tolerations(json!([{ "key": "a", "effect": "Sometimes" }]))),
        Case::new("container_must_be_named_and_have_an_image")
            .post(422, PODS, spec(guardian("p1"), json!({ "containers": [] })))
            .post(422, PODS, spec(guardian("p1"), json!({ "containers": [{ "name": "Main", "image": "a" }] })))
            .post(422, PODS, spec(guardian("p1"), json!({ "containers": [{ "name": "a" }] }))),
        Case::new("pod_name_may_be_long")
            .post(201, PODS, guardian(&format!("guardian-{}", "n".repeat(54))))
            .post(201, PODS, guardian(&"n".repeat(253)))
            .post(422, PODS, guardian(&"n".repeat(254))),
        Case::new("gate_is_removed_by_patch")
            .post(201, PODS, claimant("p1"))
            .merge(
                200,
                &p1,
                json!({
                    "metadata": { "uid": "${uid pods/p1}", "resourceVersion": "${rv pods/p1}" },
                    "spec": { "schedulingGates": null },
                }),
            )
            .get(200, &p1),
        Case::new("gate_is_removed_by_an_empty_list")
            .post(201, PODS, claimant("p1"))
            .merge(200, &p1, json!({ "spec": { "schedulingGates": [] } }))
            .get(200, &p1),
        Case::new("gate_cannot_be_added")
            .post(201, PODS, guardian("p1"))
            .merge(422, &p1, json!({ "spec": { "schedulingGates": [{ "name": "korder.dev/cover" }] } })),
        Case::new("gated_pod_cannot_be_created_on_a_node")
            .post(422, PODS, spec(claimant("p1"), json!({ "nodeName": "n1" }))),
        Case::new("bind_puts_the_pod_on_the_node")
            .post(201, PODS, guardian("p1"))
            .post(201, &bind, binding("p1", "n1"))
            .get(200, &p1)
            .post(409, &bind, binding("p1", "n1"))
            .post(409, &bind, binding("p1", "n2")),
        Case::new("bind_checks_the_uid")
            .post(201, PODS, guardian("p1"))
            .post(
                409,
                &bind,
                with(
                    binding("p1", "n1"),
                    json!({ "metadata": { "uid": "8c1b5d1e-0000-4000-8000-000000000001" } }),
                ),
            )
            .post(
                201,
                &bind,
                with(binding("p1", "n1"), json!({ "metadata": { "uid": "${uid pods/p1}" } })),
            ),
        Case::new("bind_of_a_gated_pod_is_refused")
            .post(201, PODS, claimant("p1"))
            .post(409, &bind, binding("p1", "n1")),
        Case::new("bind_of_a_missing_pod_is_404").post(404, &bind, binding("p1", "n1")),
        Case::new("bind_needs_a_node")
            .post(201, PODS, guardian("p1"))
            .post(500, &bind, binding("p1", "")),
        Case::new("nomination_is_written_by_status_patch")
            .post(201, PODS, claimant("p1"))
            .merge(
                200,
                &status,
                json!({
                    "metadata": {
                        "uid": "${uid pods/p1}",
                        "resourceVersion": "${rv pods/p1}",
                        "labels": { "korder.dev/shard": "7" },
                    },
                    "status": { "nominatedNodeName": "n1" },
                }),
            )
            .merge(
                409,
                &status,
                json!({
                    "metadata": { "resourceVersion": "${rv0 pods/p1}" },
                    "status": { "nominatedNodeName": "n2" },
                }),
            )
            .merge(
                422,
                &status,
                json!({
                    "metadata": { "uid": "8c1b5d1e-0000-4000-8000-000000000001" },
                    "status": { "nominatedNodeName": "n2" },
                }),
            )
            .merge(200, &status, json!({ "status": { "nominatedNodeName": null } }))
            .get(200, &p1),
        Case::new("nomination_survives_or_not_the_binding")
            .post(201, PODS, claimant("p1"))
            .merge(200, &status, json!({ "status": { "nominatedNodeName": "n1" } }))
            .merge(200, &p1, json!({ "spec": { "schedulingGates": null } }))
            .post(201, &bind, binding("p1", "n1"))
            .get(200, &p1),
        Case::new("status_patch_leaves_the_spec")
            .post(201, PODS, guardian("p1"))
            .merge(
                200,
                &status,
                json!({ "spec": { "priority": 9 }, "status": { "phase": "Running", "startTime": "2030-01-01T00:00:00Z" } }),
            )
            .merge(200, &p1, json!({ "status": { "phase": "Failed" } }))
            .merge(
                200,
                &status,
                json!({ "status": { "phase": "Running", "conditions": [
                    { "type": "Ready", "status": "True", "lastTransitionTime": "2030-01-01T00:00:00Z" },
                ]}}),
            )
            .get(200, &p1),
        Case::new("kubelet_reports_running_and_ended")
            .post(201, PODS, guardian("p1"))
            .post(201, &bind, binding("p1", "n1"))
            .merge(200, &status, running())
            .merge(
                200,
                &status,
                json!({ "status": { "phase": "Failed", "reason": "OutOfcpu", "message": "no room" } }),
            )
            .get(200, &p1),
        Case::new("spec_of_a_pod_is_fixed")
            .post(201, PODS, guardian("p1"))
            .merge(422, &p1, json!({ "spec": { "priorityClassName": "a" } }))
            .merge(422, &p1, json!({ "spec": { "terminationGracePeriodSeconds": 5 } }))
            .merge(422, &p1, json!({ "spec": { "nodeName": "n1" } }))
            .get(200, &p1),
        Case::new("toleration_is_added_to_a_pod")
            .post(201, PODS, tolerations(json!([{ "key": "a", "operator": "Exists", "effect": "NoSchedule" }])))
            .merge(200, &p1, json!({ "spec": { "tolerations": [
                { "key": "a", "operator": "Exists", "effect": "NoSchedule" },
                { "key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300 },
                { "key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300 },
                { "key": "b", "operator": "Equal", "value": "v", "effect": "NoSchedule" },
            ]}}))
            .merge(422, &p1, json!({ "spec": { "tolerations": [] } })),
        Case::new("labels_of_a_guardian_are_put_back")
            .post(201, PODS, guardian("p1"))
            .merge(200, &p1, json!({ "metadata": { "labels": { "korder.dev/shard": null } } }))
            .merge(
                200,
                &p1,
                json!({ "metadata": { "uid": "${uid pods/p1}", "labels": { "korder.dev/shard": "7" } } }),
            )
            .merge(
                422,
                &p1,
                json!({ "metadata": {
                    "uid": "8c1b5d1e-0000-4000-8000-000000000001", "labels": { "korder.dev/shard": "8" },
                }}),
            ),
    ]
}

fn spec(pod: Value, change: Value) -> Value {
    with(pod, json!({ "spec": change }))
}

fn tolerations(list: Value) -> Value {
    spec(guardian("p1"), json!({ "tolerations": list }))
}

fn resources(resources: Value) -> Value {
    let mut pod = guardian("p1");
    pod["spec"]["containers"][0]["resources"] = resources;
    pod
}

fn class(name: &str, value: i32) -> Value {
    json!({
        "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass",
        "metadata": { "name": name }, "value": value,
    })
}

fn running() -> Value {
    json!({ "status": {
        "phase": "Running",
        "hostIP": "10.0.0.1",
        "podIP": "10.1.0.1",
        "startTime": "2030-01-01T00:00:00Z",
        "conditions": [
            { "type": "PodScheduled", "status": "True", "lastTransitionTime": "2030-01-01T00:00:00Z" },
            { "type": "Ready", "status": "True", "lastTransitionTime": "2030-01-01T00:00:00Z" },
        ],
    }})
}
