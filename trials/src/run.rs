//! One run: korder on a simulated cluster, a script played to its end, and the judges' verdict.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use jiff::SignedDuration;
use korder::{
    env::{clock::Clock, pause::Pause, tasks::Tasks},
    runtime::{
        config::{Config, LogFormat},
        replica::{Ended, Replica},
    },
    write::clients::Clients,
};
use tokio::time::Instant;

use super::script::{Script, Step};
use crate::oracle::{
    owner,
    safety::Safety,
    settled::{self, Gaps},
};
use testbed::{
    object::text,
    sim::{
        actors::{collector::Collector, kubelet::Kubelets, nodes::Nodes, scheduler::Scheduler, users::Users},
        cluster::Cluster,
        faults::{Dice, Faults},
        journal::{Journal, Keep},
        link::{Link, Plan, State, Tally},
        transport::Transport,
    },
};

/// The user name of korder's requests.
pub const KORDER: &str = "korder";
/// Flag `--not-ready-grace`.
pub const GRACE: Duration = Duration::from_secs(60);
/// How long after the faults all must be as it should be: the longest backoff and the longest grace.
const SETTLES_WITHIN: Duration = Duration::from_secs(30 * 60);
/// How often korder may change one pair's Ticket and Guardian after the faults: a removal, then a Ticket as an
/// older version of the Order asks for, its replacement under cover, and labels put back in between.
const MOST_WRITES: u64 = 16;
/// The least time between two windows of an Order in a run with windows, and how often korder may change one
/// pair's Ticket and Guardian because one opens and closes.
const SHORTEST: Duration = Duration::from_secs(120);
const WRITES_PER_WINDOW: u64 = 8;
/// What an API server keeps of its history.
const COMPACTED: SignedDuration = SignedDuration::from_mins(5);
/// How long korder may act on what was before, in a run without faults and in one with them: delays,
/// backoff and partitions included.
const PROMPT: SignedDuration = SignedDuration::from_secs(15);
const DELAYED: SignedDuration = SignedDuration::from_secs(150);
/// How often it is looked at who may decide, where there are several replicas.
const LOOK: Duration = Duration::from_millis(100);
/// A run in which so much went wrong is over: what fights for ever would take hours.
const HOPELESS: usize = 20;
/// How long nothing may be written, or asked about a single object, after that.
const SILENCE: Duration = Duration::from_secs(600);

/// How a run is to be run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// What is kept of the journal.
    pub keep: Keep,
    /// Where the link of the first process breaks.
    pub plan: Plan,
    /// Skip the ten minutes of silence.
    pub brief: bool,
    /// How many replicas run, if more than one.
    pub replicas: usize,
    /// What seeds are about.
    pub kind: Kind,
}

/// What the script of a seed is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// Anything but what follows.
    #[default]
    Any,
    /// A roll-out on full nodes.
    Full,
    /// Orders with windows.
    Timed,
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What must not be; empty if all is well.
    pub violations: Vec<String>,
    /// The journal's digest and number of lines.
    pub digest: (u64, u64),
    /// The journal, if kept.
    pub journal: String,
    /// What the processes sent.
    pub tallies: Vec<Tally>,
    /// Writes and deliveries of the first process.
    pub counts: (u64, u64),
    /// The delivery that was dropped.
    pub dropped: Option<String>,
    /// Revisions that the judges saw.
    pub revisions: u64,
    /// Pairs that were not as they should be when the faults ended, and korder's writes from then on.
    pub repair: (usize, u64),
    /// From the end of the faults to the settled state.
    pub settled_after: Duration,
}

/// Runs a script on virtual time.
pub fn run(script: &Script, seed: u64, options: Options) -> Outcome {
    runtime().block_on(async {
        let mut stage = Stage::set(script, seed, options);
        stage.play().await;
        stage.judge().await
    })
}

/// One thread on virtual time.
pub(super) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without threads or sockets can be made")
}

/// Everything of one run.
pub(super) struct Stage<'a> {
    script: &'a Script,
    options: Options,
    pub(super) cluster: Cluster,
    dice: Dice,
    pub(super) users: Users,
    pub(super) nodes: Nodes,
    safety: Safety,
    pub(super) seats: Vec<Seat>,
    pub(super) links: Vec<Link>,
    pub(super) violations: Vec<String>,
}

