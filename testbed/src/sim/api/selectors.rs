//! Label selectors: the text form of a query.
//!
//! Source: k8s.io/apimachinery/pkg/labels/selector.go.

use serde_json::{Map, Value};

use super::{
    names,
    status::{Result, bad_request},
};

/// All requirements must hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Labels(Vec<Requirement>);

#[derive(Clone, Debug, PartialEq)]
struct Requirement {
    key: String,
    operator: Operator,
    values: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
    Greater,
    Less,
}

impl Labels {
    /// # Errors
    /// 400 with upstream's words.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        Parser::new(text).selector().map(Self).map_err(bad_request)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn matches(&self, labels: Option<&Map<String, Value>>) -> bool {
        self.0.iter().all(|requirement| {
            let value = labels.and_then(|labels| labels.get(&requirement.key));
            requirement.holds(value.and_then(Value::as_str))
        })
    }
}

impl Requirement {
    fn holds(&self, value: Option<&str>) -> bool {
        let listed = |value: &str| self.values.iter().any(|wanted| wanted == value);
        match self.operator {
            Operator::In => value.is_some_and(listed),
            Operator::NotIn => !value.is_some_and(listed),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::Greater | Operator::Less => self.compares(value),
        }
    }

    fn compares(&self, value: Option<&str>) -> bool {
        let value = value.and_then(|value| value.parse::<i64>().ok());
        let bound = self.values.first().and_then(|bound| bound.parse::<i64>().ok());
        match (value, bound) {
            (Some(value), Some(bound)) if self.operator == Operator::Greater => value > bound,
            (Some(value), Some(bound)) => value < bound,
            _ => false,
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Word(String),
    Symbol(&'static str),
    End,
}

impl Token {
    fn text(&self) -> &str {
        match self {
            Self::Word(word) => word,
            Self::Symbol(symbol) => symbol,
            Self::End => "",
        }
    }
}

/// Longest first.
const SYMBOLS: [&str; 9] = ["==", "!=", "=", "!", "(", ")", ",", ">", "<"];

struct Parser {
    tokens: Vec<Token>,
    next: usize,
}

type Parsed<T> = std::result::Result<T, String>;

impl Parser {
    fn new(text: &str) -> Self {
        let mut tokens = Vec::new();
        let mut rest = text.trim_start();
        while !rest.is_empty() {
            if let Some(symbol) = SYMBOLS.into_iter().find(|symbol| rest.starts_with(symbol)) {
                tokens.push(Token::Symbol(symbol));
                rest = &rest[symbol.len()..];
            } else {
                let end = rest.find(|c: char| c.is_whitespace() || "=!(),><".contains(c));
                let (word, after) = rest.split_at(end.unwrap_or(rest.len()));
                tokens.push(Token::Word(word.to_owned()));
                rest = after;
            }
            rest = rest.trim_start();
        }
        Self { tokens, next: 0 }
    }

    fn look(&self) -> Token {
        self.tokens.get(self.next).cloned().unwrap_or(Token::End)
    }

    fn take(&mut self) -> Token {
        let token = self.look();
        self.next += 1;
        token
    }

    fn selector(&mut self) -> Parsed<Vec<Requirement>> {
        let mut requirements = Vec::new();
        loop {
            match self.look() {
                Token::Word(_) | Token::Symbol("!") => {}
                Token::End => return Ok(requirements),
                other => {
                    let found = other.text();
                    return Err(format!(
                        "found '{found}', expected: !, identifier, or 'end of string'"
                    ));
                }
            }
            let requirement = self.requirement();
            requirements.push(requirement.map_err(|why| format!("unable to parse requirement: {why}"))?);
            match self.take() {
                Token::End => return Ok(requirements),
                Token::Symbol(",") => {
                    let after = self.look();
                    if !matches!(after, Token::Word(_) | Token::Symbol("!")) {
                        return Err(format!(
                            "found '{}', expected: identifier after ','",
                            after.text()
                        ));
                    }
                }
                other => {
                    return Err(format!(
                        "found '{}', expected: ',' or 'end of string'",
                        other.text()
                    ));
                }
            }
        }
    }

    fn requirement(&mut self) -> Parsed<Requirement> {
        let negated = self.look() == Token::Symbol("!");
        if negated {
            self.take();
        }
        let key = match self.take() {
            Token::Word(word) => word,
            other => return Err(format!("found '{}', expected: identifier", other.text())),
        };
        if let Some(why) = names::qualified_name(&key).first() {
            return Err(format!("<nil>: Invalid value: {key:?}: {why}"));
        }
        if negated || matches!(self.look(), Token::End | Token::Symbol(",")) {
            let operator = if negated {
                Operator::DoesNotExist
            } else {
                Operator::Exists
            };
            return Ok(Requirement {
                key,
                operator,
                values: Vec::new(),
            });
        }
        let token = self.take();
        let (operator, values) = match token.text() {
            "in" => (Operator::In, self.values()?),
            "notin" => (Operator::NotIn, self.values()?),
            "=" | "==" => (Operator::In, vec![self.value()?]),
            "!=" => (Operator::NotIn, vec![self.value()?]),
            ">" => (Operator::Greater, vec![self.value()?]),
            "<" => (Operator::Less, vec![self.value()?]),
            other => {
                return Err(format!("found '{other}', expected: in, notin, =, ==, !=, gt, lt"));
            }
        };
        check_values(&key, operator, &values)?;
        Ok(Requirement {
            key,
            operator,
            values,
        })
    }

    fn value(&mut self) -> Parsed<String> {
        match self.look() {
            Token::End | Token::Symbol(",") => Ok(String::new()),
            Token::Word(word) => {
                self.take();
                Ok(word)
            }
            Token::Symbol(symbol) => Err(format!("found '{symbol}', expected: identifier")),
        }
    }

    fn values(&mut self) -> Parsed<Vec<String>> {
        let open = self.take();
        if open != Token::Symbol("(") {
            return Err(format!("found '{}' expected: '('", open.text()));
        }
        let mut values = Vec::new();
        loop {
            match self.take() {
                Token::Word(word) => {
                    values.push(word);
                    match self.take() {
                        Token::Symbol(",") if self.look() == Token::Symbol(")") => {
                            values.push(String::new());
                        }
                        Token::Symbol(",") => {}
                        Token::Symbol(")") => break,
                        other => return Err(format!("found '{}', expected: ',' or ')'", other.text())),
                    }
                }
                Token::Symbol(",") => values.push(String::new()),
                Token::Symbol(")") => break,
                other => {
                    let found = other.text();
                    return Err(format!("found '{found}', expected: ',', ')' or identifier"));
                }
            }
        }
        // A set upstream: sorted, each value once.
        values.sort();
        values.dedup();
        Ok(values)
    }
}

fn check_values(key: &str, operator: Operator, values: &[String]) -> Parsed<()> {
    if matches!(operator, Operator::In | Operator::NotIn) && values.is_empty() {
        return Err(
            "values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty".to_owned(),
        );
    }
    for (index, value) in values.iter().enumerate() {
        if let Some(why) = names::label_value(value).first() {
            return Err(format!("values[{index}][{key}]: Invalid value: {value:?}: {why}"));
        }
        if matches!(operator, Operator::Greater | Operator::Less) && value.parse::<i64>().is_err() {
            return Err(format!(
                "values[{index}]: Invalid value: {value:?}: for 'Gt', 'Lt' operators, the value must be an integer"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn matches(selector: &str, labels: Value) -> bool {
        Labels::parse(selector).unwrap().matches(labels.as_object())
    }

    fn refused(selector: &str) -> String {
        Labels::parse(selector).unwrap_err().body["message"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    #[test]
    fn every_operator_selects() {
        let labels = json!({ "a": "b", "n": "5" });
        for selector in [
            "a",
            "!c",
            "a=b",
            "a==b",
            "a!=c",
            "c!=d",
            "a in (x, b)",
            "a notin (c)",
            "n>4",
            "n<6",
        ] {
            assert!(matches(selector, labels.clone()), "{selector}");
        }
        for selector in [
            "c",
            "!a",
            "a=",
            "a!=b",
            "a in (x)",
            "a notin (b)",
            "c in (b)",
            "n>5",
            "a,c",
        ] {
            assert!(!matches(selector, labels.clone()), "{selector}");
        }
    }

    #[test]
    fn unreadable_selectors_are_refused_in_upstreams_words() {
        assert_eq!(
            refused("a in"),
            "unable to parse requirement: found '' expected: '('"
        );
        assert_eq!(
            refused("a==="),
            "unable to parse requirement: found '=', expected: identifier"
        );
        assert_eq!(
            refused("a foo b"),
            "unable to parse requirement: found 'foo', expected: in, notin, =, ==, !=, gt, lt"
        );
        assert!(
            refused("-x").starts_with("unable to parse requirement: <nil>: Invalid value: \"-x\": name part")
        );
        assert!(
            refused("a=-x")
                .starts_with("unable to parse requirement: values[0][a]: Invalid value: \"-x\": a valid")
        );
    }
}
