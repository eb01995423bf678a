//! Whether a Node suits a Pod or a template: labels, fields, taints, by kube-scheduler's rules.

use serde_json::Value;

use super::{at, items, text};

/// Whether node selector and required node affinity under `spec` match the node.
pub fn selected(node: &Value, spec: &Value) -> bool {
    let label = |key: &str| at(node, "/metadata/labels").and_then(|labels| labels.get(key)?.as_str());
    let pairs = at(spec, "/nodeSelector").and_then(Value::as_object);
    let paired = pairs
        .into_iter()
        .flatten()
        .all(|(key, value)| label(key) == Some(value.as_str().unwrap_or_default()));
    let required = "/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution";
    let Some(required) = at(spec, required) else {
        return paired;
    };
    let term = |term: &Value| {
        let (labels, fields) = (items(term, "/matchExpressions"), items(term, "/matchFields"));
        let named = |_: &str| Some(text(node, "/metadata/name"));
        !(labels.is_empty() && fields.is_empty())
            && labels.iter().all(|expression| matches(expression, label))
            && fields.iter().all(|expression| matches(expression, named))
    };
    paired && items(required, "/nodeSelectorTerms").iter().any(term)
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
        operator => panic!("the simulated scheduler does not know the operator {operator:?}"),
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
            operator => panic!("the simulated scheduler does not know the operator {operator:?}"),
        };
        keyed && effective && valued
    })
}

/// The node a Pod is pinned to by `matchFields`, if it is.
pub fn pinned(pod: &Value) -> Option<&str> {
    let terms =
        "/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms";
    match items(pod, terms) {
        [term] => match items(term, "/matchFields") {
            [field] if text(field, "/operator") == "In" => at(field, "/values/0")?.as_str(),
            _ => None,
        },
        _ => None,
    }
}

/// Whether the node's Ready condition is True.
pub fn ready(node: &Value) -> bool {
    condition(node, "Ready").is_some_and(|ready| text(ready, "/status") == "True")
}

/// A condition of an object's status.
pub fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    items(object, "/status/conditions")
        .iter()
        .find(|condition| text(condition, "/type") == kind)
}
