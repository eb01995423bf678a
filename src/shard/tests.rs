//! The rules of a pair's life, played against a pocket API server that keeps views only.
//!
//! Each test applies what a watch would show, lets the shard decide, and asserts on the operations.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use serde_json::{Value, json};

use super::{
    Shard,
    state::{Fleet, Sink, Work},
};
use crate::domain::values::shard::ShardId;
use crate::{
    api::{
        GATE_COVER,
        order::{Grant, Rollout},
        ticket::Phase,
    },
    domain::{
        node::record::{Node, ReadyStatus},
        order::spec::Order,
        pair::{
            names::ticket_name,
            observed::{GuardianState, GuardianView, Revision, TicketView},
            op::{Expect, Observation, Op, Outcome},
            plan::guardian_key,
        },
        testing::{at, node, order},
        values::{
            ids::{NodeUid, OrderUid, PodKey, TicketKey},
            time::{Mono, Now},
        },
    },
    index::Index,
};

const GRACE: Duration = Duration::from_secs(60);

/// The queue: what is pending, and what has started.
#[derive(Default)]
struct Desk {
    pending: BTreeMap<TicketKey, Work>,
    started: BTreeSet<TicketKey>,
}

impl Sink for Desk {
    fn offer(&mut self, work: Work) {
        assert!(!self.started.contains(&work.ticket), "one operation per Ticket");
        self.pending.insert(work.ticket.clone(), work);
    }

    fn cancel(&mut self, ticket: &TicketKey) -> bool {
        self.pending.remove(ticket).is_some()
    }

    fn in_flight(&self, ticket: &TicketKey) -> bool {
        self.started.contains(ticket)
    }
}

/// Nodes that many others turned NotReady with, and how much longer they keep their Tickets.
#[derive(Default)]
struct Spared(BTreeMap<NodeUid, Duration>);

impl Fleet for Spared {
    fn spared(&self, node: &NodeUid) -> Duration {
        self.0.get(node).copied().unwrap_or_default()
    }
}

/// A shard, its queue, and what the API server would have.
struct Rig {
    shard: Shard,
    fleet: Spared,
    index: Index,
    desk: Desk,
    seconds: u64,
    revision: u64,
    /// `seq` of the last grant.
    granted: i64,
    tickets: BTreeMap<TicketKey, TicketView>,
    guardians: BTreeMap<PodKey, GuardianView>,
    refuse_guardians: bool,
    log: Vec<String>,
}

impl Rig {
    fn new() -> Self {
        Self {
            shard: Shard::new(ShardId(0), GRACE),
            fleet: Spared::default(),
            index: Index::default(),
            desk: Desk::default(),
            seconds: 1000,
            revision: 1,
            granted: 0,
            tickets: BTreeMap::new(),
            guardians: BTreeMap::new(),
            refuse_guardians: false,
            log: Vec::new(),
        }
    }

    fn now(&self) -> Now {
        Now {
            server: at(i64::try_from(self.seconds).unwrap()),
            mono: Mono(Duration::from_secs(self.seconds)),
        }
    }

    fn node(&mut self, node: Node) -> &mut Self {
        let mono = self.now().mono;
        self.shard.apply_node(Arc::new(node), mono);
        self
    }

    fn order(&mut self, order: Order) -> &mut Self {
        let uid = order.uid.clone();
        self.index.apply(Arc::new(order));
        let (snapshot, mono) = (self.index.publish(), self.now().mono);
        self.shard.apply_orders(snapshot, &[uid], mono);
        self
    }

    /// The Order's status shows a grant for the present template, or that it is revoked (0).
    fn grant(&mut self, count: u32) -> &mut Self {
        self.granted += 2;
        let (uid, seq) = (OrderUid::from("everywhere-uid"), self.granted);
        let hash = self
            .shard
            .nodes
            .order(&uid)
            .unwrap()
            .spec
            .as_ref()
            .unwrap()
            .template
            .hash
            .clone();
        let grants = vec![Grant { shard: 0, count, seq }];
        let rollout = Rollout {
            template_hash: hash.to_string(),
            seq,
            grants,
        };
        self.shard.see_rollout(&uid, &rollout, 0);
        self
    }

    /// What the shard says of its Order, as `(stale, rolling, grantSeq − seq of the last grant)`.
    fn acts(&mut self) -> (u32, u32, i64) {
        let uid = OrderUid::from("everywhere-uid");
        self.shard.touched.insert(uid.clone());
        self.shard.orders[&uid].reported = None;
        let counts = self.shard.take_reports().pop().unwrap().counts.unwrap();
        (counts.stale, counts.rolling, counts.grant_seq - self.granted)
    }

    /// Another process takes over, and sees what the API server has.
    fn restart(&mut self) {
        let before = std::mem::replace(&mut self.shard, Shard::new(ShardId(0), GRACE));
        self.desk = Desk::default();
        let (snapshot, now) = (self.index.publish(), self.now());
        let orders: Vec<_> = before.orders.keys().cloned().collect();
        self.shard.apply_orders(snapshot, &orders, now.mono);
        for node in before.nodes.iter() {
            self.shard.apply_node(node.clone(), now.mono);
        }
        for ticket in self.tickets.values() {
            self.shard.apply_ticket(ticket.clone());
        }
        for guardian in self.guardians.values() {
            self.shard.apply_guardian(guardian.clone(), now.mono);
        }
    }

    fn order_gone(&mut self, name: &str) {
        let uid = OrderUid::from(format!("{name}-uid"));
        self.index.delete(&uid);
        let (snapshot, mono) = (self.index.publish(), self.now().mono);
        self.shard.apply_orders(snapshot, &[uid], mono);
    }

    /// What the shard wants now, as words.
    fn decide(&mut self) -> Vec<String> {
        self.shard.decide(self.now(), &self.fleet, &mut self.desk);
        self.desk.pending.values().map(describe).collect()
    }

    /// Lets everything pending land and be shown, again and again, until nothing is wanted; Guardians
    /// are bound by the scheduler as they come. Returns what was done.
    fn settle(&mut self) -> Vec<String> {
        for _ in 0..100 {
            if self.decide().is_empty() {
                return std::mem::take(&mut self.log);
            }
            for work in std::mem::take(&mut self.desk.pending).into_values() {
                self.perform(&work);
            }
            self.bind_all();
        }
        panic!("does not settle: {:?}", self.log);
    }

    /// The scheduler binds what it may.
    fn bind_all(&mut self) {
        let unbound: Vec<_> = self.guardians.values().filter(|g| unbound(g)).cloned().collect();
        for guardian in unbound {
            self.bind(&guardian.ticket);
        }
    }

    fn wait(&mut self, seconds: u64) -> &mut Self {
        self.seconds += seconds;
        self
    }

    fn next(&mut self) -> Revision {
        self.revision += 1;
        Revision(self.revision)
    }

