//! Actions as requests. Every watch gets writes of its own at the end that its selector lets through, so
//! that its last event is known.

use serde_json::{Value, json};

use super::grammar::{Action, Begin, Change, Kind, Label, Named, Selector};
use crate::{
    bodies::{
        LEASES, NODES, ORDERS, PODS, TICKETS, at, binding, claimant, full_ticket, guardian, labelled, lease,
        node, order, ticket, with,
    },
    step::{Call, Case, JSON, META, META_LIST, Step, only_if},
};

const FINALIZER: &str = "test.korder.dev/hold";
const STREAM: &str = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";

struct Watch {
    kind: Kind,
    selector: Selector,
}

/// The requests of a sequence.
pub(super) fn case(actions: &[Action]) -> Case {
    let mut case = Case::new("random");
    let mut watches = Vec::new();
    for action in actions {
        render(action, &mut case.steps, &mut watches);
    }
    for (at, watch) in watches.iter().enumerate() {
        end(at, watch, &mut case.steps);
    }
    for at in 0..watches.len() {
        let collect = Step::Collect(format!("w{at}"), format!("end-{at}-${{id}}"));
        case.steps.push(collect);
    }
    case
}

fn render(action: &Action, steps: &mut Vec<Step>, watches: &mut Vec<Watch>) {
    let call = match action {
        Action::Create {
            kind,
            name,
            label,
            held,
            variant,
            generated,
        } => {
            // Each has a prefix of its own, so that random endings do not decide the order.
            let prefix = generated.then(|| format!("{}-{:02}-", object_name(*kind, *name), steps.len()));
            create(*kind, *name, *label, *held, *variant, prefix)
        }
        Action::Get { kind, name, partial } => {
            let accept = if *partial { META } else { JSON };
            Call::get(object(*kind, *name)).accept(accept)
        }
        Action::List {
            kind,
            selector,
            limit,
            proceed,
            partial,
            revision,
        } => {
            if matches!((proceed, revision), (false, Named::Latest)) {
                // It also brings the real server's cache to what is compared.
                steps.push(Step::Ask(None, Call::get(query(*kind, Selector::All, ""))));
            }
            let accept = if *partial { META_LIST } else { JSON };
            list(*kind, *selector, *limit, *proceed, *revision).accept(accept)
        }
        Action::Merge { kind, name, change } => {
            Call::merge(target(*kind, *name, change), changed(*kind, *name, change))
        }
        Action::Put { kind, name, change } => Call::put(
            target(*kind, *name, change),
            key(*kind, *name),
            changed(*kind, *name, change),
        ),
        Action::Delete {
            kind,
            name,
            uid,
            revision,
            grace,
        } => {
            let uid = named("uid", *uid, &key(*kind, *name));
            let revision = named("rv", *revision, &key(*kind, *name));
            let options = with(only_if(uid, revision), grace_of(*grace));
            Call::delete(object(*kind, *name), options)
        }
        Action::DeleteCollection {
            kind,
            selector,
            grace,
        } => Call::delete(query(*kind, *selector, ""), grace_of(*grace)),
        Action::Bind { kind, name, .. } if *kind != Kind::Pod => Call::get(object(*kind, *name)),
        Action::Bind { name, node, uid, .. } => {
            let uid = named("uid", *uid, &key(Kind::Pod, *name));
            let target = format!("{}/binding", object(Kind::Pod, *name));
            let pod = object_name(Kind::Pod, *name);
            let binding = binding(&pod, &format!("n{node}"));
            Call::post(target, with(binding, json!({ "metadata": { "uid": uid } })))
        }
        Action::Watch {
            kind,
            selector,
            begin,
            partial,
        } => {
            let accept = if *partial { META } else { JSON };
            // The list also brings the real server's cache to what is compared.
            steps.push(Step::Ask(None, Call::get(query(*kind, Selector::All, ""))));
            let from = match begin {
                Begin::Listed => format!("watch=true&resourceVersion=${{list {}}}", plural(*kind)),
                Begin::Object(name) => {
                    let (key, plural) = (key(*kind, *name), plural(*kind));
                    format!("watch=true&resourceVersion=${{rv0 {key}|list {plural}}}")
                }
                Begin::Streamed => format!("watch=true&{STREAM}"),
            };
            let call = Call::get(query(*kind, *selector, &from)).accept(accept);
            steps.push(Step::Watch(format!("w{}", watches.len()), call));
            watches.push(Watch {
                kind: *kind,
                selector: *selector,
            });
            return;
        }
    };
    steps.push(Step::Ask(None, call));
}

fn plural(kind: Kind) -> &'static str {
    match kind {
        Kind::Ticket => "tickets",
        Kind::Order => "orders",
        Kind::Pod => "pods",
        Kind::Lease => "leases",
        Kind::Node => "nodes",
    }
}

fn path(kind: Kind) -> &'static str {
    match kind {
        Kind::Ticket => TICKETS,
        Kind::Order => ORDERS,
        Kind::Pod => PODS,
        Kind::Lease => LEASES,
        Kind::Node => NODES,
    }
}

