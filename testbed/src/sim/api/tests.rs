//! The server as a whole, by requests: what a real kube-apiserver 1.37.2 answered to the same ones.

use serde_json::{Value, json};

use super::testing::{LEASES, NODES, ORDERS, PODS, TICKETS, pod, server, ticket};

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
fn the_status_endpoint_and_the_main_one_keep_each_others_part() {
    let mut server = server();
    server.good("POST", TICKETS, ticket("a"));
    let both = json!({ "spec": { "duration": "5s" }, "status": { "phase": "Reserved" } });
    let main = server.good("PATCH", &format!("{TICKETS}/a"), both.clone());
    assert_eq!(
        (&main["status"]["phase"], &main["metadata"]["generation"]),
        (&json!("Pending"), &json!(2))
    );
    let other = json!({ "spec": { "duration": "6s" }, "status": { "phase": "Reserved" } });
    let status = server.good("PATCH", &format!("{TICKETS}/a/status"), other);
    assert_eq!(status["status"]["phase"], "Reserved");
    assert_eq!(
        (&status["spec"]["duration"], &status["metadata"]["generation"]),
        (&json!("5s"), &json!(2))
    );
    let revision = server.revision();
    server.good(
        "PATCH",
        &format!("{TICKETS}/a"),
        json!({ "spec": { "duration": "5s" } }),
    );
    assert_eq!(server.revision(), revision, "nothing changed");
}

#[test]
fn a_delete_of_an_unbound_pod_marks_it_and_then_removes_it() {
    let mut server = server();
    let mut watch = server.watch(&format!("{PODS}?watch=true"));
    server.good("POST", PODS, pod("a"));
    let gone = server.good("DELETE", &format!("{PODS}/a"), Value::Null);
    assert_eq!(gone["metadata"]["deletionGracePeriodSeconds"], 0);
    let last = server.revision();
    let expected = [
        format!("ADDED a {}", last - 2),
        format!("MODIFIED a {}", last - 1),
        format!("DELETED a {last}"),
    ];
    assert_eq!(watch.seen(&server), expected);
}

#[test]
fn a_bound_pod_waits_for_its_grace_unless_it_is_terminal() {
    let mut server = server();
    let mut wanted = pod("a");
    wanted["spec"]["nodeName"] = json!("n1");
    server.good("POST", PODS, wanted.clone());
    let waiting = server.good("DELETE", &format!("{PODS}/a"), Value::Null);
    assert_eq!(waiting["metadata"]["deletionGracePeriodSeconds"], 30);
    assert_eq!(waiting["metadata"]["deletionTimestamp"], "2026-01-01T00:00:30Z");
    assert_eq!(waiting["metadata"]["generation"], 2);
    let revision = server.revision();
    server.good(
        "DELETE",
        &format!("{PODS}/a"),
        json!({ "gracePeriodSeconds": 500 }),
    );
    assert_eq!(server.revision(), revision, "a longer grace changes nothing");
    server.good("DELETE", &format!("{PODS}/a"), json!({ "gracePeriodSeconds": 0 }));
    assert!(server.get("pods", "default", "a").is_none());

    wanted["metadata"]["name"] = json!("b");
    server.good("POST", PODS, wanted);
    server.good(
        "PATCH",
        &format!("{PODS}/b/status"),
        json!({ "status": { "phase": "Failed" } }),
    );
    server.good("DELETE", &format!("{PODS}/b"), Value::Null);
    assert!(server.get("pods", "default", "b").is_none());
}

#[test]
fn finalizers_keep_a_deleted_object_until_the_last_is_removed() {
    let mut server = server();
    let mut wanted = ticket("a");
    wanted["metadata"]["finalizers"] = json!(["x.y/z"]);
    server.good("POST", TICKETS, wanted);
    let kept = server.good("DELETE", &format!("{TICKETS}/a"), Value::Null);
    assert_eq!(kept["metadata"]["deletionGracePeriodSeconds"], 0);
    assert_eq!(kept["metadata"]["generation"], 2);
    let (code, message) = server.refused("POST", TICKETS, ticket("a"));
    assert_eq!(
        (code, message.as_str()),
        (
            409,
            "object is being deleted: tickets.core.korder.dev \"a\" already exists"
        )
    );
    let patch = json!({ "metadata": { "finalizers": ["x.y/z", "q/r"] } });
    assert_eq!(server.refused("PATCH", &format!("{TICKETS}/a"), patch).0, 422);
    let last = server.good(
        "PATCH",
        &format!("{TICKETS}/a"),
        json!({ "metadata": { "finalizers": null } }),
    );
    assert_eq!(
        last["metadata"]["resourceVersion"],
        kept["metadata"]["resourceVersion"]
    );
    assert!(server.get("tickets", "default", "a").is_none());
}

