//! The pump: takes operations from the line as fast as the budget admits them, and sends them.

use std::{sync::Arc, time::Duration};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::controller::owned::shard::OwnedShards;
use crate::{
    domain::pair::op::Outcome,
    env::{clock::Clock, metrics},
    shard::state::Work,
    write::{Pending, Writer},
};

/// Sends what is pending until `stop`, then awaits what is in flight.
pub(crate) async fn pump(
    pending: Arc<Pending>,
    writer: Writer,
    owned_shards: Arc<OwnedShards>,
    clock: Clock,
    stop: CancellationToken,
) {
    let (mut flight, mut stopping) = (JoinSet::new(), false);
    while !(stopping && flight.is_empty()) {
        tokio::select! {
            biased; // nothing begins after `stop`, and what has ended makes room for what waits
            () = stop.cancelled(), if !stopping => {
                stopping = true;
                pending.stop();
            }
            Some(ended) = flight.join_next() => {
                let (key, work, outcome): (_, Work, Option<Outcome>) =
                    ended.expect("a write neither panics nor is cancelled");
                pending.done(&key);
                if let Some(outcome) = outcome {
                    owned_shards.put(work.shard, |inbox| inbox.outcomes.push((work, outcome)));
                }
            }
            started = pending.started(), if !stopping => {
                metrics::queue_wait(started.waited);
                let Some(owned) = owned_shards.get(started.work.shard) else {
                    pending.done(&started.key);
                    continue;
                };
                let in_flight = owned.begin_write();
                let (writer, clock) = (writer.holding(started.permit, owned.lease.clone()), clock.clone());
                flight.spawn(async move {
                    // Dropped with its shard, it ends its connection: what is not on the wire yet stays here.
                    let sent = send(&writer, &started.work, &clock);
                    let outcome = owned.drop.run_until_cancelled(sent).await;
                    drop(in_flight);
                    (started.key, started.work, outcome)
                });
            }
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
    if let Outcome::Refused { message, .. } | Outcome::Retry { message } | Outcome::Busy { message } =
        &outcome
    {
        tracing::debug!(op = work.op.kind(), ticket = %work.ticket, message = &**message, "write did not land");
    }
    outcome
}