fn object_name(kind: Kind, name: u8) -> String {
    match kind {
        Kind::Node => format!("n{name}-${{id}}"),
        _ => format!("x{name}"),
    }
}

fn object(kind: Kind, name: u8) -> String {
    at(path(kind), &object_name(kind, name))
}

fn key(kind: Kind, name: u8) -> String {
    at(plural(kind), &object_name(kind, name))
}

fn named(what: &str, named: Named, key: &str) -> Value {
    match (named, what) {
        (Named::None, _) => Value::Null,
        (Named::Latest, _) => json!(format!("${{{what} {key}}}")),
        (Named::First, _) => json!(format!("${{{what}0 {key}}}")),
        (Named::Wrong, "uid") => json!("8c1b5d1e-0000-4000-8000-000000000009"),
        (Named::Wrong, _) => json!("1"),
    }
}

fn grace_of(grace: Option<u8>) -> Value {
    grace.map_or(json!({}), |grace| json!({ "gracePeriodSeconds": grace }))
}

fn label_of(label: Label) -> Value {
    match label {
        Label::Unmentioned => json!({}),
        Label::Removed => json!({ "app": null }),
        Label::A => json!({ "app": "a" }),
        Label::B => json!({ "app": "b" }),
    }
}

fn create(kind: Kind, name: u8, label: Label, held: bool, variant: u8, prefix: Option<String>) -> Call {
    let mut body = labelled(new(kind, &object_name(kind, name), variant), label_of(label));
    if held {
        body["metadata"]["finalizers"] = json!([FINALIZER]);
    }
    if let Some(prefix) = prefix {
        body = with(
            body,
            json!({ "metadata": { "name": null, "generateName": prefix } }),
        );
    }
    Call::post(path(kind), body)
}

/// Variants from 0; the last one is not valid.
fn new(kind: Kind, name: &str, variant: u8) -> Value {
    let spec = |object, spec: Value| with(object, json!({ "spec": spec }));
    match (kind, variant) {
        (Kind::Ticket, 0 | 1) => full_ticket(name),
        (Kind::Ticket, 2 | 3) => spec(ticket(name), json!({ "nodeName": "n2", "sequence": variant })),
        (Kind::Ticket, 4) => ticket(name),
        (Kind::Ticket, _) => spec(ticket(name), json!({ "sequence": -1 })),
        (Kind::Order, 5) => spec(order(name), json!({ "daemonSet": false })),
        (Kind::Order, 4) => spec(order(name), json!({ "strategy": { "type": "Recurring" } })),
        (Kind::Order, _) => spec(order(name), json!({ "replicas": variant })),
        (Kind::Pod, 0..=2) => guardian(name),
        (Kind::Pod, 3) => spec(guardian(name), json!({ "terminationGracePeriodSeconds": 5 })),
        (Kind::Pod, 4) => claimant(name),
        (Kind::Pod, _) => spec(guardian(name), json!({ "priorityClassName": "unknown" })),
        (Kind::Lease, 5) => spec(lease(name), json!({ "leaseDurationSeconds": 0 })),
        (Kind::Lease, _) => spec(lease(name), json!({ "leaseTransitions": variant })),
        (Kind::Node, 1) => spec(node(name), json!({ "unschedulable": true })),
        (Kind::Node, _) => node(name),
    }
}

fn target(kind: Kind, name: u8, change: &Change) -> String {
    let object = object(kind, name);
    match change.to_status && kind != Kind::Lease {
        true => format!("{object}/status"),
        false => object,
    }
}

fn changed(kind: Kind, name: u8, change: &Change) -> Value {
    let key = key(kind, name);
    let mut metadata = json!({ "labels": label_of(change.label) });
    if let Some(held) = change.finalizer {
        metadata["finalizers"] = if held { json!([FINALIZER]) } else { Value::Null };
    }
    for (field, value) in [
        ("uid", named("uid", change.uid, &key)),
        ("resourceVersion", named("rv", change.revision, &key)),
    ] {
        if !value.is_null() {
            metadata[field] = value;
        }
    }
    let mut body = json!({ "metadata": metadata });
    if let Some(value) = change.spec {
        body["spec"] = spec_change(kind, value);
    }
    if let Some(value) = change.status
        && kind != Kind::Lease
    {
        body["status"] = status_change(kind, value);
    }
    body
}

fn spec_change(kind: Kind, value: u8) -> Value {
    match (kind, value) {
        (Kind::Ticket, 0) => json!({ "nodeName": "n3" }),
        (Kind::Ticket, 1) => json!({ "duration": null, "lifecycle": null }),
        (Kind::Ticket, _) => json!({ "templateHash": format!("h{value}") }),
        (Kind::Order, 0) => json!({ "daemonSet": null }),
        (Kind::Order, 1) => json!({ "paused": true }),
        (Kind::Order, _) => json!({ "replicas": value }),
        (Kind::Pod, 0) => json!({ "priorityClassName": "other" }),
        (Kind::Pod, 1 | 2) => json!({ "schedulingGates": null }),
        (Kind::Pod, 3) => json!({ "schedulingGates": [{ "name": "korder.dev/cover" }] }),
        (Kind::Pod, _) => json!({}),
        (Kind::Lease, 0) => json!({ "holderIdentity": null, "leaseTransitions": null }),
        (Kind::Lease, _) => json!({ "holderIdentity": format!("r{value}") }),
        (Kind::Node, 0) => json!({ "unschedulable": null, "taints": null }),
        (Kind::Node, 1) => json!({ "unschedulable": true }),
        (Kind::Node, _) => json!({ "taints": [{ "key": "a", "value": "v", "effect": "NoSchedule" }] }),
    }
}

