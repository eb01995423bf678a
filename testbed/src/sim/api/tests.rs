//! The server as a whole, by requests: what a real kube-apiserver 1.37.2 answered to the same ones.

use serde_json::{Value, json};

use super::testing::{ORDERS, TICKETS, server, ticket};

fn order(name: &str) -> Value {
    json!({
        "apiVersion": "core.korder.dev/v1alpha1",
        "kind": "Order",
        "metadata": { "name": name },
        "spec": {
            "daemonSet": true,
            "template": { "spec": { "duration": "1h", "resources": { "requests": { "cpu": "100m" } } } },
        },
    })
}

#[test]
fn a_created_object_has_defaults_and_system_fields() {
    let mut server = server();
    let mut wanted = ticket("a");
    wanted["foo"] = json!(1);
    wanted["spec"]["foo"] = json!(1);
    wanted["spec"]["duration"] = json!(null);
    wanted["status"] = json!({ "phase": "Reserved" });
    let made = server.good("POST", TICKETS, wanted);
    assert_eq!(made["metadata"]["generation"], 1);
    assert_eq!(made["metadata"]["resourceVersion"], server.revision().to_string());
    assert_eq!(made["status"], json!({ "phase": "Pending" }));
    let spec = json!({
        "lifecycle": { "cleanupPolicy": "Delete", "ttlSecondsAfterFinished": 0 },
        "nodeName": "n1", "nodeUID": "u1", "sequence": 0, "templateHash": "h",
    });
    assert_eq!(made["spec"], spec);
    assert!(made.get("foo").is_none());
}

#[test]
fn refusals_are_in_upstreams_words() {
    let mut server = server();
    let base = "/apis/core.korder.dev/v1alpha1";
    let (code, message) = server.refused("GET", &format!("{TICKETS}/a"), Value::Null);
    assert_eq!(
        (code, message.as_str()),
        (404, "tickets.core.korder.dev \"a\" not found")
    );
    server.good("POST", TICKETS, ticket("a"));
    let (code, message) = server.refused("POST", TICKETS, ticket("a"));
    assert_eq!(
        (code, message.as_str()),
        (409, "tickets.core.korder.dev \"a\" already exists")
    );
    let missing = format!("{base}/namespaces/missing/tickets");
    let (code, message) = server.refused("POST", &missing, ticket("a"));
    assert_eq!(
        (code, message.as_str()),
        (404, "namespaces \"missing\" not found")
    );
    let patch = json!({ "metadata": { "resourceVersion": "1" } });
    let (code, message) = server.refused("PATCH", &format!("{TICKETS}/a"), patch);
    assert_eq!(code, 409);
    assert_eq!(
        message,
        "Operation cannot be fulfilled on tickets.core.korder.dev \"a\": the object has been modified; please apply your changes to the latest version and try again"
    );
    let (code, message) = server.refused(
        "PATCH",
        &format!("{TICKETS}/a"),
        json!({ "metadata": { "uid": "zz" } }),
    );
    assert_eq!(code, 422);
    assert_eq!(
        message,
        "Ticket.core.korder.dev \"a\" is invalid: metadata.uid: Invalid value: \"zz\": field is immutable"
    );
    let options = json!({ "preconditions": { "uid": "zz" } });
    let (code, message) = server.refused("DELETE", &format!("{TICKETS}/a"), options);
    assert_eq!(code, 409);
    assert!(message.starts_with("Operation cannot be fulfilled on Ticket.core.korder.dev \"a\": the UID in the precondition (zz) does not match the UID in record ("));
}

#[test]
fn a_rule_of_the_schema_that_is_broken_is_named() {
    let mut server = server();
    let cases = [
        (
            "/spec/sequence",
            json!("x"),
            "[spec.sequence: Invalid value: \"string\": spec.sequence in body must be of type integer: \"string\", <nil>: Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation]",
        ),
        (
            "/spec/sequence",
            json!(-1),
            "spec.sequence: Invalid value: -1: spec.sequence in body should be greater than or equal to 0",
        ),
        (
            "/spec",
            json!({}),
            "[spec.nodeName: Required value, spec.nodeUID: Required value, spec.sequence: Required value, spec.templateHash: Required value, <nil>: Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation]",
        ),
        (
            "/spec/resources",
            json!({ "requests": { "cpu": "2", "memory": "x" } }),
            "spec.resources.requests[memory]: Invalid value: \"x\": must be a quantity that is not negative, such as 100m, 2 or 1Gi",
        ),
        (
            "/spec/resources",
            json!({ "requests": { "cpu": "2" }, "limits": { "cpu": 1 } }),
            "spec.resources.requests: Invalid value: requests must not be greater than limits; raise the limit or lower the request",
        ),
        (
            "/spec/tolerations",
            json!([{ "operator": "Exists", "value": "x" }]),
            "spec.tolerations[0].value: Invalid value: must be empty when operator is Exists; remove it, or use operator Equal",
        ),
    ];
    for (pointer, value, expected) in cases {
        let mut wanted = ticket("c");
        match wanted.pointer_mut(pointer) {
            Some(place) => *place = value,
            None => wanted["spec"][pointer.rsplit('/').next().unwrap()] = value,
        }
        let (code, message) = server.refused("POST", TICKETS, wanted);
        let expected = format!("Ticket.core.korder.dev \"c\" is invalid: {expected}");
        assert_eq!((code, message), (422, expected));
    }
}

