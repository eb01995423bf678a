//! The watches of own Tickets and Guardians: one pair of them covers all own shards.
//!
//! Shards that come later get a pair of their own until one pair covers everything again: watches cost
//! the API server work with every write, so there is never one per shard.

use std::{hash::Hash, sync::Arc, time::Duration};

use kube::{Api, Client, runtime::watcher};
use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    task::{AbortHandle, JoinSet},
};
use tokio_util::sync::CancellationToken;

use super::{
    listed::{Part, Synced},
    own_nodes::OwnNodes,
    router::{GuardianRoute, Router, TicketRoute},
    watches::tickets_of,
};
use crate::controller::owned::slots::Slots;
use crate::{
    api,
    domain::{
        pair::observed::TicketView,
        values::{
            ids::{PodUid, TicketUid},
            shard::{ShardCount, ShardId},
        },
    },
    env::{clock::Clock, pause::Pause},
    watch::{
        guardian::SlimPod,
        meta::shard_selector,
        relist::{Brake, Change, Relist},
        stream::{every, follow},
        ticket::SlimTicket,
    },
};

/// Shards that are asked for within so long of each other are watched together.
const GATHER: Duration = Duration::from_millis(100);
/// How long the owned shards must have stayed the same before one pair is made for all of them.
const QUIET: Duration = Duration::from_secs(10);

/// What asks for watches, and what they need.
pub struct Covers {
    client: Client,
    shards: ShardCount,
    router: Arc<Router>,
    slots: Arc<Slots>,
    pause: Pause,
    clock: Clock,
    nodes: Arc<OwnNodes>,
    asked: Mutex<Vec<(Vec<ShardId>, Synced)>>,
    bell: Notify,
}

type Known<U, R> = Arc<Mutex<Relist<U, R>>>;

/// One pair of watches.
struct Cover {
    shards: Vec<ShardId>,
    synced: Vec<Synced>,
    tickets: Known<TicketUid, TicketRoute>,
    guardians: Known<PodUid, GuardianRoute>,
    tasks: [AbortHandle; 2],
    /// Of the Nodes of its shards, where they come by themselves.
    nodes: Option<AbortHandle>,
}

/// A pair that is to take the place of others once it has listed everything.
struct Successor {
    cover: Cover,
    replaces: usize,
}

impl Covers {
    /// No watches yet.
    pub fn new(
        client: Client,
        shards: ShardCount,
        router: Arc<Router>,
        slots: Arc<Slots>,
        pause: Pause,
        clock: Clock,
        nodes: Arc<OwnNodes>,
    ) -> Self {
        Self {
            client,
            shards,
            router,
            slots,
            pause,
            clock,
            nodes,
            asked: Mutex::default(),
            bell: Notify::new(),
        }
    }

    /// Asks for these shards to be watched; `synced` is told when they have been listed.
    pub fn cover(&self, shards: Vec<ShardId>, synced: Synced) {
        self.asked.lock().push((shards, synced));
        self.bell.notify_one();
    }

    /// The owned shards have become fewer.
    pub fn fewer(&self) {
        self.bell.notify_one();
    }

    /// Keeps the watches until `stop`.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut tasks = JoinSet::new();
        let mut covers: Vec<Cover> = Vec::new();
        let mut successor: Option<Successor> = None;
        let (mut start_at, mut merge_at) = (None, None);
        let narrow = tokio::select! {
            () = stop.cancelled() => return,
            offered = self.nodes.offered() => offered,
        };
        loop {
            let listed = async {
                match &successor {
                    Some(successor) => successor.cover.synced[0].wait().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased; // stopping comes first, and a watch that has panicked is worse than anything
                () = stop.cancelled() => return,
                Some(Err(ended)) = tasks.join_next() => {
                    assert!(ended.is_cancelled(), "a watch panicked");
                }
                () = self.bell.notified() => {
                    if !self.asked.lock().is_empty() {
                        start_at.get_or_insert_with(|| self.clock.mono().after(GATHER));
                    }
                    merge_at = Some(self.clock.mono().after(QUIET));
                }
                () = self.clock.sleep_until(start_at), if start_at.is_some() => {
                    start_at = None;
                    let (shards, synced): (Vec<_>, Vec<_>) =
                        std::mem::take(&mut *self.asked.lock()).into_iter().unzip();
                    let mut shards = shards.concat();
                    shards.sort();
                    shards.dedup();
                    let mut cover = self.start(shards, synced.clone(), &mut tasks);
                    if narrow {
                        cover.nodes = Some(self.nodes.watch(&cover.shards, synced, &mut tasks));
                    } else {
                        synced.iter().for_each(|synced| synced.part(Part::Nodes));
                    }
                    covers.push(cover);
                }
                () = listed => {
                    let Successor { mut cover, replaces } = successor.take().expect("it has listed");
                    let replaced: Vec<Cover> = covers.drain(..replaces).collect();
                    replaced.iter().for_each(|replaced| self.replace(replaced, &cover));
                    if narrow {
                        // Those of newer covers speak for what they have.
                        let mut shards = cover.shards.clone();
                        shards.retain(|shard| !covers.iter().any(|newer| newer.shards.contains(shard)));
                        // Their own watches may have ended before they had listed anything.
                        let synced = replaced.iter().flat_map(|replaced| &replaced.synced);
                        let untold: Vec<_> = synced.filter(|synced| synced.lacks(Part::Nodes)).cloned().collect();
                        let any = !shards.is_empty();
                        cover.nodes = any.then(|| self.nodes.watch(&shards, untold.clone(), &mut tasks));
                        // Nor may this one before it is replaced.
                        cover.synced.extend(untold);
                    }
                    covers.insert(0, cover);
                    merge_at = Some(self.clock.mono().after(QUIET));
                }
                () = self.clock.sleep_until(merge_at), if successor.is_none() => {
                    merge_at = None;
                    successor = self.merge(&mut covers, &mut tasks);
                }
            }
        }
    }

