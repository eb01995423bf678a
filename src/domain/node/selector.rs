//! Which nodes an Order selects: `nodeSelector` and the required node affinity, compiled once.
//!
//! The meaning is that of `k8s.io/component-helpers/scheduling/corev1/nodeaffinity`. Compiled
//! selectors are normalised (sorted, without repetitions), so that selectors that differ in order
//! only are equal and share a shape in the index.

use std::{collections::BTreeMap, fmt, sync::Arc};

use k8s_openapi::api::core::v1 as core;

use super::record::Labels;
#[cfg(test)]
use super::record::Node;
use crate::domain::values::{invalid::Invalid, syntax};

/// The one field that `matchFields` may name.
const NAME_FIELD: &str = "metadata.name";

/// What a node must look like.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct NodeSelector {
    pairs: Box<[(Arc<str>, Arc<str>)]>,
    terms: Option<Box<[Term]>>,
}

/// One term of the required node affinity: all of it must hold. Never empty.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Term {
    /// Requirements on labels.
    pub(crate) expressions: Box<[Expression]>,
    /// Requirements on the node's name.
    pub(crate) names: Box<[NameMatch]>,
}

/// One requirement on the label `key`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Expression {
    /// The label's key.
    pub(crate) key: Arc<str>,
    /// What its value must be.
    pub(crate) test: Test,
}

/// What the value of a label must be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Test {
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
pub(crate) struct NameMatch {
    pub(crate) name: Arc<str>,
    /// Whether the node must have that name, or must not.
    pub(crate) equal: bool,
}

