//! Events, PriorityClasses, Namespaces and Shards, and what is asked before anything else.

use serde_json::json;

use crate::{
    bodies::{CLASSES, EVENTS, NAMESPACES, SHARDS, event, shard, with},
    step::{Call, Case, META_LIST},
};

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new("event_is_made")
            .get(404, &format!("{EVENTS}/o1.1"))
            .post(201, EVENTS, event("o1.1"))
            .post(409, EVENTS, event("o1.1"))
            .get(404, "/api/v1/namespaces/${ns}/events/o1.2")
            .get(200, "/api/v1/namespaces/${ns}/events/o1.1")
            .get(200, &format!("{EVENTS}/o1.1"))
            .get(200, EVENTS),
        Case::new("event_is_checked")
            .post(422, EVENTS, with(event("o1.1"), json!({ "action": null })))
            .post(
                422,
                EVENTS,
                with(event("o1.1"), json!({ "reportingController": null })),
            )
            .post(
                422,
                EVENTS,
                with(event("o1.1"), json!({ "note": "n".repeat(1025) })),
            )
            .post(422, EVENTS, with(event("o1.1"), json!({ "type": "Sometimes" })))
            .post(
                201,
                EVENTS,
                with(event("o1.1"), json!({ "regarding": { "namespace": "other" } })),
            ),
        Case::new("priority_class")
            .post(
                201,
                CLASSES,
                json!({
                    "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass",
                    "metadata": { "name": "low-${id}" }, "value": -1000, "description": "room",
                    "preemptionPolicy": "Never",
                }),
            )
            .get(200, &format!("{CLASSES}/low-${{id}}"))
            .get(404, &format!("{CLASSES}/other-${{id}}"))
            .delete(200, &format!("{CLASSES}/low-${{id}}"), json!(null)),
        Case::new("namespace")
            .get(200, &format!("{NAMESPACES}/${{ns}}"))
            .post(409, NAMESPACES, json!({ "metadata": { "name": "${ns}" } }))
            .post(422, NAMESPACES, json!({ "metadata": { "name": "a.b" } }))
            .get(404, &format!("{NAMESPACES}/nowhere")),
        Case::new("shard_status_is_made_and_replaced")
            .post(201, SHARDS, shard("shard-07"))
            .merge(
                200,
                &format!("{SHARDS}/shard-07/status"),
                json!({ "status": { "owner": "r0", "nodes": 5, "orders": [
                    { "orderUID": "8c1b5d1e-0000-4000-8000-000000000001", "desired": 5 },
                ]}}),
            )
            .put(
                200,
                &format!("{SHARDS}/shard-07/status"),
                "shards/shard-07",
                json!({ "status": { "nodes": 6 } }),
            )
            .get(200, SHARDS),
        Case::new("is_the_definition_there")
            .ask(
                200,
                Call::get("/apis/core.korder.dev/v1alpha1/namespaces/${ns}/orders?limit=1").accept(META_LIST),
            )
            .ask(
                404,
                Call::get("/apis/core.korder.dev/v2/namespaces/${ns}/orders?limit=1").accept(META_LIST),
            ),
    ]
}
