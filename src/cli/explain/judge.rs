//! From what was read to what is said. Pure: every rule is a function of `domain`, and what the
//! controller does next is what `domain::plan` plans.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    slice,
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::report::{
    ConditionReport, Fate, Group, GuardianReport, GuardianStanding, NodeReport, OpenTicket, OrderReport,
    PairReport, PendingGroup, Problem, ReasonGroup, RuleReport, StrategyReport, SummaryReport, TicketReport,
    WindowReport,
};
use crate::{
    api::{
        OrderStatus, Quantity,
        order::{RefreshPolicy, StrategyType},
        ticket::Phase,
    },
    domain::{
        node::{
            eligibility::{self, Failure, Keep, Placement, Reason, Rule, Verdict},
            record::{Node, Taint},
            toleration::{Operator, Toleration},
        },
        order::{
            spec::{Order, Spec},
            window::{Agenda, Window},
        },
        pair::{
            belief::Belief,
            observed::{GuardianState, GuardianView, TicketView},
            op::Op,
            plan::{self, Memory},
            reason,
        },
        values::{
            ids::{NodeName, NodeUid, TicketKey},
            quantity::Amount,
            time::Now,
        },
    },
};

/// How many examples a summary names.
const EXAMPLES: usize = 3;

/// An Order as it was read.
pub(super) struct SeenOrder {
    pub(super) order: Arc<Order>,
    pub(super) strategy: Option<StrategyReport>,
    pub(super) status: OrderStatus,
}

/// A pair as it was read.
pub(super) struct SeenPair<'a> {
    pub(super) order: &'a SeenOrder,
    /// A record without history: what carries no time is first seen `now`.
    pub(super) node: Arc<Node>,
    /// The Order's Tickets for a Node of this name.
    pub(super) tickets: Vec<TicketView>,
    pub(super) guardians: BTreeMap<TicketKey, Vec<SeenGuardian>>,
    pub(super) now: Now,
}

/// A Pod that has the name of a Guardian.
pub(super) enum SeenGuardian {
    Ours(GuardianView),
    Foreign(String),
}

/// A time as the API writes it.
pub(super) fn time(at: Timestamp) -> Time {
    Time(at)
}

/// What there is to say of the Order alone.
pub(super) fn order(seen: &SeenOrder, now: Timestamp) -> OrderReport {
    let order = &seen.order;
    let agenda = Agenda::at(order, now);
    let conditions: Vec<_> = seen.status.conditions.iter().map(condition).collect();
    let problems = order.spec.as_ref().err().into_iter().flatten();
    OrderReport {
        namespace: order.key.namespace.to_string(),
        name: order.key.name.to_string(),
        uid: order.uid.to_string(),
        generation: order.generation,
        valid: order.spec.is_ok(),
        problems: problems
            .map(|invalid| Problem {
                field: invalid.field.clone(),
                problem: invalid.problem.clone(),
                remedy: invalid.remedy.clone(),
            })
            .collect(),
        warnings: order.spec.as_ref().map(warnings).unwrap_or_default(),
        paused: order.paused,
        deleting: order.deleting,
        strategy: seen.strategy.clone(),
        window: agenda.as_ref().and_then(|agenda| agenda.current).map(window),
        next_window: agenda.as_ref().and_then(|agenda| agenda.next).map(window),
        ready: conditions.iter().find(|known| known.kind == "Ready").cloned(),
        conditions,
    }
}

fn condition(known: &Condition) -> ConditionReport {
    ConditionReport {
        kind: known.type_.clone(),
        status: known.status.clone(),
        reason: known.reason.clone(),
        message: known.message.clone(),
        observed_generation: known.observed_generation,
    }
}

fn window(window: Window) -> WindowReport {
    WindowReport {
        start: Time(window.start),
        end: window.end.map(Time),
        followed: window.followed,
    }
}

fn warnings(spec: &Spec) -> Vec<String> {
    let strategy = &spec.strategy;
    let always = strategy.refresh_policy == RefreshPolicy::Always;
    let mut warnings = Vec::new();
    if strategy.kind == StrategyType::OneTime && strategy.schedule.is_some() {
        warnings.push("schedule is ignored: type OneTime has no ticks".to_owned());
    }
    if strategy.kind == StrategyType::Recurring && always && spec.duration.is_some() {
        let why = "refreshPolicy Always holds room from tick to tick";
        warnings.push(format!("duration is ignored: {why}"));
    }
    let nothing = |amount: &Quantity| Amount::parse(&amount.0).is_ok_and(|amount| amount.nanos() == 0);
    if spec.template.resources.requests.values().all(nothing) {
        warnings.push("no room is held: every request is 0".to_owned());
    }
    warnings
}

/// What there is to say of one Order on one Node.
pub(super) fn pair(seen: &SeenPair<'_>, grace: Duration) -> PairReport {
    let (order, node) = (&seen.order.order, &seen.node);
    let judged = order.spec.as_ref().ok().map(|spec| Judged {
        placement: &spec.placement,
        node,
        grace,
        failures: eligibility::failures(&spec.placement, node, grace),
    });
    let verdict = judged
        .as_ref()
        .map(|judged| eligibility::evaluate(judged.placement, node, grace));
    let open_ticket = open_ticket(order, judged.as_ref(), seen.now.server);
    let mut tickets: Vec<_> = seen.tickets.iter().map(|one| ticket(seen, one)).collect();
    tickets.sort_by_key(|ticket| std::cmp::Reverse(ticket.sequence));
    PairReport {
        node: NodeReport {
            name: node.name.to_string(),
            uid: node.uid.to_string(),
            deleting: node.deleting,
        },
        eligible: verdict.map(Verdict::is_eligible),
        reason: verdict.and_then(first_reason).map(Reason::as_str),
        rules: judged.as_ref().map(Judged::rules).unwrap_or_default(),
        waits_for: waits_for(seen, verdict, &open_ticket),
        open_ticket,
        tickets,
    }
}

