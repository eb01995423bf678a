//! What happens in a run: a cluster to begin with, and steps at given times. A seed is a script.

use std::time::Duration;

use jiff::SignedDuration;
use serde_json::{Value, json};

use testbed::sim::{
    actors::{
        nodes::{Fortune, node},
        users::order,
    },
    faults::Faults,
};

/// A run's plot.
#[derive(Clone, Debug)]
pub struct Script {
    /// Its name.
    pub name: String,
    /// Nodes at the beginning.
    pub nodes: Vec<Value>,
    /// What happens, and when, in order.
    pub steps: Vec<(Duration, Step)>,
    /// What goes wrong until the steps are over, from the beginning, or on full nodes from [`Step::Faults`] on.
    pub faults: Faults,
    /// When the faults end.
    pub calm_at: Duration,
    /// Flag `--shards`.
    pub shards: u32,
    /// How many replicas run.
    pub replicas: usize,
    /// The API server sends Nodes by ranges to those who ask for it.
    pub ranges: bool,
    /// How far korder's wall clock is off at the beginning, in seconds.
    pub offset: i64,
    /// Seconds of the server's clock per second of korder's.
    pub rate: f64,
    /// How much faster than the first replica's clock that of the fastest runs.
    pub drift: f64,
    /// The scheduler binds a Pod every so often.
    pub scheduling: Duration,
    /// Windows open and close: it is never silent for long.
    pub timed: bool,
    /// The nodes are full: so many pairs of an Order may be without the Guardian they had, and no thief finds
    /// room where there was one.
    pub most: Option<u32>,
}

/// One thing that happens.
#[derive(Clone, Debug)]
pub enum Step {
    /// A user makes an Order.
    Order(Value),
    /// A user changes an Order.
    Edit(String, Value),
    /// A user deletes an Order.
    DeleteOrder(String),
    /// Something befalls a node.
    Befall(String, Fortune),
    /// A node joins.
    Join(Value),
    /// A user deletes the n-th Ticket (modulo their number).
    DeleteTicket(usize),
    /// A user deletes the n-th Guardian.
    DeleteGuardian(usize),
    /// The n-th Guardian is evicted.
    Evict(usize),
    /// The labels of the n-th Ticket go.
    StripTicket(usize),
    /// The labels of the n-th Guardian go.
    StripGuardian(usize),
    /// The n-th Ticket goes, and a stranger takes its name.
    Squat(usize),
    /// All strangers' Tickets go.
    Unsquat,
    /// A workload's Pod of this name, cpu and node comes.
    Workload(String, String, Option<String>),
    /// The same of somebody who waits for room that is not his.
    Thief(String, String, Option<String>),
    /// Things go wrong from now on.
    Faults,
    /// A workload's Pod goes.
    DeleteWorkload(String),
    /// Nothing gets through for so long.
    Partition(Duration),
    /// The process stands still for so long.
    Freeze(Duration),
    /// The process dies, and starts again after this.
    Crash(Duration),
    /// The process is asked to end, and another starts after this.
    Restart(Duration),
    /// The API server forgets its past.
    Compact,
    /// The API server forgets the history that is older than five minutes, as a real one does every so often.
    CompactOld,
    /// Every new Pod is refused from now on, or no longer.
    RefusePods(bool),
    /// The next so many lists of Nodes are empty.
    HideNodes(u64),
    /// The API server carries out so many requests at a time, each for so long; none for any number.
    Seats(Option<usize>, Duration),
}

/// Labels that nodes and selectors use here.
const ZONES: [&str; 3] = ["a", "b", "c"];
const POOLS: [&str; 2] = ["general", "gpu"];
/// Taints that befall nodes here.
const TAINTS: [(&str, &str, &str); 6] = [
    ("dedicated", "gpu", "NoSchedule"),
    ("maintenance", "soon", "NoExecute"),
    ("node.kubernetes.io/memory-pressure", "", "NoSchedule"),
    ("node.kubernetes.io/network-unavailable", "", "NoSchedule"),
    ("spot", "", "PreferNoSchedule"),
    ("broken", "", "NoExecute"),
];

/// The n-th node: zones and pools in turn.
pub fn nth_node(n: usize) -> Value {
    let labels = [
        ("topology.kubernetes.io/zone", ZONES[n % 3]),
        ("pool", POOLS[n % 2]),
    ];
    node(&format!("node-{n}"), &labels, "4", "8Gi")
}

