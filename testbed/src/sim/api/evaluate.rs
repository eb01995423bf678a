//! CEL, as far as rules of CustomResourceDefinitions need it: from a tree to a value.

use std::{borrow::Cow, cmp::Ordering};

use serde_json::Value;

use super::{
    expression::{Expression, Function, Operator},
    quantity::Quantity,
};

/// A value. Lists and maps of the object stay where they are.
#[derive(Clone, Debug)]
pub(crate) enum Val<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Double(f64),
    Text(Cow<'a, str>),
    /// A list or map of the object.
    Part(&'a Value),
    List(Vec<Val<'a>>),
    Type(&'static str),
    Quantity(Quantity),
    /// Nanoseconds.
    Duration(i64),
}

type Evaluated<'a> = Result<Val<'a>, String>;

const OVERLOAD: &str = "no such overload";

/// The names that an expression may use.
pub(crate) struct Scope<'a, 's> {
    this: &'a Value,
    old: Option<&'a Value>,
    bound: Option<(&'s str, Val<'a>, &'s Scope<'a, 's>)>,
}

impl<'a> From<&'a Value> for Val<'a> {
    fn from(value: &'a Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(flag) => Self::Bool(*flag),
            Value::Number(number) => match number.as_i64() {
                Some(number) => Self::Int(number),
                None => Self::Double(number.as_f64().unwrap_or_default()),
            },
            Value::String(text) => Self::Text(Cow::Borrowed(text)),
            Value::Array(_) | Value::Object(_) => Self::Part(value),
        }
    }
}

impl<'a> Val<'a> {
    fn items(self) -> Option<Vec<Val<'a>>> {
        match self {
            Self::List(items) => Some(items),
            Self::Part(Value::Array(items)) => Some(items.iter().map(Val::from).collect()),
            // The elements of a map are its keys.
            Self::Part(Value::Object(fields)) => {
                let keys = fields.keys().map(|key| Val::Text(Cow::Borrowed(key)));
                Some(keys.collect())
            }
            _ => None,
        }
    }

    fn order(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Int(a), Self::Int(b)) | (Self::Duration(a), Self::Duration(b)) => Some(a.cmp(b)),
            (Self::Text(a), Self::Text(b)) => Some(a.cmp(b)),
            (Self::Bool(a), Self::Bool(b)) => Some(a.cmp(b)),
            (Self::Int(a), Self::Double(b)) => (*a as f64).partial_cmp(b),
            (Self::Double(a), Self::Int(b)) => a.partial_cmp(&(*b as f64)),
            (Self::Double(a), Self::Double(b)) => a.partial_cmp(b),
            _ => None,
        }
    }

    fn equals(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Type(a), Self::Type(b)) => a == b,
            (Self::Quantity(a), Self::Quantity(b)) => a == b,
            (Self::Part(a), Self::Part(b)) => a == b,
            (Self::List(_) | Self::Part(Value::Array(_)), Self::List(_) | Self::Part(Value::Array(_))) => {
                match (self.clone().items(), other.clone().items()) {
                    (Some(a), Some(b)) => a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| a.equals(b)),
                    _ => false,
                }
            }
            _ => self.order(other) == Some(Ordering::Equal),
        }
    }
}

impl<'a, 's> Scope<'a, 's> {
    pub(crate) fn new(this: &'a Value, old: Option<&'a Value>) -> Self {
        Self {
            this,
            old,
            bound: None,
        }
    }

