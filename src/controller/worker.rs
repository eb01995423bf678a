//! The worker of one shard: mailbox in, operations, reports and news out.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;

use super::{
    events::News,
    mailbox::{GuardianNews, Inbox, NodeNews, TicketNews},
    rollup::{NodeCounts, Reports},
    router::Router,
    slots::Slot,
    synced::Synced,
};
use crate::{
    domain::time::Now,
    index::Snapshot,
    runtime::{clock::Clock, metrics},
    shard::Shard,
    write::Pending,
};

/// What a worker is connected to.
pub struct Worker {
    /// The shard.
    pub shard: Shard,
    /// Where news come in, and until when something may be decided.
    pub slot: Arc<Slot>,
    /// What knows all nodes.
    pub router: Arc<Router>,
    /// The Orders as they are.
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// Where operations go.
    pub pending: Arc<Pending>,
    /// Where counts go.
    pub reports: Arc<Reports>,
    /// Where Events are made.
    pub news: Arc<News>,
    /// True once everything has been listed; nothing is decided before.
    pub synced: Synced,
    /// The time.
    pub clock: Clock,
}

impl Worker {
    /// Works until the slot is to stop.
    pub async fn run(mut self) {
        let (stop, _tells_at_the_end) = (self.slot.stop.clone(), self.slot.stopped.clone().drop_guard());
        loop {
            let synced = self.synced.all();
            let wake = if synced { self.shard.next_wake() } else { None };
            tokio::select! {
                biased; // stopping comes first; after that the order does not matter
                () = stop.cancelled() => return,
                () = self.slot.mailbox.rung() => {}
                () = self.synced.wait(), if !synced => {}
                () = self.clock.sleep_until(wake) => {}
            }
            self.turn();
        }
    }

    fn turn(&mut self) {
        // Read before the mailbox is emptied: what was listed is in it by then.
        let synced = self.synced.all();
        let now = self.clock.now();
        self.look(self.slot.mailbox.take(), now);
        if !synced || !self.slot.lease.admits(now.mono, Duration::ZERO) {
            return;
        }
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
        self.reports.put(&self.slot, nodes, reports, now.mono);
        self.news.put(self.shard.take_notices(), now.mono);
        let stats = self.shard.take_stats();
        metrics::node_events_stopped("fingerprint", stats.stopped);
        metrics::decisions(stats.decisions);
        stats
            .reserved_after
            .into_iter()
            .for_each(metrics::change_to_reserved);
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
        for (uid, news) in inbox.nodes {
            match news {
                NodeNews::Apply(node, seen) => shard.apply_node(node, seen),
                NodeNews::Delete => shard.delete_node(&uid),
            }
        }
        let mut left = Vec::new();
        for ((uid, unlabelled), news) in inbox.tickets {
            match news {
                TicketNews::Apply(view) => shard.apply_ticket(*view),
                TicketNews::Delete(key) => left.push((key, uid, unlabelled)),
            }
        }
        // What has left one watch may have come to the other.
        for (key, uid, unlabelled) in left {
            shard.lose_ticket(&key, &uid, unlabelled, now.mono);
        }
        for (uid, news) in inbox.guardians {
            match news {
                GuardianNews::Apply(view) => shard.apply_guardian(*view, now.mono),
                GuardianNews::Delete(ticket, pod) => shard.delete_guardian(&ticket, &pod, &uid),
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
