//! The story: Orders are applied, then one thing after another happens to nodes. After each, the story waits
//! until the API server has exactly what the rules predict, and compares what it cost with what it should.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::DeleteParams};
use testbed::{
    eligibility,
    real::{
        Mark, Ready, add_taint, cordon, create_nodes, delete_node, hand_back, relabel, set_ready, uncordon,
        wait, wait_nodes_ready,
    },
};
use trials::show::{Summary, Writes, grouped};

use crate::{
    cluster::{Cluster, GRACE, HEARTBEAT, KORDER},
    costs::{by_kind, count, counted, pairs, slow},
    look::{Eyes, Pair, Room, Told, World, compare_room, compare_statuses},
    rules::{self, DRAIN_SECONDS, GPU, ORDERS, STORAGE},
    story::Story,
    summary::{self, Meter},
};

/// How long a change may take until everything is as predicted.
const DEADLINE: Duration = Duration::from_secs(40);
/// korder writes at most one Event per Order and reason in 10 s.
const TELLING: Duration = Duration::from_secs(15);
/// Writes that make a pair's Ticket and Guardian, and that remove them.
const MAKE: usize = 3;
const REMOVE: usize = 2;
/// Plays the story, and sums up.
pub(crate) async fn play(cluster: &Cluster, story: &mut Story, nodes: usize) -> Result<Summary> {
    let eyes = Eyes::new(cluster.client.clone());
    let start = cluster.plane.audit().settled_mark().await?;
    let mut life = Life {
        world: eyes.world().await?,
        eyes,
        cluster,
        story,
        start,
        mark: start,
        room: Room::default(),
        held: BTreeSet::new(),
        told: Told::default(),
        used: BTreeSet::new(),
        differs: Vec::new(),
        first: None,
        slow: BTreeMap::new(),
        reasons: BTreeMap::new(),
    };
    life.reserve().await?;
    let reserved = Meter::read(cluster).await?;
    life.nodes_come_and_go(nodes).await?;
    life.nodes_are_closed().await?;
    life.labels_change().await?;
    life.nodes_fall_silent().await?;
    life.things_are_replaced().await?;
    life.end(&reserved).await
}

struct Life<'a> {
    cluster: &'a Cluster,
    story: &'a mut Story,
    eyes: Eyes,
    start: Mark,
    /// Where the present step begins in the audit log.
    mark: Mark,
    /// As the last step left them.
    world: World,
    room: Room,
    /// Pairs that are not eligible and keep their Ticket for now.
    held: BTreeSet<Pair>,
    /// What the Events must add up to.
    told: Told,
    /// Nodes that have had their part.
    used: BTreeSet<String>,
    differs: Vec<String>,
    /// Tickets made when the Orders were applied, and what they cost.
    first: Option<(u64, Writes)>,
    /// Writes that only a slow machine needs, by what they were.
    slow: BTreeMap<String, usize>,
    /// Why Tickets were Pending while the Orders' first ones were made.
    reasons: BTreeMap<String, usize>,
}

/// A change that is made, and what it should lead to.
#[derive(Default)]
struct Change {
    what: &'static str,
    /// Writes on Tickets and Guardians beyond those that make and remove, at least and at most.
    extra: (usize, usize),
    /// Tickets that may be written to and stay.
    touched: BTreeSet<String>,
    /// Wait until the Events tell of everything, so that the next step begins with none outstanding.
    all_told: bool,
    /// What else it came to.
    note: String,
}

