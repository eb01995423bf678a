//! What `kubectl kustomize deploy` prints, on a real control plane: that it is accepted, that its Pods are admitted and
//! spread, that requests are in their flows, and that the roles allow what korder does and nothing else. The shared
//! korder runs with all of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use http::{Method, Request};
use k8s_openapi::api::{
    apps::v1::Deployment,
    authorization::v1::SubjectAccessReview,
    core::v1::Pod,
    flowcontrol::v1::{FlowSchema, PriorityLevelConfiguration},
    policy::v1::PodDisruptionBudget,
};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
    client::Body,
};
use libtest_mimic::Trial;
use serde_json::{Value, json};
use testbed::real::{NodeSpec, Plane, PlaneConfig, create_nodes, wait, wait_nodes_ready};

use super::world::{Ground, KORDER, SOON, kustomized, same};
use crate::harness::{Harness, apart, e2e};

const OWN: &str = "korder-system";

pub(crate) fn trials(harness: &Arc<Harness>) -> Vec<Trial> {
    vec![
        apart(
            harness,
            "deploy",
            "replicas_spread_over_the_nodes_there_are",
            spread,
        ),
        e2e(harness, "deploy", "kustomization_is_accepted", accepted),
        e2e(harness, "deploy", "pods_pass_pod_security_restricted", admitted),
        e2e(harness, "deploy", "requests_are_in_their_flows", flows),
        e2e(harness, "deploy", "roles_allow_what_is_needed_alone", rights),
    ]
}

/// Once more, with the controllers of the plane at work on what was applied before.
async fn accepted(ground: &Ground<'_>) -> Result<()> {
    let yaml = kustomized(&ground.world.plane).await?;
    let wanted = serde_saphyr::from_multiple::<Value>(&yaml)?.len();
    let applied = ground.world.plane.apply_strictly(&yaml).await?;
    let seen = applied
        .lines()
        .filter(|line| line.ends_with(" serverside-applied"));
    same("the number of objects", &seen.count(), &wanted)
}

/// The template as a Pod, and with one thing wrong at a time.
async fn admitted(ground: &Ground<'_>) -> Result<()> {
    let deployments: Api<Deployment> = Api::namespaced(ground.client(), OWN);
    let deployment = serde_json::to_value(deployments.get("korder").await?)?;
    let mut pod = deployment["spec"]["template"].clone();
    pod["metadata"]["generateName"] = json!("korder-");
    let pods: Api<Pod> = Api::namespaced(ground.client(), OWN);
    let dry = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let create = async |pod: &Value| {
        pods.create(&dry, &serde_json::from_value(pod.clone())?)
            .await
            .map_err(anyhow::Error::from)
    };
    // A quota admits nothing before its controller has counted.
    let made = wait::until(SOON, "the Pod to be admitted", async || create(&pod).await).await?;
    let spec = made.spec.unwrap_or_default();
    same("the priority", &spec.priority, &Some(2_000_000_000))?;
    let wrong = [
        ("/spec/hostNetwork", json!(true)),
        (
            "/spec/volumes",
            json!([{ "name": "v", "hostPath": { "path": "/" } }]),
        ),
        ("/spec/securityContext/runAsNonRoot", Value::Null),
        ("/spec/securityContext/runAsUser", json!(0)),
        ("/spec/securityContext/seccompProfile", Value::Null),
        ("/spec/containers/0/securityContext/capabilities", Value::Null),
        (
            "/spec/containers/0/securityContext/allowPrivilegeEscalation",
            Value::Null,
        ),
        ("/spec/containers/0/securityContext/privileged", json!(true)),
    ];
    for (field, value) in wrong {
        let mut pod = pod.clone();
        let (parent, name) = field.rsplit_once('/').context("a pointer")?;
        pod.pointer_mut(parent).context("no such field")?[name] = value;
        let Err(error) = create(&pod).await else {
            bail!("a Pod with another {field} is admitted");
        };
        // With `privileged`, validation alone may object: it contradicts allowPrivilegeEscalation.
        let said = format!("{error:#}");
        ensure!(
            said.contains("violates PodSecurity \"restricted:latest\"") || field.ends_with("privileged"),
            "{field}: {said}"
        );
    }
    Ok(())
}

