//! Watches of the Nodes of own shards alone, where the API server sends those alone.
//!
//! Two watches may see one shard for a moment, when it was given up and taken again: only the newer one
//! says what a Node is like. It begins with what the older one knew, so that no end is missed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use kube::{Api, Client, runtime::watcher};
use parking_lot::Mutex;
use tokio::{
    sync::OnceCell,
    task::{AbortHandle, JoinSet},
};

use super::{
    listed::{Listed, Part},
    router::Router,
};
use crate::{
    domain::values::{
        ids::NodeUid,
        shard::{ShardCount, ShardId},
    },
    env::{clock::Clock, pause::Pause},
    watch::{
        node::{self, SlimNode},
        ranges,
        relist::{Brake, Change, Relist},
        stream::follow,
    },
};

/// Between two attempts to learn what the API server offers.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// A server that answers so often with 500 does not do it in passing: the parameter breaks it.
const BROKEN: u32 = 5;

type Known = Arc<Mutex<Relist<NodeUid, NodeUid>>>;

/// What the watches need, and which one speaks for each shard.
pub(crate) struct OwnNodes {
    client: Client,
    shards: ShardCount,
    router: Arc<Router>,
    pause: Pause,
    clock: Clock,
    offered: OnceCell<bool>,
    /// What the watch knows that speaks for a shard.
    speakers: Arc<Mutex<BTreeMap<ShardId, Known>>>,
}

impl OwnNodes {
    /// No watches yet.
    pub(crate) fn new(
        client: Client,
        shards: ShardCount,
        router: Arc<Router>,
        pause: Pause,
        clock: Clock,
    ) -> Self {
        Self {
            client,
            shards,
            router,
            pause,
            clock,
            offered: OnceCell::new(),
            speakers: Arc::default(),
        }
    }

    /// Whether the API server sends own ranges alone: asked until it answers, and then never again.
    pub(crate) async fn offered(&self) -> bool {
        *self.offered.get_or_init(|| self.ask()).await
    }

    async fn ask(&self) -> bool {
        let (mut broken, mut last) = (0, String::new());
        loop {
            match ranges::offered(&self.client).await {
                Ok(offered) => {
                    tracing::info!(offered, "asked whether nodes come by ranges");
                    if offered {
                        self.router.use_ranges();
                    }
                    return offered;
                }
                Err(error) => {
                    let of_server = matches!(&error, kube::Error::Api(status) if status.code == 500);
                    broken += u32::from(of_server);
                    let problem = error.to_string();
                    if problem != last {
                        tracing::warn!(problem, "cannot learn whether Nodes come by ranges; trying again");
                        last = problem;
                    }
                    if broken == BROKEN {
                        return false;
                    }
                }
            }
            let next = self.clock.mono().after(ASK_EVERY);
            self.clock.sleep_until(Some(next)).await;
        }
    }

    /// Watches the Nodes of these shards in the place of what has watched them so far; `told` hear when
    /// they are listed.
    pub(crate) fn watch(
        &self,
        shards: &[ShardId],
        told: Vec<Listed>,
        tasks: &mut JoinSet<()>,
    ) -> AbortHandle {
        let client = ranges::within(&self.client, self.shards.selector(shards));
        let config = watcher::Config::default().page_size(node::PAGE);
        let relist = self.succeed(shards);
        let (router, speakers) = (self.router.clone(), self.speakers.clone());
        let (count, mine) = (self.shards, relist.clone());
        let speaks = move |node: &SlimNode| {
            let uid = NodeUid::from(node.metadata.uid.as_deref().unwrap_or_default());
            let speakers = speakers.lock();
            let speaker = speakers.get(&count.of_node(&uid));
            speaker.is_some_and(|speaker| Arc::ptr_eq(speaker, &mine))
        };
        let out = move |change| match change {
            // A uid never comes back, so its end is true whoever tells it.
            Change::Delete(uid) => router.node(Change::Delete(uid)),
            Change::Apply(node) if !speaks(&node) => {}
            Change::Apply(node) => router.node(Change::Apply(node)),
            Change::Listed => told.iter().for_each(|told| told.mark(Part::Nodes)),
        };
        // A server without the feature sends others as well; what is not known here cannot seem gone later.
        let own: BTreeSet<ShardId> = shards.iter().copied().collect();
        let read = move |node| SlimNode::keyed(node).filter(|(uid, _)| own.contains(&count.of_node(uid)));
        let watch = follow::<_, NodeUid, _, _>("Node", Api::all(client), config, relist, read, out);
        tasks.spawn(self.pause.pass(watch))
    }

    /// What the new watch of these shards begins with. It speaks for them from now on: what the older ones
    /// have said until then is in what they know.
    fn succeed(&self, shards: &[ShardId]) -> Known {
        let known: Known = Relist::shared(Brake::Full);
        let mut speakers = self.speakers.lock();
        speakers.retain(|shard, _| self.router.has(*shard));
        let older: Vec<Known> = shards
            .iter()
            .filter_map(|shard| speakers.insert(*shard, known.clone()))
            .collect();
        drop(speakers);
        for (n, older_known) in older.iter().enumerate() {
            if older[..n].iter().any(|before| Arc::ptr_eq(before, older_known)) {
                continue;
            }
            let mine = |uid: &&NodeUid| shards.contains(&self.shards.of_node(uid));
            let uids: Vec<NodeUid> = older_known
                .lock()
                .all()
                .map(|(uid, _)| uid)
                .filter(mine)
                .cloned()
                .collect();
            let mut known = known.lock();
            uids.into_iter().for_each(|uid| known.know(uid.clone(), uid));
        }
        known
    }
}
