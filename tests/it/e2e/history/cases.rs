//! That what is not to be is found in an audit log: in made-up ones, and in a real one.

use std::{collections::BTreeSet, sync::Arc};

use anyhow::Result;
use jiff::Timestamp;
use korder::api::Ticket;
use kube::{ResourceExt, api::PostParams};
use libtest_mimic::{Failed, Trial};
use serde_json::{Value, json};
use testbed::real::AuditEntry;

use super::History;
use crate::{
    e2e::{
        names,
        world::{Ground, same},
    },
    harness::{Harness, e2e, fast},
};

pub(crate) fn trials(harness: &Arc<Harness>) -> Vec<Trial> {
    vec![
        fast("history", "two_open_tickets_of_a_pair_are_found", two_open),
        fast(
            "history",
            "a_ticket_that_was_finished_before_is_not_open",
            finished,
        ),
        fast("history", "a_ticket_that_was_deleted_before_is_not_open", deleted),
        fast("history", "a_ticket_whose_create_was_not_answered_counts", unseen),
        fast(
            "history",
            "a_write_after_the_next_holder_of_the_shard_is_late",
            late,
        ),
        e2e(
            harness,
            "history",
            "a_second_ticket_is_found_in_the_audit_log",
            second,
        ),
    ]
}

/// Somebody makes a second Ticket for a pair: the log shows it, and korder leaves one.
async fn second(ground: &Ground<'_>) -> Result<()> {
    let mark = ground.audit().settled_mark().await?;
    let nodes = ground.nodes(1).await?;
    ground.ask("order", json!({})).await?;
    let pairs = ground.pairs("order", &nodes).await?;
    let first = &pairs[&ground.node(0)];
    History::read(ground, mark).await?.proves_one_ticket_each()?;
    let mut planted = first.ticket.clone();
    let order = planted.owner_references()[0].uid.clone();
    planted.spec.sequence = 1;
    planted.metadata.name = Some(names::ticket("order", &order, &planted.spec.node_uid, 1));
    planted.metadata.resource_version = None;
    planted.metadata.uid = None;
    planted.status = None;
    let planted = ground
        .api::<Ticket>()
        .create(&PostParams::default(), &planted)
        .await?;
    let after = ground.pairs("order", &nodes).await?;
    same("the number of pairs", &after.len(), &1)?;
    let history = History::read(ground, mark).await?;
    let twice: Vec<BTreeSet<&str>> = history.twice().into_iter().map(|(a, b)| [a, b].into()).collect();
    let (planted, first) = (planted.name_any(), first.ticket_name());
    same("two at once", &twice, &vec![[planted.as_str(), &first].into()])
}

/// A request that took a tenth of a second, with the answer that the API server would give.
pub(crate) fn request(verb: &str, at: i64, response: Value) -> AuditEntry {
    let received = Timestamp::from_millisecond(1000 * at).expect("a valid time");
    AuditEntry {
        user: String::new(),
        verb: verb.to_owned(),
        group: "core.korder.dev".to_owned(),
        resource: "tickets".to_owned(),
        subresource: String::new(),
        namespace: String::new(),
        name: String::new(),
        code: 200,
        received,
        completed: Timestamp::from_millisecond(1000 * at + 100).expect("a valid time"),
        user_agent: String::new(),
        uri: String::new(),
        forbidden: false,
        request: None,
        response: Some(response.to_string()),
    }
}

/// A Ticket of the one pair there is, whose uid is like its name.
fn ticket(name: &str, version: u32, phase: &str) -> Value {
    json!({
        "apiVersion": "core.korder.dev/v1alpha1",
        "kind": "Ticket",
        "metadata": {
            "name": name, "uid": name, "resourceVersion": version.to_string(), "labels": { "korder.dev/shard": "7" },
            "ownerReferences": [{ "apiVersion": "v1", "kind": "Order", "name": "o", "uid": "o" }],
        },
        "spec": { "nodeName": "n", "nodeUID": "n", "sequence": 0, "templateHash": "" },
        "status": { "phase": phase },
    })
}

fn gone(name: &str) -> Value {
    json!({ "kind": "Status", "details": { "name": name, "uid": name } })
}

fn twice(entries: &[AuditEntry]) -> Result<usize, Failed> {
    Ok(History::of(entries)
        .map_err(|error| format!("{error:#}"))?
        .twice()
        .len())
}

fn two_open() -> Result<(), Failed> {
    let one = request("create", 1, ticket("a", 1, "Pending"));
    let reserved = request("patch", 3, ticket("a", 3, "Reserved"));
    let other = request("create", 2, ticket("b", 2, "Pending"));
    assert_eq!(twice(&[one.clone(), reserved.clone()])?, 0);
    assert_eq!(twice(&[one.clone(), reserved.clone(), other.clone()])?, 1);
    // Whether it was closed before or later.
    let closed = request("patch", 4, ticket("b", 4, "Released"));
    assert_eq!(twice(&[closed, other, reserved, one])?, 1);
    Ok(())
}

