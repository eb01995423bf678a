//! GET and LIST: pages, selectors, revisions and metadata only.

use serde_json::json;

use crate::{
    bodies::{
        LEASES, NODES, ORDERS, PODS, TICKETS, binding, guardian, labelled, lease, node, order, ticket, with,
    },
    step::{Call, Case, META, META_LIST, TABLE},
};

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new("missing_object_is_404")
            .get(404, &format!("{TICKETS}/t1"))
            .get(404, &format!("{PODS}/p1"))
            .get(404, &format!("{LEASES}/l1"))
            .get(404, &format!("{NODES}/n-${{id}}"))
            .get(404, &format!("{TICKETS}/t1/status"))
            .get(404, "/api/v1/namespaces/nowhere/pods/p1"),
        Case::new("empty_list")
            .get(200, TICKETS)
            .get(200, PODS)
            .get(200, &TICKETS.replace("${ns}", "nowhere")),
        three_tickets("list_is_in_order_of_names").get(200, TICKETS),
        three_tickets("list_comes_in_pages")
            .get(200, &format!("{TICKETS}?limit=2"))
            .get(200, &format!("{TICKETS}?limit=2&continue=${{continue}}"))
            .get(200, &format!("{TICKETS}?limit=3"))
            .get(200, &format!("{TICKETS}?limit=5"))
            .get(200, &format!("{TICKETS}?limit=1&labelSelector=app"))
            .get(
                200,
                &format!("{TICKETS}?limit=1&labelSelector=app&continue=${{continue}}"),
            ),
        three_tickets("later_pages_are_of_the_first_ones_revision")
            .get(200, &format!("{TICKETS}?limit=1"))
            .delete(200, &format!("{TICKETS}/t2"), json!(null))
            .post(201, TICKETS, ticket("t4"))
            .get(200, &format!("{TICKETS}?limit=1&continue=${{continue}}"))
            .get(200, &format!("{TICKETS}?limit=9&continue=${{continue}}")),
        three_tickets("continue_token_must_be_one")
            .get(400, &format!("{TICKETS}?limit=1&continue=nonsense"))
            .get(200, &format!("{TICKETS}?limit=1"))
            .get(
                400,
                &format!("{TICKETS}?limit=1&resourceVersion=${{rv tickets/t1}}&continue=${{continue}}"),
            ),
        three_tickets("label_selectors")
            .get(200, &format!("{TICKETS}?labelSelector=app%3Da"))
            .get(200, &format!("{TICKETS}?labelSelector=app%3D%3Da"))
            .get(200, &format!("{TICKETS}?labelSelector=app%21%3Da"))
            .get(200, &format!("{TICKETS}?labelSelector=app"))
            .get(200, &format!("{TICKETS}?labelSelector=%21app"))
            .get(200, &format!("{TICKETS}?labelSelector=app%20in%20(a,b)"))
            .get(200, &format!("{TICKETS}?labelSelector=app%20notin%20(a)"))
            .get(200, &format!("{TICKETS}?labelSelector=app,tier%3Dx"))
            .get(
                200,
                &format!("{TICKETS}?labelSelector=tier%20in%20(x),app%20in%20(a)"),
            )
            .get(200, &format!("{TICKETS}?labelSelector=shard%3E5"))
            .get(200, &format!("{TICKETS}?labelSelector=shard%3C5")),
        three_tickets("label_selector_must_be_one")
            .get(400, &format!("{TICKETS}?labelSelector=app%20in%20a"))
            .get(400, &format!("{TICKETS}?labelSelector=%3D%3Da"))
            .get(400, &format!("{TICKETS}?labelSelector=app%3Da%20b"))
            .get(400, &format!("{PODS}?labelSelector=app%20in")),
        three_tickets("field_selectors_of_tickets")
            .merge(
                200,
                &format!("{TICKETS}/t2/status"),
                json!({ "status": { "phase": "Reserved" } }),
            )
            .get(200, &format!("{TICKETS}?fieldSelector=metadata.name%3Dt2"))
            .get(
                200,
                &format!("{TICKETS}?fieldSelector=metadata.namespace%3D${{ns}}"),
            )
            .get(200, &format!("{TICKETS}?fieldSelector=status.phase%3DPending"))
            .get(200, &format!("{TICKETS}?fieldSelector=status.phase%21%3DPending"))
            .get(200, &format!("{TICKETS}?fieldSelector=spec.nodeName%3Dn2"))
            .get(
                200,
                &format!("{TICKETS}?fieldSelector=spec.nodeName%3Dn1,status.phase%3DReserved"),
            ),
        three_tickets("field_selector_must_be_supported")
            .get(400, &format!("{TICKETS}?fieldSelector=spec.nodeUID%3Du1"))
            .get(400, &format!("{ORDERS}?fieldSelector=status.phase%3Da"))
            .get(400, &format!("{PODS}?fieldSelector=spec.nothing%3Da"))
            .get(400, &format!("{NODES}?fieldSelector=spec.nodeName%3Da"))
            .get(400, &format!("{LEASES}?fieldSelector=spec.holderIdentity%3Da"))
            .get(400, &format!("{TICKETS}?fieldSelector=metadata.name")),
        Case::new("field_selectors_of_pods")
            .post(201, PODS, guardian("p1"))
            .post(201, PODS, guardian("p2"))
            .post(201, &format!("{PODS}/p2/binding"), binding("p2", "n1"))
            .get(200, &format!("{PODS}?fieldSelector=spec.nodeName%3D"))
            .get(200, &format!("{PODS}?fieldSelector=spec.nodeName%3Dn1"))
            .get(200, &format!("{PODS}?fieldSelector=spec.nodeName%21%3D"))
            .get(200, &format!("{PODS}?fieldSelector=status.phase%3DPending"))
            .get(200, &format!("{PODS}?fieldSelector=metadata.name%3Dp1")),
        Case::new("pages_of_what_one_name_or_node_selects")
            .post(201, PODS, guardian("p1"))
            .post(201, PODS, guardian("p2"))
            .post(201, PODS, guardian("p3"))
            .post(201, PODS, guardian("p4"))
            .post(201, &format!("{PODS}/p2/binding"), binding("p2", "n1"))
            .post(201, &format!("{PODS}/p4/binding"), binding("p4", "n1"))
            .get(200, &format!("{PODS}?limit=1&fieldSelector=metadata.name%3Dp1"))
            .get(
                200,
                &format!("{PODS}?limit=1&fieldSelector=metadata.name%21%3Dp1"),
            )
            .get(200, &format!("{PODS}?limit=2&fieldSelector=spec.nodeName%3D"))
            .get(200, &format!("{PODS}?limit=1&fieldSelector=spec.nodeName%3Dn1"))
            .get(
                200,
                &format!("{PODS}?limit=1&fieldSelector=spec.nodeName%3Dn1&continue=${{continue}}"),
            )
            .get(
                200,
                &format!("{PODS}?limit=1&fieldSelector=status.phase%3DPending"),
            ),
        Case::new("list_over_all_namespaces")
            .post(201, TICKETS, labelled(ticket("t1"), json!({ "run": "${id}" })))
            .post(201, PODS, labelled(guardian("p1"), json!({ "run": "${id}" })))
            .get(
                200,
                "/apis/core.korder.dev/v1alpha1/tickets?labelSelector=run%3D${id}",
            )
            .get(200, "/api/v1/pods?labelSelector=run%3D${id}"),
        three_tickets("list_of_revision_zero_is_any_state")
            .get(200, TICKETS)
            .get(200, &format!("{TICKETS}?resourceVersion=0"))
            .get(200, &format!("{TICKETS}?resourceVersion=0&limit=1"))
            .get(
                200,
                &format!("{TICKETS}?resourceVersion=0&resourceVersionMatch=NotOlderThan"),
            )
            .get(200, &format!("{TICKETS}/t1?resourceVersion=0")),
        three_tickets("list_not_older_than_a_revision")
            .get(200, &format!("{TICKETS}?resourceVersion=${{rv tickets/t3}}"))
            .get(
                200,
                &format!("{TICKETS}?resourceVersion=${{rv tickets/t3}}&resourceVersionMatch=NotOlderThan"),
            )
            .get(200, &format!("{TICKETS}/t3?resourceVersion=${{rv tickets/t3}}")),
        three_tickets("list_of_exactly_a_revision")
            .delete(200, &format!("{TICKETS}/t1"), json!(null))
            .get(
                200,
                &format!("{TICKETS}?resourceVersion=${{rv tickets/t2}}&resourceVersionMatch=Exact"),
            )
            .get(
                200,
                &format!("{TICKETS}?resourceVersion=${{rv tickets/t3}}&resourceVersionMatch=Exact&limit=2"),
            ),
        three_tickets("revision_must_be_one")
            .get(400, &format!("{TICKETS}?resourceVersion=abc"))
            .get(422, &format!("{TICKETS}?resourceVersionMatch=Exact"))
            .get(
                422,
                &format!("{TICKETS}?resourceVersion=0&resourceVersionMatch=Exact"),
            )
            .get(
                422,
                &format!("{TICKETS}?resourceVersion=1&resourceVersionMatch=Sometimes"),
            ),
        three_tickets("revision_of_the_future_times_out")
            .get(504, &format!("{TICKETS}?resourceVersion=999999999")),
        three_tickets("metadata_alone")
            .ask(200, Call::get(format!("{TICKETS}/t1")).accept(META))
            .ask(200, Call::get(TICKETS).accept(META_LIST))
            .ask(200, Call::get(format!("{TICKETS}?limit=1")).accept(META_LIST))
            .ask(404, Call::get(format!("{TICKETS}/t9")).accept(META))
            .post(201, PODS, guardian("p1"))
            .ask(200, Call::get(format!("{PODS}/p1")).accept(META))
            .ask(200, Call::get(PODS).accept(META_LIST))
            .post(201, NODES, node("n-${id}"))
            .ask(200, Call::get(format!("{NODES}/n-${{id}}")).accept(META)),
        three_tickets("metadata_alone_of_a_write").ask(
            200,
            Call::merge(
                format!("{TICKETS}/t1"),
                json!({ "metadata": { "labels": { "a": "b" } } }),
            )
            .accept(META),
        ),
        Case::new("columns_for_kubectl")
            .post(
                201,
                TICKETS,
                with(
                    ticket("t1"),
                    json!({ "metadata": { "labels": { "korder.dev/order": "o1" } } }),
                ),
            )
            .post(201, ORDERS, order("o1"))
            .merge(
                200,
                &format!("{ORDERS}/o1/status"),
                json!({ "status": { "replicas": 3 } }),
            )
            .ask(200, Call::get(TICKETS).accept(TABLE))
            .ask(200, Call::get(ORDERS).accept(TABLE))
            .ask(200, Call::get(format!("{TICKETS}/t1")).accept(TABLE))
            .post(201, LEASES, lease("l1"))
            .ask(200, Call::get(LEASES).accept(TABLE)),
    ]
}

/// Three Tickets with labels and two nodes among them.
fn three_tickets(name: &str) -> Case {
    let on = |name: &str, node: &str| with(ticket(name), json!({ "spec": { "nodeName": node } }));
    Case::new(name)
        .post(
            201,
            TICKETS,
            labelled(on("t2", "n1"), json!({ "app": "b", "shard": "7" })),
        )
        .post(
            201,
            TICKETS,
            labelled(on("t1", "n1"), json!({ "app": "a", "tier": "x", "shard": "3" })),
        )
        .post(201, TICKETS, on("t3", "n2"))
}
