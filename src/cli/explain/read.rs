//! What `korder explain` reads, and what it says when it cannot.
//!
//! Lists are read in pages and reduced object by object, so that memory does not grow with the
//! cluster.

use std::{collections::BTreeMap, fmt::Debug, sync::Arc, time::Duration};

use anyhow::{Context, anyhow, bail};
use jiff::Timestamp;
use kube::{
    Api, Client, Resource,
    api::ListParams,
    core::{DeserializeGuard, PartialObjectMeta},
};
use serde::de::DeserializeOwned;

use super::{
    judge::{SeenGuardian, SeenOrder, SeenPair, Tally},
    report::{StrategyReport, SummaryReport},
};
use crate::{
    api::{self, LABEL_ORDER_UID},
    domain::{
        ids::{OrderKey, TicketKey},
        observed::TicketView,
        order::Order,
        ticket::{cover_name, guardian_name},
        time::Now,
    },
    runtime::{clients::Clients, clock::Clock, error::one_line},
    shard::ShardCount,
    watch::{guardian::SlimPod, node::SlimNode, ticket::SlimTicket},
};

/// Objects per page.
const PAGE: u32 = 500;
/// How long an API server that does not answer is waited for.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Also the answer, as plain text, for a kind that is not installed.
const NOT_FOUND: u16 = 404;

/// Reads one cluster.
pub(super) struct Reader {
    client: Client,
    clock: Clock,
    namespace: String,
    server: String,
}

impl Reader {
    /// A reader for the cluster of KUBECONFIG, or the one this Pod runs in.
    pub(super) async fn connect(namespace: Option<String>) -> anyhow::Result<Self> {
        let remedy = "set KUBECONFIG to a kubeconfig file, or run in a Pod";
        let mut config = kube::Config::infer()
            .await
            .map_err(|error| anyhow!("no cluster: {}: {remedy}", one_line(&error)))?;
        config.connect_timeout = Some(ANSWER_WITHIN);
        config.read_timeout = Some(ANSWER_WITHIN);
        let namespace = namespace.unwrap_or_else(|| config.default_namespace.clone());
        let (clock, server) = (Clock::system(), config.cluster_url.to_string());
        let clients = Clients::new(config, &clock).context("cannot make a client")?;
        Ok(Self {
            client: clients.read,
            clock,
            namespace,
            server,
        })
    }

    /// Both times, the API server's in whole seconds, as the API writes times.
    pub(super) fn now(&self) -> Now {
        let now = self.clock.now();
        let second = Timestamp::from_second(now.server.as_second());
        Now {
            server: second.expect("seconds of a valid time"),
            ..now
        }
    }

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

    /// The object, none if it does not exist.
    fn found<K>(&self, what: &str, answer: kube::Result<K>) -> anyhow::Result<Option<K>> {
        match answer {
            Ok(object) => Ok(Some(object)),
            Err(kube::Error::Api(status)) if status.code == NOT_FOUND => Ok(None),
            Err(error) => Err(self.failed(what, error)),
        }
    }

    /// An answer that was none, or not the one asked for.
    fn failed(&self, what: &str, error: kube::Error) -> anyhow::Error {
        match error {
            kube::Error::Api(status) => match status.code {
                401 => anyhow!("the API server does not know who asks: check the user of the kubeconfig"),
                403 => anyhow!("cannot {what}: {}: ask for that permission", status.message),
                _ => anyhow!("cannot {what}: {}", status.message),
            },
            kube::Error::SerdeError(error) => anyhow!("cannot {what}: {error}"),
            error => anyhow!(
                "the API server at {} does not answer: {}: check the kubeconfig",
                self.server,
                one_line(&error)
            ),
        }
    }
}

fn not_installed<K: Resource<DynamicType = ()>>() -> anyhow::Error {
    anyhow!(
        "the CRD {}.{} is not installed: install it with `korder crds | kubectl apply --server-side -f -`",
        K::plural(&()),
        K::group(&())
    )
}

/// All objects, page by page.
async fn pages<K>(api: &Api<K>, params: ListParams, mut each: impl FnMut(K)) -> kube::Result<()>
where
    K: Resource + Clone + DeserializeOwned + Debug,
{
    let mut params = params.limit(PAGE);
    loop {
        let page = api.list(&params).await?;
        page.items.into_iter().for_each(&mut each);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(()),
        }
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