    fn perform(&mut self, work: &Work) {
        self.log.push(describe(work));
        let revision = self.next();
        let mono = self.now().mono;
        let outcome = match &work.op {
            Op::CreateTicket {
                order,
                node,
                sequence,
            } => match self.tickets.get(&work.ticket) {
                Some(known) => Outcome::Observed(Observation::Ticket(Box::new(known.clone()))),
                None => {
                    let mut view = new_ticket(work, order, node, *sequence, revision);
                    view.created = self.now().server;
                    let expect = Expect::Ticket(view.uid.clone(), revision);
                    self.show(view);
                    Outcome::Landed(expect)
                }
            },
            Op::SyncTicket { order, asks, .. } => {
                let template = order.spec.as_ref().unwrap().template.clone();
                let mut view = self.tickets[&work.ticket].clone();
                if *asks {
                    view.template_hash = template.hash.as_str().into();
                    view.demand = template.demand.clone();
                }
                view.duration = template.duration.as_deref().map(Into::into);
                view.labels_intact = true;
                view.labels.clone_from(&template.labels);
                view.revision = revision;
                let expect = Expect::Ticket(view.uid.clone(), revision);
                self.show(view);
                Outcome::Landed(expect)
            }
            Op::SetStatus {
                revision: on,
                status,
                term,
                ..
            } => {
                let mut view = self.tickets[&work.ticket].clone();
                assert_eq!(view.revision, *on, "decided on the newest revision");
                (view.phase, view.reason, view.message) =
                    (status.phase, status.reason.clone(), status.message.clone());
                view.pod_name.clone_from(&status.pod_name);
                view.activated = view.activated.or(status.activation.map(|seen| seen.0));
                if let Some(term) = term {
                    (view.window_start, view.expires) = (Some(term.start), term.end);
                }
                self.landed(view, revision)
            }
            Op::Renew {
                revision: on, term, ..
            } => {
                let mut view = self.tickets[&work.ticket].clone();
                assert_eq!(view.revision, *on, "decided on the newest revision");
                (view.window_start, view.expires) = (Some(term.start), term.end);
                self.landed(view, revision)
            }
            Op::Expire {
                revision: on,
                term,
                finished,
                reason,
                ..
            } => {
                let mut view = self.tickets[&work.ticket].clone();
                assert_eq!(view.revision, *on, "decided on the newest revision");
                (view.phase, view.finished_at) = (Phase::Expired, Some(finished.0));
                (view.pod_name, view.reason) = (None, reason.clone());
                if let Some(term) = term {
                    (view.window_start, view.expires) = (Some(term.start), term.end);
                }
                self.landed(view, revision)
            }
            Op::DeleteTicket {
                uid, revision: on, ..
            } => {
                let known = self.tickets[&work.ticket].revision;
                assert_eq!(known, *on, "decided on the newest revision");
                self.hide_ticket(&work.ticket);
                Outcome::Landed(Expect::TicketGone(uid.clone()))
            }
            Op::CreateGuardian {
                unless: Some(pod), ..
            }
            | Op::UngateGuardian { unless: pod, .. }
                if self.guardians.contains_key(pod) =>
            {
                Outcome::Observed(Observation::Guardian(Box::new(self.guardians[pod].clone())))
            }
            Op::CreateGuardian { .. } if self.refuse_guardians => Outcome::Refused {
                reason: "GuardianRefused",
                message: "no PriorityClass".into(),
            },
            Op::CreateGuardian {
                pod,
                covered,
                uid,
                order,
                ..
            } => {
                let gates: &[Arc<str>] = if *covered { &[GATE_COVER.into()] } else { &[] };
                let view = GuardianView {
                    key: pod.clone(),
                    uid: format!("pod-{}", revision.0).into(),
                    revision,
                    ticket: work.ticket.clone(),
                    ticket_uid: uid.clone(),
                    order: order.uid.clone(),
                    state: GuardianState::Unbound { unschedulable: None },
                    gates: gates.into(),
                    nominated: None,
                    deleting: false,
                    labels_intact: true,
                    template_hash: order
                        .spec
                        .as_ref()
                        .ok()
                        .map(|spec| spec.template.hash.as_str().into()),
                };
                let expect = Expect::Guardian(view.key.clone(), view.uid.clone(), revision);
                self.show_guardian(view);
                Outcome::Landed(expect)
            }
            Op::DeleteOrphan { ticket, .. } if self.tickets.values().any(|view| view.uid == *ticket) => {
                let message = "the Guardian's Ticket lives".into();
                Outcome::Retry { message }
            }
            Op::DeleteGuardian { pod, uid, .. } | Op::DeleteOrphan { pod, uid, .. } => {
                self.hide_pod(pod);
                Outcome::Landed(Expect::GuardianGone(pod.clone(), uid.clone()))
            }
            Op::RelabelGuardian {
                pod, template_hash, ..
            } => self.patched(pod, |view| {
                view.labels_intact = true;
                view.template_hash = template_hash.clone().or(view.template_hash.take());
            }),
            Op::ExtendGuardian { pod, order, .. } => {
                let hash = order.spec.as_ref().unwrap().template.hash.as_str().into();
                self.patched(pod, |view| view.template_hash = Some(hash))
            }
            Op::NominateGuardian {
                pod,
                revision: on,
                node,
                ..
            } => {
                assert_eq!(
                    self.guardians[pod].revision, *on,
                    "decided on the newest revision"
                );
                self.patched(pod, |view| view.nominated = Some(node.clone()))
            }
            Op::UngateGuardian { pod, .. } => self.patched(pod, |view| view.gates = Box::default()),
            Op::ConfirmTicket => Outcome::Observed(match self.tickets.get(&work.ticket) {
                Some(view) => Observation::Ticket(Box::new(view.clone())),
                None => Observation::TicketGone(work.ticket.clone()),
            }),
            Op::ConfirmGuardian(pod) => Outcome::Observed(match self.guardians.get(pod) {
                Some(view) => Observation::Guardian(Box::new(view.clone())),
                None => Observation::GuardianGone(pod.clone()),
            }),
            Op::ConfirmOrder { uid, .. } => {
                Outcome::Observed(Observation::OrderGone(self.index.order(uid).is_none()))
            }
            Op::ConfirmNode(_) => Outcome::Observed(Observation::NodeGone(true)),
        };
        self.shard.apply_outcome(work, outcome, mono);
    }

    fn landed(&mut self, mut view: TicketView, revision: Revision) -> Outcome {
        view.revision = revision;
        let expect = Expect::Ticket(view.uid.clone(), revision);
        self.show(view);
        Outcome::Landed(expect)
    }

    fn show(&mut self, view: TicketView) {
        self.tickets.insert(view.key.clone(), view.clone());
        self.shard.apply_ticket(view);
    }

    fn show_guardian(&mut self, view: GuardianView) {
        let mono = self.now().mono;
        self.guardians.insert(view.key.clone(), view.clone());
        self.shard.apply_guardian(view, mono);
    }

    fn hide_ticket(&mut self, key: &TicketKey) {
        let mono = self.now().mono;
        let view = self.tickets.remove(key).unwrap();
        self.shard.lose_ticket(key, &view.uid, view.unlabelled, mono);
    }

    fn hide_guardian(&mut self, ticket: &TicketKey) {
        let key = self.of(ticket).key;
        self.hide_pod(&key);
    }

    fn hide_pod(&mut self, pod: &PodKey) {
        let view = self.guardians.remove(pod).unwrap();
        let now = self.now().mono;
        self.shard
            .delete_guardian(&view.ticket, &view.key, &view.uid, now);
    }

    fn of(&self, ticket: &TicketKey) -> GuardianView {
        let mut own = self.guardians.values().filter(|view| view.ticket == *ticket);
        own.next().unwrap().clone()
    }

    /// A Guardian as a write leaves it.
    fn patched(&mut self, pod: &PodKey, change: impl FnOnce(&mut GuardianView)) -> Outcome {
        let mut view = self.guardians[pod].clone();
        change(&mut view);
        view.revision = Revision(self.revision);
        let expect = Expect::Guardian(view.key.clone(), view.uid.clone(), view.revision);
        self.show_guardian(view);
        Outcome::Landed(expect)
    }

    fn bind(&mut self, ticket: &TicketKey) {
        let state = GuardianState::Bound(self.tickets[ticket].node_name.clone());
        self.guardian(ticket, |view| (view.state, view.nominated) = (state, None));
    }

    fn guardian(&mut self, ticket: &TicketKey, change: impl FnOnce(&mut GuardianView)) {
        let mut view = self.of(ticket);
        change(&mut view);
        view.revision = self.next();
        self.show_guardian(view);
    }

    /// The Ticket of `everywhere` on `node` with this sequence.
    fn ticket(&self, node: &str, sequence: i64) -> TicketKey {
        let uid = NodeUid::from(format!("{node}-uid"));
        TicketKey::new(
            "default",
            ticket_name("everywhere", &"everywhere-uid".into(), &uid, sequence),
        )
    }

    /// `node phase` of every Ticket.
    fn state(&self) -> Vec<String> {
        let mut state: Vec<String> = self
            .tickets
            .values()
            .map(|view| format!("{} {:?}", view.node_name, view.phase))
            .collect();
        state.sort();
        state
    }
}

fn unbound(guardian: &GuardianView) -> bool {
    !guardian.covered() && matches!(guardian.state, GuardianState::Unbound { unschedulable: None })
}

fn new_ticket(work: &Work, order: &Order, node: &Node, sequence: i64, revision: Revision) -> TicketView {
    let template = order.spec.as_ref().unwrap().template.clone();
    TicketView {
        key: work.ticket.clone(),
        uid: format!("ticket-{}", revision.0).into(),
        revision,
        order: order.uid.clone(),
        order_name: order.key.name.clone(),
        node: node.uid.clone(),
        node_name: node.name.clone(),
        sequence,
        template_hash: template.hash.as_str().into(),
        demand: template.demand.clone(),
        duration: template.duration.as_deref().map(Into::into),
        lifecycle: template.lifecycle.clone(),
        phase: Phase::Pending,
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
        labels: template.labels.clone(),
        annotations: template.annotations.clone(),
    }
}

/// `create_ticket`, `ticket_status Reserved`, `delete_ticket Unschedulable`, …
fn describe(work: &Work) -> String {
    let detail = match &work.op {
        Op::SetStatus { status, .. } => match &status.reason {
            Some(reason) => format!(" {:?} {reason}", status.phase),
            None => format!(" {:?}", status.phase),
        },
        Op::Renew { .. } => " renewed".to_owned(),
        Op::Expire { .. } => " Expired".to_owned(),
        Op::DeleteTicket { cause, .. } | Op::DeleteGuardian { cause, .. } => format!(" {cause}"),
        _ => String::new(),
    };
    format!("{}{detail}", work.op.kind())
}

fn everywhere(extra: Value) -> Order {
    order("everywhere", extra)
}

fn generation(mut order: Order, generation: i64) -> Order {
    order.generation = generation;
    order
}

/// One node, one Order, Reserved.
fn reserved() -> Rig {
    let mut rig = Rig::new();
    rig.node(node("n1")).order(everywhere(json!({})));
    rig.settle();
    assert_eq!(rig.state(), ["n1 Reserved"]);
    rig
}

#[test]
fn eligible_node_gets_ticket_then_guardian_then_reserved() {
    let mut rig = Rig::new();
    rig.node(node("n1")).order(everywhere(json!({})));
    assert_eq!(
        rig.settle(),
        ["create_ticket", "create_guardian", "ticket_status Reserved"]
    );
}

#[test]
fn heartbeat_and_unmentioned_label_stop_at_the_fingerprint() {
    let mut rig = reserved();
    rig.shard.take_stats();
    rig.node(node("n1")).node(node("n1").label("unmentioned", "x"));
    assert_eq!(rig.decide(), [""; 0]);
    let stats = rig.shard.take_stats();
    assert_eq!((stats.stopped, stats.decisions), (2, 0));
}

#[test]
fn taint_added_removes_guardian_then_ticket_without_toleration() {
    let mut rig = reserved();
    rig.node(node("n1").taint("k=v:NoSchedule"));
    assert_eq!(
        rig.settle(),
        [
            "delete_guardian UntoleratedTaint",
            "delete_ticket UntoleratedTaint"
        ]
    );
    assert!(rig.guardians.is_empty());
}