    fn name(&self, name: &str) -> Evaluated<'a> {
        if let Some((bound, value, outer)) = &self.bound {
            return if *bound == name {
                Ok(value.clone())
            } else {
                outer.name(name)
            };
        }
        match (name, self.old) {
            ("self", _) => Ok(self.this.into()),
            ("oldSelf", Some(old)) => Ok(old.into()),
            _ => type_name(name)
                .map(Val::Type)
                .ok_or_else(|| format!("undeclared reference to '{name}'")),
        }
    }

    /// # Errors
    /// Why there is none.
    pub(crate) fn value(&self, expression: &'a Expression) -> Evaluated<'a> {
        match expression {
            Expression::Null => Ok(Val::Null),
            Expression::Bool(flag) => Ok(Val::Bool(*flag)),
            Expression::Int(number) => Ok(Val::Int(*number)),
            Expression::Double(number) => Ok(Val::Double(*number)),
            Expression::Text(text) => Ok(Val::Text(Cow::Borrowed(text))),
            Expression::Name(name) => self.name(name),
            Expression::List(items) => {
                let items: Result<Vec<_>, _> = items.iter().map(|item| self.value(item)).collect();
                items.map(Val::List)
            }
            Expression::Select(operand, field) => select(self.value(operand)?, field),
            Expression::Has(operand, field) => match self.value(operand)? {
                Val::Part(Value::Object(fields)) => Ok(Val::Bool(fields.contains_key(field))),
                _ => Err(OVERLOAD.to_owned()),
            },
            Expression::Index(operand, index) => at(self.value(operand)?, &self.value(index)?),
            Expression::Call(function, arguments) => self.call(*function, arguments),
            Expression::Matches(operand, pattern) => match self.value(operand)? {
                Val::Text(text) => Ok(Val::Bool(pattern.is_match(&text))),
                _ => Err(OVERLOAD.to_owned()),
            },
            Expression::Quantified {
                all,
                over,
                name,
                condition,
            } => self.quantified(*all, over, name, condition),
            Expression::Not(operand) => Ok(Val::Bool(!self.flag(operand)?)),
            Expression::Negative(operand) => match self.value(operand)? {
                Val::Int(number) => number
                    .checked_neg()
                    .map(Val::Int)
                    .ok_or_else(|| "integer overflow".to_owned()),
                Val::Double(number) => Ok(Val::Double(-number)),
                _ => Err(OVERLOAD.to_owned()),
            },
            Expression::Binary(operator, left, right) => self.binary(*operator, left, right),
            Expression::Conditional(condition, then, otherwise) => {
                let chosen = if self.flag(condition)? { then } else { otherwise };
                self.value(chosen)
            }
        }
    }

    fn flag(&self, expression: &'a Expression) -> Result<bool, String> {
        match self.value(expression)? {
            Val::Bool(flag) => Ok(flag),
            _ => Err(OVERLOAD.to_owned()),
        }
    }

    /// An error counts only if no other element decides.
    fn quantified(
        &self,
        all: bool,
        over: &'a Expression,
        name: &str,
        condition: &'a Expression,
    ) -> Evaluated<'a> {
        let items = self.value(over)?.items().ok_or(OVERLOAD)?;
        let mut failed = None;
        for item in items {
            let inner = Scope {
                this: self.this,
                old: self.old,
                bound: Some((name, item, self)),
            };
            match inner.flag(condition) {
                Ok(holds) if holds != all => return Ok(Val::Bool(!all)),
                Ok(_) => {}
                Err(why) => failed = Some(why),
            }
        }
        failed.map_or(Ok(Val::Bool(all)), Err)
    }

    fn binary(&self, operator: Operator, left: &'a Expression, right: &'a Expression) -> Evaluated<'a> {
        if matches!(operator, Operator::Or | Operator::And) {
            // One side that decides hides an error of the other.
            let decides = operator == Operator::Or;
            let (left, right) = (self.flag(left), || self.flag(right));
            return match left {
                Ok(flag) if flag == decides => Ok(Val::Bool(decides)),
                Ok(_) => right().map(Val::Bool),
                Err(why) => match right() {
                    Ok(flag) if flag == decides => Ok(Val::Bool(decides)),
                    _ => Err(why),
                },
            };
        }
        let (left, right) = (self.value(left)?, self.value(right)?);
        let ordered = |holds: fn(Ordering) -> bool| {
            let order = left.order(&right).ok_or_else(|| OVERLOAD.to_owned());
            order.map(|order| Val::Bool(holds(order)))
        };
        match operator {
            Operator::Equal => Ok(Val::Bool(left.equals(&right))),
            Operator::Unequal => Ok(Val::Bool(!left.equals(&right))),
            Operator::Less => ordered(Ordering::is_lt),
            Operator::LessOrEqual => ordered(Ordering::is_le),
            Operator::Greater => ordered(Ordering::is_gt),
            Operator::GreaterOrEqual => ordered(Ordering::is_ge),
            Operator::In => {
                let items = right.items().ok_or(OVERLOAD)?;
                Ok(Val::Bool(items.iter().any(|item| item.equals(&left))))
            }
            Operator::Add | Operator::Subtract => sum(operator, &left, &right),
            Operator::Or | Operator::And => Err(OVERLOAD.to_owned()),
        }
    }

    fn call(&self, function: Function, arguments: &'a [Expression]) -> Evaluated<'a> {
        let argument = |index: usize| match arguments.get(index) {
            Some(argument) => self.value(argument),
            None => Err(OVERLOAD.to_owned()),
        };
        let pair = || -> Result<(Val<'a>, Val<'a>), String> { Ok((argument(0)?, argument(1)?)) };
        let texts = |holds: fn(&str, &str) -> bool| match pair()? {
            (Val::Text(text), Val::Text(part)) => Ok(Val::Bool(holds(&text, &part))),
            _ => Err(OVERLOAD.to_owned()),
        };
        match function {
            Function::Size => size(argument(0)?),
            Function::Type => Ok(Val::Type(type_of(&argument(0)?))),
            Function::String => text(argument(0)?),
            Function::Int => match argument(0)? {
                Val::Int(number) => Ok(Val::Int(number)),
                Val::Text(text) => text.parse().map(Val::Int).map_err(|_| OVERLOAD.to_owned()),
                _ => Err(OVERLOAD.to_owned()),
            },
            Function::StartsWith => texts(|text, part| text.starts_with(part)),
            Function::EndsWith => texts(|text, part| text.ends_with(part)),
            Function::Contains => texts(|text, part| text.contains(part)),
            Function::Duration => match argument(0)? {
                Val::Text(text) => nanoseconds(&text).map(Val::Duration).ok_or_else(|| {
                    "type conversion error from 'string' to 'google.protobuf.Duration'".to_owned()
                }),
                _ => Err(OVERLOAD.to_owned()),
            },
            Function::IsQuantity => match argument(0)? {
                Val::Text(text) => Ok(Val::Bool(Quantity::parse(&text).is_some())),
                _ => Err(OVERLOAD.to_owned()),
            },
            Function::Quantity => match argument(0)? {
                Val::Text(text) => Quantity::parse(&text).map(Val::Quantity).ok_or_else(|| {
                    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
                        .to_owned()
                }),
                _ => Err(OVERLOAD.to_owned()),
            },
            Function::CompareTo => match pair()? {
                (Val::Quantity(a), Val::Quantity(b)) => Ok(Val::Int(a.cmp(&b) as i64)),
                _ => Err(OVERLOAD.to_owned()),
            },
        }
    }
}

