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

use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, Client, runtime::watcher};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::workers::{Change as WorkerChange, Workers};
use crate::controller::intake::listed::Listed;
use crate::{
    api::LABEL_LEASE,
    domain::values::{
        shard::{ShardCount, ShardId},
        time::{Mono, Now},
    },
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
pub(crate) enum Ending {
    /// Everything has been given up as it was asked for.
    Left,
    /// It must not go on.
    Fatal(Fatal),
}

/// What a membership needs.
pub(crate) struct Membership {
    /// For Leases alone.
    pub(crate) client: Client,
    /// Where the Leases are.
    pub(crate) namespace: String,
    /// How many shards there are.
    pub(crate) shards: ShardCount,
    /// The times that Leases are held by.
    pub(crate) times: LeaseTimes,
    /// The lease machine.
    pub(crate) member: Member,
    /// The work on shards.
    pub(crate) workers: Workers,
    /// Set to the membership's own deadline.
    pub(crate) lease: Arc<Deadline>,
    /// Whether this is a member that knows all nodes.
    pub(crate) ready: Arc<AtomicBool>,
    /// What is listed once for all shards.
    pub(crate) listed: Listed,
    /// The time.
    pub(crate) clock: Clock,
}

type LeaseRoute = (LeaseName, String);

/// What the watch of Leases has shown and the machine has not seen: the latest of each.
#[derive(Default)]
struct LeaseInbox {
    leases: Mutex<BTreeMap<LeaseName, Option<Record>>>,
    /// Which object of each name the watch has shown last.
    uids: Mutex<BTreeMap<LeaseName, String>>,
    listed: AtomicBool,
    bell: Notify,
}

impl LeaseInbox {
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
            Change::Listed => self.listed.store(true, Ordering::Release),
        }
        self.bell.notify_one();
    }
}

type Answered = (LeaseName, Attempt, LeaseResult);
type Requests = FuturesUnordered<BoxFuture<'static, Answered>>;

impl Membership {
    /// Holds what it should until `leave`, and then gives it up.
    pub(crate) async fn run(mut self, leave: CancellationToken) -> Ending {
        let inbox = Arc::new(LeaseInbox::default());
        let watch = self.watch(inbox.clone());
        tokio::pin!(watch);
        let leases = Leases::new(self.client.clone(), &self.namespace, self.shards, self.times);
        let (mut requests, mut members) = (Requests::new(), Vec::new());
        let (mut leaving, mut prepared) = (false, false);
        loop {
            if let Some(ending) = self.act(&leases, &requests, &mut members) {
                self.ready.store(false, Ordering::Release);
                return ending;
            }
            let wake = self.member.wake();
            tokio::select! {
                biased; // an answer may move a deadline that has come
                Some((name, attempt, result)) = requests.next() => {
                    metrics::lease_request(result.word());
                    self.member.answered(&name, attempt, result, self.clock.mono());
                }
                () = inbox.bell.notified() => self.look(&inbox),
                change = self.workers.change() => match change {
                    WorkerChange::Drained(drained) => if self.workers.release(&drained) {
                        self.member.drained(drained.0);
                    },
                    WorkerChange::Broken(owned) => self.workers.broken(&owned),
                    WorkerChange::Rebuild(shard) => {
                        self.workers.rebuild(shard, self.member.deadline(shard));
                    }
                },
                () = leave.cancelled(), if !leaving => {
                    leaving = true;
                    self.member.drain(self.clock.mono());
                }
                () = self.listed.wait(), if !prepared => {
                    prepared = true;
                    self.member.prepared();
                }
                () = &mut watch => {}
                () = self.clock.sleep_until(wake) => {}
            }
        }
    }

