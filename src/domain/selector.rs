//! Which nodes an Order selects: `nodeSelector` and the required node affinity, compiled once.
//!
//! The meaning is that of `k8s.io/component-helpers/scheduling/corev1/nodeaffinity`. Compiled
//! selectors are normalised (sorted, without repetitions), so that selectors that differ in order
//! only are equal and share a shape in the index.

use std::{collections::BTreeMap, fmt, sync::Arc};

use k8s_openapi::api::core::v1 as core;

use super::{
    invalid::Invalid,
    node::{Labels, Node},
    syntax,
};

/// The one field that `matchFields` may name.
const NAME_FIELD: &str = "metadata.name";

/// What a node must look like.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct NodeSelector {
    pairs: Box<[(Arc<str>, Arc<str>)]>,
    terms: Option<Box<[Term]>>,
}

/// One term of the required node affinity: all of it must hold. Never empty.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Term {
    /// Requirements on labels.
    pub expressions: Box<[Expression]>,
    /// Requirements on the node's name.
    pub names: Box<[NameMatch]>,
}

/// One requirement on the label `key`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Expression {
    /// The label's key.
    pub key: Arc<str>,
    /// What its value must be.
    pub test: Test,
}

/// What the value of a label must be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Test {
    /// One of these, sorted.
    In(Box<[Arc<str>]>),
    /// None of these, sorted, or absent.
    NotIn(Box<[Arc<str>]>),
    /// Present.
    Exists,
    /// Absent.
    DoesNotExist,
    /// An integer greater than this.
    Gt(i64),
    /// An integer less than this.
    Lt(i64),
}

/// A requirement on the node's name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NameMatch {
    /// The name.
    pub name: Arc<str>,
    /// Whether the node must have that name, or must not.
    pub equal: bool,
}

impl NodeSelector {
    /// Compiles a Pod's `nodeSelector` and required node affinity; `path` is the field that holds
    /// both.
    ///
    /// # Errors
    /// Everything the API server would refuse in a Pod, and non-integers of `Gt` and `Lt`.
    pub fn compile(
        path: &str,
        node_selector: &BTreeMap<String, String>,
        required: Option<&core::NodeSelector>,
    ) -> Result<Self, Vec<Invalid>> {
        let mut problems = Vec::new();
        for (key, value) in node_selector {
            let field = format!("{path}.nodeSelector[{key}]");
            check_key(&mut problems, &field, key);
            check_value(&mut problems, &field, value);
        }
        let terms = required.map(|required| compile_terms(&mut problems, path, required));
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(Self {
            pairs: node_selector
                .iter()
                .map(|(key, value)| (key.as_str().into(), value.as_str().into()))
                .collect(),
            terms,
        })
    }

    /// The pairs of `nodeSelector`, sorted by key.
    pub fn pairs(&self) -> &[(Arc<str>, Arc<str>)] {
        &self.pairs
    }

    /// The non-empty terms of the required node affinity, one of which must match; `None` without
    /// such an affinity.
    pub fn terms(&self) -> Option<&[Term]> {
        self.terms.as_deref()
    }

    /// Every label key the selector mentions, repetitions included.
    pub fn label_keys(&self) -> impl Iterator<Item = &str> {
        let pairs = self.pairs.iter().map(|(key, _)| key.as_ref());
        let expressions = self.terms.iter().flatten().flat_map(|term| &term.expressions);
        pairs.chain(expressions.map(|expression| expression.key.as_ref()))
    }

    /// Whether `node` is selected.
    pub fn matches(&self, node: &Node) -> bool {
        self.matches_labels(&node.labels, node.name.as_str())
    }

    /// Whether a node with these labels and this name is selected.
    pub fn matches_labels(&self, labels: &Labels, name: &str) -> bool {
        self.matches_pairs(labels) && self.matches_terms(labels, name)
    }

    /// Whether every pair of `nodeSelector` is among the labels.
    pub fn matches_pairs(&self, labels: &Labels) -> bool {
        self.pairs
            .iter()
            .all(|(key, value)| labels.get(key) == Some(value.as_ref()))
    }

