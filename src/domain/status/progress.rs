//! How a roll-out gets on: what is left of it, and whether it stands still.
//!
//! Pure. What it needs of the past is when it last moved, which is remembered as [`Pace`] by whoever sums
//! the counts; who takes that over goes on from the condition that was written.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::domain::pair::rollout::newest;
use crate::{
    api::{
        OrderStatus,
        order::{Rollout, UnavailableReason},
        shard::OrderCounts,
    },
    domain::{
        order::spec::Order,
        pair::reason,
        status::condition,
        values::time::{Mono, Now},
    },
};

/// A roll-out that has held all its grants for so long without progress has stalled.
const STANDS_FOR: Duration = Duration::from_secs(120);

/// How a roll-out stands at one time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Tickets to replace, those under way included.
    left: u32,
    /// Those under way.
    rolling: u32,
    /// All that may be granted is, and so is all that is needed.
    holds_all: bool,
}

impl Standing {
    /// How `rollout` stands by what the shards count.
    pub(crate) fn of<'a>(
        order: &Order,
        shards: impl Iterator<Item = (u16, &'a OrderCounts)> + Clone,
        rollout: Option<&Rollout>,
    ) -> Self {
        let Ok(spec) = &order.spec else {
            return Self::default();
        };
        let rollout = rollout.filter(|rollout| rollout.template_hash == spec.template.hash.as_str());
        let cap = |shard| {
            let grant = rollout.and_then(|rollout| newest(&rollout.grants, shard));
            grant.map_or(0, |grant| grant.count)
        };
        let sum = |of: &dyn Fn((u16, &OrderCounts)) -> u32| shards.clone().map(of).sum::<u32>();
        let most = spec.max_unavailable.of(sum(&|(_, counts)| counts.desired));
        // Without grants, as while paused, only those count that say so: another may just have lost its Guardian.
        let say_so = |counts: &OrderCounts| -> u32 {
            let rolling = counts
                .reasons
                .iter()
                .filter(|said| said.reason == reason::ROLLING_OUT);
            rolling.map(|said| said.count).sum()
        };
        let rolling = match sum(&|(shard, _)| cap(shard)) {
            0 => sum(&|(_, counts)| say_so(counts).min(counts.rolling)),
            _ => sum(&|(_, counts)| counts.rolling),
        };
        let needed = sum(&|(_, counts)| counts.stale) + rolling;
        let held = sum(&|(shard, counts)| cap(shard).max(counts.rolling));
        Self {
            left: sum(&|(_, counts)| counts.reserved.saturating_sub(counts.updated)) + rolling,
            rolling,
            holds_all: !order.paused && needed > 0 && held >= most.min(needed),
        }
    }
}

/// When a roll-out last moved.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// The template and how many have it, if all grants are held.
    mark: Option<(String, u32)>,
    since: Mono,
}

impl Pace {
    /// Sets the conditions of a status that is about to be written, `before` being the one so far. Returns
    /// when to look again.
    pub(crate) fn note(
        &mut self,
        standing: &Standing,
        order: &Order,
        before: &OrderStatus,
        status: &mut OrderStatus,
        now: Now,
    ) -> Option<Mono> {
        let hash = |status: &OrderStatus| {
            let rollout = status.rollout.as_ref();
            rollout.map_or_else(String::new, |rollout| rollout.template_hash.clone())
        };
        let mark = (hash(status), status.updated_replicas);
        let was = (hash(before), before.updated_replicas);
        let stalled_before = before.conditions.iter().any(|known| {
            known.type_ == "Stalled" && known.status == "True" && was == mark && standing.holds_all
        });
        let mark = standing.holds_all.then_some(mark);
        if self.mark != mark {
            (self.mark, self.since) = (mark, now.mono);
        }
        let stalls_at = self.mark.is_some().then(|| self.since.after(STANDS_FOR));
        let stalled = stalled_before || stalls_at.is_some_and(|at| now.mono >= at);
        if order.spec.is_err() {
            // What there is to roll out is not known: what was said stays.
            let known = before.conditions.iter();
            let known = known.filter(|known| ["Progressing", "Stalled"].contains(&known.type_.as_str()));
            status.conditions.extend(known.cloned());
            return None;
        }
        let generation = status.observed_generation;
        let conditions = [
            progressing(standing, order.paused, generation, before, now),
            stall(
                standing,
                stalled,
                &status.unavailable_reasons,
                generation,
                before,
                now,
            ),
        ];
        status.conditions.extend(conditions);
        stalls_at.filter(|_| !stalled)
    }
}

fn progressing(
    standing: &Standing,
    paused: bool,
    generation: i64,
    before: &OrderStatus,
    now: Now,
) -> Condition {
    let (status, word, message) = match standing.left {
        0 => (
            "False",
            "UpToDate",
            "every Reserved Ticket has the present template".to_owned(),
        ),
        left => {
            let left =
                format!("{left} Tickets have an older template, or wait for a Guardian of the present one");
            match paused {
                true => (
                    "True",
                    "Paused",
                    format!("{left}; korder replaces no more while the Order is paused"),
                ),
                false => ("True", "RollingOut", left),
            }
        }
    };
    condition(
        "Progressing",
        status,
        word,
        message,
        generation,
        before,
        now.server,
    )
}

fn stall(
    standing: &Standing,
    stalled: bool,
    reasons: &[UnavailableReason],
    generation: i64,
    before: &OrderStatus,
    now: Now,
) -> Condition {
    let (status, word, message) = if stalled {
        let fault = |reason: &&UnavailableReason| {
            ![reason::ROLLING_OUT, reason::RESERVING].contains(&reason.reason.as_str())
        };
        let (word, example) = match reasons.iter().find(fault) {
            Some(reason) => (
                reason.reason.clone(),
                format!(", for example on node {}", reason.node),
            ),
            None => ("NoProgress".to_owned(), String::new()),
        };
        let rolling = standing.rolling;
        let message = format!(
            "{rolling} of {} Tickets wait for a Guardian of the new template{example}; the others keep their \
             room. Free room on these nodes, or edit the template",
            standing.left
        );
        ("True", word, message)
    } else {
        let message = "no roll-out stands still";
        ("False", "NotStalled".to_owned(), message.to_owned())
    };
    condition("Stalled", status, &word, message, generation, before, now.server)
}

#[cfg(test)]
mod tests;
