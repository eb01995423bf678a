//! CEL, as far as rules of CustomResourceDefinitions need it: from text to a tree.
//!
//! The `cel` crate was tried: declaring its functions took longer than the rest of a write, parsing the rules
//! longer than many a simulated run, and its durations lack `µs`.
//!
//! Source: github.com/google/cel-spec/blob/master/doc/langdef.md.

use regex::Regex;
use serde_json::Value;

pub(crate) use super::evaluate::Val;

/// A parsed expression.
#[derive(Debug)]
pub(crate) enum Expression {
    Null,
    Bool(bool),
    Int(i64),
    Double(f64),
    Text(String),
    Name(String),
    List(Vec<Expression>),
    Select(Box<Expression>, String),
    /// `has(operand.field)`.
    Has(Box<Expression>, String),
    Index(Box<Expression>, Box<Expression>),
    /// A function; of a method, the first argument is what it is called on.
    Call(Function, Vec<Expression>),
    Matches(Box<Expression>, Regex),
    /// `list.all(name, condition)`, or `exists`.
    Quantified {
        all: bool,
        over: Box<Expression>,
        name: String,
        condition: Box<Expression>,
    },
    Not(Box<Expression>),
    Negative(Box<Expression>),
    Binary(Operator, Box<Expression>, Box<Expression>),
    Conditional(Box<Expression>, Box<Expression>, Box<Expression>),
}

/// What can be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Function {
    Size,
    Type,
    String,
    Int,
    Duration,
    StartsWith,
    EndsWith,
    Contains,
    IsQuantity,
    Quantity,
    CompareTo,
}

/// Binary operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operator {
    Or,
    And,
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    In,
    Add,
    Subtract,
}

/// From weakest to strongest.
const LEVELS: [&[(&str, Operator)]; 4] = [
    &[("||", Operator::Or)],
    &[("&&", Operator::And)],
    &[
        ("==", Operator::Equal),
        ("!=", Operator::Unequal),
        ("<=", Operator::LessOrEqual),
        (">=", Operator::GreaterOrEqual),
        ("<", Operator::Less),
        (">", Operator::Greater),
        ("in", Operator::In),
    ],
    &[("+", Operator::Add), ("-", Operator::Subtract)],
];
const SYMBOLS: [&str; 22] = [
    "||", "&&", "==", "!=", "<=", ">=", "<", ">", "+", "-", "!", "?", ":", "(", ")", "[", "]", ".", ",", "*",
    "/", "%",
];

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Symbol(&'static str),
    Name(String),
    Text(String),
    Number(String),
}

type Parsed<T> = Result<T, String>;

impl Expression {
    /// # Errors
    /// What cannot be read, or is not simulated.
    pub(crate) fn parse(text: &str) -> Parsed<Self> {
        let mut parser = Parser {
            tokens: tokens(text)?,
            next: 0,
        };
        let expression = parser.conditional()?;
        match parser.look() {
            None => Ok(expression),
            Some(token) => Err(format!("unexpected {token:?}")),
        }
    }

    /// # Errors
    /// Why it has no value.
    pub(crate) fn evaluate<'a>(&'a self, this: &'a Value, old: Option<&'a Value>) -> Result<Val<'a>, String> {
        super::evaluate::Scope::new(this, old).value(self)
    }
}

fn tokens(text: &str) -> Parsed<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let raw = rest
            .strip_prefix(['r', 'R'])
            .filter(|after| after.starts_with(['\'', '"']));
        if raw.is_some() || first == '\'' || first == '"' {
            let (value, after) = quoted(raw.unwrap_or(rest), raw.is_some())?;
            tokens.push(Token::Text(value));
            rest = after;
        } else if first.is_ascii_digit() {
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '.');
            let (number, after) = rest.split_at(end.unwrap_or(rest.len()));
            tokens.push(Token::Number(number.to_owned()));
            rest = after;
        } else if first.is_ascii_alphabetic() || first == '_' {
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            let (name, after) = rest.split_at(end.unwrap_or(rest.len()));
            tokens.push(Token::Name(name.to_owned()));
            rest = after;
        } else {
            let symbol = SYMBOLS.into_iter().find(|symbol| rest.starts_with(symbol));
            let symbol = symbol.ok_or_else(|| format!("unexpected {first:?}"))?;
            tokens.push(Token::Symbol(symbol));
            rest = &rest[symbol.len()..];
        }
        rest = rest.trim_start();
    }
    Ok(tokens)
}

/// A string literal's value, and what follows it.
fn quoted(text: &str, raw: bool) -> Parsed<(String, &str)> {
    let mut chars = text.char_indices();
    let quote = chars.next().map_or('\'', |(_, quote)| quote);
    let mut value = String::new();
    while let Some((at, c)) = chars.next() {
        if c == quote {
            return Ok((value, &text[at + c.len_utf8()..]));
        }
        if c != '\\' || raw {
            value.push(c);
            continue;
        }
        match chars.next() {
            Some((_, 'n')) => value.push('\n'),
            Some((_, 't')) => value.push('\t'),
            Some((_, c @ ('\\' | '\'' | '"' | '?' | '`'))) => value.push(c),
            other => return Err(format!("the escape {other:?} is not simulated")),
        }
    }
    Err("a string without an end".to_owned())
}

struct Parser {
    tokens: Vec<Token>,
    next: usize,
}

impl Parser {
    fn look(&self) -> Option<&Token> {
        self.tokens.get(self.next)
    }

    fn take(&mut self) -> Option<Token> {
        let token = self.look().cloned();
        self.next += 1;
        token
    }