    /// Whether the required node affinity, if there is one, has a term that matches.
    pub fn matches_terms(&self, labels: &Labels, name: &str) -> bool {
        self.terms
            .as_ref()
            .is_none_or(|terms| terms.iter().any(|term| term.matches(labels, name)))
    }
}

impl Term {
    /// Whether every requirement holds.
    pub fn matches(&self, labels: &Labels, name: &str) -> bool {
        self.expressions
            .iter()
            .all(|expression| expression.matches(labels))
            && self.names.iter().all(|wanted| wanted.matches(name))
    }
}

impl Expression {
    /// Whether the requirement holds.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.test.holds(labels.get(&self.key))
    }
}

impl Test {
    /// Whether a label's value (`None`: the label is absent) passes.
    pub fn holds(&self, value: Option<&str>) -> bool {
        let among = |values: &[Arc<str>], value: &str| values.iter().any(|one| one.as_ref() == value);
        match (self, value) {
            (Self::Exists, value) => value.is_some(),
            (Self::DoesNotExist, value) => value.is_none(),
            (Self::NotIn(_), None) => true,
            (Self::In(_) | Self::Gt(_) | Self::Lt(_), None) => false,
            (Self::In(values), Some(value)) => among(values, value),
            (Self::NotIn(values), Some(value)) => !among(values, value),
            (Self::Gt(bound), Some(value)) => value.parse::<i64>().is_ok_and(|value| value > *bound),
            (Self::Lt(bound), Some(value)) => value.parse::<i64>().is_ok_and(|value| value < *bound),
        }
    }
}

impl NameMatch {
    /// Whether a node of this name passes.
    pub fn matches(&self, name: &str) -> bool {
        (self.name.as_ref() == name) == self.equal
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for expression in &self.expressions {
            write!(f, "{separator}{expression}")?;
            separator = " and ";
        }
        for name in &self.names {
            write!(f, "{separator}{name}")?;
            separator = " and ";
        }
        Ok(())
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = &self.key;
        match &self.test {
            Test::In(values) => write!(f, "{key} In [{}]", values.join(", ")),
            Test::NotIn(values) => write!(f, "{key} NotIn [{}]", values.join(", ")),
            Test::Exists => write!(f, "{key} Exists"),
            Test::DoesNotExist => write!(f, "{key} DoesNotExist"),
            Test::Gt(bound) => write!(f, "{key} Gt {bound}"),
            Test::Lt(bound) => write!(f, "{key} Lt {bound}"),
        }
    }
}

impl fmt::Display for NameMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let operator = if self.equal { "In" } else { "NotIn" };
        write!(f, "{NAME_FIELD} {operator} [{}]", self.name)
    }
}

fn compile_terms(problems: &mut Vec<Invalid>, path: &str, required: &core::NodeSelector) -> Box<[Term]> {
    let path = format!(
        "{path}.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms"
    );
    if required.node_selector_terms.is_empty() {
        problems.push(Invalid::new(
            path,
            "is empty",
            "name at least one term, or leave the affinity out",
        ));
        return Box::default();
    }
    let terms = required.node_selector_terms.iter().enumerate();
    sorted(terms.filter_map(|(index, term)| compile_term(problems, &format!("{path}[{index}]"), term)))
}

/// `None` for an empty term, which matches nothing.
fn compile_term(problems: &mut Vec<Invalid>, path: &str, term: &core::NodeSelectorTerm) -> Option<Term> {
    let requirements = |list: &Option<Vec<core::NodeSelectorRequirement>>| list.clone().unwrap_or_default();
    let expressions = requirements(&term.match_expressions);
    let fields = requirements(&term.match_fields);
    if expressions.is_empty() && fields.is_empty() {
        return None;
    }
    let expressions = sorted(expressions.iter().enumerate().filter_map(|(index, requirement)| {
        compile_expression(
            problems,
            &format!("{path}.matchExpressions[{index}]"),
            requirement,
        )
    }));
    let names = sorted(fields.iter().enumerate().filter_map(|(index, requirement)| {
        compile_name(problems, &format!("{path}.matchFields[{index}]"), requirement)
    }));
    Some(Term { expressions, names })
}