fn first_reason(verdict: Verdict) -> Option<Reason> {
    match verdict {
        Verdict::Eligible => None,
        Verdict::Ineligible { reason, .. } => Some(reason),
    }
}

/// A Node held against the rules.
struct Judged<'a> {
    placement: &'a Placement,
    node: &'a Node,
    grace: Duration,
    failures: Vec<Failure>,
}

impl Judged<'_> {
    fn rules(&self) -> Vec<RuleReport> {
        Rule::ALL.map(|rule| self.rule(rule)).into()
    }

    fn rule(&self, rule: Rule) -> RuleReport {
        let failed = self.failures.iter().filter(|failure| failure.rule() == rule);
        let (reasons, details): (Vec<_>, Vec<_>) = failed
            .map(|failure| {
                let detail = failure.detail(self.placement, self.node);
                (failure.reason.as_str(), detail)
            })
            .unzip();
        RuleReport {
            rule: rule.as_str(),
            holds: reasons.is_empty(),
            detail: if reasons.is_empty() {
                self.holding(rule)
            } else {
                details.join("; ")
            },
            reasons,
        }
    }

    /// Why a rule holds.
    fn holding(&self, rule: Rule) -> String {
        match rule {
            Rule::Ready => format!("condition Ready is True since {}", self.node.ready.since),
            Rule::Schedulable => "not cordoned".to_owned(),
            Rule::Selected => self.selected(),
            Rule::Tolerated if self.node.taints.is_empty() => "no taints".to_owned(),
            Rule::Tolerated => {
                let taints = self.node.taints.iter().map(|taint| self.tolerated(taint));
                taints.collect::<Vec<_>>().join("; ")
            }
        }
    }

    fn selected(&self) -> String {
        let (selector, node) = (&self.placement.selector, self.node);
        let pairs = selector
            .pairs()
            .iter()
            .map(|(key, value)| format!("{key}={value}"));
        let term = selector
            .terms()
            .into_iter()
            .flatten()
            .find(|term| term.matches(&node.labels, node.name.as_str()));
        let mut parts = Vec::new();
        if !selector.pairs().is_empty() {
            parts.push(format!("nodeSelector {}", pairs.collect::<Vec<_>>().join(", ")));
        }
        parts.extend(term.map(|term| format!("node affinity {term}")));
        if parts.is_empty() {
            "the Order selects every node".to_owned()
        } else {
            parts.join("; ")
        }
    }

    fn tolerated(&self, taint: &Taint) -> String {
        if !eligibility::matters(taint) {
            return format!("taint {taint} does not count here");
        }
        match self.tolerating(taint) {
            Some(toleration) => format!("taint {taint} is tolerated by {}", yaml(toleration)),
            None => format!("taint {taint}"),
        }
    }

    fn tolerating(&self, taint: &Taint) -> Option<&Toleration> {
        let mut tolerations = self.placement.tolerations.iter();
        tolerations.find(|toleration| toleration.tolerates(taint))
    }

    /// The failure that ends an open Ticket first, and where its time comes from.
    fn least(&self) -> Option<(&Failure, Source<'_>)> {
        let found = self.failures.iter().enumerate();
        let (index, failure) = found.min_by_key(|(_, failure)| failure.keep)?;
        Some((failure, self.source(index, failure)))
    }

    /// The flag counts if another grace would make a difference.
    fn source(&self, index: usize, failure: &Failure) -> Source<'_> {
        let graces = [self.grace, self.grace.saturating_add(Duration::from_secs(1))];
        let longer = eligibility::failures(self.placement, self.node, graces[1]);
        if longer[index].keep != failure.keep {
            return Source::Flag(self.grace);
        }
        let taint = failure.taint.and_then(|index| self.node.taints.get(index));
        let toleration = match (failure.reason, taint) {
            (Reason::NotReady, _) => self.placement.tolerations.iter().find(|one| {
                let alone = |grace| eligibility::ready(slice::from_ref(*one), self.node, grace);
                graces.map(alone) == [Some((failure.reason, failure.keep)); 2]
            }),
            (Reason::ToleratedForAWhile, Some(taint)) => self.tolerating(taint),
            _ => None,
        };
        toleration.map_or(Source::Rule, Source::Toleration)
    }

    /// Whether the failure's time is counted from first sight, which the API does not tell.
    fn first_sight(&self, failure: &Failure, now: Timestamp) -> bool {
        let taint = failure.taint.and_then(|index| self.node.taints.get(index));
        taint.map_or(self.node.ready.since, |taint| taint.since) == now
    }
}

/// Where the time that an open Ticket stays comes from.
#[derive(Clone, Copy)]
enum Source<'a> {
    /// The rule itself: at once.
    Rule,
    /// `--not-ready-grace`.
    Flag(Duration),
    /// A toleration of the Order.
    Toleration(&'a Toleration),
}

impl Source<'_> {
    fn words(self) -> String {
        match self {
            Self::Rule => String::new(),
            Self::Flag(grace) => format!("; --not-ready-grace is {}s", grace.as_secs_f64()),
            Self::Toleration(toleration) => {
                let without = if toleration.seconds.is_none() {
                    " without tolerationSeconds"
                } else {
                    ""
                };
                format!("; the Order has the toleration {}{without}", yaml(toleration))
            }
        }
    }
}

