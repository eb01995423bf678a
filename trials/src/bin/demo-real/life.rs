//! The story: Orders are applied, then one thing after another happens to nodes. After each, the story waits
//! until the API server has exactly what the rules predict, and compares what it cost with what it should.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::RangeInclusive,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::DeleteParams};
use testbed::real::{
    AuditEntry, Mark, Ready, add_taint, cordon, create_nodes, delete_node, hand_back, relabel, set_ready,
    uncordon, wait, wait_nodes_ready,
};

use crate::{
    cluster::{Cluster, GRACE, HEARTBEAT, KORDER},
    look::{Eyes, Pair, Room, Told, World, compare_room, compare_statuses},
    rules::{self, DRAIN_SECONDS, GPU, ORDERS, STORAGE},
    screen::{Cell, Row, Screen, grouped},
    summary::{self, Meter},
};

/// How long a change may take until everything is as predicted.
const DEADLINE: Duration = Duration::from_secs(40);
/// korder writes at most one Event per Order and reason in 10 s.
const TELLING: Duration = Duration::from_secs(15);
/// Writes that make a pair's Ticket and Guardian, and that remove them.
const MAKE: usize = 3;
const REMOVE: usize = 2;
/// A Ticket that has waited for so long says why: one more status.
const SAYS_WHY: Duration = Duration::from_secs(5);

/// Plays the story and prints the summary; what differed from the rules.
pub(crate) async fn play(cluster: &Cluster, screen: &mut Screen, nodes: usize) -> Result<Vec<String>> {
    let eyes = Eyes::new(cluster.client.clone());
    let start = cluster.plane.audit().settled_mark().await?;
    let mut life = Life {
        world: eyes.world().await?,
        eyes,
        cluster,
        screen,
        start,
        mark: start,
        room: Room::default(),
        held: BTreeSet::new(),
        told: Told::default(),
        used: BTreeSet::new(),
        differs: Vec::new(),
        first: (0, 0),
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
    screen: &'a mut Screen,
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
    /// The first row: Tickets made, and what they cost.
    first: (usize, usize),
    /// Writes that only a slow machine needs, by what they were.
    slow: BTreeMap<String, usize>,
    /// Why Tickets were Pending while the Orders' first ones were made.
    reasons: BTreeMap<String, usize>,
}

/// A change that has been made, and what it should lead to.
struct Change<'a> {
    what: &'a str,
    why: &'a str,
    /// Writes on Tickets and Guardians beyond those that make and remove.
    extra: RangeInclusive<usize>,
    /// Tickets that may be written to and stay.
    touched: BTreeSet<String>,
    /// Wait until the Events tell of everything, so that the next step begins with none outstanding.
    all_told: bool,
}

impl<'a> Change<'a> {
    fn new(what: &'a str, why: &'a str) -> Self {
        Self {
            what,
            why,
            extra: 0..=0,
            touched: BTreeSet::new(),
            all_told: false,
        }
    }

    fn extra(self, extra: RangeInclusive<usize>) -> Self {
        Self { extra, ..self }
    }

    fn all_told(self) -> Self {
        Self {
            all_told: true,
            ..self
        }
    }
}