/// The place of one replica: its process, and when that starts or is heard again.
#[derive(Default)]
pub(super) struct Seat {
    pub(super) process: Option<Process>,
    start_at: Option<Instant>,
    up_at: Option<Instant>,
}

pub(super) struct Process {
    pub(super) replica: Replica,
    link: Link,
    pause: Pause,
}

fn grace() -> SignedDuration {
    SignedDuration::try_from(GRACE).expect("a minute")
}

impl<'a> Stage<'a> {
    pub(super) fn set(script: &'a Script, seed: u64, options: Options) -> Self {
        let cluster = Cluster::new(seed, script.rate, Journal::new(options.keep));
        let faults = match script.most {
            None => script.faults.clone(),
            Some(_) => Faults::none(),
        };
        let dice = Dice::new(seed ^ 0xd1ce, faults);
        for crd in korder::api::crds() {
            let crd = serde_json::to_value(crd).expect("a CRD is JSON");
            cluster.api(|api| api.install(&crd));
        }
        cluster.api(|api| api.set_sharded(script.ranges));
        let undisturbed = script.faults == Faults::none() && options.plan == Plan::default();
        let lag = if undisturbed { PROMPT } else { DELAYED };
        let safety = Safety::watch(&cluster, KORDER, grace(), lag, script.most);
        let namespace = serde_json::json!({ "metadata": { "name": "korder-system" } });
        Users::new(&cluster).create("namespaces", &namespace);
        let nodes = Nodes::new(&cluster);
        cluster.spawn(Scheduler::new(&cluster, script.scheduling).run());
        cluster.spawn(Kubelets::new(&cluster, seed ^ 0x1e7, 500).run());
        cluster.spawn(Collector::new(&cluster, Duration::from_millis(50)).run());
        script.nodes.iter().for_each(|node| nodes.join(node));
        cluster.spawn(nodes.clone().heartbeats());
        Self {
            script,
            options,
            users: Users::new(&cluster),
            nodes,
            safety,
            cluster,
            dice,
            seats: (0..script.replicas)
                .map(|_| Seat {
                    start_at: Some(Instant::now()),
                    ..Seat::default()
                })
                .collect(),
            links: Vec::new(),
            violations: Vec::new(),
        }
    }

    fn start(&mut self, n: usize) {
        let plan = if self.links.is_empty() {
            self.options.plan
        } else {
            Plan::default()
        };
        let (offset, rate) = self.script.clock(n);
        let link = Link::new(self.cluster.clone(), self.dice.clone(), KORDER, plan).at_rate(rate);
        self.note(format_args!("korder-{n} starts"));
        let now = self.cluster.now().saturating_add(offset);
        let clock = Clock::starting_at(now.expect("a time of this century")).at_rate(rate);
        let transport = Transport::new(link.clone());
        let clients = Clients::over(transport.clone(), transport.clone(), transport, &clock);
        let (ready, pause) = (Arc::new(AtomicBool::new(false)), Pause::possible());
        let replica = Replica::start(
            &config(self.script.shards, n),
            &format!("process {}", self.links.len()),
            clients,
            &clock,
            ready,
            Tasks::stoppable(pause.clone()),
        );
        self.links.push(link.clone());
        self.seats[n] = Seat {
            process: Some(Process { replica, link, pause }),
            ..Seat::default()
        };
    }

    fn note(&self, line: std::fmt::Arguments<'_>) {
        self.cluster.journal().note(self.cluster.elapsed(), line);
    }

    /// Plays the steps, each at its time.
    pub(super) async fn play(&mut self) {
        for (at, step) in &self.script.steps {
            self.until(*at).await;
            if self.is_hopeless() {
                return;
            }
            self.cluster
                .journal()
                .note(self.cluster.elapsed(), format_args!("step {step:?}"));
            let target = usize::try_from(at.as_millis()).unwrap_or_default() % self.seats.len();
            self.take(step, target).await;
        }
        self.until(self.script.calm_at).await;
    }

