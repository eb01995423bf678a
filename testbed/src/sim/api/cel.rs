//! The rules of `x-kubernetes-validations`: which do not hold, and what upstream says then.
//!
//! Source: k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel/validation.go.

use serde_json::Value;

use super::{
    expression::{Expression, Val},
    status::FieldError,
};

/// One rule.
#[derive(Debug)]
pub(crate) struct Rule {
    program: Expression,
    text: String,
    message: String,
    reason: String,
    /// The field that a broken rule names, below the one it stands at.
    field: Vec<String>,
    /// Whether it compares with the old value.
    transition: bool,
}

/// The rules at one place of a schema.
#[derive(Debug, Default)]
pub(crate) struct Rules(Vec<Rule>);

impl FromIterator<Rule> for Rules {
    fn from_iter<T: IntoIterator<Item = Rule>>(rules: T) -> Self {
        Self(rules.into_iter().collect())
    }
}

impl Rules {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A rule that does not hold.
pub(crate) struct Broken<'a> {
    rule: &'a Rule,
    /// Why it could not be judged.
    error: Option<String>,
}

impl Rule {
    /// # Panics
    /// When it does not compile, or says something that is not simulated.
    pub(crate) fn compile(rule: &Value) -> Self {
        let text = |name: &str| rule[name].as_str().unwrap_or_default().to_owned();
        for keyword in rule.as_object().into_iter().flatten().map(|(keyword, _)| keyword) {
            let known = ["rule", "message", "reason", "fieldPath"];
            assert!(
                known.contains(&keyword.as_str()),
                "testbed: {keyword} of a CEL rule is not simulated"
            );
        }
        let source = text("rule");
        let program = Expression::parse(&source);
        Self {
            program: program.unwrap_or_else(|why| panic!("testbed: CEL rule {source:?}: {why}")),
            message: text("message"),
            reason: text("reason"),
            field: text("fieldPath")
                .split('.')
                .filter(|part| !part.is_empty())
                .map(str::to_owned)
                .collect(),
            transition: source.contains("oldSelf"),
            text: source,
        }
    }

    fn said(&self) -> String {
        if self.message.is_empty() {
            format!("failed rule: {}", self.text)
        } else {
            self.message.trim().to_owned()
        }
    }
}

impl Rules {
    /// The rules that do not hold, and the field each names.
    pub(crate) fn broken(&self, value: &Value, old: Option<&Value>) -> Vec<(&[String], Broken<'_>)> {
        let applicable = self.0.iter().filter(|rule| old.is_some() || !rule.transition);
        applicable
            .filter_map(|rule| {
                let error = match rule.program.evaluate(value, old) {
                    Ok(Val::Bool(true)) => return None,
                    Ok(_) => None,
                    Err(why) => Some(why),
                };
                Some((rule.field.as_slice(), Broken { rule, error }))
            })
            .collect()
    }
}

impl Broken<'_> {
    pub(crate) fn error(&self, field: String, value: &Value, omitted: bool) -> FieldError {
        let message = self.rule.said();
        if let Some(why) = &self.error {
            let kind = match value {
                Value::String(_) => "string",
                Value::Object(_) => "object",
                Value::Array(_) => "array",
                Value::Bool(_) => "boolean",
                Value::Number(_) => "integer",
                Value::Null => "null",
            };
            let detail = format!("{why} evaluating rule: {message}");
            return FieldError::invalid(field, &kind.into(), &detail);
        }
        match self.rule.reason.as_str() {
            "FieldValueRequired" => FieldError::required(field, &message),
            "FieldValueForbidden" => FieldError::forbidden(field, &message),
            "FieldValueDuplicate" => FieldError::duplicate(field, value),
            _ if omitted => FieldError::invalid_omitted(field, &message),
            _ => FieldError::invalid(field, value, &message),
        }
    }
}
