//! What a replica watches whatever its shards are: Orders, Nodes, and Tickets that lost their labels.

use std::{future::Future, sync::Arc};

use kube::{Api, Client, core::DeserializeGuard, runtime::watcher};

use super::{
    listed::{Listed, Part},
    orders::{OrderInbox, SeenOrder},
    own_nodes::OwnNodes,
    router::{Router, route_ticket},
};
use crate::{
    api,
    domain::{
        order::spec::Order,
        pair::observed::Revision,
        values::{
            ids::{NodeUid, OrderKey, OrderUid, TicketUid},
            shard::ShardCount,
        },
    },
    watch::{
        node::{self, SlimNode},
        relist::{Brake, Change, Relist},
        stream::follow,
        ticket::SlimTicket,
    },
};

/// The watches of a replica.
#[derive(Clone)]
pub(crate) struct CommonWatches {
    /// Reads.
    pub(crate) client: Client,
    /// Told what has been listed.
    pub(crate) listed: Listed,
}

impl CommonWatches {
    /// Follows Orders.
    pub(crate) fn orders(self, inbox: Arc<OrderInbox>) -> impl Future<Output = ()> + Send + 'static {
        let orders: Api<DeserializeGuard<api::Order>> = Api::all(self.client);
        let read = |object: DeserializeGuard<api::Order>| {
            let seen = see_order(object)?;
            let uid = seen.order.uid.clone();
            Some((uid, seen))
        };
        follow::<_, OrderUid, _, _>(
            "Order",
            orders,
            watcher::Config::default(),
            Relist::shared(Brake::Full),
            read,
            move |change| inbox.put(change),
        )
    }

    /// Follows all Nodes, unless the API server sends those of own shards alone: they are followed where
    /// the shards are.
    pub(crate) async fn nodes(self, router: Arc<Router>, own: Arc<OwnNodes>) {
        if own.offered().await {
            self.listed.mark(Part::Nodes);
            return std::future::pending().await;
        }
        let nodes: Api<SlimNode> = Api::all(self.client);
        let config = watcher::Config::default().page_size(node::PAGE);
        let listed = self.listed;
        let relist = Relist::shared(Brake::On);
        follow::<_, NodeUid, _, _>("Node", nodes, config, relist, SlimNode::keyed, move |change| {
            let complete = matches!(change, Change::Listed);
            router.node(change);
            if complete {
                tracing::info!(nodes = router.nodes(), "nodes listed");
                listed.mark(Part::Nodes);
            }
        })
        .await;
    }

    /// Follows Tickets whose labels somebody took: a watch by labels cannot see them.
    pub(crate) fn unlabelled(
        self,
        router: Arc<Router>,
        shards: ShardCount,
    ) -> impl Future<Output = ()> + Send + 'static {
        let tickets: Api<SlimTicket> = Api::all(self.client);
        let config = watcher::Config::default().labels(&format!("!{}", api::LABEL_SHARD));
        let (read, relist) = (route_ticket(shards), Relist::shared(Brake::Off));
        let listed = self.listed;
        follow::<_, TicketUid, _, _>(
            "unlabelled Ticket",
            tickets,
            config,
            relist,
            read,
            move |change| {
                let complete = matches!(change, Change::Listed);
                router.unlabelled(change);
                if complete {
                    listed.mark(Part::Unlabelled);
                }
            },
        )
    }
}

/// An Order, or what can be known of one that cannot be decoded.
fn see_order(object: DeserializeGuard<api::Order>) -> Option<SeenOrder> {
    match object.0 {
        Ok(order) => Some(SeenOrder {
            revision: Revision::parse(order.metadata.resource_version.as_deref()),
            status: Some(order.status.clone().unwrap_or_default()),
            order: Arc::new(Order::from_api(&order)),
        }),
        Err(invalid) => {
            let meta = &invalid.metadata;
            let key = OrderKey::new(meta.namespace.as_deref()?, meta.name.as_deref()?);
            let order = Order::undecodable(
                OrderUid::from(meta.uid.as_deref()?),
                key,
                meta.generation.unwrap_or_default(),
                meta.creation_timestamp
                    .as_ref()
                    .map(|time| time.0)
                    .unwrap_or_default(),
                meta.deletion_timestamp.is_some(),
                &invalid.error,
            );
            tracing::warn!(order = %order.key, error = invalid.error, "the Order cannot be decoded");
            Some(SeenOrder {
                revision: Revision::parse(meta.resource_version.as_deref()),
                order: Arc::new(order),
                status: None,
            })
        }
    }
}
