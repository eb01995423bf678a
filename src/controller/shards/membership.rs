//! Membership and shard Leases: carries out what the lease machine says, and tells it what comes of it.
//!
//! Has a client of its own, so that renewals wait for nothing else.

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, Client, runtime::watcher};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::keeper::{self, Crew, Keeper};
use crate::controller::intake::listed::Synced;
use crate::{
    api::LABEL_LEASE,
    domain::values::shard::ShardCount,
    env::{clock::Clock, metrics},
    lease::{
        deadline::Deadline,
        member::{Action, Attempt, Fatal, LeaseResult, Member},
        record::{LeaseName, LeaseTimes, Record, ReplicaId},
    },
    watch::{
        relist::{Brake, Change, Relist},
        stream::follow,
    },
    write::lease::{Leases, read},
};

/// How a membership ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Everything has been given up as it was asked for.
    Left,
    /// It must not go on.
    Fatal(Fatal),
}

/// What a membership needs.
pub struct Membership {
    /// For Leases alone.
    pub client: Client,
    /// Where the Leases are.
    pub namespace: String,
    /// How many shards there are.
    pub shards: ShardCount,
    /// The times that Leases are held by.
    pub times: LeaseTimes,
    /// The lease machine.
    pub member: Member,
    /// Starts and stops the work on shards.
    pub keeper: Keeper,
    /// Set to the membership's own deadline.
    pub lease: Arc<Deadline>,
    /// Whether this is a member that knows all nodes.
    pub ready: Arc<AtomicBool>,
    /// What is listed once for all shards.
    pub synced: Synced,
    /// The time.
    pub clock: Clock,
}

type LeaseRoute = (LeaseName, String);

/// What the watch of Leases has shown and the machine has not seen: the latest of each.
#[derive(Default)]
struct News {
    leases: Mutex<BTreeMap<LeaseName, Option<Record>>>,
    /// Which object of each name the watch has shown last.
    uids: Mutex<BTreeMap<LeaseName, String>>,
    listed: AtomicBool,
    bell: Notify,
}

impl News {
    fn put(&self, change: Change<(LeaseRoute, Record), LeaseRoute>) {
        match change {
            Change::Apply(((name, uid), record)) => {
                self.uids.lock().insert(name.clone(), uid);
                self.leases.lock().insert(name, Some(record));
            }
            // After a list, the end of an object comes after the beginning of the next one of its name.
            Change::Delete((name, uid)) => {
                let mut uids = self.uids.lock();
                if uids.get(&name) == Some(&uid) {
                    uids.remove(&name);
                    self.leases.lock().insert(name, None);
                }
            }
            Change::Synced => self.listed.store(true, Ordering::Release),
        }
        self.bell.notify_one();
    }
}

type Answered = (LeaseName, Attempt, LeaseResult);
type Requests = FuturesUnordered<BoxFuture<'static, Answered>>;

impl Membership {
    /// Holds what it should until `leave`, and then gives it up.
    pub async fn run(mut self, leave: CancellationToken) -> Ending {
        let news = Arc::new(News::default());
        let watch = self.watch(news.clone());
        tokio::pin!(watch);
        let leases = Leases::new(self.client.clone(), &self.namespace, self.shards, self.times);
        let (mut requests, mut crew) = (Requests::new(), Crew::default());
        let (mut leaving, mut prepared) = (false, false);
        loop {
            if let Some(ending) = self.act(&leases, &requests, &mut crew) {
                self.ready.store(false, Ordering::Release);
                return ending;
            }
            let wake = self.member.wake();
            tokio::select! {
                biased; // an answer may move a deadline that has come
                Some((name, attempt, answer)) = requests.next() => {
                    metrics::lease_request(answer.word());
                    self.member.answered(&name, attempt, answer, self.clock.mono());
                }
                () = news.bell.notified() => self.look(&news),
                change = crew.change() => match change {
                    keeper::Change::Drained(drained) => if self.keeper.release(&drained) {
                        self.member.drained(drained.0);
                    },
                    keeper::Change::Broken(slot) => self.keeper.broken(&slot, &mut crew),
                    keeper::Change::Rebuild(shard) => {
                        let until = self.member.deadline(shard);
                        self.keeper.rebuild(shard, until, &mut crew);
                    }
                },
                () = leave.cancelled(), if !leaving => {
                    leaving = true;
                    self.member.drain(self.clock.mono());
                }
                () = self.synced.wait(), if !prepared => {
                    prepared = true;
                    self.member.prepared();
                }
                () = &mut watch => {}
                () = self.clock.sleep_until(wake) => {}
            }
        }
    }