impl NodeSelector {
    /// Compiles a Pod's `nodeSelector` and required node affinity; `path` is the field that holds
    /// both.
    ///
    /// # Errors
    /// Everything the API server would refuse in a Pod, and non-integers of `Gt` and `Lt`.
    pub(crate) fn compile(
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
    pub(crate) fn pairs(&self) -> &[(Arc<str>, Arc<str>)] {
        &self.pairs
    }

    /// The non-empty terms of the required node affinity, one of which must match; `None` without
    /// such an affinity.
    pub(crate) fn terms(&self) -> Option<&[Term]> {
        self.terms.as_deref()
    }

    /// Every label key the selector mentions, repetitions included.
    pub(crate) fn label_keys(&self) -> impl Iterator<Item = &str> {
        let pairs = self.pairs.iter().map(|(key, _)| key.as_ref());
        let expressions = self.terms.iter().flatten().flat_map(|term| &term.expressions);
        pairs.chain(expressions.map(|expression| expression.key.as_ref()))
    }

    /// Whether `node` is selected.
    #[cfg(test)]
    pub(crate) fn matches(&self, node: &Node) -> bool {
        self.matches_labels(&node.labels, node.name.as_str())
    }

    /// Whether a node with these labels and this name is selected.
    #[cfg(test)]
    pub(crate) fn matches_labels(&self, labels: &Labels, name: &str) -> bool {
        self.matches_pairs(labels) && self.matches_terms(labels, name)
    }

    /// Whether every pair of `nodeSelector` is among the labels.
    pub(crate) fn matches_pairs(&self, labels: &Labels) -> bool {
        self.pairs
            .iter()
            .all(|(key, value)| labels.get(key) == Some(value.as_ref()))
    }

    /// Whether the required node affinity, if there is one, has a term that matches.
    pub(crate) fn matches_terms(&self, labels: &Labels, name: &str) -> bool {
        self.terms
            .as_ref()
            .is_none_or(|terms| terms.iter().any(|term| term.matches(labels, name)))
    }
}

impl Term {
    /// Whether every requirement holds.
    pub(crate) fn matches(&self, labels: &Labels, name: &str) -> bool {
        self.expressions
            .iter()
            .all(|expression| expression.matches(labels))
            && self.names.iter().all(|wanted| wanted.matches(name))
    }
}

impl Expression {
    /// Whether the requirement holds.
    pub(crate) fn matches(&self, labels: &Labels) -> bool {
        self.test.holds(labels.get(&self.key))
    }
}

impl Test {
    /// Whether a label's value (`None`: the label is absent) passes.
    pub(crate) fn holds(&self, value: Option<&str>) -> bool {
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
    pub(crate) fn matches(&self, name: &str) -> bool {
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

#[cfg(test)]
pub(super) mod tests {
    use proptest::{collection::vec, prelude::*, sample::select};
    use serde_json::{Value, json};

    use super::*;
    use crate::domain::testing::{node, selector};

    fn one(operator: &str, values: Value) -> NodeSelector {
        selector(
            json!({}),
            json!([{ "matchExpressions": [{ "key": "k", "operator": operator, "values": values }] }]),
        )
    }

    #[test]
    fn every_operator_decides_as_upstream() {
        // With the label absent, `""`, `"a"`, `"5"`, `"6"`.
        for (operator, values, expected) in [
            ("In", json!(["a", "5"]), [false, false, true, true, false]),
            ("In", json!([""]), [false, true, false, false, false]),
            ("NotIn", json!(["a", "5"]), [true, true, false, false, true]),
            ("Exists", json!([]), [false, true, true, true, true]),
            ("DoesNotExist", json!([]), [true, false, false, false, false]),
            ("Gt", json!(["5"]), [false, false, false, false, true]),
            ("Lt", json!(["6"]), [false, false, false, true, false]),
        ] {
            let selector = one(operator, values);
            let plain = node("n1");
            let found = [None, Some(""), Some("a"), Some("5"), Some("6")].map(|value| {
                selector.matches(&value.map_or(plain.clone(), |value| plain.clone().label("k", value)))
            });
            assert_eq!(found, expected, "{operator}");
        }
    }

    #[test]
    fn numbers_beyond_64_bits_never_match() {
        let huge = node("n1").label("k", "9223372036854775808");
        assert!(!one("Gt", json!(["0"])).matches(&huge));
        assert!(!one("Lt", json!(["0"])).matches(&huge));
        assert!(one("Gt", json!(["0"])).matches(&node("n1").label("k", "9223372036854775807")));
    }

    #[test]
    fn every_pair_must_match() {
        let selector = selector(
            json!({ "a": "1", "b": "2" }),
            json!([{ "matchExpressions": [
            { "key": "c", "operator": "Exists" }
        ] }]),
        );
        let both = node("n1").label("a", "1").label("b", "2");
        assert!(selector.matches(&both.clone().label("c", "")));
        assert!(!selector.matches(&both));
        assert!(!selector.matches(&node("n1").label("a", "1").label("c", "")));
    }

    #[test]
    fn terms_are_ored_and_expressions_anded() {
        let exists = |key: &str| json!({ "key": key, "operator": "Exists" });
        let selector = selector(
            json!({}),
            json!([
                { "matchExpressions": [exists("a"), exists("b")] },
                { "matchExpressions": [exists("c")] },
            ]),
        );
        assert!(!selector.matches(&node("n1").label("a", "")));
        assert!(selector.matches(&node("n1").label("a", "").label("b", "")));
        assert!(selector.matches(&node("n1").label("c", "")));
    }

    #[test]
    fn an_empty_term_matches_nothing() {
        assert!(!selector(json!({}), json!([{}])).matches(&node("n1")));
        let other = json!([{}, { "matchExpressions": [{ "key": "a", "operator": "DoesNotExist" }] }]);
        assert!(selector(json!({}), other).matches(&node("n1")));
    }

    #[test]
    fn an_empty_selector_matches_everything() {
        assert!(NodeSelector::default().matches(&node("n1")));
    }

    #[test]
    fn match_fields_select_by_name() {
        let by = |operator: &str| {
            let field = json!({ "key": "metadata.name", "operator": operator, "values": ["n1"] });
            selector(json!({}), json!([{ "matchFields": [field] }]))
        };
        assert!(by("In").matches(&node("n1")));
        assert!(!by("In").matches(&node("n2")));
        assert!(!by("NotIn").matches(&node("n1")));
        assert!(by("NotIn").matches(&node("n2")));
    }

    #[test]
    fn order_and_repetition_do_not_matter_to_equality() {
        let expression = |key: &str, values: Value| json!({ "key": key, "operator": "In", "values": values });
        let a = selector(
            json!({}),
            json!([
                { "matchExpressions": [expression("x", json!(["1", "2"])), expression("y", json!(["3"]))] },
                {},
                { "matchExpressions": [expression("z", json!(["4"]))] },
            ]),
        );
        let b = selector(
            json!({}),
            json!([
                { "matchExpressions": [expression("z", json!(["4", "4"]))] },
                { "matchExpressions": [expression("y", json!(["3"])), expression("x", json!(["2", "1"]))] },
            ]),
        );
        assert_eq!(a, b);
        assert_eq!(a.label_keys().collect::<Vec<_>>(), ["x", "y", "z"]);
        assert_eq!(a.terms().unwrap()[0].to_string(), "x In [1, 2] and y In [3]");
    }

    fn refused(pairs: Value, terms: Value) -> Vec<String> {
        let pairs = serde_json::from_value(pairs).unwrap();
        let required = serde_json::from_value(json!({ "nodeSelectorTerms": terms })).unwrap();
        let problems = NodeSelector::compile("s", &pairs, Some(&required)).unwrap_err();
        let path = "s.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms";
        problems
            .iter()
            .map(|problem| problem.to_string().replace(path, "TERMS"))
            .collect()
    }

    #[test]
    fn what_a_pod_may_not_have_is_refused() {
        let expression = |key: &str, operator: &str, values: Value| json!([{}, { "matchExpressions": [{ "key": key, "operator": operator, "values": values }] }]);
        let field = |key: &str, operator: &str, values: Value| json!([{ "matchFields": [{ "key": key, "operator": operator, "values": values }] }]);
        let e = "TERMS[1].matchExpressions[0]";
        let f = "TERMS[0].matchFields[0]";
        let name = "metadata.name";
        for (terms, expected) in [
            (json!([]), "TERMS: is empty: name at least one term".to_owned()),
            (
                expression("k", "in", json!(["a"])),
                format!("{e}.operator: \"in\" is not an operator: use In"),
            ),
            (
                expression("k", "In", json!([])),
                format!("{e}.values: In with 0 values: name at least one"),
            ),
            (
                expression("k", "NotIn", json!(null)),
                format!("{e}.values: NotIn with 0 values: name at least"),
            ),
            (
                expression("k", "Exists", json!(["a"])),
                format!("{e}.values: Exists with 1 values: leave"),
            ),
            (
                expression("k", "DoesNotExist", json!(["a"])),
                format!("{e}.values: DoesNotExist with 1 values"),
            ),
            (
                expression("k", "Gt", json!(["1", "2"])),
                format!("{e}.values: Gt with 2 values: name exactly"),
            ),
            (
                expression("k", "Lt", json!([])),
                format!("{e}.values: Lt with 0 values: name exactly"),
            ),
            (
                expression("k", "Gt", json!(["five"])),
                format!("{e}.values[0]: \"five\" is not an integer: Gt"),
            ),
            (
                expression("", "Exists", json!([])),
                format!("{e}.key: \"\" is empty: use at most"),
            ),
            (
                expression("k!", "Exists", json!([])),
                format!("{e}.key: \"k!\" does not begin and end"),
            ),
            (
                expression("k", "In", json!(["a", "b c"])),
                format!("{e}.values[1]: \"b c\" has a character"),
            ),
            (
                field(name, "Exists", json!([])),
                format!("{f}.operator: \"Exists\" is not an operator of matchFields"),
            ),
            (
                field(name, "In", json!(["a", "b"])),
                format!("{f}.values: 2 values: name exactly one node"),
            ),
            (
                field(name, "In", json!(["A"])),
                format!("{f}.values[0]: \"A\" is not a DNS name: use"),
            ),
            (
                field("metadata.uid", "In", json!(["a"])),
                format!("{f}.key: \"metadata.uid\" is not a field"),
            ),
        ] {
            let problems = refused(json!({}), terms);
            assert_eq!(problems.len(), 1, "{problems:?}");
            assert!(problems[0].starts_with(&expected), "{problems:?}, not {expected}");
        }
    }

    #[test]
    fn all_problems_are_reported() {
        let problems = refused(
            json!({ "a b": "c d" }),
            json!([
                { "matchExpressions": [{ "key": "", "operator": "Gt", "values": ["x y"] }] },
                { "matchFields": [{ "key": "x", "operator": "In", "values": [] }] },
            ]),
        );
        assert_eq!(problems.len(), 7, "{problems:?}");
    }

    const KEYS: [&str; 3] = ["a", "b", "c"];
    const VALUES: [&str; 5] = ["", "x", "3", "5", "05"];
    const NAMES: [&str; 2] = ["n1", "n2"];

    /// The API's form of a selector, valid.
    pub(in crate::domain) fn any_api_selector()
    -> impl Strategy<Value = (BTreeMap<String, String>, Option<core::NodeSelector>)> {
        let values = vec(select(&VALUES[..]), 1..3);
        let expression =
            (select(&KEYS[..]), 0..6usize, values, 0i64..8).prop_map(|(key, operator, values, bound)| {
                let operator = ["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"][operator];
                let values = match operator {
                    "Exists" | "DoesNotExist" => json!([]),
                    "Gt" | "Lt" => json!([bound.to_string()]),
                    _ => json!(values),
                };
                json!({ "key": key, "operator": operator, "values": values })
            });
        let field = (select(&["In", "NotIn"][..]), select(&NAMES[..])).prop_map(
            |(operator, name)| json!({ "key": "metadata.name", "operator": operator, "values": [name] }),
        );
        let term = (vec(expression, 0..3), vec(field, 0..2)).prop_map(
            |(expressions, fields)| json!({ "matchExpressions": expressions, "matchFields": fields }),
        );
        let required = proptest::option::of(
            vec(term, 1..4)
                .prop_map(|terms| serde_json::from_value(json!({ "nodeSelectorTerms": terms })).unwrap()),
        );
        let pairs = proptest::collection::btree_map(select(&KEYS[..]), select(&VALUES[..3]), 0..2);
        let pairs = pairs.prop_map(|pairs| {
            let owned = pairs
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value.to_owned()));
            owned.collect()
        });
        (pairs, required)
    }

    pub(in crate::domain) fn any_labels() -> impl Strategy<Value = BTreeMap<String, String>> {
        proptest::collection::btree_map("[abc]", select(&VALUES[..]).prop_map(str::to_owned), 0..4)
    }

    pub(in crate::domain) fn any_name() -> impl Strategy<Value = &'static str> {
        select(&NAMES[..])
    }