fn yaml(toleration: &Toleration) -> String {
    let Toleration { key, value, .. } = toleration;
    let mut fields = Vec::new();
    if !key.is_empty() {
        fields.push(format!("key: {key}"));
    }
    match toleration.operator {
        Operator::Exists => fields.push("operator: Exists".to_owned()),
        Operator::Equal => fields.push(format!("value: {value:?}")),
    }
    fields.extend(
        toleration
            .effect
            .map(|effect| format!("effect: {}", effect.as_str())),
    );
    fields.extend(
        toleration
            .seconds
            .map(|seconds| format!("tolerationSeconds: {seconds}")),
    );
    format!("{{{}}}", fields.join(", "))
}

/// What becomes of an open Ticket, in the order in which `domain::plan` asks.
fn open_ticket(order: &Arc<Order>, judged: Option<&Judged<'_>>, now: Timestamp) -> OpenTicket {
    let said = |fate, detail: &str| OpenTicket {
        fate,
        at: None,
        detail: detail.to_owned(),
    };
    if order.deleting {
        return said(Fate::RemovedAtOnce, "removed: the Order is being deleted");
    }
    let Some(judged) = judged else {
        return said(Fate::Stays, "stays until the spec is valid");
    };
    let Some((failure, source)) = judged.least() else {
        let window = Agenda::at(order, now).and_then(|agenda| agenda.current);
        let closes = window.is_some_and(|window| window.end.is_some() && !window.followed);
        let until = if closes { " and its window is open" } else { "" };
        return said(Fate::Stays, &format!("stays while every rule holds{until}"));
    };
    let mut found = kept(failure, source, now);
    if found.at.is_some() && judged.first_sight(failure, now) {
        found
            .detail
            .push_str("; counted from when the controller first saw it, so it may be sooner");
    }
    if order.paused {
        let later = std::mem::take(&mut found.detail);
        return said(
            Fate::Stays,
            &format!("stays while the Order is paused; after that: {later}"),
        );
    }
    found
}

fn kept(failure: &Failure, source: Source<'_>, now: Timestamp) -> OpenTicket {
    let why = format!("{}{}", failure.reason.as_str(), source.words());
    let (fate, at, detail) = match failure.keep {
        Keep::Remove => (Fate::RemovedAtOnce, None, format!("removed at once: {why}")),
        Keep::Until(end) if end <= now => {
            let detail = format!("removed at once: {why}; that ended at {end}");
            (Fate::RemovedAtOnce, None, detail)
        }
        Keep::Until(end) => {
            let left = end.duration_since(now).as_secs();
            let detail = format!("removed at {end}, in {left} s: {why}");
            (Fate::RemovedAt, Some(Time(end)), detail)
        }
        Keep::Forever => (Fate::Stays, None, format!("stays: {why}")),
    };
    OpenTicket { fate, at, detail }
}

fn ticket(seen: &SeenPair<'_>, ticket: &TicketView) -> TicketReport {
    let hash = seen
        .order
        .order
        .spec
        .as_ref()
        .ok()
        .map(|spec| &spec.template.hash);
    TicketReport {
        name: ticket.key.name.to_string(),
        phase: ticket.phase,
        sequence: ticket.sequence,
        window_start: ticket.window_start.map(Time),
        expiration_time: ticket.expires.map(Time),
        finished_time: ticket.finished_at.map(Time),
        reason: ticket.reason.as_deref().map(Into::into),
        message: ticket.message.as_deref().map(Into::into),
        deleting: ticket.deleting,
        updated: hash.map(|hash| hash.as_str() == ticket.template_hash.as_ref()),
        earlier_node: ticket.node != seen.node.uid,
        guardians: seen.guardians(ticket).iter().map(guardian).collect(),
    }
}

fn guardian(seen: &SeenGuardian) -> GuardianReport {
    let view = match seen {
        SeenGuardian::Ours(view) => view,
        SeenGuardian::Foreign(name) => {
            return GuardianReport {
                name: name.clone(),
                state: GuardianStanding::Foreign,
                node: None,
                message: None,
                deleting: false,
            };
        }
    };
    let (state, node, message) = match &view.state {
        GuardianState::Bound(node) => (GuardianStanding::Bound, Some(node.to_string()), None),
        GuardianState::Unbound { .. } if view.covered() => (GuardianStanding::UnderCover, None, None),
        GuardianState::Unbound { unschedulable } => {
            (GuardianStanding::Unbound, None, unschedulable.as_deref())
        }
        GuardianState::Ended { message } => (GuardianStanding::Ended, None, Some(message.as_ref())),
    };
    GuardianReport {
        name: view.key.name.to_string(),
        state,
        node,
        message: message.map(Into::into),
        deleting: view.deleting,
    }
}

impl SeenPair<'_> {
    fn guardians(&self, ticket: &TicketView) -> &[SeenGuardian] {
        self.guardians.get(&ticket.key).map_or(&[], Vec::as_slice)
    }

    /// The Ticket that holds the room or is to hold it.
    fn open(&self) -> Option<&TicketView> {
        let open = |ticket: &&TicketView| {
            ticket.node == self.node.uid && (ticket.open() || ticket.phase == Phase::Claiming)
        };
        let open = self.tickets.iter().filter(open);
        open.max_by_key(|ticket| (!ticket.deleting, ticket.sequence))
    }

    /// The Order's windows around now.
    fn agenda(&self) -> Option<Agenda> {
        Agenda::at(&self.order.order, self.now.server)
    }

    /// The name of the Ticket that the controller makes next, if one is due.
    fn due(&self, verdict: Verdict) -> Option<TicketKey> {
        let own = |ticket: &&TicketView| ticket.node == self.node.uid;
        let belief = Belief::of(self.tickets.iter().filter(own).cloned(), []);
        let agenda = self.agenda();
        let planned = plan::plan(&plan::View {
            order: plan::Fate::Live(self.order.order.clone()),
            node: plan::Fate::Live(self.node.clone()),
            verdict,
            agenda: agenda.as_ref(),
            held: false,
            belief: &belief,
            memory: &Memory::default(),
            may_replace: true,
            barred_until: None,
            now: self.now,
        });
        let created = planned
            .ops
            .into_iter()
            .find(|(_, op)| matches!(op, Op::CreateTicket { .. }));
        created.map(|(key, _)| key)
    }
}

