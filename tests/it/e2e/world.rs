//! The shared control plane with korder beside it, and the ground that one trial stands on: a
//! namespace, nodes labelled for it, Orders that select them.

use std::{
    collections::BTreeSet,
    fmt::Display,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use korder::api::{Order, Ticket};
use kube::{
    Api, Client, ResourceExt,
    api::{ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use testbed::real::{
    AuditEntry, AuditLog, KorderConfig, KorderProcess, Mark, NodeSpec, Plane, PlaneConfig, create_nodes,
    wait, wait_nodes_ready,
};
use tokio::sync::{Mutex, RwLock};

/// Who korder is to the API server.
pub(crate) const KORDER: &str = "system:serviceaccount:korder-system:korder";
/// `--not-ready-grace` of the shared korder.
pub(crate) const GRACE: Duration = Duration::from_secs(3);
/// How long anything may take that korder does at once; generous, for the machine may be busy.
pub(crate) const SOON: Duration = Duration::from_secs(45);

/// The control plane and korder.
pub(crate) struct World {
    pub(crate) korder: RwLock<KorderProcess>,
    pub(crate) plane: Plane,
    /// When the API server was away: one that starts forbids everything until it has read the roles.
    pub(crate) away: Mutex<Vec<(Timestamp, Timestamp)>>,
    crowd: Mutex<usize>,
}

impl World {
    /// Starts the plane, installs what `deploy/` holds and starts korder under its ServiceAccount.
    pub(crate) async fn start(name: &str) -> Result<Self> {
        let plane = Plane::start(PlaneConfig {
            name: name.to_owned(),
            heartbeat: Some(Duration::from_secs(10)),
            scheduler_qps: (500, 1000),
            audit_bodies: vec![("core.korder.dev".to_owned(), "tickets".to_owned())],
            ..PlaneConfig::default()
        })
        .await?;
        plane.apply_strictly(&kustomized(&plane).await?).await?;
        let korder = start_korder(&plane, "korder", &[]).await?;
        korder.wait_ready(SOON).await?;
        Ok(Self {
            korder: RwLock::new(korder),
            plane,
            away: Mutex::default(),
            crowd: Mutex::default(),
        })
    }

    /// At least `count` nodes that trials which run alone share, `crowd-0`, `crowd-1`, …: the label
    /// `crowd` is a number, for an affinity with `Lt`. Made once.
    pub(crate) async fn crowd(&self, count: usize) -> Result<BTreeSet<String>> {
        let mut made = self.crowd.lock().await;
        let name = |n: usize| format!("crowd-{n}");
        if *made < count {
            let spec = |n: usize| NodeSpec::new(name(n)).label("crowd", &n.to_string());
            create_nodes(&self.plane.client(), (*made..count).map(spec)).await?;
            wait_nodes_ready(&self.plane.client(), "crowd", count, SOON * 4).await?;
            *made = count;
        }
        Ok((0..count).map(name).collect())
    }

    /// The ends of all logs.
    pub(crate) async fn logs(&self) -> String {
        let korder = self.korder.read().await.log_tail(30);
        format!("--- korder\n{korder}\n{}", self.plane.logs_tail(3))
    }
}

/// A directory of manifests.
pub(crate) fn deploy(part: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(part)
}

/// What `kubectl kustomize` makes of `deploy/`.
pub(crate) async fn kustomized(plane: &Plane) -> Result<String> {
    let directory = deploy("");
    let directory = directory.to_str().context("a path that is not UTF-8")?;
    plane.kubectl(&["kustomize", directory]).await
}

/// Starts korder beside `plane`, under the ServiceAccount of `deploy/rbac`, with the trials' grace.
pub(crate) async fn start_korder(plane: &Plane, name: &str, args: &[&str]) -> Result<KorderProcess> {
    let mut all = vec!["--not-ready-grace".to_owned(), format!("{}s", GRACE.as_secs())];
    all.extend(args.iter().map(ToString::to_string));
    KorderProcess::start(KorderConfig {
        binary: env!("CARGO_BIN_EXE_korder").into(),
        kubeconfig: plane
            .service_account_kubeconfig("korder-system", "korder")
            .await?,
        name: name.to_owned(),
        log_dir: plane.dir().to_owned(),
        args: all,
        env: vec![("KORDER_LOG".to_owned(), "info,korder=debug".to_owned())],
    })
}

/// How long something may take that is done for so many nodes, also beside other work.
pub(crate) fn patience(count: usize) -> Duration {
    SOON * 4 + Duration::from_millis(500) * u32::try_from(count).expect("fewer than the tests have")
}

/// The time on this machine, which is also the API server's.
#[expect(clippy::disallowed_methods, reason = "a trial measures real time")]
pub(crate) fn now() -> Timestamp {
    Timestamp::now()
}

/// What one trial has for itself.
pub(crate) struct Ground<'a> {
    pub(crate) world: &'a World,
    /// The namespace, also the prefix of the nodes' names and the value of their label `test`.
    pub(crate) id: String,
}

impl<'a> Ground<'a> {
    /// A new namespace, under Pod Security `restricted`, in which Pods can be made.
    pub(crate) async fn prepare(world: &'a World) -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let id = format!("t{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let labels = json!({ "pod-security.kubernetes.io/enforce": "restricted" });
        let namespace = serde_json::from_value(json!({ "metadata": { "name": id, "labels": labels } }))?;
        let namespaces: Api<Namespace> = Api::all(world.plane.client());
        namespaces.create(&PostParams::default(), &namespace).await?;
        world.plane.wait_service_account(&id, "default").await?;
        Ok(Self { world, id })
    }

    /// Deletes the Orders, sees that nothing of theirs is left, and lets namespace and nodes go.
    pub(crate) async fn clear(&self) -> Result<()> {
        let all = ListParams::default();
        let (client, now) = (self.client(), DeleteParams::default());
        let orders: Api<Order> = self.api();
        orders.delete_collection(&now, &all).await?;
        let left = wait::until(
            SOON * 4,
            "all Tickets and Guardians to be gone",
            async || match self.left().await? {
                left if left.is_empty() => Ok(()),
                left => Err(anyhow::anyhow!("left: {left:?}")),
            },
        );
        left.await?;
        let namespaces: Api<Namespace> = Api::all(client.clone());
        namespaces.delete(&self.id, &now).await?;
        let nodes: Api<Node> = Api::all(client);
        nodes
            .delete_collection(&now, &all.labels(&self.selector()))
            .await?;
        Ok(())
    }

    /// Tickets and Guardians in the namespace that korder made.
    pub(crate) async fn left(&self) -> Result<BTreeSet<String>> {
        let tickets = self.api::<Ticket>().list(&ListParams::default()).await?;
        let guardians = ListParams::default().labels("korder.dev/guardian");
        let pods = self.api::<Pod>().list(&guardians).await?;
        let made = tickets
            .iter()
            .filter(|ticket| !ticket.owner_references().is_empty());
        let names = made.map(|ticket| format!("ticket/{}", ticket.name_any()));
        Ok(names
            .chain(pods.iter().map(|pod| format!("pod/{}", pod.name_any())))
            .collect())
    }

    pub(crate) fn client(&self) -> Client {
        self.world.plane.client()
    }

    pub(crate) fn audit(&self) -> AuditLog {
        self.world.plane.audit()
    }

    /// Objects of the namespace.
    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client(), &self.id)
    }

    /// The label selector of the trial's nodes.
    pub(crate) fn selector(&self) -> String {
        format!("test={}", self.id)
    }

    /// The name of the trial's node number `n`.
    pub(crate) fn node(&self, n: usize) -> String {
        format!("{}-{n}", self.id)
    }

    /// The names of several.
    pub(crate) fn names(&self, numbers: impl IntoIterator<Item = usize>) -> BTreeSet<String> {
        numbers.into_iter().map(|n| self.node(n)).collect()
    }

    /// A node to create, with the trial's label.
    pub(crate) fn spec(&self, n: usize) -> NodeSpec {
        NodeSpec::new(self.node(n)).label("test", &self.id)
    }

    /// Creates nodes and waits until they can be used.
    pub(crate) async fn add(&self, specs: impl IntoIterator<Item = NodeSpec>) -> Result<Vec<Node>> {
        let nodes = create_nodes(&self.client(), specs).await?;
        for node in &nodes {
            let named = format!(
                "kubernetes.io/hostname={}",
                node.labels()["kubernetes.io/hostname"]
            );
            wait_nodes_ready(&self.client(), &named, 1, SOON).await?;
        }
        Ok(nodes)
    }

    /// Creates the plain nodes `0..count`.
    pub(crate) async fn nodes(&self, count: usize) -> Result<BTreeSet<String>> {
        create_nodes(&self.client(), (0..count).map(|n| self.spec(n))).await?;
        wait_nodes_ready(&self.client(), &self.selector(), count, SOON).await?;
        Ok(self.names(0..count))
    }

    /// An Order for the trial's nodes that asks for a little; `template` is merged into its
    /// `spec.template.spec`.
    pub(crate) fn order(&self, name: &str, template: Value) -> Value {
        let mut order = json!({
            "apiVersion": "core.korder.dev/v1alpha1",
            "kind": "Order",
            "metadata": { "name": name, "namespace": self.id },
            "spec": { "daemonSet": true, "template": { "spec": {
                "nodeSelector": { "test": self.id },
                "resources": { "requests": { "cpu": "100m", "memory": "64Mi" } },
            }}},
        });
        merge(&mut order["spec"]["template"]["spec"], template);
        order
    }

    /// Orders as they are written and stored, mistakes included.
    pub(crate) fn raw(&self) -> Api<DynamicObject> {
        Api::namespaced_with(self.client(), &self.id, &ApiResource::erase::<Order>(&()))
    }

    /// Creates an Order as it is written, mistakes included.
    pub(crate) async fn create(&self, order: &Value) -> kube::Result<Order> {
        let object = serde_json::from_value(order.clone()).map_err(kube::Error::SerdeError)?;
        let created = self.raw().create(&PostParams::default(), &object).await?;
        let created = serde_json::to_value(created).and_then(serde_json::from_value);
        created.map_err(kube::Error::SerdeError)
    }

    /// Creates an Order for the first `count` nodes of [`World::crowd`].
    pub(crate) async fn ask_crowd(&self, name: &str, count: usize, mut template: Value) -> Result<Order> {
        let first = json!({ "key": "crowd", "operator": "Lt", "values": [count.to_string()] });
        template["nodeSelector"] = Value::Null;
        template["affinity"] = json!({ "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{ "matchExpressions": [first] }] } } });
        self.ask(name, template).await
    }

    /// Creates the Order of [`Self::order`].
    pub(crate) async fn ask(&self, name: &str, template: Value) -> Result<Order> {
        let created = self.create(&self.order(name, template)).await;
        created.with_context(|| format!("cannot create Order {name}"))
    }

    /// Edits an Order's `spec` by a merge patch.
    pub(crate) async fn edit(&self, name: &str, spec: Value) -> Result<Order> {
        let patch = Patch::Merge(json!({ "spec": spec }));
        let edited = self.api().patch(name, &PatchParams::default(), &patch).await;
        edited.with_context(|| format!("cannot edit Order {name}"))
    }

    /// Edits an Order's `spec.template.spec` by a merge patch.
    pub(crate) async fn edit_template(&self, name: &str, template: Value) -> Result<Order> {
        self.edit(name, json!({ "template": { "spec": template } })).await
    }

    /// Waits until an Order's status satisfies `holds`; gives the Order.
    pub(crate) async fn order_says<E: Display>(
        &self,
        name: &str,
        what: &str,
        holds: impl Fn(&Order) -> Result<(), E>,
    ) -> Result<Order> {
        let look = async || {
            let order: Order = self.api().get(name).await?;
            holds(&order).map_err(|seen| anyhow::anyhow!("{seen}; status {}", json!(order.status)))?;
            anyhow::Ok(order)
        };
        wait::until(SOON, what, look).await
    }

    /// Waits until the Order's condition Ready has this reason.
    pub(crate) async fn ready_reason(&self, name: &str, reason: &str) -> Result<Order> {
        self.order_says(name, &format!("Order {name} to say {reason}"), |order| {
            let observed = order.status.as_ref().map(|status| status.observed_generation);
            let ready = condition(order, "Ready");
            match ready {
                Some(said) if said.reason == reason && observed == order.metadata.generation => Ok(()),
                said => Err(format!("Ready is {said:?}")),
            }
        })
        .await
    }

    /// What korder wrote in the trial's namespace since `mark`, order statuses and Events apart.
    pub(crate) async fn writes(&self, mark: Mark) -> Result<Vec<AuditEntry>> {
        let audit = self.audit();
        audit.settled_mark().await?;
        let mut writes = audit.writes_since(mark, KORDER)?;
        writes.retain(|write| {
            write.namespace == self.id && matches!(write.resource.as_str(), "tickets" | "pods")
        });
        Ok(writes)
    }

    /// A sample sum of korder's metrics.
    pub(crate) async fn metric(&self, name: &str) -> Result<f64> {
        let value = self.world.korder.read().await.metric(name).await?;
        value.with_context(|| format!("no metric {name}"))
    }
}

/// A condition of an Order.
pub(crate) fn condition<'a>(
    order: &'a Order,
    kind: &str,
) -> Option<&'a k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition> {
    let status = order.status.as_ref()?;
    status.conditions.iter().find(|condition| condition.type_ == kind)
}

/// A merge patch, applied here.
pub(crate) fn merge(target: &mut Value, patch: Value) {
    match patch {
        Value::Object(fields) if target.is_object() => {
            for (key, value) in fields {
                merge(&mut target[key], value);
            }
        }
        value => *target = value,
    }
}

/// Fails with both sides unless they are equal.
pub(crate) fn same<T: PartialEq + std::fmt::Debug>(what: &str, seen: &T, wanted: &T) -> Result<()> {
    ensure!(seen == wanted, "{what} is {seen:?}, not {wanted:?}");
    Ok(())
}
