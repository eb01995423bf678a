//! `testbed::real` against itself: one plane for most tests, run in turn because they stop its parts.

use std::{collections::BTreeMap, path::Path, process::Stdio, time::Duration};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::{
    apps::v1::DaemonSet,
    core::v1::{ConfigMap, Node, Pod},
};
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::json;
use testbed::real::{
    Component, EXIT, KorderConfig, KorderProcess, NodeSpec, Plane, PlaneConfig, Ready, STOP_DELAY, Signal,
    WriteCounts, add_taint, cordon, create_nodes, delete_node, hand_back, kubeconfig, relabel, remove_taint,
    set_ready, uncordon, wait, wait_nodes_ready,
};

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn plane_serves_nodes_pods_tokens_audit_and_faults() -> Result<()> {
    let config = PlaneConfig {
        name: "self-test".to_owned(),
        extra_controllers: vec!["daemonset-controller".to_owned()],
        heartbeat: Some(Duration::from_secs(1)),
        status_padding: 15_000,
        audit_bodies: vec![(String::new(), "configmaps".to_owned())],
        ..PlaneConfig::default()
    };
    let plane = Plane::start(config).await?;
    let client = plane.client();
    let specs = (0..20).map(|i| NodeSpec::new(format!("n{i:02}")).pool("a").zone("z1"));
    create_nodes(&client, specs).await?;
    wait_nodes_ready(&client, "pool=a", 20, MINUTE)
        .await
        .with_context(|| plane.logs_tail(10))?;

    heartbeats_change_only_times(&client)
        .await
        .context("heartbeats")?;
    held_node_keeps_its_condition(&client)
        .await
        .context("held node")?;
    node_edits_arrive(&client).await.context("node edits")?;
    pod_runs_ends_and_stops(&client).await.context("pod")?;
    daemon_set_covers_every_node(&plane).await.context("daemonset")?;
    service_account_is_bound_by_rbac_and_audited(&plane)
        .await
        .context("service account")?;
    parts_come_back(&plane).await.context("faults")?;
    Ok(())
}

async fn heartbeats_change_only_times(client: &Client) -> Result<()> {
    let nodes: Api<Node> = Api::all(client.clone());
    let seen = nodes.get("n00").await?;
    let ready = |node: &Node| {
        let conditions = node
            .status
            .clone()
            .unwrap_or_default()
            .conditions
            .unwrap_or_default();
        conditions
            .into_iter()
            .find(|condition| condition.type_ == "Ready")
            .expect("a Ready condition")
    };
    let later = wait::until(MINUTE, "two heartbeats", async || {
        let node = nodes.get("n00").await.ok()?;
        (ready(&node).last_heartbeat_time > ready(&seen).last_heartbeat_time).then_some(node)
    });
    let later = later.await?;
    ensure!(ready(&later).last_transition_time == ready(&seen).last_transition_time);
    ensure!(ready(&later).status == "True" && ready(&later).reason == ready(&seen).reason);
    let size = serde_json::to_string(&later)?.len();
    ensure!((15_000..20_000).contains(&size), "a node has {size} bytes");
    Ok(())
}

async fn held_node_keeps_its_condition(client: &Client) -> Result<()> {
    let nodes: Api<Node> = Api::all(client.clone());
    let taint = |wanted: bool| {
        let nodes = nodes.clone();
        async move || {
            let node = nodes.get("n01").await.unwrap_or_default();
            let taints = node.spec.and_then(|spec| spec.taints).unwrap_or_default();
            taints
                .iter()
                .any(|taint| taint.key == "node.kubernetes.io/not-ready")
                == wanted
        }
    };
    set_ready(client, "n01", Ready::False).await?;
    wait::until(MINUTE, "the not-ready taint", taint(true)).await?;
    // Heartbeats of other nodes show that kwok went on meanwhile.
    heartbeats_change_only_times(client).await?;
    let node = nodes
        .get("n01")
        .await?
        .status
        .unwrap_or_default()
        .conditions
        .unwrap_or_default();
    ensure!(
        node.iter()
            .any(|condition| condition.type_ == "Ready" && condition.status == "False")
    );
    set_ready(client, "n01", Ready::Unknown).await?;
    hand_back(client, "n01").await?;
    wait::until(MINUTE, "the taint to go", taint(false)).await?;
    wait_nodes_ready(client, "pool=a", 20, MINUTE).await
}

