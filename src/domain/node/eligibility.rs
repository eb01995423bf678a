//! Which nodes an Order holds room on: the one definition.
//!
//! A node is eligible when it is Ready, schedulable, selected and tolerated. Every failure has a
//! named reason, and says how long the open Tickets of the pair outlive it. Everything faster is
//! tested against this file.

use std::time::Duration;

use jiff::Timestamp;

use super::{
    record::{Effect, Node, ReadyStatus, Taint},
    selector::NodeSelector,
    toleration::Toleration,
};
use crate::domain::values::time::later;

/// Prefix of the taints that Kubernetes itself sets.
const NODE_TAINT: &str = "node.kubernetes.io/";
/// Suffix of the taint that stands for Ready=False.
const NOT_READY: &str = "not-ready";
/// Suffix of the taint that stands for Ready=Unknown.
const UNREACHABLE: &str = "unreachable";

/// Where an Order wants its Tickets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Placement {
    /// What a node must look like.
    pub(crate) selector: NodeSelector,
    /// The taints it may have, in the Order's sequence.
    pub(crate) tolerations: Vec<Toleration>,
}

/// The four rules, in the order in which reasons are named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Rule {
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
    pub(crate) const ALL: [Self; 4] = [Self::Ready, Self::Schedulable, Self::Selected, Self::Tolerated];

    /// The rule's name.
    pub(crate) fn as_str(self) -> &'static str {
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
pub(crate) enum Reason {
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
    pub(crate) fn as_str(self) -> &'static str {
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
    pub(crate) fn rule(self) -> Rule {
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
pub(crate) enum Keep {
    /// They go at once.
    Remove,
    /// They go at this time of the API server.
    Until(Timestamp),
    /// They stay.
    Forever,
}

impl Keep {
    /// Whether the Tickets go at `now`.
    pub(crate) fn ends(self, now: Timestamp) -> bool {
        match self {
            Self::Remove => true,
            Self::Until(end) => now >= end,
            Self::Forever => false,
        }
    }

    /// So much longer, for something that began at `since`.
    pub(crate) fn and_longer(self, since: Timestamp, span: Duration) -> Self {
        match self {
            Self::Remove if span.is_zero() => self,
            Self::Remove => Self::Until(later(since, span)),
            Self::Until(end) => Self::Until(later(end, span)),
            Self::Forever => self,
        }
    }
}

/// Whether a node is eligible for an Order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Verdict {
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
    pub(crate) fn is_eligible(self) -> bool {
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
pub(crate) struct Failure {
    /// Why.
    pub(crate) reason: Reason,
    /// How long open Tickets stay if this is all that fails.
    pub(crate) keep: Keep,
    /// Position of the taint in the node's list, if it is one.
    pub(crate) taint: Option<usize>,
}

impl Failure {
    /// The rule that fails.
    pub(crate) fn rule(&self) -> Rule {
        self.reason.rule()
    }

    /// The failure in words, for people; `placement` and `node` are those it was found for.
    pub(crate) fn detail(&self, placement: &Placement, node: &Node) -> String {
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
pub(crate) fn evaluate(placement: &Placement, node: &Node, grace: Duration) -> Verdict {
    let mut verdict = Verdict::Eligible;
    for_each_failure(placement, node, grace, |failure| verdict = verdict.and(failure));
    verdict
}

/// The same when Tickets on a node that is NotReady stay for `spared` longer than the rules say.
pub(crate) fn evaluate_spared(
    placement: &Placement,
    node: &Node,
    grace: Duration,
    spared: Duration,
) -> Verdict {
    let mut verdict = Verdict::Eligible;
    for_each_failure(placement, node, grace, |mut failure| {
        if failure.reason == Reason::NotReady {
            failure.keep = failure.keep.and_longer(node.ready.since, spared);
        }
        verdict = verdict.and(failure);
    });
    verdict
}

/// Everything that keeps `node` from being eligible, in the order of the rules; each untolerated
/// taint on its own.
pub(crate) fn failures(placement: &Placement, node: &Node, grace: Duration) -> Vec<Failure> {
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
pub(crate) fn ready(tolerations: &[Toleration], node: &Node, grace: Duration) -> Option<(Reason, Keep)> {
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
pub(crate) fn schedulable(node: &Node) -> Option<(Reason, Keep)> {
    node.unschedulable
        .then_some((Reason::Unschedulable, Keep::Remove))
}

/// Rule 3: what fails of the node selector and of the required node affinity.
pub(crate) fn selected(selector: &NodeSelector, node: &Node) -> [Option<(Reason, Keep)>; 2] {
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
pub(crate) fn tolerated(
    tolerations: &[Toleration],
    taint: &Taint,
    grace: Duration,
) -> Option<(Reason, Keep)> {
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
pub(crate) fn matters(taint: &Taint) -> bool {
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

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashSet};

    use k8s_openapi::api::core::v1 as core;
    use proptest::{collection::vec, prelude::*};
    use serde_json::json;

    use super::*;
    use crate::domain::{
        node::{
            record::Ready,
            selector::tests::{any_api_selector, any_labels, any_name, matches_in_go},
            toleration::tests::{any_taint, any_toleration, tolerates_in_go},
        },
        testing::{at, node, placement},
    };

    const GRACE: Duration = Duration::from_secs(60);

    fn judged(placement: &Placement, node: &Node) -> Option<(&'static str, Keep)> {
        match evaluate(placement, node, GRACE) {
            Verdict::Eligible => None,
            Verdict::Ineligible { reason, keep } => Some((reason.as_str(), keep)),
        }
    }

    fn until(seconds: i64) -> Keep {
        Keep::Until(at(seconds))
    }

    #[test]
    fn a_ready_schedulable_selected_tolerated_node_is_eligible() {
        let placement = placement()
            .select(json!({ "os": "linux" }))
            .tolerate(json!({ "key": "gpu", "operator": "Exists" }));
        let node = node("n1")
            .label("os", "linux")
            .taint("gpu=yes:NoSchedule")
            .taint("gpu:NoExecute");
        assert_eq!(judged(&placement, &node), None);
        assert_eq!(failures(&placement, &node, GRACE), []);
    }

    #[test]
    fn a_deleting_node_is_judged_like_any_other() {
        let mut node = node("n1");
        node.deleting = true;
        assert_eq!(judged(&placement(), &node), None);
    }

    #[test]
    fn each_rule_has_its_reason_and_rules_two_to_four_remove_at_once() {
        let selective = placement().select(json!({ "os": "linux" }));
        let affine =
            placement().affinity(json!([{ "matchExpressions": [{ "key": "gpu", "operator": "Exists" }] }]));
        for (placement, node, expected) in [
            (
                placement(),
                node("n1").ready(ReadyStatus::False, 5),
                ("NotReady", until(65)),
            ),
            (
                placement(),
                node("n1").ready(ReadyStatus::Unknown, 5),
                ("NotReady", until(65)),
            ),
            (
                placement(),
                node("n1").cordoned(),
                ("Unschedulable", Keep::Remove),
            ),
            (
                selective.clone(),
                node("n1"),
                ("NodeSelectorMismatch", Keep::Remove),
            ),
            (
                selective,
                node("n1").label("os", "windows"),
                ("NodeSelectorMismatch", Keep::Remove),
            ),
            (affine, node("n1"), ("NodeAffinityMismatch", Keep::Remove)),
            (
                placement(),
                node("n1").taint("a:NoSchedule"),
                ("UntoleratedTaint", Keep::Remove),
            ),
            (
                placement(),
                node("n1").taint("a:NoExecute"),
                ("UntoleratedTaint", Keep::Remove),
            ),
        ] {
            assert_eq!(judged(&placement, &node), Some(expected), "{node:?}");
        }
    }

    #[test]
    fn prefer_no_schedule_is_ignored() {
        assert_eq!(
            judged(&placement(), &node("n1").taint("a:PreferNoSchedule")),
            None
        );
    }

    #[test]
    fn rule_four_leaves_out_the_taints_that_rules_one_and_two_stand_for() {
        for name in ["not-ready", "unreachable", "unschedulable"] {
            for effect in ["NoSchedule", "NoExecute"] {
                let node = node("n1").taint(&format!("node.kubernetes.io/{name}:{effect}"));
                assert_eq!(judged(&placement(), &node), None, "{name}:{effect}");
            }
        }
        let other = node("n1")
            .taint("example.com/unschedulable:NoSchedule")
            .taint("unschedulable:NoSchedule");
        assert_eq!(failures(&placement(), &other, GRACE).len(), 2);
    }

    #[test]
    fn an_unreachable_taint_tolerated_for_a_while_is_left_out_too() {
        let placement = placement().tolerate(json!({
            "key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5,
        }));
        let node = node("n1").taint("node.kubernetes.io/unreachable:NoExecute");
        assert_eq!(judged(&placement, &node), None);
    }

    #[test]
    fn pressure_taints_keep_tickets_for_the_grace() {
        for name in [
            "memory-pressure",
            "disk-pressure",
            "pid-pressure",
            "network-unavailable",
        ] {
            let node = node("n1").taint_since(&format!("node.kubernetes.io/{name}:NoSchedule"), 7);
            assert_eq!(
                judged(&placement(), &node),
                Some(("UntoleratedTaint", until(67))),
                "{name}"
            );
        }
        for other in [
            "node.kubernetes.io/out-of-service",
            "memory-pressure",
            "node.cloudprovider.kubernetes.io/shutdown",
        ] {
            let node = node("n1").taint(&format!("{other}:NoSchedule"));
            assert_eq!(
                judged(&placement(), &node),
                Some(("UntoleratedTaint", Keep::Remove)),
                "{other}"
            );
        }
    }

    #[test]
    fn a_toleration_does_not_change_the_grace_of_pressure_taints() {
        let placement =
            placement().tolerate(json!({ "key": "node.kubernetes.io/not-ready", "operator": "Exists" }));
        let node = node("n1").taint_since("node.kubernetes.io/disk-pressure:NoSchedule", 7);
        assert_eq!(judged(&placement, &node), Some(("UntoleratedTaint", until(67))));
    }

    fn for_seconds(seconds: i64) -> serde_json::Value {
        json!({ "key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds })
    }

    #[test]
    fn toleration_seconds_keep_tickets_until_they_have_passed() {
        let node = node("n1").taint_since("a:NoExecute", 100);
        for (seconds, keep) in [
            (300, until(400)),
            (0, Keep::Remove),
            (-5, Keep::Remove),
            (i64::MIN, Keep::Remove),
            (i64::MAX, Keep::Until(Timestamp::MAX)),
        ] {
            let placement = placement().tolerate(for_seconds(seconds));
            assert_eq!(
                judged(&placement, &node),
                Some(("ToleratedForAWhile", keep)),
                "{seconds}"
            );
        }
    }

    #[test]
    fn the_first_matching_toleration_decides() {
        let node = node("n1").taint("a:NoExecute");
        let forever = json!({ "operator": "Exists" });
        let first_for_a_while = placement().tolerate(for_seconds(9)).tolerate(forever.clone());
        assert_eq!(
            judged(&first_for_a_while, &node),
            Some(("ToleratedForAWhile", until(9)))
        );
        let first_for_ever = placement().tolerate(forever).tolerate(for_seconds(9));
        assert_eq!(judged(&first_for_ever, &node), None);
    }

    #[test]
    fn the_earliest_of_several_taints_tolerated_for_a_while_wins() {
        let placement = placement()
            .tolerate(for_seconds(50))
            .tolerate(json!({ "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 10 }));
        let node = node("n1")
            .taint_since("a:NoExecute", 0)
            .taint_since("b:NoExecute", 20);
        assert_eq!(judged(&placement, &node), Some(("ToleratedForAWhile", until(30))));
    }

    #[test]
    fn an_untolerated_taint_outdoes_one_tolerated_for_a_while() {
        let placement = placement().tolerate(for_seconds(50));
        let node = node("n1").taint("a:NoExecute").taint("b:NoSchedule");
        assert_eq!(
            judged(&placement, &node),
            Some(("UntoleratedTaint", Keep::Remove))
        );
        assert_eq!(failures(&placement, &node, GRACE).len(), 2);
    }

    #[test]
    fn the_first_rule_gives_the_reason_and_the_earliest_removal_wins() {
        let placement = placement().tolerate(for_seconds(5));
        let lost = node("n1").ready(ReadyStatus::Unknown, 100);
        let tolerated = lost.clone().taint_since("a:NoExecute", 100);
        assert_eq!(judged(&placement, &tolerated), Some(("NotReady", until(105))));
        assert_eq!(
            judged(&placement, &lost.clone().cordoned()),
            Some(("NotReady", Keep::Remove))
        );
        assert_eq!(judged(&placement, &lost), Some(("NotReady", until(160))));
    }

    /// Key suffix and seconds of tolerations; what happens on False and Unknown since 100.
    #[test]
    fn a_toleration_that_names_the_taint_replaces_the_grace() {
        type Named = (&'static str, Option<i64>);
        let (n, u) = ("not-ready", "unreachable");
        let cases: [(&[Named], Keep, Keep); 10] = [
            (&[], until(160), until(160)),
            (&[(n, Some(300))], until(400), until(400)),
            (&[(u, Some(300))], until(400), until(400)),
            (&[(u, Some(10)), (n, Some(20))], until(120), until(110)),
            (&[(n, Some(20)), (u, Some(10))], until(120), until(110)),
            (&[(n, Some(20)), (n, Some(10))], until(120), until(120)),
            (&[(n, None)], Keep::Forever, Keep::Forever),
            (&[(n, None), (u, Some(0))], Keep::Forever, Keep::Remove),
            (&[(n, Some(-1))], Keep::Remove, Keep::Remove),
            (
                &[(u, Some(i64::MAX))],
                Keep::Until(Timestamp::MAX),
                Keep::Until(Timestamp::MAX),
            ),
        ];
        for (named, on_false, on_unknown) in cases {
            let placement = named.iter().fold(placement(), |placement, (name, seconds)| {
                placement.tolerate(json!({
                    "key": format!("node.kubernetes.io/{name}"),
                    "operator": "Exists",
                    "effect": "NoExecute",
                    "tolerationSeconds": seconds,
                }))
            });
            for (status, keep) in [(ReadyStatus::False, on_false), (ReadyStatus::Unknown, on_unknown)] {
                let node = node("n1").ready(status, 100);
                assert_eq!(
                    judged(&placement, &node),
                    Some(("NotReady", keep)),
                    "{named:?} {status:?}"
                );
            }
        }
    }

    #[test]
    fn an_empty_effect_names_the_taint_and_another_effect_or_an_empty_key_does_not() {
        let key = "node.kubernetes.io/not-ready";
        for (toleration, keep) in [
            (json!({ "key": key, "operator": "Exists" }), Keep::Forever),
            (
                json!({ "key": key, "operator": "Exists", "effect": "NoSchedule" }),
                until(60),
            ),
            (json!({ "operator": "Exists" }), until(60)),
            (
                json!({ "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5 }),
                until(60),
            ),
        ] {
            let placement = placement().tolerate(toleration.clone());
            let node = node("n1").ready(ReadyStatus::False, 0);
            assert_eq!(
                judged(&placement, &node),
                Some(("NotReady", keep)),
                "{toleration}"
            );
        }
    }

    #[test]
    fn times_at_the_end_of_the_world_saturate() {
        let mut late = node("n1").taint("node.kubernetes.io/disk-pressure:NoSchedule");
        late.taints[0].since = Timestamp::MAX;
        late.ready = Ready {
            status: ReadyStatus::False,
            since: Timestamp::MAX,
        };
        for grace in [Duration::MAX, Duration::from_nanos(1)] {
            let Verdict::Ineligible { keep, .. } = evaluate(&placement(), &late, grace) else {
                panic!("eligible");
            };
            assert_eq!(keep, Keep::Until(Timestamp::MAX));
        }
    }

    #[test]
    fn keep_is_ordered_by_what_happens_first() {
        assert!(Keep::Remove < Keep::Until(Timestamp::MIN));
        assert!(until(1) < until(2));
        assert!(Keep::Until(Timestamp::MAX) < Keep::Forever);
    }

    #[test]
    fn details_say_what_a_person_needs() {
        let placement = placement()
            .affinity(json!([
                { "matchExpressions": [
                    { "key": "gpu", "operator": "In", "values": ["a", "b"] },
                    { "key": "cores", "operator": "Gt", "values": ["8"] },
                ] },
                { "matchFields": [{ "key": "metadata.name", "operator": "NotIn", "values": ["n1"] }] },
            ]))
            .tolerate(for_seconds(9));
        let node = node("n1")
            .ready(ReadyStatus::Unknown, 60)
            .cordoned()
            .taint("x=y:NoSchedule")
            .taint("a:NoExecute");
        let found = failures(&placement, &node, GRACE);
        let details: Vec<_> = found
            .iter()
            .map(|failure| {
                format!(
                    "{} {}",
                    failure.rule().as_str(),
                    failure.detail(&placement, &node)
                )
            })
            .collect();
        assert_eq!(
            details,
            [
                "Ready condition Ready is Unknown since 1970-01-01T00:01:00Z",
                "Schedulable spec.unschedulable is true (cordoned)",
                "Selected no term of the required node affinity matches: metadata.name NotIn [n1]; \
                 or cores Gt 8 and gpu In [a, b]",
                "Tolerated taint x=y:NoSchedule is not tolerated",
                "Tolerated taint a:NoExecute is tolerated for 9 s from 1970-01-01T00:00:00Z",
            ]
        );
    }

    #[test]
    fn a_selector_mismatch_names_each_pair() {
        let placement = placement().select(json!({ "a": "1", "b": "2", "c": "3" }));
        let node = node("n1").label("a", "1").label("b", "9");
        let details: Vec<_> = failures(&placement, &node, GRACE)
            .iter()
            .map(|failure| failure.detail(&placement, &node))
            .collect();
        assert_eq!(
            details,
            ["label b is \"9\", not \"2\"; label c is absent, not \"3\""]
        );
    }

    /// An Order as the API has it.
    #[derive(Clone, Debug)]
    struct Written {
        pairs: BTreeMap<String, String>,
        required: Option<core::NodeSelector>,
        tolerations: Vec<Toleration>,
    }

    impl Written {
        fn compile(&self) -> Placement {
            Placement {
                selector: NodeSelector::compile("s", &self.pairs, self.required.as_ref()).unwrap(),
                tolerations: self.tolerations.clone(),
            }
        }
    }

    /// The rules once more, as a list of what would remove the Tickets and when, in seconds, with
    /// strings and maps only: an end of `i128::MIN` is at once, of `i128::MAX` never.
    fn naive(
        written: &Written,
        labels: &BTreeMap<String, String>,
        node: &Node,
        grace: i128,
    ) -> Vec<(u8, String, i128)> {
        let mut list = Vec::new();
        let second = |time: Timestamp| i128::from(time.as_second());
        let end = |since: Timestamp, seconds: i128| {
            if seconds <= 0 {
                i128::MIN
            } else {
                second(since) + seconds
            }
        };
        let key = |name: &str| format!("node.kubernetes.io/{name}");
        if node.ready.status != ReadyStatus::True {
            let named = |name: &str| -> Vec<Option<i64>> {
                let mut seconds = Vec::new();
                for toleration in &written.tolerations {
                    let effect = toleration.effect.map_or("", Effect::as_str);
                    if *toleration.key == *key(name) && (effect.is_empty() || effect == "NoExecute") {
                        seconds.push(toleration.seconds);
                    }
                }
                seconds
            };
            let in_order = if node.ready.status == ReadyStatus::Unknown {
                [named("unreachable"), named("not-ready")].concat()
            } else {
                [named("not-ready"), named("unreachable")].concat()
            };
            let ends = match in_order.first() {
                Some(Some(seconds)) => end(node.ready.since, i128::from(*seconds)),
                Some(None) => i128::MAX,
                None => end(node.ready.since, grace),
            };
            list.push((1, "NotReady".to_owned(), ends));
        }
        if node.unschedulable {
            list.push((2, "Unschedulable".to_owned(), i128::MIN));
        }
        if !matches_in_go(&written.pairs, None, labels, node.name.as_str()) {
            list.push((3, "NodeSelectorMismatch".to_owned(), i128::MIN));
        }
        if !matches_in_go(
            &BTreeMap::new(),
            written.required.as_ref(),
            labels,
            node.name.as_str(),
        ) {
            list.push((3, "NodeAffinityMismatch".to_owned(), i128::MIN));
        }
        let left_out: HashSet<_> = ["not-ready", "unreachable", "unschedulable"].map(key).into();
        let pressure = [
            "memory-pressure",
            "disk-pressure",
            "pid-pressure",
            "network-unavailable",
        ]
        .map(key);
        for taint in &node.taints {
            if left_out.contains(&*taint.key) || taint.effect.as_str() == "PreferNoSchedule" {
                continue;
            }
            let mut matching = written.tolerations.clone();
            matching.retain(|toleration| tolerates_in_go(toleration, taint));
            if matching.is_empty() {
                let keeps = pressure.iter().any(|pressure| **pressure == *taint.key);
                let ends = if keeps { end(taint.since, grace) } else { i128::MIN };
                list.push((4, "UntoleratedTaint".to_owned(), ends));
            } else if let (Some(seconds), "NoExecute") = (matching[0].seconds, taint.effect.as_str()) {
                list.push((
                    5,
                    "ToleratedForAWhile".to_owned(),
                    end(taint.since, i128::from(seconds)),
                ));
            }
        }
        list
    }

    fn in_seconds(keep: Keep) -> i128 {
        match keep {
            Keep::Remove => i128::MIN,
            Keep::Until(time) => i128::from(time.as_second()),
            Keep::Forever => i128::MAX,
        }
    }

    /// What is beyond the last moment there is, saturates.
    fn clamp(end: i128) -> i128 {
        let last = i128::from(Timestamp::MAX.as_second());
        if end == i128::MAX { end } else { end.min(last) }
    }

    prop_compose! {
        fn any_case()(
            (pairs, required) in any_api_selector(),
            tolerations in vec(any_toleration(), 0..4),
            labels in any_labels(),
            name in any_name(),
            taints in vec(any_taint(), 0..4),
            status in prop_oneof![
                6 => Just(ReadyStatus::True),
                1 => Just(ReadyStatus::False),
                1 => Just(ReadyStatus::Unknown),
            ],
            since in 0i64..8,
            unschedulable in proptest::bool::weighted(0.1),
            bare in proptest::bool::weighted(0.5),
        ) -> (Written, BTreeMap<String, String>, Node) {
            let node = Node {
                labels: labels.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect(),
                unschedulable,
                taints,
                ..node(name).ready(status, since)
            };
            // Half of all cases select everything, so that rule 4 is often what decides.
            let (pairs, required) = if bare { Default::default() } else { (pairs, required) };
            (Written { pairs, required, tolerations }, labels, node)
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]

        #[test]
        fn evaluate_and_failures_agree_with_the_naive_rules(
            (written, labels, node) in any_case(),
            grace in 0u64..4,
        ) {
            let placement = written.compile();
            let grace_span = Duration::from_secs(grace);
            let expected = naive(&written, &labels, &node, i128::from(grace));

            let found: Vec<_> = failures(&placement, &node, grace_span)
                .iter()
                .map(|failure| (failure.reason.as_str().to_owned(), in_seconds(failure.keep)))
                .collect();
            let listed: Vec<_> = expected.iter().map(|(_, reason, end)| (reason.clone(), clamp(*end))).collect();
            prop_assert_eq!(found, listed);

            let first = expected.iter().min_by_key(|(rank, ..)| *rank);
            let earliest = expected.iter().map(|(.., end)| clamp(*end)).min();
            match evaluate(&placement, &node, grace_span) {
                Verdict::Eligible => prop_assert!(expected.is_empty()),
                Verdict::Ineligible { reason, keep } => {
                    prop_assert_eq!(Some(reason.as_str()), first.map(|(_, reason, _)| reason.as_str()));
                    prop_assert_eq!(Some(in_seconds(keep)), earliest);
                }
            }
        }
    }

    /// The property test means something only if every reason is the answer now and then.
    #[test]
    fn the_cases_reach_every_verdict() {
        use proptest::{strategy::ValueTree, test_runner::TestRunner};
        let mut runner = TestRunner::deterministic();
        let mut seen = BTreeMap::<String, u32>::new();
        for _ in 0..5_000 {
            let (written, _, node) = any_case().new_tree(&mut runner).unwrap().current();
            let verdict = match evaluate(&written.compile(), &node, GRACE) {
                Verdict::Eligible => "Eligible".to_owned(),
                Verdict::Ineligible { reason, keep } => {
                    let keep = format!("{keep:?}");
                    format!("{reason:?} {}", keep.split('(').next().unwrap_or_default())
                }
            };
            *seen.entry(verdict).or_default() += 1;
        }
        for verdict in [
            "Eligible",
            "NotReady Remove",
            "NotReady Until",
            "NotReady Forever",
            "Unschedulable Remove",
            "NodeSelectorMismatch Remove",
            "NodeAffinityMismatch Remove",
            "UntoleratedTaint Remove",
            "UntoleratedTaint Until",
            "ToleratedForAWhile Remove",
            "ToleratedForAWhile Until",
        ] {
            assert!(
                seen.get(verdict).is_some_and(|&count| count >= 20),
                "{verdict}: {seen:?}"
            );
        }
    }
}
