//! Which nodes an Order's template is for, by kube-scheduler's rules, on plain objects: the reading of all judges.
//! Shares no code with the controller under test, and knows neither windows nor graces.

use serde_json::Value;

use crate::object::{at, condition, items, text};

/// The taint that stands for a Ready condition of False.
pub const NOT_READY: &str = "node.kubernetes.io/not-ready";
/// The taint that stands for a Ready condition of Unknown.
pub const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
/// The taint of a cordoned node.
pub const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

/// What speaks against a node.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault<'a> {
    /// Its condition Ready is not True.
    NotReady,
    /// It is cordoned.
    Unschedulable,
    /// It lacks a label of `nodeSelector`.
    NodeSelector,
    /// No term of the required node affinity matches it.
    NodeAffinity,
    /// Nothing tolerates this taint.
    Untolerated(&'a Value),
    /// This taint evicts after so many seconds.
    ForAWhile(&'a Value, i64),
}

impl Fault<'_> {
    /// As korder calls it.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotReady => "NotReady",
            Self::Unschedulable => "Unschedulable",
            Self::NodeSelector => "NodeSelectorMismatch",
            Self::NodeAffinity => "NodeAffinityMismatch",
            Self::Untolerated(_) => "UntoleratedTaint",
            Self::ForAWhile(..) => "ToleratedForAWhile",
        }
    }
}

/// All that speaks against a node for a template with this `spec`, in the order of the rules.
pub fn faults<'a>(spec: &Value, node: &'a Value) -> Vec<Fault<'a>> {
    let cordoned = at(node, "/spec/unschedulable") == Some(&Value::Bool(true));
    let rules = [
        (ready(node), Fault::NotReady),
        (!cordoned, Fault::Unschedulable),
        (paired(node, spec), Fault::NodeSelector),
        (affine(node, spec), Fault::NodeAffinity),
    ];
    let broken = rules
        .into_iter()
        .filter(|(holds, _)| !holds)
        .map(|(_, fault)| fault);
    let tolerations = items(spec, "/tolerations");
    // The first two rules stand for these.
    let others =
        taints(node).filter(|taint| ![NOT_READY, UNREACHABLE, UNSCHEDULABLE].contains(&text(taint, "/key")));
    let tainted = others.filter_map(|taint| match tolerates(tolerations, taint) {
        None => Some(Fault::Untolerated(taint)),
        Some(toleration) if text(taint, "/effect") == "NoExecute" => {
            let seconds = toleration.get("tolerationSeconds").and_then(Value::as_i64)?;
            Some(Fault::ForAWhile(taint, seconds))
        }
        Some(_) => None,
    });
    broken.chain(tainted).collect()
}

/// Why a node is not eligible, in korder's word: of several the first that acts at once. None if it is.
pub fn why_not(spec: &Value, node: &Value) -> Option<&'static str> {
    let faults = faults(spec, node);
    let first = faults
        .iter()
        .min_by_key(|fault| matches!(fault, Fault::ForAWhile(..)));
    first.map(Fault::reason)
}

/// Whether the node's Ready condition is True.
pub fn ready(node: &Value) -> bool {
    condition(node, "Ready").is_some_and(|ready| text(ready, "/status") == "True")
}

/// Whether node selector and required node affinity under `spec` match the node.
pub fn selected(node: &Value, spec: &Value) -> bool {
    paired(node, spec) && affine(node, spec)
}

fn label<'a>(node: &'a Value, key: &str) -> Option<&'a str> {
    at(node, "/metadata/labels")?.get(key)?.as_str()
}

fn paired(node: &Value, spec: &Value) -> bool {
    let pairs = at(spec, "/nodeSelector").and_then(Value::as_object);
    pairs
        .into_iter()
        .flatten()
        .all(|(key, value)| label(node, key) == Some(value.as_str().unwrap_or_default()))
}

fn affine(node: &Value, spec: &Value) -> bool {
    let required = "/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution";
    let Some(required) = at(spec, required).filter(|required| !required.is_null()) else {
        return true;
    };
    let term = |term: &Value| {
        let (labels, fields) = (items(term, "/matchExpressions"), items(term, "/matchFields"));
        let named = |_: &str| Some(text(node, "/metadata/name"));
        !(labels.is_empty() && fields.is_empty())
            && labels
                .iter()
                .all(|expression| matches(expression, |key| label(node, key)))
            && fields.iter().all(|expression| matches(expression, named))
    };
    items(required, "/nodeSelectorTerms").iter().any(term)
}