    /// Lets time pass; processes start, die and come back meanwhile.
    pub(super) async fn until(&mut self, elapsed: Duration) {
        let end = Instant::now() + elapsed.saturating_sub(self.cluster.elapsed());
        loop {
            if self.is_hopeless() {
                return;
            }
            let due = |seat: &Seat| [seat.start_at, seat.up_at].into_iter().flatten().min();
            let next = self.seats.iter().filter_map(due).min();
            let look = (self.seats.len() > 1).then(|| Instant::now() + LOOK);
            let wake = [next, look].into_iter().flatten().fold(end, Instant::min);
            tokio::select! {
                biased; // who is dead does not start
                (n, ended) = died(&mut self.seats) => {
                    if let Some(ended) = ended {
                        self.violations.push(format!("korder-{n} ended: {ended:?}"));
                    }
                    self.kill(n, Duration::from_secs(2));
                }
                () = tokio::time::sleep_until(wake) => {
                    for n in 0..self.seats.len() {
                        if self.seats[n].start_at.is_some_and(|at| at <= wake) {
                            self.start(n);
                        }
                        if self.seats[n].up_at.is_some_and(|at| at <= wake) {
                            self.connect(n);
                        }
                    }
                    self.look();
                    if wake >= end {
                        return;
                    }
                }
            }
        }
    }

    fn is_hopeless(&self) -> bool {
        self.violations.len() >= HOPELESS
    }

    /// No shard has two that may decide for it.
    fn look(&mut self) {
        let mut holders = BTreeMap::new();
        for (n, seat) in self.seats.iter().enumerate() {
            for shard in seat.process.iter().flat_map(|process| process.replica.holds()) {
                if let Some(other) = holders.insert(shard, n) {
                    let at = self.cluster.elapsed().as_secs_f64();
                    self.violations.push(format!(
                        "shard {shard} has two deciders at {at:.3}: {other} and {n}"
                    ));
                }
            }
        }
    }

    fn connect(&mut self, n: usize) {
        self.seats[n].up_at = None;
        if let Some(process) = &self.seats[n].process {
            process.link.set(State::Up);
            process.pause.resume();
        }
    }

    pub(super) fn kill(&mut self, n: usize, restart_after: Duration) {
        if let Some(process) = self.seats[n].process.take() {
            process.link.set(State::Dead);
        }
        self.seats[n].up_at = None;
        self.seats[n].start_at = Some(Instant::now() + restart_after);
    }

    fn interrupt(&mut self, n: usize, state: State, span: Duration) {
        if let Some(process) = &self.seats[n].process {
            process.link.set(state);
            if state == State::Frozen {
                process.pause.stop();
            }
            self.seats[n].up_at = Some(Instant::now() + span);
        }
    }

