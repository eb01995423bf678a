//! The end of the demo: what it came to, from the API, the audit log, korder's metrics and `/proc`.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::Result;

use trials::show::{Summary, Writes, grouped};

use crate::{cluster::Cluster, costs::counted, look::Told, rules::COUNT};

/// Checked after each change, and in the end.
const AFTER: &[&str] = &[
    "every eligible node has its Ticket and its bound Guardian; no other has",
    "the status of every Order counts what is there",
    "3 writes make a pair's Ticket and Guardian, 2 remove them; no other Ticket is written to",
];
const IN_THE_END: &[&str] = &["no Event tells of a Ticket made or removed that was not"];

/// What the story knows.
pub(crate) struct Facts<'a> {
    pub(crate) nodes: usize,
    pub(crate) reserved: usize,
    pub(crate) told: &'a Told,
    /// Tickets that no Event told of.
    pub(crate) untold: usize,
    pub(crate) writes: Writes,
    /// Tickets made when the Orders were applied, and all writes meanwhile.
    pub(crate) first: (u64, Writes),
    /// Writes that only a slow machine needs, by what they were.
    pub(crate) slow: &'a BTreeMap<String, usize>,
    /// Why Tickets were Pending while the first ones were made.
    pub(crate) pending: &'a BTreeMap<String, usize>,
}

/// korder's own numbers at one moment.
pub(crate) struct Meter {
    at: Instant,
    cpu: Duration,
    pub(crate) node_events: usize,
    stopped: usize,
    /// Upper bounds in seconds, and how many pairs were Reserved within.
    reserved: Vec<(f64, usize)>,
}

impl Meter {
    pub(crate) async fn read(cluster: &Cluster) -> Result<Self> {
        let text = cluster.korder.metrics().await?;
        let buckets = samples(&text, "korder_node_change_to_reserved_seconds_bucket", "le=\"");
        let bound = |labels: &str| {
            let bound = labels.split("le=\"").nth(1)?.split('"').next()?;
            bound.parse().ok()
        };
        Ok(Self {
            at: Instant::now(),
            cpu: cluster.korder.usage()?.cpu,
            node_events: sum(&text, "korder_watch_events_total", "kind=\"Node\""),
            stopped: sum(&text, "korder_node_events_stopped_total", ""),
            reserved: buckets
                .filter_map(|(labels, count)| Some((bound(labels)?, count)))
                .collect(),
        })
    }

    /// The bound within which so many in a hundred were Reserved since `before`; `None` if there were none.
    fn percentile(&self, before: Option<&Self>, percent: usize) -> Option<f64> {
        let old = |bound: f64| {
            let bucket = before?.reserved.iter().find(|(old, _)| *old == bound)?;
            Some(bucket.1)
        };
        let since: Vec<(f64, usize)> = self
            .reserved
            .iter()
            .map(|(bound, count)| (*bound, count - old(*bound).unwrap_or(0)))
            .collect();
        let all = since.last()?.1;
        let enough = (all * percent).div_ceil(100).max(1);
        since
            .iter()
            .find(|(_, count)| *count >= enough)
            .map(|(bound, _)| *bound)
    }
}