/// What must happen next, in one sentence that follows on "waits for".
fn waits_for(seen: &SeenPair<'_>, verdict: Option<Verdict>, open_ticket: &OpenTicket) -> String {
    let order = &seen.order.order;
    if order.deleting {
        return "nothing: the Order is being deleted, its Tickets and Guardians go".to_owned();
    }
    let Some(verdict) = verdict else {
        return "a valid spec; until then nothing is made, changed or removed".to_owned();
    };
    match (first_reason(verdict), seen.open()) {
        (_, Some(ticket)) if ticket.phase == Phase::Claiming => {
            "its claimant to be bound to the node".to_owned()
        }
        (_, Some(ticket)) if ticket.deleting => "the Ticket to be gone".to_owned(),
        (None, Some(ticket)) if ticket.phase == Phase::Reserved => reserved(seen, ticket),
        (None, Some(ticket)) => pending(seen, ticket),
        (Some(_), Some(_)) => match (open_ticket.fate, &open_ticket.at) {
            (Fate::RemovedAtOnce, _) => "the controller to remove the Ticket".to_owned(),
            (_, Some(Time(at))) => format!("the node to be eligible again before {at}"),
            (_, None) => "the node to be eligible again; the Ticket stays meanwhile".to_owned(),
        },
        (Some(reason), None) => {
            let rule = reason.rule().as_str();
            format!("the node to be eligible; the first rule that fails is {rule}")
        }
        (None, None) => next(seen, verdict),
    }
}

fn reserved(seen: &SeenPair<'_>, ticket: &TicketView) -> String {
    let bound = |one: &SeenGuardian| matches!(one, SeenGuardian::Ours(view) if matches!(view.state, GuardianState::Bound(_)) && !view.deleting);
    let spec = seen.order.order.spec.as_ref().ok();
    let updated = spec.is_none_or(|spec| spec.template.hash.as_str() == ticket.template_hash.as_ref());
    if !seen.guardians(ticket).iter().any(bound) {
        "the controller to see that the Guardian is gone, and to make another".to_owned()
    } else if updated {
        held(seen)
    } else {
        "its turn in the roll-out: it has an older template of the Order".to_owned()
    }
}

fn held(seen: &SeenPair<'_>) -> String {
    let held = "nothing: the Guardian holds the room";
    let Some(agenda) = seen.agenda() else {
        return held.to_owned();
    };
    match agenda.current.map(|window| (window.end, window.followed)) {
        Some((Some(end), true)) => format!("{held}; the Ticket is renewed within a minute of {end}"),
        Some((Some(end), false)) => format!("{held} until {end}"),
        Some((None, _)) => held.to_owned(),
        None => "the controller to see that the window has closed".to_owned(),
    }
}

fn pending(seen: &SeenPair<'_>, ticket: &TicketView) -> String {
    let guardians = seen.guardians(ticket);
    let view = guardians.iter().find_map(|guardian| match guardian {
        SeenGuardian::Ours(view) if !view.deleting => Some(view),
        _ => None,
    });
    let covered = |guardian: &SeenGuardian| matches!(guardian, SeenGuardian::Ours(view) if view.covered());
    if guardians.iter().any(covered) {
        return "its new Guardian, which is under cover, to take over the room of the old one".to_owned();
    }
    match (view.map(|view| &view.state), guardians.first()) {
        (Some(GuardianState::Bound(_)), _) => {
            "the controller to see that the Guardian is bound, and to say Reserved".to_owned()
        }
        (
            Some(GuardianState::Unbound {
                unschedulable: Some(_),
            }),
            _,
        ) => "room on the node: the scheduler finds none for the Guardian".to_owned(),
        (Some(GuardianState::Unbound { unschedulable: None }), _) => {
            "the scheduler to bind the Guardian; it has said nothing yet".to_owned()
        }
        (Some(GuardianState::Ended { message }), _) => format!("a new Guardian: {message}"),
        (None, Some(SeenGuardian::Foreign(name))) => {
            format!("the name {name}: a Pod that is not korder's has it; delete that Pod")
        }
        (None, Some(SeenGuardian::Ours(_))) => "its old Guardian to be gone".to_owned(),
        (None, None) if seen.order.order.paused => "the Order to be unpaused".to_owned(),
        (None, None) => match (&ticket.reason, &ticket.message) {
            (Some(reason), Some(message)) => format!("a Guardian: {reason}: {message}"),
            (Some(reason), None) => format!("a Guardian: {reason}"),
            (None, _) => "the controller to make its Guardian".to_owned(),
        },
    }
}

