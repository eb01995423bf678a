//! Which nodes an Order holds room on: the one definition.
//!
//! A node is eligible when it is Ready, schedulable, selected and tolerated. Every failure has a
//! named reason, and says how long the open Tickets of the pair outlive it. Everything faster is
//! tested against this file.

use std::time::Duration;

use jiff::Timestamp;

use super::{
    node::{Effect, Node, ReadyStatus, Taint},
    selector::NodeSelector,
    time::later,
    toleration::Toleration,
};

/// Prefix of the taints that Kubernetes itself sets.
const NODE_TAINT: &str = "node.kubernetes.io/";
/// Suffix of the taint that stands for Ready=False.
const NOT_READY: &str = "not-ready";
/// Suffix of the taint that stands for Ready=Unknown.
const UNREACHABLE: &str = "unreachable";

/// Where an Order wants its Tickets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Placement {
    /// What a node must look like.
    pub selector: NodeSelector,
    /// The taints it may have, in the Order's sequence.
    pub tolerations: Vec<Toleration>,
}

/// The four rules, in the order in which reasons are named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// The node's condition Ready is True.
    Ready,
    /// The node is not cordoned.
    Schedulable,
    /// The node selector and the required node affinity match.
    Selected,
    /// Every NoSchedule and NoExecute taint is tolerated.
    Tolerated,
}

impl Rule {
    /// All rules, in order.
    pub const ALL: [Self; 4] = [Self::Ready, Self::Schedulable, Self::Selected, Self::Tolerated];

    /// The rule's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::Schedulable => "Schedulable",
            Self::Selected => "Selected",
            Self::Tolerated => "Tolerated",
        }
    }
}

/// Why a node is not eligible, in the order of the rules: of several the least is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// Ready is not True.
    NotReady,
    /// The node is cordoned.
    Unschedulable,
    /// A pair of `nodeSelector` is not among the labels.
    NodeSelectorMismatch,
    /// No term of the required node affinity matches.
    NodeAffinityMismatch,
    /// A taint is not tolerated.
    UntoleratedTaint,
    /// A NoExecute taint is tolerated, but only for some seconds.
    ToleratedForAWhile,
}

impl Reason {
    /// The reason as status, Events and metrics show it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotReady => "NotReady",
            Self::Unschedulable => "Unschedulable",
            Self::NodeSelectorMismatch => "NodeSelectorMismatch",
            Self::NodeAffinityMismatch => "NodeAffinityMismatch",
            Self::UntoleratedTaint => "UntoleratedTaint",
            Self::ToleratedForAWhile => "ToleratedForAWhile",
        }
    }

    /// The rule that fails.
    pub fn rule(self) -> Rule {
        match self {
            Self::NotReady => Rule::Ready,
            Self::Unschedulable => Rule::Schedulable,
            Self::NodeSelectorMismatch | Self::NodeAffinityMismatch => Rule::Selected,
            Self::UntoleratedTaint | Self::ToleratedForAWhile => Rule::Tolerated,
        }
    }
}

/// How long a failing pair's open Tickets stay. The least is what happens first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Keep {
    /// They go at once.
    Remove,
    /// They go at this time of the API server.
    Until(Timestamp),
    /// They stay.
    Forever,
}

/// Whether a node is eligible for an Order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// All rules hold.
    Eligible,
    /// At least one does not.
    Ineligible {
        /// That of the first failing rule.
        reason: Reason,
        /// The least of all failing rules.
        keep: Keep,
    },
}

impl Verdict {
    /// Whether all rules hold.
    pub fn is_eligible(self) -> bool {
        self == Self::Eligible
    }

    /// The verdict with one more failure.
    fn and(self, failure: Failure) -> Self {
        match self {
            Self::Eligible => Self::Ineligible {
                reason: failure.reason,
                keep: failure.keep,
            },
            Self::Ineligible { reason, keep } => Self::Ineligible {
                reason: reason.min(failure.reason),
                keep: keep.min(failure.keep),
            },
        }
    }
}

