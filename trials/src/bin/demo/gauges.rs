//! What korder's metrics say of its queue, and how long changes took to lead to Reserved Tickets.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use anyhow::{Context, Result};
use metrics::{Counter, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use parking_lot::Mutex;

/// The metrics that the demo shows; clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gauges {
    /// As bits of an f64.
    queue: Arc<AtomicU64>,
    reserved: Arc<Seconds>,
}

#[derive(Debug, Default)]
struct Seconds(Mutex<Vec<f64>>);

impl HistogramFn for Seconds {
    fn record(&self, seconds: f64) {
        self.0.lock().push(seconds);
    }
}

impl Gauges {
    /// Listens to the metrics of this process from now on.
    pub(crate) fn install() -> Result<Self> {
        let gauges = Self::default();
        metrics::set_global_recorder(gauges.clone()).context("installing the recorder of metrics")?;
        Ok(gauges)
    }

    /// Operations that wait in korder's queue, as of its last whole second.
    pub(crate) fn queue(&self) -> u64 {
        f64::from_bits(self.queue.load(Ordering::Relaxed)) as u64
    }

    /// There is no queue any more.
    pub(crate) fn forget_queue(&self) {
        self.queue.store(0, Ordering::Relaxed);
    }

    /// In how many seconds so many of a hundred changes have led to a Reserved Ticket.
    pub(crate) fn reserved_within(&self, percents: [usize; 2]) -> Option<[f64; 2]> {
        let mut seconds = self.reserved.0.lock().clone();
        seconds.sort_by(f64::total_cmp);
        let at = |percent: usize| {
            seconds
                .get((seconds.len() * percent).div_ceil(100).max(1) - 1)
                .copied()
        };
        Some([at(percents[0])?, at(percents[1])?])
    }
}

impl Recorder for Gauges {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        Counter::noop()
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        match key.name() {
            "korder_queue_depth" => Gauge::from_arc(self.queue.clone()),
            _ => Gauge::noop(),
        }
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        match key.name() {
            "korder_node_change_to_reserved_seconds" => Histogram::from_arc(self.reserved.clone()),
            _ => Histogram::noop(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_what_was_recorded() {
        let gauges = Gauges::default();
        assert_eq!(gauges.reserved_within([50, 99]), None);
        (1..=200).rev().for_each(|n| gauges.reserved.record(f64::from(n)));
        assert_eq!(gauges.reserved_within([50, 99]), Some([100.0, 198.0]));
    }
}
