//! What befalls the nodes, drawn from the seed: each at most one thing, so that no rule about flapping
//! stands between a change and what it leads to; and how it is put right again.

use std::time::Duration;

use testbed::sim::actors::nodes::Fortune;

use crate::{
    board::MAINTENANCE,
    fleet::{ACCELERATOR, K80, Kind, kind, name},
};

/// How long a node is NotReady that comes back within the grace.
const BLINK: Duration = Duration::from_secs(25);

/// Something that happens.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Event {
    /// To a node.
    Node(String, Fortune),
    /// The n-th node joins.
    Join(usize),
    /// A user deletes a Guardian; the n-th, modulo their number.
    Guardian(usize),
}

/// How often what happens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) cordoned: usize,
    pub(crate) tainted: usize,
    pub(crate) silent: usize,
    pub(crate) blinked: usize,
    pub(crate) relabelled: usize,
    pub(crate) left: usize,
    pub(crate) joined: usize,
    pub(crate) guardians: usize,
}

/// What happens, and how it is put right.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Churn {
    /// In order of time.
    pub(crate) events: Vec<(Duration, Event)>,
    /// Without times.
    pub(crate) cures: Vec<Event>,
    pub(crate) tally: Tally,
}

impl Churn {
    /// What befalls a tenth of `nodes` nodes within `span`.
    pub(crate) fn drawn(seed: u64, nodes: usize, span: Duration) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed ^ 0xc0de);
        let mut order: Vec<usize> = (0..nodes).collect();
        rng.shuffle(&mut order);
        let count = (nodes / 10).max(24);
        let mut churn = Self::default();
        for (index, &n) in order.iter().take(count).enumerate() {
            let at = span.mul_f64(index as f64 / count as f64);
            churn.befall(&mut rng, at, n, nodes);
        }
        churn.events.sort_by_key(|(at, _)| *at);
        churn
    }

    fn befall(&mut self, rng: &mut fastrand::Rng, at: Duration, n: usize, nodes: usize) {
        let tally = &mut self.tally;
        let counted = match rng.u8(0..100) {
            0..=24 => {
                self.node(at, n, Fortune::Cordon(true), Some(Fortune::Cordon(false)));
                &mut self.tally.cordoned
            }
            25..=39 => {
                let value = ["drain", "repair"][rng.usize(0..2)];
                let taint = Fortune::Taint(MAINTENANCE, value, "NoExecute");
                self.node(at, n, taint, Some(Fortune::Untaint(MAINTENANCE)));
                &mut self.tally.tainted
            }
            40..=49 => {
                let status = ["False", "Unknown"][rng.usize(0..2)];
                self.node(at, n, Fortune::Ready(status), Some(Fortune::Ready("True")));
                &mut self.tally.silent
            }
            50..=59 => {
                self.node(at, n, Fortune::Ready("False"), None);
                self.node(at + BLINK, n, Fortune::Ready("True"), None);
                &mut self.tally.blinked
            }
            60..=69 if kind(n) == Kind::Gpu => {
                let back = Fortune::Label(ACCELERATOR, Some(K80));
                self.node(at, n, Fortune::Label(ACCELERATOR, None), Some(back));
                &mut self.tally.relabelled
            }
            60..=69 => {
                self.node(at, n, Fortune::Label("team", Some("blue")), None);
                &mut self.tally.relabelled
            }
            70..=79 => {
                self.node(at, n, Fortune::Leave, None);
                &mut self.tally.left
            }
            80..=89 => {
                self.events.push((at, Event::Join(nodes + tally.joined)));
                &mut self.tally.joined
            }
            _ => {
                self.events.push((at, Event::Guardian(rng.usize(..))));
                &mut self.tally.guardians
            }
        };
        *counted += 1;
    }

    fn node(&mut self, at: Duration, n: usize, fortune: Fortune, cure: Option<Fortune>) {
        self.events.push((at, Event::Node(name(n), fortune)));
        self.cures.extend(cure.map(|cure| Event::Node(name(n), cure)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPAN: Duration = Duration::from_secs(60);

    #[test]
    fn a_seed_is_a_churn_and_another_is_another() {
        assert_eq!(Churn::drawn(1, 500, SPAN), Churn::drawn(1, 500, SPAN));
        assert_ne!(Churn::drawn(1, 500, SPAN), Churn::drawn(2, 500, SPAN));
    }

    #[test]
    fn fewer_nodes_fall_silent_than_the_brake_is_for() {
        for seed in 0..200 {
            let tally = Churn::drawn(seed, 5000, SPAN).tally;
            assert!(tally.silent + tally.blinked < 1000, "{tally:?}");
            let tally = Churn::drawn(seed, 60, SPAN).tally;
            assert!(tally.silent + tally.blinked < 12, "{tally:?}");
        }
    }
}
