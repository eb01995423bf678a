//! One run: korder on a simulated cluster, a script played to its end, and the judges' verdict.

use std::{
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use jiff::SignedDuration;
use korder::runtime::{
    clients::Clients,
    clock::Clock,
    config::{Config, LogFormat},
    replica::Replica,
    tasks::Tasks,
};
use tokio::time::Instant;

use super::script::{Script, Step};
use crate::sim::{
    actors::{
        collector::Collector, kubelet::Kubelets, nodes::Nodes, scheduler::Scheduler, text, users::Users,
    },
    cluster::Cluster,
    faults::{Dice, Faults},
    journal::{Journal, Keep},
    link::{Link, Plan, State, Tally},
    oracle::{
        owner,
        safety::Safety,
        settled::{self, Gaps},
    },
    transport::Transport,
};

/// The user name of korder's requests.
pub const KORDER: &str = "korder";
/// Flag `--not-ready-grace`.
pub const GRACE: Duration = Duration::from_secs(60);
/// How long after the faults all must be as it should be: the longest backoff and the longest grace.
const SETTLES_WITHIN: Duration = Duration::from_secs(30 * 60);
/// How often korder may change one pair's Ticket and Guardian after the faults: a removal, then a Ticket as an
/// older version of the Order asks for, and its replacement.
const MOST_WRITES: u64 = 12;
/// How long korder may act on what was before, in a run without faults and in one with them: delays,
/// backoff and partitions included.
const PROMPT: SignedDuration = SignedDuration::from_secs(15);
const DELAYED: SignedDuration = SignedDuration::from_secs(150);
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
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without threads or sockets can be made");
    runtime.block_on(async {
        let mut stage = Stage::set(script, seed, options);
        stage.play().await;
        stage.judge().await
    })
}

/// Everything of one run.
struct Stage<'a> {
    script: &'a Script,
    options: Options,
    cluster: Cluster,
    dice: Dice,
    users: Users,
    nodes: Nodes,
    safety: Safety,
    process: Option<Process>,
    start_at: Option<Instant>,
    up_at: Option<Instant>,
    links: Vec<Link>,
    violations: Vec<String>,
}

struct Process {
    replica: Replica,
    link: Link,
}

fn grace() -> SignedDuration {
    SignedDuration::try_from(GRACE).expect("a minute")
}