    fn watch(&self, news: Arc<News>) -> impl Future<Output = ()> + Send + 'static {
        let api = Api::<Lease>::namespaced(self.client.clone(), &self.namespace);
        let config = watcher::Config::default().labels(LABEL_LEASE);
        let known = |lease: Lease| {
            let (name, record) = read(&lease)?;
            let route = (name, lease.metadata.uid.unwrap_or_default());
            Some((route.clone(), (route, record)))
        };
        let relist = Relist::shared(Brake::Off);
        follow::<_, String, _, _>("Lease", api, config, relist, known, move |change| {
            news.put(change)
        })
    }

    fn look(&mut self, news: &News) {
        let listed = news.listed.load(Ordering::Acquire);
        let now = self.clock.mono();
        for (name, record) in std::mem::take(&mut *news.leases.lock()) {
            self.member.saw(&name, record, now);
        }
        if listed {
            self.member.listed();
        }
    }

    /// Carries out what is due, and tells everybody until when they may go on.
    fn act(&mut self, leases: &Leases, requests: &Requests, crew: &mut Crew) -> Option<Ending> {
        let now = self.clock.now();
        let (mut started, mut ending) = (Vec::new(), None);
        for action in self.member.poll(now.mono) {
            let leases = leases.clone();
            match action {
                Action::Put {
                    name,
                    attempt,
                    version,
                    holder,
                } => requests.push(
                    async move {
                        let answer = leases.put(&name, version.as_deref(), holder.as_ref(), now.server);
                        let answer = answer.await;
                        (name, attempt, answer)
                    }
                    .boxed(),
                ),
                Action::Get { name, attempt } => requests.push(
                    async move {
                        let answer = leases.get(&name).await;
                        (name, attempt, answer)
                    }
                    .boxed(),
                ),
                Action::Delete {
                    name,
                    attempt,
                    version,
                } => requests.push(
                    async move {
                        let answer = leases.delete(&name, &version).await;
                        (name, attempt, answer)
                    }
                    .boxed(),
                ),
                Action::Start(shard) => started.push(shard),
                Action::Drain(shard) => self.keeper.drain(shard, crew),
                Action::Drop(shard) => self.keeper.drop(shard),
                Action::Stop(fatal) => ending = Some(Ending::Fatal(fatal)),
                Action::Done => ending = Some(Ending::Left),
            }
        }
        let until = |shard| self.member.deadline(shard).unwrap_or_default();
        let started: Vec<_> = started.into_iter().map(|shard| (shard, until(shard))).collect();
        self.keeper.start(&started, crew);
        self.keeper.renew(until);
        self.lease.set(self.member.until().unwrap_or_default());
        let member = self.member.member(now.mono);
        let members = if member {
            self.member.members(now.mono)
        } else {
            Vec::new()
        };
        metrics::membership(self.keeper.slots.owned().len(), members.len());
        if member && members != crew.members {
            tracing::info!(replicas = names(&members), "members");
            crew.members = members;
        }
        let ready = member && self.synced.all();
        self.ready.store(ready, Ordering::Release);
        ending
    }
}

fn names(members: &[ReplicaId]) -> String {
    let names: Vec<&str> = members.iter().map(ReplicaId::as_str).collect();
    names.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::values::shard::ShardId;

    #[test]
    fn the_end_of_a_lease_that_has_a_successor_is_not_the_end_of_that() {
        let (news, name) = (News::default(), LeaseName::Shard(ShardId(1)));
        let route = |uid: &str| (name.clone(), uid.to_owned());
        let record = Record {
            version: "7".into(),
            holder: None,
            shards: None,
        };
        news.put(Change::Apply((route("second"), record.clone())));
        news.put(Change::Delete(route("first")));
        assert_eq!(news.leases.lock()[&name], Some(record));
        news.put(Change::Delete(route("second")));
        assert_eq!(news.leases.lock()[&name], None);
    }
}