async fn node_edits_arrive(client: &Client) -> Result<()> {
    let node = cordon(client, "n02").await?;
    ensure!(node.spec.and_then(|spec| spec.unschedulable) == Some(true));
    let node = uncordon(client, "n02").await?;
    ensure!(node.spec.and_then(|spec| spec.unschedulable).is_none());
    let keys = |node: &Node| -> Vec<String> {
        let taints = node.spec.clone().unwrap_or_default().taints.unwrap_or_default();
        taints
            .into_iter()
            .map(|taint| taint.key)
            .filter(|key| key == "k")
            .collect()
    };
    add_taint(client, "n02", "k", "v", "NoSchedule").await?;
    let node = add_taint(client, "n02", "k", "w", "NoSchedule").await?;
    ensure!(keys(&node) == ["k"]);
    ensure!(keys(&remove_taint(client, "n02", "k").await?).is_empty());
    let node = relabel(
        client,
        "n02",
        &[("pool", Some("b")), ("topology.kubernetes.io/zone", None)],
    )
    .await?;
    let labels = node.metadata.labels.unwrap_or_default();
    ensure!(labels["pool"] == "b" && !labels.contains_key("topology.kubernetes.io/zone"));
    relabel(client, "n02", &[("pool", Some("a"))]).await?;
    create_nodes(
        client,
        [NodeSpec::new("short-lived")
            .unschedulable()
            .taint("a", "", "NoExecute")
            .held()],
    )
    .await?;
    delete_node(client, "short-lived").await?;
    ensure!(
        Api::<Node>::all(client.clone())
            .get_opt("short-lived")
            .await?
            .is_none()
    );
    Ok(())
}

fn pod(name: &str, annotations: &[(&str, &str)]) -> Result<Pod> {
    let annotations: BTreeMap<&str, &str> = annotations.iter().copied().collect();
    Ok(serde_json::from_value(json!({
        "metadata": {"name": name, "annotations": annotations},
        "spec": {"containers": [{"name": "main", "image": "registry.example/pause:1"}]},
    }))?)
}

async fn wait_phase(pods: &Api<Pod>, name: &str, phase: &str) -> Result<Pod> {
    wait::until(MINUTE, &format!("Pod {name} to be {phase}"), async || {
        let pod = pods.get(name).await.map_err(|error| error.to_string())?;
        let seen = pod
            .status
            .as_ref()
            .and_then(|status| status.phase.clone())
            .unwrap_or_default();
        if seen == phase { Ok(pod) } else { Err(seen) }
    })
    .await
}

async fn pod_runs_ends_and_stops(client: &Client) -> Result<()> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), "default");
    pods.create(&PostParams::default(), &pod("ends", &[(EXIT, "Failed")])?)
        .await?;
    pods.create(&PostParams::default(), &pod("stops", &[(STOP_DELAY, "2s")])?)
        .await?;
    wait_phase(&pods, "ends", "Failed").await?;
    let running = wait_phase(&pods, "stops", "Running").await?;
    ensure!(running.spec.and_then(|spec| spec.node_name).is_some());
    pods.delete("ends", &DeleteParams::default()).await?;
    pods.delete("stops", &DeleteParams::default()).await?;
    wait::until(MINUTE, "the Pod without a delay to be gone", async || {
        pods.get_opt("ends").await.is_ok_and(|pod| pod.is_none())
    })
    .await?;
    ensure!(pods.get("stops").await?.metadata.deletion_timestamp.is_some());
    wait::until(MINUTE, "the Pod with a delay to be gone", async || {
        pods.get_opt("stops").await.is_ok_and(|pod| pod.is_none())
    })
    .await
}

async fn daemon_set_covers_every_node(plane: &Plane) -> Result<()> {
    plane
        .apply_yaml(
            "apiVersion: apps/v1
kind: DaemonSet
metadata: {name: ds, namespace: default}
spec:
  selector: {matchLabels: {app: ds}}
  template:
    metadata: {labels: {app: ds}}
    spec: {containers: [{name: main, image: 'registry.example/pause:1'}]}
",
        )
        .await?;
    let sets: Api<DaemonSet> = Api::namespaced(plane.client(), "default");
    wait::until(MINUTE, "a daemon on each of 20 nodes", async || {
        let status = sets
            .get("ds")
            .await
            .map_err(|error| error.to_string())?
            .status
            .unwrap_or_default();
        if status.number_ready == 20 {
            Ok(())
        } else {
            Err(format!("{} ready", status.number_ready))
        }
    })
    .await?;
    plane
        .kubectl(&["delete", "daemonset", "ds", "--cascade=foreground"])
        .await?;
    let pods: Api<Pod> = Api::namespaced(plane.client(), "default");
    let left = pods.list(&ListParams::default().labels("app=ds")).await?;
    ensure!(left.items.is_empty(), "{} daemons are left", left.items.len());
    Ok(())
}