fn matches<'a>(expression: &Value, of: impl Fn(&str) -> Option<&'a str>) -> bool {
    let value = of(text(expression, "/key"));
    let values = items(expression, "/values");
    let listed = value.is_some_and(|value| values.iter().any(|one| one.as_str() == Some(value)));
    let number = |text: Option<&str>| text.and_then(|text| text.parse::<i64>().ok());
    let compare = || number(value).zip(number(values.first().and_then(Value::as_str)));
    match text(expression, "/operator") {
        "In" => listed,
        "NotIn" => !listed,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compare().is_some_and(|(value, bound)| value > bound),
        "Lt" => compare().is_some_and(|(value, bound)| value < bound),
        operator => panic!("kube-scheduler does not know the operator {operator:?}"),
    }
}

/// The taints of a node that keep Pods away.
pub fn taints(node: &Value) -> impl Iterator<Item = &Value> {
    let keeps = |taint: &&Value| matches!(text(taint, "/effect"), "NoSchedule" | "NoExecute");
    items(node, "/spec/taints").iter().filter(keeps)
}

/// The first of the tolerations that tolerates the taint.
pub fn tolerates<'a>(tolerations: &'a [Value], taint: &Value) -> Option<&'a Value> {
    tolerations.iter().find(|toleration| {
        let (key, effect) = (text(toleration, "/key"), text(toleration, "/effect"));
        let keyed = key.is_empty() || key == text(taint, "/key");
        let effective = effect.is_empty() || effect == text(taint, "/effect");
        let valued = match text(toleration, "/operator") {
            "Exists" => true,
            "" | "Equal" => !key.is_empty() && text(toleration, "/value") == text(taint, "/value"),
            operator => panic!("kube-scheduler does not know the operator {operator:?}"),
        };
        keyed && effective && valued
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A Ready node, with the fields of `other` beside.
    fn node(other: &Value) -> Value {
        let mut node = json!({
            "metadata": { "name": "n1", "labels": { "os": "linux", "zone": "a", "cores": "8", "empty": "" } },
            "spec": {},
            "status": { "conditions": [
                { "type": "MemoryPressure", "status": "False" },
                { "type": "Ready", "status": "True" },
            ] },
        });
        for (field, value) in other.as_object().into_iter().flatten() {
            node["spec"][field] = value.clone();
        }
        node
    }

    #[test]
    fn node_selectors_and_affinities_match_as_in_kube_scheduler() {
        let (selector, affinity) = (Some("NodeSelectorMismatch"), Some("NodeAffinityMismatch"));
        let on = |expression: Value| json!([{ "matchExpressions": [expression] }]);
        let named = |operator: &str, name: &str| json!([{ "matchFields": [{ "key": "metadata.name", "operator": operator, "values": [name] }] }]);
        let terms: Vec<(Value, Option<&str>)> = vec![
            (
                on(json!({ "key": "os", "operator": "In", "values": ["windows", "linux"] })),
                None,
            ),
            (
                on(json!({ "key": "os", "operator": "In", "values": ["windows"] })),
                affinity,
            ),
            (
                on(json!({ "key": "gpu", "operator": "In", "values": [""] })),
                affinity,
            ),
            (
                on(json!({ "key": "os", "operator": "NotIn", "values": ["linux"] })),
                affinity,
            ),
            (
                on(json!({ "key": "gpu", "operator": "NotIn", "values": ["k80"] })),
                None,
            ),
            (on(json!({ "key": "empty", "operator": "Exists" })), None),
            (on(json!({ "key": "gpu", "operator": "Exists" })), affinity),
            (on(json!({ "key": "gpu", "operator": "DoesNotExist" })), None),
            (on(json!({ "key": "os", "operator": "DoesNotExist" })), affinity),
            (
                on(json!({ "key": "cores", "operator": "Gt", "values": ["7"] })),
                None,
            ),
            (
                on(json!({ "key": "cores", "operator": "Gt", "values": ["8"] })),
                affinity,
            ),
            (
                on(json!({ "key": "cores", "operator": "Lt", "values": ["9"] })),
                None,
            ),
            (
                on(json!({ "key": "os", "operator": "Lt", "values": ["9"] })),
                affinity,
            ),
            (
                on(json!({ "key": "gpu", "operator": "Lt", "values": ["9"] })),
                affinity,
            ),
            (named("In", "n1"), None),
            (named("In", "n2"), affinity),
            (named("NotIn", "n1"), affinity),
            // Terms are alternatives, expressions and fields of one are not; an empty one matches nothing.
            (json!([]), affinity),
            (json!([{}]), affinity),
            (
                json!([{}, { "matchExpressions": [{ "key": "os", "operator": "Exists" }] }]),
                None,
            ),
            (
                json!([{ "matchExpressions": [
                    { "key": "os", "operator": "Exists" },
                    { "key": "gpu", "operator": "Exists" },
                ] }]),
                affinity,
            ),
            (
                json!([{
                    "matchExpressions": [{ "key": "os", "operator": "Exists" }],
                    "matchFields": [{ "key": "metadata.name", "operator": "In", "values": ["n2"] }],
                }]),
                affinity,
            ),
        ];
        for (terms, why) in terms {
            let required =
                json!({ "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": terms } });
            let spec = json!({ "affinity": { "nodeAffinity": required } });
            assert_eq!(why_not(&spec, &node(&json!({}))), why, "{spec}");
        }
        let pairs = [
            (json!(null), None),
            (json!({}), None),
            (json!({ "os": "linux", "zone": "a" }), None),
            (json!({ "os": "linux", "zone": "b" }), selector),
            (json!({ "gpu": "" }), selector),
            (json!({ "empty": "" }), None),
            (json!({ "empty": null }), None),
        ];
        for (pairs, why) in pairs {
            let spec = json!({ "nodeSelector": pairs });
            assert_eq!(why_not(&spec, &node(&json!({}))), why, "{spec}");
        }
    }

    #[test]
    fn taints_are_tolerated_as_in_kube_scheduler() {
        let (untolerated, while_) = (Some("UntoleratedTaint"), Some("ToleratedForAWhile"));
        let (schedule, execute) = (
            json!({ "key": "a", "value": "v", "effect": "NoSchedule" }),
            json!({ "key": "a", "value": "v", "effect": "NoExecute" }),
        );
        let cases = [
            (json!([]), &schedule, untolerated),
            (json!([{ "key": "a", "operator": "Exists" }]), &schedule, None),
            (
                json!([{ "key": "a", "operator": "Exists", "effect": "NoSchedule" }]),
                &schedule,
                None,
            ),
            (
                json!([{ "key": "a", "operator": "Exists", "effect": "NoExecute" }]),
                &schedule,
                untolerated,
            ),
            (
                json!([{ "key": "b", "operator": "Exists" }]),
                &schedule,
                untolerated,
            ),
            (json!([{ "operator": "Exists" }]), &schedule, None),
            (
                json!([{ "operator": "Exists", "effect": "NoExecute" }]),
                &schedule,
                untolerated,
            ),
            (
                json!([{ "key": "a", "operator": "Equal", "value": "v" }]),
                &schedule,
                None,
            ),
            (json!([{ "key": "a", "value": "v" }]), &schedule, None),
            (json!([{ "key": "a", "value": "w" }]), &schedule, untolerated),
            (json!([{ "key": "a" }]), &schedule, untolerated),
            (json!([{ "value": "v" }]), &schedule, untolerated),
            (json!([{ "key": "a", "operator": "Exists" }]), &execute, None),
            (
                json!([{ "key": "a", "operator": "Exists", "tolerationSeconds": 8 }]),
                &execute,
                while_,
            ),
            (
                json!([{ "key": "a", "operator": "Exists", "tolerationSeconds": 0 }]),
                &execute,
                while_,
            ),
            (
                json!([{ "key": "a", "operator": "Exists", "tolerationSeconds": 8 }]),
                &schedule,
                None,
            ),
            // The first that tolerates decides.
            (
                json!([{ "operator": "Exists" }, { "key": "a", "operator": "Exists", "tolerationSeconds": 8 }]),
                &execute,
                None,
            ),
        ];
        for (tolerations, taint, why) in cases {
            let spec = json!({ "tolerations": tolerations });
            let node = node(&json!({ "taints": [taint] }));
            assert_eq!(why_not(&spec, &node), why, "{tolerations} {taint}");
        }
        let ignored = [
            json!({ "key": "a", "effect": "PreferNoSchedule" }),
            json!({ "key": NOT_READY, "effect": "NoExecute" }),
            json!({ "key": UNREACHABLE, "effect": "NoSchedule" }),
            json!({ "key": UNSCHEDULABLE, "effect": "NoSchedule" }),
        ];
        let tainted = node(&json!({ "taints": ignored }));
        assert_eq!(why_not(&json!({}), &tainted), None);
    }

    #[test]
    fn the_first_reason_that_acts_at_once_is_told() {
        let bare = json!({ "metadata": { "name": "n1" } });
        assert_eq!(why_not(&json!({}), &bare), Some("NotReady"));
        let cordoned = node(&json!({ "unschedulable": true }));
        assert_eq!(
            why_not(&json!({ "nodeSelector": { "a": "b" } }), &cordoned),
            Some("Unschedulable")
        );
        let taints = json!([
            { "key": "a", "effect": "NoExecute" },
            { "key": "b", "effect": "NoExecute" },
        ]);
        let spec = json!({ "tolerations": [{ "key": "a", "operator": "Exists", "tolerationSeconds": 8 }] });
        let node = node(&json!({ "taints": taints }));
        assert_eq!(why_not(&spec, &node), Some("UntoleratedTaint"));
        let found: Vec<&str> = faults(&spec, &node).iter().map(Fault::reason).collect();
        assert_eq!(found, ["ToleratedForAWhile", "UntoleratedTaint"]);
    }
}
