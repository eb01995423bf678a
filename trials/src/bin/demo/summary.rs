//! The end of the demo: what it came to, and which rules were checked.

use trials::show::{Summary, Writes, clock, grouped};

use crate::{fleet::ORDERS, stage::Stage};

/// Checked at every revision, and after each chapter.
const ALWAYS: &[&str] = &[
    "never two open Tickets of one Order on one node, nor two Guardians of one Ticket",
    "new Tickets only on nodes that are eligible, under the one name that the rules give them",
    "no Ticket and no bound Guardian removed without a rule that says so",
];
const SETTLED: &[&str] = &[
    "every eligible node has its Ticket and its bound Guardian, of the Order's template; no other has",
    "the sum of requests on each node is at most what it has to give",
    "the status of every Order counts what is there",
    "heartbeats lead to no write",
];

/// What the chapters came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Facts {
    /// Tickets made when the first Orders came, and what it took.
    pub(crate) reserved: (u64, Writes),
    /// Heartbeats while nothing else happened, and writes meanwhile.
    pub(crate) heartbeats: (u64, u64),
    /// Tickets made and to be made when korder was killed.
    pub(crate) killed_at: (u64, u64),
    /// Writes beyond those that an undisturbed korder needs.
    pub(crate) crash_cost: i64,
    /// As `heartbeats`, in the end.
    pub(crate) calm: (u64, u64),
}

/// Of a run that is over.
pub(crate) fn summary(stage: &Stage, facts: &Facts) -> Summary {
    let (violations, revisions) = stage.verdict();
    let counts = stage.board.counts();
    let mut summary = Summary::default();
    summary.violations = violations;
    let (virtual_time, real) = (stage.cluster.elapsed(), stage.screen.real().as_secs_f64());
    summary.fact(
        "time",
        format!(
            "{} min of virtual time in {real:.1} s: {:.0} times as fast as real time",
            clock(virtual_time),
            virtual_time.as_secs_f64() / real.max(0.001)
        ),
    );
    let tickets = [counts.made, counts.removed, counts.reserved()];
    summary.tickets(tickets, stage.settings.nodes, ORDERS.len());
    summary.writes(facts.reserved, stage.writes());
    if let Some([half, most]) = stage.gauges.reserved_within([50, 99]) {
        let text = format!("half within {half:.2} s, 99 % within {most:.2} s of virtual time");
        summary.fact("change to Reserved", text);
    }
    let (heartbeats, writes) = facts.heartbeats;
    let (calm, calm_writes) = facts.calm;
    summary.fact(
        "heartbeats",
        format!(
            "{} while nothing else happened: {} writes",
            grouped(heartbeats + calm),
            writes + calm_writes
        ),
    );
    let (at, of) = facts.killed_at;
    summary.fact(
        "the crash",
        format!(
            "korder was killed with {} of {} Tickets Reserved; after its restart no Ticket was made twice and {} \
             writes were made again",
            grouped(at),
            grouped(of),
            facts.crash_cost
        ),
    );
    let (digest, lines) = stage.cluster.journal().digest();
    summary.fact(
        "journal",
        format!(
            "SEED={} NODES={}: {} lines, digest {digest:016x}; the same seed, the same run",
            stage.settings.seed,
            stage.settings.nodes,
            grouped(lines)
        ),
    );
    summary.checked(format!("at each of {} revisions", grouped(revisions)), ALWAYS);
    summary.checked("after each chapter".to_owned(), SETTLED);
    summary
}