/// What Orders ask for here.
pub fn template(kind: usize) -> Value {
    let requests = |cpu: &str| json!({ "requests": { "cpu": cpu, "memory": "128Mi" } });
    match kind {
        0 => json!({
            "resources": requests("100m"),
            "tolerations": [{ "operator": "Exists", "effect": "NoSchedule" }],
        }),
        1 => json!({
            "resources": requests("500m"),
            "nodeSelector": { "topology.kubernetes.io/zone": "a" },
        }),
        2 => json!({
            "resources": requests("1"),
            "affinity": { "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{ "matchExpressions": [
                    { "key": "topology.kubernetes.io/zone", "operator": "NotIn", "values": ["c"] },
                ] }],
            } } },
            "tolerations": [
                { "key": "dedicated", "operator": "Equal", "value": "gpu", "effect": "NoSchedule" },
                { "key": "maintenance", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 30 },
            ],
        }),
        3 => json!({
            "resources": requests("2500m"),
            "tolerations": [
                { "key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 20 },
            ],
        }),
        4 => json!({ "resources": requests("64") }),
        _ => json!({ "nodeSelector": { "pool": "gpu" } }),
    }
}

/// The number of templates.
const TEMPLATES: usize = 6;

impl Script {
    /// A quiet cluster of so many nodes and no Orders.
    pub fn quiet(name: &str, nodes: usize) -> Self {
        Self {
            name: name.to_owned(),
            nodes: (0..nodes).map(nth_node).collect(),
            steps: Vec::new(),
            faults: Faults::none(),
            calm_at: Duration::ZERO,
            shards: 4,
            replicas: 1,
            ranges: false,
            offset: 0,
            rate: 1.0,
            drift: 1.0,
            scheduling: Duration::from_millis(10),
            timed: false,
            most: None,
        }
    }

    /// The same with so many replicas, whose clocks differ by hours and run at rates of their own.
    #[must_use]
    pub fn with_replicas(mut self, replicas: usize, seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed ^ 0x5e7);
        self.replicas = replicas;
        self.offset = [0, 3600, -3600, 1800][rng.usize(0..4)];
        self.drift = [1.0, 1.1, 1.3, 1.49, 0.7][rng.usize(0..5)];
        self
    }

    /// How far the clock of the n-th replica is off, and how fast it runs.
    pub fn clock(&self, n: usize) -> (SignedDuration, f64) {
        let offset = SignedDuration::from_secs(self.offset);
        match n % 3 {
            0 => (offset, 1.0),
            1 => (-offset, self.drift),
            _ => (offset * 2, self.drift.sqrt()),
        }
    }

    /// Adds a step, so many seconds after the beginning.
    pub fn at(mut self, seconds: u64, step: Step) -> Self {
        let at = Duration::from_secs(seconds);
        self.steps.push((at, step));
        self.calm_at = self.calm_at.max(at);
        self
    }

    /// The script of a seed.
    pub fn drawn(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut script = Self::quiet("random", rng.usize(1..8));
        script.faults = Faults::drawn(&mut rng);
        script.ranges = seed % 2 == 1;
        script.shards = [1, 2, 4, 8][rng.usize(0..4)];
        script.offset = [0, 0, 3600, -3600, 7][rng.usize(0..5)];
        script.rate = [1.0, 1.0, 1.0, 1.01, 0.99][rng.usize(0..5)];
        script.scheduling = Duration::from_millis([2, 20, 400][rng.usize(0..3)]);
        let mut names: Vec<String> = Vec::new();
        for n in 0..rng.usize(1..4) {
            names.push(format!("order-{n}"));
            let made = order(&names[n], &template(rng.usize(0..TEMPLATES)));
            script
                .steps
                .push((Duration::from_millis(rng.u64(0..3000)), Step::Order(made)));
        }
        let end = rng.u64(20_000..180_000);
        let mut at = 3000;
        let pace = [500, 3000, 15_000][rng.usize(0..3)];
        while at < end {
            let step = random_step(&mut rng, &mut names, script.nodes.len());
            script.steps.push((Duration::from_millis(at), step));
            at += rng.u64(1..2 * pace);
        }
        script.steps.sort_by_key(|(at, _)| *at);
        script.calm_at = Duration::from_millis(at);
        let last = script.calm_at;
        script.steps.push((last, Step::Seats(None, Duration::ZERO)));
        script.steps.push((last, Step::Unsquat));
        script
    }
}