impl Life<'_> {
    async fn reserve(&mut self) -> Result<()> {
        self.screen
            .heading("Three Orders are applied: Tickets that are Reserved, of eligible nodes");
        let eligible = self.world.eligible();
        let all = [0, GPU, STORAGE].map(|order| eligible.iter().filter(|pair| pair.order == order).count());
        self.cluster.apply_orders().await?;
        self.screen.begin_progress();
        let deadline = Duration::from_secs(120) + Duration::from_millis(60) * u32::try_from(eligible.len())?;
        let Self { screen, cluster, .. } = self;
        let follow = self.eyes.follow(all, |orders| {
            screen.progress(orders);
            ensure!(cluster.korder.exited().is_none(), "korder ended");
            Ok(())
        });
        self.reasons = tokio::time::timeout(deadline, follow)
            .await
            .with_context(|| format!("not all Tickets are Reserved after {deadline:?}"))??;

        self.screen
            .heading("A minute of life, one change after the other");
        println!(
            "T+G: writes on Tickets and Guardians, {MAKE} to make a pair's and {REMOVE} to remove it.\n\
             O: on Order status and Events; gathered, so some come up to 10 s later.\n"
        );
        self.screen.table_head();
        let why = "every eligible node gets one Ticket with one Guardian per Order";
        self.settle(Change::new("3 Orders applied", why)).await
    }

    async fn nodes_come_and_go(&mut self, nodes: usize) -> Result<()> {
        let client = &self.cluster.client;
        create_nodes(client, (nodes..nodes + 10).map(rules::node)).await?;
        wait_nodes_ready(client, "", nodes + 10, DEADLINE).await?;
        self.settle(Change::new(
            "10 nodes join",
            "they turned Ready and are eligible for the Orders that select them",
        ))
        .await?;

        for node in self.pick([3, 1, 1])? {
            delete_node(client, &node).await?;
        }
        self.settle(Change::new(
            "5 nodes leave",
            "NodeGone: all Tickets of a node that is gone go",
        ))
        .await
    }

    async fn nodes_are_closed(&mut self) -> Result<()> {
        let client = &self.cluster.client;
        for node in self.pick([1, 1, 1])? {
            cordon(client, &node).await?;
        }
        self.settle(Change::new(
            "3 nodes cordoned",
            "Unschedulable: open Tickets go at once",
        ))
        .await?;

        for node in self.pick([0, 2, 2])? {
            add_taint(client, &node, "maintenance", "disk", "NoSchedule").await?;
        }
        let why =
            "UntoleratedTaint, except for infrastructure-reservation: it tolerates every NoSchedule taint";
        self.settle(Change::new("4 nodes: NoSchedule", why)).await?;

        let [drained] = self.picked([0, 0, 1])?;
        let pair = self.pair(STORAGE, &drained)?;
        add_taint(client, &drained, "maintenance", "drain", "NoExecute").await?;
        self.held.insert(pair.clone());
        let why = format!(
            "UntoleratedTaint for infrastructure-reservation; storage-cache tolerates it for \
             tolerationSeconds: {DRAIN_SECONDS} and keeps its Ticket so long"
        );
        // Kubernetes evicts Guardians that do not tolerate the taint, at the same time as korder removes them.
        self.settle(Change::new("1 node: NoExecute", &why).extra(0..=2))
            .await?;

        self.held.remove(&pair);
        let why = format!("ToleratedForAWhile: the {DRAIN_SECONDS} s are over");
        self.settle(Change::new("the same, 8 s later", &why).extra(0..=2))
            .await
    }

    async fn labels_change(&mut self) -> Result<()> {
        let client = &self.cluster.client;
        let moved = self.pick([0, 0, 6])?;
        for node in &moved {
            relabel(client, node, &[("pool", Some("general"))]).await?;
        }
        let why = "NodeAffinityMismatch: pool=general instead of storage; the other Order does not care";
        self.settle(Change::new("6 nodes relabelled", why)).await?;

        for node in &moved {
            relabel(client, node, &[("pool", Some("storage"))]).await?;
        }
        self.settle(Change::new("6 labels put back", "eligible again").all_told())
            .await?;

        let before = Meter::read(self.cluster).await?;
        for node in self.pick([20, 0, 0])? {
            relabel(client, &node, &[("team", Some("blue"))]).await?;
        }
        // Every node has sent a heartbeat by then.
        tokio::time::sleep(HEARTBEAT.mul_f64(1.2)).await;
        let seen = Meter::read(self.cluster).await?.node_events - before.node_events;
        let why = format!(
            "no Order reads it. {} Node events in {} s, heartbeats of all nodes among them, led to nothing",
            grouped(seen),
            HEARTBEAT.mul_f64(1.2).as_secs()
        );
        self.settle(Change::new("20 labels team=blue", &why)).await
    }

    async fn nodes_fall_silent(&mut self) -> Result<()> {
        let client = &self.cluster.client;
        let [node] = self.picked([0, 0, 1])?;
        set_ready(client, &node, Ready::False).await?;
        let silent = Instant::now();
        tokio::time::sleep(Duration::from_secs(4)).await;
        hand_back(client, &node).await?;
        self.wait_ready(&node, true).await?;
        // Past the grace, a Ticket that was to go is gone.
        tokio::time::sleep((GRACE + Duration::from_secs(2)).saturating_sub(silent.elapsed())).await;
        let why = "back within the grace of 10 s: nothing happens but the count in the status";
        self.settle(Change::new("1 node NotReady 4 s", why)).await?;

        let [node] = self.picked([0, 0, 1])?;
        set_ready(client, &node, Ready::False).await?;
        let silent = Instant::now();
        self.wait_ready(&node, false).await?;
        self.settle(Change::new(
            "1 node NotReady",
            "NotReady for longer than the grace of 10 s",
        ))
        .await?;
        // The condition's time has whole seconds.
        if silent.elapsed() < GRACE.saturating_sub(Duration::from_secs(1)) {
            self.differs.push(format!(
                "Tickets of a NotReady node went after {:?}",
                silent.elapsed()
            ));
        }

        hand_back(client, &node).await?;
        self.wait_ready(&node, true).await?;
        self.settle(Change::new("it is Ready again", "eligible again: new Tickets"))
            .await
    }

    async fn things_are_replaced(&mut self) -> Result<()> {
        let client = &self.cluster.client;
        let [node] = self.picked([0, 1, 0])?;
        let spec = (0..)
            .map(rules::node)
            .find(|spec| spec.clone().build().metadata.name.as_ref() == Some(&node));
        delete_node(client, &node).await?;
        create_nodes(client, spec).await?;
        self.wait_ready(&node, true).await?;
        let why = "NodeGone: a new uid is another node, whatever its name";
        self.settle(Change::new("1 node re-created", why)).await?;

        let [node] = self.picked([1, 0, 0])?;
        let pair = self.pair(0, &node)?;
        let room = &self.room;
        let ticket = room.tickets.iter().find(|(_, ticket)| ticket.pair == pair);
        let uid = ticket.context("a pair without a Ticket")?.0.clone();
        let guardian = room.guardians.iter().find(|guardian| guardian.ticket_uid == uid);
        let guardian = guardian.context("a Ticket without a Guardian")?.clone();
        let pods: Api<Pod> = Api::default_namespaced(client.clone());
        pods.delete(&guardian.name, &DeleteParams::default()).await?;
        let why = "GuardianDeleted: the Ticket is Pending until a new Guardian is bound; 3 writes";
        let mut change = Change::new("1 Guardian deleted", why).extra(3..=3);
        change.touched.insert(uid);
        self.settle(change).await?;
        ensure!(
            self.room.guardians.iter().all(|now| now.uid != guardian.uid),
            "the deleted Guardian is still there"
        );

        let cordoned = self
            .world
            .nodes
            .iter()
            .find(|(_, node)| ORDERS[0].why_not(node) == Some("Unschedulable"));
        let cordoned = cordoned.context("no cordoned node")?.0.clone();
        uncordon(client, &cordoned).await?;
        self.settle(Change::new("1 node uncordoned", "eligible again").all_told())
            .await
    }

    /// Looks at everything once more, and sums up.
    async fn end(mut self, reserved: &Meter) -> Result<Vec<String>> {
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
        let (ours, others) = count(&writes);
        let facts = summary::Facts {
            nodes: world.nodes.len(),
            tickets: room.tickets.len(),
            guardians: room.guardians.len(),
            made: self.told.made.iter().sum(),
            gone: self.told.gone.values().sum(),
            reasons: &self.told.gone,
            untold: self.told.total().saturating_sub(told.total()),
            writes: (ours, others),
            first: self.first,
            slow: &self.slow,
            pending: &self.reasons,
        };
        summary::show(self.screen, self.cluster, &facts, reserved).await?;
        Ok(self.differs)
    }

    /// Waits until everything is as the rules predict, then prints the row.
    async fn settle(&mut self, change: Change<'_>) -> Result<()> {
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
        let mut cells = [Cell::default(); 3];
        let mut differs = Vec::new();
        for (uid, ticket) in &room.tickets {
            let cell = &mut cells[ticket.pair.order];
            match self.room.tickets.get(uid) {
                None => cell.made += 1,
                Some(before) => {
                    cell.kept += 1;
                    if before.revision != ticket.revision && !change.touched.contains(uid) {
                        differs.push(format!("Ticket {} was written to", ticket.name));
                    }
                }
            }
        }
        for (uid, ticket) in &self.room.tickets {
            if !room.tickets.contains_key(uid) {
                cells[ticket.pair.order].gone += 1;
                let reason = (ticket.pair.order, world.why_gone(&ticket.pair).to_owned());
                *self.told.gone.entry(reason).or_default() += 1;
            }
        }
        for (made, cell) in self.told.made.iter_mut().zip(cells) {
            *made += cell.made;
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
        let (ours, others) = count(&writes);
        let least = cells
            .iter()
            .map(|cell| MAKE * cell.made + REMOVE * cell.gone)
            .sum::<usize>();
        let (least, most) = (least + change.extra.start(), least + change.extra.end());
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
        self.screen.row(&Row {
            what: change.what,
            cells,
            writes: (ours, others),
            why: change.why,
            differs: &differs,
        });
        let differs = differs
            .iter()
            .map(|differs| format!("{}: {differs}", change.what));
        self.differs.extend(differs);
        if self.first.0 == 0 {
            self.first = (room.tickets.len(), ours + others);
        }
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
            let now = world.nodes.get(node).is_some_and(rules::ready);
            ensure!(now == ready, "it has Ready={now}");
            Ok(())
        })
        .await
    }
}