/// `reserved` was read when the first Tickets were all Reserved.
pub(crate) async fn summary(cluster: &Cluster, facts: &Facts<'_>, reserved: &Meter) -> Result<Summary> {
    let now = Meter::read(cluster).await?;
    let usage = cluster.korder.usage()?;
    let mut summary = Summary::default();
    let (made, removed) = (
        facts.told.made.iter().sum::<usize>(),
        facts.told.gone.values().sum::<usize>(),
    );
    let tickets = [made, removed, facts.reserved].map(|count| count as u64);
    summary.tickets(tickets, facts.nodes, COUNT);
    summary.writes(facts.first, facts.writes);
    if !facts.slow.is_empty() {
        let kinds = facts.slow.iter().map(counted).collect::<Vec<_>>().join(", ");
        let pending = facts.pending.iter().map(counted).collect::<Vec<_>>().join(", ");
        let why = match pending.as_str() {
            "" => String::new(),
            _ => format!("; Pending at first: {pending}"),
        };
        summary.fact(
            "slowness cost",
            format!("{kinds}{why} (refused tries and reasons of waiting; none on a quick machine)"),
        );
    }
    let mut reasons = BTreeMap::<String, usize>::new();
    for ((_, reason), count) in &facts.told.gone {
        *reasons.entry(reason.clone()).or_default() += count;
    }
    let reasons: Vec<String> = reasons.iter().map(counted).collect();
    let untold = match facts.untold {
        0 => String::new(),
        untold => format!("; {untold} Tickets in no Event (Events may be lost on a busy machine)"),
    };
    summary.fact("removed because", format!("{}{untold}", reasons.join(", ")));
    summary.fact(
        "Node events",
        format!(
            "{} seen, {} stopped before any Order was looked at ({:.1} %)",
            grouped(now.node_events),
            grouped(now.stopped),
            100.0 * now.stopped as f64 / now.node_events.max(1) as f64
        ),
    );
    let within = |meter: &Meter, before, percent| match meter.percentile(before, percent) {
        Some(bound) if bound.is_finite() => format!("{bound} s"),
        Some(_) => "more than 600 s".to_owned(),
        None => "-".to_owned(),
    };
    summary.fact(
        "change to Reserved",
        format!(
            "half within {}, 99 % within {} when the Orders were applied; half within {}, 99 % within {} afterwards \
             (bounds of a histogram)",
            within(reserved, None, 50),
            within(reserved, None, 99),
            within(&now, Some(reserved), 50),
            within(&now, Some(reserved), 99),
        ),
    );
    let wall = now.at.duration_since(reserved.at).as_secs_f64();
    let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    summary.fact(
        "korder",
        format!(
            "{:.0} MiB resident (at most {:.0}); {:.1} s of CPU until all were Reserved, then {:.1} % of a core",
            mebibytes(usage.rss_bytes),
            mebibytes(usage.peak_rss_bytes),
            reserved.cpu.as_secs_f64(),
            100.0 * (now.cpu - reserved.cpu).as_secs_f64() / wall
        ),
    );
    summary.checked("after each change".to_owned(), AFTER);
    summary.checked("in the end".to_owned(), IN_THE_END);
    Ok(summary)
}

/// Labels and values of a metric's samples whose labels contain `with`.
fn samples<'a>(text: &'a str, name: &'a str, with: &'a str) -> impl Iterator<Item = (&'a str, usize)> {
    text.lines().filter_map(move |line| {
        let labels = line.strip_prefix(name)?;
        let (labels, value) = labels.rsplit_once(' ')?;
        let exact = labels.is_empty() || labels.starts_with('{');
        let value = value.parse::<f64>().ok()?;
        (exact && labels.contains(with)).then_some((labels, value as usize))
    })
}

fn sum(text: &str, name: &str, with: &str) -> usize {
    samples(text, name, with).map(|(_, value)| value).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meter(reserved: &[(f64, usize)]) -> Meter {
        Meter {
            at: Instant::now(),
            cpu: Duration::ZERO,
            node_events: 0,
            stopped: 0,
            reserved: reserved.to_vec(),
        }
    }

    #[test]
    fn percentiles_are_bounds_of_what_came_after() {
        let before = meter(&[(0.1, 0), (1.0, 90), (f64::INFINITY, 100)]);
        let now = meter(&[(0.1, 60), (1.0, 189), (f64::INFINITY, 200)]);
        assert_eq!(before.percentile(None, 50), Some(1.0));
        assert_eq!(now.percentile(Some(&before), 50), Some(0.1));
        assert_eq!(now.percentile(Some(&before), 99), Some(1.0));
        assert_eq!(before.percentile(Some(&before), 50), None);
    }

    #[test]
    fn samples_are_summed_by_label() {
        let text = "# HELP a b\na{kind=\"Node\",type=\"x\"} 2\na{kind=\"Pod\"} 3\na_more 9\nb 1\n";
        assert_eq!(sum(text, "a", "kind=\"Node\""), 2);
        assert_eq!(sum(text, "a", ""), 5);
        assert_eq!(sum(text, "b", ""), 1);
    }
}
