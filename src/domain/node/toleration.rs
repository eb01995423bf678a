//! Which taints an Order tolerates, by kube-scheduler's rules (`Toleration.ToleratesTaint`).
//!
//! The numeric operators `Gt` and `Lt` are refused: their feature gate
//! `TaintTolerationComparisonOperators` is alpha and off by default in Kubernetes 1.35 to 1.37.

use std::sync::Arc;

use k8s_openapi::api::core::v1 as core;

use super::record::{Effect, Taint};
use crate::domain::values::{invalid::Invalid, syntax};

/// A toleration.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Toleration {
    /// The taint's key; empty: any.
    pub(crate) key: Arc<str>,
    /// How the taint's value is compared.
    pub(crate) operator: Operator,
    /// What it is compared with, empty for `Exists`.
    pub(crate) value: Arc<str>,
    /// The taint's effect; `None`: any.
    pub(crate) effect: Option<Effect>,
    /// How long a NoExecute taint is tolerated, in seconds; `None`: for ever.
    pub(crate) seconds: Option<i64>,
}

/// How a taint's value is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Operator {
    /// The values are equal.
    Equal,
    /// Any value will do.
    Exists,
}

impl Toleration {
    /// Compiles a Pod's toleration; `path` is its field.
    ///
    /// # Errors
    /// Everything the API server would refuse in a Pod.
    pub(crate) fn compile(path: &str, toleration: &core::Toleration) -> Result<Self, Vec<Invalid>> {
        let text = |field: &Option<String>| Arc::<str>::from(field.as_deref().unwrap_or_default());
        let mut problems = Vec::new();
        let compiled = Self {
            key: text(&toleration.key),
            operator: compile_operator(&mut problems, path, toleration.operator.as_deref()),
            value: text(&toleration.value),
            effect: compile_effect(&mut problems, path, toleration.effect.as_deref()),
            seconds: toleration.toleration_seconds,
        };
        if problems.is_empty() {
            compiled.check(&mut problems, path);
        }
        if problems.is_empty() {
            Ok(compiled)
        } else {
            Err(problems)
        }
    }

    /// Whether the taint is tolerated, for a while at least.
    pub(crate) fn tolerates(&self, taint: &Taint) -> bool {
        self.effect.is_none_or(|effect| effect == taint.effect)
            && (self.key.is_empty() || self.key == taint.key)
            && match self.operator {
                Operator::Equal => self.value == taint.value,
                Operator::Exists => true,
            }
    }

    /// As `ValidateTolerations`.
    fn check(&self, problems: &mut Vec<Invalid>, path: &str) {
        let mut wrong = |field: &str, problem: String, remedy: &str| {
            problems.push(Invalid::new(format!("{path}.{field}"), problem, remedy));
        };
        let (key, value) = (&*self.key, &*self.value);
        if key.is_empty() && self.operator == Operator::Equal {
            wrong(
                "key",
                "is empty".to_owned(),
                "name a key, or use operator Exists to tolerate every taint",
            );
        }
        if let Some(problem) = syntax::label_key(key).filter(|_| !key.is_empty()) {
            wrong("key", format!("{key:?} {problem}"), syntax::LABEL_KEY_REMEDY);
        }
        if self.operator == Operator::Exists && !value.is_empty() {
            wrong(
                "value",
                format!("{value:?} with operator Exists"),
                "leave the value out, or use operator Equal",
            );
        }
        if let Some(problem) = syntax::label_value(value).filter(|_| self.operator == Operator::Equal) {
            wrong(
                "value",
                format!("{value:?} {problem}"),
                syntax::LABEL_VALUE_REMEDY,
            );
        }
        if self.seconds.is_some() && self.effect != Some(Effect::NoExecute) {
            wrong(
                "tolerationSeconds",
                "is set for an effect other than NoExecute".to_owned(),
                "set effect: NoExecute, or leave the seconds out",
            );
        }
    }
}

fn compile_operator(problems: &mut Vec<Invalid>, path: &str, text: Option<&str>) -> Operator {
    let remedy = match text {
        None | Some("" | "Equal") => return Operator::Equal,
        Some("Exists") => return Operator::Exists,
        Some("Gt" | "Lt") => {
            "numeric comparison is an alpha feature of Kubernetes that is off by default: use Equal or Exists"
        }
        Some(_) => "use Equal or Exists",
    };
    let problem = format!("{:?} is not supported", text.unwrap_or_default());
    problems.push(Invalid::new(format!("{path}.operator"), problem, remedy));
    Operator::Equal
}

