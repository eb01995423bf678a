//! Events on Orders: at most one per Order and reason in ten seconds, with a count and an example.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{
    domain::{
        status,
        values::{ids::OrderUid, time::Mono},
    },
    env::{clock::Clock, metrics},
    index::Snapshot,
    shard::{Notice, report::NoticeKind},
    write::{Writer, event::NewEvent},
};

/// The first Event of its kind waits this long for others to join it.
const GATHER: Duration = Duration::from_secs(1);
/// Least time between two Events of one kind on one Order.
const EVERY: Duration = Duration::from_secs(10);
/// Quiet kinds are forgotten after this long.
const FORGET: Duration = Duration::from_secs(60);
/// Reasons named in one Event.
const NAMED: usize = 4;

/// Notices that are not Events yet.
#[derive(Debug, Default)]
pub(crate) struct EventQueue {
    tallies: Mutex<BTreeMap<(OrderUid, &'static str), Tally>>,
    bell: Notify,
}

#[derive(Debug)]
struct Tally {
    kind: NoticeKind,
    due: Mono,
    reasons: BTreeMap<Arc<str>, (u32, Notice)>,
}

impl EventQueue {
    /// Takes in what happened.
    pub(crate) fn put(&self, notices: Vec<Notice>, now: Mono) {
        if notices.is_empty() {
            return;
        }
        let mut tallies = self.tallies.lock();
        for notice in notices {
            let tally = tallies
                .entry((notice.order.clone(), event_reason(&notice)))
                .or_insert_with(|| Tally {
                    kind: notice.kind,
                    due: now.after(GATHER),
                    reasons: BTreeMap::new(),
                });
            if tally.reasons.is_empty() {
                tally.due = tally.due.max(now.after(GATHER));
            }
            tally
                .reasons
                .entry(notice.reason.clone())
                .or_insert_with(|| (0, notice))
                .0 += 1;
        }
        drop(tallies);
        self.bell.notify_one();
    }

    /// Kinds of notices that wait.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.tallies.lock().len()
    }

    /// What is to be written now, and when to look again.
    fn due(&self, now: Mono) -> (Vec<(OrderUid, NewEvent)>, Option<Mono>) {
        let (mut due, mut wake) = (Vec::new(), None::<Mono>);
        let mut tallies = self.tallies.lock();
        tallies.retain(|_, tally| !tally.reasons.is_empty() || now < tally.due.after(FORGET));
        for ((order, reason), tally) in &mut *tallies {
            if tally.reasons.is_empty() {
            } else if now < tally.due {
                wake = Some(wake.map_or(tally.due, |wake| wake.min(tally.due)));
            } else {
                let reasons = std::mem::take(&mut tally.reasons);
                let warning = match tally.kind {
                    NoticeKind::Order(reason) => status::WARNINGS.contains(&reason),
                    kind => kind == NoticeKind::Failing,
                };
                let note = note(tally.kind, &reasons);
                due.push((
                    order.clone(),
                    NewEvent {
                        reason,
                        warning,
                        note,
                    },
                ));
                tally.due = now.after(EVERY);
            }
        }
        (due, wake)
    }
}

fn event_reason(notice: &Notice) -> &'static str {
    use crate::domain::pair::reason;
    match notice.kind {
        NoticeKind::Created => "TicketsCreated",
        NoticeKind::Removed => "TicketsRemoved",
        NoticeKind::Order(reason) => reason,
        NoticeKind::Failing => [
            reason::INSUFFICIENT_RESOURCES,
            reason::GUARDIAN_REFUSED,
            reason::TICKET_REFUSED,
            reason::GUARDIAN_DELETED,
            reason::GUARDIAN_ENDED,
            reason::NAME_TAKEN,
        ]
        .into_iter()
        .find(|known| **known == *notice.reason)
        .unwrap_or("TicketsFailing"),
    }
}