fn random_step(rng: &mut fastrand::Rng, orders: &mut Vec<String>, nodes: usize) -> Step {
    let order_name = orders[rng.usize(0..orders.len())].clone();
    let node_name = format!("node-{}", rng.usize(0..nodes + 2));
    let nth = rng.usize(0..100);
    let seconds = |rng: &mut fastrand::Rng, most: u64| Duration::from_millis(rng.u64(100..most * 1000));
    match rng.u32(0..100) {
        0..=34 => Step::Befall(node_name, fortune(rng)),
        35..=39 => Step::Join(nth_node(rng.usize(0..nodes + 2))),
        40..=51 => Step::Edit(order_name, edit(rng)),
        52..=55 => Step::DeleteOrder(order_name),
        56..=60 => {
            let fresh = rng
                .bool()
                .then(|| format!("order-{}", orders.len()))
                .filter(|_| orders.len() < 5);
            let name = fresh.unwrap_or(order_name);
            if !orders.contains(&name) {
                orders.push(name.clone());
            }
            Step::Order(order(&name, &template(rng.usize(0..TEMPLATES))))
        }
        61..=64 => Step::DeleteTicket(nth),
        65..=68 => Step::DeleteGuardian(nth),
        69..=72 => Step::Evict(nth),
        73..=74 => Step::StripTicket(nth),
        75..=76 => Step::StripGuardian(nth),
        77..=78 => Step::Squat(nth),
        79 => Step::Unsquat,
        80..=83 => {
            let cpu = ["500m", "2", "3"][rng.usize(0..3)].to_owned();
            Step::Workload(
                format!("load-{}", rng.u8(0..4)),
                cpu,
                rng.bool().then_some(node_name),
            )
        }
        84..=86 => Step::DeleteWorkload(format!("load-{}", rng.u8(0..4))),
        87..=89 => Step::Partition(seconds(rng, 40)),
        90..=92 => Step::Freeze(seconds(rng, 40)),
        93..=96 => Step::Crash(seconds(rng, 10)),
        97 => Step::Restart(seconds(rng, 10)),
        98 => Step::Compact,
        _ => Step::Seats(Some(rng.usize(1..4)), Duration::from_millis(rng.u64(5..200))),
    }
}

fn fortune(rng: &mut fastrand::Rng) -> Fortune {
    let (key, value, effect) = TAINTS[rng.usize(0..TAINTS.len())];
    match rng.u8(0..20) {
        0..=5 => Fortune::Ready(["False", "Unknown"][rng.usize(0..2)]),
        6..=10 => Fortune::Ready("True"),
        11 => Fortune::Cordon(true),
        12 => Fortune::Cordon(false),
        13..=14 => Fortune::Taint(key, value, effect),
        15..=16 => Fortune::Untaint(key),
        17 => Fortune::Label("topology.kubernetes.io/zone", Some(ZONES[rng.usize(0..3)])),
        18 => Fortune::Leave,
        _ => Fortune::Again,
    }
}

fn edit(rng: &mut fastrand::Rng) -> Value {
    let template = |part: Value| json!({ "spec": { "template": { "spec": part } } });
    match rng.u8(0..10) {
        0..=1 => json!({ "spec": { "paused": rng.bool() } }),
        2..=4 => {
            let cpu = ["50m", "200m", "700m", "1500m"][rng.usize(0..4)];
            template(json!({ "resources": { "requests": { "cpu": cpu } } }))
        }
        5 => template(json!({ "nodeSelector": { "pool": POOLS[rng.usize(0..2)] } })),
        6 => template(json!({ "nodeSelector": null })),
        7 => template(json!({ "tolerations": [
            { "operator": "Exists", "effect": "NoSchedule" },
            { "key": "maintenance", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 15 },
        ] })),
        8 => json!({ "spec": { "strategy": { "type": "Recurring", "schedule": "whenever" } } }),
        _ => json!({ "spec": { "strategy": { "type": "OneTime", "schedule": null } } }),
    }
}