/// Requests are sent by the administrator in korder's name, so that they do not count as korder's own.
async fn flows(ground: &Ground<'_>) -> Result<()> {
    let client = ground.client();
    let schemas: Api<FlowSchema> = Api::all(client.clone());
    let levels: Api<PriorityLevelConfiguration> = Api::all(client.clone());
    let leases = format!("/apis/coordination.k8s.io/v1/namespaces/{OWN}/leases");
    let (one, theirs) = (format!("{leases}/korder-nobody"), &ground.id);
    let lease = json!({ "metadata": { "name": "korder-nobody" } });
    let cases = [
        (KORDER, "GET", format!("{leases}?limit=1"), "korder-leases"),
        (
            KORDER,
            "GET",
            format!("{leases}?watch=1&timeoutSeconds=1"),
            "korder-leases",
        ),
        (KORDER, "GET", one.clone(), "korder-leases"),
        (KORDER, "POST", format!("{leases}?dryRun=All"), "korder-leases"),
        (KORDER, "PUT", format!("{one}?dryRun=All"), "korder-leases"),
        (KORDER, "DELETE", one.clone(), "korder-leases"),
        (KORDER, "GET", "/version".to_owned(), "korder"),
        (KORDER, "GET", "/api/v1/nodes?limit=1".to_owned(), "korder"),
        (
            KORDER,
            "GET",
            "/apis/core.korder.dev/v1alpha1/orders?limit=1".to_owned(),
            "korder",
        ),
        (
            KORDER,
            "GET",
            format!("/apis/core.korder.dev/v1alpha1/namespaces/{OWN}/shards?limit=1"),
            "korder",
        ),
        (
            KORDER,
            "GET",
            format!("/api/v1/namespaces/{theirs}/pods?watch=1&timeoutSeconds=1"),
            "korder",
        ),
        (
            KORDER,
            "DELETE",
            format!("/api/v1/namespaces/{theirs}/pods/nobody"),
            "korder",
        ),
        (KORDER, "GET", leases.replace(OWN, theirs), "korder"),
        (
            "system:serviceaccount:korder-system:default",
            "GET",
            leases.clone(),
            "service-accounts",
        ),
        (
            "system:serviceaccount:default:korder",
            "GET",
            leases.clone(),
            "service-accounts",
        ),
    ];
    let level = BTreeMap::from([
        ("korder-leases", "leader-election"),
        ("korder", "korder"),
        ("service-accounts", "workload-low"),
    ]);
    for (user, method, path, schema) in cases {
        let wanted = [
            schemas.get(schema).await?.uid(),
            levels.get(level[schema]).await?.uid(),
        ];
        let what = format!("{method} {path} of {user} to be in {schema}");
        let body = if method == "GET" || method == "DELETE" {
            Value::Null
        } else {
            lease.clone()
        };
        // The API server takes schemas up a moment after they are written.
        wait::until(SOON, &what, async || {
            let seen = flow(&client, user, method, &path, &body).await?;
            same("the pair of uids", &seen, &wanted)
        })
        .await?;
    }
    Ok(())
}

/// The uids of the FlowSchema and the PriorityLevelConfiguration of a request, whatever its answer.
async fn flow(
    client: &Client,
    user: &str,
    method: &str,
    path: &str,
    body: &Value,
) -> Result<[Option<String>; 2]> {
    let body = if body.is_null() {
        Body::empty()
    } else {
        Body::from(serde_json::to_vec(body)?)
    };
    let request = Request::builder()
        .method(Method::from_bytes(method.as_bytes())?)
        .uri(path)
        .header("Impersonate-User", user)
        .header("Content-Type", "application/json")
        .body(body)?;
    let answer = client.send(request).await?;
    let header = |name| Some(answer.headers().get(name)?.to_str().ok()?.to_owned());
    Ok([
        header("X-Kubernetes-PF-FlowSchema-UID"),
        header("X-Kubernetes-PF-PriorityLevel-UID"),
    ])
}