/// As `ValidateNodeSelectorRequirement`.
fn compile_expression(
    problems: &mut Vec<Invalid>,
    path: &str,
    requirement: &core::NodeSelectorRequirement,
) -> Option<Expression> {
    let values = requirement.values.as_deref().unwrap_or_default();
    check_key(problems, &format!("{path}.key"), &requirement.key);
    for (index, value) in values.iter().enumerate() {
        check_value(problems, &format!("{path}.values[{index}]"), value);
    }
    let operator = requirement.operator.as_str();
    let mut wrong_count = |remedy: &str| {
        let problem = format!("{operator} with {} values", values.len());
        problems.push(Invalid::new(format!("{path}.values"), problem, remedy));
        None
    };
    let test = match (operator, values) {
        ("In" | "NotIn", []) => return wrong_count("name at least one value"),
        ("In", values) => Test::In(sorted(values.iter().map(|value| Arc::from(value.as_str())))),
        ("NotIn", values) => Test::NotIn(sorted(values.iter().map(|value| Arc::from(value.as_str())))),
        ("Exists", []) => Test::Exists,
        ("DoesNotExist", []) => Test::DoesNotExist,
        ("Exists" | "DoesNotExist", _) => return wrong_count("leave the values out"),
        ("Gt" | "Lt", [value]) => match value.parse() {
            Ok(bound) if operator == "Gt" => Test::Gt(bound),
            Ok(bound) => Test::Lt(bound),
            Err(_) => {
                let problem = format!("{value:?} is not an integer");
                let remedy = format!("{operator} compares integers of 64 bits, such as \"8\"");
                problems.push(Invalid::new(format!("{path}.values[0]"), problem, remedy));
                return None;
            }
        },
        ("Gt" | "Lt", _) => return wrong_count("name exactly one integer"),
        _ => {
            let problem = format!("{operator:?} is not an operator");
            let remedy = "use In, NotIn, Exists, DoesNotExist, Gt or Lt";
            problems.push(Invalid::new(format!("{path}.operator"), problem, remedy));
            return None;
        }
    };
    Some(Expression {
        key: requirement.key.as_str().into(),
        test,
    })
}

/// As `ValidateNodeFieldSelectorRequirement`.
fn compile_name(
    problems: &mut Vec<Invalid>,
    path: &str,
    requirement: &core::NodeSelectorRequirement,
) -> Option<NameMatch> {
    let before = problems.len();
    let values = requirement.values.as_deref().unwrap_or_default();
    let equal = match requirement.operator.as_str() {
        "In" => true,
        "NotIn" => false,
        other => {
            let problem = format!("{other:?} is not an operator of matchFields");
            problems.push(Invalid::new(
                format!("{path}.operator"),
                problem,
                "use In or NotIn",
            ));
            return None;
        }
    };
    if requirement.key != NAME_FIELD {
        let problem = format!("{:?} is not a field nodes are selected by", requirement.key);
        problems.push(Invalid::new(
            format!("{path}.key"),
            problem,
            format!("use {NAME_FIELD}"),
        ));
    }
    let [value] = values else {
        let problem = format!("{} values", values.len());
        problems.push(Invalid::new(
            format!("{path}.values"),
            problem,
            "name exactly one node",
        ));
        return None;
    };
    if let Some(problem) = syntax::subdomain(value) {
        let field = format!("{path}.values[0]");
        problems.push(Invalid::new(
            field,
            format!("{value:?} {problem}"),
            syntax::NAME_REMEDY,
        ));
    }
    (problems.len() == before).then(|| NameMatch {
        name: value.as_str().into(),
        equal,
    })
}

fn check_key(problems: &mut Vec<Invalid>, field: &str, key: &str) {
    if let Some(problem) = syntax::label_key(key) {
        problems.push(Invalid::new(
            field,
            format!("{key:?} {problem}"),
            syntax::LABEL_KEY_REMEDY,
        ));
    }
}

fn check_value(problems: &mut Vec<Invalid>, field: &str, value: &str) {
    if let Some(problem) = syntax::label_value(value) {
        problems.push(Invalid::new(
            field,
            format!("{value:?} {problem}"),
            syntax::LABEL_VALUE_REMEDY,
        ));
    }
}

fn sorted<T: Ord>(items: impl Iterator<Item = T>) -> Box<[T]> {
    let mut items: Vec<T> = items.collect();
    items.sort();
    items.dedup();
    items.into()
}
