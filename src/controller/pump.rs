//! The pump: takes operations from the queue and sends them, so many at a time.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{sync::Notify, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::mailbox::Mailbox;
use crate::{
    domain::{
        ids::{PodKey, TicketKey},
        op::{Op, Outcome},
        time::Mono,
    },
    queue::{Lane, Queue},
    runtime::{clock::Clock, metrics},
    shard::{
        ShardId,
        state::{Sink, Work},
    },
    write::Writer,
};

/// Operations sent at a time. What waits here can still be changed or taken back; what waits in the
/// API server cannot.
const IN_FLIGHT: usize = 24;

/// What is pending at most once.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    /// A Ticket.
    Ticket(TicketKey),
    /// A Guardian whose Ticket is gone.
    Orphan(PodKey),
}

impl Key {
    fn of(work: &Work) -> Self {
        match (&work.pair, &work.op) {
            (None, Op::DeleteOrphan { pod, .. }) => Self::Orphan(pod.clone()),
            _ => Self::Ticket(work.ticket.clone()),
        }
    }
}

fn lane(op: &Op) -> Lane {
    match op {
        Op::DeleteTicket { .. } | Op::DeleteGuardian { .. } | Op::DeleteOrphan { .. } => Lane::Delete,
        Op::CreateGuardian { .. } => Lane::Guardian,
        Op::SetStatus { .. } => Lane::Status,
        _ => Lane::Create,
    }
}

/// The queue that all shards of a replica share.
#[derive(Debug, Default)]
pub struct Pending {
    queue: Mutex<Queue<Key, Work>>,
    bell: Notify,
}

impl Pending {
    /// The queue as one shard's sink at `now`.
    pub fn sink(&self, now: Mono) -> impl Sink + '_ {
        PendingSink { pending: self, now }
    }

    /// Waiting, and being sent.
    pub fn depth(&self) -> (usize, usize) {
        let queue = self.queue.lock();
        (queue.depth(), queue.started())
    }
}

struct PendingSink<'a> {
    pending: &'a Pending,
    now: Mono,
}

impl Sink for PendingSink<'_> {
    fn offer(&mut self, work: Work) {
        let (key, lane) = (Key::of(&work), lane(&work.op));
        self.pending.queue.lock().offer(key, lane, work, self.now);
        self.pending.bell.notify_one();
    }

    fn cancel(&mut self, ticket: &TicketKey) -> bool {
        self.pending.queue.lock().cancel(&Key::Ticket(ticket.clone()))
    }

    fn in_flight(&self, ticket: &TicketKey) -> bool {
        self.pending.queue.lock().in_flight(&Key::Ticket(ticket.clone()))
    }
}

/// Sends what is pending until `stop`, then awaits what is in flight.
pub async fn pump(
    pending: Arc<Pending>,
    writer: Writer,
    mailboxes: Arc<BTreeMap<ShardId, Arc<Mailbox>>>,
    clock: Clock,
    stop: CancellationToken,
) {
    let (mut flight, mut pause_until) = (JoinSet::new(), None);
    loop {
        let now = clock.mono();
        pause_until = pause_until.filter(|&until| now < until);
        while flight.len() < IN_FLIGHT && pause_until.is_none() && !stop.is_cancelled() {
            let Some((key, work, wait)) = pending.queue.lock().start(now) else {
                break;
            };
            metrics::queue_wait(wait);
            let (writer, clock) = (writer.clone(), clock.clone());
            flight.spawn(async move {
                let outcome = send(&writer, &work, &clock).await;
                (key, work, outcome)
            });
        }
        tokio::select! {
            biased; // what has ended makes room for what waits
            Some(ended) = flight.join_next() => {
                let (key, work, outcome) = ended.expect("a write neither panics nor is cancelled");
                if let Outcome::Retry { after: Some(after), .. } = &outcome {
                    pause_until = Some(clock.mono().after(*after));
                }
                pending.queue.lock().done(&key);
                if let Some(mailbox) = mailboxes.get(&work.shard) {
                    mailbox.put(|inbox| inbox.outcomes.push((work, outcome)));
                }
            }
            () = stop.cancelled(), if flight.is_empty() => return,
            () = pending.bell.notified(), if flight.len() < IN_FLIGHT && !stop.is_cancelled() => {}
            () = clock.sleep_until(pause_until) => {}
        }
    }
}

async fn send(writer: &Writer, work: &Work, clock: &Clock) -> Outcome {
    let started = clock.mono();
    if let Some(changed) = work.changed {
        metrics::change_to_write(started.since(changed));
    }
    let outcome = writer.perform(work).await;
    let took: Duration = clock.mono().since(started);
    metrics::write(work.op.kind(), outcome.kind(), took);
    if let Outcome::Refused { message, .. } | Outcome::Retry { message, .. } = &outcome {
        tracing::debug!(op = work.op.kind(), ticket = %work.ticket, message = &**message, "write did not land");
    }
    outcome
}