#[test]
fn cordon_removes_and_uncordon_makes_again_under_the_same_name() {
    let mut rig = reserved();
    let name = rig.ticket("n1", 0);
    rig.node(node("n1").cordoned()).settle();
    assert_eq!(rig.state(), [""; 0]);
    rig.node(node("n1")).settle();
    assert!(rig.tickets.contains_key(&name));
}

#[test]
fn not_ready_within_grace_writes_nothing_and_back_again_neither() {
    let mut rig = reserved();
    rig.node(node("n1").ready(ReadyStatus::Unknown, 1000));
    assert_eq!(rig.decide(), [""; 0]);
    assert_eq!(rig.shard.next_wake(), Some(Mono(Duration::from_secs(1060))));
    rig.wait(30).node(node("n1").ready(ReadyStatus::True, 1030));
    assert_eq!(rig.decide(), [""; 0]);
    assert_eq!(rig.wait(1000).settle(), [""; 0]);
}

#[test]
fn node_that_is_not_ready_with_many_others_keeps_its_ticket_longer() {
    let mut rig = reserved();
    let spare = Duration::from_secs(120);
    rig.fleet.0.insert(node("n1").uid, spare);
    rig.node(node("n1").ready(ReadyStatus::Unknown, 1000)).settle();
    assert_eq!(rig.wait(60).settle(), [""; 0]);
    let next = Some(Mono(Duration::from_secs(1120)));
    assert_eq!(rig.shard.next_wake(), next, "looked at every minute");
    assert_eq!(rig.wait(60).settle(), [""; 0]);
    assert_eq!(rig.wait(59).settle(), [""; 0]);
    let removed = ["delete_guardian NotReady", "delete_ticket NotReady"];
    assert_eq!(rig.wait(1).settle(), removed);
}

#[test]
fn node_goes_earlier_when_others_are_ready_again() {
    let mut rig = reserved();
    let spare = Duration::from_secs(600);
    rig.fleet.0.insert(node("n1").uid, spare);
    rig.node(node("n1").ready(ReadyStatus::Unknown, 1000)).settle();
    assert_eq!(rig.wait(130).settle(), [""; 0]);
    rig.fleet.0.clear();
    assert_eq!(rig.wait(50).settle().len(), 2);
}

#[test]
fn node_that_fails_another_rule_is_not_spared() {
    let mut rig = reserved();
    rig.fleet.0.insert(node("n1").uid, Duration::from_secs(120));
    rig.node(node("n1").ready(ReadyStatus::Unknown, 1000).cordoned());
    assert_eq!(
        rig.settle(),
        ["delete_guardian NotReady", "delete_ticket NotReady"]
    );
}

#[test]
fn not_ready_beyond_grace_removes() {
    let mut rig = reserved();
    rig.node(node("n1").ready(ReadyStatus::Unknown, 1000)).settle();
    assert_eq!(rig.wait(59).settle(), [""; 0]);
    assert_eq!(
        rig.wait(1).settle(),
        ["delete_guardian NotReady", "delete_ticket NotReady"]
    );
}

#[test]
fn node_gone_removes_and_a_new_uid_is_a_new_pair() {
    let mut rig = reserved();
    let mut again = node("n1");
    again.uid = "n1-uid-again".into();
    rig.shard.delete_node(&"n1-uid".into());
    rig.node(again);
    let done = rig.settle();
    assert!(done.contains(&"delete_ticket NodeGone".to_owned()), "{done:?}");
    assert_eq!(rig.state(), ["n1 Reserved"]);
    assert_eq!(rig.tickets.values().next().unwrap().node.as_str(), "n1-uid-again");
}

#[test]
fn paused_makes_nothing_and_keeps_what_is_no_longer_eligible() {
    let mut rig = reserved();
    rig.order(everywhere(json!({ "paused": true })));
    rig.node(node("n1").cordoned()).node(node("n2"));
    assert_eq!(rig.settle(), [""; 0]);
    rig.order(everywhere(json!({})));
    rig.settle();
    assert_eq!(rig.state(), ["n2 Reserved"]);
}

#[test]
fn paused_still_removes_when_the_node_is_gone() {
    let mut rig = reserved();
    rig.order(everywhere(json!({ "paused": true })));
    rig.shard.delete_node(&"n1-uid".into());
    assert_eq!(
        rig.settle(),
        ["delete_guardian NodeGone", "delete_ticket NodeGone"]
    );
}

#[test]
fn deleted_guardian_is_confirmed_then_pending_at_once_then_made_after_a_second() {
    let mut rig = reserved();
    let ticket = rig.ticket("n1", 0);
    rig.hide_guardian(&ticket);
    assert_eq!(
        rig.settle(),
        ["get_guardian", "ticket_status Pending GuardianDeleted"]
    );
    assert_eq!(
        rig.wait(2).settle(),
        ["create_guardian", "ticket_status Reserved"]
    );
}

#[test]
fn guardian_whose_labels_were_stripped_is_relabelled_not_replaced() {
    let mut rig = reserved();
    let ticket = rig.ticket("n1", 0);
    let mut view = rig.of(&ticket);
    view.labels_intact = false;
    let now = rig.now().mono;
    rig.shard.delete_guardian(&ticket, &view.key, &view.uid, now);
    rig.guardians.insert(view.key.clone(), view);
    assert_eq!(rig.settle(), ["get_guardian", "patch_guardian"]);
    assert_eq!(rig.state(), ["n1 Reserved"]);
}

#[test]
fn guardian_of_another_template_that_was_out_of_sight_is_replaced() {
    let mut rig = reserved();
    let ticket = rig.ticket("n1", 0);
    rig.guardian(&ticket, |view| {
        view.template_hash = Some("another".into());
        view.state = GuardianState::Unbound { unschedulable: None };
    });
    assert_eq!(
        rig.settle(),
        [
            "ticket_status Pending GuardianMissing",
            "create_guardian",
            "nominate_guardian",
            "delete_guardian Replaced",
            "ungate_guardian",
            "ticket_status Reserved"
        ]
    );
    assert_eq!(rig.state(), ["n1 Reserved"]);
    assert_ne!(rig.of(&ticket).template_hash.as_deref(), Some("another"));
}

#[test]
fn ticket_that_only_lost_its_labels_is_relabelled_not_made_again() {
    let mut rig = reserved();
    let ticket = rig.ticket("n1", 0);
    let mut view = rig.tickets[&ticket].clone();
    view.labels_intact = false;
    rig.hide_ticket(&ticket);
    rig.tickets.insert(ticket, view);
    assert_eq!(rig.settle(), ["get_ticket", "patch_ticket"]);
    assert_eq!(rig.state(), ["n1 Reserved"]);
}

#[test]
fn failed_guardian_makes_pending_and_is_replaced() {
    let mut rig = reserved();
    let ticket = rig.ticket("n1", 0);
    rig.guardian(&ticket, |view| {
        view.state = GuardianState::Ended {
            message: "Evicted".into(),
        }
    });
    assert_eq!(
        rig.settle(),
        [
            "ticket_status Pending GuardianEnded",
            "delete_guardian GuardianEnded"
        ]
    );
    assert_eq!(
        rig.wait(2).settle(),
        ["create_guardian", "ticket_status Reserved"]
    );
}

#[test]
fn ticket_whose_labels_were_stripped_is_found_by_its_name_and_relabelled() {
    let mut rig = reserved();
    let key = rig.ticket("n1", 0);
    let mut view = rig.tickets[&key].clone();
    view.labels_intact = false;
    let mono = rig.now().mono;
    rig.shard.delete_ticket(&key, Some(&view.uid), mono);
    rig.tickets.insert(key, view);
    assert_eq!(rig.settle(), ["create_ticket", "patch_ticket"]);
    assert_eq!(rig.state(), ["n1 Reserved"]);
}

#[test]
fn refused_guardian_backs_off_and_says_so_once_it_has_lasted() {
    let mut rig = Rig::new();
    rig.refuse_guardians = true;
    rig.node(node("n1")).order(everywhere(json!({})));
    rig.settle();
    let mut done = Vec::new();
    for _ in 0..3600 {
        done.extend(rig.wait(1).settle());
    }
    let count = |what: &str| done.iter().filter(|op| *op == what).count();
    assert!(count("create_guardian") <= 20, "{}", count("create_guardian"));
    assert_eq!(count("ticket_status Pending GuardianRefused"), 1);
    rig.refuse_guardians = false;
    rig.wait(400).settle();
    assert_eq!(rig.state(), ["n1 Reserved"]);
}

#[test]
fn no_room_is_said_after_five_seconds_and_not_again_for_other_numbers() {
    let mut rig = Rig::new();
    rig.node(node("n1")).order(everywhere(json!({})));
    for _ in 0..2 {
        rig.decide();
        for work in std::mem::take(&mut rig.desk.pending).into_values() {
            rig.perform(&work);
        }
    }
    rig.log.clear();
    let ticket = rig.ticket("n1", 0);
    let said = |count: u32| GuardianState::Unbound {
        unschedulable: Some(format!("0/{count} nodes are available: 1 Insufficient cpu").into()),
    };
    rig.guardian(&ticket, |view| view.state = said(10));
    assert_eq!(rig.settle(), [""; 0]);
    assert_eq!(
        rig.wait(5).settle(),
        ["ticket_status Pending InsufficientResources"]
    );
    rig.guardian(&ticket, |view| view.state = said(11));
    assert_eq!(rig.wait(60).settle(), [""; 0]);
    rig.bind(&ticket);
    assert_eq!(rig.settle(), ["ticket_status Reserved"]);
}