/// One thing that keeps a node from being eligible.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Failure {
    /// Why.
    pub reason: Reason,
    /// How long open Tickets stay if this is all that fails.
    pub keep: Keep,
    /// Position of the taint in the node's list, if it is one.
    pub taint: Option<usize>,
}

impl Failure {
    /// The rule that fails.
    pub fn rule(&self) -> Rule {
        self.reason.rule()
    }

    /// The failure in words, for people; `placement` and `node` are those it was found for.
    pub fn detail(&self, placement: &Placement, node: &Node) -> String {
        let taint = self.taint.and_then(|index| node.taints.get(index));
        match (self.reason, taint) {
            (Reason::NotReady, _) => {
                let status = match node.ready.status {
                    ReadyStatus::True => "True",
                    ReadyStatus::False => "False",
                    ReadyStatus::Unknown => "Unknown",
                };
                format!("condition Ready is {status} since {}", node.ready.since)
            }
            (Reason::Unschedulable, _) => "spec.unschedulable is true (cordoned)".to_owned(),
            (Reason::NodeSelectorMismatch, _) => pairs_detail(placement, node),
            (Reason::NodeAffinityMismatch, _) => terms_detail(placement),
            (Reason::UntoleratedTaint | Reason::ToleratedForAWhile, None) => String::new(),
            (Reason::UntoleratedTaint, Some(taint)) => format!("taint {taint} is not tolerated"),
            (Reason::ToleratedForAWhile, Some(taint)) => {
                let seconds = first_tolerating(&placement.tolerations, taint).and_then(|found| found.seconds);
                let seconds = seconds.unwrap_or_default();
                format!("taint {taint} is tolerated for {seconds} s from {}", taint.since)
            }
        }
    }
}

/// Whether `node` is eligible; `grace` is what `--not-ready-grace` says. Allocates nothing.
///
/// A Node that is being deleted is judged like any other.
pub fn evaluate(placement: &Placement, node: &Node, grace: Duration) -> Verdict {
    let mut verdict = Verdict::Eligible;
    for_each_failure(placement, node, grace, |failure| verdict = verdict.and(failure));
    verdict
}

/// Everything that keeps `node` from being eligible, in the order of the rules; each untolerated
/// taint on its own.
pub fn failures(placement: &Placement, node: &Node, grace: Duration) -> Vec<Failure> {
    let mut found = Vec::new();
    for_each_failure(placement, node, grace, |failure| found.push(failure));
    found
}

fn for_each_failure(placement: &Placement, node: &Node, grace: Duration, mut found: impl FnMut(Failure)) {
    let whole = |(reason, keep)| Failure {
        reason,
        keep,
        taint: None,
    };
    ready(&placement.tolerations, node, grace)
        .map(whole)
        .map(&mut found);
    schedulable(node).map(whole).map(&mut found);
    for failure in selected(&placement.selector, node).into_iter().flatten() {
        found(whole(failure));
    }
    for (index, taint) in node.taints.iter().enumerate() {
        if let Some((reason, keep)) = tolerated(&placement.tolerations, taint, grace) {
            found(Failure {
                reason,
                keep,
                taint: Some(index),
            });
        }
    }
}

/// Rule 1, and how long open Tickets stay on a node that is not Ready.
pub fn ready(tolerations: &[Toleration], node: &Node, grace: Duration) -> Option<(Reason, Keep)> {
    let keys = match node.ready.status {
        ReadyStatus::True => return None,
        ReadyStatus::False => [NOT_READY, UNREACHABLE],
        ReadyStatus::Unknown => [UNREACHABLE, NOT_READY],
    };
    let named = keys.iter().find_map(|key| grace_of(tolerations, key));
    let keep = match named {
        None => keep_for(node.ready.since, grace),
        Some(None) => Keep::Forever,
        Some(Some(seconds)) => keep_for_seconds(node.ready.since, seconds),
    };
    Some((Reason::NotReady, keep))
}

