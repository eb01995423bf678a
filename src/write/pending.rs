//! Everything that is to be asked of the API server by this replica's write client waits here: one
//! line, one budget.
//!
//! Operations on Tickets wait to be taken by the pump and can be changed until then; all other requests
//! (removals of a whole Order, statuses, Events, reads that settle a doubt) wait for their turn in the
//! same lanes. Nobody waits here for a lock.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{
    domain::{
        pair::op::Op,
        values::{
            ids::{PodKey, TicketKey},
            shard::ShardId,
            time::Mono,
        },
    },
    env::{clock::Clock, metrics},
    queue::{
        Lane, Queue,
        budget::{Admission, Budget, Feedback},
    },
    shard::state::{Sink, Work},
};

/// What is pending at most once.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    Ticket(TicketKey),
    /// A Guardian whose Ticket is gone.
    Orphan(PodKey),
    /// A request that is no operation on a Ticket: bounded by the tasks that wait for one each.
    Turn(u64),
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
        Op::CreateGuardian { .. } | Op::NominateGuardian { .. } | Op::UngateGuardian { .. } => Lane::Guardian,
        Op::SetStatus { .. } | Op::Renew { .. } | Op::Expire { .. } => Lane::Status,
        _ => Lane::Create,
    }
}

/// The line and the budget that all writes of a replica share.
#[derive(Debug)]
pub(crate) struct Pending {
    state: Mutex<State>,
    /// Rung when what is next, or whether it may begin, has changed.
    bell: Notify,
    clock: Clock,
}

#[derive(Debug, Default)]
struct State {
    /// Operations; none for a turn.
    queue: Queue<Key, Option<Work>>,
    budget: Budget,
    turns: u64,
    /// No operation is started or taken any more.
    stopped: bool,
}

/// An operation that begins.
#[derive(Debug)]
pub(crate) struct Started {
    /// To be given back when it is done.
    pub(crate) key: Key,
    /// The operation.
    pub(crate) work: Work,
    /// How long it has waited.
    pub(crate) waited: Duration,
    /// For its first request.
    pub(crate) permit: Permit,
}

impl Pending {
    /// An empty line and a full budget.
    pub(crate) fn new(clock: Clock) -> Self {
        Self {
            state: Mutex::default(),
            bell: Notify::new(),
            clock,
        }
    }