    /// Takes a symbol, or the word `in`, if it comes next.
    fn took(&mut self, symbol: &str) -> bool {
        let found = match self.look() {
            Some(Token::Symbol(found)) => *found == symbol,
            Some(Token::Name(found)) => found == symbol && symbol == "in",
            _ => false,
        };
        self.next += usize::from(found);
        found
    }

    fn expect(&mut self, symbol: &str) -> Parsed<()> {
        if self.took(symbol) {
            Ok(())
        } else {
            Err(format!("expected {symbol:?}, found {:?}", self.look()))
        }
    }

    fn conditional(&mut self) -> Parsed<Expression> {
        let condition = self.binary(0)?;
        if !self.took("?") {
            return Ok(condition);
        }
        let then = self.binary(0)?;
        self.expect(":")?;
        let otherwise = self.conditional()?;
        Ok(Expression::Conditional(
            condition.into(),
            then.into(),
            otherwise.into(),
        ))
    }

    fn binary(&mut self, level: usize) -> Parsed<Expression> {
        let Some(operators) = LEVELS.get(level) else {
            return self.unary();
        };
        let mut left = self.binary(level + 1)?;
        loop {
            let found = operators.iter().find(|(symbol, _)| self.took(symbol));
            let Some((_, operator)) = found else {
                return Ok(left);
            };
            let right = self.binary(level + 1)?;
            left = Expression::Binary(*operator, left.into(), right.into());
        }
    }

    fn unary(&mut self) -> Parsed<Expression> {
        if self.took("!") {
            return Ok(Expression::Not(self.unary()?.into()));
        }
        if self.took("-") {
            return Ok(Expression::Negative(self.unary()?.into()));
        }
        let mut operand = self.primary()?;
        loop {
            if self.took(".") {
                operand = self.member(operand)?;
            } else if self.took("[") {
                let index = self.conditional()?;
                self.expect("]")?;
                operand = Expression::Index(operand.into(), index.into());
            } else {
                return Ok(operand);
            }
        }
    }

    fn member(&mut self, of: Expression) -> Parsed<Expression> {
        let name = match self.take() {
            Some(Token::Name(name)) => name,
            other => return Err(format!("expected a field, found {other:?}")),
        };
        if !self.took("(") {
            return Ok(Expression::Select(of.into(), name));
        }
        let mut arguments = self.list(")")?;
        match (name.as_str(), arguments.as_mut_slice()) {
            ("all" | "exists", [Expression::Name(variable), _]) => {
                let variable = std::mem::take(variable);
                let condition = arguments.pop().ok_or("a condition is missing")?;
                Ok(Expression::Quantified {
                    all: name == "all",
                    over: of.into(),
                    name: variable,
                    condition: condition.into(),
                })
            }
            ("matches", [Expression::Text(pattern)]) => {
                let pattern = Regex::new(pattern).map_err(|why| why.to_string())?;
                Ok(Expression::Matches(of.into(), pattern))
            }
            (_, [..]) => {
                let function = match (name.as_str(), arguments.len()) {
                    ("size", 0) => Function::Size,
                    ("startsWith", 1) => Function::StartsWith,
                    ("endsWith", 1) => Function::EndsWith,
                    ("contains", 1) => Function::Contains,
                    ("compareTo", 1) => Function::CompareTo,
                    (name, count) => {
                        return Err(format!("the method {name} of {count} arguments is not simulated"));
                    }
                };
                arguments.insert(0, of);
                Ok(Expression::Call(function, arguments))
            }
        }
    }

    fn list(&mut self, end: &str) -> Parsed<Vec<Expression>> {
        let mut items = Vec::new();
        while !self.took(end) {
            if !items.is_empty() {
                self.expect(",")?;
            }
            items.push(self.conditional()?);
        }
        Ok(items)
    }

    fn primary(&mut self) -> Parsed<Expression> {
        match self.take() {
            Some(Token::Text(text)) => Ok(Expression::Text(text)),
            Some(Token::Number(number)) => numeral(&number),
            Some(Token::Symbol("(")) => {
                let inner = self.conditional()?;
                self.expect(")")?;
                Ok(inner)
            }
            Some(Token::Symbol("[")) => self.list("]").map(Expression::List),
            Some(Token::Name(name)) if self.took("(") => {
                let arguments = self.list(")")?;
                call(&name, arguments)
            }
            Some(Token::Name(name)) => Ok(match name.as_str() {
                "true" => Expression::Bool(true),
                "false" => Expression::Bool(false),
                "null" => Expression::Null,
                _ => Expression::Name(name),
            }),
            other => Err(format!("unexpected {other:?}")),
        }
    }
}

fn numeral(text: &str) -> Parsed<Expression> {
    if let Ok(number) = text.parse() {
        return Ok(Expression::Int(number));
    }
    let number = text.parse().map(Expression::Double);
    number.map_err(|_| format!("the number {text} is not simulated"))
}

fn call(name: &str, mut arguments: Vec<Expression>) -> Parsed<Expression> {
    if name == "has" {
        return match arguments.pop() {
            Some(Expression::Select(operand, field)) if arguments.is_empty() => {
                Ok(Expression::Has(operand, field))
            }
            _ => Err("has() takes a field".to_owned()),
        };
    }
    let function = match name {
        "size" => Function::Size,
        "type" => Function::Type,
        "string" => Function::String,
        "int" => Function::Int,
        "duration" => Function::Duration,
        "isQuantity" => Function::IsQuantity,
        "quantity" => Function::Quantity,
        _ => return Err(format!("the function {name} is not simulated")),
    };
    if arguments.len() == 1 {
        Ok(Expression::Call(function, arguments))
    } else {
        Err(format!("{name} takes one argument"))
    }
}