    pub(super) async fn take(&mut self, step: &Step, target: usize) {
        let users = self.users.clone();
        match step {
            Step::Order(order) => {
                users.create("orders", order);
            }
            Step::Edit(name, patch) => {
                users.merge("orders", "default", name, patch);
            }
            Step::DeleteOrder(name) => {
                users.delete("orders", "default", name);
            }
            Step::Befall(name, fortune) => self.nodes.befall(name, fortune),
            Step::Join(node) => {
                let name = text(node, "/metadata/name");
                if self.cluster.api(|api| api.get("nodes", "", name)).is_none() {
                    self.nodes.join(node);
                }
            }
            Step::DeleteTicket(n) => {
                if let Some(ticket) = nth(users.all("tickets"), *n) {
                    let (namespace, name) = testbed::object::key(&ticket);
                    users.delete("tickets", &namespace, &name);
                }
            }
            Step::DeleteGuardian(n) => {
                if let Some(pod) = nth(users.guardians(), *n) {
                    let (namespace, name) = testbed::object::key(&pod);
                    users.delete("pods", &namespace, &name);
                }
            }
            Step::Evict(n) => nth(users.guardians(), *n).iter().for_each(|pod| users.evict(pod)),
            Step::StripTicket(n) => {
                if let Some(ticket) = nth(users.all("tickets"), *n) {
                    users.strip("tickets", &ticket);
                }
            }
            Step::StripGuardian(n) => {
                if let Some(pod) = nth(users.guardians(), *n) {
                    users.strip("pods", &pod);
                }
            }
            Step::Squat(n) => nth(users.all("tickets"), *n)
                .iter()
                .for_each(|ticket| users.squat(ticket)),
            Step::Unsquat => {
                let strangers = users
                    .all("tickets")
                    .into_iter()
                    .filter(|ticket| owner(ticket, "Order").is_none());
                for ticket in strangers {
                    let (namespace, name) = testbed::object::key(&ticket);
                    users.delete("tickets", &namespace, &name);
                }
            }
            Step::Workload(name, cpu, node) => {
                users.workload(name, cpu, node.as_deref(), None);
            }
            Step::Thief(name, cpu, node) => {
                users.thief(name, cpu, node.as_deref());
            }
            Step::Faults => self.dice.set(self.script.faults.clone()),
            Step::DeleteWorkload(name) => {
                users.delete("pods", "default", name);
            }
            Step::Partition(span) => self.interrupt(target, State::Partitioned, *span),
            Step::Freeze(span) => self.interrupt(target, State::Frozen, *span),
            Step::Crash(restart_after) => self.kill(target, *restart_after),
            Step::Restart(after) => {
                if let Some(process) = self.seats[target].process.take() {
                    process.link.set(State::Up);
                    process.pause.resume();
                    // A drain that hangs is found by the judges, as nothing starts again.
                    let drained =
                        tokio::time::timeout(Duration::from_secs(60), process.replica.drain()).await;
                    match drained {
                        Ok(Ok(())) => {}
                        Ok(Err(ended)) => self.violations.push(format!("its drain ended: {ended:?}")),
                        Err(_) => self
                            .violations
                            .push("it did not drain within a minute".to_owned()),
                    }
                    process.link.set(State::Dead);
                }
                self.seats[target].up_at = None;
                self.seats[target].start_at = Some(Instant::now() + *after);
            }
            Step::Compact => self.cluster.api(|api| api.compact(api.revision())),
            Step::CompactOld => self
                .cluster
                .api(|api| api.compact(api.revision_before(COMPACTED))),
            Step::RefusePods(refuse) => {
                for process in self.seats.iter().filter_map(|seat| seat.process.as_ref()) {
                    process.link.refuse_pods(*refuse);
                }
            }
            Step::HideNodes(lists) => {
                for process in self.seats.iter().filter_map(|seat| seat.process.as_ref()) {
                    process.link.hide_nodes(*lists);
                }
            }
            Step::Seats(limit, service) => {
                for process in self.seats.iter().filter_map(|seat| seat.process.as_ref()) {
                    process.link.seats(limit.unwrap_or(usize::MAX), *service);
                }
            }
        }
    }

    fn writes(&self) -> u64 {
        let pair_writes = |tally: &Tally| {
            let counts = |what: &&String| {
                ["orders/status", "shards", "events", "leases"]
                    .iter()
                    .all(|other| !what.contains(other))
            };
            tally
                .writes
                .iter()
                .filter(|(what, _)| counts(what))
                .map(|(_, count)| count)
                .sum::<u64>()
        };
        self.links.iter().map(|link| pair_writes(&link.tally())).sum()
    }

    fn all_writes(&self) -> u64 {
        self.links.iter().map(|link| link.counts().0).sum()
    }

    fn reads(&self) -> u64 {
        self.links.iter().map(|link| link.tally().reads).sum()
    }

    fn gaps(&self) -> Gaps {
        settled::State::of(&self.cluster, grace()).gaps()
    }

    /// Ends the faults, waits until all is settled, then for silence.
    async fn judge(mut self) -> Outcome {
        self.dice.set(Faults::none());
        for n in 0..self.seats.len() {
            if self.seats[n].up_at.is_some() {
                self.connect(n);
            }
        }
        self.cluster
            .journal()
            .note(self.cluster.elapsed(), format_args!("the faults end"));
        self.safety.count_from_now();
        let (calm, torn, writes) = (self.cluster.elapsed(), self.gaps().pairs.len(), self.writes());
        let settled_after = match self.is_hopeless() {
            true => Duration::ZERO,
            false => self.settle(calm).await,
        };
        let repair = (torn, self.writes() - writes);
        if !(self.options.brief || self.script.timed || self.is_hopeless()) {
            self.keep_silence().await;
            self.restart_in_peace().await;
        }
        let windows = match self.script.timed {
            true => 1 + (self.cluster.elapsed() - calm).as_secs() / SHORTEST.as_secs(),
            false => 0,
        };
        let most = MOST_WRITES + windows * WRITES_PER_WINDOW;
        self.violations.extend(self.safety.busy(most));
        let (violations, revisions) = self.verdict();
        self.violations = violations;
        Outcome {
            violations: self.violations,
            digest: self.cluster.journal().digest(),
            journal: self.cluster.journal().text(),
            tallies: self.links.iter().map(Link::tally).collect(),
            counts: self.links.first().map(Link::counts).unwrap_or_default(),
            dropped: self.links.first().and_then(Link::dropped),
            revisions,
            repair,
            settled_after,
        }
    }