/// Eligible, and no Ticket is open.
fn next(seen: &SeenPair<'_>, verdict: Verdict) -> String {
    let order = &seen.order.order;
    if let Some(key) = seen.due(verdict) {
        return format!(
            "the controller to make Ticket {}; if that lasts, look whether `korder run` is up, and at \
             the Events of the Order",
            key.name
        );
    }
    if order.paused {
        return "the Order to be unpaused: no Ticket is made meanwhile".to_owned();
    }
    let (open, later) = seen
        .agenda()
        .map_or((None, None), |agenda| (agenda.current, agenda.next));
    let later = later.map(|next| next.start);
    if open.is_none() {
        return later.map_or_else(
            || "nothing: the last window has closed".to_owned(),
            |start| format!("the next window, which opens at {start}"),
        );
    }
    let policy = order.spec.as_ref().ok().map(|spec| spec.strategy.refresh_policy);
    let claimed = seen.tickets.iter().any(|ticket| ticket.phase == Phase::Claimed);
    match policy {
        Some(policy) if claimed => format!("its claimant to end (refreshPolicy {policy:?})"),
        Some(policy) => match later {
            Some(start) => format!("the next window, which opens at {start} (refreshPolicy {policy:?})"),
            None => format!("nothing: no other Ticket is due (refreshPolicy {policy:?})"),
        },
        None => "nothing".to_owned(),
    }
}

/// Counts all Tickets of an Order, then all Nodes.
pub(super) struct Tally<'a> {
    order: &'a Order,
    grace: Duration,
    nodes: u32,
    eligible: u32,
    with_ticket: HashSet<NodeUid>,
    without_ticket: Names,
    ineligible: BTreeMap<Reason, Names>,
    tickets: BTreeMap<Phase, u32>,
    pending: BTreeMap<String, PendingGroup>,
}

impl<'a> Tally<'a> {
    pub(super) fn new(order: &'a Order, grace: Duration) -> Self {
        Self {
            order,
            grace,
            nodes: 0,
            eligible: 0,
            with_ticket: HashSet::new(),
            without_ticket: Names::default(),
            ineligible: BTreeMap::new(),
            tickets: BTreeMap::new(),
            pending: BTreeMap::new(),
        }
    }

    /// Counts a Ticket, if it is the Order's.
    pub(super) fn ticket(&mut self, ticket: TicketView) {
        if ticket.order != self.order.uid {
            return;
        }
        *self.tickets.entry(ticket.phase).or_default() += 1;
        if ticket.phase == Phase::Pending {
            self.pending(&ticket);
        }
        // A finished one is remembered, and holds nothing.
        if !ticket.finished() {
            self.with_ticket.insert(ticket.node);
        }
    }

    fn pending(&mut self, ticket: &TicketView) {
        let reason = ticket.reason.as_deref().unwrap_or(reason::RESERVING);
        let (node, message) = (ticket.node_name.to_string(), ticket.message.as_deref());
        let group = self
            .pending
            .entry(reason.to_owned())
            .or_insert_with(|| PendingGroup {
                reason: reason.to_owned(),
                count: 0,
                node: node.clone(),
                message: None,
            });
        group.count += 1;
        if node <= group.node {
            group.node = node;
            group.message = message.map(Into::into);
        }
    }

    /// Counts a Node. All Tickets have been counted before.
    pub(super) fn node(&mut self, node: &Node) {
        self.nodes += 1;
        let Ok(spec) = &self.order.spec else { return };
        match eligibility::evaluate(&spec.placement, node, self.grace) {
            Verdict::Eligible => {
                self.eligible += 1;
                if !self.with_ticket.contains(&node.uid) {
                    self.without_ticket.add(&node.name);
                }
            }
            Verdict::Ineligible { reason, .. } => self.ineligible.entry(reason).or_default().add(&node.name),
        }
    }

    pub(super) fn summary(self) -> SummaryReport {
        let mut ineligible: Vec<_> = self
            .ineligible
            .into_iter()
            .map(|(reason, names)| ReasonGroup {
                reason: reason.as_str(),
                nodes: names.group(),
            })
            .collect();
        ineligible.sort_by_key(|group| std::cmp::Reverse(group.nodes.count));
        let mut pending: Vec<_> = self.pending.into_values().collect();
        pending.sort_by_key(|group| std::cmp::Reverse(group.count));
        SummaryReport {
            nodes: self.nodes,
            eligible: self.order.spec.is_ok().then_some(self.eligible),
            without_ticket: self.without_ticket.group(),
            ineligible,
            tickets: self.tickets,
            pending,
        }
    }
}

/// A number of names, of which the first few are kept.
#[derive(Default)]
struct Names {
    count: u32,
    first: BTreeSet<NodeName>,
}

impl Names {
    fn add(&mut self, name: &NodeName) {
        self.count += 1;
        self.first.insert(name.clone());
        if self.first.len() > EXAMPLES {
            self.first.pop_last();
        }
    }

    fn group(self) -> Group {
        Group {
            count: self.count,
            examples: self.first.iter().map(ToString::to_string).collect(),
        }
    }
}

/// Scenes for tests: one Order `default/agents`, the Node `n1`, 100 s after the epoch.
#[cfg(test)]
pub(super) mod testing {
    use serde_json::Value;

    use super::*;
    use crate::{
        cli::explain::{
            read::see_order,
            report::{Explanation, Subject},
            text,
        },
        domain::{
            node::record::ReadyStatus,
            pair::{
                names::{guardian_name, ticket_name},
                observed::Revision,
            },
            testing::{api_order, at, node},
            values::{ids::PodKey, time::Mono},
        },
    };

    pub(in crate::cli::explain) const GRACE: Duration = Duration::from_secs(60);

    pub(in crate::cli::explain) struct Scene {
        order: SeenOrder,
        node: Node,
        tickets: Vec<TicketView>,
        guardians: BTreeMap<TicketKey, Vec<SeenGuardian>>,
    }