impl Life<'_> {
    /// A change is to be made.
    fn open(&mut self, what: &'static str, why: &str) -> Result<Change> {
        self.story.open(what, why)?;
        Ok(Change {
            what,
            ..Change::default()
        })
    }

    async fn reserve(&mut self) -> Result<()> {
        let why = "every eligible node gets one Ticket with one Guardian per Order";
        let change = self.open("3 Orders applied", why)?;
        let eligible = self.world.eligible();
        let all = [0, GPU, STORAGE].map(|order| eligible.iter().filter(|pair| pair.order == order).count());
        self.cluster.apply_orders().await?;
        let deadline = Duration::from_secs(120) + Duration::from_millis(60) * u32::try_from(eligible.len())?;
        let Self { story, cluster, .. } = self;
        let follow = self.eyes.follow(all, |orders| {
            story.progress(orders)?;
            ensure!(cluster.korder.exited().is_none(), "korder ended");
            Ok(())
        });
        self.reasons = tokio::time::timeout(deadline, follow)
            .await
            .with_context(|| format!("not all Tickets are Reserved after {deadline:?}"))??;
        self.settle(change).await
    }

    async fn nodes_come_and_go(&mut self, nodes: usize) -> Result<()> {
        let client = &self.cluster.client;
        let why = "they turn Ready and are eligible for the Orders that select them";
        let change = self.open("10 nodes join", why)?;
        create_nodes(client, (nodes..nodes + 10).map(rules::node)).await?;
        wait_nodes_ready(client, "", nodes + 10, DEADLINE).await?;
        self.settle(change).await?;

        let change = self.open("5 nodes leave", "NodeGone: all Tickets of a node that is gone go")?;
        for node in self.pick([3, 1, 1])? {
            delete_node(client, &node).await?;
        }
        self.settle(change).await
    }

    async fn nodes_are_closed(&mut self) -> Result<()> {
        let client = &self.cluster.client;
        let change = self.open("3 nodes cordoned", "Unschedulable: open Tickets go at once")?;
        for node in self.pick([1, 1, 1])? {
            cordon(client, &node).await?;
        }
        self.settle(change).await?;

        let why =
            "UntoleratedTaint, except for infrastructure-reservation: it tolerates every NoSchedule taint";
        let change = self.open("4 nodes: NoSchedule", why)?;
        for node in self.pick([0, 2, 2])? {
            add_taint(client, &node, "maintenance", "disk", "NoSchedule").await?;
        }
        self.settle(change).await?;

        let why = format!(
            "UntoleratedTaint for infrastructure-reservation; storage-cache tolerates it for \
             tolerationSeconds: {DRAIN_SECONDS} and keeps its Ticket so long"
        );
        // Kubernetes evicts Guardians that do not tolerate the taint, at the same time as korder removes them.
        let extra = (0, 2);
        let change = self.open("1 node: NoExecute", &why)?;
        let [drained] = self.picked([0, 0, 1])?;
        let pair = self.pair(STORAGE, &drained)?;
        add_taint(client, &drained, "maintenance", "drain", "NoExecute").await?;
        self.held.insert(pair.clone());
        self.settle(Change { extra, ..change }).await?;

        let why = format!("ToleratedForAWhile: the {DRAIN_SECONDS} s are over");
        let change = self.open("the same, 8 s later", &why)?;
        self.held.remove(&pair);
        self.settle(Change { extra, ..change }).await
    }

    async fn labels_change(&mut self) -> Result<()> {
        let client = &self.cluster.client;
        let why = "NodeAffinityMismatch: pool=general instead of storage; the other Order does not care";
        let change = self.open("6 nodes relabelled", why)?;
        let moved = self.pick([0, 0, 6])?;
        for node in &moved {
            relabel(client, node, &[("pool", Some("general"))]).await?;
        }
        self.settle(change).await?;

        let change = self.open("6 labels put back", "eligible again")?;
        for node in &moved {
            relabel(client, node, &[("pool", Some("storage"))]).await?;
        }
        self.settle(Change {
            all_told: true,
            ..change
        })
        .await?;

        let change = self.open("20 labels team=blue", "no Order reads this label")?;
        let before = Meter::read(self.cluster).await?;
        for node in self.pick([20, 0, 0])? {
            relabel(client, &node, &[("team", Some("blue"))]).await?;
        }
        // Every node has sent a heartbeat by then.
        tokio::time::sleep(HEARTBEAT.mul_f64(1.2)).await;
        let seen = Meter::read(self.cluster).await?.node_events - before.node_events;
        let note = format!(" for {} Node events, heartbeats among them", grouped(seen));
        self.settle(Change { note, ..change }).await
    }

    async fn nodes_fall_silent(&mut self) -> Result<()> {
        let client = &self.cluster.client;
        let why = "back within the grace of 10 s: nothing happens but the count in the status";
        let change = self.open("1 node NotReady 4 s", why)?;
        let [node] = self.picked([0, 0, 1])?;
        set_ready(client, &node, Ready::False).await?;
        let silent = Instant::now();
        tokio::time::sleep(Duration::from_secs(4)).await;
        hand_back(client, &node).await?;
        self.wait_ready(&node, true).await?;
        // Past the grace, a Ticket that was to go is gone.
        tokio::time::sleep((GRACE + Duration::from_secs(2)).saturating_sub(silent.elapsed())).await;
        self.settle(change).await?;

        let change = self.open("1 node NotReady", "NotReady for longer than the grace of 10 s")?;
        let [node] = self.picked([0, 0, 1])?;
        set_ready(client, &node, Ready::False).await?;
        let silent = Instant::now();
        self.wait_ready(&node, false).await?;
        self.settle(change).await?;
        // The condition's time has whole seconds.
        if silent.elapsed() < GRACE.saturating_sub(Duration::from_secs(1)) {
            self.differs.push(format!(
                "Tickets of a NotReady node went after {:?}",
                silent.elapsed()
            ));
        }

        let change = self.open("it is Ready again", "eligible again: new Tickets")?;
        hand_back(client, &node).await?;
        self.wait_ready(&node, true).await?;
        self.settle(change).await
    }

    async fn things_are_replaced(&mut self) -> Result<()> {
        let client = &self.cluster.client;
        let why = "NodeGone: a new uid is another node, whatever its name";
        let change = self.open("1 node re-created", why)?;
        let [node] = self.picked([0, 1, 0])?;
        let spec = (0..)
            .map(rules::node)
            .find(|spec| spec.clone().build().metadata.name.as_ref() == Some(&node));
        delete_node(client, &node).await?;
        create_nodes(client, spec).await?;
        self.wait_ready(&node, true).await?;
        self.settle(change).await?;

        let why = "GuardianDeleted: the Ticket is Pending until a new Guardian is bound; 3 writes";
        let change = self.open("1 Guardian deleted", why)?;
        let [node] = self.picked([1, 0, 0])?;
        let pair = self.pair(0, &node)?;
        let room = &self.room;
        let ticket = room.tickets.iter().find(|(_, ticket)| ticket.pair == pair);
        let uid = ticket.context("a pair without a Ticket")?.0.clone();
        let guardian = room.guardians.iter().find(|guardian| guardian.ticket_uid == uid);
        let guardian = guardian.context("a Ticket without a Guardian")?.clone();
        let pods: Api<Pod> = Api::default_namespaced(client.clone());
        pods.delete(&guardian.name, &DeleteParams::default()).await?;
        self.settle(Change {
            extra: (3, 3),
            touched: BTreeSet::from([uid]),
            ..change
        })
        .await?;
        ensure!(
            self.room.guardians.iter().all(|now| now.uid != guardian.uid),
            "the deleted Guardian is still there"
        );

        let change = self.open("1 node uncordoned", "eligible again")?;
        let cordoned = self
            .world
            .nodes
            .iter()
            .find(|(_, node)| ORDERS[0].why_not(node) == Some("Unschedulable"));
        let cordoned = cordoned.context("no cordoned node")?.0.clone();
        uncordon(client, &cordoned).await?;
        self.settle(Change {
            all_told: true,
            ..change
        })
        .await
    }

    /// Looks at everything once more, and sums up.
    async fn end(mut self, reserved: &Meter) -> Result<Summary> {
        let world = self.eyes.world().await?;
        let room = self.eyes.room().await?;
        let exact =
            compare_statuses(&world, &self.held).and_then(|()| compare_room(&room, &world.eligible()));
        self.differs.extend(exact.err());
        let told = self.eyes.told().await?;
        // Events may be lost on a busy machine, but never tell of what was not.
        if !told.within(&self.told) {
            self.differs
                .push(format!("Events tell of {told:?} instead of {:?}", self.told));
        }
        let writes = self.cluster.plane.audit().writes_since(self.start, KORDER)?;
        let facts = summary::Facts {
            nodes: world.nodes.len(),
            reserved: room.tickets.len(),
            told: &self.told,
            untold: self.told.total().saturating_sub(told.total()),
            writes: count(&writes),
            first: self.first.context("no Order was applied")?,
            slow: &self.slow,
            pending: &self.reasons,
        };
        let mut summary = summary::summary(self.cluster, &facts, reserved).await?;
        summary.violations = self.differs;
        Ok(summary)
    }

    /// Waits until everything is as the rules predict, and closes the chapter.
    async fn settle(&mut self, change: Change) -> Result<()> {
        let Self {
            cluster, eyes, held, ..
        } = self;
        let seen = wait::until(DEADLINE, "what the rules predict", async || {
            if let Some(status) = cluster.korder.exited() {
                return Ok(Err(status));
            }
            let world = eyes.world().await.map_err(|error| format!("{error:#}"))?;
            compare_statuses(&world, held)?;
            let room = eyes.room().await.map_err(|error| format!("{error:#}"))?;
            compare_room(&room, &world.eligible().union(held).cloned().collect())?;
            Ok::<_, String>(Ok((world, room)))
        })
        .await
        .with_context(|| format!("after `{}`", change.what))?;
        let Ok((world, room)) = seen else {
            bail!("korder ended during `{}`", change.what);
        };
        let (mut made, mut gone) = (0, 0);
        let mut differs = Vec::new();
        for (uid, ticket) in &room.tickets {
            match self.room.tickets.get(uid) {
                None => {
                    made += 1;
                    self.told.made[ticket.pair.order] += 1;
                }
                Some(before) if before.revision != ticket.revision && !change.touched.contains(uid) => {
                    differs.push(format!("Ticket {} was written to", ticket.name));
                }
                Some(_) => {}
            }
        }
        for (uid, ticket) in &self.room.tickets {
            if !room.tickets.contains_key(uid) {
                gone += 1;
                let reason = (ticket.pair.order, world.why_gone(&ticket.pair).to_owned());
                *self.told.gone.entry(reason).or_default() += 1;
            }
        }
        if change.all_told {
            // What is not told by then is a difference at the end.
            let _ = wait::until(TELLING, "Events", async || {
                eyes.told().await.is_ok_and(|told| told == self.told)
            })
            .await;
        }

        let audit = cluster.plane.audit();
        let mark = audit.settled_mark().await?;
        let writes = audit.writes_since(self.mark, KORDER)?;
        let wrote = count(&writes);
        let ours = pairs(&writes).len();
        let least = MAKE * made + REMOVE * gone;
        let (least, most) = (least + change.extra.0, least + change.extra.1);
        let slow = slow(&writes);
        if !(least..=most + slow.len()).contains(&ours) {
            let kinds: Vec<String> = by_kind(&pairs(&writes)).iter().map(counted).collect();
            differs.push(format!(
                "{ours} writes on Tickets and Guardians instead of {least}: {}; Tickets were Pending because {:?}",
                kinds.join(", "),
                self.reasons
            ));
        }
        // As many as there were too many: a try that failed may also have stood for one that is needed.
        for (kind, count) in by_kind(&slow[..slow.len().min(ours.saturating_sub(least))]) {
            *self.slow.entry(kind).or_default() += count;
        }
        let wrong = if differs.is_empty() {
            ""
        } else {
            "; not as the rules say"
        };
        let outcome = wrote.led_to(made as u64, gone as u64);
        self.story.close(format!("{outcome}{}{wrong}", change.note));
        self.story.progress(room.progress(&world))?;
        let differs = differs
            .iter()
            .map(|differs| format!("{}: {differs}", change.what));
        self.differs.extend(differs);
        self.first.get_or_insert((made as u64, wrote));
        (self.world, self.room, self.mark) = (world, room, mark);
        Ok(())
    }

    /// Nodes that had no part yet and are eligible for infrastructure-reservation alone, gpu-node-buffer and
    /// storage-cache: so many of each.
    fn pick(&mut self, counts: [usize; 3]) -> Result<Vec<String>> {
        let mut picked = Vec::new();
        for (kind, count) in counts.into_iter().enumerate() {
            let fits = |place: usize| place == kind || place == 0;
            let free = self.world.nodes.iter().filter(|(name, node)| {
                let eligible = |place: &usize| ORDERS[*place].why_not(node).is_none();
                !self.used.contains(*name)
                    && [0, GPU, STORAGE]
                        .iter()
                        .all(|place| eligible(place) == fits(*place))
            });
            let names: Vec<String> = free.map(|(name, _)| name.clone()).take(count).collect();
            ensure!(
                names.len() == count,
                "too few nodes for {}; raise NODES",
                ORDERS[kind].name
            );
            self.used.extend(names.iter().cloned());
            picked.extend(names);
        }
        Ok(picked)
    }

    fn picked<const N: usize>(&mut self, counts: [usize; 3]) -> Result<[String; N]> {
        let picked = self.pick(counts)?;
        Ok(picked.try_into().expect("as many as were asked for"))
    }

    fn pair(&self, order: usize, node: &str) -> Result<Pair> {
        let eligible = self.world.eligible().into_iter();
        let mut found = eligible.filter(|pair| pair.order == order && pair.node == node);
        found.next().with_context(|| format!("{node} is not eligible"))
    }

    async fn wait_ready(&self, node: &str, ready: bool) -> Result<()> {
        wait::until(DEADLINE, &format!("{node} to have Ready={ready}"), async || {
            let world = self.eyes.world().await?;
            let now = world.nodes.get(node).is_some_and(eligibility::ready);
            ensure!(now == ready, "it has Ready={now}");
            Ok(())
        })
        .await
    }
}