#[test]
fn order_being_removed_at_once_is_left_alone_then_the_rest_is_removed() {
    let mut rig = reserved();
    let uid = OrderUid::from("everywhere-uid");
    rig.shard.purge(&uid, true);
    rig.order_gone("everywhere");
    assert_eq!(rig.settle(), [""; 0]);
    rig.shard.purge(&uid, false);
    assert_eq!(
        rig.settle(),
        ["delete_guardian OrderGone", "delete_ticket OrderGone"]
    );
    assert!(rig.shard.take_reports().last().unwrap().counts.is_none());
}

#[test]
fn ticket_of_an_order_never_seen_is_removed_only_after_a_get() {
    let rig = reserved();
    let (ticket, guardian) = (
        rig.tickets.values().next().unwrap().clone(),
        rig.guardians.values().next().unwrap().clone(),
    );
    let mut fresh = Rig::new();
    fresh.node(node("n1"));
    fresh.show(ticket);
    fresh.show_guardian(guardian);
    assert_eq!(
        fresh.settle(),
        [
            "get_order",
            "delete_guardian OrderGone",
            "delete_ticket OrderGone"
        ]
    );
}

#[test]
fn ticket_of_a_node_never_seen_is_removed_only_after_a_get() {
    let rig = reserved();
    let ticket = rig.tickets.values().next().unwrap().clone();
    let mut fresh = Rig::new();
    fresh.order(everywhere(json!({})));
    fresh.show(ticket);
    assert_eq!(fresh.settle(), ["get_node", "delete_ticket NodeGone"]);
}

#[test]
fn restart_adopts_what_is_there_without_a_write() {
    let rig = reserved();
    let mut fresh = Rig::new();
    fresh.node(node("n1")).order(everywhere(json!({})));
    for view in rig.tickets.values() {
        fresh.show(view.clone());
    }
    for view in rig.guardians.values() {
        fresh.show_guardian(view.clone());
    }
    assert_eq!(fresh.settle(), [""; 0]);
}

#[test]
fn changed_template_replaces_as_many_pairs_at_a_time_as_granted() {
    let mut rig = Rig::new();
    rig.node(node("n1"))
        .node(node("n2"))
        .node(node("n3"))
        .order(everywhere(json!({})));
    rig.settle();
    let bigger = json!({ "template": { "spec": { "resources": { "requests": { "cpu": "2" } } } } });
    rig.order(generation(everywhere(bigger), 2));
    assert_eq!(rig.settle(), [""; 0], "no grant");
    rig.grant(2);
    let mut without_room = 0;
    for _ in 0..100 {
        let wanted = rig.decide();
        if wanted.is_empty() {
            break;
        }
        for work in std::mem::take(&mut rig.desk.pending).into_values() {
            rig.perform(&work);
        }
        let pending = rig
            .tickets
            .values()
            .filter(|view| view.phase == Phase::Pending)
            .count();
        without_room = without_room.max(pending);
        rig.bind_all();
    }
    assert_eq!(without_room, 2);
    let hashes: BTreeSet<_> = rig
        .tickets
        .values()
        .map(|view| view.template_hash.clone())
        .collect();
    assert_eq!((rig.state().len(), hashes.len()), (3, 1));
    assert!(
        rig.tickets
            .values()
            .all(|view| view.phase == Phase::Reserved && view.sequence == 0)
    );
}

#[test]
fn duration_and_labels_are_edited_in_place() {
    let mut rig = reserved();
    let edited =
        json!({ "template": { "metadata": { "labels": { "team": "a" } }, "spec": { "duration": "2h" } } });
    rig.order(generation(everywhere(edited), 2));
    assert_eq!(rig.settle(), ["ticket_status renewed", "patch_ticket"]);
    assert_eq!(rig.state(), ["n1 Reserved"]);
}

#[test]
fn own_write_is_awaited_and_asked_for_when_the_watch_is_late() {
    let mut rig = reserved();
    rig.node(node("n1").cordoned());
    rig.decide();
    let work = std::mem::take(&mut rig.desk.pending)
        .into_values()
        .next()
        .unwrap();
    // The delete landed, but the watch says nothing of it.
    let ticket = work.ticket.clone();
    let gone = rig.guardians.remove(&guardian_key(&ticket)).unwrap();
    let mono = rig.now().mono;
    rig.shard.apply_outcome(
        &work,
        Outcome::Landed(Expect::GuardianGone(gone.key, gone.uid)),
        mono,
    );
    rig.node(node("n1").cordoned().taint("k=v:NoExecute"));
    assert_eq!(rig.wait(4).decide(), [""; 0]);
    assert_eq!(
        rig.wait(1).settle(),
        ["get_guardian", "delete_ticket Unschedulable"]
    );
}

#[test]
fn while_the_get_gets_no_answer_an_own_write_stays_awaited() {
    let mut rig = reserved();
    rig.node(node("n1").cordoned());
    rig.decide();
    let work = rig.desk.pending.pop_first().unwrap().1;
    let view = rig.guardians.remove(&guardian_key(&work.ticket)).unwrap();
    let mono = rig.now().mono;
    rig.shard.apply_outcome(
        &work,
        Outcome::Landed(Expect::GuardianGone(view.key, view.uid)),
        mono,
    );
    assert_eq!(rig.wait(5).decide(), ["get_guardian"]);
    let work = rig.desk.pending.pop_first().unwrap().1;
    let mono = rig.now().mono;
    rig.shard.apply_outcome(
        &work,
        Outcome::Retry {
            message: "refused".into(),
        },
        mono,
    );
    assert_eq!(rig.decide(), [""; 0]);
    assert_eq!(
        rig.wait(2).settle(),
        ["get_guardian", "delete_ticket Unschedulable"]
    );
}

#[test]
fn a_pending_operation_is_taken_back_when_it_is_no_longer_wanted() {
    let mut rig = Rig::new();
    rig.node(node("n1")).order(everywhere(json!({})));
    assert_eq!(rig.decide(), ["create_ticket"]);
    rig.node(node("n1").cordoned());
    assert_eq!(rig.decide(), [""; 0]);
}

#[test]
fn nothing_new_is_decided_while_an_operation_is_in_flight() {
    let mut rig = Rig::new();
    rig.node(node("n1")).order(everywhere(json!({})));
    rig.decide();
    let work = std::mem::take(&mut rig.desk.pending)
        .into_values()
        .next()
        .unwrap();
    rig.desk.started.insert(work.ticket.clone());
    rig.node(node("n1").cordoned());
    assert_eq!(rig.decide(), [""; 0]);
    rig.desk.started.clear();
    rig.perform(&work);
    assert_eq!(rig.settle(), ["create_ticket", "delete_ticket Unschedulable"]);
}

#[test]
fn second_open_ticket_of_a_pair_is_removed_and_the_reserved_one_kept() {
    let mut rig = reserved();
    let mut twin = rig.tickets.values().next().unwrap().clone();
    (twin.key, twin.uid, twin.sequence) = (rig.ticket("n1", 1), "twin".into(), 1);
    twin.phase = Phase::Pending;
    rig.show(twin);
    assert_eq!(rig.settle(), ["delete_ticket Duplicate"]);
    assert!(rig.tickets.contains_key(&rig.ticket("n1", 0)));
}

#[test]
fn guardian_left_behind_by_its_ticket_is_removed() {
    let mut rig = reserved();
    rig.node(node("n1").cordoned());
    let ticket = rig.ticket("n1", 0);
    rig.hide_ticket(&ticket);
    assert_eq!(rig.settle(), ["get_ticket"]);
    assert_eq!(rig.wait(5).settle(), ["delete_guardian"]);
    assert!(rig.guardians.is_empty());
}

#[test]
fn invalid_spec_keeps_what_is_there_and_makes_nothing() {
    let mut rig = reserved();
    let broken = json!({ "template": { "spec": { "duration": "soon" } } });
    rig.order(generation(everywhere(broken), 2)).node(node("n2"));
    assert_eq!(rig.settle(), [""; 0]);
    assert_eq!(rig.state(), ["n1 Reserved"]);
}

#[test]
fn fourth_flip_within_ten_seconds_is_left_alone_for_thirty() {
    let mut rig = reserved();
    rig.node(node("n1").cordoned()).settle();
    rig.wait(1).node(node("n1")).settle();
    rig.wait(1).node(node("n1").cordoned()).settle();
    assert_eq!(rig.state(), [""; 0]);
    rig.wait(1).node(node("n1"));
    assert_eq!(rig.settle(), [""; 0], "the fourth flip is not acted on");
    assert_eq!(rig.wait(29).settle(), [""; 0]);
    rig.wait(1).settle();
    assert_eq!(rig.state(), ["n1 Reserved"], "then it is decided exactly");
}

#[test]
fn nothing_is_made_in_a_namespace_that_is_being_deleted() {
    let mut rig = Rig::new();
    rig.node(node("n1")).node(node("n2")).order(everywhere(json!({})));
    rig.decide();
    let work = rig.desk.pending.pop_first().unwrap().1;
    let mono = rig.now().mono;
    rig.shard
        .apply_outcome(&work, Outcome::NamespaceTerminating, mono);
    rig.desk.pending.clear();
    assert_eq!(rig.decide(), [""; 0]);
}

