//! What the server says it has: versions, groups, resources. Enough for kubectl, in the form before aggregation.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{
    ApiServer,
    kind::{Kind, Rules},
};

impl ApiServer {
    /// The document at a path, if there is one.
    pub(crate) fn document(&self, path: &str) -> Option<Value> {
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        match parts.as_slice() {
            ["healthz" | "livez" | "readyz", ..] => Some(json!("ok")),
            ["version"] => Some(version()),
            ["api"] => Some(json!({
                "kind": "APIVersions",
                "versions": ["v1"],
                "serverAddressByClientCIDRs": [{ "clientCIDR": "0.0.0.0/0", "serverAddress": "127.0.0.1:443" }],
            })),
            ["apis"] => Some(json!({
                "kind": "APIGroupList",
                "apiVersion": "v1",
                "groups": self.groups().iter().map(|(group, version)| described(group, version)).collect::<Vec<_>>(),
            })),
            ["openapi", "v3"] => {
                let linked = |path: &String| json!({ "serverRelativeURL": format!("/openapi/v3/{path}") });
                let documents = self.open_api();
                let paths: BTreeMap<_, _> = documents.keys().map(|path| (path, linked(path))).collect();
                Some(json!({ "paths": paths }))
            }
            ["openapi", "v3", rest @ ..] => self.open_api().remove(&rest.join("/")),
            ["apis", group] => {
                let version = self.groups().remove(*group)?;
                let mut described = described(group, &version);
                described["kind"] = json!("APIGroup");
                described["apiVersion"] = json!("v1");
                Some(described)
            }
            ["api", "v1"] => Some(self.resources("", "v1")),
            ["apis", group, version] if self.groups().get(*group).is_some_and(|known| known == version) => {
                Some(self.resources(group, version))
            }
            _ => None,
        }
    }

    /// Named groups and their version.
    fn groups(&self) -> BTreeMap<String, String> {
        let named = self.kinds.values().filter(|kind| !kind.group.is_empty());
        let mut groups: BTreeMap<String, String> = named
            .map(|kind| (kind.group.clone(), kind.version.clone()))
            .collect();
        groups.insert("events.k8s.io".to_owned(), "v1".to_owned());
        groups
    }

    /// A document for each version of a group: what `kubectl` asks for before it leaves the check of fields to the
    /// server, and what custom resources look like, for `kubectl explain`. No more.
    fn open_api(&self) -> BTreeMap<String, Value> {
        let mut documents = BTreeMap::new();
        for kind in self.kinds.values() {
            let Kind { group, version, .. } = &**kind;
            let path = match group.as_str() {
                "" => format!("api/{version}"),
                group => format!("apis/{group}/{version}"),
            };
            let gvk = json!({ "group": group, "version": version, "kind": kind.kind });
            let document = documents.entry(path.clone()).or_insert_with(|| {
                let info = json!({ "title": "testbed", "version": VERSION });
                json!({ "openapi": "3.0.0", "info": info, "paths": {}, "components": { "schemas": {} } })
            });
            document["paths"][format!("/{path}/{}/{{name}}", kind.plural)]["patch"] = json!({
                "parameters": [{ "name": "fieldValidation", "in": "query", "schema": { "type": "string" } }],
                "responses": {},
                "x-kubernetes-group-version-kind": gvk,
            });
            if let Some(custom) = kind.custom() {
                let mut schema = custom.published.clone();
                schema["x-kubernetes-group-version-kind"] = json!([gvk]);
                document["components"]["schemas"][&kind.kind] = schema;
            }
        }
        documents
    }

    fn resources(&self, group: &str, version: &str) -> Value {
        let mut resources = Vec::new();
        for kind in self.kinds.values() {
            let events = group == "events.k8s.io" && matches!(kind.rules, Rules::Event);
            if kind.group == group || events {
                resources.push(resource(kind));
                resources.extend(subresources(kind));
            }
        }
        let group_version = if group.is_empty() {
            version.to_owned()
        } else {
            format!("{group}/{version}")
        };
        let mut list = json!({
            "kind": "APIResourceList",
            "groupVersion": group_version,
            "resources": resources,
        });
        if !group.is_empty() {
            list["apiVersion"] = json!("v1");
        }
        list
    }
}

const VERSION: &str = "v1.37.2";

fn version() -> Value {
    json!({
        "major": "1",
        "minor": "37",
        "emulationMajor": "1",
        "emulationMinor": "37",
        "minCompatibilityMajor": "1",
        "minCompatibilityMinor": "36",
        "gitVersion": VERSION,
        "gitCommit": "$Format:%H$",
        "gitTreeState": "",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "go1.26.8",
        "compiler": "gc",
        "platform": "linux/amd64",
    })
}

fn described(group: &str, version: &str) -> Value {
    let version = json!({ "groupVersion": format!("{group}/{version}"), "version": version });
    json!({ "name": group, "versions": [version], "preferredVersion": version })
}

fn resource(kind: &Kind) -> Value {
    let mut verbs = vec![
        "create",
        "delete",
        "deletecollection",
        "get",
        "list",
        "patch",
        "update",
        "watch",
    ];
    if matches!(kind.rules, Rules::Namespace) {
        verbs.retain(|verb| *verb != "deletecollection");
    }
    let mut resource = json!({
        "name": *kind.plural,
        "singularName": kind.singular,
        "namespaced": kind.namespaced,
        "kind": kind.kind,
        "verbs": verbs,
    });
    if !kind.short_names.is_empty() {
        resource["shortNames"] = json!(kind.short_names);
    }
    if !kind.categories.is_empty() {
        resource["categories"] = json!(kind.categories);
    }
    resource
}

fn subresources(kind: &Kind) -> Vec<Value> {
    let sub = |name: &str, shown: &str, verbs: &[&str]| {
        json!({
            "name": format!("{}/{name}", kind.plural),
            "singularName": "",
            "namespaced": kind.namespaced,
            "kind": shown,
            "verbs": verbs,
        })
    };
    let mut all = Vec::new();
    if matches!(kind.rules, Rules::Pod) {
        all.push(sub("binding", "Binding", &["create"]));
    }
    if matches!(kind.rules, Rules::Namespace) {
        all.push(sub("finalize", &kind.kind, &["update"]));
    }
    if kind.has_status() {
        all.push(sub("status", &kind.kind, &["get", "patch", "update"]));
    }
    all
}