    pub(in crate::cli::explain) fn scene(spec: Value) -> Scene {
        let order = kube::core::DeserializeGuard(Ok(api_order("agents", spec)));
        Scene {
            order: see_order(order, "default", "agents"),
            node: node("n1"),
            tickets: Vec::new(),
            guardians: BTreeMap::new(),
        }
    }

    impl Scene {
        pub(in crate::cli::explain) fn node(mut self, change: impl FnOnce(Node) -> Node) -> Self {
            self.node = change(self.node);
            self
        }

        pub(in crate::cli::explain) fn order(mut self, change: impl FnOnce(&mut Order)) -> Self {
            change(Arc::get_mut(&mut self.order.order).unwrap());
            self
        }

        pub(in crate::cli::explain) fn ready(self, status: &str, reason: &str, message: &str) -> Self {
            self.condition("Ready", status, reason, message)
        }

        pub(in crate::cli::explain) fn condition(
            mut self,
            kind: &str,
            status: &str,
            reason: &str,
            message: &str,
        ) -> Self {
            self.order.status.conditions.push(Condition {
                type_: kind.to_owned(),
                status: status.to_owned(),
                reason: reason.to_owned(),
                message: message.to_owned(),
                last_transition_time: Time(at(0)),
                observed_generation: Some(1),
            });
            self
        }

        /// A Ticket of this phase on a node, without Guardian.
        pub(in crate::cli::explain) fn ticket_on(&self, node: &Node, phase: Phase) -> TicketView {
            let order = &self.order.order;
            let name = ticket_name(&order.key.name, &order.uid, &node.uid, 0);
            let spec = order.spec.as_ref();
            TicketView {
                key: TicketKey::new("default", name),
                uid: "t-uid".into(),
                revision: Revision(1),
                order: order.uid.clone(),
                order_name: order.key.name.clone(),
                node: node.uid.clone(),
                node_name: node.name.clone(),
                sequence: 0,
                template_hash: spec.map_or("", |spec| spec.template.hash.as_str()).into(),
                demand: crate::domain::order::demand::Demand::default(),
                duration: None,
                lifecycle: crate::api::order::Lifecycle::default(),
                phase,
                reason: None,
                message: None,
                pod_name: None,
                activated: None,
                created: at(0),
                window_start: None,
                expires: None,
                finished_at: None,
                deleting: false,
                labels_intact: true,
                unlabelled: false,
                labels: BTreeMap::new(),
                annotations: BTreeMap::new(),
            }
        }

        pub(in crate::cli::explain) fn ticket(mut self, phase: Phase) -> Self {
            self.tickets.push(self.ticket_on(&self.node, phase));
            self
        }

        /// With a Released Ticket of the window that began then.
        pub(in crate::cli::explain) fn of_window(self, start: i64) -> Self {
            let mut scene = self.ticket(Phase::Released);
            scene.tickets.last_mut().unwrap().window_start = Some(at(start));
            scene
        }

        /// With a Guardian of the last Ticket.
        pub(in crate::cli::explain) fn guardian(mut self, state: GuardianState) -> Self {
            let ticket = self.tickets.last().unwrap();
            let guardian = GuardianView {
                key: PodKey::new("default", guardian_name(&ticket.key.name)),
                uid: "g-uid".into(),
                revision: Revision(1),
                ticket: ticket.key.clone(),
                ticket_uid: ticket.uid.clone(),
                order: ticket.order.clone(),
                state,
                gates: Box::default(),
                nominated: None,
                deleting: false,
                labels_intact: true,
                template_hash: None,
            };
            let siblings = self.guardians.entry(ticket.key.clone()).or_default();
            siblings.push(SeenGuardian::Ours(guardian));
            self
        }

        pub(in crate::cli::explain) fn foreign(mut self, name: &str) -> Self {
            let ticket = self.tickets.last().unwrap();
            let siblings = self.guardians.entry(ticket.key.clone()).or_default();
            siblings.push(SeenGuardian::Foreign(name.to_owned()));
            self
        }

        pub(in crate::cli::explain) fn reserved(self) -> Self {
            let bound = GuardianState::Bound(self.node.name.clone());
            self.ticket(Phase::Reserved).guardian(bound)
        }

        pub(in crate::cli::explain) fn pending(self, message: &str) -> Self {
            let unschedulable = Some(message.into());
            let mut scene = self
                .ticket(Phase::Pending)
                .guardian(GuardianState::Unbound { unschedulable });
            let ticket = scene.tickets.last_mut().unwrap();
            ticket.reason = Some(reason::INSUFFICIENT_RESOURCES.into());
            ticket.message = Some(message.into());
            scene
        }

        pub(in crate::cli::explain) fn pair(self, grace: Duration) -> (OrderReport, PairReport) {
            let seen = SeenPair {
                order: &self.order,
                node: Arc::new(self.node),
                tickets: self.tickets,
                guardians: self.guardians,
                now: Now {
                    server: at(100),
                    mono: Mono::default(),
                },
            };
            (super::order(&self.order, at(100)), super::pair(&seen, grace))
        }

        pub(in crate::cli::explain) fn explanation(self) -> Explanation {
            let (order, pair) = self.pair(GRACE);
            Explanation {
                server_time: Time(at(100)),
                not_ready_grace_seconds: GRACE.as_secs(),
                order,
                subject: Subject::Pair(pair),
            }
        }

        pub(in crate::cli::explain) fn text(self) -> String {
            text::render(&self.explanation())
        }