/// Decides, and has the one operation end like this.
fn ends(rig: &mut Rig, outcome: &Outcome) {
    let wanted = rig.decide();
    let (_, work) = rig.desk.pending.pop_first().unwrap();
    assert_eq!(wanted, ["create_ticket"]);
    let mono = rig.now().mono;
    rig.shard.apply_outcome(&work, outcome.clone(), mono);
    assert_eq!(rig.decide(), [""; 0], "not before a pause");
}

fn pauses(outcome: &Outcome) -> Vec<u64> {
    let mut rig = Rig::new();
    rig.node(node("n1")).order(everywhere(json!({})));
    let pause = |_| {
        ends(&mut rig, outcome);
        let pause = rig.shard.next_wake().unwrap().since(rig.now().mono);
        rig.wait(pause.as_secs() + 1);
        pause.as_secs()
    };
    (0..8).map(pause).collect()
}

#[test]
fn write_that_did_not_land_is_decided_again_after_doubling_pauses() {
    let message = "500".into();
    assert_eq!(pauses(&Outcome::Retry { message })[3..], [4, 9, 16, 33, 37]);
}

#[test]
fn write_that_an_overloaded_server_did_not_take_is_decided_again_soon_however_often() {
    let message = "429".into();
    assert_eq!(pauses(&Outcome::Busy { message }), [0; 8]);
}

#[test]
fn a_change_that_asks_for_no_write_is_not_measured_by_a_later_one() {
    let mut rig = reserved();
    rig.shard.take_stats();
    rig.node(node("n1").ready(ReadyStatus::Unknown, 1000)).settle();
    rig.wait(10).node(node("n1")).settle();
    rig.wait(5000);
    let ticket = rig.ticket("n1", 0);
    rig.hide_guardian(&ticket);
    rig.settle();
    rig.wait(2).settle();
    assert_eq!(rig.state(), ["n1 Reserved"]);
    assert!(rig.shard.take_stats().reserved_after.is_empty());
}

#[test]
fn counts_follow_the_pairs() {
    let mut rig = Rig::new();
    rig.node(node("n1")).node(node("n2")).order(everywhere(json!({})));
    rig.settle();
    let counts = rig.shard.take_reports().pop().unwrap().counts.unwrap();
    assert_eq!(
        (
            counts.desired,
            counts.reserved,
            counts.updated,
            counts.unavailable
        ),
        (2, 2, 2, 0)
    );
    rig.node(node("n1").cordoned()).settle();
    let counts = rig.shard.take_reports().pop().unwrap().counts.unwrap();
    assert_eq!((counts.desired, counts.reserved, counts.unavailable), (1, 1, 0));
    assert!(
        rig.shard.take_reports().is_empty(),
        "unchanged counts are not reported again"
    );
}

/// Two nodes, one Order, Reserved; the first node's Guardian is lost and cannot be made again.
fn one_without_room() -> Rig {
    let mut rig = Rig::new();
    rig.node(node("n1")).node(node("n2")).order(everywhere(json!({})));
    rig.settle();
    rig.refuse_guardians = true;
    let ticket = rig.ticket("n1", 0);
    rig.hide_guardian(&ticket);
    rig.settle();
    rig.wait(600).settle();
    assert_eq!(rig.state(), ["n1 Pending", "n2 Reserved"]);
    rig
}

/// An Order that asks for more.
fn bigger(generation_: i64, paused: bool) -> Order {
    let more = json!({
        "paused": paused,
        "template": { "spec": { "resources": { "requests": { "cpu": "2" } } } },
    });
    generation(everywhere(more), generation_)
}

#[test]
fn refused_delete_is_tried_again_after_a_pause() {
    let mut rig = reserved();
    rig.node(node("n1").cordoned());
    let mut tries = 0;
    for _ in 0..600 {
        for _ in 0..10 {
            for work in std::mem::take(&mut rig.desk.pending).into_values() {
                tries += 1;
                let (message, mono) = ("denied by policy".into(), rig.now().mono);
                let reason = "GuardianRefused";
                rig.shard
                    .apply_outcome(&work, Outcome::Refused { reason, message }, mono);
            }
            rig.decide();
        }
        rig.wait(1);
    }
    assert!((5..40).contains(&tries), "{tries} in ten minutes");
}

#[test]
fn a_pair_that_lost_its_room_does_not_hold_up_a_roll_out() {
    let mut rig = one_without_room();
    rig.order(bigger(2, false)).settle();
    rig.grant(9);
    let done = rig.settle();
    assert!(
        done.contains(&"ticket_status Pending RollingOut".to_owned()),
        "{done:?}"
    );
}

#[test]
fn roll_out_paused_before_its_first_write_goes_on_afterwards() {
    let mut rig = reserved();
    rig.order(bigger(2, false)).settle();
    rig.grant(9);
    assert_eq!(rig.decide(), ["ticket_status Pending RollingOut"]);
    rig.order(bigger(3, true));
    rig.grant(0);
    assert_eq!(rig.decide(), [""; 0]);
    rig.order(bigger(4, false));
    assert_eq!(rig.decide(), [""; 0], "no grant");
    rig.grant(9);
    assert_eq!(
        rig.settle(),
        [
            "ticket_status Pending RollingOut",
            "patch_ticket",
            "create_guardian",
            "nominate_guardian",
            "delete_guardian Replaced",
            "ungate_guardian",
            "ticket_status Reserved"
        ]
    );
}

#[test]
fn ticket_that_waits_for_its_turn_without_a_guardian_is_not_reserved() {
    let mut rig = reserved();
    let ticket = rig.ticket("n1", 0);
    rig.order(bigger(2, false)).settle();
    assert_eq!(rig.state(), ["n1 Reserved"], "no grant");
    rig.hide_guardian(&ticket);
    let done = rig.settle();
    assert_eq!(
        done[..2],
        ["get_guardian", "ticket_status Pending GuardianDeleted"],
        "{done:?}"
    );
    rig.wait(2).settle();
    assert_eq!(
        rig.state(),
        ["n1 Reserved"],
        "what is not Reserved is replaced freely"
    );
}

#[test]
fn roll_out_paused_midway_keeps_the_guardian_that_is_there() {
    let mut rig = reserved();
    rig.order(bigger(2, false)).settle();
    rig.grant(9);
    rig.decide();
    let work = rig.desk.pending.pop_first().unwrap().1;
    rig.perform(&work);
    rig.log.clear();
    rig.order(bigger(3, true));
    rig.grant(0);
    assert_eq!(rig.settle(), ["get_guardian", "ticket_status Reserved"]);
    rig.order(bigger(4, false)).settle();
    rig.grant(9);
    assert_eq!(rig.settle().len(), 7, "then it is replaced");
}

/// A granted replacement of which so many operations are done.
fn replaced_so_far(operations: usize) -> Rig {
    let mut rig = reserved();
    rig.order(bigger(2, false)).settle();
    rig.grant(9);
    for _ in 0..operations {
        rig.decide();
        let work = rig.desk.pending.pop_first().unwrap().1;
        rig.perform(&work);
    }
    rig.log.clear();
    rig
}

/// One Reserved Ticket with one Guardian, both of this template.
fn at_rest(rig: &Rig, hash: &str) {
    assert_eq!(rig.state(), ["n1 Reserved"]);
    let guardians: Vec<_> = rig.guardians.values().collect();
    assert_eq!(guardians.len(), 1, "{guardians:?}");
    assert_eq!(guardians[0].template_hash.as_deref(), Some(hash));
    let ticket = rig.tickets.values().next().unwrap();
    assert_eq!(*ticket.template_hash, *hash);
    assert_eq!(ticket.pod_name.as_ref(), Some(&guardians[0].key.name));
}

fn template_hash(order: &Order) -> String {
    order.spec.as_ref().unwrap().template.hash.to_string()
}

#[test]
fn replacement_goes_on_from_what_there_is_after_every_step() {
    let steps = 6;
    for done in 0..=steps {
        let mut rig = replaced_so_far(done);
        rig.restart();
        rig.bind_all();
        rig.grant(9);
        let left = rig.settle();
        // Only the answer that came before the gate was lifted is forgotten.
        let asked = usize::from(done == steps);
        assert_eq!(left.len(), steps + 1 - done + asked, "after {done}: {left:?}");
        at_rest(&rig, &template_hash(&bigger(2, false)));
    }
}

#[test]
fn template_edited_back_midway_is_rolled_back_and_edited_again_rolled_on() {
    let (first, other) = (everywhere(json!({})), json!({ "priorityClassName": "high" }));
    let other = everywhere(json!({ "template": { "spec": other } }));
    for back in [first, other] {
        for done in 0..=6 {
            let mut rig = replaced_so_far(done);
            rig.order(generation(back.clone(), 3)).grant(9);
            let log = rig.settle();
            at_rest(&rig, &template_hash(&back));
            assert!(log.len() <= 11, "after {done}: {log:?}");
        }
    }
}

#[test]
fn new_guardian_that_is_refused_leaves_the_old_one_where_it_is() {
    let mut rig = replaced_so_far(2);
    let before = rig.of(&rig.ticket("n1", 0));
    rig.refuse_guardians = true;
    let mut said = Vec::new();
    for _ in 0..300 {
        said.extend(rig.wait(1).settle());
    }
    assert!(
        said.contains(&"ticket_status Pending GuardianRefused".to_owned()),
        "{said:?}"
    );
    assert_eq!(rig.guardians.values().collect::<Vec<_>>(), [&before]);
    rig.order(generation(everywhere(json!({})), 3)).grant(9);
    assert_eq!(
        rig.settle(),
        ["patch_ticket", "get_guardian", "ticket_status Reserved"]
    );
    at_rest(&rig, before.template_hash.as_deref().unwrap());
}

