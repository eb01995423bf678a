//! What looks after Orders: builds the index, tells the shards, removes all when an Order goes.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::{sync::Notify, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::listed::{Listed, Part};
use crate::controller::{counts::rollup::Reports, owned::shard::OwnedShards};
use crate::{
    api::OrderStatus,
    domain::{
        order::spec::Order,
        pair::observed::Revision,
        values::ids::{Namespace, OrderUid},
    },
    env::metrics,
    index::{Index, Snapshot},
    watch::relist::Change,
    write::Writer,
};

/// After an Order's Tickets were removed at once, the watches get this long to show it before what
/// is left is removed one by one.
const SHOWN_WITHIN: Duration = Duration::from_secs(3);
/// First and longest pause before a removal that failed is tried again. After that the shards remove
/// what is left one by one, so that no Order waits for another that cannot be removed.
const AGAIN_AFTER: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(16));
/// Orders removed at a time.
const PURGES: usize = 4;

/// An Order as its watch shows it.
pub(crate) struct SeenOrder {
    pub(crate) order: Arc<Order>,
    /// `metadata.resourceVersion`.
    pub(crate) revision: Revision,
    /// Its status as last written, if it can be read.
    pub(crate) status: Option<OrderStatus>,
}

/// Changes of Orders that have yet to be looked at: the latest per Order.
#[derive(Default)]
pub(crate) struct OrderInbox {
    changes: Mutex<BTreeMap<OrderUid, Option<SeenOrder>>>,
    listed: AtomicBool,
    bell: Notify,
}

impl OrderInbox {
    /// An Order changed or is gone.
    pub(crate) fn put(&self, change: Change<SeenOrder, OrderUid>) {
        match change {
            Change::Apply(seen) => self.changes.lock().insert(seen.order.uid.clone(), Some(seen)),
            Change::Delete(uid) => self.changes.lock().insert(uid, None),
            Change::Listed => {
                self.listed.store(true, Ordering::Release);
                None
            }
        };
        self.bell.notify_one();
    }
}

/// An Order that goes, and where its Tickets are.
type Going = (OrderUid, Namespace);

/// What looks after Orders.
pub(crate) struct Orders {
    /// What comes in.
    pub(crate) inbox: Arc<OrderInbox>,
    /// Where the Orders are published.
    pub(crate) snapshot: Arc<ArcSwap<Snapshot>>,
    pub(crate) owned_shards: Arc<OwnedShards>,
    /// Where counts are summed.
    pub(crate) reports: Arc<Reports>,
    /// What removes Tickets at once.
    pub(crate) writer: Writer,
    /// Told once all Orders have been listed and published.
    pub(crate) listed: Listed,
}

impl Orders {
    /// Works until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let (mut index, mut purging, mut purges) = (Index::default(), BTreeSet::new(), JoinSet::new());
        let mut waiting: Vec<Going> = Vec::new();
        loop {
            while purges.len() < PURGES
                && let Some((uid, namespace)) = waiting.pop()
            {
                purges.spawn(purge(
                    self.writer.clone(),
                    self.owned_shards.clone(),
                    uid,
                    namespace,
                ));
            }
            tokio::select! {
                biased; // stopping comes first; an ended removal makes room for the next
                () = stop.cancelled() => return,
                Some(ended) = purges.join_next() => {
                    let uid = ended.expect("a removal neither panics nor is cancelled");
                    self.owned_shards.put_all(|inbox| { inbox.purges.insert(uid.clone(), false); });
                    purging.remove(&uid);
                }
                () = self.inbox.bell.notified() => {
                    for (uid, namespace) in self.look(&mut index) {
                        if purging.insert(uid.clone()) {
                            waiting.push((uid, namespace));
                        }
                    }
                }
            }
        }
    }

    /// Publishes what changed; returns the Orders that go.
    fn look(&self, index: &mut Index) -> Vec<Going> {
        let all_listed = self.inbox.listed.load(Ordering::Acquire);
        let changes = std::mem::take(&mut *self.inbox.changes.lock());
        let (mut changed, mut going) = (Vec::new(), Vec::new());
        for (uid, seen) in changes {
            let (differs, goes) = match seen {
                Some(seen) => self.apply(index, seen),
                None => self.delete(index, &uid),
            };
            going.extend(goes);
            if differs {
                changed.push(uid);
            }
        }
        if !changed.is_empty() {
            self.publish(index, &changed, &going);
        }
        if all_listed {
            self.listed.mark(Part::Orders);
        }
        going
    }

    /// Returns whether the Order differs from what is known, and the Order if it goes.
    fn apply(&self, index: &mut Index, seen: SeenOrder) -> (bool, Option<Going>) {
        let order = seen.order;
        self.reports.order(&order, seen.revision, seen.status);
        if index.order(&order.uid).is_some_and(|before| **before == *order) {
            return (false, None);
        }
        let goes = order.deleting.then(|| going(&order));
        index.apply(order);
        (true, goes)
    }

    /// Returns whether the Order was known, and the Order if it was.
    fn delete(&self, index: &mut Index, uid: &OrderUid) -> (bool, Option<Going>) {
        self.reports.forget(uid);
        let gone = index.delete(uid);
        if let Some(order) = &gone {
            tracing::debug!(order = %order.key, "order gone");
        }
        (gone.is_some(), gone.as_deref().map(going))
    }

    fn publish(&self, index: &mut Index, changed: &[OrderUid], going: &[Going]) {
        let snapshot = index.publish();
        metrics::orders(snapshot.orders().count());
        self.snapshot.store(snapshot);
        self.owned_shards.put_all(|inbox| {
            inbox.orders.extend(changed.iter().cloned());
            let purges = going.iter().map(|(uid, _)| (uid.clone(), true));
            inbox.purges.extend(purges);
        });
    }
}

fn going(order: &Order) -> Going {
    (order.uid.clone(), order.key.namespace.clone())
}

/// Removes what the Order has in the shards that are owned at the moment.
async fn purge(
    writer: Writer,
    owned_shards: Arc<OwnedShards>,
    uid: OrderUid,
    namespace: Namespace,
) -> OrderUid {
    let (mut pause, longest) = AGAIN_AFTER;
    loop {
        if writer
            .purge(&uid, &namespace, &|ends| owned_shards.begin_write(ends))
            .await
            || pause > longest
        {
            break;
        }
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
    tokio::time::sleep(SHOWN_WITHIN).await;
    uid
}