    /// The queue as one shard's sink at `now`.
    pub(crate) fn sink(&self, now: Mono) -> impl Sink + '_ {
        PendingSink { pending: self, now }
    }

    /// Waits until the next is an operation that may begin, and starts it. Dropping the future starts
    /// nothing.
    pub(crate) async fn started(self: &Arc<Self>) -> Started {
        let take = |state: &mut State, now| {
            let (key, work, waited) = state.queue.start(now)?;
            Some((key, work?, waited))
        };
        let ((key, work, waited), permit) = self.wait(|key| !matches!(key, Key::Turn(_)), take).await;
        Started {
            key,
            work,
            waited,
            permit,
        }
    }

    /// Drops the operations that wait, and those to come: nobody would start them, and what has begun
    /// must not wait behind them for its last requests.
    pub(crate) fn stop(&self) {
        let mut state = self.state.lock();
        state.stopped = true;
        state.queue.retain(Option::is_none);
        drop(state);
        self.bell.notify_waiters();
    }

    /// Drops the operations of a shard that wait.
    pub(crate) fn forget(&self, shard: ShardId) {
        let kept = |work: &Option<Work>| work.as_ref().is_none_or(|work| work.shard != shard);
        self.state.lock().queue.retain(kept);
        self.bell.notify_waiters();
    }

    /// The operation is over.
    pub(crate) fn done(&self, key: &Key) {
        self.state.lock().queue.done(key);
    }

    /// Waits for leave to send one request. Dropping the future gives up the place in line.
    pub(crate) async fn turn(self: &Arc<Self>, lane: Lane) -> Permit {
        let place = self.line_up(lane);
        let take = |state: &mut State, now| {
            state.queue.start(now)?;
            state.queue.done(&place.key);
            Some(())
        };
        self.wait(|key| *key == place.key, take).await.1
    }

    /// The time of the replica's clock.
    pub(crate) fn now(&self) -> Mono {
        self.clock.mono()
    }

    /// Nothing begins for so long.
    pub(crate) fn close(&self, span: Duration) {
        let until = self.clock.mono().after(span);
        self.state.lock().budget.close(until);
    }

    /// Until when nothing may begin; none if the gate is open.
    pub(crate) fn closed_until(&self) -> Option<Mono> {
        let open_from = self.state.lock().budget.open_from();
        (self.clock.mono() < open_from).then_some(open_from)
    }

    /// Whether the API server has not taken anything lately.
    pub(crate) fn outage(&self) -> bool {
        self.state.lock().budget.outage()
    }

    /// Operations that wait, by shard.
    pub(crate) fn waiting(&self) -> BTreeMap<ShardId, u32> {
        let (mut waiting, state) = (BTreeMap::new(), self.state.lock());
        for work in state.queue.waiting().flatten() {
            *waiting.entry(work.shard).or_default() += 1;
        }
        waiting
    }

    /// Shows how long the line is and what the budget allows.
    pub(crate) fn measure(&self) {
        let now = self.clock.mono();
        let state = self.state.lock();
        metrics::queue(state.queue.depth(), state.queue.started());
        metrics::budget(state.budget.limit(), state.budget.open_from().since(now));
    }

    /// Operations and turns that wait.
    #[cfg(test)]
    pub(crate) fn depth(&self) -> usize {
        self.state.lock().queue.depth()
    }

    /// Waits until `mine` is next and may begin, and takes it.
    async fn wait<T>(
        self: &Arc<Self>,
        mine: impl Fn(&Key) -> bool,
        mut take: impl FnMut(&mut State, Mono) -> Option<T>,
    ) -> (T, Permit) {
        loop {
            let rung = self.bell.notified();
            tokio::pin!(rung);
            rung.as_mut().enable();
            let wake = {
                let (now, mut state) = (self.clock.mono(), self.state.lock());
                let next = state.queue.next().is_some_and(|(key, _)| mine(key));
                match state.budget.admission(now) {
                    Admission::Now if next => {
                        if let Some(taken) = take(&mut state, now) {
                            state.budget.begin(now);
                            drop(state);
                            self.bell.notify_waiters();
                            let permit = Permit {
                                pending: self.clone(),
                                begun: now,
                                answered: false,
                            };
                            return (taken, permit);
                        }
                        None
                    }
                    Admission::At(at) if next => Some(at),
                    _ => None,
                }
            };
            tokio::select! {
                biased; // either will do
                () = rung => {}
                () = self.clock.sleep_until(wake) => {}
            }
        }
    }

    fn line_up(&self, lane: Lane) -> Place<'_> {
        let now = self.clock.mono();
        let mut state = self.state.lock();
        state.turns += 1;
        let key = Key::Turn(state.turns);
        state.queue.offer(key.clone(), lane, None, now);
        drop(state);
        self.bell.notify_waiters();
        Place { pending: self, key }
    }

    fn end(&self, begun: Mono, feedback: Feedback) {
        let now = self.clock.mono();
        let cut = self.state.lock().budget.end(begun, feedback, now);
        match feedback {
            Feedback::TooMuch(_) => metrics::unanswered("too_much"),
            Feedback::Silence => metrics::unanswered("silence"),
            Feedback::Served | Feedback::Nothing => {}
        }
        if cut {
            let limit = self.state.lock().budget.limit();
            tracing::debug!(limit, ?feedback, "fewer requests at a time");
        }
        self.bell.notify_waiters();
    }
}

/// A place in line, given up when dropped.
struct Place<'a> {
    pending: &'a Pending,
    key: Key,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if self.pending.state.lock().queue.cancel(&self.key) {
            self.pending.bell.notify_waiters();
        }
    }
}

/// Leave to send one request.
#[derive(Debug)]
pub(crate) struct Permit {
    pending: Arc<Pending>,
    begun: Mono,
    answered: bool,
}

impl Permit {
    /// The request is over.
    pub(crate) fn answered(mut self, feedback: Feedback) {
        self.answered = true;
        self.pending.end(self.begun, feedback);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if !self.answered {
            self.pending.end(self.begun, Feedback::Nothing);
        }
    }
}

struct PendingSink<'a> {
    pending: &'a Pending,
    now: Mono,
}

impl Sink for PendingSink<'_> {
    fn offer(&mut self, work: Work) {
        let (key, lane) = (Key::of(&work), lane(&work.op));
        let mut state = self.pending.state.lock();
        if !state.stopped {
            state.queue.offer(key, lane, Some(work), self.now);
        }
        drop(state);
        self.pending.bell.notify_waiters();
    }

    fn cancel(&mut self, ticket: &TicketKey) -> bool {
        let cancelled = self
            .pending
            .state
            .lock()
            .queue
            .cancel(&Key::Ticket(ticket.clone()));
        if cancelled {
            self.pending.bell.notify_waiters();
        }
        cancelled
    }

    fn in_flight(&self, ticket: &TicketKey) -> bool {
        let key = Key::Ticket(ticket.clone());
        self.pending.state.lock().queue.in_flight(&key)
    }
}

#[cfg(test)]
mod tests;