    fn watch(&self, inbox: Arc<LeaseInbox>) -> impl Future<Output = ()> + Send + 'static {
        let api = Api::<Lease>::namespaced(self.client.clone(), &self.namespace);
        let config = watcher::Config::default().labels(LABEL_LEASE);
        let known = |lease: Lease| {
            let (name, record) = read(&lease)?;
            let route = (name, lease.metadata.uid.unwrap_or_default());
            Some((route.clone(), (route, record)))
        };
        let relist = Relist::shared(Brake::Off);
        follow::<_, String, _, _>("Lease", api, config, relist, known, move |change| {
            inbox.put(change)
        })
    }

    fn look(&mut self, inbox: &LeaseInbox) {
        let listed = inbox.listed.load(Ordering::Acquire);
        let now = self.clock.mono();
        for (name, record) in std::mem::take(&mut *inbox.leases.lock()) {
            self.member.saw(&name, record, now);
        }
        if listed {
            self.member.listed();
        }
    }

    /// Carries out what is due, and tells everybody until when they may go on.
    fn act(&mut self, leases: &Leases, requests: &Requests, members: &mut Vec<ReplicaId>) -> Option<Ending> {
        let now = self.clock.now();
        let (started, ending) = self.carry_out(leases, requests, now);
        let until = |shard| self.member.deadline(shard).unwrap_or_default();
        let started: Vec<_> = started.into_iter().map(|shard| (shard, until(shard))).collect();
        self.workers.start(&started);
        self.workers.renew(until);
        self.lease.set(self.member.until().unwrap_or_default());
        self.show(members, now.mono);
        ending
    }

    /// Sends what is to be requested; returns the shards that begin, and how the membership ends, if it does.
    fn carry_out(
        &mut self,
        leases: &Leases,
        requests: &Requests,
        now: Now,
    ) -> (Vec<ShardId>, Option<Ending>) {
        let (mut started, mut ending) = (Vec::new(), None);
        for action in self.member.poll(now.mono) {
            let leases = leases.clone();
            match action {
                Action::Put {
                    name,
                    attempt,
                    version,
                    holder,
                } => requests.push(Box::pin(async move {
                    let sent = leases.put(&name, version.as_deref(), holder.as_ref(), now.server);
                    let result = sent.await;
                    (name, attempt, result)
                })),
                Action::Get { name, attempt } => requests.push(Box::pin(async move {
                    let result = leases.get(&name).await;
                    (name, attempt, result)
                })),
                Action::Delete {
                    name,
                    attempt,
                    version,
                } => requests.push(Box::pin(async move {
                    let result = leases.delete(&name, &version).await;
                    (name, attempt, result)
                })),
                Action::Start(shard) => started.push(shard),
                Action::Drain(shard) => self.workers.drain(shard),
                Action::Drop(shard) => self.workers.drop(shard),
                Action::Stop(fatal) => ending = Some(Ending::Fatal(fatal)),
                Action::Done => ending = Some(Ending::Left),
            }
        }
        (started, ending)
    }

    /// Shows what this replica has and who else lives; `known` are the replicas that were last said to.
    fn show(&self, known: &mut Vec<ReplicaId>, now: Mono) {
        let member = self.member.member(now);
        let members = if member {
            self.member.members(now)
        } else {
            Vec::new()
        };
        metrics::membership(self.workers.owned(), members.len());
        if member && members != *known {
            tracing::info!(replicas = names(&members), "members");
            *known = members;
        }
        let ready = member && self.listed.complete();
        self.ready.store(ready, Ordering::Release);
    }
}

fn names(members: &[ReplicaId]) -> String {
    let names: Vec<&str> = members.iter().map(ReplicaId::as_str).collect();
    names.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_lease_that_has_a_successor_is_not_the_end_of_that() {
        let (inbox, name) = (LeaseInbox::default(), LeaseName::Shard(ShardId(1)));
        let route = |uid: &str| (name.clone(), uid.to_owned());
        let record = Record {
            version: "7".into(),
            holder: None,
            shards: None,
        };
        inbox.put(Change::Apply((route("second"), record.clone())));
        inbox.put(Change::Delete(route("first")));
        assert_eq!(inbox.leases.lock()[&name], Some(record));
        inbox.put(Change::Delete(route("second")));
        assert_eq!(inbox.leases.lock()[&name], None);
    }
}