/// What korder needs in every namespace, beside Nodes.
const EVERYWHERE: &[(&str, &str, &[&str])] = &[
    ("core.korder.dev", "orders", &["get", "list", "watch"]),
    ("core.korder.dev", "orders/status", &["patch"]),
    (
        "core.korder.dev",
        "tickets",
        &[
            "get",
            "list",
            "watch",
            "create",
            "patch",
            "delete",
            "deletecollection",
        ],
    ),
    ("core.korder.dev", "tickets/status", &["patch"]),
    ("", "pods/status", &["patch"]),
    (
        "",
        "pods",
        &[
            "get",
            "list",
            "watch",
            "create",
            "patch",
            "delete",
            "deletecollection",
        ],
    ),
    ("events.k8s.io", "events", &["create"]),
];
/// What it needs in its own namespace.
const AT_HOME: &[(&str, &str, &[&str])] = &[
    (
        "coordination.k8s.io",
        "leases",
        &["get", "list", "watch", "create", "update", "delete"],
    ),
    (
        "core.korder.dev",
        "shards",
        &["get", "list", "watch", "create", "delete"],
    ),
    ("core.korder.dev", "shards/status", &["patch"]),
];
const CLUSTER: &[(&str, &str, &[&str])] = &[("", "nodes", &["get", "list", "watch"])];
/// What more is asked for, and must be refused whatever the verb.
const NEVER_NAMESPACED: &[(&str, &str)] = &[
    ("", "secrets"),
    ("", "configmaps"),
    ("", "events"),
    ("", "serviceaccounts"),
    ("", "serviceaccounts/token"),
    ("", "pods/binding"),
    ("", "pods/ephemeralcontainers"),
    ("", "pods/eviction"),
    ("", "pods/exec"),
    ("", "pods/log"),
    ("", "resourcequotas"),
    ("apps", "daemonsets"),
    ("apps", "deployments"),
    ("core.korder.dev", "*"),
    ("core.korder.dev", "orders/finalizers"),
    ("core.korder.dev", "shards/finalizers"),
    ("core.korder.dev", "tickets/finalizers"),
    ("networking.k8s.io", "networkpolicies"),
    ("policy", "poddisruptionbudgets"),
    ("rbac.authorization.k8s.io", "rolebindings"),
    ("rbac.authorization.k8s.io", "roles"),
];
const NEVER_CLUSTER: &[(&str, &str)] = &[
    ("", "namespaces"),
    ("", "nodes/proxy"),
    ("", "nodes/status"),
    ("", "persistentvolumes"),
    ("", "users"),
    ("admissionregistration.k8s.io", "mutatingwebhookconfigurations"),
    ("apiextensions.k8s.io", "customresourcedefinitions"),
    ("flowcontrol.apiserver.k8s.io", "flowschemas"),
    ("rbac.authorization.k8s.io", "clusterrolebindings"),
    ("rbac.authorization.k8s.io", "clusterroles"),
    ("scheduling.k8s.io", "priorityclasses"),
];
const VERBS: &[&str] = &[
    "get",
    "list",
    "watch",
    "create",
    "update",
    "patch",
    "delete",
    "deletecollection",
    "bind",
    "escalate",
    "impersonate",
    "*",
];

/// One right: verb, group, resource; the namespace of namespaced ones.
type Right = (String, String, String, Option<String>);

/// Every verb on every resource named above, at home and elsewhere.
async fn rights(ground: &Ground<'_>) -> Result<()> {
    let (mut asked, mut wanted) = (BTreeSet::new(), BTreeSet::new());
    let mut ask = |group: &str, resource: &str, namespace: Option<&str>, needed: &[&str]| {
        for verb in VERBS {
            let namespace = namespace.map(str::to_owned);
            let right: Right = (
                (*verb).to_owned(),
                group.to_owned(),
                resource.to_owned(),
                namespace,
            );
            if needed.contains(verb) {
                wanted.insert(right.clone());
            }
            asked.insert(right);
        }
    };
    for (namespace, home) in [(OWN, true), (&*ground.id, false)] {
        let needed = |verbs: &'static [&'static str]| if home { verbs } else { &[] };
        EVERYWHERE
            .iter()
            .for_each(|(group, resource, verbs)| ask(group, resource, Some(namespace), verbs));
        AT_HOME
            .iter()
            .for_each(|(group, resource, verbs)| ask(group, resource, Some(namespace), needed(verbs)));
        NEVER_NAMESPACED
            .iter()
            .for_each(|(group, resource)| ask(group, resource, Some(namespace), &[]));
    }
    CLUSTER
        .iter()
        .for_each(|(group, resource, verbs)| ask(group, resource, None, verbs));
    NEVER_CLUSTER
        .iter()
        .for_each(|(group, resource)| ask(group, resource, None, &[]));
    let reviews: Api<SubjectAccessReview> = Api::all(ground.client());
    let allowed: BTreeSet<Right> = stream::iter(asked)
        .map(|right| async { anyhow::Ok((allowed(&reviews, &right).await?, right)) })
        .buffer_unordered(16)
        .try_filter_map(async |(allowed, right)| Ok(allowed.then_some(right)))
        .try_collect()
        .await?;
    let (more, less): (Vec<_>, Vec<_>) = (
        allowed.difference(&wanted).collect(),
        wanted.difference(&allowed).collect(),
    );
    ensure!(
        more.is_empty() && less.is_empty(),
        "allowed and not needed: {more:?}; needed and not allowed: {less:?}"
    );
    Ok(())
}