    /// `RequiredNodeAffinity.Match` with `Requirement.Matches`, over the API's strings.
    pub(in crate::domain) fn matches_in_go(
        pairs: &BTreeMap<String, String>,
        required: Option<&core::NodeSelector>,
        labels: &BTreeMap<String, String>,
        name: &str,
    ) -> bool {
        for (key, value) in pairs {
            if !labels.contains_key(key) || &labels[key] != value {
                return false;
            }
        }
        let Some(required) = required else { return true };
        for term in &required.node_selector_terms {
            let expressions = term.match_expressions.clone().unwrap_or_default();
            let fields = term.match_fields.clone().unwrap_or_default();
            if expressions.len() + fields.len() == 0 {
                continue;
            }
            let mut all = true;
            for expression in expressions {
                let values = expression.values.unwrap_or_default();
                let has = labels.contains_key(&expression.key);
                let value = labels.get(&expression.key).cloned().unwrap_or_default();
                let numbers = (
                    value.parse::<i64>(),
                    values.first().map(|bound| bound.parse::<i64>()),
                );
                all &= match expression.operator.as_str() {
                    "In" => has && values.contains(&value),
                    "NotIn" => !has || !values.contains(&value),
                    "Exists" => has,
                    "DoesNotExist" => !has,
                    "Gt" => matches!(numbers, (Ok(value), Some(Ok(bound))) if has && value > bound),
                    _ => matches!(numbers, (Ok(value), Some(Ok(bound))) if has && value < bound),
                };
            }
            for field in fields {
                let same = field.values.unwrap_or_default()[0] == name;
                all &= if field.operator == "In" { same } else { !same };
            }
            if all {
                return true;
            }
        }
        false
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]

        #[test]
        fn matches_agrees_with_upstream(
            (pairs, required) in any_api_selector(),
            labels in any_labels(),
            name in any_name(),
        ) {
            let selector = NodeSelector::compile("s", &pairs, required.as_ref()).unwrap();
            let expected = matches_in_go(&pairs, required.as_ref(), &labels, name);
            let labels: Labels = labels.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
            prop_assert_eq!(selector.matches_labels(&labels, name), expected);
        }

        #[test]
        fn labels_that_are_not_mentioned_do_not_matter(
            (pairs, required) in any_api_selector(),
            labels in any_labels(),
        ) {
            let selector = NodeSelector::compile("s", &pairs, required.as_ref()).unwrap();
            let keys: Vec<&str> = selector.label_keys().collect();
            let all = labels.iter().map(|(key, value)| (key.as_str(), value.as_str()));
            let mentioned = all.clone().filter(|(key, _)| keys.contains(key));
            prop_assert_eq!(
                selector.matches_labels(&all.clone().collect(), "n1"),
                selector.matches_labels(&mentioned.collect(), "n1")
            );
        }
    }
}