#[test]
fn a_watch_with_selectors_sees_objects_come_and_go() {
    let mut server = server();
    let mut watch = server.watch(&format!("{TICKETS}?watch=true&labelSelector=a%3Db"));
    let label = |value: Value| json!({ "metadata": { "labels": { "a": value } } });
    server.good("POST", TICKETS, ticket("l"));
    let path = format!("{TICKETS}/l");
    for value in [json!("b"), json!("c"), json!("d"), json!("b")] {
        server.good("PATCH", &path, label(value));
    }
    server.good("DELETE", &path, Value::Null);
    let last = server.revision();
    let expected = [
        format!("ADDED l {}", last - 4),
        format!("DELETED l {}", last - 3),
        format!("ADDED l {}", last - 1),
        format!("DELETED l {last}"),
    ];
    assert_eq!(watch.seen(&server), expected);
}

#[test]
fn a_watch_never_delivers_beyond_what_it_is_allowed() {
    let mut server = server();
    let mut watch = server.watch(&format!("{TICKETS}?watch=true&allowWatchBookmarks=true"));
    let start = server.revision();
    server.good("POST", TICKETS, ticket("a"));
    server.good("POST", TICKETS, ticket("b"));
    assert!(watch.poll(&server, start - 1).is_empty());
    let lines = watch.poll(&server, start + 1);
    assert_eq!(
        lines.iter().map(|line| line.kind).collect::<Vec<_>>(),
        ["BOOKMARK", "ADDED"]
    );
    assert_eq!(watch.position(), start + 1);
    let bookmark = watch.bookmark(&server).unwrap();
    assert_eq!(bookmark.revision, start + 1);
}

#[test]
fn initial_events_end_with_a_bookmark_that_says_so() {
    let mut server = server();
    server.good("POST", TICKETS, ticket("a"));
    let query =
        "watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut watch = server.watch(&format!("{TICKETS}?{query}"));
    let lines = watch.poll(&server, server.revision());
    assert_eq!(lines.len(), 2);
    let bookmark: Value = serde_json::from_slice(&lines[1].json).unwrap();
    let expected = json!({ "type": "BOOKMARK", "object": {
        "kind": "Ticket",
        "apiVersion": "core.korder.dev/v1alpha1",
        "metadata": {
            "resourceVersion": server.revision().to_string(),
            "annotations": { "k8s.io/initial-events-end": "true" },
        },
    } });
    assert_eq!(bookmark, expected);
}

#[test]
fn a_watch_behind_a_compaction_ends_with_410() {
    let mut server = server();
    let start = server.revision();
    let mut watch = server.watch(&format!("{TICKETS}?watch=true&resourceVersion={start}"));
    server.good("POST", TICKETS, ticket("a"));
    server.good("POST", TICKETS, ticket("b"));
    server.compact(server.revision() - 1);
    let lines = watch.poll(&server, server.revision());
    assert_eq!(lines.len(), 1);
    let error: Value = serde_json::from_slice(&lines[0].json).unwrap();
    assert_eq!(
        (&error["type"], &error["object"]["code"]),
        (&json!("ERROR"), &json!(410))
    );
    assert!(watch.ended());
}

