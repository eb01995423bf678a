//! The exact set of pairs that an Order has, read through the API, with every promise about each
//! checked on the way.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::{
    api::core::v1::{Node, Pod},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use korder::api::{Order, Ticket, ticket::Phase};
use kube::{Api, ResourceExt, api::ListParams, core::PartialObjectMeta};
use serde_json::{Value, json};
use testbed::real::wait;

use super::{
    names,
    world::{Ground, SOON, patience, same},
};

/// A Ticket and its Guardian.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    pub(crate) ticket: Ticket,
    pub(crate) guardian: Pod,
}

/// Pairs by the node's name.
pub(crate) type Pairs = BTreeMap<String, Pair>;

impl Pair {
    /// What changes when anybody touches the pair.
    fn revision(&self) -> [String; 4] {
        let of = |meta: &ObjectMeta| {
            [meta.uid.clone(), meta.resource_version.clone()].map(Option::unwrap_or_default)
        };
        let ([a, b], [c, d]) = (of(&self.ticket.metadata), of(&self.guardian.metadata));
        [a, b, c, d]
    }

    pub(crate) fn ticket_uid(&self) -> &str {
        self.ticket.metadata.uid.as_deref().unwrap_or_default()
    }

    pub(crate) fn guardian_uid(&self) -> &str {
        self.guardian.metadata.uid.as_deref().unwrap_or_default()
    }

    pub(crate) fn ticket_name(&self) -> String {
        self.ticket.name_any()
    }

    pub(crate) fn guardian_name(&self) -> String {
        self.guardian.name_any()
    }
}

impl Ground<'_> {
    /// Waits until the Order's pairs are exactly those of `nodes`, each complete and Reserved.
    pub(crate) async fn pairs(&self, order: &str, nodes: &BTreeSet<String>) -> Result<Pairs> {
        let what = format!(
            "Order {}/{order} to be Reserved on exactly {}",
            self.id,
            brief(nodes)
        );
        wait::until(SOON, &what, async || {
            let pairs = self.look(order).await?;
            let seen: BTreeSet<String> = pairs.keys().cloned().collect();
            ensure!(
                seen == *nodes,
                "missing {:?}, too many {:?}",
                nodes.difference(&seen).collect::<Vec<_>>(),
                seen.difference(nodes).collect::<Vec<_>>()
            );
            Ok(pairs)
        })
        .await
    }

    /// Waits until so many Tickets are Reserved; if they do not come to be, says what some others wait for.
    pub(crate) async fn all_reserved(&self, count: usize) -> Result<()> {
        let reserved = ListParams::default().fields("status.phase=Reserved");
        let all = wait::until(patience(count), "all Tickets to be Reserved", async || {
            let some = self.api::<Ticket>().list_metadata(&reserved).await?.items.len();
            ensure!(some == count, "{some} of {count} are");
            anyhow::Ok(())
        });
        let Err(error) = all.await else {
            return Ok(());
        };
        let others = ListParams::default().fields("status.phase!=Reserved").limit(5);
        let mut waiting = Vec::new();
        for ticket in self.api::<Ticket>().list(&others).await? {
            let guardian = format!("guardian-{}", ticket.name_any());
            let pod = self.api::<Pod>().get_opt(&guardian).await?;
            let node = Api::<Node>::all(self.client())
                .get_opt(&ticket.spec.node_name)
                .await?;
            waiting.push(format!(
                "Ticket {}: {:?}\nGuardian: {:?}\nNode: {:?}",
                ticket.name_any(),
                ticket.status,
                pod.and_then(|pod| pod.status),
                node.and_then(|node| node.status?.conditions),
            ));
        }
        bail!("{error}\n{}", waiting.join("\n"))
    }

    /// The pairs as they are; an error when a promise about one of them does not hold (yet).
    pub(crate) async fn look(&self, order: &str) -> Result<Pairs> {
        let all = ListParams::default();
        let order: Order = self.api().get(order).await?;
        let uid = order.uid().context("an Order without a uid")?;
        let nodes = Api::<Node>::all(self.client()).list_metadata(&all).await?;
        let nodes: BTreeMap<String, PartialObjectMeta<Node>> =
            nodes.into_iter().map(|node| (node.name_any(), node)).collect();
        let of_order = all.labels(&format!("korder.dev/order-uid={uid}"));
        let mut guardians: BTreeMap<String, Pod> = BTreeMap::new();
        for pod in self.api::<Pod>().list(&of_order).await? {
            guardians.insert(pod.name_any(), pod);
        }
        let mut pairs = Pairs::new();
        for ticket in self.api::<Ticket>().list(&of_order).await? {
            let (name, on) = (ticket.name_any(), ticket.spec.node_name.clone());
            let node = nodes
                .get(&on)
                .with_context(|| format!("Ticket {name} is for {on}, which is gone"))?;
            let names = ["", "-1"].map(|suffix| format!("guardian-{name}{suffix}"));
            let guardian = names.iter().find_map(|name| guardians.remove(name));
            let guardian = guardian.with_context(|| format!("Ticket {name} has no Guardian"))?;
            check_ticket(&order, &ticket, node, &guardian.name_any())
                .with_context(|| format!("Ticket {name}"))?;
            check_guardian(&order, &ticket, &guardian).with_context(|| format!("Guardian of {name}"))?;
            if pairs.insert(on.clone(), Pair { ticket, guardian }).is_some() {
                bail!("two Tickets for {on}");
            }
        }
        ensure!(
            guardians.is_empty(),
            "Guardians without a Ticket: {:?}",
            guardians.keys()
        );
        Ok(pairs)
    }

    /// Tickets of an Order that are not Reserved, as (node, reason, message).
    pub(crate) async fn waiting(&self, order: &Order) -> Result<Vec<(String, String, String)>> {
        let of_order = format!("korder.dev/order-uid={}", order.uid().unwrap_or_default());
        let tickets: Vec<Ticket> = self
            .api()
            .list(&ListParams::default().labels(&of_order))
            .await?
            .items;
        let waiting = tickets.into_iter().filter_map(|ticket| {
            let status = ticket.status.unwrap_or_default();
            (status.phase != Phase::Reserved).then(|| {
                let said = [status.reason, status.message].map(Option::unwrap_or_default);
                let [reason, message] = said;
                (ticket.spec.node_name, reason, message)
            })
        });
        Ok(waiting.collect())
    }
}