fn select<'a>(operand: Val<'a>, field: &str) -> Evaluated<'a> {
    match operand {
        Val::Part(Value::Object(fields)) => {
            let value = fields.get(field).map(Val::from);
            value.ok_or_else(|| format!("no such key: {field}"))
        }
        _ => Err(OVERLOAD.to_owned()),
    }
}

fn at<'a>(operand: Val<'a>, index: &Val<'_>) -> Evaluated<'a> {
    match (operand, index) {
        (operand @ Val::Part(Value::Object(_)), Val::Text(key)) => select(operand, key),
        (operand, Val::Int(index)) => {
            let items = operand.items().ok_or(OVERLOAD)?;
            let item = usize::try_from(*index)
                .ok()
                .and_then(|at| items.into_iter().nth(at));
            item.ok_or_else(|| format!("index out of bounds: {index}"))
        }
        _ => Err(OVERLOAD.to_owned()),
    }
}

fn sum<'a>(operator: Operator, left: &Val<'a>, right: &Val<'a>) -> Evaluated<'a> {
    let overflow = || "integer overflow".to_owned();
    match (left, right) {
        (Val::Int(a), Val::Int(b)) if operator == Operator::Add => {
            a.checked_add(*b).map(Val::Int).ok_or_else(overflow)
        }
        (Val::Int(a), Val::Int(b)) => a.checked_sub(*b).map(Val::Int).ok_or_else(overflow),
        (Val::Text(a), Val::Text(b)) if operator == Operator::Add => {
            Ok(Val::Text(Cow::Owned(format!("{a}{b}"))))
        }
        _ => Err(OVERLOAD.to_owned()),
    }
}