#[test]
fn pages_show_one_revision_until_it_is_compacted() {
    let mut server = server();
    for name in ["a", "b", "c"] {
        server.good("POST", TICKETS, ticket(name));
    }
    let first = server.good("GET", &format!("{TICKETS}?limit=1"), Value::Null);
    assert_eq!(first["metadata"]["remainingItemCount"], 2);
    let token = first["metadata"]["continue"].as_str().unwrap().to_owned();
    server.good("DELETE", &format!("{TICKETS}/b"), Value::Null);
    let rest = server.good("GET", &format!("{TICKETS}?limit=5&continue={token}"), Value::Null);
    let names: Vec<_> = rest["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| &item["metadata"]["name"])
        .collect();
    assert_eq!(names, ["b", "c"]);
    assert_eq!(
        rest["metadata"]["resourceVersion"],
        first["metadata"]["resourceVersion"]
    );
    server.compact(server.revision());
    let gone = server.ask("GET", &format!("{TICKETS}?continue={token}"), Value::Null);
    assert_eq!(gone.code, 410);
    let token = gone.body["metadata"]["continue"].as_str().unwrap();
    let rest = server.good("GET", &format!("{TICKETS}?continue={token}"), Value::Null);
    assert_eq!(rest["items"].as_array().unwrap().len(), 1);
}

#[test]
fn a_server_that_lags_shows_the_old_state() {
    let mut server = server();
    server.good("POST", TICKETS, ticket("a"));
    let before = server.revision();
    server.good(
        "PATCH",
        &format!("{TICKETS}/a/status"),
        json!({ "status": { "phase": "Reserved" } }),
    );
    server.good("POST", TICKETS, ticket("b"));
    let list = super::testing::request("GET", TICKETS, &Value::Null);
    let super::Answer::Whole(reply) = server.handle_stale(&list, before) else {
        panic!("a watch");
    };
    assert_eq!(reply.body["metadata"]["resourceVersion"], before.to_string());
    assert_eq!(reply.body["items"].as_array().unwrap().len(), 1);
    assert_eq!(reply.body["items"][0]["status"]["phase"], "Pending");
}

#[test]
fn a_gated_pod_is_bound_only_when_its_gates_are_gone() {
    let mut server = server();
    let mut wanted = pod("a");
    wanted["spec"]["schedulingGates"] = json!([{ "name": "korder.dev/claim" }]);
    wanted["spec"]["priorityClassName"] = json!("system-node-critical");
    let made = server.good("POST", PODS, wanted);
    assert_eq!(made["spec"]["priority"], 2_000_001_000);
    assert_eq!(made["status"]["conditions"][0]["reason"], "SchedulingGated");
    let uid = made["metadata"]["uid"].as_str().unwrap().to_owned();
    let by = "scheduler".into();
    let refused = server.bind(&by, "default", "a", &uid, "n1").unwrap_err();
    assert_eq!(
        refused.body["message"],
        "Operation cannot be fulfilled on pods/binding \"a\": pod a has non-empty .spec.schedulingGates"
    );
    let more = json!({ "spec": { "schedulingGates": [{ "name": "x.y/z" }] } });
    assert_eq!(server.refused("PATCH", &format!("{PODS}/a"), more).0, 422);
    server.good(
        "PATCH",
        &format!("{PODS}/a"),
        json!({ "spec": { "schedulingGates": null } }),
    );
    let nominated = json!({ "status": { "nominatedNodeName": "n1" } });
    server.good("PATCH", &format!("{PODS}/a/status"), nominated);
    server.bind(&by, "default", "a", &uid, "n1").unwrap();
    let bound = server.get("pods", "default", "a").unwrap();
    assert_eq!(bound["spec"]["nodeName"], "n1");
    assert!(bound["status"].get("nominatedNodeName").is_none());
    assert_eq!(bound["status"]["conditions"][0]["status"], "True");
    let refused = server.bind(&by, "default", "a", &uid, "n2").unwrap_err();
    assert_eq!(
        refused.body["message"],
        "Operation cannot be fulfilled on pods/binding \"a\": pod a is already assigned to node \"n1\""
    );
}

#[test]
fn a_created_pod_is_what_a_real_server_stores() {
    let mut server = server();
    let mut wanted = pod("p0");
    wanted["spec"]["containers"][0]["resources"] =
        json!({ "requests": { "cpu": "0.5", "memory": "1024Mi" }, "limits": { "cpu": "1000m" } });
    let made = server.good("POST", PODS, wanted);
    let expected = json!({
        "automountServiceAccountToken": false,
        "containers": [{
            "name": "c", "image": "pause:1",
            "resources": { "limits": { "cpu": "1" }, "requests": { "cpu": "500m", "memory": "1Gi" } },
            "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
            "imagePullPolicy": "IfNotPresent",
        }],
        "restartPolicy": "Always", "terminationGracePeriodSeconds": 30, "dnsPolicy": "ClusterFirst",
        "serviceAccountName": "default", "serviceAccount": "default",
        "securityContext": {}, "schedulerName": "default-scheduler",
        "tolerations": [
            { "key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300 },
            { "key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300 },
        ],
        "priority": 0, "enableServiceLinks": true, "preemptionPolicy": "PreemptLowerPriority",
    });
    assert_eq!(made["spec"], expected);
    assert_eq!(
        made["status"],
        json!({ "phase": "Pending", "qosClass": "Burstable" })
    );
}

#[test]
fn a_created_node_is_tainted_and_complete() {
    let mut server = server();
    let node = json!({ "metadata": { "name": "n2" }, "status": { "capacity": { "cpu": "4000m", "memory": "16777216Ki" } } });
    let made = server.good("POST", NODES, node);
    assert_eq!(
        made["spec"],
        json!({ "taints": [{ "key": "node.kubernetes.io/not-ready", "effect": "NoSchedule" }] })
    );
    assert_eq!(
        made["status"]["allocatable"],
        json!({ "cpu": "4", "memory": "16Gi" })
    );
    assert_eq!(made["status"]["nodeInfo"]["kubeletVersion"], "");
    assert!(made["metadata"].get("generation").is_none());
}

#[test]
fn a_lease_is_made_by_put_and_guarded_by_its_revision() {
    let mut server = server();
    let lease = json!({ "metadata": { "name": "l" }, "spec": { "holderIdentity": "a" } });
    assert_eq!(server.ask("PUT", &format!("{LEASES}/l"), lease.clone()).code, 201);
    let (code, message) = server.refused("PUT", &format!("{LEASES}/l"), lease);
    assert_eq!(code, 422);
    assert_eq!(
        message,
        "leases.coordination.k8s.io \"l\" is invalid: metadata.resourceVersion: Invalid value: 0: must be specified for an update"
    );
    let other = json!({ "metadata": { "name": "m", "uid": "5" }, "spec": {} });
    let (code, message) = server.refused("PUT", &format!("{LEASES}/m"), other);
    assert_eq!(code, 409);
    assert!(message.ends_with("Precondition failed: UID in precondition: 5, UID in object meta: "));
}

#[test]
fn a_namespace_on_its_way_out_takes_nothing_new() {
    let mut server = server();
    server.good(
        "POST",
        "/api/v1/namespaces",
        json!({ "metadata": { "name": "t1" } }),
    );
    let marked = server.good("DELETE", "/api/v1/namespaces/t1", Value::Null);
    assert_eq!(marked["status"]["phase"], "Terminating");
    let path = "/apis/core.korder.dev/v1alpha1/namespaces/t1/tickets";
    let refused = server.ask("POST", path, ticket("y"));
    assert_eq!(refused.code, 403);
    assert_eq!(
        refused.body["details"]["causes"][0]["reason"],
        "NamespaceTerminating"
    );
    let mut namespace = Value::clone(&marked);
    namespace["spec"]["finalizers"] = json!([]);
    server.good("PUT", "/api/v1/namespaces/t1/finalize", namespace);
    assert!(server.get("namespaces", "", "t1").is_none());
    let (code, message) = server.refused("DELETE", "/api/v1/namespaces/default", Value::Null);
    assert_eq!(
        (code, message.as_str()),
        (
            403,
            "namespaces \"default\" is forbidden: this namespace may not be deleted"
        )
    );
}

#[test]
fn a_collection_is_deleted_by_selector() {
    let mut server = server();
    for (name, label) in [("a", "0"), ("b", "1"), ("c", "0")] {
        let mut wanted = ticket(name);
        wanted["metadata"]["labels"] = json!({ "k": label });
        server.good("POST", TICKETS, wanted);
    }
    let gone = server.good("DELETE", &format!("{TICKETS}?labelSelector=k%3D0"), json!({}));
    assert_eq!(gone["items"].as_array().unwrap().len(), 2);
    assert_eq!(server.list("tickets").len(), 1);
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