    /// What was wrong so far, and how many revisions were judged.
    pub(super) fn verdict(&self) -> (Vec<String>, u64) {
        let (unsafe_, revisions) = self.safety.verdict();
        let wrong = self.links.iter().flat_map(|link| link.tally().wrong);
        let violations = self.violations.iter().cloned().chain(unsafe_).chain(wrong);
        (violations.collect(), revisions)
    }

    async fn settle(&mut self, calm: Duration) -> Duration {
        let mut steady = 0;
        let mut last = (calm, Gaps::default());
        loop {
            let at = self.cluster.elapsed() + Duration::from_secs(5);
            self.until(at).await;
            let gaps = self.gaps();
            if !gaps.none() {
                last = (at, gaps.clone());
            }
            // A state that is right once may be on its way elsewhere: it has to be right for a minute.
            steady = if gaps.none() { steady + 1 } else { 0 };
            let took = self.cluster.elapsed() - calm;
            if self.is_hopeless() {
                return took;
            }
            // Where there are windows, while some of them open and close.
            let minutes = if self.script.timed { 6 } else { 1 };
            if steady > 12 * minutes {
                return took.saturating_sub(Duration::from_secs(60 * minutes));
            }
            if took > SETTLES_WITHIN {
                let minutes = SETTLES_WITHIN.as_secs() / 60;
                let (at, gaps) = last;
                self.violations.push(format!(
                    "not settled {minutes} minutes after the faults, last at {at:?}: {gaps:?}"
                ));
                return took;
            }
        }
    }

    async fn keep_silence(&mut self) {
        // What was decided a moment ago may still be written, and an Order's last status: a roll-out that has
        // stood still for two minutes is said to.
        let at = self.cluster.elapsed() + Duration::from_secs(180);
        self.until(at).await;
        let before = (self.all_writes(), self.reads());
        let at = self.cluster.elapsed() + SILENCE;
        self.until(at).await;
        let (written, read) = (self.all_writes() - before.0, self.reads() - before.1);
        if written + read > 0 {
            let minutes = SILENCE.as_secs() / 60;
            self.violations.push(format!(
                "{written} writes and {read} GETs within {minutes} quiet minutes"
            ));
        }
    }

    /// A process that starts when all is well finds nothing to write.
    async fn restart_in_peace(&mut self) {
        let before = self.writes();
        for n in 0..self.seats.len() {
            self.kill(n, Duration::from_secs(1));
        }
        let at = self.cluster.elapsed() + Duration::from_secs(30);
        self.until(at).await;
        let written = self.writes() - before;
        if written > 0 {
            self.violations
                .push(format!("{written} writes to pairs after a restart in peace"));
        }
    }
}

/// Returns the first replica that dies by plan, or ends.
async fn died(seats: &mut [Seat]) -> (usize, Option<Ended>) {
    let processes = seats.iter_mut().enumerate();
    let each = processes.filter_map(|(n, seat)| Some((n, seat.process.as_mut()?)));
    let each: Vec<_> = each
        .map(|(n, process)| {
            Box::pin(async move {
                tokio::select! {
                    biased; // a planned crash ends tasks, too
                    () = process.link.crashed() => (n, None),
                    ended = process.replica.ended() => (n, Some(ended)),
                }
            })
        })
        .collect();
    if each.is_empty() {
        return std::future::pending().await;
    }
    futures::future::select_all(each).await.0
}

fn nth<T>(mut all: Vec<T>, n: usize) -> Option<T> {
    (!all.is_empty()).then(|| all.swap_remove(n % all.len()))
}

/// korder's flags in a simulated cluster.
pub fn config(shards: u32, replica: usize) -> Config {
    Config {
        shards: shards.to_string().parse().expect("a number of shards"),
        namespace: Some("korder-system".to_owned()),
        replica_id: Some(format!("korder-{replica}")),
        listen: ([127, 0, 0, 1], 0).into(),
        not_ready_grace: GRACE,
        claim_wait: Duration::from_secs(10),
        claim_deadline: Duration::from_secs(30),
        guardian_image: "registry.k8s.io/pause:3.10.1".to_owned(),
        guardian_priority_class: None,
        log_format: LogFormat::Json,
    }
}
