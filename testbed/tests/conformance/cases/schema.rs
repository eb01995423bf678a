//! What the three definitions add: defaults, pruning, types, ranges and CEL rules.

use serde_json::{Value, json};

use crate::{
    bodies::{ORDERS, SHARDS, TICKETS, full_ticket, order, shard, ticket, with},
    step::Case,
};

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new("defaults_are_filled_in")
            .post(201, ORDERS, order("o1"))
            .post(201, TICKETS, ticket("t1"))
            .post(201, TICKETS, full_ticket("t2"))
            .post(201, SHARDS, shard("s1"))
            .merge(
                200,
                &format!("{SHARDS}/s1/status"),
                json!({ "status": { "owner": "r0" } }),
            )
            .merge(
                200,
                &format!("{ORDERS}/o1/status"),
                json!({ "status": { "replicas": 3 } }),
            ),
        Case::new("unknown_fields_are_dropped")
            .post(
                201,
                TICKETS,
                with(
                    ticket("t1"),
                    json!({ "extra": 1, "spec": { "extra": { "a": 1 } } }),
                ),
            )
            .merge(200, &format!("{TICKETS}/t1"), json!({ "spec": { "more": true } })),
        Case::new("null_in_a_body_takes_the_default").post(
            201,
            TICKETS,
            json!({
                "apiVersion": "core.korder.dev/v1alpha1", "kind": "Ticket", "metadata": { "name": "t1" },
                "spec": {
                    "nodeName": "n1", "nodeUID": "u1", "sequence": 0, "templateHash": "h1", "lifecycle": null,
                },
            }),
        ),
        Case::new("required_fields_must_be_there")
            .post(422, TICKETS, without(ticket("t1"), &["nodeName"]))
            .post(422, TICKETS, without(ticket("t1"), &["nodeUID", "sequence"]))
            .post(422, SHARDS, without(shard("s1"), &["shard"]))
            .post(422, TICKETS, {
                let mut bare = ticket("t1");
                bare.as_object_mut().map(|fields| fields.remove("spec"));
                bare
            }),
        Case::new("types_are_checked")
            .post(422, TICKETS, spec(ticket("t1"), json!({ "nodeName": 5 })))
            .post(422, TICKETS, spec(ticket("t1"), json!({ "sequence": "5" })))
            .post(422, TICKETS, spec(ticket("t1"), json!({ "tolerations": {} })))
            .post(422, TICKETS, spec(ticket("t1"), json!({ "tolerations": ["a"] })))
            .post(422, ORDERS, spec(order("o1"), json!({ "paused": "yes" })))
            .post(422, TICKETS, with(ticket("t1"), json!({ "spec": 5 }))),
        Case::new("ranges_and_lengths_are_checked")
            .post(422, TICKETS, spec(ticket("t1"), json!({ "sequence": -1 })))
            .post(
                422,
                TICKETS,
                spec(ticket("t1"), json!({ "nodeUID": "u".repeat(65) })),
            )
            .post(422, SHARDS, spec(shard("s1"), json!({ "shard": 70_000 })))
            .post(422, TICKETS, spec(ticket("t1"), json!({ "sequence": 1.5 }))),
        Case::new("enums_are_checked")
            .post(
                422,
                TICKETS,
                spec(ticket("t1"), json!({ "lifecycle": { "cleanupPolicy": "Keep" } })),
            )
            .post(
                422,
                ORDERS,
                spec(order("o1"), json!({ "strategy": { "type": "Never" } })),
            )
            .post(201, TICKETS, ticket("t1"))
            .merge(
                422,
                &format!("{TICKETS}/t1/status"),
                json!({ "status": { "phase": "Lost" } }),
            ),
        Case::new("order_must_be_in_daemon_set_mode")
            .post(422, ORDERS, spec(order("o1"), json!({ "daemonSet": false })))
            .post(422, ORDERS, without(order("o1"), &["daemonSet"])),
        Case::new("order_strategy_needs_its_schedule_and_duration")
            .post(
                422,
                ORDERS,
                spec(order("o1"), json!({ "strategy": { "type": "Recurring" } })),
            )
            .post(
                422,
                ORDERS,
                spec(
                    order("o1"),
                    json!({ "strategy": { "type": "Scheduled", "schedule": "0 * * * *" } }),
                ),
            )
            .post(
                201,
                ORDERS,
                spec(
                    order("o1"),
                    json!({
                        "strategy": { "type": "Scheduled", "schedule": "0 * * * *" },
                        "template": { "spec": { "duration": "30m" } },
                    }),
                ),
            ),
        Case::new("order_template_is_checked")
            .post(422, ORDERS, template(json!({ "duration": "soon" })))
            .post(422, ORDERS, template(json!({ "duration": "10ms" })))
            .post(
                422,
                ORDERS,
                template(json!({ "resources": { "requests": { "cpu": "-1" } } })),
            )
            .post(
                422,
                ORDERS,
                template(json!({ "resources": { "requests": { "cpu": "lots" } } })),
            )
            .post(
                422,
                ORDERS,
                template(json!({ "resources": { "requests": { "cpu": "2" }, "limits": { "cpu": "1" } } })),
            )
            .post(
                422,
                ORDERS,
                template(json!({ "tolerations": [{ "value": "v" }] })),
            )
            .post(
                422,
                ORDERS,
                template(json!({ "tolerations": [{ "key": "a", "operator": "Exists", "value": "v" }] })),
            )
            .post(
                422,
                ORDERS,
                template(json!({ "tolerations": [{ "key": "a", "tolerationSeconds": 5 }] })),
            )
            .post(201, ORDERS, template(json!({ "duration": "1h30m" }))),
        Case::new("order_template_keeps_out_of_the_controllers_labels")
            .post(
                422,
                ORDERS,
                metadata(json!({ "labels": { "korder.dev/shard": "1" } })),
            )
            .post(
                422,
                ORDERS,
                metadata(json!({ "annotations": { "korder.dev/x": "1" } })),
            )
            .post(422, ORDERS, metadata(json!({ "labels": { "a": "not valid" } })))
            .post(201, ORDERS, metadata(json!({ "labels": { "a": "valid" } }))),
        Case::new("max_unavailable_is_a_number_or_a_percentage")
            .post(422, ORDERS, unavailable(json!(0)))
            .post(422, ORDERS, unavailable(json!("101%")))
            .post(422, ORDERS, unavailable(json!("5")))
            .post(422, ORDERS, unavailable(json!(true)))
            .post(201, ORDERS, unavailable(json!(3)))
            .merge(
                200,
                &format!("{ORDERS}/o1"),
                json!({ "spec": { "updateStrategy": { "maxUnavailable": "25%" } } }),
            ),
        Case::new("ticket_keeps_its_pair")
            .post(201, TICKETS, ticket("t1"))
            .merge(
                422,
                &format!("{TICKETS}/t1"),
                json!({ "spec": { "nodeName": "n2" } }),
            )
            .merge(
                422,
                &format!("{TICKETS}/t1"),
                json!({ "spec": { "nodeUID": "u2" } }),
            )
            .merge(
                422,
                &format!("{TICKETS}/t1"),
                json!({ "spec": { "sequence": 1, "nodeName": "n2" } }),
            )
            .merge(
                422,
                &format!("{TICKETS}/t1"),
                json!({ "spec": { "nodeName": null } }),
            )
            .merge(
                200,
                &format!("{TICKETS}/t1"),
                json!({ "spec": { "templateHash": "h2" } }),
            ),
        Case::new("conditions_are_checked")
            .post(201, TICKETS, ticket("t1"))
            .merge(
                422,
                &format!("{TICKETS}/t1/status"),
                json!({ "status": { "conditions": [{ "type": "Ready" }] } }),
            )
            .merge(
                422,
                &format!("{TICKETS}/t1/status"),
                json!({ "status": { "conditions": [condition(), condition()] } }),
            )
            .merge(
                200,
                &format!("{TICKETS}/t1/status"),
                json!({ "status": { "conditions": [condition()] } }),
            ),
        Case::new("times_are_checked")
            .post(201, TICKETS, ticket("t1"))
            .merge(
                422,
                &format!("{TICKETS}/t1/status"),
                json!({ "status": { "windowStart": "yesterday" } }),
            ),
    ]
}

fn spec(object: Value, change: Value) -> Value {
    with(object, json!({ "spec": change }))
}

fn without(mut object: Value, fields: &[&str]) -> Value {
    let spec = object["spec"].as_object_mut();
    let spec = spec.expect("every body here has one");
    spec.retain(|name, _| !fields.contains(&name.as_str()));
    object
}

fn template(change: Value) -> Value {
    spec(order("o1"), json!({ "template": { "spec": change } }))
}

fn metadata(change: Value) -> Value {
    spec(order("o1"), json!({ "template": { "metadata": change } }))
}

fn unavailable(value: Value) -> Value {
    spec(
        order("o1"),
        json!({ "updateStrategy": { "maxUnavailable": value } }),
    )
}

fn condition() -> Value {
    json!({
        "type": "Ready", "status": "True", "reason": "AllReserved", "message": "",
        "lastTransitionTime": "2030-01-01T00:00:00Z",
    })
}