#[test]
fn every_rule_of_an_order_judges_as_upstream_does() {
    let mut server = server();
    let made = server.good("POST", ORDERS, order("o1"));
    assert_eq!(made["spec"]["updateStrategy"], json!({ "maxUnavailable": "10%" }));
    assert_eq!(
        made["spec"]["strategy"],
        json!({ "refreshPolicy": "OnClaim", "type": "OneTime" })
    );
    assert!(made.get("status").is_none());
    let template = |field: &str, value: Value| {
        let mut order = order("o2");
        order["spec"]["template"]["spec"][field] = value;
        order
    };
    let spec = |field: &str, value: Value| {
        let mut order = order("o2");
        order["spec"][field] = value;
        order
    };
    let cases = [
        (
            spec("daemonSet", json!(false)),
            "spec.daemonSet: Invalid value: must be true, because only DaemonSet mode is implemented; set spec.daemonSet: true",
        ),
        (
            spec("strategy", json!({ "type": "Recurring" })),
            "spec.strategy.schedule: Required value: schedule is required when type is Scheduled or Recurring: a cron expression of five fields, such as '0 */6 * * *'",
        ),
        (
            spec("updateStrategy", json!({ "maxUnavailable": "0" })),
            "spec.updateStrategy.maxUnavailable: Invalid value: \"0\": must be a whole number from 1, or a percentage from 0% to 100% such as 10%",
        ),
        (
            spec("updateStrategy", json!({ "maxUnavailable": 0 })),
            "spec.updateStrategy.maxUnavailable: Invalid value: 0: must be a whole number from 1, or a percentage from 0% to 100% such as 10%",
        ),
        (
            template("duration", json!("x")),
            "spec.template.spec.duration: Invalid value: \"x\": must be a Go duration of at least 1s and not negative, such as 24h or 1h30m",
        ),
        (
            template("duration", json!("500ms")),
            "spec.template.spec.duration: Invalid value: \"500ms\": must be a Go duration of at least 1s and not negative, such as 24h or 1h30m",
        ),
        (
            template(
                "tolerations",
                json!([{ "effect": "NoSchedule", "tolerationSeconds": 5, "key": "a" }]),
            ),
            "spec.template.spec.tolerations[0].effect: Invalid value: must be NoExecute when tolerationSeconds is set; or remove tolerationSeconds",
        ),
        (
            order(&"o".repeat(70)),
            "<nil>: Invalid value: metadata.name must be at most 63 characters, because it becomes the label korder.dev/order of its Tickets; choose a shorter name",
        ),
    ];
    for (wanted, expected) in cases {
        let (code, message) = server.refused("POST", ORDERS, wanted);
        let (_, said) = message.split_once(" is invalid: ").unwrap_or(("", &message));
        assert_eq!((code, said), (422, expected));
    }
    for duration in ["1h30m", "+1h", "1.5h", "90s", "1µs1h", "24h"] {
        server.good("POST", ORDERS, {
            let mut order = template("duration", json!(duration));
            order["metadata"] = json!({ "generateName": "o-" });
            order
        });
    }
}

#[test]
fn a_transition_rule_compares_with_the_old_value() {
    let mut server = server();
    server.good("POST", TICKETS, ticket("a"));
    let patch = json!({ "spec": { "nodeName": "n2" } });
    let (code, message) = server.refused("PATCH", &format!("{TICKETS}/a"), patch);
    assert_eq!(code, 422);
    assert_eq!(
        message,
        "Ticket.core.korder.dev \"a\" is invalid: spec.nodeName: Invalid value: \"n2\": nodeName is immutable; delete the Ticket, and the controller makes a new one"
    );
}

#[test]
fn what_is_not_simulated_is_refused_loudly() {
    let mut server = server();
    server.good("POST", TICKETS, ticket("a"));
    let (code, message) = server.refused("POST", &format!("{TICKETS}?dryRun=All"), ticket("b"));
    assert_eq!(
        (code, message.as_str()),
        (501, "testbed: dryRun is not simulated")
    );
    let options = json!({ "propagationPolicy": "Foreground" });
    assert_eq!(server.refused("DELETE", &format!("{TICKETS}/a"), options).0, 501);
}

#[test]
fn the_same_seed_gives_the_same_uids() {
    let made = || {
        let mut server = server();
        server.good("POST", TICKETS, ticket("a"))
    };
    assert_eq!(made(), made());
    let uid = made()["metadata"]["uid"].as_str().unwrap().to_owned();
    assert_eq!((uid.len(), uid.as_bytes()[14]), (36, b'4'));
}