/// That nobody touched the pairs of `nodes`: same uids, same revisions.
pub(crate) fn untouched<'a>(
    before: &Pairs,
    after: &Pairs,
    nodes: impl IntoIterator<Item = &'a String>,
) -> Result<()> {
    for node in nodes {
        let (before, after) = (before.get(node), after.get(node));
        let (Some(before), Some(after)) = (before, after) else {
            bail!("no pair of {node} to compare");
        };
        ensure!(
            before.revision() == after.revision(),
            "the pair of {node} was touched: {} and {}, then {} and {}",
            json!(before.ticket.metadata),
            json!(before.guardian.metadata),
            json!(after.ticket.metadata),
            json!(after.guardian.metadata)
        );
    }
    Ok(())
}

fn brief(nodes: &BTreeSet<String>) -> String {
    match nodes.len() {
        0..=12 => format!("{nodes:?}"),
        many => format!("{many} nodes"),
    }
}

fn check_ticket(
    order: &Order,
    ticket: &Ticket,
    node: &PartialObjectMeta<Node>,
    guardian: &str,
) -> Result<()> {
    let (order_uid, node_uid) = (order.uid().unwrap_or_default(), node.uid().unwrap_or_default());
    let spec = &ticket.spec;
    same("spec.nodeUID", &spec.node_uid, &node_uid)?;
    let name = names::ticket(&order.name_any(), &order_uid, &node_uid, spec.sequence);
    same("the name", &ticket.name_any(), &name)?;
    ensure!(ticket.metadata.deletion_timestamp.is_none(), "is being deleted");
    let mut labels = order.spec.template.metadata.labels.clone();
    labels.insert("korder.dev/order".to_owned(), order.name_any());
    labels.insert("korder.dev/order-uid".to_owned(), order_uid.clone());
    labels.insert("korder.dev/shard".to_owned(), names::shard(&node_uid));
    labels.insert("korder.dev/node-uid".to_owned(), node_uid);
    same("metadata.labels", ticket.labels(), &labels)?;
    same(
        "metadata.annotations",
        ticket.annotations(),
        &order.spec.template.metadata.annotations,
    )?;
    owned_by(
        ticket.owner_references(),
        "core.korder.dev/v1alpha1",
        "Order",
        &order.name_any(),
        &order_uid,
    )?;
    let wanted = &order.spec.template.spec;
    same("spec.duration", &spec.duration, &wanted.duration)?;
    same("spec.lifecycle", &spec.lifecycle, &wanted.lifecycle)?;
    same("spec.tolerations", &spec.tolerations, &wanted.tolerations)?;
    same(
        "spec.priorityClassName",
        &spec.priority_class_name,
        &wanted.priority_class_name,
    )?;
    same("spec.schedulerName", &spec.scheduler_name, &wanted.scheduler_name)?;
    same("spec.resources", &json!(spec.resources), &resources(order))?;
    ensure!(!spec.template_hash.is_empty(), "no spec.templateHash");
    let status = ticket.status.clone().unwrap_or_default();
    ensure!(
        status.phase == Phase::Reserved,
        "is {:?}: {} {}",
        status.phase,
        status.reason.unwrap_or_default(),
        status.message.unwrap_or_default()
    );
    same("status.podName", &status.pod_name, &Some(guardian.to_owned()))?;
    same(
        "status.reason and message",
        &(status.reason, status.message),
        &(None, None),
    )?;
    ensure!(status.activation_time.is_some(), "no status.activationTime");
    Ok(())
}

/// The template's resources, or what stands for none.
fn resources(order: &Order) -> Value {
    let asked = json!(order.spec.template.spec.resources);
    let none = |list: &Value| list.as_object().is_none_or(serde_json::Map::is_empty);
    if none(&asked["requests"]) && none(&asked["limits"]) {
        json!({ "requests": { "cpu": "100m", "memory": "128Mi" } })
    } else {
        asked
    }
}

