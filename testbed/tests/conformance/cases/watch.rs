//! Watches: where they begin, what selectors make of a change, deletes, bookmarks and errors.

use serde_json::{Value, json};

use crate::{
    bodies::{
        LEASES, NODES, PODS, TICKETS, binding, claimant, guardian, held, labelled, lease, node, ticket, with,
    },
    step::{Case, META},
};

const STREAM: &str =
    "watch=true&allowWatchBookmarks=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan";

pub(super) fn cases() -> Vec<Case> {
    let t1 = format!("{TICKETS}/t1");
    let status = format!("{TICKETS}/t1/status");
    let from_list = format!("{TICKETS}?watch=true&resourceVersion=${{list tickets}}");
    let label = |value: Value| json!({ "metadata": { "labels": { "app": value } } });
    vec![
        Case::new("changes_after_a_list")
            .post(201, TICKETS, ticket("t0"))
            .get(200, TICKETS)
            .watch("w", &format!("{from_list}&allowWatchBookmarks=true&timeoutSeconds=290"))
            .post(201, TICKETS, ticket("t1"))
            .merge(200, &t1, json!({ "spec": { "duration": "1h" } }))
            .merge(200, &t1, json!({ "spec": { "duration": "1h" } }))
            .merge(200, &status, json!({ "status": { "phase": "Reserved" } }))
            .delete(200, &t1, json!(null))
            .post(201, TICKETS, ticket("t1"))
            .post(201, TICKETS, ticket("end"))
            .collect("w", "end"),
        Case::new("from_an_old_revision_everything_since_comes")
            .post(201, TICKETS, ticket("t1"))
            .merge(200, &t1, label(json!("a")))
            .delete(200, &t1, json!(null))
            .post(201, TICKETS, ticket("end"))
            .watch("w", &format!("{TICKETS}?watch=1&resourceVersion=${{rv0 tickets/t1}}"))
            .collect("w", "end"),
        Case::new("from_revision_zero_what_is_there_comes_first")
            .post(201, TICKETS, ticket("t1"))
            .post(201, TICKETS, ticket("t2"))
            .get(200, TICKETS)
            .watch("zero", &format!("{TICKETS}?watch=true&resourceVersion=0"))
            .watch("unset", &format!("{TICKETS}?watch=true"))
            .delete(200, &t1, json!(null))
            .post(201, TICKETS, ticket("end"))
            .collect("zero", "end")
            .collect("unset", "end"),
        Case::new("initial_events_end_with_a_bookmark")
            .post(201, TICKETS, labelled(ticket("t1"), json!({ "app": "a" })))
            .post(201, TICKETS, ticket("t2"))
            .get(200, TICKETS)
            .watch("all", &format!("{TICKETS}?{STREAM}"))
            .watch("some", &format!("{TICKETS}?{STREAM}&labelSelector=app%3Da"))
            .watch("zero", &format!("{TICKETS}?{STREAM}&resourceVersion=0"))
            .merge(200, &t1, label(json!("b")))
            .post(201, TICKETS, labelled(ticket("end"), json!({ "app": "a" })))
            .collect("all", "end")
            .collect("some", "end")
            .collect("zero", "end"),
        Case::new("initial_events_of_built_in_kinds")
            .post(201, PODS, guardian("p1"))
            .post(201, LEASES, lease("l1"))
            .get(200, PODS)
            .get(200, LEASES)
            .get(200, &format!("{NODES}?labelSelector=run%3D${{id}}"))
            .watch("pods", &format!("{PODS}?{STREAM}"))
            .watch("leases", &format!("{LEASES}?{STREAM}"))
            .watch("nodes", &format!("{NODES}?{STREAM}&labelSelector=run%3D${{id}}"))
            .post(201, PODS, guardian("end"))
            .post(201, LEASES, lease("end"))
            .post(201, NODES, node("end-${id}"))
            .collect("leases", "end")
            .collect("nodes", "end-${id}")
            .collect("pods", "end"),
        Case::new("initial_events_need_their_options")
            .get(422, &format!("{TICKETS}?watch=true&sendInitialEvents=true"))
            .get(422, &format!("{TICKETS}?watch=true&sendInitialEvents=true&resourceVersionMatch=Exact"))
            .get(422, &format!("{TICKETS}?sendInitialEvents=true&resourceVersionMatch=NotOlderThan")),
        Case::new("object_enters_and_leaves_a_label_selector")
            .post(201, TICKETS, ticket("t1"))
            .get(200, TICKETS)
            .watch("a", &format!("{from_list}&labelSelector=app%3Da"))
            .watch("none", &format!("{from_list}&labelSelector=%21app"))
            .watch("in", &format!("{from_list}&labelSelector=app%20in%20(a,b)"))
            .merge(200, &t1, label(json!("a")))
            .merge(200, &t1, json!({ "spec": { "duration": "1h" } }))
            .merge(200, &t1, label(json!("b")))
            .merge(200, &t1, label(json!("c")))
            .merge(200, &t1, label(json!("a")))
            .delete(200, &t1, json!(null))
            .post(201, TICKETS, labelled(ticket("end"), json!({ "app": "a" })))
            .post(201, TICKETS, ticket("stop"))
            .collect("a", "end")
            .collect("in", "end")
            .collect("none", "stop"),
        Case::new("object_enters_and_leaves_a_field_selector")
            .post(201, TICKETS, ticket("t1"))
            .get(200, TICKETS)
            .watch("reserved", &format!("{from_list}&fieldSelector=status.phase%3DReserved"))
            .watch("named", &format!("{from_list}&fieldSelector=metadata.name%3Dt1"))
            .watch("node", &format!("{from_list}&fieldSelector=spec.nodeName%3Dn2"))
            .merge(200, &status, json!({ "status": { "phase": "Reserved" } }))
            .merge(200, &status, json!({ "status": { "reason": "A" } }))
            .merge(200, &status, json!({ "status": { "phase": "Claimed" } }))
            .post(201, TICKETS, with(ticket("end"), json!({ "spec": { "nodeName": "n2" } })))
            .merge(200, &format!("{TICKETS}/end/status"), json!({ "status": { "phase": "Reserved" } }))
            .delete(200, &t1, json!(null))
            .post(201, TICKETS, with(ticket("t1"), json!({ "metadata": { "annotations": { "end": "here" } } })))
            .collect("reserved", "end")
            .collect("named", "here")
            .collect("node", "end"),
        Case::new("unbound_pods")
            .get(200, PODS)
            .watch(
                "unbound",
                &format!("{PODS}?watch=true&resourceVersion=${{list pods}}&fieldSelector=spec.nodeName%3D"),
            )
            .watch("all", &format!("{PODS}?watch=true&resourceVersion=${{list pods}}"))
            .post(201, PODS, claimant("p1"))
            .merge(200, &format!("{PODS}/p1/status"), json!({ "status": { "nominatedNodeName": "n1" } }))
            .merge(200, &format!("{PODS}/p1"), json!({ "spec": { "schedulingGates": null } }))
            .post(201, &format!("{PODS}/p1/binding"), binding("p1", "n1"))
            .merge(200, &format!("{PODS}/p1/status"), json!({ "status": { "phase": "Running" } }))
            .delete(200, &format!("{PODS}/p1"), json!(null))
            .delete(200, &format!("{PODS}/p1"), json!({ "gracePeriodSeconds": 0 }))
            .post(201, PODS, guardian("end"))
            .collect("unbound", "end")
            .collect("all", "end"),
        Case::new("guardian_is_deleted_with_one_event")
            .get(200, PODS)
            .watch("w", &format!("{PODS}?watch=true&resourceVersion=${{list pods}}"))
            .post(201, PODS, guardian("p1"))
            .post(201, &format!("{PODS}/p1/binding"), binding("p1", "n1"))
            .delete(200, &format!("{PODS}/p1"), json!({ "gracePeriodSeconds": 0 }))
            .post(201, PODS, guardian("end"))
            .collect("w", "end"),
        Case::new("finalizer_makes_two_events_of_a_delete")
            .get(200, TICKETS)
            .watch("w", &from_list)
            .post(201, TICKETS, held(ticket("t1")))
            .delete(200, &t1, json!(null))
            .merge(200, &t1, json!({ "metadata": { "finalizers": null } }))
            .post(201, TICKETS, ticket("end"))
            .collect("w", "end"),
        Case::new("collection_is_deleted_one_by_one")
            .post(201, TICKETS, ticket("t1"))
            .post(201, TICKETS, ticket("t2"))
            .get(200, TICKETS)
            .watch("w", &from_list)
            .delete(200, TICKETS, json!({}))
            .post(201, TICKETS, ticket("end"))
            .collect("w", "end"),
        Case::new("metadata_alone")
            .get(200, TICKETS)
            .watch_as("w", META, &from_list)
            .watch_as("initial", META, &format!("{TICKETS}?{STREAM}"))
            .post(201, TICKETS, labelled(ticket("t1"), json!({ "app": "a" })))
            .merge(200, &status, json!({ "status": { "phase": "Reserved" } }))
            .delete(200, &t1, json!(null))
            .post(201, TICKETS, ticket("end"))
            .collect("w", "end")
            .collect("initial", "end"),
        Case::new("nodes")
            .post(201, NODES, node("n-${id}"))
            .get(200, &format!("{NODES}?labelSelector=run%3D${{id}}"))
            .watch(
                "w",
                &format!("{NODES}?watch=true&resourceVersion=${{list nodes}}&labelSelector=run%3D${{id}}"),
            )
            .merge(200, &format!("{NODES}/n-${{id}}"), json!({ "spec": { "unschedulable": true } }))
            .merge(200, &format!("{NODES}/n-${{id}}/status"), json!({ "status": { "phase": "Running" } }))
            .delete(200, &format!("{NODES}/n-${{id}}"), json!(null))
            .post(201, NODES, node("end-${id}"))
            .collect("w", "end-${id}"),
        Case::new("over_all_namespaces")
            .get(200, "/apis/core.korder.dev/v1alpha1/tickets?labelSelector=run%3D${id}")
            .watch(
                "w",
                "/apis/core.korder.dev/v1alpha1/tickets?watch=true&resourceVersion=${list tickets}&labelSelector=run%3D${id}",
            )
            .post(201, TICKETS, labelled(ticket("t1"), json!({ "run": "${id}" })))
            .post(201, TICKETS, labelled(ticket("end"), json!({ "run": "${id}" })))
            .collect("w", "end"),
        Case::new("history_that_is_forgotten_is_410")
            .post(201, TICKETS, ticket("t1"))
            .post(201, TICKETS, ticket("t2"))
            .get(200, &format!("{TICKETS}?limit=1"))
            .delete(200, &t1, json!(null))
            .post(201, TICKETS, ticket("t3"))
            .forget()
            .watch("old", &format!("{TICKETS}?watch=true&resourceVersion=${{rv tickets/t1}}"))
            .get(410, &format!("{TICKETS}?limit=1&continue=${{continue}}"))
            .get(
                410,
                &format!("{TICKETS}?resourceVersion=${{rv tickets/t1}}&resourceVersionMatch=Exact"),
            )
            .get(200, &format!("{TICKETS}?limit=1&continue=${{continue}}"))
            .get(200, TICKETS)
            .watch("new", &from_list)
            .post(201, TICKETS, ticket("end"))
            .collect("old", "end")
            .collect("new", "end"),
        Case::new("query_must_be_valid")
            .get(500, &format!("{TICKETS}?watch=true&resourceVersion=abc"))
            .get(400, &format!("{TICKETS}?watch=true&fieldSelector=spec.nothing%3Da"))
            .get(400, &format!("{TICKETS}?watch=true&labelSelector=app%20in"))
            .get(404, "/apis/core.korder.dev/v1alpha1/namespaces/${ns}/things?watch=true"),
    ]
}
