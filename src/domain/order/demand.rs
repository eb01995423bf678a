//! What a Ticket or a template asks for, short enough to be kept for every Ticket: enough to tell whether
//! one asks for the same as another and tolerates more.

use std::fmt::Write;

use k8s_openapi::api::core::v1::Toleration;

use crate::api::order::Resources;
use crate::domain::values::{hash::fnv1a64, quantity::Amount};

/// Hashes of what is asked for, each toleration for itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Demand {
    rest: u64,
    tolerations: Box<[u64]>,
}

impl Demand {
    /// The demand of a template's or a Ticket's fields, however they are written.
    pub(crate) fn of(
        resources: Option<&Resources>,
        priority_class_name: Option<&str>,
        scheduler_name: Option<&str>,
        tolerations: &[Toleration],
    ) -> Self {
        let mut rest = format!("{priority_class_name:?} {scheduler_name:?}");
        for list in resources.into_iter().flat_map(|all| [&all.requests, &all.limits]) {
            rest.push('|');
            for (name, amount) in list {
                let amount = Amount::parse(&amount.0).unwrap_or_default().nanos();
                write!(rest, "{name}={amount} ").expect("a String takes all");
            }
        }
        Self {
            rest: fnv1a64(rest.as_bytes()),
            tolerations: tolerations.iter().map(hash).collect(),
        }
    }

    /// Whether `wider` differs in added tolerations at most: those may be added to a Pod that runs.
    pub(crate) fn grows_into(&self, wider: &Self) -> bool {
        let kept = |toleration: &u64| wider.tolerations.contains(toleration);
        self.rest == wider.rest && self.tolerations.iter().all(kept)
    }
}

fn hash(toleration: &Toleration) -> u64 {
    let Toleration {
        key,
        operator,
        value,
        effect,
        toleration_seconds,
    } = toleration;
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let operator = operator.as_deref().filter(|operator| !operator.is_empty());
    let all = (
        text(key),
        operator.unwrap_or("Equal"),
        text(value),
        text(effect),
        toleration_seconds,
    );
    fnv1a64(format!("{all:?}").as_bytes())
}

/// The tolerations of a Pod with those of a template added; one that differs in its seconds alone gets
/// those of the template.
pub(crate) fn joined(present: &[Toleration], added: &[Toleration]) -> Vec<Toleration> {
    let timeless = |toleration: &Toleration| {
        hash(&Toleration {
            toleration_seconds: None,
            ..toleration.clone()
        })
    };
    let mut all = present.to_vec();
    for toleration in added {
        match all
            .iter_mut()
            .find(|known| timeless(known) == timeless(toleration))
        {
            Some(known) => known.toleration_seconds = toleration.toleration_seconds,
            None => all.push(toleration.clone()),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn demand(cpu: &str, tolerations: Value) -> Demand {
        let resources = serde_json::from_value(json!({ "requests": { "cpu": cpu } })).unwrap();
        Demand::of(Some(&resources), None, None, &list(tolerations))
    }

    fn list(tolerations: Value) -> Vec<Toleration> {
        serde_json::from_value(tolerations).unwrap()
    }

    #[test]
    fn only_added_tolerations_let_one_grow_into_another() {
        let (a, b) = (
            json!({ "key": "a", "operator": "Exists" }),
            json!({ "key": "b", "value": "v", "tolerationSeconds": 5 }),
        );
        let before = demand("1", json!([a]));
        for (after, expected) in [
            (demand("1000m", json!([a])), true),
            (demand("1", json!([b, a])), true),
            (demand("2", json!([a, b])), false),
            (demand("1", json!([b])), false),
            (demand("1", json!([])), false),
            (
                demand(
                    "1",
                    json!([{ "key": "a", "operator": "Exists", "tolerationSeconds": 5 }]),
                ),
                false,
            ),
        ] {
            assert_eq!(before.grows_into(&after), expected, "{after:?}");
        }
        assert!(
            demand("1", json!([{ "key": "b" }]))
                .grows_into(&demand("1", json!([{ "key": "b", "operator": "Equal" }])))
        );
        let other = Demand::of(None, Some("high"), None, &[]);
        assert!(!Demand::of(None, None, None, &[]).grows_into(&other));
    }

    #[test]
    fn what_a_pod_tolerates_by_default_gets_the_seconds_of_the_template() {
        let not_ready = |seconds: Value| json!({ "key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds });
        let present = list(json!([{ "key": "a" }, not_ready(json!(300))]));
        let added = list(json!([{ "key": "a" }, { "key": "b" }, not_ready(Value::Null)]));
        let expected = list(json!([{ "key": "a" }, not_ready(Value::Null), { "key": "b" }]));
        assert_eq!(joined(&present, &added), expected);
    }
}