fn finished() -> Result<(), Failed> {
    let one = request("create", 1, ticket("a", 1, "Pending"));
    let released = request("patch", 2, ticket("a", 2, "Released"));
    // The log's order is not that of the versions.
    let next = request("create", 2, ticket("b", 3, "Pending"));
    assert_eq!(twice(&[next.clone(), released.clone(), one.clone()])?, 0);
    let again = request("patch", 4, ticket("a", 4, "Reserved"));
    assert_eq!(twice(&[one, released, next, again])?, 1);
    Ok(())
}

fn deleted() -> Result<(), Failed> {
    let one = request("create", 1, ticket("a", 1, "Reserved"));
    let delete = request("delete", 2, gone("a"));
    let next = request("create", 3, ticket("b", 3, "Pending"));
    assert_eq!(twice(&[one.clone(), delete.clone(), next.clone()])?, 0);
    let list = json!({ "kind": "TicketList", "items": [ticket("a", 1, "Reserved")] });
    let all = request("deletecollection", 2, list);
    assert_eq!(twice(&[one.clone(), all, next.clone()])?, 0);
    // While the deletion is under way nobody can tell.
    let meanwhile = AuditEntry {
        received: delete.received,
        ..next.clone()
    };
    assert_eq!(twice(&[one.clone(), delete.clone(), meanwhile])?, 1);
    // Neither a deletion that failed nor one that was only tried ends it.
    let refused = AuditEntry {
        code: 409,
        ..delete.clone()
    };
    let tried = AuditEntry {
        uri: "/tickets/a?dryRun=All".to_owned(),
        ..delete
    };
    assert_eq!(twice(&[one, refused, tried, next])?, 1);
    Ok(())
}

fn unseen() -> Result<(), Failed> {
    let lost = AuditEntry {
        code: 504,
        request: Some(ticket("a", 0, "Pending").to_string()),
        response: Some(json!({ "kind": "Status" }).to_string()),
        ..request("create", 1, Value::Null)
    };
    let next = request("create", 2, ticket("b", 3, "Pending"));
    assert_eq!(twice(&[lost.clone(), next.clone()])?, 0);
    assert_eq!(twice(&[lost, next, request("delete", 4, gone("a"))])?, 1);
    Ok(())
}

fn late() -> Result<(), Failed> {
    let by = |entry: AuditEntry, name: &str, replica: &str| AuditEntry {
        name: name.to_owned(),
        user_agent: replica.to_owned(),
        ..entry
    };
    let lease = |at, replica| {
        let entry = by(request("update", at, Value::Null), "korder-shard-07", replica);
        AuditEntry {
            group: "coordination.k8s.io".to_owned(),
            resource: "leases".to_owned(),
            ..entry
        }
    };
    let create = request("create", 2, ticket("a", 2, "Pending"));
    let purge = |at, shards: &str, items: Value| {
        let list = request("deletecollection", at, json!({ "items": items }));
        let uri = format!("/tickets?limit=500&labelSelector=a%3Db%2Ckorder.dev%2Fshard+in+%28{shards}%29");
        by(AuditEntry { uri, ..list }, "", "one")
    };
    let same = || by(request("patch", 6, ticket("a", 2, "Pending")), "a", "one");
    let entries = [
        lease(1, "one"),
        by(create.clone(), "a", "one"),
        lease(3, "other"),
        by(request("delete", 4, gone("a")), "guardian-a", "other"),
        by(request("delete", 5, gone("a")), "a", "one"),
        purge(5, "1%2C2", json!([{}])),
        purge(6, "1%2C7", json!([{}])),
        purge(6, "7", json!([])),
        AuditEntry { code: 409, ..same() },
        same(),
        by(request("patch", 7, ticket("a", 7, "Pending")), "a", "one"),
    ];
    let history = History::of(&[create]).map_err(|error| format!("{error:#}"))?;
    let late = history.late_writes(&entries);
    let all = [4, 6, 7, 8, 9, 10].map(|n| &entries[n]);
    assert_eq!(late, all);
    // The take came after the release, though it was answered first.
    let release = AuditEntry {
        completed: Timestamp::from_millisecond(8500)?,
        ..lease(7, "other")
    };
    let write = by(request("delete", 9, gone("a")), "a", "one");
    let [take, much_earlier] = [8, 6].map(|at| lease(at, "one"));
    assert!(
        history
            .late_writes(&[release.clone(), take, write.clone()])
            .is_empty()
    );
    assert_eq!(history.late_writes(&[much_earlier, release, write]).len(), 1);
    assert_eq!(History::harmful(&late, &entries), [4, 6, 10].map(|n| &entries[n]));
    Ok(())
}
