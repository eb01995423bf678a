//! From marked pairs to operations: the second half of a shard.
//!
//! Plans every pair that something has marked, puts the plan in the place of what is pending for it,
//! and keeps the counts of its Order in line.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;

use super::{
    pair::Pair,
    state::{Fleet, STRAY_FOR, Shard, Sink, Work},
};
use crate::domain::{
    node::{
        eligibility::{Keep, Verdict, evaluate, evaluate_spared},
        record::{Node, ReadyStatus},
    },
    order::{spec::Order, window::Agenda},
    pair::{
        observed::TicketView,
        op::Op,
        plan::{Fate, View, plan, term},
    },
    values::{
        ids::{Namespace, PairKey, TicketKey},
        time::{Mono, Now},
    },
};

impl Shard {
    /// Plans every marked pair, and those whose time has come.
    pub(crate) fn decide(&mut self, now: Now, fleet: &impl Fleet, sink: &mut impl Sink) {
        while let Some((at, _)) = self.timers.first()
            && *at <= now.mono
        {
            let (_, key) = self.timers.pop_first().expect("just seen");
            if let Some(pair) = self.pairs.get_mut(&key) {
                pair.wake = None;
                self.marked.insert(key);
            }
        }
        self.decide_marked(now, fleet, sink);
        while let Some(order) = self.seeking.pop_first() {
            let mut last = None;
            while let Some(key) = self.next_stale(&order, last) {
                last = Some(key.node.clone());
                self.decide_pair(key, now, fleet, sink);
            }
        }
        self.seek_strays(now.mono, sink);
    }

    fn decide_marked(&mut self, now: Now, fleet: &impl Fleet, sink: &mut impl Sink) {
        while let Some(key) = self.marked.pop() {
            self.decide_pair(key, now, fleet, sink);
        }
    }

    /// The server's clock was set: every time that something waits for has to be reckoned anew.
    pub(crate) fn clock_was_set(&mut self) {
        for (_, key) in std::mem::take(&mut self.timers) {
            if let Some(pair) = self.pairs.get_mut(&key) {
                pair.wake = None;
                self.marked.insert(key);
            }
        }
    }

    fn decide_pair(&mut self, key: PairKey, now: Now, fleet: &impl Fleet, sink: &mut impl Sink) {
        let Some(mut pair) = self.pairs.swap_remove(&key) else {
            return;
        };
        self.stats.decisions += 1;
        let (order, node) = (self.order_fate(&key), self.node_fate(&key, &pair));
        let raw = self.raw_verdict(&order, &node, now, fleet);
        let desired = raw == Some(Verdict::Eligible);
        let agenda = self.agenda(&key, &order, now.server);
        let held_until = raw.and_then(|_| pair.flaps.note(desired, now.mono));
        let mut wake = held_until;
        if let Some(until) = pair.waits_until(now.mono) {
            wake = Some(until);
        } else if !pair.busy.iter().any(|(ticket, _)| sink.in_flight(ticket)) {
            let barred_until = self.barred.get(&order_namespace(&order, &pair)).copied();
            let view = View {
                order: order.clone(),
                node: node.clone(),
                verdict: raw.unwrap_or(Verdict::Eligible),
                agenda: agenda.as_deref(),
                held: held_until.is_some(),
                belief: &pair.belief,
                memory: &pair.memory,
                may_replace: self.may_replace(&key),
                barred_until: barred_until.filter(|until| now.mono < *until),
                now,
            };
            let plan = plan(&view);
            wake = wake
                .into_iter()
                .chain(plan.wake)
                .chain(pair.belief.ask_again_at())
                .min();
            pair.remember(plan.pending, now.mono);
            if plan.ops.is_empty() {
                pair.nothing_to_answer();
            }
            self.offer(&key, &mut pair, plan.ops, sink);
        }
        self.account(&key, &mut pair, &order, agenda.as_deref(), desired, now.server);
        let restless = raw.and_then(|_| pair.flaps.restless_until(now.mono));
        self.settle_pair(key, pair, desired, wake, restless);
    }

