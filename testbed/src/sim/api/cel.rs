//! The rules of `x-kubernetes-validations`: CEL over JSON, with Kubernetes' quantity library.
//!
//! Source: k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel/validation.go.

use std::sync::Arc;

use cel::{
    Context, Program, Value as Cel,
    extractors::This,
    objects::{Key, Map, Opaque},
};
use serde_json::Value;

use super::{quantity::Quantity, status::FieldError};

/// One rule.
pub(crate) struct Rule {
    program: Program,
    text: String,
    message: String,
    reason: String,
    /// The field that a broken rule names, below the one it stands at.
    field: Vec<String>,
    /// Whether it compares with the old value.
    transition: bool,
}

impl std::fmt::Debug for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Rule").field(&self.text).finish()
    }
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
        let program = Program::compile(&source);
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
        if self.0.is_empty() {
            return Vec::new();
        }
        let mut context = context();
        context.add_variable_from_value("self", to_cel(value));
        if let Some(old) = old {
            context.add_variable_from_value("oldSelf", to_cel(old));
        }
        let applicable = self.0.iter().filter(|rule| old.is_some() || !rule.transition);
        applicable
            .filter_map(|rule| {
                let error = match rule.program.execute(&context) {
                    Ok(Cel::Bool(true)) => return None,
                    Ok(_) => None,
                    Err(why) => Some(why.to_string()),
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

/// A quantity as a CEL value.
#[derive(Debug, PartialEq, Eq)]
struct Amount(Quantity);

impl Opaque for Amount {
    fn runtime_type_name(&self) -> &str {
        "kubernetes.Quantity"
    }
}

fn context() -> Context<'static, 'static> {
    let mut context = Context::default();
    let added = [
        context.add_function("isQuantity", |text: Arc<String>| Quantity::parse(&text).is_some()),
        context.add_function("quantity", |ftx: &cel::FunctionContext, text: Arc<String>| {
            let quantity = Quantity::parse(&text);
            let quantity = quantity.map(|quantity| Cel::Opaque(Arc::new(Amount(quantity))));
            quantity.ok_or_else(|| ftx.error("quantities must match the regular expression"))
        }),
        context.add_function("compareTo", compare),
    ];
    assert!(added.iter().all(Result::is_ok), "these names are new");
    context
}

fn compare(ftx: &cel::FunctionContext, This(this): This<Cel>, other: Cel) -> cel::ResolveResult {
    match (amount(&this), amount(&other)) {
        (Some(this), Some(other)) => Ok(Cel::Int(this.cmp(&other) as i64)),
        _ => Err(ftx.error("no such overload")),
    }
}

fn amount(value: &Cel) -> Option<Quantity> {
    match value {
        Cel::Opaque(opaque) => opaque.downcast_ref::<Amount>().map(|amount| amount.0),
        _ => None,
    }
}

fn to_cel(value: &Value) -> Cel {
    match value {
        Value::Null => Cel::Null,
        Value::Bool(flag) => Cel::Bool(*flag),
        Value::Number(number) => match number.as_i64() {
            Some(number) => Cel::Int(number),
            None => Cel::Float(number.as_f64().unwrap_or_default()),
        },
        Value::String(text) => Cel::String(Arc::new(text.clone())),
        Value::Array(items) => Cel::List(Arc::new(items.iter().map(to_cel).collect())),
        Value::Object(fields) => {
            let entries = fields
                .iter()
                .map(|(name, value)| (Key::from(name.clone()), to_cel(value)));
            Cel::Map(Map::from(entries.collect::<std::collections::HashMap<_, _>>()))
        }
    }
}