/// `made 12 Tickets, for example for node n1`, `removed 3 Tickets: 2 NodeGone (for example for node n1), …`.
fn note(kind: NoticeKind, reasons: &BTreeMap<Arc<str>, (u32, Notice)>) -> String {
    let total: u32 = reasons.values().map(|(count, _)| count).sum();
    let tickets = if total == 1 { "Ticket" } else { "Tickets" };
    let mut parts: Vec<_> = reasons.values().collect();
    parts.sort_by_key(|(count, _)| std::cmp::Reverse(*count));
    let (_, first) = parts.first().expect("a tally that is due has a reason");
    match kind {
        NoticeKind::Order(_) => first.message.to_string(),
        NoticeKind::Created => format!("made {total} {tickets}, for example for node {}", first.node),
        NoticeKind::Failing => format!(
            "{total} {tickets}, for example for node {}: {}",
            first.node, first.message
        ),
        NoticeKind::Removed => {
            let named = parts.iter().take(NAMED).map(|(count, notice)| {
                format!("{count} {} (for example for node {})", notice.reason, notice.node)
            });
            format!(
                "removed {total} {tickets}: {}",
                named.collect::<Vec<_>>().join(", ")
            )
        }
    }
}

/// Writes Events until `stop`.
pub(crate) async fn run(
    queue: Arc<EventQueue>,
    snapshot: Arc<ArcSwap<Snapshot>>,
    writer: Writer,
    instance: String,
    clock: Clock,
    stop: CancellationToken,
) {
    loop {
        let (due, wake) = queue.due(clock.mono());
        for (uid, event) in due {
            let order = snapshot
                .load()
                .order(&uid)
                .filter(|order| !order.deleting)
                .cloned();
            if let Some(order) = order {
                metrics::event(event.reason);
                writer.event(&order, &event, &instance, clock.now().server).await;
            }
        }
        tokio::select! {
            biased; // stopping comes first
            () = stop.cancelled() => return,
            () = queue.bell.notified() => {}
            () = clock.sleep_until(wake) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice(kind: NoticeKind, node: &str, reason: &str) -> Notice {
        let (order, message) = ("o".into(), "no room".into());
        Notice {
            order,
            kind,
            node: node.into(),
            reason: reason.into(),
            message,
        }
    }

    fn at(seconds: u64) -> Mono {
        Mono(Duration::from_secs(seconds))
    }

    fn notes(queue: &EventQueue, now: Mono) -> Vec<String> {
        queue
            .due(now)
            .0
            .into_iter()
            .map(|(_, event)| format!("{}: {}", event.reason, event.note))
            .collect()
    }

    #[test]
    fn many_removals_make_one_event_with_counts_and_examples() {
        let queue = EventQueue::default();
        let removed = [("n1", "NodeGone"), ("n2", "NodeGone"), ("n3", "Unschedulable")];
        queue.put(
            removed
                .map(|(node, reason)| notice(NoticeKind::Removed, node, reason))
                .into(),
            at(0),
        );
        assert_eq!(notes(&queue, at(0)), [""; 0]);
        let expected = "TicketsRemoved: removed 3 Tickets: 2 NodeGone (for example for node n1), \
                        1 Unschedulable (for example for node n3)";
        assert_eq!(notes(&queue, at(1)), [expected]);
    }

    #[test]
    fn the_second_event_of_a_kind_comes_ten_seconds_after_the_first() {
        let queue = EventQueue::default();
        queue.put(vec![notice(NoticeKind::Created, "n1", "")], at(0));
        assert_eq!(notes(&queue, at(1)).len(), 1);
        queue.put(vec![notice(NoticeKind::Created, "n2", "")], at(2));
        assert_eq!(queue.due(at(10)), (vec![], Some(at(11))));
        assert_eq!(
            notes(&queue, at(11)),
            ["TicketsCreated: made 1 Ticket, for example for node n2"]
        );
    }
}