    /// Begins one pair for all own shards, if there is none.
    fn merge(&self, covers: &mut Vec<Cover>, tasks: &mut JoinSet<()>) -> Option<Successor> {
        let owned = self.slots.owned();
        if owned.is_empty() {
            covers.drain(..).for_each(|cover| cover.abort());
            return None;
        }
        if matches!(&covers[..], [only] if only.shards == owned) {
            return None;
        }
        let listed = Synced::own_only();
        // Nodes are watched anew only when the others have ended: one that sees them last is right.
        listed.part(Part::Nodes);
        Some(Successor {
            cover: self.start(owned, vec![listed], tasks),
            replaces: covers.len(),
        })
    }

    fn start(&self, shards: Vec<ShardId>, synced: Vec<Synced>, tasks: &mut JoinSet<()>) -> Cover {
        let (tickets, guardians) = (Relist::shared(Brake::Off), Relist::shared(Brake::Off));
        let config = watcher::Config::default().labels(&shard_selector(&shards));
        let listed = Arc::new(Notify::new());
        let (router, told, bell) = (self.router.clone(), synced.clone(), listed.clone());
        let of_tickets = follow::<_, TicketUid, _, _>(
            "Ticket",
            Api::<SlimTicket>::all(self.client.clone()),
            config.clone(),
            tickets.clone(),
            tickets_of(self.shards),
            move |change| {
                let listed = matches!(change, Change::Synced);
                router.ticket(change);
                if listed {
                    told.iter().for_each(|told| told.part(Part::Tickets));
                    bell.notify_one();
                }
            },
        );
        let (client, count) = (self.client.clone(), self.shards);
        let (router, told) = (self.router.clone(), synced.clone());
        let unlabelled = async move {
            listed.notified().await;
            for (shard, view) in unlabelled(client, count).await {
                router.found(shard, view);
            }
            told.iter().for_each(|told| told.part(Part::Unlabelled));
        };
        let of_tickets = async { tokio::join!(of_tickets, unlabelled) };
        let read = |pod: SlimPod| {
            let (shard, view) = pod.view()?;
            let shard = shard?;
            let route = (shard, view.ticket.clone(), view.key.clone(), view.uid.clone());
            Some((route, (shard, view)))
        };
        let (router, told) = (self.router.clone(), synced.clone());
        let of_guardians = follow::<_, PodUid, _, _>(
            "Pod",
            Api::<SlimPod>::all(self.client.clone()),
            config,
            guardians.clone(),
            read,
            move |change| {
                let listed = matches!(change, Change::Synced);
                router.guardian(change);
                if listed {
                    told.iter().for_each(|told| told.part(Part::Guardians));
                }
            },
        );
        Cover {
            shards,
            synced,
            tickets,
            guardians,
            tasks: [
                tasks.spawn(self.pause.pass(of_tickets)),
                tasks.spawn(self.pause.pass(of_guardians)),
            ],
            nodes: None,
        }
    }