async fn service_account_is_bound_by_rbac_and_audited(plane: &Plane) -> Result<()> {
    plane
        .apply_yaml(
            "apiVersion: v1
kind: Namespace
metadata: {name: team}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: writer, namespace: team}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: writer, namespace: team}
rules: [{apiGroups: [''], resources: [configmaps], verbs: [get, create, patch, delete]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: writer, namespace: team}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: writer}
subjects: [{kind: ServiceAccount, name: writer, namespace: team}]
",
        )
        .await?;
    let writer = kubeconfig::client(&plane.service_account_kubeconfig("team", "writer").await?).await?;
    let maps: Api<ConfigMap> = Api::namespaced(writer.clone(), "team");
    let map = |name: &str| -> Result<ConfigMap> {
        Ok(serde_json::from_value(json!({"metadata": {"name": name}}))?)
    };
    wait::until(MINUTE, "the Role to be known", async || maps.get_opt("any").await).await?;

    let audit = plane.audit();
    let mark = audit.settled_mark().await?;
    for i in 0..7 {
        maps.create(&PostParams::default(), &map(&format!("m{i}"))?)
            .await?;
    }
    ensure!(maps.create(&PostParams::default(), &map("m0")?).await.is_err());
    maps.patch(
        "m1",
        &PatchParams::default(),
        &Patch::Merge(json!({"data": {"a": "b"}})),
    )
    .await?;
    maps.delete("m2", &DeleteParams::default()).await?;
    maps.get("m3").await?;
    ensure!(
        Api::<Pod>::namespaced(writer, "team")
            .create(&PostParams::default(), &pod("no", &[])?)
            .await
            .is_err()
    );
    let user = "system:serviceaccount:team:writer";
    let end = audit.settled_mark().await?;
    let writes = audit.writes_since(mark, user)?;
    let counts: WriteCounts = writes.iter().filter(|write| !write.is_lease()).collect();
    let expected = "       7  create           configmaps               201
       1  create           configmaps               409
       1  delete           configmaps               200
       1  patch            configmaps               200
       1  create           pods                     403
";
    ensure!(counts.to_string() == expected, "{counts}");
    ensure!(
        audit.entries_since(mark, user)?.len() == counts.total() + 1,
        "one read beside the writes"
    );
    ensure!(audit.entries_since(end, user)?.is_empty());
    ensure!(
        writes
            .iter()
            .any(|write| write.name == "m1" && write.namespace == "team" && write.verb == "patch")
    );
    let with_bodies = writes.iter().filter(|write| write.response.is_some());
    ensure!(
        with_bodies.clone().count() == 10 && with_bodies.clone().all(|write| write.resource == "configmaps"),
        "bodies of {:?}",
        with_bodies.map(|write| &write.resource).collect::<Vec<_>>()
    );
    let patched = writes.iter().find(|write| write.verb == "patch");
    let sent = patched.and_then(|write| write.request.as_deref());
    ensure!(sent == Some("{\"data\":{\"a\":\"b\"}}"), "sent {sent:?}");
    let mut by_anybody = audit.writes_of(mark, "configmaps")?;
    by_anybody.retain(|write| write.user == user);
    ensure!(
        by_anybody.len() == 10,
        "{} writes of configmaps",
        by_anybody.len()
    );
    Ok(())
}

async fn parts_come_back(plane: &Plane) -> Result<()> {
    let client = plane.client();
    plane.stop(Component::ApiServer).await?;
    ensure!(client.apiserver_version().await.is_err());
    plane.start_again(Component::ApiServer).await?;
    plane.restart(Component::Etcd).await?;
    for component in [
        Component::ControllerManager,
        Component::Scheduler,
        Component::Kwok,
    ] {
        plane.restart(component).await?;
    }
    // All of them are needed to make a new node usable and a Pod run there.
    create_nodes(&client, [NodeSpec::new("late").pool("late")]).await?;
    wait_nodes_ready(&client, "pool=late", 1, MINUTE)
        .await
        .with_context(|| plane.logs_tail(5))?;
    let pods: Api<Pod> = Api::namespaced(client.clone(), "default");
    plane.signal(Component::Scheduler, Signal::Stop)?;
    let mut late = pod("late", &[])?;
    late.spec.get_or_insert_default().node_selector = Some([("pool".into(), "late".into())].into());
    pods.create(&PostParams::default(), &late).await?;
    ensure!(plane.usage(Component::Scheduler)?.rss_bytes > 10_000_000);
    plane.signal(Component::Scheduler, Signal::Continue)?;
    wait_phase(&pods, "late", "Running").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_planes_run_beside_each_other() -> Result<()> {
    let config = PlaneConfig {
        kwok: false,
        audit: false,
        ..PlaneConfig::default()
    };
    let (first, second) = tokio::try_join!(Plane::start(config.clone()), Plane::start(config))?;
    first.kubectl(&["create", "namespace", "only-here"]).await?;
    ensure!(first.kubectl(&["get", "namespaces"]).await?.contains("only-here"));
    ensure!(
        !second
            .kubectl(&["get", "namespaces"])
            .await?
            .contains("only-here")
    );
    ensure!(
        second
            .kubectl(&["version"])
            .await?
            .contains("Server Version: v1.37.2")
    );
    let dir = first.dir().to_owned();
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
        let _first = first;
        panic!("on purpose: ends the first plane");
    }));
    ensure!(panicked.is_err() && !dir.exists());
    ensure!(processes_of(dir.to_str().context("not UTF-8")?).is_empty());
    second.kubectl(&["get", "namespaces"]).await?;
    Ok(())
}