async fn allowed(reviews: &Api<SubjectAccessReview>, right: &Right) -> Result<bool> {
    let (verb, group, resource, namespace) = right;
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    let groups = [
        "system:serviceaccounts",
        "system:serviceaccounts:korder-system",
        "system:authenticated",
    ];
    let review = serde_json::from_value(json!({ "spec": {
        "user": KORDER,
        "groups": groups,
        "resourceAttributes": {
            "verb": verb, "group": group, "resource": resource, "subresource": subresource, "namespace": namespace,
        },
    }}))?;
    let review = reviews.create(&PostParams::default(), &review).await?;
    Ok(review.status.context("a review without a status")?.allowed)
}

/// First a cluster of one usable node, then of three: a plane with the controllers of Deployments, where kwok runs the
/// Pods.
async fn spread() -> Result<()> {
    let controllers = [
        "deployment-controller",
        "replicaset-controller",
        "disruption-controller",
    ];
    let plane = Plane::start(PlaneConfig {
        name: "e2e-deploy".to_owned(),
        audit: false,
        extra_controllers: controllers.map(str::to_owned).to_vec(),
        ..PlaneConfig::default()
    })
    .await?;
    let client = plane.client();
    let tainted = NodeSpec::new("control").taint("node-role.kubernetes.io/control-plane", "", "NoSchedule");
    create_nodes(&client, [tainted, NodeSpec::new("n0").zone("a")]).await?;
    let yaml = kustomized(&plane).await?;

    let planted = yaml.replace("runAsNonRoot: true", "runAsNonRoot: false");
    ensure!(planted != yaml, "nothing to plant");
    let warned = plane.apply_strictly(&planted).await;
    let warned = warned.map_or_else(|error| format!("{error:#}"), |_| String::new());
    ensure!(
        warned.contains("would violate PodSecurity"),
        "no warning of a planted violation: {warned}"
    );

    // Its Pods would never come, and each one's successor after a pause.
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), OWN);
    deployments.delete("korder", &DeleteParams::default()).await?;
    plane.apply_strictly(&yaml).await?;
    running_on(&client, &["n0"; 3]).await?;
    let budgets: Api<PodDisruptionBudget> = Api::namespaced(client.clone(), OWN);
    wait::until(SOON, "the budget to allow one disruption of three", async || {
        let status = budgets.get("korder").await?.status.unwrap_or_default();
        let seen = (
            status.expected_pods,
            status.desired_healthy,
            status.disruptions_allowed,
        );
        same("the budget", &seen, &(3, 2, 1))
    })
    .await?;

    create_nodes(
        &client,
        [NodeSpec::new("n1").zone("b"), NodeSpec::new("n2").zone("c")],
    )
    .await?;
    wait_nodes_ready(&client, "topology.kubernetes.io/zone", 3, SOON).await?;
    // The pause between replicas is for shards, of which there are none here.
    let again = json!({ "spec": { "minReadySeconds": 0, "template": { "metadata": {
        "annotations": { "kubectl.kubernetes.io/restartedAt": "now" } } } } });
    deployments
        .patch("korder", &PatchParams::default(), &Patch::Merge(again))
        .await?;
    running_on(&client, &["n0", "n1", "n2"]).await
}

/// Waits until there are Pods on these nodes and nowhere else, all ready.
async fn running_on(client: &Client, nodes: &[&str]) -> Result<()> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), OWN);
    let mut wanted: Vec<String> = nodes.iter().map(ToString::to_string).collect();
    wanted.sort();
    wait::until(Duration::from_secs(90), "the replicas to run", async || {
        let mut seen: Vec<String> = pods
            .list(&ListParams::default())
            .await?
            .iter()
            .map(place)
            .collect();
        seen.sort();
        same("the places", &seen, &wanted)
    })
    .await
}

/// The node of a Pod that is ready and stays, else what it lacks.
fn place(pod: &Pod) -> String {
    let status = pod.status.clone().unwrap_or_default();
    let conditions = status.conditions.unwrap_or_default();
    let ready = conditions
        .iter()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True");
    let said = conditions.into_iter().find_map(|condition| condition.message);
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
    match node.filter(|_| ready && pod.metadata.deletion_timestamp.is_none()) {
        Some(node) => node,
        None => format!("{} is not ready: {}", pod.name_any(), said.unwrap_or_default()),
    }
}