/// Writes on Tickets and Guardians, and others; Leases apart.
fn count(writes: &[AuditEntry]) -> (usize, usize) {
    let others = writes
        .iter()
        .filter(|write| !write.is_lease() && !is_pairs(write));
    (pairs(writes).len(), others.count())
}

fn is_pairs(write: &AuditEntry) -> bool {
    matches!(write.resource.as_str(), "tickets" | "pods")
}

/// Writes on Tickets and Guardians.
fn pairs(writes: &[AuditEntry]) -> Vec<&AuditEntry> {
    writes.iter().filter(|write| is_pairs(write)).collect()
}

/// The writes on Tickets and Guardians that nobody needs where everything is fast: what was refused because
/// something else came first or there was too much to do, and the reason of a Ticket that had to wait.
fn slow(writes: &[AuditEntry]) -> Vec<&AuditEntry> {
    let made = |name: &str| {
        let mut creates = writes
            .iter()
            .filter(|write| write.resource == "tickets" && write.verb == "create" && write.name == name);
        creates.next().map(|create| create.received)
    };
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    let mut slow = pairs(writes);
    slow.retain(|write| {
        if !(200..400).contains(&write.code) {
            return true;
        }
        let is_status = write.resource == "tickets" && write.subresource == "status";
        if !is_status || seen.insert(&write.name) {
            return false;
        }
        let waited = made(&write.name).map(|made| write.received.duration_since(made));
        waited.is_some_and(|waited| waited.unsigned_abs() >= SAYS_WHY)
    });
    slow
}

