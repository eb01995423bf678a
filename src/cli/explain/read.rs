//! What `korder explain` reads, and what it says when it cannot.
//!
//! Lists are read in pages and reduced object by object, so that memory does not grow with the
//! cluster.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::{anyhow, bail};
use kube::{
    Api,
    api::ListParams,
    core::{DeserializeGuard, PartialObjectMeta},
};

use super::{
    judge::{SeenGuardian, SeenOrder, SeenPair, Tally},
    report::{StrategyReport, SummaryReport},
};
use crate::{
    api::{self, LABEL_ORDER_UID},
    cli::cluster::{Cluster, NOT_FOUND, not_installed, pages},
    domain::{
        order::spec::Order,
        pair::{
            names::{cover_name, guardian_name},
            observed::TicketView,
        },
        values::{
            ids::{OrderKey, TicketKey},
            shard::ShardCount,
        },
    },
    watch::{guardian::SlimPod, node::SlimNode, ticket::SlimTicket},
};

impl Cluster {
    pub(super) async fn order(&self, name: &str) -> anyhow::Result<SeenOrder> {
        let orders: Api<DeserializeGuard<api::Order>> = Api::namespaced(self.client.clone(), &self.namespace);
        match self.found("get orders", orders.get(name).await)? {
            Some(found) => Ok(see_order(found, &self.namespace, name)),
            None => Err(self.no_order(name).await),
        }
    }

    /// Why there is no Order of this name: no CRD, another namespace, or none at all.
    async fn no_order(&self, name: &str) -> anyhow::Error {
        let here = &self.namespace;
        let all: Api<PartialObjectMeta<api::Order>> = Api::all(self.client.clone());
        let named = ListParams::default().fields(&format!("metadata.name={name}"));
        match all.list(&named).await {
            Err(kube::Error::Api(status)) if status.code == NOT_FOUND => not_installed::<api::Order>(),
            Ok(list) if !list.items.is_empty() => {
                let namespaces = list
                    .items
                    .into_iter()
                    .filter_map(|order| order.metadata.namespace);
                let namespaces: Vec<_> = namespaces.collect();
                anyhow!(
                    "Order {name} not found in namespace {here}, but in {}: name it with -n",
                    namespaces.join(", ")
                )
            }
            Ok(_) => anyhow!("Order {name} not found in namespace {here}, nor in any other"),
            Err(_) => anyhow!("Order {name} not found in namespace {here}: name another with -n"),
        }
    }

    pub(super) async fn pair<'a>(&self, order: &'a SeenOrder, node: &str) -> anyhow::Result<SeenPair<'a>> {
        let nodes: Api<SlimNode> = Api::all(self.client.clone());
        let found = self.found("get nodes", nodes.get(node).await)?;
        let now = self.now();
        let Some(node) = found.and_then(|found| found.record(None, now.server)) else {
            bail!("Node {node} not found: `kubectl get nodes` lists them");
        };
        // Not by labels, which may have been taken off.
        let on_node = ListParams::default().fields(&format!("spec.nodeName={}", node.name));
        let mut tickets = Vec::new();
        self.tickets(on_node, |ticket| {
            if ticket.order == order.order.uid {
                tickets.push(ticket);
            }
        })
        .await?;
        let mut guardians = BTreeMap::new();
        for ticket in &tickets {
            guardians.insert(ticket.key.clone(), self.guardians(ticket).await?);
        }
        Ok(SeenPair {
            order,
            node: Arc::new(node),
            tickets,
            guardians,
            now,
        })
    }

    /// The Pods that have one of the two names of the Ticket's Guardian.
    async fn guardians(&self, ticket: &TicketView) -> anyhow::Result<Vec<SeenGuardian>> {
        let TicketKey { namespace, name } = &ticket.key;
        let pods: Api<SlimPod> = Api::namespaced(self.client.clone(), namespace.as_str());
        let plain = guardian_name(name);
        let mut found = Vec::new();
        for name in [cover_name(name, &plain), plain] {
            let pod = self.found("get pods", pods.get(&name).await)?;
            found.extend(pod.map(|pod| match pod.view() {
                Some((_, view)) if view.ticket_uid == ticket.uid => SeenGuardian::Ours(view),
                _ => SeenGuardian::Foreign(name),
            }));
        }
        Ok(found)
    }

    pub(super) async fn summary(&self, order: &SeenOrder, grace: Duration) -> anyhow::Result<SummaryReport> {
        let order = &order.order;
        let mut tally = Tally::new(order, grace);
        let labelled = ListParams::default().labels(&format!("{LABEL_ORDER_UID}={}", order.uid));
        self.tickets(labelled, |ticket| tally.ticket(ticket)).await?;
        let (nodes, now): (Api<SlimNode>, _) = (Api::all(self.client.clone()), self.now());
        let listed = pages(&nodes, ListParams::default(), |node| {
            let node = node.record(None, now.server);
            node.iter().for_each(|node| tally.node(node));
        })
        .await;
        listed.map_err(|error| self.failed("list nodes", error))?;
        Ok(tally.summary())
    }

    /// Hands over all Tickets of the namespace that `params` leave.
    async fn tickets(&self, params: ListParams, mut each: impl FnMut(TicketView)) -> anyhow::Result<()> {
        let tickets: Api<SlimTicket> = Api::namespaced(self.client.clone(), &self.namespace);
        // Only the shard, which nobody asks for here, depends on the count.
        let count = ShardCount::try_from(1).expect("1 is a power of two");
        let listed = pages(&tickets, params, |ticket| {
            let view = ticket.view(count).map(|(_, view)| TicketView {
                labels_intact: true,
                ..view
            });
            view.into_iter().for_each(&mut each);
        })
        .await;
        listed.map_err(|error| match error {
            kube::Error::Api(status) if status.code == NOT_FOUND => not_installed::<api::Ticket>(),
            error => self.failed("list tickets", error),
        })
    }
}

pub(super) fn see_order(object: DeserializeGuard<api::Order>, namespace: &str, name: &str) -> SeenOrder {
    match object.0 {
        Ok(order) => SeenOrder {
            strategy: Some(strategy(&order)),
            order: Arc::new(Order::from_api(&order)),
            status: order.status.unwrap_or_default(),
        },
        Err(invalid) => {
            let meta = invalid.metadata;
            let order = Order::undecodable(
                meta.uid.unwrap_or_default().into(),
                OrderKey::new(namespace, name),
                meta.generation.unwrap_or_default(),
                meta.creation_timestamp.map(|time| time.0).unwrap_or_default(),
                meta.deletion_timestamp.is_some(),
                &invalid.error,
            );
            SeenOrder {
                order: Arc::new(order),
                strategy: None,
                status: api::OrderStatus::default(),
            }
        }
    }
}

fn strategy(order: &api::Order) -> StrategyReport {
    let (strategy, template) = (&order.spec.strategy, &order.spec.template.spec);
    StrategyReport {
        kind: strategy.kind,
        refresh_policy: strategy.refresh_policy,
        schedule: strategy.schedule.clone(),
        time_zone: strategy.time_zone.clone(),
        start_time: template.start_time.clone(),
        duration: template.duration.clone(),
    }
}