#[tokio::test]
async fn korder_process_is_signalled_restarted_and_reports_an_early_end() -> Result<()> {
    let dir = std::env::temp_dir().join(format!("korder-process-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let script = dir.join("korder");
    let body = "#!/bin/sh
echo started \"$@\" as $POD_NAME with $KUBECONFIG $MORE
[ \"$MORE\" = fail ] && { echo bad flag; exit 1; }
trap 'exit 7' TERM
while :; do sleep 0.02; done
";
    std::fs::write(&script, body)?;
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let config = KorderConfig {
        binary: script,
        kubeconfig: dir.join("kubeconfig"),
        name: "replica-0".to_owned(),
        log_dir: dir.clone(),
        args: vec!["--shards".to_owned(), "8".to_owned()],
        env: vec![("MORE".to_owned(), "more".to_owned())],
    };
    let mut korder = KorderProcess::start(config.clone())?;
    let line = format!(
        "started run --listen 127.0.0.1:{} --shards 8 as replica-0 with ",
        korder.port()
    );
    wait::until(MINUTE, "the first start", async || {
        korder.log_tail(9).contains(&line)
    })
    .await?;
    let (pid, port) = (korder.pid(), korder.port());
    korder.sigstop()?;
    ensure!(korder.usage()?.rss_bytes > 0 && korder.exited().is_none());
    ensure!(
        korder.terminate(Duration::from_millis(200)).await.is_err(),
        "a frozen process cannot end"
    );
    korder.sigcont()?;
    ensure!(korder.wait_exit(MINUTE).await?.code() == Some(7));

    korder.restart()?;
    ensure!(korder.pid() != pid && korder.port() == port);
    wait::until(MINUTE, "the second start", async || {
        korder.log_tail(9).matches(&line).count() == 2
    })
    .await?;
    korder.kill9();
    ensure!(korder.wait_exit(MINUTE).await?.code().is_none() && korder.sigstop().is_err());

    let failing = KorderConfig {
        env: vec![("MORE".to_owned(), "fail".to_owned())],
        ..config
    };
    let error = KorderProcess::start(failing)?
        .wait_ready(MINUTE)
        .await
        .unwrap_err()
        .to_string();
    ensure!(
        error.contains("exit status: 1") && error.contains("bad flag"),
        "{error}"
    );
    std::fs::remove_dir_all(&dir)?;
    Ok(())
}

/// Processes whose command line names the directory.
fn processes_of(dir: &str) -> Vec<String> {
    let commands = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let commands = commands.filter_map(|entry| std::fs::read_to_string(entry.path().join("cmdline")).ok());
    commands.filter(|command| command.contains(dir)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_harness_leaves_no_process_and_interrupted_harness_no_file() -> Result<()> {
    for signal in ["-KILL", "-INT"] {
        let mut harness = tokio::process::Command::new(env!("CARGO_BIN_EXE_plane"));
        let mut harness = harness.stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
        let mut lines = tokio::io::BufReader::new(harness.stdout.take().context("piped")?);
        let mut line = String::new();
        tokio::time::timeout(
            2 * MINUTE,
            tokio::io::AsyncBufReadExt::read_line(&mut lines, &mut line),
        )
        .await??;
        let kubeconfig = line
            .trim()
            .strip_prefix("export KUBECONFIG=")
            .context("no kubeconfig")?;
        let dir = Path::new(kubeconfig)
            .parent()
            .and_then(Path::to_str)
            .context("no directory")?;
        ensure!(processes_of(dir).len() == 5, "{:?}", processes_of(dir));
        let pid = harness.id().context("it runs")?.to_string();
        tokio::process::Command::new("kill")
            .args([signal, &pid])
            .status()
            .await?;
        harness.wait().await?;
        wait::until(MINUTE, "all processes to end", async || {
            let left = processes_of(dir);
            if left.is_empty() {
                Ok(())
            } else {
                Err(left.join("\n"))
            }
        })
        .await?;
        // After SIGKILL the next plane on this machine removes the directory.
        ensure!(signal == "-KILL" || !Path::new(dir).exists(), "after {signal}");
    }
    Ok(())
}