/// Rule 2.
pub fn schedulable(node: &Node) -> Option<(Reason, Keep)> {
    node.unschedulable
        .then_some((Reason::Unschedulable, Keep::Remove))
}

/// Rule 3: what fails of the node selector and of the required node affinity.
pub fn selected(selector: &NodeSelector, node: &Node) -> [Option<(Reason, Keep)>; 2] {
    let failed = |holds: bool, reason| (!holds).then_some((reason, Keep::Remove));
    [
        failed(selector.matches_pairs(&node.labels), Reason::NodeSelectorMismatch),
        failed(
            selector.matches_terms(&node.labels, node.name.as_str()),
            Reason::NodeAffinityMismatch,
        ),
    ]
}

/// Rule 4 for one taint.
pub fn tolerated(tolerations: &[Toleration], taint: &Taint, grace: Duration) -> Option<(Reason, Keep)> {
    if !matters(taint) {
        return None;
    }
    match first_tolerating(tolerations, taint) {
        None if is_pressure(taint) => Some((Reason::UntoleratedTaint, keep_for(taint.since, grace))),
        None => Some((Reason::UntoleratedTaint, Keep::Remove)),
        Some(toleration) if taint.effect == Effect::NoExecute => toleration
            .seconds
            .map(|seconds| (Reason::ToleratedForAWhile, keep_for_seconds(taint.since, seconds))),
        Some(_) => None,
    }
}

/// Whether rule 4 looks at the taint: PreferNoSchedule forbids nothing, and rules 1 and 2 stand
/// for the taints that Kubernetes sets on nodes that are not Ready or cordoned.
pub fn matters(taint: &Taint) -> bool {
    let stood_for = || {
        let name = taint.key.strip_prefix(NODE_TAINT);
        matches!(name, Some(NOT_READY | UNREACHABLE | "unschedulable"))
    };
    taint.effect != Effect::PreferNoSchedule && !stood_for()
}

/// Whether Kubernetes sets and lifts the taint by itself as the node's load changes.
fn is_pressure(taint: &Taint) -> bool {
    let name = taint.key.strip_prefix(NODE_TAINT);
    matches!(
        name,
        Some("memory-pressure" | "disk-pressure" | "pid-pressure" | "network-unavailable")
    )
}

fn first_tolerating<'a>(tolerations: &'a [Toleration], taint: &Taint) -> Option<&'a Toleration> {
    tolerations.iter().find(|toleration| toleration.tolerates(taint))
}

/// The seconds of the first toleration that names the taint `name` and so replaces the grace.
fn grace_of(tolerations: &[Toleration], name: &str) -> Option<Option<i64>> {
    tolerations
        .iter()
        .find(|toleration| {
            toleration.key.strip_prefix(NODE_TAINT) == Some(name)
                && matches!(toleration.effect, None | Some(Effect::NoExecute))
        })
        .map(|toleration| toleration.seconds)
}

fn keep_for_seconds(since: Timestamp, seconds: i64) -> Keep {
    keep_for(since, Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}

fn keep_for(since: Timestamp, span: Duration) -> Keep {
    if span.is_zero() {
        Keep::Remove
    } else {
        Keep::Until(later(since, span))
    }
}

fn pairs_detail(placement: &Placement, node: &Node) -> String {
    let wrong = placement
        .selector
        .pairs()
        .iter()
        .filter_map(|(key, wanted)| match node.labels.get(key) {
            Some(value) if value == wanted.as_ref() => None,
            Some(value) => Some(format!("label {key} is {value:?}, not {wanted:?}")),
            None => Some(format!("label {key} is absent, not {wanted:?}")),
        });
    wrong.collect::<Vec<_>>().join("; ")
}

fn terms_detail(placement: &Placement) -> String {
    let terms = placement.selector.terms().unwrap_or_default();
    if terms.is_empty() {
        return "the required node affinity has only empty terms, which match nothing".to_owned();
    }
    let terms: Vec<_> = terms.iter().map(ToString::to_string).collect();
    format!(
        "no term of the required node affinity matches: {}",
        terms.join("; or ")
    )
}