fn owned_by(owners: &[OwnerReference], version: &str, kind: &str, name: &str, uid: &str) -> Result<()> {
    let owner = OwnerReference {
        api_version: version.to_owned(),
        kind: kind.to_owned(),
        name: name.to_owned(),
        uid: uid.to_owned(),
        controller: Some(true),
        block_owner_deletion: None,
    };
    ensure!(owners == [owner], "metadata.ownerReferences are {owners:?}");
    Ok(())
}

fn check_guardian(order: &Order, ticket: &Ticket, pod: &Pod) -> Result<()> {
    let uid = |meta: &ObjectMeta| meta.uid.clone().unwrap_or_default();
    let (name, node) = (ticket.name_any(), ticket.spec.node_name.as_str());
    ensure!(pod.metadata.deletion_timestamp.is_none(), "is being deleted");
    owned_by(
        pod.owner_references(),
        "core.korder.dev/v1alpha1",
        "Ticket",
        &name,
        &uid(&ticket.metadata),
    )?;
    let labels = json!({
        "korder.dev/guardian": "true",
        "korder.dev/ticket": name,
        "korder.dev/order-uid": uid(&order.metadata),
        "korder.dev/shard": names::shard(&ticket.spec.node_uid),
    });
    same("metadata.labels", &json!(pod.labels()), &labels)?;
    let annotations = json!({
        "cluster-autoscaler.kubernetes.io/daemonset-pod": "true",
        "cluster-autoscaler.kubernetes.io/safe-to-evict": "true",
        "korder.dev/template-hash": ticket.spec.template_hash,
    });
    same("metadata.annotations", &json!(pod.annotations()), &annotations)?;
    let spec = json!(pod.spec);
    same("spec.nodeName", &spec["nodeName"], &json!(node))?;
    same(
        "status.phase",
        &json!(pod.status.as_ref().and_then(|status| status.phase.clone())),
        &json!("Running"),
    )?;
    let term = json!({ "matchFields": [{ "key": "metadata.name", "operator": "In", "values": [node] }] });
    let pinned = json!({ "nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": [term] } } });
    same("spec.affinity", &spec["affinity"], &pinned)?;
    tolerations(&spec["tolerations"], &json!(order.spec.template.spec.tolerations))?;
    same(
        "spec.securityContext",
        &spec["securityContext"]["runAsNonRoot"],
        &json!(true),
    )?;
    same(
        "the seccomp profile",
        &spec["securityContext"]["seccompProfile"]["type"],
        &json!("RuntimeDefault"),
    )?;
    same(
        "spec.automountServiceAccountToken",
        &spec["automountServiceAccountToken"],
        &json!(false),
    )?;
    same("spec.volumes", &spec["volumes"], &Value::Null)?;
    same(
        "spec.terminationGracePeriodSeconds",
        &spec["terminationGracePeriodSeconds"],
        &json!(0),
    )?;
    same("spec.schedulingGates", &spec["schedulingGates"], &Value::Null)?;
    let class = &order.spec.template.spec.priority_class_name;
    same(
        "spec.priorityClassName",
        &spec["priorityClassName"],
        &json!(class),
    )?;
    container(&spec["containers"], &resources(order))
}

/// The template's tolerations, in whatever order they were added, and only those that the API server adds to
/// every Pod.
fn tolerations(seen: &Value, wanted: &Value) -> Result<()> {
    let none = Vec::new();
    let (seen, wanted) = (
        seen.as_array().unwrap_or(&none),
        wanted.as_array().unwrap_or(&none),
    );
    let missing = wanted.iter().find(|toleration| !seen.contains(toleration));
    ensure!(
        missing.is_none(),
        "spec.tolerations are {seen:?}, without {missing:?}"
    );
    for toleration in seen.iter().filter(|toleration| !wanted.contains(toleration)) {
        let default = ["not-ready", "unreachable"].into_iter().any(|taint| {
            let key = format!("node.kubernetes.io/{taint}");
            *toleration == json!({ "key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300 })
        });
        ensure!(default, "spec.tolerations have {toleration}");
    }
    Ok(())
}

fn container(containers: &Value, resources: &Value) -> Result<()> {
    let containers = containers.as_array().map(Vec::as_slice).unwrap_or_default();
    let [only] = containers else {
        bail!("{} containers", containers.len())
    };
    same(
        "the image",
        &only["image"],
        &json!("registry.k8s.io/pause:3.10.1"),
    )?;
    let mut wanted = resources.clone();
    // The API server fills requests from limits.
    for (name, limit) in resources["limits"].as_object().into_iter().flatten() {
        let request = &mut wanted["requests"][name];
        if request.is_null() {
            *request = limit.clone();
        }
    }
    same("the container's resources", &only["resources"], &wanted)?;
    let security = &only["securityContext"];
    same(
        "allowPrivilegeEscalation",
        &security["allowPrivilegeEscalation"],
        &json!(false),
    )?;
    same(
        "capabilities",
        &security["capabilities"],
        &json!({ "drop": ["ALL"] }),
    )
}