    /// Ends a pair. What it knows and its successor does not may have gone between the two: the shards
    /// are told so, and ask.
    fn replace(&self, replaced: &Cover, successor: &Cover) {
        replaced.abort();
        for route in missing(&replaced.tickets, &successor.tickets) {
            self.router.ticket(Change::Delete(route));
        }
        for route in missing(&replaced.guardians, &successor.guardians) {
            self.router.guardian(Change::Delete(route));
        }
        // It may have been replaced before it had listed anything.
        for part in [Part::Tickets, Part::Guardians, Part::Unlabelled] {
            replaced.synced.iter().for_each(|synced| synced.part(part));
        }
    }
}

/// The Tickets that have no label of a shard. One that loses it while own Tickets are being listed is in neither
/// list if this one was read before those, and the watch may say so late.
async fn unlabelled(client: Client, shards: ShardCount) -> Vec<(ShardId, TicketView)> {
    let selector = format!("!{}", api::LABEL_SHARD);
    let found = every("unlabelled Ticket", Api::<SlimTicket>::all(client), &selector).await;
    found
        .into_iter()
        .filter_map(|ticket| ticket.view(shards))
        .collect()
}

impl Cover {
    fn abort(&self) {
        self.tasks.iter().chain(&self.nodes).for_each(AbortHandle::abort);
    }
}

/// What only the first of two knows, in the order of its routes, so that a run repeats exactly.
fn missing<U: Eq + Hash + Ord, R: Clone + Ord>(first: &Known<U, R>, second: &Known<U, R>) -> Vec<R> {
    let (first, second) = (first.lock(), second.lock());
    let mut missing: Vec<R> = first
        .all()
        .filter(|(uid, _)| !second.has(uid))
        .map(|(_, route)| route.clone())
        .collect();
    missing.sort();
    missing
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        sync::atomic::{AtomicBool, Ordering},
    };

    use http::{Request, Response};
    use kube::client::Body;
    use serde_json::{Value, json};

    use super::*;
    use crate::{controller::owned::mailbox::TicketNews, domain::values::time::Mono};

    fn ticket() -> Value {
        let owner = json!({ "apiVersion": "core.korder.dev/v1alpha1", "kind": "Order", "name": "all",
            "uid": "order-1", "controller": true });
        json!({
            "metadata": { "namespace": "default", "name": "all-x", "uid": "ticket-1", "resourceVersion": "7",
                "ownerReferences": [owner] },
            "spec": { "nodeName": "n1", "nodeUID": "node-1", "sequence": 0, "templateHash": "h" },
            "status": { "phase": "Reserved" },
        })
    }

    #[tokio::test(start_paused = true)]
    async fn a_ticket_that_lost_its_labels_between_two_lists_is_found() {
        let stripped = AtomicBool::new(false);
        let transport = tower::service_fn(move |request: Request<Body>| {
            let (path, query) = (request.uri().path(), request.uri().query().unwrap_or_default());
            let watch = query.contains("watch=true");
            let tickets = path.ends_with("/tickets");
            let unlabelled = tickets && query.contains("labelSelector=%21");
            let items = match stripped.load(Ordering::Relaxed) {
                true if unlabelled => vec![ticket()],
                _ => Vec::new(),
            };
            if tickets && !unlabelled {
                stripped.store(true, Ordering::Relaxed);
            }
            let list = json!({ "kind": "List", "apiVersion": "v1", "metadata": { "resourceVersion": "7" },
                "items": items });
            async move {
                if watch {
                    return std::future::pending().await;
                }
                Ok::<_, Infallible>(Response::new(Body::from(list.to_string().into_bytes())))
            }
        });
        let (client, clock) = (Client::new(transport, "default"), Clock::system());
        let shards = ShardCount::try_from(1).unwrap();
        let slots = Arc::new(Slots::new(shards));
        let slot = slots.take(ShardId(0), Mono(Duration::MAX));
        let router = Arc::new(Router::new(shards, slots.clone(), clock.clone()));
        let pause = Pause::default();
        let own = OwnNodes::new(
            client.clone(),
            shards,
            router.clone(),
            pause.clone(),
            clock.clone(),
        );
        let covers = Arc::new(Covers::new(
            client,
            shards,
            router,
            slots,
            pause,
            clock,
            Arc::new(own),
        ));
        let synced = Synced::own_only();
        covers.cover(vec![ShardId(0)], synced.clone());
        tokio::select! {
            () = covers.run(CancellationToken::new()) => unreachable!("it runs until it is stopped"),
            () = synced.wait() => {}
        }
        let inbox = slot.mailbox.take();
        let found: Vec<_> = inbox.tickets.values().collect();
        assert!(
            matches!(&found[..], [TicketNews::Told(view)] if view.uid == "ticket-1".into() && view.unlabelled),
            "{found:?}"
        );
    }
}