fn status_change(kind: Kind, value: u8) -> Value {
    let phases = ["Pending", "Reserved", "Claimed", "Released", "Lost"];
    let pod_phases = ["Pending", "Running", "Succeeded", "Failed", "Running"];
    match (kind, value) {
        (Kind::Ticket, 3) => Value::Null,
        (Kind::Ticket, _) => json!({ "phase": phases[usize::from(value)], "reason": "A" }),
        (Kind::Order, 0) => json!({ "replicas": null }),
        (Kind::Order, _) => json!({ "replicas": value }),
        (Kind::Pod, 0) => json!({ "nominatedNodeName": "n1" }),
        (Kind::Pod, 4) => json!({ "nominatedNodeName": null }),
        (Kind::Pod, _) => json!({ "phase": pod_phases[usize::from(value)] }),
        (Kind::Node, _) => json!({ "allocatable": { "cpu": value.to_string() } }),
        (Kind::Lease, _) => Value::Null,
    }
}

fn list(kind: Kind, selector: Selector, limit: Option<u8>, proceed: bool, revision: Named) -> Call {
    let mut more = Vec::new();
    // Pages of Nodes would end where the Nodes of other sequences lie.
    let limit = limit.filter(|_| kind != Kind::Node);
    more.extend(limit.map(|limit| format!("limit={limit}")));
    match (proceed, revision) {
        (true, _) => more.push("continue=${continue}".to_owned()),
        (_, Named::Latest) => more.push(format!("resourceVersion=${{list {}}}", plural(kind))),
        _ => {}
    }
    Call::get(query(kind, selector, &more.join("&")))
}

/// The kind's path with the selector and more in the query; Nodes are always this sequence's own.
fn query(kind: Kind, selector: Selector, more: &str) -> String {
    let (label, field) = selectors(kind, selector);
    let own = (kind == Kind::Node).then_some("run%3D${id}");
    let labels: Vec<&str> = own
        .into_iter()
        .chain((!label.is_empty()).then_some(label))
        .collect();
    let mut parts = Vec::new();
    if !labels.is_empty() {
        parts.push(format!("labelSelector={}", labels.join(",")));
    }
    if !field.is_empty() {
        parts.push(format!("fieldSelector={field}"));
    }
    if !more.is_empty() {
        parts.push(more.to_owned());
    }
    match parts.is_empty() {
        true => path(kind).to_owned(),
        false => format!("{}?{}", path(kind), parts.join("&")),
    }
}

fn selectors(kind: Kind, selector: Selector) -> (&'static str, String) {
    match (selector, kind) {
        (Selector::AppIsA, _) => ("app%3Da", String::new()),
        (Selector::AppInAb, _) => ("app%20in%20(a,b)", String::new()),
        (Selector::NoApp, _) => ("%21app", String::new()),
        (Selector::NotA, _) => ("app%21%3Da", String::new()),
        (Selector::Name(name), _) => ("", format!("metadata.name%3D{}", object_name(kind, name))),
        (Selector::Own, Kind::Ticket) => ("", "status.phase%3DReserved".to_owned()),
        (Selector::Own, Kind::Pod) => ("", "spec.nodeName%3D".to_owned()),
        (Selector::All | Selector::Own, _) => ("", String::new()),
    }
}

/// Writes that end a watch with an event it must show.
fn end(number: usize, watch: &Watch, steps: &mut Vec<Step>) {
    let Watch { kind, selector } = *watch;
    let mut push = |call| steps.push(Step::Ask(None, call));
    let mark = format!("end-{number}-${{id}}");
    let new = |name: &str| new(kind, name, 0);
    let label = match selector {
        Selector::AppIsA | Selector::AppInAb => Label::A,
        _ => Label::Removed,
    };
    if let Selector::Name(name) = selector {
        let object = object(kind, name);
        push(Call::merge(
            &object,
            json!({ "metadata": { "finalizers": null } }),
        ));
        push(Call::delete(&object, json!({ "gracePeriodSeconds": 0 })));
        let marked = json!({ "metadata": { "annotations": { "end": mark } } });
        push(Call::post(
            path(kind),
            with(new(&object_name(kind, name)), marked),
        ));
        return;
    }
    push(Call::post(path(kind), labelled(new(&mark), label_of(label))));
    if let (Selector::Own, Kind::Ticket) = (selector, kind) {
        let reserved = json!({ "status": { "phase": "Reserved" } });
        push(Call::merge(format!("{}/{mark}/status", path(kind)), reserved));
    }
}
