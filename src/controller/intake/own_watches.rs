//! The watches of own Tickets and Guardians: one set of watches serves all own shards.
//!
//! Shards that come later get a set of their own until one set serves all again: watches cost the API
//! server work with every write, so there is never one per shard.

use std::{sync::Arc, time::Duration};

use kube::Client;
use parking_lot::Mutex;
use tokio::{sync::Notify, task::JoinSet};
use tokio_util::sync::CancellationToken;

use self::set::{Follower, WatchSet};
use super::{
    listed::{Listed, Part},
    own_nodes::OwnNodes,
    router::Router,
};
use crate::{
    controller::owned::shard::OwnedShards,
    domain::values::{
        shard::{ShardCount, ShardId},
        time::Mono,
    },
    env::{clock::Clock, pause::Pause},
    watch::relist::Change,
};

mod set;

/// Shards that are asked for within so long of each other are watched together.
const GATHER: Duration = Duration::from_millis(100);
/// How long the owned shards must have stayed the same before one set is made for all of them.
const QUIET: Duration = Duration::from_secs(10);

/// What asks for watches, and what they need.
pub(crate) struct OwnWatches {
    follower: Follower,
    router: Arc<Router>,
    owned_shards: Arc<OwnedShards>,
    clock: Clock,
    nodes: Arc<OwnNodes>,
    asked: Mutex<Vec<(Vec<ShardId>, Listed)>>,
    bell: Notify,
}

/// What is watched, and when that is to change.
struct Running {
    /// Nodes come by ranges: each set has a watch of its own.
    by_ranges: bool,
    tasks: JoinSet<()>,
    /// Oldest first.
    sets: Vec<WatchSet>,
    replacement: Option<Replacement>,
    /// When what is asked for begins to be watched.
    start_at: Option<Mono>,
    /// When one set is begun for all.
    merge_at: Option<Mono>,
}

/// A set that is to take the place of the first ones once it has listed everything.
struct Replacement {
    set: WatchSet,
    replaces: usize,
}

impl OwnWatches {
    /// No watches yet.
    pub(crate) fn new(
        client: Client,
        shards: ShardCount,
        router: Arc<Router>,
        owned_shards: Arc<OwnedShards>,
        pause: Pause,
        clock: Clock,
        nodes: Arc<OwnNodes>,
    ) -> Self {
        Self {
            follower: Follower {
                client,
                shards,
                router: router.clone(),
                pause,
            },
            router,
            owned_shards,
            clock,
            nodes,
            asked: Mutex::default(),
            bell: Notify::new(),
        }
    }

    /// Asks for these shards to be watched; `listed` is told when they have been listed.
    pub(crate) fn add(&self, shards: Vec<ShardId>, listed: Listed) {
        self.asked.lock().push((shards, listed));
        self.bell.notify_one();
    }

    /// The owned shards have become fewer.
    pub(crate) fn removed(&self) {
        self.bell.notify_one();
    }

    /// Keeps the watches until `stop`.
    pub(crate) async fn run(self: Arc<Self>, stop: CancellationToken) {
        let by_ranges = tokio::select! {
            () = stop.cancelled() => return,
            offered = self.nodes.offered() => offered,
        };
        let mut running = Running {
            by_ranges,
            tasks: JoinSet::new(),
            sets: Vec::new(),
            replacement: None,
            start_at: None,
            merge_at: None,
        };
        loop {
            let (start_at, merge_at) = (running.start_at, running.merge_at);
            let replaces = running.replacement.is_some();
            tokio::select! {
                biased; // stopping comes first, and a watch that has panicked is worse than anything
                () = stop.cancelled() => return,
                Some(Err(ended)) = running.tasks.join_next() => {
                    assert!(ended.is_cancelled(), "a watch panicked");
                }
                () = self.bell.notified() => self.shards_changed(&mut running),
                () = self.clock.sleep_until(start_at), if start_at.is_some() => self.start(&mut running),
                () = all_listed(running.replacement.as_ref()) => self.replace(&mut running),
                () = self.clock.sleep_until(merge_at), if !replaces => self.merge(&mut running),
            }
        }
    }

    fn shards_changed(&self, running: &mut Running) {
        let now = self.clock.mono();
        if !self.asked.lock().is_empty() {
            running.start_at.get_or_insert(now.after(GATHER));
        }
        running.merge_at = Some(now.after(QUIET));
    }