#[test]
fn guardian_out_of_sight_is_found_under_the_other_name_before_another_takes_its_place() {
    for done in [3, 4, 6] {
        let mut rig = replaced_so_far(done);
        rig.bind_all();
        let hidden = rig
            .guardians
            .values()
            .find(|view| !unbound(view) && !view.covered());
        let hidden = hidden.unwrap().clone();
        rig.guardians.remove(&hidden.key);
        rig.restart();
        rig.guardians.insert(hidden.key.clone(), hidden);
        rig.grant(9);
        let log = rig.settle();
        at_rest(&rig, &template_hash(&bigger(2, false)));
        assert!(log.len() <= 7, "after {done}: {log:?}");
    }
}

#[test]
fn an_old_list_that_shows_the_guardian_before_as_well_does_not_cost_the_one_that_took_over() {
    let mut rig = replaced_so_far(4);
    let old: Vec<_> = rig.guardians.values().cloned().collect();
    assert_eq!(old.len(), 2);
    rig.settle();
    let now = std::mem::take(&mut rig.guardians);
    rig.guardians = old.into_iter().map(|view| (view.key.clone(), view)).collect();
    rig.restart();
    rig.guardians.clone_from(&now);
    rig.grant(9);
    let done = rig.decide();
    assert_eq!(done, ["delete_guardian Duplicate"]);
    let work = rig.desk.pending.pop_first().unwrap().1;
    let Op::DeleteGuardian { pod, .. } = &work.op else {
        panic!("{work:?}")
    };
    assert!(!now.contains_key(pod), "the one that is gone");
}

#[test]
fn new_guardian_out_of_sight_is_found_and_removed_when_the_template_is_edited_back() {
    for done in [3, 4] {
        let mut rig = replaced_so_far(done);
        let covered = rig.guardians.values().find(|view| view.covered());
        let mut hidden = covered.expect("the new one").clone();
        rig.guardians.remove(&hidden.key);
        hidden.labels_intact = false;
        rig.restart();
        rig.guardians.insert(hidden.key.clone(), hidden);
        rig.order(generation(everywhere(json!({})), 3)).grant(9);
        let log = rig.settle();
        at_rest(&rig, &template_hash(&everywhere(json!({}))));
        assert!(log.len() <= 5, "after {done}: {log:?}");
    }
}

#[test]
fn guardian_that_lost_its_labels_before_a_restart_is_asked_for_by_name() {
    let mut rig = reserved();
    let mut hidden = rig.of(&rig.ticket("n1", 0));
    hidden.labels_intact = false;
    rig.guardians.clear();
    rig.restart();
    rig.guardians.insert(hidden.key.clone(), hidden);
    assert_eq!(rig.settle(), ["get_guardian", "patch_guardian"]);
    assert_eq!(rig.state(), ["n1 Reserved"]);
    rig.guardians.clear();
    rig.restart();
    assert_eq!(
        rig.settle(),
        [
            "get_guardian",
            "ticket_status Pending GuardianMissing",
            "create_guardian",
            "ticket_status Reserved"
        ]
    );
}

#[test]
fn added_toleration_is_patched_into_what_runs_without_a_grant() {
    let mut rig = reserved();
    let before = rig.of(&rig.ticket("n1", 0)).uid;
    let more = json!({ "tolerations": [{ "key": "a", "operator": "Exists" }] });
    let more = everywhere(json!({ "template": { "spec": more } }));
    rig.order(generation(more.clone(), 2));
    assert_eq!(rig.decide(), ["patch_guardian"]);
    let work = rig.desk.pending.pop_first().unwrap().1;
    rig.perform(&work);
    rig.restart();
    assert_eq!(rig.settle(), ["patch_guardian", "patch_ticket"]);
    at_rest(&rig, &template_hash(&more));
    assert_eq!(rig.of(&rig.ticket("n1", 0)).uid, before);
    rig.order(generation(everywhere(json!({})), 3));
    assert_eq!(
        rig.settle(),
        [""; 0],
        "one that is taken away needs another Guardian"
    );
    rig.grant(1);
    assert_eq!(rig.settle().len(), 7);
    at_rest(&rig, &template_hash(&everywhere(json!({}))));
}

#[test]
fn template_edited_back_before_a_ticket_tolerates_more_rolls_its_guardian_back() {
    let mut rig = reserved();
    let more = json!({ "tolerations": [{ "key": "a", "operator": "Exists" }] });
    rig.order(generation(everywhere(json!({ "template": { "spec": more } })), 2));
    rig.decide();
    let work = rig.desk.pending.pop_first().unwrap().1;
    rig.perform(&work);
    rig.log.clear();
    let back = generation(everywhere(json!({})), 3);
    rig.order(back.clone());
    assert_eq!(rig.settle(), [""; 0], "no grant");
    assert_eq!(rig.acts().0, 1, "it waits to be replaced");
    rig.grant(1);
    assert_eq!(rig.settle().len(), 6);
    at_rest(&rig, &template_hash(&back));
}

#[test]
fn roll_out_passes_over_a_node_in_grace() {
    let mut rig = Rig::new();
    rig.node(node("n1")).node(node("n2")).order(everywhere(json!({})));
    rig.settle();
    rig.node(node("n1").ready(ReadyStatus::Unknown, 1000));
    rig.order(bigger(2, false)).settle();
    rig.grant(9);
    rig.settle();
    let hash = |rig: &Rig, node: &str| rig.tickets[&rig.ticket(node, 0)].template_hash.clone();
    assert_eq!(rig.state(), ["n1 Reserved", "n2 Reserved"]);
    assert_ne!(hash(&rig, "n1"), hash(&rig, "n2"), "the first keeps its Guardian");
    assert!(
        rig.shard.take_reports().pop().unwrap().counts.unwrap().stale == 0,
        "nothing to wait for"
    );
    rig.node(node("n1").ready(ReadyStatus::True, 1030)).settle();
    assert_ne!(hash(&rig, "n1"), hash(&rig, "n2"), "the grant is given back");
    rig.grant(9).settle();
    assert_eq!(hash(&rig, "n1"), hash(&rig, "n2"));
}

#[test]
fn guardian_of_a_ticket_that_a_user_deleted_is_no_failure_of_the_next() {
    let mut rig = reserved();
    let ticket = rig.ticket("n1", 0);
    rig.hide_ticket(&ticket);
    for op in ["get_ticket", "get_order", "create_ticket"] {
        rig.decide();
        let work = rig.desk.pending.pop_first().unwrap().1;
        rig.perform(&work);
        assert_eq!(std::mem::take(&mut rig.log), [op]);
    }
    rig.hide_guardian(&ticket);
    assert_eq!(rig.settle(), ["create_guardian", "ticket_status Reserved"]);
}

#[test]
fn guardian_gone_before_it_was_seen_is_a_failure_and_not_awaited() {
    let (mut rig, work) = about_to_make_a_guardian();
    let (key, mono) = (guardian_key(&work.ticket), rig.now().mono);
    let landed = Expect::Guardian(key.clone(), "pod-x".into(), Revision(7));
    rig.shard.apply_outcome(&work, Outcome::Landed(landed), mono);
    assert_eq!(rig.decide(), [""; 0]);
    let now = rig.now().mono;
    rig.shard
        .delete_guardian(&work.ticket, &key, &"pod-x".into(), now);
    rig.log.clear();
    assert_eq!(rig.settle(), ["get_guardian"]);
    assert_eq!(
        rig.wait(2).settle(),
        ["create_guardian", "ticket_status Reserved"]
    );
}

/// A node and an Order whose Ticket is there; what comes next is the Guardian.
fn about_to_make_a_guardian() -> (Rig, Work) {
    let mut rig = Rig::new();
    rig.node(node("n1")).order(everywhere(json!({})));
    rig.decide();
    let work = rig.desk.pending.pop_first().unwrap().1;
    rig.perform(&work);
    rig.decide();
    let work = rig.desk.pending.pop_first().unwrap().1;
    rig.log.clear();
    (rig, work)
}

#[test]
fn guardian_that_only_a_get_has_shown_is_asked_for_again_until_the_watch_shows_it() {
    let (mut rig, work) = about_to_make_a_guardian();
    let view = GuardianView {
        key: guardian_key(&work.ticket),
        uid: "pod-x".into(),
        revision: Revision(7),
        ticket: work.ticket.clone(),
        ticket_uid: rig.tickets[&work.ticket].uid.clone(),
        order: "everywhere-uid".into(),
        state: GuardianState::Bound("n1".into()),
        gates: Box::default(),
        nominated: None,
        deleting: false,
        labels_intact: true,
        template_hash: Some(rig.tickets[&work.ticket].template_hash.clone()),
    };
    rig.guardians.insert(view.key.clone(), view.clone());
    let mono = rig.now().mono;
    let seen = Outcome::Observed(Observation::Guardian(Box::new(view.clone())));
    rig.shard.apply_outcome(&work, seen, mono);
    assert_eq!(rig.settle(), ["ticket_status Reserved"]);
    assert_eq!(rig.wait(5).settle(), ["get_guardian"]);
    assert_eq!(rig.wait(9).settle(), [""; 0]);
    assert_eq!(rig.wait(1).settle(), ["get_guardian"]);
    // It goes while no watch runs, and the next list cannot tell of it.
    rig.guardians.clear();
    assert_eq!(
        rig.wait(20).settle(),
        ["get_guardian", "ticket_status Pending GuardianDeleted"]
    );
    assert_eq!(
        rig.wait(2).settle(),
        ["create_guardian", "ticket_status Reserved"]
    );
    assert_eq!(rig.wait(3600).settle(), [""; 0]);
}

