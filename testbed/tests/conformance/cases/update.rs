//! PATCH and PUT: preconditions, what bumps a revision or a generation, and the status subresource.

use serde_json::json;

use crate::{
    bodies::{LEASES, NODES, ORDERS, TICKETS, held, labelled, lease, node, order, ticket},
    step::{Body, Call, Case},
};

pub(super) fn cases() -> Vec<Case> {
    let t1 = format!("{TICKETS}/t1");
    let status = format!("{TICKETS}/t1/status");
    let ticket_t1 = |name| Case::new(name).post(201, TICKETS, ticket("t1"));
    vec![
        ticket_t1("merge_patch_sets_and_removes")
            .merge(
                200,
                &t1,
                json!({
                    "metadata": { "labels": { "a": "1", "b": "2" }, "annotations": { "x": "y" } },
                    "spec": { "duration": "1h", "tolerations": [{ "key": "a", "operator": "Exists" }] },
                }),
            )
            .merge(
                200,
                &t1,
                json!({
                    "metadata": { "labels": { "a": null, "c": "3" }, "annotations": null },
                    "spec": { "duration": null, "tolerations": [] },
                }),
            )
            .get(200, &t1),
        ticket_t1("null_for_an_absent_field_is_fine")
            .merge(200, &t1, json!({ "metadata": { "labels": { "a": null } }, "spec": { "duration": null } })),
        ticket_t1("patch_that_changes_nothing_keeps_the_revision")
            .merge(200, &t1, json!({ "spec": { "nodeName": "n1" } }))
            .merge(200, &t1, json!({}))
            .merge(200, &status, json!({ "status": { "phase": "Pending" } }))
            .get(200, &t1),
        ticket_t1("another_uid_in_a_patch_is_refused_but_ignored_in_a_status")
            .merge(
                200,
                &t1,
                json!({ "metadata": { "uid": "${uid tickets/t1}", "labels": { "a": "1" } } }),
            )
            .merge(
                422,
                &t1,
                json!({ "metadata": { "uid": "8c1b5d1e-0000-4000-8000-000000000001", "labels": { "a": "2" } } }),
            )
            .merge(
                200,
                &status,
                json!({
                    "metadata": { "uid": "8c1b5d1e-0000-4000-8000-000000000001" }, "status": { "reason": "A" },
                }),
            ),
        ticket_t1("resource_version_in_a_patch_is_a_precondition")
            .merge(
                200,
                &t1,
                json!({ "metadata": { "resourceVersion": "${rv tickets/t1}", "labels": { "a": "1" } } }),
            )
            .merge(
                409,
                &t1,
                json!({ "metadata": { "resourceVersion": "${rv0 tickets/t1}", "labels": { "a": "2" } } }),
            )
            .merge(
                409,
                &status,
                json!({
                    "metadata": { "uid": "${uid tickets/t1}", "resourceVersion": "${rv0 tickets/t1}" },
                    "status": { "phase": "Reserved" },
                }),
            )
            .merge(
                200,
                &status,
                json!({
                    "metadata": { "uid": "${uid tickets/t1}", "resourceVersion": "${rv tickets/t1}" },
                    "status": { "phase": "Reserved" },
                }),
            ),
        Case::new("patch_of_a_missing_object_is_404")
            .merge(404, &t1, json!({ "metadata": { "labels": { "a": "1" } } }))
            .merge(404, &status, json!({ "status": { "phase": "Reserved" } })),
        ticket_t1("name_and_kind_cannot_be_patched")
            .merge(400, &t1, json!({ "metadata": { "name": "t2" } }))
            .merge(400, &t1, json!({ "metadata": { "namespace": "other" } }))
            .merge(422, &t1, json!({ "kind": "Order" })),
        ticket_t1("server_set_fields_survive_a_patch").merge(
            200,
            &t1,
            json!({ "metadata": {
                "creationTimestamp": "2001-01-01T00:00:00Z",
                "generation": 77,
                "labels": { "a": "1" },
            }}),
        ),
        ticket_t1("patch_must_be_an_object")
            .ask(400, Call::new(http::Method::PATCH, &t1, Body::Text("[".to_owned())))
            .ask(400, Call::new(http::Method::PATCH, &t1, Body::Text("[]".to_owned()))),
        ticket_t1("patch_type_must_be_known").ask(
            415,
            Call::merge(&t1, json!({ "metadata": { "labels": { "a": "1" } } })).content_type("application/json"),
        ),
        ticket_t1("status_and_spec_are_written_apart")
            .merge(
                200,
                &t1,
                json!({ "spec": { "duration": "1h" }, "status": { "phase": "Reserved", "reason": "A" } }),
            )
            .merge(
                200,
                &status,
                json!({
                    "metadata": { "labels": { "a": "1" } },
                    "spec": { "duration": "2h" }, "status": { "phase": "Reserved", "podName": "p1" },
                }),
            )
            .get(200, &t1)
            .get(200, &status),
        ticket_t1("status_field_is_removed_by_null")
            .merge(200, &status, json!({ "status": { "phase": "Reserved", "reason": "A", "podName": "p" } }))
            .merge(200, &status, json!({ "status": { "phase": "Pending", "reason": "B", "podName": null } }))
            .merge(200, &status, json!({ "status": null })),
        ticket_t1("status_of_a_new_object_is_dropped_and_defaulted").post(
            201,
            TICKETS,
            crate::bodies::with(ticket("t2"), json!({ "status": { "phase": "Claimed" } })),
        ),
        ticket_t1("generation_counts_changes_of_the_spec")
            .merge(200, &t1, json!({ "spec": { "templateHash": "h2" } }))
            .merge(200, &t1, json!({ "metadata": { "labels": { "a": "1" } } }))
            .merge(200, &status, json!({ "status": { "phase": "Reserved" } }))
            .merge(200, &t1, json!({ "spec": { "templateHash": "h2" } }))
            .get(200, &t1),
        Case::new("order_status_needs_no_valid_name")
            .post(201, ORDERS, order("o1"))
            .merge(
                200,
                &format!("{ORDERS}/o1/status"),
                json!({
                    "metadata": { "uid": "${uid orders/o1}" },
                    "status": { "replicas": 3, "rollout": null, "conditions": null, "nextScheduleTime": null },
                }),
            )
            .merge(200, &format!("{ORDERS}/o1/status"), json!({ "status": { "replicas": 4 } }))
            .merge(422, &format!("{ORDERS}/o1/status"), json!({ "status": { "replicas": -1 } })),
        ticket_t1("put_replaces_the_object")
            .put(200, &t1, "tickets/t1", json!({ "spec": { "duration": "1h" } }))
            .put(200, &t1, "tickets/t1", json!({ "metadata": { "labels": { "a": "1" } } }))
            .put(200, &t1, "tickets/t1", json!({ "spec": { "duration": null } }))
            .put(200, &t1, "tickets/t1", json!({ "status": { "phase": "Reserved" } }))
            .put(200, &status, "tickets/t1", json!({ "status": { "phase": "Reserved" } })),
        ticket_t1("put_that_changes_nothing_keeps_the_revision")
            .put(200, &t1, "tickets/t1", json!({}))
            .put(200, &status, "tickets/t1", json!({})),
        ticket_t1("put_with_an_old_revision_is_refused")
            .merge(200, &t1, json!({ "metadata": { "labels": { "a": "1" } } }))
            .put(
                409,
                &t1,
                "tickets/t1",
                json!({ "metadata": { "resourceVersion": "${rv0 tickets/t1}", "labels": { "a": "2" } } }),
            ),
        ticket_t1("put_of_a_custom_object_needs_a_revision").put(
            422,
            &t1,
            "tickets/t1",
            json!({ "metadata": { "resourceVersion": null } }),
        ),
        ticket_t1("put_with_another_uid_is_refused").put(
            409,
            &t1,
            "tickets/t1",
            json!({ "metadata": { "uid": "8c1b5d1e-0000-4000-8000-000000000001" } }),
        ),
        ticket_t1("put_to_another_name_is_refused").put(
            400,
            &t1,
            "tickets/t1",
            json!({ "metadata": { "name": "t2" } }),
        ),
        ticket_t1("put_of_a_missing_object_is_404")
            .delete(200, &t1, json!(null))
            .put(404, &t1, "tickets/t1", json!({})),
        Case::new("lease_is_taken_by_put_on_its_revision")
            .post(201, LEASES, lease("l1"))
            .post(409, LEASES, lease("l1"))
            .put(
                200,
                &format!("{LEASES}/l1"),
                "leases/l1",
                json!({ "spec": { "renewTime": "2030-01-01T00:00:10.000001Z" } }),
            )
            .put(
                409,
                &format!("{LEASES}/l1"),
                "leases/l1",
                json!({
                    "metadata": { "resourceVersion": "${rv0 leases/l1}" },
                    "spec": { "holderIdentity": "r1", "leaseTransitions": 2 },
                }),
            )
            .put(
                200,
                &format!("{LEASES}/l1"),
                "leases/l1",
                json!({ "spec": { "holderIdentity": null, "acquireTime": null } }),
            )
            .get(200, &format!("{LEASES}/l1"))
            .delete(200, &format!("{LEASES}/l1"), json!(null)),
        Case::new("lease_put_needs_a_revision")
            .post(201, LEASES, lease("l1"))
            .put(
                422,
                &format!("{LEASES}/l1"),
                "leases/l1",
                json!({ "metadata": { "resourceVersion": null }, "spec": { "holderIdentity": "r1" } }),
            ),
        Case::new("lease_is_checked")
            .post(422, LEASES, crate::bodies::with(lease("l1"), json!({ "spec": { "leaseDurationSeconds": 0 } })))
            .post(422, LEASES, crate::bodies::with(lease("l1"), json!({ "spec": { "leaseTransitions": -1 } })))
            .post(400, LEASES, crate::bodies::with(lease("l1"), json!({ "spec": { "leaseDurationSeconds": "x" } }))),
        Case::new("node_status_and_spec_are_written_apart")
            .post(201, NODES, node("n-${id}"))
            .merge(
                200,
                &format!("{NODES}/n-${{id}}/status"),
                json!({ "status": { "conditions": [{
                    "type": "Ready", "status": "True", "reason": "KubeletReady", "message": "",
                    "lastHeartbeatTime": "2030-01-01T00:00:00Z", "lastTransitionTime": "2030-01-01T00:00:00Z",
                }]}}),
            )
            .merge(
                200,
                &format!("{NODES}/n-${{id}}"),
                json!({ "spec": { "unschedulable": true, "taints": [
                    { "key": "a", "value": "v", "effect": "NoSchedule" },
                    { "key": "b", "effect": "NoExecute", "timeAdded": "2030-01-01T00:00:00Z" },
                ]}}),
            )
            .merge(
                200,
                &format!("{NODES}/n-${{id}}"),
                json!({ "spec": { "unschedulable": null, "taints": null }, "status": { "phase": "Running" } }),
            )
            .merge(
                200,
                &format!("{NODES}/n-${{id}}"),
                json!({ "metadata": { "labels": { "zone": "a", "kubernetes.io/hostname": null } } }),
            )
            .get(200, &format!("{NODES}/n-${{id}}"))
            .delete(200, &format!("{NODES}/n-${{id}}"), json!(null)),
        Case::new("new_node_is_tainted_until_it_is_ready").post(201, NODES, node("n-${id}")),
        Case::new("finalizers_are_added_and_removed_by_patch")
            .post(201, TICKETS, held(labelled(ticket("t1"), json!({ "a": "1" }))))
            .merge(200, &t1, json!({ "metadata": { "finalizers": ["a.example/b", "test.korder.dev/hold"] } }))
            .merge(200, &t1, json!({ "metadata": { "finalizers": null } }))
            .get(200, &t1),
    ]
}