    /// Begins a set for the shards that are asked for.
    fn start(&self, running: &mut Running) {
        running.start_at = None;
        let asked = std::mem::take(&mut *self.asked.lock());
        let (shards, listed): (Vec<_>, Vec<_>) = asked.into_iter().unzip();
        let mut shards = shards.concat();
        shards.sort();
        shards.dedup();
        let mut set = self.follower.start(shards, listed.clone(), &mut running.tasks);
        if running.by_ranges {
            set.nodes = Some(self.nodes.watch(&set.shards, listed, &mut running.tasks));
        } else {
            listed.iter().for_each(|listed| listed.mark(Part::Nodes));
        }
        running.sets.push(set);
    }

    /// Begins one set for all own shards, if there is none.
    fn merge(&self, running: &mut Running) {
        running.merge_at = None;
        let owned = self.owned_shards.ids();
        if owned.is_empty() {
            running.sets.drain(..).for_each(|set| set.abort());
            return;
        }
        if matches!(&running.sets[..], [only] if only.shards == owned) {
            return;
        }
        let listed = Listed::own_only();
        // Nodes are watched anew only when the others have ended: one that sees them last is right.
        listed.mark(Part::Nodes);
        running.replacement = Some(Replacement {
            set: self.follower.start(owned, vec![listed], &mut running.tasks),
            replaces: running.sets.len(),
        });
    }

    /// Puts the set that has listed everything in the place of those that it replaces.
    fn replace(&self, running: &mut Running) {
        let Replacement { mut set, replaces } = running.replacement.take().expect("it has listed");
        let replaced: Vec<WatchSet> = running.sets.drain(..replaces).collect();
        replaced.iter().for_each(|replaced| self.end(replaced, &set));
        if running.by_ranges {
            self.watch_nodes(&mut set, &replaced, running);
        }
        running.sets.insert(0, set);
        running.merge_at = Some(self.clock.mono().after(QUIET));
    }

    /// Ends a set. What it knows and its successor does not may have gone between the two: the shards
    /// are told so, and ask.
    fn end(&self, replaced: &WatchSet, successor: &WatchSet) {
        replaced.abort();
        for route in replaced.tickets_unknown_to(successor) {
            self.router.ticket(Change::Delete(route));
        }
        for route in replaced.guardians_unknown_to(successor) {
            self.router.guardian(Change::Delete(route));
        }
        // It may have been replaced before it had listed anything.
        for part in [Part::Tickets, Part::Guardians, Part::Unlabelled] {
            replaced.listed.iter().for_each(|listed| listed.mark(part));
        }
    }

    /// Watches the Nodes of a set's shards in the place of those it replaces; newer sets speak for what they have.
    fn watch_nodes(&self, set: &mut WatchSet, replaced: &[WatchSet], running: &mut Running) {
        let newer = |shard: &ShardId| running.sets.iter().any(|newer| newer.shards.contains(shard));
        let mut shards = set.shards.clone();
        shards.retain(|shard| !newer(shard));
        // The watches of those it replaces may have ended before they had listed anything.
        let listed = replaced.iter().flat_map(|replaced| &replaced.listed);
        let untold: Vec<_> = listed
            .filter(|listed| listed.lacks(Part::Nodes))
            .cloned()
            .collect();
        if !shards.is_empty() {
            let tasks = &mut running.tasks;
            set.nodes = Some(self.nodes.watch(&shards, untold.clone(), tasks));
        }
        // Nor may this one before it is replaced.
        set.listed.extend(untold);
    }
}

/// Waits until a replacement has listed everything.
async fn all_listed(replacement: Option<&Replacement>) {
    match replacement {
        Some(replacement) => replacement.set.listed[0].wait().await,
        None => std::future::pending().await,
    }
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
    use crate::controller::owned::mailbox::TicketUpdate;

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
        let owned_shards = Arc::new(OwnedShards::new(shards));
        let owned = owned_shards.take(ShardId(0), Mono(Duration::MAX));
        let router = Arc::new(Router::new(shards, owned_shards.clone(), clock.clone()));
        let pause = Pause::default();
        let own = OwnNodes::new(
            client.clone(),
            shards,
            router.clone(),
            pause.clone(),
            clock.clone(),
        );
        let watches = Arc::new(OwnWatches::new(
            client,
            shards,
            router,
            owned_shards,
            pause,
            clock,
            Arc::new(own),
        ));
        let listed = Listed::own_only();
        watches.add(vec![ShardId(0)], listed.clone());
        tokio::select! {
            () = watches.run(CancellationToken::new()) => unreachable!("it runs until it is stopped"),
            () = listed.wait() => {}
        }
        let inbox = owned.mailbox.take();
        let found: Vec<_> = inbox.tickets.values().collect();
        assert!(
            matches!(&found[..], [TicketUpdate::Told(view)] if view.uid == "ticket-1".into() && view.unlabelled),
            "{found:?}"
        );
    }
}
