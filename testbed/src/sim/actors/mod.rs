//! Those who live in a cluster besides the controller under test.
//!
//! Each is a task that hears every change and writes through the API server, like the real one.

pub mod amounts;
pub mod collector;
pub mod fit;
pub mod kubelet;
pub mod nodes;
pub mod scheduler;
pub mod users;

use serde_json::Value;

/// What is at a JSON pointer; faster than [`Value::pointer`] where nothing is escaped.
pub fn at<'a>(object: &'a Value, pointer: &str) -> Option<&'a Value> {
    if pointer.contains('~') {
        return object.pointer(pointer);
    }
    let step = |value: &'a Value, key: &str| match value {
        Value::Object(map) => map.get(key),
        Value::Array(list) => list.get(key.parse::<usize>().ok()?),
        _ => None,
    };
    pointer.split('/').skip(1).try_fold(object, step)
}

/// The text at a JSON pointer, or nothing.
pub fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    at(object, pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The elements of the list at a JSON pointer.
pub fn items<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    at(object, pointer)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// Namespace and name.
pub type Key = (String, String);

/// An object's namespace and name.
pub fn key(object: &Value) -> Key {
    let own = |pointer| text(object, pointer).to_owned();
    (own("/metadata/namespace"), own("/metadata/name"))
}

/// An object's uid.
pub fn uid(object: &Value) -> &str {
    text(object, "/metadata/uid")
}

/// Whether an object is being deleted.
pub fn deleting(object: &Value) -> bool {
    at(object, "/metadata/deletionTimestamp").is_some()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::sim::{
        cluster::Cluster,
        journal::{Journal, Keep},
    };

    #[test]
    fn pointers_lead_where_those_of_serde_json_lead() {
        let object = serde_json::json!({ "a": { "b/c": [1, { "d": null }], "": 2 } });
        let pointers = [
            "",
            "/a",
            "/a/",
            "/a/b~1c",
            "/a/b~1c/1/d",
            "/a/b~1c/2",
            "/a/b~1c/x",
            "/x",
            "/a/b/c",
        ];
        for pointer in pointers {
            assert_eq!(at(&object, pointer), object.pointer(pointer), "{pointer}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_fits_runs_ready_and_what_does_not_is_told_how_many_nodes_there_are() {
        let cluster = Cluster::new(1, 1.0, Journal::new(Keep::Digest));
        cluster.spawn(scheduler::Scheduler::new(&cluster, Duration::from_millis(1)).run());
        cluster.spawn(kubelet::Kubelets::new(&cluster, 1, 10).run());
        let (nodes, users) = (nodes::Nodes::new(&cluster), users::Users::new(&cluster));
        nodes.join(&nodes::node("n1", &[], "1", "1Gi"));
        nodes.join(&nodes::node("n2", &[], "1", "1Gi"));
        nodes.befall("n2", &nodes::Fortune::Leave);
        for (name, cpu) in [("small", "1"), ("large", "2")] {
            let container = json!({ "name": "c", "image": "i", "resources": { "requests": { "cpu": cpu } } });
            let pod = json!({
                "metadata": { "name": name, "namespace": "default" }, "spec": { "containers": [container] },
            });
            assert!(users.create("pods", &pod), "{name}");
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        let pod = |name| cluster.api(|api| api.get("pods", "default", name)).unwrap();
        assert_eq!(pod("small")["status"]["containerStatuses"][0]["ready"], true);
        let scheduled = fit::condition(&pod("large"), "PodScheduled").cloned().unwrap();
        assert_eq!(
            scheduled["message"],
            "0/1 nodes are available: 1 Insufficient cpu."
        );
    }
}