    fn order_fate(&self, key: &PairKey) -> Fate<Order> {
        let entry = self.orders.get(&key.order);
        match self.nodes.order(&key.order) {
            _ if entry.is_some_and(|entry| entry.purging) => Fate::Purging,
            _ if entry.is_some_and(|entry| entry.gone) => Fate::Gone,
            Some(order) if order.deleting => Fate::Purging,
            Some(order) => Fate::Live(order.clone()),
            None => Fate::Unseen,
        }
    }

    fn node_fate(&self, key: &PairKey, pair: &Pair) -> Fate<Node> {
        match self.nodes.node(&key.node) {
            Some(node) => Fate::Live(node.clone()),
            None if pair.node_gone => Fate::Gone,
            None => Fate::Unseen,
        }
    }

    /// The Order's windows around `now`, computed once for all its pairs.
    fn agenda(&mut self, key: &PairKey, order: &Fate<Order>, now: Timestamp) -> Option<Arc<Agenda>> {
        let Fate::Live(order) = order else {
            return None;
        };
        let entry = self.orders.entry(key.order.clone()).or_default();
        if !entry.agenda.as_ref().is_some_and(|known| known.holds(order, now)) {
            entry.agenda = Agenda::at(order, now).map(Arc::new);
        }
        entry.agenda.clone()
    }

    fn raw_verdict(
        &self,
        order: &Fate<Order>,
        node: &Fate<Node>,
        now: Now,
        fleet: &impl Fleet,
    ) -> Option<Verdict> {
        let (Fate::Live(order), Fate::Live(node)) = (order, node) else {
            return None;
        };
        let spec = order.spec.as_ref().ok()?;
        let verdict = evaluate(&spec.placement, node, self.nodes.grace());
        let Verdict::Ineligible { keep, .. } = verdict else {
            return Some(verdict);
        };
        if node.ready.status == ReadyStatus::True || !keep.ends(now.server) {
            return Some(verdict);
        }
        let end = match keep {
            Keep::Until(end) => end,
            Keep::Remove | Keep::Forever => node.ready.since,
        };
        // Looked at again every minute: others may be Ready by then.
        let overdue = Duration::try_from(now.server.duration_since(end)).unwrap_or_default();
        let next = Duration::from_secs((overdue.as_secs() / 60 + 1) * 60);
        let spared = fleet.spared(&node.uid).min(next);
        Some(evaluate_spared(&spec.placement, node, self.nodes.grace(), spared))
    }

    fn may_replace(&self, key: &PairKey) -> bool {
        let begun = self.orders.get(&key.order);
        if begun.is_some_and(|entry| entry.replacing.contains(&key.node)) {
            self.granted(&key.order)
        } else {
            self.may_begin(&key.order)
        }
    }

    /// Puts the plan in the place of what is pending for the pair.
    fn offer(&mut self, key: &PairKey, pair: &mut Pair, ops: Vec<(TicketKey, Op)>, sink: &mut impl Sink) {
        pair.busy
            .retain(|(ticket, _)| ops.iter().any(|(planned, _)| planned == ticket) || !sink.cancel(ticket));
        for (ticket, op) in ops {
            if pair
                .busy
                .iter()
                .any(|(busy, pending)| *busy == ticket && *pending == op)
            {
                continue;
            }
            if op.begins_replacement() {
                self.orders[&key.order].replacing.insert(key.node.clone());
            }
            pair.busy.retain(|(busy, _)| *busy != ticket);
            pair.busy.push((ticket.clone(), op.clone()));
            sink.offer(Work {
                shard: self.id,
                pair: Some(key.clone()),
                ticket,
                op,
                changed: pair.unanswered.take(),
            });
        }
    }

