//! POST: names, namespaces, labels and what makes a body unusable.

use http::Method;
use serde_json::json;

use crate::{
    bodies::{NAMESPACES, ORDERS, PODS, TICKETS, guardian, labelled, order, ticket, with},
    step::{Body, Call, Case},
};

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new("object_is_returned_with_what_the_server_sets")
            .post(201, TICKETS, ticket("t1"))
            .get(200, &format!("{TICKETS}/t1")),
        Case::new("second_of_one_name_is_refused")
            .post(201, TICKETS, ticket("t1"))
            .post(409, TICKETS, ticket("t1"))
            .post(201, ORDERS, order("t1")),
        Case::new("name_is_free_again_after_delete")
            .post(201, TICKETS, ticket("t1"))
            .delete(200, &format!("{TICKETS}/t1"), json!(null))
            .post(201, TICKETS, ticket("t1"))
            .get(200, &format!("{TICKETS}/t1")),
        Case::new("generated_name_begins_with_its_prefix")
            .post(201, TICKETS, generated("a-"))
            .post(201, TICKETS, generated("a-"))
            .get(
                200,
                &format!("{TICKETS}?limit=1&fieldSelector=metadata.name%3Da-"),
            ),
        Case::new("name_is_required").post(422, TICKETS, {
            let mut nameless = ticket("t1");
            nameless["metadata"] = json!({});
            nameless
        }),
        Case::new("name_must_be_a_dns_name")
            .post(422, TICKETS, ticket("Upper"))
            .post(422, TICKETS, ticket("under_score"))
            .post(422, TICKETS, ticket(&"n".repeat(254)))
            .post(201, TICKETS, ticket(&"n".repeat(253))),
        Case::new("order_name_longer_than_a_label_is_refused")
            .post(422, ORDERS, order(&"n".repeat(64)))
            .post(201, ORDERS, order(&"n".repeat(63))),
        Case::new("namespace_must_exist")
            .post(404, &TICKETS.replace("${ns}", "nowhere"), ticket("t1"))
            .post(404, &PODS.replace("${ns}", "nowhere"), guardian("p1")),
        Case::new("namespace_of_the_body_must_be_that_of_the_path").post(
            400,
            TICKETS,
            with(ticket("t1"), json!({ "metadata": { "namespace": "other" } })),
        ),
        Case::new("namespace_being_deleted_takes_nothing_new")
            .post(201, TICKETS, ticket("t1"))
            .delete(200, &format!("{NAMESPACES}/${{ns}}"), json!(null))
            .get(200, &format!("{NAMESPACES}/${{ns}}"))
            .post(403, TICKETS, ticket("t2"))
            .post(403, PODS, guardian("p1"))
            .merge(
                200,
                &format!("{TICKETS}/t1"),
                json!({ "metadata": { "labels": { "a": "b" } } }),
            )
            .delete(200, &format!("{TICKETS}/t1"), json!(null)),
        Case::new("kind_must_be_the_resources")
            .post(422, TICKETS, order("t1"))
            .post(
                400,
                TICKETS,
                with(ticket("t1"), json!({ "apiVersion": "core.korder.dev/v1" })),
            ),
        Case::new("label_must_be_valid")
            .post(422, TICKETS, labelled(ticket("t1"), json!({ "a": "not valid" })))
            .post(
                422,
                TICKETS,
                labelled(ticket("t1"), json!({ "a": "v".repeat(64) })),
            )
            .post(422, TICKETS, labelled(ticket("t1"), json!({ "a/b/c": "v" })))
            .post(201, TICKETS, labelled(ticket("t1"), json!({ "a.b/c": "" }))),
        Case::new("resource_version_must_not_be_set_on_create").post(
            500,
            TICKETS,
            with(ticket("t1"), json!({ "metadata": { "resourceVersion": "5" } })),
        ),
        Case::new("server_sets_its_fields_whatever_the_body_says").post(
            201,
            TICKETS,
            with(
                ticket("t1"),
                json!({ "metadata": {
                    "uid": "8c1b5d1e-0000-4000-8000-000000000009",
                    "creationTimestamp": "2001-01-01T00:00:00Z",
                    "generation": 9,
                    "deletionTimestamp": "2001-01-01T00:00:00Z",
                    "deletionGracePeriodSeconds": 9,
                }}),
            ),
        ),
        Case::new("body_must_be_json")
            .ask(400, raw(TICKETS, "{"))
            .ask(400, raw(TICKETS, ""))
            .ask(400, raw(TICKETS, "[]"))
            .ask(400, raw(PODS, "{")),
        Case::new("media_type_must_be_known")
            .ask(415, Call::post(TICKETS, ticket("t1")).content_type("text/plain"))
            .ask(415, Call::post(PODS, ticket("t1")).content_type("text/plain")),
        Case::new("resource_must_be_known")
            .post(
                404,
                "/apis/core.korder.dev/v1alpha1/namespaces/${ns}/things",
                ticket("t1"),
            )
            .get(404, "/apis/core.korder.dev/v9/namespaces/${ns}/tickets")
            .get(404, "/apis/nobody.example/v1/namespaces/${ns}/tickets")
            .get(404, "/api/v1/namespaces/${ns}/things"),
        Case::new("method_must_be_known")
            .ask(405, Call::new(Method::PUT, PODS, Body::Json(guardian("p1"))))
            .ask(405, Call::post(format!("{PODS}/p1"), guardian("p1")))
            .ask(405, Call::new(Method::PATCH, PODS, Body::Json(json!({})))),
        Case::new("owner_references_are_kept_and_checked")
            .post(201, TICKETS, owned(json!({})))
            .post(422, TICKETS, owned(json!({ "uid": "" })))
            .post(422, TICKETS, owned(json!({ "name": "" })))
            .post(422, TICKETS, owned(json!({ "kind": "" }))),
        Case::new("finalizer_need_not_be_qualified").post(
            201,
            TICKETS,
            with(ticket("t1"), json!({ "metadata": { "finalizers": ["hold"] } })),
        ),
    ]
}

fn generated(prefix: &str) -> serde_json::Value {
    let mut ticket = ticket("unused");
    ticket["metadata"] = json!({ "generateName": prefix });
    ticket
}

fn raw(path: &str, text: &str) -> Call {
    Call::new(Method::POST, path, Body::Text(text.to_owned()))
}

fn owned(change: serde_json::Value) -> serde_json::Value {
    let reference = json!({
        "apiVersion": "core.korder.dev/v1alpha1",
        "kind": "Order",
        "name": "o1",
        "uid": "8c1b5d1e-0000-4000-8000-000000000001",
        "controller": true,
    });
    let mut owned = ticket("t1");
    owned["metadata"]["ownerReferences"] = json!([with(reference, change)]);
    owned
}
