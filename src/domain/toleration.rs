//! Which taints an Order tolerates, by kube-scheduler's rules (`Toleration.ToleratesTaint`).
//!
//! The numeric operators `Gt` and `Lt` are refused: their feature gate
//! `TaintTolerationComparisonOperators` is alpha and off by default in Kubernetes 1.35 to 1.37.

use std::sync::Arc;

use k8s_openapi::api::core::v1 as core;

use super::{
    invalid::Invalid,
    node::{Effect, Taint},
    syntax,
};

/// A toleration.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Toleration {
    /// The taint's key; empty: any.
    pub key: Arc<str>,
    /// How the taint's value is compared.
    pub operator: Operator,
    /// What it is compared with, empty for `Exists`.
    pub value: Arc<str>,
    /// The taint's effect; `None`: any.
    pub effect: Option<Effect>,
    /// How long a NoExecute taint is tolerated, in seconds; `None`: for ever.
    pub seconds: Option<i64>,
}

/// How a taint's value is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operator {
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
    pub fn compile(path: &str, toleration: &core::Toleration) -> Result<Self, Vec<Invalid>> {
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
    pub fn tolerates(&self, taint: &Taint) -> bool {
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
