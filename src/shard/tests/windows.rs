//! Windows, renewal, expiry and what is remembered, in virtual time.
//!
//! Times are seconds since the epoch, at which the Order was made. Ticks come every 600 s.

use super::*;
use crate::domain::pair::names::cover_name;

const STRATEGIES: [(&str, &str, Option<&str>); 6] = [
    ("for ever", "OneTime", None),
    ("once 2000s", "OneTime", Some("2000s")),
    ("ticks 300s", "Scheduled", Some("300s")),
    ("ticks 900s", "Scheduled", Some("900s")),
    ("anchors 300s", "Recurring", Some("300s")),
    ("anchors", "Recurring", None),
];
const POLICIES: [&str; 4] = ["Always", "OnClaim", "OnRelease", "Never"];

/// `everywhere` with this strategy, and more of its spec.
fn timed(kind: &str, policy: &str, duration: Option<&str>, more: Value) -> Order {
    let mut spec = json!({
        "strategy": { "type": kind, "refreshPolicy": policy },
        "template": { "spec": { "duration": duration } },
    });
    if kind != "OneTime" {
        spec["strategy"]["schedule"] = json!("*/10 * * * *");
    }
    merge(&mut spec, &more);
    everywhere(spec)
}

fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from.clone(),
    }
}

fn scheduled(duration: &str) -> Order {
    timed("Scheduled", "OnClaim", Some(duration), json!({}))
}

impl Rig {
    fn since(seconds: u64) -> Self {
        Self {
            seconds,
            ..Self::new()
        }
    }

    /// A Ticket of `everywhere` on n1 as somebody has left it, of the window that began then; a bound
    /// Guardian if it is Reserved.
    fn found(&mut self, order: &Order, sequence: i64, phase: Phase, start: i64) -> TicketKey {
        let ticket = self.ticket("n1", sequence);
        let work = Work {
            shard: ShardId(0),
            pair: None,
            ticket: ticket.clone(),
            op: Op::ConfirmTicket,
            changed: None,
        };
        let revision = self.next();
        let mut view = new_ticket(&work, order, &node("n1"), sequence, revision);
        (view.phase, view.window_start, view.created) = (phase, Some(at(start)), at(start));
        let windows = crate::domain::order::window::Windows::of(order).unwrap();
        view.expires = windows.latest(at(start)).and_then(|window| window.end);
        view.finished_at = match phase {
            Phase::Released => Some(at(start + 100)),
            Phase::Expired => view.expires,
            _ => None,
        };
        if phase == Phase::Reserved {
            view.pod_name = Some(guardian_key(&ticket).name.clone());
            self.show_guardian(GuardianView {
                key: guardian_key(&ticket),
                uid: format!("pod-of-{sequence}").into(),
                revision,
                ticket: ticket.clone(),
                ticket_uid: view.uid.clone(),
                order: order.uid.clone(),
                state: GuardianState::Bound("n1".into()),
                gates: Box::default(),
                nominated: None,
                deleting: false,
                labels_intact: true,
                template_hash: Some(view.template_hash.clone()),
            });
        }
        self.show(view);
        ticket
    }

    /// `sequence phase windowStart..expirationTime` of every Ticket, with `!` where the Guardian is one
    /// that was found.
    fn told(&self) -> String {
        let mut views: Vec<_> = self.tickets.values().collect();
        views.sort_by_key(|view| (view.node_name.clone(), view.sequence));
        let told = views.into_iter().map(|view| {
            let order = OrderUid::from("everywhere-uid");
            let name = ticket_name("everywhere", &order, &view.node, view.sequence);
            assert_eq!(view.key, TicketKey::new("default", name), "its name");
            let start = view
                .window_start
                .map_or("-".to_owned(), |start| start.as_second().to_string());
            let end = view
                .expires
                .map_or(String::new(), |end| end.as_second().to_string());
            let guardian = self
                .guardians
                .values()
                .find(|guardian| guardian.ticket == view.key);
            let kept = guardian.is_some_and(|guardian| guardian.uid.as_str().starts_with("pod-of-"));
            assert!(
                guardian.is_none() || view.open(),
                "a Guardian of what is not open"
            );
            let mark = if kept { "!" } else { "" };
            format!("{} {:?}{mark} {start}..{end}", view.sequence, view.phase)
        });
        told.collect::<Vec<_>>().join(", ")
    }

    /// What a process that has just started knows: nothing but what the API server has.
    fn another_owner(&mut self) {
        let mono = self.now().mono;
        self.shard = Shard::new(ShardId(0), GRACE);
        self.index = Index::default();
        self.tickets
            .values()
            .for_each(|view| self.shard.apply_ticket(view.clone()));
        for view in self.guardians.values() {
            self.shard.apply_guardian(view.clone(), mono);
        }
    }

