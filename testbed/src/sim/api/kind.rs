//! What is known of a resource: names, scope, subresources, and which rules its objects follow.

use std::sync::Arc;

use serde_json::Value;

use super::{schema::Schema, table::Column};

/// One resource.
#[derive(Debug)]
pub(crate) struct Kind {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) kind: String,
    pub(crate) plural: Arc<str>,
    pub(crate) singular: String,
    pub(crate) short_names: Vec<String>,
    pub(crate) categories: Vec<String>,
    pub(crate) namespaced: bool,
    pub(crate) rules: Rules,
}

/// The rules that objects of a kind follow.
#[derive(Debug)]
pub(crate) enum Rules {
    Node,
    Pod,
    Lease,
    Event,
    Namespace,
    PriorityClass,
    Custom(Box<Custom>),
}

/// What a CustomResourceDefinition says.
#[derive(Debug)]
pub(crate) struct Custom {
    pub(crate) schema: Schema,
    /// The schema as OpenAPI, with descriptions.
    pub(crate) published: Value,
    pub(crate) columns: Vec<Column>,
    /// Field selectors, without the leading dot.
    pub(crate) selectable: Vec<String>,
    pub(crate) status: bool,
}

impl Kind {
    fn built_in(api: (&str, &str), kind: &str, plural: &str, short: &[&str], rules: Rules) -> Arc<Self> {
        let namespaced = matches!(rules, Rules::Pod | Rules::Lease | Rules::Event);
        let categories = if matches!(rules, Rules::Pod) {
            vec!["all".to_owned()]
        } else {
            Vec::new()
        };
        Arc::new(Self {
            group: api.0.to_owned(),
            version: api.1.to_owned(),
            kind: kind.to_owned(),
            plural: plural.into(),
            singular: kind.to_lowercase(),
            short_names: short.iter().map(|name| (*name).to_owned()).collect(),
            categories,
            namespaced,
            rules,
        })
    }

    /// The resources that every server has.
    pub(crate) fn all_built_in() -> Vec<Arc<Self>> {
        let leases = ("coordination.k8s.io", "v1");
        let scheduling = ("scheduling.k8s.io", "v1");
        vec![
            Self::built_in(("", "v1"), "Node", "nodes", &["no"], Rules::Node),
            Self::built_in(("", "v1"), "Pod", "pods", &["po"], Rules::Pod),
            Self::built_in(("", "v1"), "Namespace", "namespaces", &["ns"], Rules::Namespace),
            Self::built_in(leases, "Lease", "leases", &[], Rules::Lease),
            Self::built_in(
                scheduling,
                "PriorityClass",
                "priorityclasses",
                &["pc"],
                Rules::PriorityClass,
            ),
            // Served as core/v1 and events.k8s.io/v1; upstream's errors name the former.
            Self::built_in(("", "v1"), "Event", "events", &["ev"], Rules::Event),
        ]
    }

    /// Reads a CustomResourceDefinition.
    ///
    /// # Panics
    /// On whatever it says that is not simulated.
    pub(crate) fn of_crd(crd: &Value) -> Arc<Self> {
        let spec = &crd["spec"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let texts = |value: &Value| {
            value
                .as_array()
                .into_iter()
                .flatten()
                .map(text)
                .collect::<Vec<_>>()
        };
        let versions = spec["versions"].as_array().expect("a CRD has versions");
        assert_eq!(
            versions.len(),
            1,
            "testbed: a CRD with several versions is not simulated"
        );
        let version = &versions[0];
        let known = ["status"];
        for (name, _) in version["subresources"].as_object().into_iter().flatten() {
            assert!(
                known.contains(&name.as_str()),
                "testbed: subresource {name} is not simulated"
            );
        }
        let names = &spec["names"];
        let schema = Schema::compile(&version["schema"]["openAPIV3Schema"]);
        Arc::new(Self {
            group: text(&spec["group"]),
            version: text(&version["name"]),
            kind: text(&names["kind"]),
            plural: text(&names["plural"]).into(),
            singular: text(&names["singular"]),
            short_names: texts(&names["shortNames"]),
            categories: texts(&names["categories"]),
            namespaced: spec["scope"] == "Namespaced",
            rules: Rules::Custom(Box::new(Custom {
                schema,
                published: version["schema"]["openAPIV3Schema"].clone(),
                columns: Column::of_crd(&version["additionalPrinterColumns"]),
                selectable: version["selectableFields"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .map(|field| text(&field["jsonPath"]).trim_start_matches('.').to_owned())
                    .collect(),
                status: !version["subresources"]["status"].is_null(),
            })),
        })
    }

    pub(crate) fn custom(&self) -> Option<&Custom> {
        match &self.rules {
            Rules::Custom(custom) => Some(custom),
            _ => None,
        }
    }

    /// The one that objects are stored in.
    pub(crate) fn api_version(&self) -> String {
        if matches!(self.rules, Rules::Event) {
            "events.k8s.io/v1".to_owned()
        } else if self.group.is_empty() {
            self.version.clone()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// Such as `tickets.core.korder.dev` and `pods`.
    pub(crate) fn resource_name(&self) -> String {
        if self.group.is_empty() {
            self.plural.to_string()
        } else {
            format!("{}.{}", self.plural, self.group)
        }
    }

    /// Such as `Ticket.core.korder.dev` and `Pod`.
    pub(crate) fn kind_name(&self) -> String {
        if self.group.is_empty() {
            self.kind.clone()
        } else {
            format!("{}.{}", self.kind, self.group)
        }
    }

    /// Where upstream keeps it in etcd.
    pub(crate) fn registry_prefix(&self) -> String {
        match &self.rules {
            Rules::Node => "minions".to_owned(),
            Rules::Custom(_) => format!("{}/{}", self.group, self.plural),
            _ => self.plural.to_string(),
        }
    }

    /// Whether it has the subresource `status`.
    pub(crate) fn has_status(&self) -> bool {
        match &self.rules {
            Rules::Node | Rules::Pod | Rules::Namespace => true,
            Rules::Custom(custom) => custom.status,
            _ => false,
        }
    }

    /// Whether a PUT of an object that does not exist creates it.
    pub(crate) fn creates_on_update(&self) -> bool {
        matches!(self.rules, Rules::Lease | Rules::Event | Rules::PriorityClass)
    }

    /// Whether an update may leave the resourceVersion out.
    pub(crate) fn updates_unconditionally(&self) -> bool {
        matches!(
            self.rules,
            Rules::Node | Rules::Pod | Rules::Namespace | Rules::Event | Rules::PriorityClass
        )
    }
}
