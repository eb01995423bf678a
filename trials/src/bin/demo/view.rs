//! The demo's scene: a column for each shard, the Orders, and writes and queue over time.

use std::time::{Duration, Instant};

use trials::show::{Bar, Chapter, Line, Scene, Spark, Tint, clock, grouped, strip};

use crate::{
    board::{BUCKET, Condition, Counts, ShardCounts},
    fleet::ORDERS,
};

/// The number of chapters.
pub(crate) const CHAPTERS: usize = 8;
/// A full block of trouble is this part of a shard.
const TROUBLE: u32 = 8;

/// What a scene is made from.
pub(crate) struct Moment<'a> {
    pub(crate) nodes: usize,
    pub(crate) seed: u64,
    /// Virtual time, and how much faster it goes than real time.
    pub(crate) elapsed: Duration,
    pub(crate) speed: f64,
    pub(crate) real: Duration,
    /// Whether korder runs.
    pub(crate) alive: bool,
    pub(crate) counts: &'a Counts,
    pub(crate) queue: &'a [u64],
    pub(crate) chapters: &'a [Chapter],
}

/// How much faster than real time it goes.
pub(crate) struct Speed {
    since: (Instant, Duration),
    factor: f64,
}

impl Speed {
    pub(crate) fn new() -> Self {
        Self {
            since: (Instant::now(), Duration::ZERO),
            factor: 0.0,
        }
    }

    /// The factor over about the last second.
    pub(crate) fn at(&mut self, elapsed: Duration) -> f64 {
        let now = Instant::now();
        let real = now.duration_since(self.since.0).as_secs_f64();
        if real > 0.9 || self.factor == 0.0 {
            self.factor = (elapsed.saturating_sub(self.since.1)).as_secs_f64() / real.max(0.05);
            self.since = (now, elapsed);
        }
        self.factor
    }
}

impl<'a> Moment<'a> {
    pub(crate) fn scene(&self) -> Scene<'a> {
        let (time, real) = (clock(self.elapsed), self.real.as_secs_f64());
        Scene {
            title: format!("on {} simulated nodes, seed {}", grouped(self.nodes), self.seed),
            clock: format!("virtual {time}   {:>4.1} x real   {real:>4.1} s", self.speed),
            alive: self.alive,
            chapters: self.chapters,
            all: CHAPTERS,
            seconds: "s virtual",
            strips: vec![nodes(self.counts), held(self.counts)],
            bars: bars(self.counts),
            sparks: self.sparks(),
            line: self.line(),
        }
    }

    fn sparks(&self) -> Vec<Spark> {
        let bucket = (self.elapsed.as_millis() / BUCKET.as_millis()) as usize;
        let per_second = |bucket: usize| {
            let count = self.counts.writes.get(bucket).copied().unwrap_or_default();
            u64::from(count) * 1000 / BUCKET.as_millis() as u64
        };
        let spark = |label, data, tint, rows| Spark {
            label,
            data,
            tint,
            rows,
        };
        vec![
            spark(
                ["Writes", "a second"],
                (0..bucket).map(per_second).collect(),
                Tint::GREEN,
                3,
            ),
            spark(["Queue", ""], self.queue.to_vec(), Tint::YELLOW, 2),
        ]
    }

    fn line(&self) -> String {
        let nodes = |condition| grouped(self.counts.nodes(condition));
        let all: u64 = bars(self.counts).iter().map(|bar| bar.all).sum();
        format!(
            "{}{} nodes: {} ready, {} tainted, {} cordoned, {} not ready; Tickets: {} of {} Reserved; queue {}; \
             {:.1} x real time",
            clock(self.elapsed),
            if self.alive { "" } else { " korder is down;" },
            nodes(Condition::Ready),
            nodes(Condition::Tainted),
            nodes(Condition::Cordoned),
            nodes(Condition::NotReady),
            grouped(self.counts.reserved()),
            grouped(all),
            grouped(self.queue.last().copied().unwrap_or_default()),
            self.speed,
        )
    }
}