        /// Four nodes that are eligible, three of them with an open Ticket and one with an expired one; four of
        /// another system; one that is broken.
        pub(in crate::cli::explain) fn summary_text(self) -> String {
            let mut tally = Tally::new(&self.order.order, GRACE);
            let linux = |name: &str| node(name).label("kubernetes.io/os", "linux");
            for (name, phase) in [
                ("linux-2", Phase::Pending),
                ("linux-1", Phase::Pending),
                ("linux-0", Phase::Reserved),
                ("linux-3", Phase::Expired),
            ] {
                let mut ticket = self.ticket_on(&node(name), phase);
                if phase == Phase::Pending {
                    ticket.reason = Some(reason::INSUFFICIENT_RESOURCES.into());
                    ticket.message = Some("0/9 nodes are available: 1 Insufficient cpu.".into());
                }
                tally.ticket(ticket);
            }
            for index in (0..4).rev() {
                tally.node(&linux(&format!("linux-{index}")));
                tally.node(&node(&format!("windows-{index}")));
            }
            tally.node(&linux("broken").ready(ReadyStatus::False, 0));
            text::render(&Explanation {
                server_time: Time(at(100)),
                not_ready_grace_seconds: GRACE.as_secs(),
                order: super::order(&self.order, at(100)),
                subject: Subject::Summary(tally.summary()),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{
        testing::{GRACE, Scene, scene},
        *,
    };
    use crate::domain::{node::record::ReadyStatus, testing::at};

    fn bare() -> Scene {
        scene(json!({}))
    }

    fn tolerating(toleration: serde_json::Value) -> Scene {
        scene(json!({ "template": { "spec": { "tolerations": [toleration] } } }))
    }

    fn fate(scene: Scene, grace: Duration) -> String {
        scene.pair(grace).1.open_ticket.detail
    }

    #[test]
    fn an_open_ticket_says_how_long_it_stays_and_by_whose_word() {
        let unreachable = |seconds: Option<i64>| {
            let mut toleration = json!({ "key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute" });
            if let Some(seconds) = seconds {
                toleration["tolerationSeconds"] = seconds.into();
            }
            tolerating(toleration).node(|node| node.ready(ReadyStatus::Unknown, 90))
        };
        let not_ready = |since| bare().node(|node| node.ready(ReadyStatus::False, since));
        let for_a_while = |since| {
            tolerating(
                json!({ "key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 30 }),
            )
            .node(|node| node.taint_since("a:NoExecute", since))
        };
        for (scene, grace, expected) in [
            (bare(), GRACE, "stays while every rule holds"),
            (
                bare().node(|node| node.cordoned()),
                GRACE,
                "removed at once: Unschedulable",
            ),
            (
                not_ready(90),
                GRACE,
                "removed at 1970-01-01T00:02:30Z, in 50 s: NotReady; --not-ready-grace is 60s",
            ),
            (
                not_ready(10),
                GRACE,
                "removed at once: NotReady; --not-ready-grace is 60s; that ended at 1970-01-01T00:01:10Z",
            ),
            (
                not_ready(90),
                Duration::ZERO,
                "removed at once: NotReady; --not-ready-grace is 0s",
            ),
            (
                not_ready(100),
                GRACE,
                "removed at 1970-01-01T00:02:40Z, in 60 s: NotReady; --not-ready-grace is 60s; counted from when the controller first saw it, so it may be sooner",
            ),
            (
                unreachable(Some(60)),
                GRACE,
                "removed at 1970-01-01T00:02:30Z, in 50 s: NotReady; the Order has the toleration {key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 60}",
            ),
            (
                unreachable(None),
                GRACE,
                "stays: NotReady; the Order has the toleration {key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute} without tolerationSeconds",
            ),
            (
                for_a_while(90),
                GRACE,
                "removed at 1970-01-01T00:02:00Z, in 20 s: ToleratedForAWhile; the Order has the toleration {key: a, operator: Exists, effect: NoExecute, tolerationSeconds: 30}",
            ),
            (
                bare().node(|node| node.taint_since("node.kubernetes.io/disk-pressure:NoSchedule", 95)),
                GRACE,
                "removed at 1970-01-01T00:02:35Z, in 55 s: UntoleratedTaint; --not-ready-grace is 60s",
            ),
            (
                not_ready(90).order(|order| order.paused = true),
                GRACE,
                "stays while the Order is paused; after that: removed at 1970-01-01T00:02:30Z, in 50 s: NotReady; --not-ready-grace is 60s",
            ),
            (
                bare().order(|order| order.deleting = true),
                GRACE,
                "removed: the Order is being deleted",
            ),
        ] {
            assert_eq!(fate(scene, grace), expected);
        }
    }

    #[test]
    fn what_a_pair_waits_for_is_the_next_thing_that_must_happen() {
        let unbound = |said: Option<&str>| GuardianState::Unbound {
            unschedulable: said.map(Into::into),
        };
        let pending = || bare().ticket(Phase::Pending);
        let policy = |policy: &str| scene(json!({ "strategy": { "refreshPolicy": policy } }));
        let bound = || GuardianState::Bound("n1".into());
        let once = |duration: &str| scene(json!({ "template": { "spec": { "duration": duration } } }));
        let ticks = |policy: &str, duration: &str| {
            let strategy = json!({ "type": "Scheduled", "schedule": "* * * * *", "refreshPolicy": policy });
            let template = json!({ "spec": { "duration": duration } });
            scene(json!({ "strategy": strategy, "template": template }))
        };
        for (scene, expected) in [
            (bare(), "the controller to make Ticket agents-zujshfzjp7paa"),
            (
                bare().order(|order| order.paused = true),
                "the Order to be unpaused: no Ticket is made meanwhile",
            ),
            (
                bare().order(|order| order.deleting = true),
                "nothing: the Order is being deleted",
            ),
            (pending(), "the controller to make its Guardian"),
            (
                pending().guardian(unbound(None)),
                "the scheduler to bind the Guardian",
            ),
            (
                pending().guardian(unbound(Some("full"))),
                "room on the node: the scheduler finds none",
            ),
            (
                pending().guardian(bound()),
                "the controller to see that the Guardian is bound",
            ),
            (
                pending().guardian(GuardianState::Ended {
                    message: "the Guardian Failed: OutOfcpu".into(),
                }),
                "a new Guardian: the Guardian Failed: OutOfcpu",
            ),
            (pending().foreign("guardian-x"), "the name guardian-x"),
            (bare().reserved(), "nothing: the Guardian holds the room"),
            (
                bare().ticket(Phase::Reserved),
                "the controller to see that the Guardian is gone",
            ),
            (
                bare().reserved().node(|node| node.cordoned()),
                "the controller to remove the Ticket",
            ),
            (
                bare().reserved().node(|node| node.ready(ReadyStatus::False, 90)),
                "the node to be eligible again before 1970-01-01T00:02:30Z",
            ),
            (bare().ticket(Phase::Claiming), "its claimant to be bound"),
            (policy("OnRelease").ticket(Phase::Claimed), "its claimant to end"),
            (
                policy("OnClaim").ticket(Phase::Claimed),
                "the controller to make Ticket",
            ),
            (
                policy("Never").ticket(Phase::Released),
                "nothing: no other Ticket is due",
            ),
            (
                ticks("Never", "90s").ticket(Phase::Released),
                "the controller to make Ticket",
            ),
            (
                ticks("Never", "90s").of_window(60),
                "the next window, which opens at 1970-01-01T00:02:00Z (refreshPolicy Never)",
            ),
            (
                ticks("Never", "30s"),
                "the next window, which opens at 1970-01-01T00:02:00Z",
            ),
            (
                ticks("OnClaim", "30s").reserved(),
                "the controller to see that the window has closed",
            ),
            (
                ticks("OnClaim", "50s").reserved(),
                "nothing: the Guardian holds the room until 1970-01-01T00:01:50Z",
            ),
            (
                ticks("OnClaim", "90s").reserved(),
                "nothing: the Guardian holds the room; the Ticket is renewed within a minute of 1970-01-01T00:02:00Z",
            ),
            (once("60s"), "nothing: the last window has closed"),
        ] {
            let found = scene.pair(GRACE).1.waits_for;
            assert!(found.starts_with(expected), "{found}\n{expected}");
        }
    }

    #[test]
    fn a_rule_that_holds_says_by_what() {
        let scene = scene(json!({ "template": { "spec": { "affinity": { "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": [
                { "matchExpressions": [{ "key": "gpu", "operator": "Exists" }] },
                { "matchExpressions": [{ "key": "zone", "operator": "In", "values": ["a", "b"] }] },
            ] } } } } } }));
        let (_, pair) = scene
            .node(|node| node.label("zone", "b").taint("x:PreferNoSchedule"))
            .pair(GRACE);
        let details: Vec<_> = pair.rules.iter().map(|rule| rule.detail.as_str()).collect();
        assert_eq!(
            details,
            [
                "condition Ready is True since 1970-01-01T00:00:00Z",
                "not cordoned",
                "node affinity zone In [a, b]",
                "taint x:PreferNoSchedule does not count here",
            ]
        );
    }

    #[test]
    fn json_is_as_documented() {
        let explanation = bare()
            .node(|node| node.ready(ReadyStatus::False, 90))
            .reserved()
            .explanation();
        let bound = json!({ "name": "guardian-agents-zujshfzjp7paa", "state": "Bound", "node": "n1", "deleting": false });
        let held = |rule: &str, detail: &str| json!({ "rule": rule, "holds": true, "reasons": [], "detail": detail });
        assert_eq!(
            serde_json::to_value(explanation).unwrap(),
            json!({
                "serverTime": Time(at(100)),
                "notReadyGraceSeconds": 60,
                "order": {
                    "namespace": "default", "name": "agents", "uid": "agents-uid", "generation": 1,
                    "valid": true, "problems": [], "warnings": [], "paused": false, "deleting": false,
                    "strategy": { "type": "OneTime", "refreshPolicy": "OnClaim" },
                    "window": { "start": Time(at(0)), "followed": false },
                    "conditions": [],
                },
                "pair": {
                    "node": { "name": "n1", "uid": "n1-uid", "deleting": false },
                    "eligible": false, "reason": "NotReady",
                    "rules": [
                        { "rule": "Ready", "holds": false, "reasons": ["NotReady"],
                          "detail": "condition Ready is False since 1970-01-01T00:01:30Z" },
                        held("Schedulable", "not cordoned"),
                        held("Selected", "the Order selects every node"),
                        held("Tolerated", "no taints"),
                    ],
                    "openTicket": { "fate": "RemovedAt", "at": Time(at(150)),
                        "detail": "removed at 1970-01-01T00:02:30Z, in 50 s: NotReady; --not-ready-grace is 60s" },
                    "tickets": [{ "name": "agents-zujshfzjp7paa", "phase": "Reserved", "sequence": 0,
                        "deleting": false, "updated": true, "earlierNode": false, "guardians": [bound] }],
                    "waitsFor": "the node to be eligible again before 1970-01-01T00:02:30Z",
                },
            })
        );
    }
}