    /// Lets time pass until then, waking when the shard asks for it; returns what was done.
    fn live(&mut self, until: u64) -> Vec<String> {
        let mut done = self.settle();
        while let Some(Mono(wake)) = self.shard.next_wake()
            && wake <= Duration::from_secs(until)
        {
            let next = wake.as_secs() + u64::from(wake.subsec_nanos() > 0);
            self.seconds = next.max(self.seconds + u64::from(next <= self.seconds));
            done.extend(self.settle());
        }
        self.seconds = until;
        done.extend(self.settle());
        done
    }
}

/// An Order of the strategy and policy at hand, with more in its spec.
type Make<'a> = &'a dyn Fn(Value) -> Order;
/// What is there (sequence, phase, a time of its window), what time it is, and what happens then.
type Event = (
    &'static str,
    &'static [(i64, Phase, i64)],
    u64,
    fn(&mut Rig, Make<'_>),
);

const OPEN: (i64, Phase, i64) = (3, Phase::Reserved, 1200);
const CLAIMED: (i64, Phase, i64) = (3, Phase::Claimed, 1200);

const EVENTS: &[Event] = &[
    ("nothing, in a window", &[], 1300, |_, _| ()),
    ("nothing, in a gap", &[], 1000, |_, _| ()),
    ("nothing, paused when a window opens", &[], 1000, |rig, make| {
        pause(rig, make);
        rig.live(1300);
    }),
    ("open", &[OPEN], 1300, |_, _| ()),
    (
        "open, its window over",
        &[(3, Phase::Reserved, 600)],
        1300,
        |_, _| (),
    ),
    (
        "open, in the gap after",
        &[(3, Phase::Reserved, 600)],
        1000,
        |_, _| (),
    ),
    ("open, when the next window is open", &[OPEN], 1300, |rig, _| {
        rig.live(1900);
    }),
    ("open, many windows later", &[OPEN], 1300, |rig, _| {
        rig.live(4190);
    }),
    (
        "open, paused, when the next window is open",
        &[OPEN],
        1300,
        |rig, make| {
            pause(rig, make);
            rig.live(1900);
        },
    ),
    (
        "claiming, its window over",
        &[(3, Phase::Claiming, 600)],
        1300,
        |_, _| (),
    ),
    ("claimed", &[CLAIMED], 1300, |_, _| ()),
    ("claimed before", &[(3, Phase::Claimed, 600)], 1300, |_, _| ()),
    (
        "claimed, in the gap after",
        &[(3, Phase::Claimed, 600)],
        1000,
        |_, _| (),
    ),
    (
        "claimed, when the next window is open",
        &[CLAIMED],
        1300,
        |rig, _| {
            rig.live(1900);
        },
    ),
    ("claimed, paused", &[CLAIMED], 1300, |rig, make| pause(rig, make)),
    ("released", &[(3, Phase::Released, 1200)], 1300, |_, _| ()),
    ("released before", &[(3, Phase::Released, 600)], 1300, |_, _| ()),
    (
        "released, in the gap after",
        &[(3, Phase::Released, 600)],
        1000,
        |_, _| (),
    ),
    (
        "released, when the next window is open",
        &[(3, Phase::Released, 1200)],
        1300,
        |rig, _| {
            rig.live(1900);
        },
    ),
    ("expired before", &[(3, Phase::Expired, 600)], 1300, |_, _| ()),
    (
        "expired, in the gap after",
        &[(3, Phase::Expired, 600)],
        1000,
        |_, _| (),
    ),
    ("NotReady, back within the grace", &[OPEN], 1300, |rig, _| {
        rig.node(node("n1").ready(ReadyStatus::False, 1300)).live(1350);
        rig.node(node("n1"));
    }),
    ("NotReady for longer", &[OPEN], 1300, |rig, _| {
        rig.node(node("n1").ready(ReadyStatus::False, 1300)).live(1400);
    }),
    (
        "NotReady, claiming",
        &[(3, Phase::Claiming, 1200)],
        1300,
        |rig, _| {
            rig.node(node("n1").ready(ReadyStatus::False, 1300)).live(1400);
        },
    ),
    ("cordoned", &[OPEN], 1300, |rig, _| {
        rig.node(node("n1").cordoned());
    }),
    (
        "cordoned, claimed and a successor",
        &[CLAIMED, (4, Phase::Reserved, 1200)],
        1300,
        |rig, _| {
            rig.node(node("n1").cordoned());
        },
    ),
    (
        "cordoned, released",
        &[(3, Phase::Released, 1200)],
        1300,
        |rig, _| {
            rig.node(node("n1").cordoned());
        },
    ),
    ("cordoned, paused", &[OPEN], 1300, |rig, make| {
        pause(rig, make);
        rig.node(node("n1").cordoned());
    }),
    ("cordoned and back", &[OPEN], 1300, |rig, _| {
        rig.node(node("n1").cordoned()).settle();
        rig.node(node("n1"));
    }),
    (
        "node gone",
        &[CLAIMED, (4, Phase::Reserved, 1200)],
        1300,
        |rig, _| {
            rig.shard.delete_node(&"n1-uid".into());
        },
    ),
    ("node gone, paused", &[OPEN], 1300, |rig, make| {
        pause(rig, make);
        rig.shard.delete_node(&"n1-uid".into());
    }),
    ("node made anew", &[OPEN], 1300, |rig, _| {
        rig.shard.delete_node(&"n1-uid".into());
        let mut anew = node("n1");
        anew.uid = "n1-uid-2".into();
        rig.node(anew);
    }),
    (
        "Order gone",
        &[CLAIMED, (4, Phase::Reserved, 1200)],
        1300,
        |rig, _| {
            rig.order_gone("everywhere");
        },
    ),
    ("its Ticket deleted", &[OPEN], 1300, |rig, _| take_away(rig, 3)),
    ("its Ticket deleted, claimed", &[CLAIMED], 1300, |rig, _| {
        take_away(rig, 3)
    }),
    (
        "its Ticket deleted, claiming",
        &[(3, Phase::Claiming, 1200)],
        1300,
        |rig, _| take_away(rig, 3),
    ),
    (
        "its memory deleted",
        &[(3, Phase::Released, 1200)],
        1300,
        |rig, _| take_away(rig, 3),
    ),
    ("its Guardian deleted", &[OPEN], 1300, |rig, _| {
        rig.hide_guardian(&rig.ticket("n1", 3));
        rig.live(1310);
    }),
    ("another owner", &[OPEN], 1300, |rig, make| {
        rig.live(1310);
        rig.another_owner();
        rig.node(node("n1")).order(make(json!({})));
    }),
];

fn pause(rig: &mut Rig, make: Make<'_>) {
    rig.order(generation(make(json!({ "paused": true })), 2));
}

fn take_away(rig: &mut Rig, sequence: i64) {
    let ticket = rig.ticket("n1", sequence);
    if rig.tickets.contains_key(&ticket) {
        rig.hide_ticket(&ticket);
    }
}

/// The rules as a table: what is there, what happens, and what it comes to under each policy.
#[test]
fn every_type_policy_and_event() {
    let mut table = String::new();
    for (name, kind, duration) in STRATEGIES {
        for (event, found, now, happens) in EVENTS {
            let mut rows: Vec<(Vec<&str>, String)> = Vec::new();
            for policy in POLICIES {
                let told = after(kind, policy, duration, found, *now, *happens);
                match rows.iter_mut().find(|(_, known)| *known == told) {
                    Some((policies, _)) => policies.push(policy),
                    None => rows.push((vec![policy], told)),
                }
            }
            for (policies, told) in rows {
                let all = policies.len() == POLICIES.len();
                let policies = if all { "all".to_owned() } else { policies.join(" ") };
                table.push_str(&format!("{name} | {event} | {policies} | {told}\n"));
            }
        }
    }
    assert_eq!(table, include_str!("windows.table"), "\n{table}");
}

fn after(
    kind: &str,
    policy: &str,
    duration: Option<&str>,
    found: &[(i64, Phase, i64)],
    now: u64,
    happens: fn(&mut Rig, Make<'_>),
) -> String {
    let make = |more| timed(kind, policy, duration, more);
    let (order, mut rig) = (make(json!({})), Rig::since(now));
    let windows = crate::domain::order::window::Windows::of(&order).unwrap();
    for &(sequence, phase, time) in found {
        let window = windows
            .latest(at(time))
            .expect("there are windows from the start");
        rig.found(&order, sequence, phase, window.start.as_second());
    }
    rig.node(node("n1")).order(order.clone());
    // What is there now is not what was: the events are about what follows.
    rig.live(now);
    happens(&mut rig, &make);
    rig.settle();
    rig.told()
}

#[test]
fn a_ticket_is_renewed_in_place_with_one_write_in_its_turn() {
    let order = timed("Recurring", "OnClaim", None, json!({}));
    let mut rig = Rig::since(700);
    rig.order(order);
    let nodes: Vec<String> = (0..60).map(|n| format!("n{n}")).collect();
    for name in &nodes {
        rig.node(node(name));
    }
    rig.settle();
    let guardians: Vec<_> = rig
        .guardians
        .values()
        .map(|guardian| guardian.uid.clone())
        .collect();
    let mut renewed = BTreeMap::new();
    for second in 1195..1275 {
        rig.seconds = second;
        let done = rig.settle();
        assert!(done.iter().all(|one| one == "ticket_status renewed"), "{done:?}");
        if !done.is_empty() {
            renewed.insert(second, done.len());
        }
        assert_eq!(rig.state().len(), 60);
    }
    assert_eq!(renewed.values().sum::<usize>(), 60, "one write each");
    let (first, last) = (*renewed.keys().next().unwrap(), *renewed.keys().last().unwrap());
    assert!(first >= 1200 && last <= 1260, "within a minute: {renewed:?}");
    assert!(
        renewed.len() > 30 && *renewed.values().max().unwrap() < 8,
        "spread: {renewed:?}"
    );
    let after: Vec<_> = rig
        .guardians
        .values()
        .map(|guardian| guardian.uid.clone())
        .collect();
    assert_eq!(after, guardians);
    assert!(
        rig.told()
            .starts_with("0 Reserved 1200..1800, 0 Reserved 1200..1800")
    );
}

#[test]
fn short_windows_are_renewed_in_their_first_half() {
    let mut rig = Rig::since(0);
    rig.order(timed("OneTime", "Always", Some("20s"), json!({})))
        .node(node("n1"));
    for round in 0..5u64 {
        rig.live(round * 20 + 10);
        let (start, end) = (round * 20, round * 20 + 20);
        assert_eq!(rig.told(), format!("0 Reserved {start}..{end}"));
    }
}

#[test]
fn a_window_opens_and_closes_at_its_times() {
    let mut rig = Rig::since(310);
    rig.node(node("n1")).order(scheduled("300s"));
    assert_eq!(rig.live(599), [""; 0]);
    let made = ["create_ticket", "create_guardian", "ticket_status Reserved"];
    assert_eq!(rig.live(600), made);
    assert_eq!(rig.told(), "0 Reserved 600..900");
    assert_eq!(rig.live(899), [""; 0]);
    assert_eq!(
        rig.live(900),
        ["ticket_status Expired", "delete_guardian Finished"]
    );
    assert_eq!(rig.told(), "0 Expired 600..900");
    assert_eq!(rig.live(1199), [""; 0]);
    let mut done = rig.live(1200);
    done.sort();
    let next = [made[1], made[0], "delete_ticket Finished", made[2]];
    assert_eq!(done, next, "the memory goes once its successor is there");
    assert_eq!(rig.told(), "1 Reserved 1200..1500");
}

#[test]
fn a_ticket_that_was_never_reserved_expires_and_says_why_it_was_not() {
    let mut rig = Rig::since(600);
    rig.node(node("n1")).order(scheduled("300s"));
    let ticket = rig.ticket("n1", 0);
    assert_eq!(rig.decide(), ["create_ticket"]);
    for expected in ["create_ticket", "create_guardian"] {
        let works = std::mem::take(&mut rig.desk.pending);
        works.values().for_each(|work| rig.perform(work));
        assert_eq!(rig.log.pop().unwrap(), expected);
        rig.decide();
    }
    rig.guardian(&ticket, |view| {
        view.state = GuardianState::Unbound {
            unschedulable: Some("0/1 nodes".into()),
        };
    });
    rig.live(890);
    assert_eq!(rig.told(), "0 Pending 600..900");
    assert_eq!(
        rig.live(900),
        ["ticket_status Expired", "delete_guardian Finished"]
    );
    assert_eq!(rig.told(), "0 Expired 600..900");
    assert_eq!(
        rig.tickets[&ticket].reason.as_deref(),
        Some("InsufficientResources")
    );
    assert_eq!(rig.tickets[&ticket].finished_at, Some(at(900)));
}

/// One without any status belongs to the window it was made in, though the server's clock was behind.
#[test]
fn a_ticket_without_status_belongs_to_the_window_it_was_made_for() {
    for (created, now, expected) in [
        (599, 700, "0 Reserved! 600..900"),
        (597, 700, "1 Reserved 600..900"),
        (850, 899, "0 Reserved! 600..900"),
        (850, 900, "0 Expired 600..900"),
    ] {
        let order = timed("Recurring", "OnClaim", Some("300s"), json!({}));
        let mut rig = Rig::since(now);
        let ticket = rig.found(&order, 0, Phase::Reserved, 0);
        let mut view = rig.tickets[&ticket].clone();
        (view.phase, view.window_start, view.expires) = (Phase::Pending, None, None);
        (view.created, view.revision) = (at(created), rig.next());
        rig.show(view);
        rig.node(node("n1")).order(order);
        rig.settle();
        assert_eq!(rig.told(), expected, "made at {created}");
    }
}

#[test]
fn finished_tickets_go_after_their_time_but_the_last_is_remembered() {
    let lifecycle = json!({ "template": { "spec": { "lifecycle": { "ttlSecondsAfterFinished": 2000 } } } });
    let order = timed("Scheduled", "OnClaim", Some("300s"), lifecycle);
    let mut rig = Rig::since(600);
    rig.node(node("n1")).order(order);
    rig.live(2799);
    assert_eq!(
        rig.told(),
        "0 Expired 600..900, 1 Expired 1200..1500, 2 Expired 1800..2100, 3 Expired 2400..2700"
    );
    assert_eq!(rig.live(2899), [""; 0]);
    assert_eq!(rig.live(2900), ["delete_ticket Finished"]);
    rig.live(4699);
    assert!(rig.told().starts_with("3 Expired 2400..2700, "), "{}", rig.told());
    rig.live(4700);
    assert!(rig.told().starts_with("4 Expired 3000..3300, "), "{}", rig.told());
}

#[test]
fn retain_keeps_the_newest_three_and_nothing_else_matters() {
    let lifecycle = json!({ "cleanupPolicy": "Retain", "ttlSecondsAfterFinished": 1 });
    let more = json!({ "template": { "spec": { "lifecycle": lifecycle } } });
    let order = timed("Scheduled", "OnClaim", Some("300s"), more);
    let mut rig = Rig::since(600);
    rig.node(node("n1")).order(order);
    rig.live(3500);
    assert_eq!(
        rig.told(),
        "2 Expired 1800..2100, 3 Expired 2400..2700, 4 Expired 3000..3300"
    );
    rig.live(3700);
    assert_eq!(
        rig.told(),
        "2 Expired 1800..2100, 3 Expired 2400..2700, 4 Expired 3000..3300, 5 Reserved 3600..3900"
    );
}

#[test]
fn after_the_last_window_nothing_is_remembered() {
    let lifecycle = json!({ "template": { "spec": { "lifecycle": { "ttlSecondsAfterFinished": 60 } } } });
    let order = timed("OneTime", "OnClaim", Some("2000s"), lifecycle);
    let mut rig = Rig::since(600);
    rig.node(node("n1")).order(order);
    rig.live(2030);
    assert_eq!(rig.told(), "0 Expired 0..2000");
    rig.live(2060);
    assert_eq!(rig.told(), "");
    assert_eq!(rig.live(100_000), [""; 0]);
}

#[test]
fn ticks_that_were_missed_are_not_made_up_for() {
    let mut rig = Rig::since(700);
    rig.node(node("n1")).order(scheduled("300s"));
    rig.settle();
    let order = scheduled("300s");
    // Nobody decides for hours.
    rig.seconds = 36_700;
    let done = rig.settle();
    assert_eq!(done.iter().filter(|one| *one == "create_ticket").count(), 1);
    assert_eq!(rig.told(), "1 Reserved 36600..36900");
    let mut rig = Rig::since(36_700);
    rig.found(&order, 4, Phase::Reserved, 600);
    rig.node(node("n1")).order(order);
    rig.settle();
    assert_eq!(rig.told(), "5 Reserved 36600..36900");
}

#[test]
fn a_chain_of_windows_that_was_missed_is_one_renewal() {
    let order = timed("Recurring", "OnClaim", None, json!({}));
    let mut rig = Rig::since(36_700);
    rig.found(&order, 4, Phase::Reserved, 600);
    rig.node(node("n1")).order(order);
    assert_eq!(rig.live(36_700), ["ticket_status renewed"]);
    assert_eq!(rig.told(), "4 Reserved! 36600..37200");
}

#[test]
fn a_clock_that_is_set_forward_ends_windows_at_once() {
    let mut rig = Rig::since(600);
    rig.node(node("n1")).order(scheduled("300s"));
    rig.settle();
    let now = Now {
        server: at(950),
        mono: Mono(Duration::from_secs(610)),
    };
    rig.shard.clock_was_set();
    rig.shard.decide(now, &rig.fleet, &mut rig.desk);
    let wanted: Vec<_> = rig.desk.pending.values().map(describe).collect();
    assert_eq!(wanted, ["ticket_status Expired"]);
    assert_eq!(
        rig.shard.next_wake(),
        Some(Mono(Duration::from_secs(860))),
        "the tick of 1200"
    );
}

#[test]
fn a_clock_that_is_set_back_changes_nothing_until_it_is_there_again() {
    let order = scheduled("300s");
    for (now, expected) in [
        // A moment before the window: somebody's clock was ahead.
        (590, "2 Reserved! 600..900"),
        // A moment before its end, somebody has seen it end.
        (1190, "2 Reserved! 1200..1500"),
    ] {
        let mut rig = Rig::since(now);
        rig.found(&order, 2, Phase::Reserved, if now < 600 { 600 } else { 1200 });
        rig.node(node("n1")).order(order.clone());
        assert_eq!(rig.settle(), [""; 0]);
        assert_eq!(rig.told(), expected);
    }
    let mut rig = Rig::since(899);
    rig.found(&order, 2, Phase::Expired, 600);
    rig.node(node("n1")).order(order.clone());
    assert_eq!(rig.settle(), [""; 0], "no Ticket for the last second");
    // Far ahead is nobody's clock: one was set back.
    let mut rig = Rig::since(700);
    rig.found(&order, 2, Phase::Reserved, 6000);
    rig.node(node("n1")).order(order);
    assert_eq!(rig.settle(), ["ticket_status renewed"]);
    assert_eq!(rig.told(), "2 Reserved! 600..900");
}

#[test]
fn a_start_time_to_come_is_waited_for() {
    let more = json!({ "template": { "spec": { "startTime": "1970-01-01T01:00:00Z" } } });
    for (kind, duration, expected) in [
        ("OneTime", None, "0 Reserved 3600.."),
        ("OneTime", Some("60s"), "0 Reserved 3600..3660"),
        ("Scheduled", Some("60s"), "0 Reserved 3600..3660"),
        ("Recurring", None, "0 Reserved 3600..4200"),
    ] {
        let mut rig = Rig::since(0);
        rig.node(node("n1"))
            .order(timed(kind, "OnClaim", duration, more.clone()));
        assert_eq!(rig.live(3599), [""; 0]);
        rig.live(3600);
        assert_eq!(rig.told(), expected, "{kind}");
    }
}

#[test]
fn a_late_node_gets_the_rest_of_the_window() {
    let mut rig = Rig::since(600);
    rig.node(node("n1")).order(scheduled("300s"));
    rig.live(850);
    rig.node(node("n2")).settle();
    assert_eq!(rig.told(), "0 Reserved 600..900, 0 Reserved 600..900");
}

#[test]
fn paused_renews_and_expires_but_makes_nothing() {
    let pause = json!({ "paused": true });
    let mut rig = Rig::since(700);
    rig.node(node("n1"))
        .order(timed("Recurring", "OnClaim", None, json!({})));
    rig.settle();
    rig.order(generation(timed("Recurring", "OnClaim", None, pause.clone()), 2));
    rig.live(1300);
    assert_eq!(rig.told(), "0 Reserved 1200..1800", "renewed");
    let mut rig = Rig::since(600);
    rig.node(node("n1")).order(scheduled("300s"));
    rig.settle();
    rig.order(generation(timed("Scheduled", "OnClaim", Some("300s"), pause), 2));
    rig.live(1300);
    assert_eq!(rig.told(), "0 Expired 600..900", "and no successor");
    rig.order(generation(scheduled("300s"), 3)).settle();
    assert_eq!(rig.told(), "1 Reserved 1200..1500");
}

#[test]
fn an_order_that_becomes_invalid_keeps_all_it_has() {
    let mut rig = Rig::since(600);
    rig.node(node("n1")).order(scheduled("300s"));
    rig.settle();
    let wrong = json!({ "strategy": { "schedule": "whenever" } });
    rig.order(generation(timed("Scheduled", "OnClaim", Some("300s"), wrong), 2));
    assert_eq!(rig.live(5000), [""; 0]);
    assert_eq!(rig.told(), "0 Reserved 600..900");
    rig.order(generation(scheduled("300s"), 3));
    rig.settle();
    assert_eq!(rig.told(), "1 Reserved 4800..5100");
}

/// What a live Order's strategy is edited to, and what its Ticket of the window 1200..1500 comes to at 1300.
#[test]
fn an_edited_strategy_moves_the_ticket_and_makes_no_hole() {
    let start = |time: &str| json!({ "template": { "spec": { "startTime": time } } });
    for (what, edited, expected) in [
        ("longer", scheduled("400s"), "3 Reserved! 1200..1600"),
        ("shorter", scheduled("200s"), "3 Reserved! 1200..1400"),
        ("over already", scheduled("60s"), "3 Expired 1200..1260"),
        (
            "other ticks, in a window",
            timed(
                "Scheduled",
                "OnClaim",
                Some("300s"),
                json!({ "strategy": { "schedule": "*/7 * * * *" } }),
            ),
            "3 Reserved! 1260..1560",
        ),
        (
            "other ticks, in no window",
            timed(
                "Scheduled",
                "OnClaim",
                Some("30s"),
                json!({ "strategy": { "schedule": "*/7 * * * *" } }),
            ),
            "3 Expired 1200..1500",
        ),
        (
            "for ever",
            timed("OneTime", "OnClaim", None, json!({})),
            "3 Reserved! 0..",
        ),
        (
            "completed",
            timed("OneTime", "OnClaim", Some("600s"), json!({})),
            "",
        ),
        (
            "anchors",
            timed("Recurring", "OnClaim", None, json!({})),
            "3 Reserved! 1200..1800",
        ),
        (
            "a start to come",
            timed("OneTime", "OnClaim", None, start("1970-01-01T01:00:00Z")),
            "3 Expired 1200..1500",
        ),
    ] {
        let mut rig = Rig::since(1300);
        let before = scheduled("300s");
        rig.found(&before, 3, Phase::Reserved, 1200);
        rig.node(node("n1")).order(before);
        assert_eq!(rig.settle(), [""; 0]);
        rig.order(generation(edited, 2)).settle();
        assert_eq!(rig.told(), expected, "{what}");
    }
}

#[test]
fn a_ticket_in_grace_is_renewed_and_expires_like_any_other() {
    let not_ready = node("n1").ready(ReadyStatus::False, 1180);
    let mut rig = Rig::since(1190);
    let order = timed("Recurring", "OnClaim", None, json!({}));
    rig.found(&order, 0, Phase::Reserved, 600);
    rig.node(not_ready.clone()).order(order);
    rig.live(1239);
    let renewed = rig.told() == "0 Reserved! 1200..1800";
    assert!(
        renewed || rig.told() == "0 Reserved! 600..1200",
        "its turn may come later"
    );
    rig.live(1240);
    assert_eq!(rig.told(), "", "the grace is over");
    let mut rig = Rig::since(890);
    rig.found(&scheduled("300s"), 0, Phase::Reserved, 600);
    rig.node(node("n1").ready(ReadyStatus::False, 880))
        .order(scheduled("300s"));
    rig.live(900);
    assert_eq!(rig.told(), "0 Expired 600..900");
    rig.live(1190);
    assert_eq!(rig.told(), "0 Expired 600..900", "the memory stays with the node");
}

#[test]
fn a_node_that_goes_takes_finished_and_claimed_tickets_along() {
    let order = timed("Recurring", "OnClaim", None, json!({}));
    let mut rig = Rig::since(700);
    rig.found(&order, 0, Phase::Released, 600);
    rig.found(&order, 1, Phase::Claimed, 600);
    rig.node(node("n1")).order(order);
    rig.settle();
    assert_eq!(rig.told(), "1 Claimed 600..1200, 2 Reserved 600..1200");
    rig.shard.delete_node(&"n1-uid".into());
    rig.settle();
    assert_eq!(rig.told(), "");
}

#[test]
fn a_claimant_s_ticket_stays_on_a_node_that_is_lost_and_its_successor_goes() {
    let order = timed("Recurring", "OnClaim", None, json!({}));
    let mut rig = Rig::since(700);
    rig.found(&order, 1, Phase::Claimed, 600);
    rig.node(node("n1")).order(order);
    rig.settle();
    rig.node(node("n1").cordoned()).settle();
    assert_eq!(rig.told(), "1 Claimed 600..1200");
    rig.live(3000);
    assert_eq!(rig.told(), "1 Claimed 600..1200", "claimed Tickets never expire");
}

#[test]
fn a_guardian_that_is_lost_at_the_tick_takes_the_new_window_along() {
    let mut rig = Rig::since(700);
    rig.node(node("n1"))
        .order(timed("Recurring", "OnClaim", None, json!({})));
    rig.settle();
    let ticket = rig.ticket("n1", 0);
    rig.seconds = 1200;
    rig.hide_guardian(&ticket);
    let done = rig.live(1300);
    assert!(!done.contains(&"ticket_status renewed".to_owned()), "{done:?}");
    assert_eq!(rig.told(), "0 Reserved 1200..1800");
}

#[test]
fn an_idle_shard_between_ticks_wakes_for_nothing() {
    let mut rig = Rig::since(600);
    rig.node(node("n1")).order(scheduled("300s"));
    rig.settle();
    assert_eq!(rig.shard.next_wake(), Some(Mono(Duration::from_secs(900))));
    rig.live(900);
    assert_eq!(rig.shard.next_wake(), Some(Mono(Duration::from_secs(1200))));
    let mut rig = Rig::since(600);
    rig.node(node("n1")).order(everywhere(json!({})));
    rig.settle();
    assert_eq!(rig.shard.next_wake(), None, "no window ends");
}

/// A shard that is made anew from the API's objects at any time goes on as if nothing had happened.
#[test]
fn a_new_owner_decides_the_same() {
    for seed in 0..24u64 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let (_, kind, duration) = STRATEGIES[rng.usize(0..STRATEGIES.len())];
        let policy = POLICIES[rng.usize(0..4)];
        let cleanup = ["Delete", "Retain"][rng.usize(0..2)];
        let retain = json!({ "template": { "spec": { "lifecycle": {
            "cleanupPolicy": cleanup, "ttlSecondsAfterFinished": rng.u64(0..900) } } } });
        let order = || timed(kind, policy, duration, retain.clone());
        let (mut calm, mut torn) = (Rig::since(5), Rig::since(5));
        for rig in [&mut calm, &mut torn] {
            rig.node(node("n1")).node(node("n2")).order(order());
        }
        let mut second = 5;
        while second < 8000 {
            second += rng.u64(20..700);
            torn.live(second);
            torn.another_owner();
            torn.node(node("n1")).node(node("n2")).order(order());
        }
        for rig in [&mut calm, &mut torn] {
            rig.live(second + 130);
        }
        assert_eq!(torn.told(), calm.told(), "{kind} {policy} {duration:?}");
        assert_eq!(
            torn.shard.next_wake(),
            calm.shard.next_wake(),
            "{kind} {policy} {duration:?}"
        );
    }
}

#[test]
fn a_ticket_made_just_before_the_last_window_ends_expires() {
    let order = timed("OneTime", "OnClaim", Some("2000s"), json!({}));
    let mut rig = Rig::since(1999);
    rig.node(node("n1")).order(order);
    for _ in 0..2 {
        // The Ticket, then its Guardian, of which no scheduler says anything.
        rig.decide();
        let works = std::mem::take(&mut rig.desk.pending);
        works.values().for_each(|work| rig.perform(work));
    }
    assert_eq!(rig.told(), "0 Pending -..");
    while rig.tickets.values().any(TicketView::open) {
        let Mono(wake) = rig.shard.next_wake().expect("it ends some time");
        rig.seconds = (wake.as_secs() + u64::from(wake.subsec_nanos() > 0)).max(rig.seconds + 1);
        rig.decide();
        let works = std::mem::take(&mut rig.desk.pending);
        works.values().for_each(|work| rig.perform(work));
    }
    assert!(rig.seconds < 2010, "{}", rig.seconds);
}

#[test]
fn a_clock_set_back_before_the_first_window_takes_no_room_away() {
    let start = json!({ "template": { "spec": { "startTime": "1970-01-01T01:00:00Z" } } });
    for (kind, duration) in [
        ("OneTime", None),
        ("Recurring", None),
        ("Scheduled", Some("300s")),
    ] {
        let mut rig = Rig::since(3700);
        rig.node(node("n1"))
            .order(timed(kind, "OnClaim", duration, start.clone()));
        rig.settle();
        let before = rig.told();
        assert!(before.starts_with("0 Reserved 3600.."), "{kind}: {before}");
        rig.seconds = 3500;
        rig.shard.clock_was_set();
        let pairs: Vec<_> = rig.shard.pairs.keys().cloned().collect();
        rig.shard.marked.extend(pairs);
        assert_eq!((rig.settle(), rig.told()), (vec![], before), "{kind}");
    }
}

/// A korder that dies after the Ticket has expired would leave one that nothing leads to.
#[test]
fn a_guardian_that_has_lost_its_labels_goes_before_its_ticket_expires() {
    let mut rig = Rig::since(10);
    rig.node(node("n1"))
        .order(timed("OneTime", "OnClaim", Some("2000s"), json!({})));
    rig.settle();
    let ticket = rig.ticket("n1", 0);
    rig.seconds = 2011;
    rig.guardian(&ticket, |view| view.labels_intact = false);
    assert_eq!(
        rig.settle(),
        [
            "delete_guardian Finished",
            "get_guardian",
            "ticket_status Expired",
            "delete_ticket Finished"
        ]
    );
}

/// It may have either name once one has taken over from another.
#[test]
fn a_guardian_out_of_sight_is_asked_for_by_both_names_before_a_pending_ticket_expires() {
    let order = timed("OneTime", "OnClaim", Some("2000s"), json!({}));
    let mut rig = Rig::since(10);
    rig.node(node("n1")).order(order.clone());
    rig.settle();
    let (ticket, revision) = (rig.ticket("n1", 0), rig.next());
    let plain = guardian_key(&ticket);
    let mut hidden = rig.guardians.remove(&plain).expect("a Guardian");
    hidden.key = PodKey::new(ticket.namespace.clone(), cover_name(&ticket.name, &plain.name));
    let mut waits = rig.tickets[&ticket].clone();
    (waits.phase, waits.pod_name, waits.revision) = (Phase::Pending, None, revision);
    rig.tickets.insert(ticket, waits);
    rig.another_owner();
    rig.guardians.insert(hidden.key.clone(), hidden);
    rig.node(node("n1")).order(order).seconds = 2001;
    rig.log.clear();
    assert_eq!(
        rig.live(2100),
        [
            "get_guardian",
            "get_guardian",
            "ticket_status Expired",
            "delete_guardian Finished",
            "delete_ticket Finished"
        ]
    );
}

/// Nothing tells that a Guardian without its labels is there, until a GET asks for it.
#[test]
fn a_guardian_out_of_sight_is_asked_for_before_its_ticket_expires() {
    let order = timed("OneTime", "OnClaim", Some("2000s"), json!({}));
    let mut rig = Rig::since(10);
    rig.node(node("n1")).order(order.clone());
    rig.settle();
    let ticket = rig.ticket("n1", 0);
    let hidden = rig.guardians.remove(&guardian_key(&ticket)).expect("a Guardian");
    rig.another_owner();
    rig.node(node("n1")).order(order).seconds = 2001;
    assert_eq!(rig.decide(), ["get_guardian"]);
    rig.desk.pending.clear();
    rig.show_guardian(hidden);
    rig.decide();
    let done = rig.live(2100);
    assert_eq!(
        done,
        [
            "ticket_status Expired",
            "delete_guardian Finished",
            "delete_ticket Finished"
        ]
    );
}