fn size(value: Val<'_>) -> Evaluated<'_> {
    let size = match value {
        Val::Text(text) => Some(text.chars().count()),
        other => other.items().map(|items| items.len()),
    };
    let size = size.and_then(|size| i64::try_from(size).ok());
    size.map(Val::Int).ok_or_else(|| OVERLOAD.to_owned())
}

fn text(value: Val<'_>) -> Evaluated<'_> {
    match value {
        Val::Text(text) => Ok(Val::Text(text)),
        Val::Int(number) => Ok(Val::Text(Cow::Owned(number.to_string()))),
        Val::Double(number) => Ok(Val::Text(Cow::Owned(number.to_string()))),
        Val::Bool(flag) => Ok(Val::Text(Cow::Owned(flag.to_string()))),
        _ => Err(OVERLOAD.to_owned()),
    }
}

fn type_name(name: &str) -> Option<&'static str> {
    let names = ["int", "double", "string", "bool", "list", "map", "null_type"];
    names.into_iter().find(|known| *known == name)
}

fn type_of(value: &Val<'_>) -> &'static str {
    match value {
        Val::Null => "null_type",
        Val::Bool(_) => "bool",
        Val::Int(_) => "int",
        Val::Double(_) => "double",
        Val::Text(_) => "string",
        Val::List(_) | Val::Part(Value::Array(_)) => "list",
        Val::Part(_) => "map",
        Val::Type(_) => "type",
        Val::Quantity(_) => "kubernetes.Quantity",
        Val::Duration(_) => "google.protobuf.Duration",
    }
}

/// A Go duration.
fn nanoseconds(text: &str) -> Option<i64> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if unsigned == "0" {
        return Some(0);
    }
    let mut rest = unsigned;
    let mut total: f64 = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(digits);
        let end = after.find(|c: char| c.is_ascii_digit() || c == '.');
        let (unit, next) = after.split_at(end.unwrap_or(after.len()));
        let factor = match unit {
            "ns" => 1.0,
            "us" | "\u{b5}s" | "\u{3bc}s" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            _ => return None,
        };
        total += number.parse::<f64>().ok()? * factor;
        rest = next;
    }
    let fits = !unsigned.is_empty() && total < i64::MAX as f64;
    let signed = if text.starts_with('-') { -total } else { total };
    fits.then_some(signed as i64)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn holds(rule: &str, this: &Value) -> Result<bool, String> {
        let rule = Expression::parse(rule).unwrap();
        match rule.evaluate(this, None)? {
            Val::Bool(flag) => Ok(flag),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn expressions_have_the_value_that_the_language_says() {
        let this = json!({ "a": 1, "s": "x'y", "l": ["p", "q"], "m": { "k": "1Gi" }, "f": 1.5 });
        let cases = [
            "self.a == 1 && self.f == 1.5 || false",
            "has(self.a) && !has(self.b) && has(self.m.k)",
            "self.s == 'x\\'y' && self.s == r\"x'y\" && self.s.size() == 3 && size(self.l) == 2",
            "self.a > 0 ? self.a <= 1 : false",
            "type(self.a) == int && type(self.s) == string && type(self) == map",
            "self.l.all(x, x in ['p', 'q', 'r']) && self.l.exists(x, x == 'q') && 'k' in self.m",
            "self.m.all(key, self.m[key].matches('^1') && key.startsWith('k'))",
            "quantity(self.m.k).compareTo(quantity('1024Mi')) == 0 && isQuantity('2') && !isQuantity('x')",
            "duration('1h30m') > duration('89m') && duration('1\u{b5}s') == duration('1000ns')",
            "1 + 2 - 3 == 0 && -1 < 0 && !(1 != 1) && self.l[1] == 'q'",
            "true || self.nope == 1",
            "self.nope == 1 || true",
            "string(self.a) == '1' && int('5') == 5",
        ];
        for rule in cases {
            assert_eq!(holds(rule, &this), Ok(true), "{rule}");
        }
    }

    #[test]
    fn what_cannot_be_judged_is_an_error() {
        let this = json!({ "a": 1 });
        assert_eq!(holds("self.b == 1", &this), Err("no such key: b".to_owned()));
        assert_eq!(holds("self.a < 'x'", &this), Err(OVERLOAD.to_owned()));
        let far = "type conversion error from 'string' to 'google.protobuf.Duration'";
        assert_eq!(
            holds("duration('9999999999h') > duration('1s')", &this),
            Err(far.to_owned())
        );
    }

    #[test]
    fn what_is_not_simulated_does_not_parse() {
        for rule in [
            "self.a.foo()",
            "foo(self)",
            "self.a ==",
            "self.map(x, x)",
            "{'a': 1}",
        ] {
            assert!(Expression::parse(rule).is_err(), "{rule}");
        }
    }
}
