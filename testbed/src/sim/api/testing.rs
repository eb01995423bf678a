//! Builders for tests: a server with korder's CustomResourceDefinitions, and requests to it.

use std::sync::Arc;

use http::Method;
use serde_json::{Value, json};

use super::{Answer, ApiServer, Reply, Request, Watch};

pub(crate) const TICKETS: &str = "/apis/core.korder.dev/v1alpha1/namespaces/default/tickets";
pub(crate) const ORDERS: &str = "/apis/core.korder.dev/v1alpha1/namespaces/default/orders";
pub(crate) const PODS: &str = "/api/v1/namespaces/default/pods";
pub(crate) const NODES: &str = "/api/v1/nodes";
pub(crate) const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/default/leases";

pub(crate) fn server() -> ApiServer {
    let mut server = ApiServer::new("2026-01-01T00:00:00Z".parse().unwrap(), 7);
    for file in ["orders", "shards", "tickets"] {
        let path = format!("{}/../deploy/crds/{file}.yaml", env!("CARGO_MANIFEST_DIR"));
        let crd: Value = serde_saphyr::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        server.install(&crd);
    }
    server
}

pub(crate) fn request(method: &str, path: &str, body: &Value) -> Request {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let patch = method == "PATCH";
    let media = if patch {
        "application/merge-patch+json"
    } else {
        "application/json"
    };
    Request {
        user: "tester".into(),
        method: Method::from_bytes(method.as_bytes()).unwrap(),
        path: path.to_owned(),
        query: query.to_owned(),
        accept: "application/json".to_owned(),
        content_type: media.to_owned(),
        body: if body.is_null() {
            Vec::new()
        } else {
            body.to_string().into_bytes()
        },
    }
}

impl ApiServer {
    pub(crate) fn ask(&mut self, method: &str, path: &str, body: Value) -> Reply {
        match self.handle(&request(method, path, &body)) {
            Answer::Whole(reply) => reply,
            Answer::Watch(_) => panic!("a watch"),
        }
    }

    /// The body of an answer that must be good.
    pub(crate) fn good(&mut self, method: &str, path: &str, body: Value) -> Arc<Value> {
        let reply = self.ask(method, path, body);
        assert!(reply.code < 300, "{method} {path}: {}", reply.body);
        reply.body
    }

    /// Code and message of a refusal.
    pub(crate) fn refused(&mut self, method: &str, path: &str, body: Value) -> (u16, String) {
        let reply = self.ask(method, path, body);
        let message = reply.body["message"].as_str().unwrap_or_default();
        (reply.code, message.to_owned())
    }

    pub(crate) fn watch(&mut self, path: &str) -> Watch {
        match self.handle(&request("GET", path, &Value::Null)) {
            Answer::Watch(watch) => watch,
            Answer::Whole(reply) => panic!("no watch: {}", reply.body),
        }
    }
}

impl Watch {
    /// What is new: kind, name, resourceVersion.
    pub(crate) fn seen(&mut self, server: &ApiServer) -> Vec<String> {
        let lines = self.poll(server, server.revision());
        let said = lines.iter().map(|line| {
            let event: Value = serde_json::from_slice(&line.json).unwrap();
            let revision = event["object"]["metadata"]["resourceVersion"].clone();
            format!("{} {} {}", line.kind, line.name, revision.as_str().unwrap_or("-"))
        });
        said.collect()
    }
}

pub(crate) fn ticket(name: &str) -> Value {
    json!({
        "apiVersion": "core.korder.dev/v1alpha1",
        "kind": "Ticket",
        "metadata": { "name": name },
        "spec": { "nodeName": "n1", "nodeUID": "u1", "sequence": 0, "templateHash": "h" },
    })
}

pub(crate) fn pod(name: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": name },
        "spec": { "automountServiceAccountToken": false, "containers": [{ "name": "c", "image": "pause:1" }] },
    })
}