/// How many there are of each kind.
fn by_kind(writes: &[&AuditEntry]) -> BTreeMap<String, usize> {
    let mut kinds = BTreeMap::new();
    for write in writes {
        let slash = if write.subresource.is_empty() { "" } else { "/" };
        let AuditEntry {
            verb,
            resource,
            subresource,
            code,
            ..
        } = write;
        let kind = format!("{verb} {resource}{slash}{subresource} ({code})");
        *kinds.entry(kind).or_default() += 1;
    }
    kinds
}

/// Such as `9 patch tickets/status (200)`.
pub(crate) fn counted((what, count): (&String, &usize)) -> String {
    format!("{count} {what}")
}

/// Sums up reasons over all Orders.
pub(crate) fn by_reason(gone: &BTreeMap<(usize, String), usize>) -> BTreeMap<&str, usize> {
    let mut sums = BTreeMap::new();
    for ((_, reason), count) in gone {
        *sums.entry(reason.as_str()).or_default() += count;
    }
    sums
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn write(second: i64, verb: &str, resource: &str, subresource: &str, code: u16) -> AuditEntry {
        let received = Timestamp::from_second(second).unwrap();
        AuditEntry {
            user: KORDER.to_owned(),
            verb: verb.to_owned(),
            group: String::new(),
            resource: resource.to_owned(),
            subresource: subresource.to_owned(),
            namespace: "default".to_owned(),
            name: "t".to_owned(),
            code,
            received,
            completed: received,
            user_agent: String::new(),
            uri: String::new(),
            forbidden: false,
            request: None,
            response: None,
        }
    }

    #[test]
    fn only_slowness_excuses_a_write() {
        let made = write(0, "create", "tickets", "", 201);
        let status = |second| write(second, "patch", "tickets", "status", 200);
        let refused = write(1, "create", "pods", "", 409);
        let excused = |writes: &[AuditEntry]| by_kind(&slow(writes)).iter().map(counted).collect::<Vec<_>>();

        let none: [&str; 0] = [];
        assert_eq!(excused(&[made.clone(), status(1)]), none);
        assert_eq!(excused(&[made.clone(), status(1), status(2)]), none, "too soon");
        assert_eq!(
            excused(&[made, refused, status(6), status(7)]),
            ["1 create pods (409)", "1 patch tickets/status (200)"]
        );
    }
}