#[test]
fn ticket_whose_end_came_before_an_older_answer_is_asked_for_again() {
    let mut rig = reserved();
    let ticket = rig.ticket("n1", 0);
    let older = rig.tickets[&ticket].clone();
    rig.hide_ticket(&ticket);
    rig.decide();
    let work = rig.desk.pending.pop_first().unwrap().1;
    assert!(matches!(work.op, Op::ConfirmTicket));
    let mono = rig.now().mono;
    let answer = Outcome::Observed(Observation::Ticket(Box::new(older)));
    rig.shard.apply_outcome(&work, answer, mono);
    rig.log.clear();
    assert_eq!(rig.settle(), [""; 0], "all is as it was");
    rig.wait(5).decide();
    let work = rig.desk.pending.pop_first().unwrap().1;
    rig.perform(&work);
    assert_eq!(std::mem::take(&mut rig.log), ["get_ticket"]);
    rig.hide_guardian(&ticket);
    assert_eq!(rig.settle()[..2], ["get_order", "create_ticket"]);
    assert_eq!(rig.state(), ["n1 Reserved"]);
}

#[test]
fn tickets_that_others_remove_over_and_over_are_made_less_and_less_often() {
    let mut rig = reserved();
    let (ticket, mut made) = (rig.ticket("n1", 0), 0);
    for _ in 0..600 {
        if rig.tickets.contains_key(&ticket) {
            rig.hide_ticket(&ticket);
            made += 1;
        }
        if rig.guardians.contains_key(&guardian_key(&ticket)) {
            rig.hide_guardian(&ticket);
        }
        rig.settle();
        rig.wait(1);
    }
    assert!((5..=12).contains(&made), "{made} in ten minutes");
}

#[test]
fn a_ticket_that_went_with_its_order_is_not_made_again_before_the_watch_tells_of_that() {
    let mut rig = reserved();
    let ticket = rig.ticket("n1", 0);
    // The API server has removed the Order, and its collector the Ticket.
    rig.index.delete(&"everywhere-uid".into());
    rig.hide_ticket(&ticket);
    assert_eq!(rig.settle(), ["get_ticket", "get_order"]);
    rig.hide_guardian(&ticket);
    assert_eq!(rig.wait(600).settle(), [""; 0]);
}

#[test]
fn an_order_that_is_back_is_filled_again() {
    let mut rig = reserved();
    let ticket = rig.ticket("n1", 0);
    rig.order_gone("everywhere");
    rig.settle();
    assert!(!rig.tickets.contains_key(&ticket));
    rig.order(everywhere(json!({})));
    rig.settle();
    assert_eq!(rig.state(), ["n1 Reserved"]);
}

#[test]
fn ticket_of_an_order_that_became_invalid_says_that_its_guardian_is_gone() {
    let mut rig = reserved();
    let ticket = rig.ticket("n1", 0);
    let broken = json!({ "template": { "spec": { "duration": "soon" } } });
    rig.order(generation(everywhere(broken), 2));
    assert_eq!(rig.settle(), [""; 0]);
    rig.hide_guardian(&ticket);
    assert_eq!(
        rig.settle(),
        ["get_guardian", "ticket_status Pending GuardianDeleted"]
    );
    assert_eq!(rig.wait(600).settle(), [""; 0], "nothing is made");
    rig.order(generation(everywhere(json!({})), 3));
    assert_eq!(rig.settle(), ["create_guardian", "ticket_status Reserved"]);
}

#[test]
fn ticket_that_goes_from_one_watch_to_the_other_is_not_asked_for() {
    let mut rig = reserved();
    let ticket = rig.ticket("n1", 0);
    let mut view = rig.tickets[&ticket].clone();
    let mono = rig.now().mono;
    (view.unlabelled, view.labels_intact, view.revision) = (true, false, rig.next());
    rig.show(view.clone());
    rig.shard.lose_ticket(&ticket, &view.uid, false, mono);
    assert_eq!(rig.settle(), ["patch_ticket"]);
    let mut view = rig.tickets[&ticket].clone();
    (view.unlabelled, view.revision) = (false, rig.next());
    rig.show(view.clone());
    rig.shard.lose_ticket(&ticket, &view.uid, true, mono);
    assert_eq!(rig.wait(3600).settle(), [""; 0]);
}

#[test]
fn ticket_waits_until_a_finalizer_lets_its_guardian_go() {
    let mut rig = reserved();
    let ticket = rig.ticket("n1", 0);
    rig.node(node("n1").cordoned());
    rig.guardian(&ticket, |view| view.deleting = true);
    assert_eq!(rig.wait(600).settle(), [""; 0]);
    rig.hide_guardian(&ticket);
    assert_eq!(rig.settle(), ["delete_ticket Unschedulable"]);
}

#[test]
fn an_older_view_of_a_ticket_changes_nothing() {
    let mut rig = Rig::new();
    rig.node(node("n1")).order(everywhere(json!({})));
    rig.decide();
    let work = rig.desk.pending.pop_first().unwrap().1;
    rig.perform(&work);
    let older = rig.tickets[&work.ticket].clone();
    rig.settle();
    assert_eq!(rig.state(), ["n1 Reserved"]);
    rig.shard.apply_ticket(older);
    rig.log.clear();
    assert_eq!(rig.settle(), [""; 0]);
}

#[test]
fn an_older_ticket_that_the_other_watch_shows_late_changes_nothing() {
    let mut rig = reserved();
    let ticket = rig.ticket("n1", 0);
    let mut older = rig.tickets[&ticket].clone();
    (older.uid, older.revision, older.unlabelled) = ("older".into(), Revision(1), true);
    rig.shard.apply_ticket(older);
    assert_eq!(rig.settle(), [""; 0]);
    let mono = rig.now().mono;
    rig.shard.lose_ticket(&ticket, &"older".into(), true, mono);
    assert_eq!(rig.wait(3600).settle(), [""; 0]);
}

#[test]
fn a_label_that_only_a_later_order_asks_for_is_missed_when_it_goes() {
    let selecting = |name: &str, key: &str| {
        let pairs = json!({ key: "yes" });
        order(name, json!({ "template": { "spec": { "nodeSelector": pairs } } }))
    };
    let mut rig = Rig::new();
    rig.order(selecting("rack", "rack"))
        .node(node("n1").label("disk", "yes"));
    rig.order_gone("rack");
    rig.order(selecting("disk", "disk")).settle();
    assert_eq!(rig.state(), ["n1 Reserved"]);
    rig.node(node("n1")).settle();
    assert_eq!(rig.state(), [""; 0]);
}

#[test]
fn a_ticket_that_was_doubted_is_forgotten_when_another_has_its_name() {
    let mut rig = reserved();
    let ticket = rig.ticket("n1", 0);
    let (old, mono) = (rig.tickets[&ticket].clone(), rig.now().mono);
    rig.shard.lose_ticket(&ticket, &old.uid, false, mono);
    let mut other = old;
    (other.uid, other.revision) = ("another".into(), rig.next());
    rig.guardian(&ticket, |view| view.ticket_uid = "another".into());
    rig.show(other);
    rig.settle();
    assert_eq!(rig.wait(3600).settle(), [""; 0]);
}

#[test]
fn guardian_of_a_newer_ticket_than_a_stale_list_shows_is_left_alone() {
    let rig = reserved();
    let (ticket, mono) = (rig.ticket("n1", 0), rig.now().mono);
    let mut stale = rig.tickets[&ticket].clone();
    (stale.uid, stale.revision) = ("older".into(), Revision(1));
    let mut other = Rig::new();
    (other.seconds, other.revision) = (rig.seconds, rig.revision);
    (other.tickets, other.guardians) = (rig.tickets.clone(), rig.guardians.clone());
    other.node(node("n1")).order(everywhere(json!({})));
    other.shard.apply_ticket(stale);
    let guardian = rig.of(&ticket);
    other.shard.apply_guardian(guardian.clone(), mono);
    assert_eq!(
        other.settle(),
        ["delete_guardian"],
        "a GET says that its Ticket lives"
    );
    assert!(other.guardians.contains_key(&guardian_key(&ticket)));
    other.shard.lose_ticket(&ticket, &"older".into(), false, mono);
    other.show(rig.tickets[&ticket].clone());
    assert_eq!(other.wait(1).settle(), [""; 0]);
    assert_eq!(other.state(), ["n1 Reserved"]);
}

/// How a Guardian comes to its end.
#[derive(Clone, Copy)]
enum Bad {
    Refused,
    Evicted,
    Failed,
    Overloaded,
}

/// When, in seconds from the start, creations of the Guardian were asked for over `hours`, if those end
/// like this in turn.
fn tries(hours: u64, ends: &[Bad]) -> Vec<u64> {
    let mut rig = Rig::new();
    rig.node(node("n1")).order(everywhere(json!({})));
    let (start, mut tries) = (rig.seconds, Vec::new());
    while rig.seconds < start + hours * 3600 {
        rig.decide();
        while let Some((_, work)) = rig.desk.pending.pop_first() {
            let (bad, created) = (
                ends[tries.len() % ends.len()],
                matches!(work.op, Op::CreateGuardian { .. }),
            );
            if created && matches!(bad, Bad::Overloaded) {
                let (mono, message) = (rig.now().mono, "429".into());
                rig.shard.apply_outcome(&work, Outcome::Busy { message }, mono);
                tries.push(rig.seconds - start);
                continue;
            }
            rig.refuse_guardians = matches!(bad, Bad::Refused);
            rig.perform(&work);
            if created {
                tries.push(rig.seconds - start);
                match bad {
                    Bad::Refused | Bad::Overloaded => {}
                    Bad::Evicted => {
                        rig.bind(&work.ticket);
                        rig.hide_guardian(&work.ticket);
                    }
                    Bad::Failed => rig.guardian(&work.ticket, |view| {
                        let message = "the Guardian Failed: OutOfcpu".into();
                        view.state = GuardianState::Ended { message };
                    }),
                }
            }
            rig.decide();
        }
        rig.wait(1);
    }
    tries
}

