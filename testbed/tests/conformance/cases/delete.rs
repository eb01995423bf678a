//! DELETE: preconditions, finalizers, grace and collections.

use serde_json::json;

use crate::{
    bodies::{
        NAMESPACES, NODES, ORDERS, PODS, TICKETS, binding, claimant, guardian, held, labelled, node, order,
        ticket,
    },
    step::{Case, only_if},
};

pub(super) fn cases() -> Vec<Case> {
    let (t1, p1) = (format!("{TICKETS}/t1"), format!("{PODS}/p1"));
    let other = "8c1b5d1e-0000-4000-8000-000000000001";
    vec![
        Case::new("object_goes_at_once")
            .post(201, TICKETS, ticket("t1"))
            .delete(200, &t1, json!(null))
            .get(404, &t1)
            .delete(404, &t1, json!(null)),
        Case::new("uid_precondition")
            .post(201, TICKETS, ticket("t1"))
            .delete(409, &t1, only_if(json!(other), json!(null)))
            .get(200, &t1)
            .delete(200, &t1, only_if(json!("${uid tickets/t1}"), json!(null)))
            .delete(404, &t1, only_if(json!("${uid tickets/t1}"), json!(null))),
        Case::new("uid_precondition_guards_a_successor")
            .post(201, TICKETS, ticket("t1"))
            .delete(200, &t1, json!(null))
            .post(201, TICKETS, ticket("t1"))
            .delete(409, &t1, only_if(json!("${uid0 tickets/t1}"), json!(null)))
            .get(200, &t1),
        Case::new("resource_version_precondition")
            .post(201, TICKETS, ticket("t1"))
            .merge(200, &t1, json!({ "metadata": { "labels": { "a": "1" } } }))
            .delete(409, &t1, only_if(json!(null), json!("${rv0 tickets/t1}")))
            .delete(
                409,
                &t1,
                only_if(json!("${uid tickets/t1}"), json!("${rv0 tickets/t1}")),
            )
            .delete(
                200,
                &t1,
                only_if(json!("${uid tickets/t1}"), json!("${rv tickets/t1}")),
            ),
        Case::new("finalizer_makes_deletion_two_steps")
            .post(201, TICKETS, held(ticket("t1")))
            .delete(200, &t1, json!(null))
            .get(200, &t1)
            .delete(200, &t1, json!(null))
            .post(409, TICKETS, ticket("t1"))
            .merge(200, &t1, json!({ "metadata": { "finalizers": null } }))
            .get(404, &t1),
        Case::new("object_being_deleted_takes_no_new_finalizer")
            .post(201, TICKETS, held(ticket("t1")))
            .delete(200, &t1, json!(null))
            .merge(
                422,
                &t1,
                json!({ "metadata": { "finalizers": ["test.korder.dev/hold", "a.example/b"] } }),
            )
            .merge(200, &t1, json!({ "metadata": { "labels": { "a": "1" } } }))
            .merge(200, &t1, json!({ "metadata": { "deletionTimestamp": null } }))
            .merge(
                200,
                &format!("{TICKETS}/t1/status"),
                json!({ "status": { "phase": "Reserved" } }),
            ),
        Case::new("finalizer_removed_by_put_ends_the_object")
            .post(201, TICKETS, held(ticket("t1")))
            .delete(200, &t1, json!(null))
            .put(
                200,
                &t1,
                "tickets/t1",
                json!({ "metadata": { "finalizers": null } }),
            )
            .get(404, &t1),
        Case::new("propagation_policies")
            .post(201, ORDERS, order("o1"))
            .delete(
                200,
                &format!("{ORDERS}/o1"),
                json!({ "propagationPolicy": "Background" }),
            )
            .post(201, ORDERS, order("o1"))
            .delete(
                422,
                &format!("{ORDERS}/o1"),
                json!({ "propagationPolicy": "Never" }),
            ),
        Case::new("unbound_pod_goes_at_once_whatever_its_grace")
            .post(201, PODS, claimant("p1"))
            .delete(200, &p1, json!(null))
            .get(404, &p1)
            .post(201, PODS, claimant("p1"))
            .delete(200, &p1, json!({ "gracePeriodSeconds": 30 }))
            .get(404, &p1),
        Case::new("bound_pod_has_its_grace")
            .post(201, PODS, claimant("p1"))
            .merge(200, &p1, json!({ "spec": { "schedulingGates": null } }))
            .post(201, &format!("{p1}/binding"), binding("p1", "n1"))
            .delete(200, &p1, json!(null))
            .get(200, &p1)
            .delete(200, &p1, json!(null))
            .delete(200, &p1, json!({ "gracePeriodSeconds": 60 }))
            .delete(200, &p1, json!({ "gracePeriodSeconds": 5 }))
            .merge(200, &p1, json!({ "metadata": { "labels": { "a": "1" } } }))
            .delete(200, &p1, json!({ "gracePeriodSeconds": 0 }))
            .get(404, &p1),
        Case::new("bound_guardian_goes_at_once")
            .post(201, PODS, guardian("p1"))
            .post(201, &format!("{p1}/binding"), binding("p1", "n1"))
            .delete(
                409,
                &p1,
                json!({ "gracePeriodSeconds": 0, "preconditions": { "uid": other } }),
            )
            .delete(
                200,
                &p1,
                json!({ "gracePeriodSeconds": 0, "preconditions": { "uid": "${uid pods/p1}" } }),
            )
            .get(404, &p1),
        Case::new("bound_guardian_without_a_grace_in_the_request")
            .post(201, PODS, guardian("p1"))
            .post(201, &format!("{p1}/binding"), binding("p1", "n1"))
            .delete(200, &p1, json!(null))
            .get(404, &p1),
        Case::new("ended_pod_goes_at_once")
            .post(201, PODS, claimant("p1"))
            .merge(200, &p1, json!({ "spec": { "schedulingGates": null } }))
            .post(201, &format!("{p1}/binding"), binding("p1", "n1"))
            .merge(
                200,
                &format!("{p1}/status"),
                json!({ "status": { "phase": "Succeeded" } }),
            )
            .delete(200, &p1, json!(null))
            .get(404, &p1),
        Case::new("held_pod_with_grace_zero")
            .post(201, PODS, held(guardian("p1")))
            .post(201, &format!("{p1}/binding"), binding("p1", "n1"))
            .delete(200, &p1, json!({ "gracePeriodSeconds": 0 }))
            .get(200, &p1)
            .merge(200, &p1, json!({ "metadata": { "finalizers": null } }))
            .get(404, &p1),
        Case::new("grace_must_not_be_negative")
            .post(201, PODS, guardian("p1"))
            .delete(200, &p1, json!({ "gracePeriodSeconds": -1 })),
        Case::new("collection_by_selector")
            .post(201, TICKETS, labelled(ticket("t1"), json!({ "app": "a" })))
            .post(201, TICKETS, held(labelled(ticket("t2"), json!({ "app": "a" }))))
            .post(201, TICKETS, labelled(ticket("t3"), json!({ "app": "b" })))
            .delete(200, &format!("{TICKETS}?labelSelector=app%3Da"), json!({}))
            .get(200, TICKETS)
            .delete(200, &format!("{TICKETS}?labelSelector=app%3Da"), json!({}))
            .delete(200, &format!("{TICKETS}?labelSelector=app%3Dz"), json!({})),
        Case::new("collection_in_pages")
            .post(201, TICKETS, labelled(ticket("t1"), json!({ "app": "a" })))
            .post(201, TICKETS, labelled(ticket("t2"), json!({ "app": "a" })))
            .post(201, TICKETS, labelled(ticket("t3"), json!({ "app": "a" })))
            .delete(
                200,
                &format!("{TICKETS}?labelSelector=app%3Da&limit=2"),
                json!({}),
            )
            .delete(
                200,
                &format!("{TICKETS}?labelSelector=app%3Da&limit=2"),
                json!({}),
            )
            .delete(
                200,
                &format!("{TICKETS}?labelSelector=app%3Da&limit=2"),
                json!({}),
            ),
        Case::new("collection_of_pods_with_grace_zero")
            .post(201, PODS, guardian("p1"))
            .post(201, PODS, guardian("p2"))
            .post(201, PODS, claimant("p3"))
            .post(201, &format!("{PODS}/p2/binding"), binding("p2", "n1"))
            .delete(
                200,
                &format!("{PODS}?labelSelector=korder.dev/shard%20in%20(6,7)&limit=500"),
                json!({ "gracePeriodSeconds": 0 }),
            )
            .get(200, PODS),
        Case::new("node_goes_at_once_and_its_pods_stay")
            .post(201, NODES, node("n-${id}"))
            .post(201, PODS, guardian("p1"))
            .post(201, &format!("{p1}/binding"), binding("p1", "n-${id}"))
            .delete(200, &format!("{NODES}/n-${{id}}"), json!(null))
            .get(404, &format!("{NODES}/n-${{id}}"))
            .get(200, &p1),
        Case::new("namespace_waits_for_its_finalizer")
            .delete(200, &format!("{NAMESPACES}/${{ns}}"), json!(null))
            .get(200, &format!("{NAMESPACES}/${{ns}}"))
            .delete(200, &format!("{NAMESPACES}/${{ns}}"), json!(null)),
    ]
}