    /// Brings the Order's counts in line with the pair.
    fn account(
        &mut self,
        key: &PairKey,
        pair: &mut Pair,
        order: &Fate<Order>,
        agenda: Option<&Agenda>,
        desired: bool,
        now: Timestamp,
    ) {
        let spec = match order {
            Fate::Live(order) => order.spec.as_ref().ok(),
            _ => None,
        };
        let policy = spec.map(|spec| spec.strategy.refresh_policy);
        let spent = |ticket: &TicketView| {
            agenda
                .zip(policy)
                .is_some_and(|(agenda, policy)| term::spent(agenda, policy, ticket, now))
        };
        let spent = pair.belief.tickets().any(spent);
        let template = spec.map(|spec| &*spec.template);
        let summary = pair.summary(desired, spent, template);
        let entry = self.orders.entry(key.order.clone()).or_default();
        if summary.stale {
            entry.stale.insert(key.node.clone());
        } else {
            entry.stale.remove(&key.node);
        }
        // Until it is known what has become of the write, it may have begun.
        let begins = !summary.rolling && (pair.awaits() || pair.belief.asks());
        let began = !begins && entry.replacing.remove(&key.node);
        if (began || pair.counted.rolling) && !summary.rolling {
            self.touched.insert(key.order.clone());
            self.seeking.insert(key.order.clone());
        }
        if summary != pair.counted {
            entry.counts.remove(&pair.counted_as, &pair.counted);
            entry.counts.add(&pair.node_name, &summary);
            (pair.counted, pair.counted_as) = (summary, pair.node_name.clone());
            self.touched.insert(key.order.clone());
        }
    }

    /// Puts the pair back with its next timer, or forgets it if there is nothing to remember.
    fn settle_pair(
        &mut self,
        key: PairKey,
        mut pair: Pair,
        desired: bool,
        wake: Option<Mono>,
        restless: Option<Mono>,
    ) {
        if let Some(before) = pair.wake.take() {
            self.timers.remove(&(before, key.clone()));
        }
        if pair.idle() && !desired && restless.is_none() {
            let entry = self.orders.get_mut(&key.order).expect("made with its first pair");
            entry.counts.remove(&pair.counted_as, &pair.counted);
            entry.pairs.swap_remove(&key.node);
            entry.stale.remove(&key.node);
            entry.replacing.remove(&key.node);
            self.touched.insert(key.order.clone());
            self.seeking.insert(key.order.clone());
            if let Some(orders) = self.on_node.get_mut(&key.node) {
                orders.retain(|order| *order != key.order);
                if orders.is_empty() {
                    self.on_node.swap_remove(&key.node);
                }
            }
            return;
        }
        pair.wake = if pair.idle() && !desired { restless } else { wake };
        if let Some(wake) = pair.wake {
            self.timers.insert((wake, key.clone()));
        }
        self.pairs.insert(key, pair);
    }

    /// Guardians whose Ticket has been gone for a while are removed, if a GET agrees.
    fn seek_strays(&mut self, now: Mono, sink: &mut impl Sink) {
        for (ticket, strays) in &mut self.strays {
            if now < strays.since.after(STRAY_FOR) {
                continue;
            }
            strays.since = now;
            let Some(guardian) = strays.guardians.first() else {
                continue;
            };
            if !guardian.deleting && !sink.in_flight(ticket) {
                let op = Op::DeleteOrphan {
                    pod: guardian.key.clone(),
                    uid: guardian.uid.clone(),
                    ticket: guardian.ticket_uid.clone(),
                };
                sink.offer(Work {
                    shard: self.id,
                    pair: None,
                    ticket: ticket.clone(),
                    op,
                    changed: None,
                });
            }
        }
    }
}

fn order_namespace(order: &Fate<Order>, pair: &Pair) -> Namespace {
    match (order, pair.belief.tickets().next()) {
        (Fate::Live(order), _) => order.key.namespace.clone(),
        (_, Some(ticket)) => ticket.key.namespace.clone(),
        _ => Namespace::from(""),
    }
}