#[test]
fn at_most_21_guardians_in_the_first_hour_and_12_in_each_later_one_however_they_end() {
    use Bad::{Evicted, Failed, Refused};
    for ends in [
        &[Refused][..],
        &[Evicted],
        &[Failed],
        &[Refused, Evicted, Failed],
        &[Evicted, Evicted, Refused, Failed, Failed],
    ] {
        let tries = tries(4, ends);
        let in_hour = |hour| tries.iter().filter(|&&at| at / 3600 == hour).count();
        assert!(
            (15..=21).contains(&in_hour(0)),
            "{} in the first hour",
            in_hour(0)
        );
        for hour in 1..4 {
            assert!(
                (9..=12).contains(&in_hour(hour)),
                "{} in hour {hour}",
                in_hour(hour)
            );
        }
    }
}

#[test]
fn an_overloaded_server_is_no_failure_of_the_guardian() {
    let tries = tries(1, &[Bad::Overloaded]);
    let widest = tries.windows(2).map(|pair| pair[1] - pair[0]).max();
    assert_eq!(widest, Some(1), "no backoff: the budget sees to it");
}

#[test]
fn ticket_of_a_node_or_order_never_seen_goes_only_after_a_get() {
    let mut rig = Rig::new();
    rig.order(everywhere(json!({}))).node(node("n1")).settle();
    let view = rig.tickets.values().next().unwrap().clone();
    // The next process: it has listed no nodes at all.
    let mut next = Rig::new();
    next.order(everywhere(json!({}))).show(view.clone());
    assert_eq!(next.decide(), ["get_node"]);
    let (_, work) = next.desk.pending.pop_first().unwrap();
    let mono = next.now().mono;
    let lives = Outcome::Observed(Observation::NodeGone(false));
    next.shard.apply_outcome(&work, lives, mono);
    assert_eq!(next.decide(), [""; 0], "the node lives: the list was wrong");
    assert_eq!(next.wait(1).settle(), ["get_node", "delete_ticket NodeGone"]);
    let mut other = Rig::new();
    other.node(node("n1")).show(view);
    assert_eq!(other.settle(), ["get_order", "delete_ticket OrderGone"]);
}

#[test]
fn a_grant_is_given_back_with_the_report_that_nothing_is_left_to_replace() {
    let mut rig = reserved();
    rig.order(bigger(2, false)).settle();
    assert_eq!(rig.grant(1).acts(), (1, 0, 0));
    rig.settle();
    assert_eq!(rig.acts(), (0, 0, 1));
    let more = json!({ "template": { "spec": { "resources": { "requests": { "cpu": "3" } } } } });
    rig.order(generation(everywhere(more), 3)).settle();
    assert_eq!(
        rig.acts(),
        (1, 0, 1),
        "what was given back holds for no other template"
    );
    rig.grant(1).settle();
    assert_eq!(rig.acts(), (0, 0, 1));
}

#[test]
fn a_replacement_that_no_watch_shows_yet_is_counted() {
    let mut rig = reserved();
    rig.order(bigger(2, false)).settle();
    rig.grant(1);
    assert_eq!(rig.decide(), ["ticket_status Pending RollingOut"]);
    assert_eq!(rig.acts(), (1, 1, 0));
    assert_eq!(
        rig.grant(0).acts(),
        (1, 1, 0),
        "it has begun, and the revocation is seen"
    );
    rig.order(bigger(3, true));
    assert_eq!(rig.decide(), [""; 0]);
    assert_eq!(rig.acts(), (1, 0, 0), "it was taken back in time");
}

#[test]
fn a_grant_for_another_template_or_another_shard_begins_nothing() {
    let mut rig = reserved();
    rig.grant(9);
    rig.order(bigger(2, false));
    assert_eq!(rig.settle(), [""; 0]);
    let grants = vec![Grant {
        shard: 1,
        count: 9,
        seq: 1,
    }];
    let rollout = Rollout {
        grants,
        ..Rollout::default()
    };
    rig.shard.see_rollout(&"everywhere-uid".into(), &rollout, 0);
    assert_eq!(rig.settle(), [""; 0]);
}

#[test]
fn no_more_is_begun_than_the_grant_leaves_beside_what_has_lost_its_room() {
    let mut rig = one_without_room();
    rig.order(bigger(2, false)).settle();
    assert_eq!(rig.grant(1).decide(), [""; 0], "one is without its room already");
    assert_eq!(rig.grant(2).decide().len(), 1);
}

/// Two nodes whose Tickets are of the old template, one of which may be replaced.
fn two_to_replace() -> Rig {
    let mut rig = Rig::new();
    rig.node(node("n1")).node(node("n2")).order(everywhere(json!({})));
    rig.settle();
    rig.order(bigger(2, false)).settle();
    rig.grant(1);
    rig
}

#[test]
fn what_is_under_way_on_a_node_in_its_grace_counts() {
    let mut rig = two_to_replace();
    let bound = |rig: &Rig| {
        let held = |one: &&GuardianView| matches!(one.state, GuardianState::Bound(_));
        rig.guardians.values().filter(held).count()
    };
    while bound(&rig) == 2 {
        rig.decide();
        let work = rig.desk.pending.pop_first().expect("a next step").1;
        rig.perform(&work);
    }
    let pending = |ticket: &&TicketView| ticket.phase == Phase::Pending;
    let first = rig.tickets.values().find(pending).unwrap().node_name.to_string();
    let since = i64::try_from(rig.seconds).unwrap();
    rig.node(node(&first).ready(ReadyStatus::Unknown, since));
    // No scheduler binds anything there now.
    while !rig.decide().is_empty() {
        let work = rig.desk.pending.pop_first().expect("just decided").1;
        rig.perform(&work);
    }
    assert_eq!((bound(&rig), rig.acts().1), (1, 1));
}

#[test]
fn a_ticket_that_is_about_to_go_keeps_no_grant() {
    let mut rig = reserved();
    let ticket = rig.ticket("n1", 0);
    let mut view = rig.tickets[&ticket].clone();
    (view.deleting, view.revision) = (true, rig.next());
    rig.show(view);
    rig.order(bigger(2, false)).settle();
    rig.grant(1).settle();
    assert_eq!(rig.acts(), (0, 0, 1), "given back");
}

#[test]
fn a_ticket_that_waits_for_its_turn_is_edited_in_place() {
    let mut rig = reserved();
    let both = json!({ "template": { "spec": {
        "duration": "1h", "resources": { "requests": { "cpu": "2" } } } } });
    rig.order(generation(everywhere(both), 2));
    let before = rig.tickets.values().next().unwrap().template_hash.clone();
    rig.settle();
    let ticket = rig.tickets.values().next().unwrap();
    assert_eq!(
        (ticket.duration.as_deref(), ticket.phase),
        (Some("1h"), Phase::Reserved)
    );
    assert_eq!(ticket.template_hash, before);
}

#[test]
fn nothing_is_written_to_the_new_guardian_between_its_nomination_and_the_end_of_the_old_one() {
    let mut rig = replaced_so_far(4);
    assert!(
        rig.guardians
            .values()
            .any(|one| one.covered() && one.nominated.is_some())
    );
    assert_eq!(rig.guardians.len(), 2);
    let more = json!({ "template": { "spec": {
        "resources": { "requests": { "cpu": "2" } },
        "tolerations": [{ "key": "a", "operator": "Exists" }] } } });
    rig.order(generation(everywhere(more), 3)).grant(9);
    let log = rig.settle();
    assert_eq!(log[0], "delete_guardian Replaced", "{log:?}");
    assert!(log.iter().any(|one| one == "patch_guardian"), "{log:?}");
}

#[test]
fn a_replacement_that_may_have_begun_counts_until_a_get_has_told() {
    let mut rig = two_to_replace();
    assert_eq!(rig.decide(), ["ticket_status Pending RollingOut"]);
    let work = rig.desk.pending.pop_first().unwrap().1;
    let lost = Outcome::Retry {
        message: "no answer within 4 s".into(),
    };
    let mono = rig.now().mono;
    rig.shard.apply_outcome(&work, lost, mono);
    assert_eq!(rig.decide(), [""; 0]);
    assert_eq!(rig.acts().1, 1, "it may have landed");
    rig.seconds += 1;
    assert_eq!(rig.decide(), ["get_ticket"], "before anything else");
    rig.perform(&work);
    rig.decide();
    assert_eq!(rig.acts().1, 1);
}

#[test]
fn a_guardian_that_lost_its_annotation_is_given_it_back_and_replaced_in_its_turn() {
    let mut rig = reserved();
    let ticket = rig.ticket("n1", 0);
    rig.guardian(&ticket, |view| view.template_hash = None);
    rig.order(bigger(2, false)).grant(1);
    let log = rig.settle();
    assert_eq!(log[0], "patch_guardian", "{log:?}");
    assert!(log.iter().any(|one| one == "delete_guardian Replaced"), "{log:?}");
}
mod windows;
