//! The worker of one shard: mailbox in; operations, reports and notices out.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use arc_swap::ArcSwap;

use crate::controller::{
    counts::rollup::{NodeCounts, Reports},
    events::EventQueue,
    intake::{listed::Listed, router::Router},
    owned::{
        mailbox::{GuardianUpdate, Inbox, NodeUpdate, TicketUpdate},
        shard::OwnedShard,
    },
};
use crate::{
    domain::values::time::Now,
    env::{clock::Clock, metrics},
    index::Snapshot,
    shard::Shard,
    write::Pending,
};

/// What a worker is connected to.
pub(crate) struct Worker {
    pub(crate) shard: Shard,
    /// Where updates come in, and until when something may be decided.
    pub(crate) owned: Arc<OwnedShard>,
    /// What knows all nodes.
    pub(crate) router: Arc<Router>,
    /// The Orders as they are.
    pub(crate) snapshot: Arc<ArcSwap<Snapshot>>,
    /// Where operations go.
    pub(crate) pending: Arc<Pending>,
    /// Where counts go.
    pub(crate) reports: Arc<Reports>,
    /// Where Events are made.
    pub(crate) events: Arc<EventQueue>,
    /// True once everything has been listed; nothing is decided before.
    pub(crate) listed: Listed,
    /// The time.
    pub(crate) clock: Clock,
}

/// What came of a look at the mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// Not everything has been listed: nothing was decided.
    Unlisted,
    /// The Lease had run out: nothing was decided.
    Leaseless,
    Decided,
}

/// A Lease that has run out is dropped or renewed within moments, and nobody rings for the latter.
const LEASE_AGAIN: Duration = Duration::from_millis(100);

impl Worker {
    /// Works until the shard is to stop.
    pub(crate) async fn run(mut self) {
        let (stop, _tells_at_the_end) = (self.owned.stop.clone(), self.owned.stopped.clone().drop_guard());
        let mut jumps = self.clock.jumps();
        let mut last = Turn::Unlisted;
        loop {
            tokio::select! {
                biased; // stopping comes first
                () = stop.cancelled() => return,
                // The clock sends as long as it is there.
                _ = jumps.changed() => self.shard.clock_was_set(),
                () = self.due(last) => {}
            }
            last = self.turn();
        }
    }

    /// Waits for a reason to look again. Goes by what the last turn found, not by what is true by now: what has
    /// been listed since was not decided on.
    async fn due(&self, last: Turn) {
        let wake = match last {
            Turn::Unlisted => None,
            Turn::Leaseless => Some(self.clock.mono().after(LEASE_AGAIN)),
            Turn::Decided => self.shard.next_wake(),
        };
        tokio::select! {
            biased; // the order does not matter
            () = self.owned.mailbox.rung() => {}
            () = self.listed.wait(), if last == Turn::Unlisted => {}
            () = self.clock.sleep_until(wake) => {}
        }
    }

    fn turn(&mut self) -> Turn {
        // Read before the mailbox is emptied: what was listed is in it by then.
        let listed = self.listed.complete();
        let now = self.clock.now();
        self.look(self.owned.mailbox.take(), now);
        if !listed {
            return Turn::Unlisted;
        }
        if !self.owned.lease.admits(now.mono, Duration::ZERO) {
            return Turn::Leaseless;
        }
        self.owned.active.store(true, Ordering::Release);
        let mut sink = self.pending.sink(now.mono);
        self.shard.decide(now, &*self.router, &mut sink);
        let reports = self.shard.take_reports();
        let nodes = NodeCounts {
            all: self.shard.nodes(),
            not_ready: self
                .shard
                .not_ready()
                .iter()
                .map(|(&since, &count)| (since, count))
                .collect(),
        };
        self.reports.put(&self.owned, nodes, reports, now.mono);
        self.events.put(self.shard.take_notices(), now.mono);
        let stats = self.shard.take_stats();
        metrics::node_events_stopped("fingerprint", stats.stopped);
        metrics::decisions(stats.decisions);
        stats
            .reserved_after
            .into_iter()
            .for_each(metrics::change_to_reserved);
        Turn::Decided
    }

    fn look(&mut self, inbox: Inbox, now: Now) {
        let shard = &mut self.shard;
        for (order, running) in inbox.purges {
            shard.purge(&order, running);
        }
        if !inbox.orders.is_empty() {
            let changed: Vec<_> = inbox.orders.into_iter().collect();
            shard.apply_orders(self.snapshot.load_full(), &changed, now.mono);
        }
        for (uid, update) in inbox.nodes {
            match update {
                NodeUpdate::Apply(node, seen) => shard.apply_node(node, seen),
                NodeUpdate::Delete => shard.delete_node(&uid),
            }
        }
        let mut left = Vec::new();
        for ((uid, unlabelled), update) in inbox.tickets {
            match update {
                TicketUpdate::Apply(view) => shard.apply_ticket(*view),
                TicketUpdate::Told(view) => shard.told_ticket(*view, now.mono),
                TicketUpdate::Delete(key) => left.push((key, uid, unlabelled)),
            }
        }
        // What has left one watch may have come to the other.
        for (key, uid, unlabelled) in left {
            shard.lose_ticket(&key, &uid, unlabelled, now.mono);
        }
        for (uid, update) in inbox.guardians {
            match update {
                GuardianUpdate::Apply(view) => shard.apply_guardian(*view, now.mono),
                GuardianUpdate::Delete(ticket, pod) => shard.delete_guardian(&ticket, &pod, &uid, now.mono),
            }
        }
        for (work, outcome) in inbox.outcomes {
            shard.apply_outcome(&work, outcome, now.mono);
        }
        for (order, (rollout, floor)) in inbox.rollouts {
            shard.see_rollout(&order, &rollout, floor);
        }
    }
}

#[cfg(test)]
mod tests;