fn bars(counts: &Counts) -> Vec<Bar> {
    let bar = |(name, order): (&&'static str, &crate::board::OrderCounts)| Bar {
        name,
        reserved: order.reserved,
        pending: order.pending,
        // The status may know of more nodes than there are Tickets, and fewer.
        all: order.desired.max(order.pending + order.reserved),
    };
    ORDERS.iter().zip(&counts.orders).map(bar).collect()
}

/// A row for each condition of nodes.
fn nodes(counts: &Counts) -> Vec<Line> {
    let shards = &counts.shards;
    let usual = shards.iter().map(|shard| shard.nodes.iter().sum::<u32>());
    let usual = usual.max().unwrap_or_default().max(1);
    let ruler = (0..shards.len()).step_by(8).map(|shard| format!("{shard:<8}"));
    let ruler = row(
        "Nodes",
        Tint::STRONG,
        Tint::DIM,
        ruler.collect::<String>() + "shard",
    );
    let conditions = [
        ("ready", Condition::Ready, Tint::GREEN, usual),
        (
            "tainted",
            Condition::Tainted,
            Tint::MAGENTA,
            usual.div_ceil(TROUBLE),
        ),
        (
            "cordoned",
            Condition::Cordoned,
            Tint::BLUE,
            usual.div_ceil(TROUBLE),
        ),
        (
            "not ready",
            Condition::NotReady,
            Tint::RED,
            usual.div_ceil(TROUBLE),
        ),
    ];
    let rows = conditions.map(|(label, condition, tint, full)| {
        let level = |shard: &ShardCounts| (shard.nodes[condition as usize] * 8).div_ceil(full).into();
        row(label, Tint::PLAIN, tint, strip(shards.iter().map(level)))
            .and(Tint::PLAIN, format!("{:>9}", grouped(counts.nodes(condition))))
    });
    [ruler].into_iter().chain(rows).collect()
}

/// How much of each shard's Tickets are Reserved.
fn held(counts: &Counts) -> Vec<Line> {
    let shards = &counts.shards;
    let full = shards.iter().map(|shard| shard.tickets).max();
    let full = full.unwrap_or_default().max(1);
    let sixteenths = |shard: &ShardCounts| u64::from((shard.reserved * 16).div_ceil(full));
    let upper = shards.iter().map(|shard| sixteenths(shard).saturating_sub(8));
    let lower = shards.iter().map(sixteenths);
    vec![
        row("Tickets", Tint::STRONG, Tint::CYAN, strip(upper)),
        row("Reserved", Tint::PLAIN, Tint::CYAN, strip(lower))
            .and(Tint::PLAIN, format!("{:>9}", grouped(counts.reserved()))),
    ]
}

fn row(label: &str, label_tint: Tint, tint: Tint, text: String) -> Line {
    Line::of(label_tint, format!("{label:<11}")).and(tint, text)
}

#[cfg(test)]
mod tests {
    use testbed::sim::{
        actors::nodes::Nodes,
        cluster::Cluster,
        journal::{Journal, Keep},
    };

    use super::*;
    use crate::{board::Board, fleet};

    #[test]
    fn the_scene_says_what_there_is() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let cluster = Cluster::new(1, 1.0, Journal::new(Keep::Digest));
            let board = Board::watch(&cluster, 64.try_into().unwrap());
            let nodes = Nodes::new(&cluster);
            (0..640).for_each(|n| nodes.join(&fleet::node(n)));
            let moment = Moment {
                nodes: 640,
                seed: 1,
                elapsed: Duration::from_secs(61),
                speed: 2.0,
                real: Duration::from_secs(9),
                alive: false,
                counts: &board.counts(),
                queue: &[0, 5],
                chapters: &[],
            };
            let scene = moment.scene();
            assert_eq!(scene.title, "on 640 simulated nodes, seed 1");
            assert_eq!(scene.clock, "virtual 01:01    2.0 x real    9.0 s");
            assert!(
                scene.line.contains("korder is down; nodes: 640 ready, 0 tainted"),
                "{}",
                scene.line
            );
            assert!(scene.line.contains("queue 5"), "{}", scene.line);
            assert_eq!(scene.bars.len(), ORDERS.len());
            assert_eq!(scene.strips.iter().map(Vec::len).collect::<Vec<_>>(), [5, 2]);
        });
    }
}
