//! One set of watches: the Tickets and Guardians of some shards, each kind by one watch.

use std::{future::Future, hash::Hash, sync::Arc};

use kube::{Api, Client, runtime::watcher};
use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    task::{AbortHandle, JoinSet},
};

use crate::{
    api,
    controller::intake::{
        listed::{Listed, Part},
        router::{GuardianRoute, Router, TicketRoute, route_guardian, route_ticket},
    },
    domain::values::{
        ids::{PodUid, TicketUid},
        shard::{ShardCount, ShardId},
    },
    env::pause::Pause,
    watch::{
        guardian::SlimPod,
        meta::shard_selector,
        relist::{Brake, Change, Relist},
        stream::{every, follow},
        ticket::SlimTicket,
    },
};

/// What a watch knows, each object with where its end is to be told.
type Known<U, R> = Arc<Mutex<Relist<U, R>>>;

/// The watches of some shards.
pub(super) struct WatchSet {
    pub(super) shards: Vec<ShardId>,
    /// Told when they have been listed.
    pub(super) listed: Vec<Listed>,
    tickets: Known<TicketUid, TicketRoute>,
    guardians: Known<PodUid, GuardianRoute>,
    tasks: [AbortHandle; 2],
    /// The watch of the Nodes of its shards, where they come by ranges.
    pub(super) nodes: Option<AbortHandle>,
}

/// What follows the objects of shards.
pub(super) struct Follower {
    pub(super) client: Client,
    pub(super) shards: ShardCount,
    pub(super) router: Arc<Router>,
    pub(super) pause: Pause,
}

impl Follower {
    /// Begins the watches of these shards.
    pub(super) fn start(
        &self,
        shards: Vec<ShardId>,
        listed: Vec<Listed>,
        tasks: &mut JoinSet<()>,
    ) -> WatchSet {
        let (tickets, guardians) = (Relist::shared(Brake::Off), Relist::shared(Brake::Off));
        let config = watcher::Config::default().labels(&shard_selector(&shards));
        let tickets_listed = Arc::new(Notify::new());
        let of_tickets = self.tickets(
            config.clone(),
            tickets.clone(),
            listed.clone(),
            tickets_listed.clone(),
        );
        let unlabelled = self.unlabelled(listed.clone(), tickets_listed);
        let of_tickets = async { tokio::join!(of_tickets, unlabelled) };
        let of_guardians = self.guardians(config, guardians.clone(), listed.clone());
        WatchSet {
            shards,
            listed,
            tickets,
            guardians,
            tasks: [
                tasks.spawn(self.pause.pass(of_tickets)),
                tasks.spawn(self.pause.pass(of_guardians)),
            ],
            nodes: None,
        }
    }

    fn tickets(
        &self,
        config: watcher::Config,
        known: Known<TicketUid, TicketRoute>,
        told: Vec<Listed>,
        bell: Arc<Notify>,
    ) -> impl Future<Output = ()> + Send + use<> {
        let (api, router) = (Api::<SlimTicket>::all(self.client.clone()), self.router.clone());
        let out = move |change| {
            let listed = matches!(change, Change::Listed);
            router.ticket(change);
            if listed {
                told.iter().for_each(|told| told.mark(Part::Tickets));
                bell.notify_one();
            }
        };
        follow::<_, TicketUid, _, _>("Ticket", api, config, known, route_ticket(self.shards), out)
    }

    /// Lists the Tickets that have no label of a shard, once those with labels are listed. One that loses it while
    /// own Tickets are being listed is in neither list if this one was read before those, and the watch may say so
    /// late.
    fn unlabelled(
        &self,
        told: Vec<Listed>,
        tickets_listed: Arc<Notify>,
    ) -> impl Future<Output = ()> + Send + use<> {
        let (client, shards, router) = (self.client.clone(), self.shards, self.router.clone());
        async move {
            tickets_listed.notified().await;
            let selector = format!("!{}", api::LABEL_SHARD);
            let found = every("unlabelled Ticket", Api::<SlimTicket>::all(client), &selector).await;
            for (shard, view) in found.into_iter().filter_map(|ticket| ticket.view(shards)) {
                router.found(shard, view);
            }
            told.iter().for_each(|told| told.mark(Part::Unlabelled));
        }
    }

    fn guardians(
        &self,
        config: watcher::Config,
        known: Known<PodUid, GuardianRoute>,
        told: Vec<Listed>,
    ) -> impl Future<Output = ()> + Send + use<> {
        let (api, router) = (Api::<SlimPod>::all(self.client.clone()), self.router.clone());
        let out = move |change| {
            let listed = matches!(change, Change::Listed);
            router.guardian(change);
            if listed {
                told.iter().for_each(|told| told.mark(Part::Guardians));
            }
        };
        follow::<_, PodUid, _, _>("Pod", api, config, known, route_guardian, out)
    }
}

impl WatchSet {
    /// Ends the watches.
    pub(super) fn abort(&self) {
        self.tasks.iter().chain(&self.nodes).for_each(AbortHandle::abort);
    }

    /// The Tickets that this set knows and `other` does not.
    pub(super) fn tickets_unknown_to(&self, other: &Self) -> Vec<TicketRoute> {
        missing(&self.tickets, &other.tickets)
    }

    /// The Guardians that this set knows and `other` does not.
    pub(super) fn guardians_unknown_to(&self, other: &Self) -> Vec<GuardianRoute> {
        missing(&self.guardians, &other.guardians)
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