fn compile_effect(problems: &mut Vec<Invalid>, path: &str, text: Option<&str>) -> Option<Effect> {
    match text {
        None | Some("") => None,
        Some("NoSchedule") => Some(Effect::NoSchedule),
        Some("PreferNoSchedule") => Some(Effect::PreferNoSchedule),
        Some("NoExecute") => Some(Effect::NoExecute),
        Some(other) => {
            let problem = format!("{other:?} is not an effect");
            let remedy = "use NoSchedule, PreferNoSchedule or NoExecute, or leave it out for all";
            problems.push(Invalid::new(format!("{path}.effect"), problem, remedy));
            None
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::{option, prelude::*, sample::select};
    use serde_json::{Value, json};

    use super::*;
    use crate::domain::testing::{at, taint_since, toleration};

    #[test]
    fn a_toleration_tolerates_by_key_operator_value_and_effect() {
        let taint = taint_since("dedicated=gpu:NoSchedule", 0);
        for (json, expected) in [
            (json!({ "operator": "Exists" }), true),
            (json!({ "operator": "Exists", "effect": "NoSchedule" }), true),
            (json!({ "operator": "Exists", "effect": "NoExecute" }), false),
            (json!({ "key": "dedicated", "operator": "Exists" }), true),
            (
                json!({ "key": "dedicated", "operator": "Equal", "value": "gpu" }),
                true,
            ),
            (json!({ "key": "dedicated", "value": "gpu" }), true),
            (
                json!({ "key": "dedicated", "operator": "", "value": "gpu", "effect": "" }),
                true,
            ),
            (json!({ "key": "dedicated", "value": "cpu" }), false),
            (json!({ "key": "dedicated" }), false),
            (json!({ "key": "other", "operator": "Exists" }), false),
        ] {
            assert_eq!(toleration(json.clone()).tolerates(&taint), expected, "{json}");
        }
    }

    #[test]
    fn a_taint_without_value_is_tolerated_by_equal_without_value() {
        let taint = taint_since("dedicated:NoSchedule", 0);
        assert!(toleration(json!({ "key": "dedicated" })).tolerates(&taint));
    }

    fn refused(json: Value) -> Vec<String> {
        let parsed: core::Toleration = serde_json::from_value(json).unwrap();
        let problems = Toleration::compile("t[0]", &parsed).unwrap_err();
        problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_a_pod_may_not_have_is_refused() {
        for (json, expected) in [
            (json!({}), "t[0].key: is empty: name a key"),
            (
                json!({ "operator": "Equal", "effect": "NoSchedule" }),
                "t[0].key: is empty: name a key",
            ),
            (
                json!({ "key": "a b", "operator": "Exists" }),
                "t[0].key: \"a b\" has a character other than",
            ),
            (
                json!({ "key": "a", "operator": "Exists", "value": "x" }),
                "t[0].value: \"x\" with operator Exists:",
            ),
            (
                json!({ "key": "a", "value": "x y" }),
                "t[0].value: \"x y\" has a character other than",
            ),
            (
                json!({ "key": "a", "operator": "Gt", "value": "5" }),
                "t[0].operator: \"Gt\" is not supported: numeric",
            ),
            (
                json!({ "key": "a", "operator": "In" }),
                "t[0].operator: \"In\" is not supported: use Equal or Exists",
            ),
            (
                json!({ "key": "a", "effect": "NoRun" }),
                "t[0].effect: \"NoRun\" is not an effect: use NoSchedule",
            ),
            (
                json!({ "key": "a", "operator": "Exists", "effect": "NoSchedule", "tolerationSeconds": 5 }),
                "t[0].tolerationSeconds: is set for an effect other than NoExecute:",
            ),
            (
                json!({ "key": "a", "operator": "Exists", "tolerationSeconds": 5 }),
                "t[0].tolerationSeconds: is set for an effect other than NoExecute:",
            ),
        ] {
            let problems = refused(json);
            assert_eq!(problems.len(), 1, "{problems:?}");
            assert!(problems[0].starts_with(expected), "{problems:?}, not {expected}");
        }
        assert_eq!(
            refused(json!({ "key": "a", "operator": "In", "effect": "NoRun" })).len(),
            2
        );
    }

    const KEYS: [&str; 7] = [
        "a",
        "b",
        "node.kubernetes.io/not-ready",
        "node.kubernetes.io/unreachable",
        "node.kubernetes.io/unschedulable",
        "node.kubernetes.io/memory-pressure",
        "node.kubernetes.io/network-unavailable",
    ];
    const EFFECTS: [Effect; 3] = [Effect::NoSchedule, Effect::PreferNoSchedule, Effect::NoExecute];

    pub(in crate::domain) fn any_toleration() -> impl Strategy<Value = Toleration> {
        let key = prop_oneof![Just(""), select(&KEYS[..])];
        let operator = select(&[Operator::Equal, Operator::Exists][..]);
        let value = select(&["", "x", "y"][..]);
        let seconds = option::of(prop_oneof![-2i64..8, Just(i64::MAX), Just(i64::MIN)]);
        (key, operator, value, option::of(select(&EFFECTS[..])), seconds).prop_map(
            |(key, operator, value, effect, seconds)| Toleration {
                key: key.into(),
                operator,
                value: value.into(),
                effect,
                seconds,
            },
        )
    }

    pub(in crate::domain) fn any_taint() -> impl Strategy<Value = Taint> {
        (
            select(&KEYS[..]),
            select(&["", "x", "y"][..]),
            select(&EFFECTS[..]),
            0i64..8,
        )
            .prop_map(|(key, value, effect, since)| Taint {
                key: key.into(),
                value: value.into(),
                effect,
                since: at(since),
            })
    }

    /// `ToleratesTaint` of `k8s.io/api/core/v1/toleration.go`, line by line over the strings of
    /// the API.
    pub(in crate::domain) fn tolerates_in_go(toleration: &Toleration, taint: &Taint) -> bool {
        let effect = toleration.effect.map_or("", Effect::as_str);
        if !effect.is_empty() && effect != taint.effect.as_str() {
            return false;
        }
        if !toleration.key.is_empty() && toleration.key != taint.key {
            return false;
        }
        match format!("{:?}", toleration.operator).as_str() {
            "" | "Equal" => toleration.value == taint.value,
            "Exists" => true,
            _ => false,
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]

        #[test]
        fn tolerates_agrees_with_upstream(toleration in any_toleration(), taint in any_taint()) {
            prop_assert_eq!(toleration.tolerates(&taint), tolerates_in_go(&toleration, &taint));
        }
    }
}