impl<'a> Stage<'a> {
    fn set(script: &'a Script, seed: u64, options: Options) -> Self {
        let cluster = Cluster::new(seed, script.rate, Journal::new(options.keep));
        let dice = Dice::new(seed ^ 0xd1ce, script.faults.clone());
        for crd in korder::api::crds() {
            let crd = serde_json::to_value(crd).expect("a CRD is JSON");
            cluster.api(|api| api.install(&crd));
        }
        let undisturbed = script.faults == Faults::none() && options.plan == Plan::default();
        let lag = if undisturbed { PROMPT } else { DELAYED };
        let safety = Safety::watch(&cluster, KORDER, grace(), lag);
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
            process: None,
            start_at: Some(Instant::now()),
            up_at: None,
            links: Vec::new(),
            violations: Vec::new(),
        }
    }

    fn start(&mut self) {
        let plan = if self.links.is_empty() {
            self.options.plan
        } else {
            Plan::default()
        };
        let link = Link::new(self.cluster.clone(), self.dice.clone(), KORDER, plan);
        self.cluster
            .journal()
            .note(self.cluster.elapsed(), format_args!("{KORDER} starts"));
        let offset = SignedDuration::from_secs(self.script.offset);
        let clock = Clock::starting_at(
            self.cluster
                .now()
                .saturating_add(offset)
                .expect("a time of this century"),
        );
        let transport = Transport::new(link.clone());
        let clients = Clients::over(transport.clone(), transport, &clock);
        let ready = Arc::new(AtomicBool::new(false));
        let replica = Replica::start(
            &config(self.script.shards),
            clients,
            &clock,
            ready,
            Tasks::default(),
        );
        self.links.push(link.clone());
        self.process = Some(Process { replica, link });
        self.start_at = None;
    }

    /// Plays the steps, each at its time.
    async fn play(&mut self) {
        for (at, step) in &self.script.steps {
            self.until(*at).await;
            self.cluster
                .journal()
                .note(self.cluster.elapsed(), format_args!("step {step:?}"));
            self.take(step).await;
        }
        self.until(self.script.calm_at).await;
    }

    /// Lets time pass; processes start, die and come back meanwhile.
    async fn until(&mut self, elapsed: Duration) {
        let end = Instant::now() + elapsed.saturating_sub(self.cluster.elapsed());
        loop {
            let next = [self.start_at, self.up_at].into_iter().flatten().min();
            let wake = next.map_or(end, |next| next.min(end));
            let died = async {
                match &mut self.process {
                    Some(process) => tokio::select! {
                        biased; // a planned crash ends tasks, too
                        () = process.link.crashed() => None,
                        name = process.replica.ended() => Some(name),
                    },
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased; // who is dead does not start
                name = died => {
                    if let Some(name) = name {
                        self.violations.push(format!("the task {name:?} ended"));
                    }
                    self.kill(Duration::from_secs(2));
                }
                () = tokio::time::sleep_until(wake) => {
                    if self.start_at.is_some_and(|at| at <= wake) {
                        self.start();
                    }
                    if self.up_at.is_some_and(|at| at <= wake) {
                        self.connect();
                    }
                    if wake >= end {
                        return;
                    }
                }
            }
        }
    }

    fn connect(&mut self) {
        self.up_at = None;
        if let Some(process) = &self.process {
            process.link.set(State::Up);
        }
    }

    fn kill(&mut self, restart_after: Duration) {
        if let Some(process) = self.process.take() {
            process.link.set(State::Dead);
        }
        self.start_at = Some(Instant::now() + restart_after);
    }

    fn interrupt(&mut self, state: State, span: Duration) {
        if let Some(process) = &self.process {
            process.link.set(state);
            self.up_at = Some(Instant::now() + span);
        }
    }

    async fn take(&mut self, step: &Step) {
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
                    let (namespace, name) = crate::sim::actors::key(&ticket);
                    users.delete("tickets", &namespace, &name);
                }
            }
            Step::DeleteGuardian(n) => {
                if let Some(pod) = nth(users.guardians(), *n) {
                    let (namespace, name) = crate::sim::actors::key(&pod);
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
                    let (namespace, name) = crate::sim::actors::key(&ticket);
                    users.delete("tickets", &namespace, &name);
                }
            }
            Step::Workload(name, cpu, node) => {
                users.workload(name, cpu, node.as_deref(), None);
            }
            Step::DeleteWorkload(name) => {
                users.delete("pods", "default", name);
            }
            Step::Partition(span) => self.interrupt(State::Partitioned, *span),
            Step::Freeze(span) => self.interrupt(State::Frozen, *span),
            Step::Crash(restart_after) => self.kill(*restart_after),
            Step::Restart(after) => {
                if let Some(process) = self.process.take() {
                    process.link.set(State::Up);
                    // A drain that hangs is found by the judges, as nothing starts again.
                    let drained =
                        tokio::time::timeout(Duration::from_secs(60), process.replica.drain()).await;
                    if drained.is_err() {
                        self.violations
                            .push("it did not drain within a minute".to_owned());
                    }
                    process.link.set(State::Dead);
                }
                self.start_at = Some(Instant::now() + *after);
            }
            Step::Compact => self.cluster.api(|api| api.compact(api.revision())),
            Step::RefusePods(refuse) => {
                if let Some(process) = &self.process {
                    process.link.refuse_pods(*refuse);
                }
            }
            Step::HideNodes(lists) => {
                if let Some(process) = &self.process {
                    process.link.hide_nodes(*lists);
                }
            }
            Step::Seats(limit, service) => {
                if let Some(process) = &self.process {
                    process.link.seats(limit.unwrap_or(usize::MAX), *service);
                }
            }
        }
    }

    fn writes(&self) -> u64 {
        let pair_writes = |tally: &Tally| {
            let counts = |what: &&String| {
                !what.contains("orders/status") && !what.contains("events") && !what.contains("leases")
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
        if self.up_at.is_some() {
            self.connect();
        }
        self.cluster
            .journal()
            .note(self.cluster.elapsed(), format_args!("the faults end"));
        self.safety.count_from_now();
        let (calm, torn, writes) = (self.cluster.elapsed(), self.gaps().pairs.len(), self.writes());
        let settled_after = self.settle(calm).await;
        let repair = (torn, self.writes() - writes);
        if !self.options.brief {
            self.keep_silence().await;
            self.restart_in_peace().await;
        }
        self.violations.extend(self.safety.busy(MOST_WRITES));
        let (unsafe_, revisions) = self.safety.verdict();
        self.violations.extend(unsafe_);
        for link in &self.links {
            self.violations.extend(link.tally().wrong);
        }
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

    async fn settle(&mut self, calm: Duration) -> Duration {
        let mut steady = 0;
        loop {
            let at = self.cluster.elapsed() + Duration::from_secs(5);
            self.until(at).await;
            let gaps = self.gaps();
            // A state that is right once may be on its way elsewhere: it has to be right for a minute.
            steady = if gaps.none() { steady + 1 } else { 0 };
            let took = self.cluster.elapsed() - calm;
            if steady > 12 {
                return took.saturating_sub(Duration::from_secs(60));
            }
            if took > SETTLES_WITHIN {
                let minutes = SETTLES_WITHIN.as_secs() / 60;
                self.violations.push(format!(
                    "not settled {minutes} minutes after the faults: {gaps:?}"
                ));
                return took;
            }
        }
    }

    async fn keep_silence(&mut self) {
        // What was decided a moment ago may still be written, and an Order's last status.
        let at = self.cluster.elapsed() + Duration::from_secs(60);
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
        self.kill(Duration::from_secs(1));
        let at = self.cluster.elapsed() + Duration::from_secs(30);
        self.until(at).await;
        let written = self.writes() - before;
        if written > 0 {
            self.violations
                .push(format!("{written} writes to pairs after a restart in peace"));
        }
    }
}

fn nth<T>(mut all: Vec<T>, n: usize) -> Option<T> {
    (!all.is_empty()).then(|| all.swap_remove(n % all.len()))
}

/// korder's flags in a simulated cluster.
pub fn config(shards: u32) -> Config {
    Config {
        shards: shards.to_string().parse().expect("a number of shards"),
        namespace: Some("korder-system".to_owned()),
        replica_id: Some("korder-0".to_owned()),
        listen: ([127, 0, 0, 1], 0).into(),
        not_ready_grace: GRACE,
        claim_wait: Duration::from_secs(10),
        claim_deadline: Duration::from_secs(30),
        guardian_image: "registry.k8s.io/pause:3.10.1".to_owned(),
        guardian_priority_class: None,
        log_format: LogFormat::Json,
    }
}
