//! The manifests of `deploy/` and the Dockerfile agree with each other and with what korder is: its flags, ports,
//! defaults, rights, version and toolchain. What a cluster makes of them is for `e2e::deploy`.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use clap::Parser;
use korder::{lease::record::LeaseTimes, runtime::config::Config, write::request};
use libtest_mimic::{Failed, Trial};
use serde_json::{Value, json};

use crate::harness::fast;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        fast(
            "deploy",
            "kustomization_lists_every_manifest",
            lists_every_manifest,
        ),
        fast("deploy", "arguments_are_flags_and_say_the_defaults", arguments),
        fast("deploy", "environment_names_the_replica", environment),
        fast("deploy", "everything_speaks_of_one_port", one_port),
        fast("deploy", "everything_selects_the_same_pods", one_selector),
        fast("deploy", "times_leave_room_for_drain_and_hand_over", times),
        fast("deploy", "quota_has_room_for_a_roll_out", quota),
        fast("deploy", "container_can_change_nothing_on_its_node", locked_down),
        fast(
            "deploy",
            "guardian_class_exists_and_never_preempts",
            guardian_class,
        ),
        fast("deploy", "flow_of_leases_is_what_the_role_grants", lease_flow),
        fast("deploy", "image_has_version_toolchain_and_user", image),
    ]
}

/// The command line of `args`.
#[derive(Parser)]
struct Run {
    #[command(flatten)]
    config: Config,
}

fn lists_every_manifest() -> Result<(), Failed> {
    let mut present = BTreeSet::new();
    for directory in ["", "controller", "crds", "rbac"] {
        for entry in fs::read_dir(root().join("deploy").join(directory))? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "yaml") {
                let path = path.strip_prefix(root().join("deploy"))?;
                present.insert(path.display().to_string());
            }
        }
    }
    present.remove("kustomization.yaml");
    let listed: Vec<String> = serde_json::from_value(kustomization()?["resources"].clone())?;
    assert_eq!(BTreeSet::from_iter(listed), present);
    Ok(())
}

fn arguments() -> Result<(), Failed> {
    let args: Vec<String> = serde_json::from_value(container()?["args"].clone())?;
    assert_eq!(args[0], "run");
    let said = Run::try_parse_from(&args)?.config;
    let default = Run::try_parse_from(["run"])?.config;
    assert_eq!(said.shards, default.shards);
    assert_eq!(said.listen, default.listen);
    // Said though it is the default: the number is fixed at install, whatever a later version's default is.
    let said_shards = format!("--shards={}", default.shards.get());
    assert!(args.contains(&said_shards), "no {said_shards} in {args:?}");
    Ok(())
}

/// The rest of the configuration comes from the Pod itself.
fn environment() -> Result<(), Failed> {
    let fields = json!([
        { "name": "POD_NAME", "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } } },
        { "name": "POD_NAMESPACE", "valueFrom": { "fieldRef": { "fieldPath": "metadata.namespace" } } },
    ]);
    assert_eq!(container()?["env"], fields);
    let namespace = only("rbac/namespace.yaml")?["metadata"]["name"].take();
    // `korder shards` looks there, and `korder run` without a Pod.
    assert_eq!(namespace, "korder-system");
    for manifest in manifests()? {
        let said = &manifest["metadata"]["namespace"];
        assert!(*said == Value::Null || *said == namespace, "{manifest}");
    }
    Ok(())
}

fn one_port() -> Result<(), Failed> {
    let listen = Run::try_parse_from(["run"])?.config.listen;
    let container = container()?;
    assert_eq!(
        container["ports"],
        json!([{ "name": "http", "containerPort": listen.port() }])
    );
    for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
        assert_eq!(container[probe]["httpGet"]["port"], "http", "{probe}");
    }
    let service = only("controller/service.yaml")?;
    let port = json!([{ "name": "http", "port": listen.port(), "targetPort": "http" }]);
    assert_eq!(service["spec"]["ports"], port);
    let annotations = &service["metadata"]["annotations"];
    assert_eq!(annotations["prometheus.io/port"], listen.port().to_string());
    let policy = only("controller/network-policy.yaml")?;
    let ingress = json!([{ "ports": [{ "protocol": "TCP", "port": listen.port() }] }]);
    assert_eq!(policy["spec"]["ingress"], ingress);
    Ok(())
}

fn one_selector() -> Result<(), Failed> {
    let deployment = deployment()?;
    let selector = deployment["spec"]["selector"]["matchLabels"].clone();
    let template = &deployment["spec"]["template"];
    assert_eq!(template["metadata"]["labels"], selector);
    let pod = &template["spec"];
    let mut selectors = vec![
        only("controller/disruption-budget.yaml")?["spec"]["selector"]["matchLabels"].take(),
        only("controller/network-policy.yaml")?["spec"]["podSelector"]["matchLabels"].take(),
        only("controller/service.yaml")?["spec"]["selector"].take(),
    ];
    let away = &pod["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"];
    selectors.push(away[0]["podAffinityTerm"]["labelSelector"]["matchLabels"].clone());
    for constraint in list(&pod["topologySpreadConstraints"]) {
        selectors.push(constraint["labelSelector"]["matchLabels"].clone());
    }
    assert_eq!(selectors, vec![selector; 6]);
    Ok(())
}

fn times() -> Result<(), Failed> {
    let (deployment, times) = (deployment()?, LeaseTimes::default());
    let drain = (times.lease + request::TIMEOUT).as_secs();
    let grace = number(&deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]);
    assert!(grace > drain, "{grace} s for a drain of {drain} s");
    assert_eq!(
        number(&deployment["spec"]["minReadySeconds"]),
        times.lease.as_secs()
    );
    Ok(())
}

fn quota() -> Result<(), Failed> {
    let (deployment, quota) = (deployment()?, only("controller/quota.yaml")?);
    let update = &deployment["spec"]["strategy"]["rollingUpdate"];
    let most = number(&deployment["spec"]["replicas"]) + number(&update["maxSurge"]);
    let allowed: u64 = quota["spec"]["hard"]["pods"].as_str().ok_or("no pods")?.parse()?;
    // Those that stay behind on a lost node are counted until it is back or deleted.
    assert!(allowed >= 2 * most, "{allowed} Pods for {most}");
    let class = &deployment["spec"]["template"]["spec"]["priorityClassName"];
    let scope = &quota["spec"]["scopeSelector"]["matchExpressions"][0];
    assert_eq!(scope["values"], json!([class]));
    Ok(())
}

/// What Pod Security `restricted` does not ask for.
fn locked_down() -> Result<(), Failed> {
    let container = container()?;
    let security = &container["securityContext"];
    assert_eq!(security["readOnlyRootFilesystem"], true);
    let pod = &deployment()?["spec"]["template"]["spec"];
    for absent in ["hostNetwork", "hostPID", "hostIPC", "volumes"] {
        assert_eq!(pod[absent], Value::Null, "{absent}");
    }
    for resource in ["cpu", "memory"] {
        for bound in ["requests", "limits"] {
            assert!(
                container["resources"][bound][resource].is_string(),
                "{bound} {resource}"
            );
        }
    }
    Ok(())
}

fn guardian_class() -> Result<(), Failed> {
    let args: Vec<String> = serde_json::from_value(container()?["args"].clone())?;
    let class = only("priority-class.yaml")?;
    let named = Run::try_parse_from(&args)?.config.guardian_priority_class;
    assert_eq!(named.as_deref(), class["metadata"]["name"].as_str());
    assert_eq!(class["preemptionPolicy"], "Never");
    Ok(())
}

/// A verb that the role has and the schema lacks would wait behind all other requests.
fn lease_flow() -> Result<(), Failed> {
    let role = manifests()?
        .into_iter()
        .find(|manifest| manifest["kind"] == "Role");
    let role = role.ok_or("no Role")?;
    let leases = list(&role["rules"]).find(|rule| rule["resources"] == json!(["leases"]));
    let granted = leases.ok_or("no rule for Leases")?;
    let schemas = read("flow-control.yaml")?;
    let flow = schemas
        .iter()
        .find(|schema| schema["metadata"]["name"] == "korder-leases");
    let rule = &flow.ok_or("no schema for Leases")?["spec"]["rules"][0];
    let matched = &rule["resourceRules"][0];
    for part in ["apiGroups", "resources", "verbs"] {
        assert_eq!(matched[part], granted[part], "{part}");
    }
    assert_eq!(matched["namespaces"], json!([role["metadata"]["namespace"]]));
    for schema in schemas.iter().filter(|schema| schema["kind"] == "FlowSchema") {
        let subject = &schema["spec"]["rules"][0]["subjects"];
        let account = only("rbac/service-account.yaml")?;
        let account = json!({
            "namespace": account["metadata"]["namespace"],
            "name": account["metadata"]["name"],
        });
        assert_eq!(
            *subject,
            json!([{ "kind": "ServiceAccount", "serviceAccount": account }])
        );
    }
    Ok(())
}

fn image() -> Result<(), Failed> {
    let named = &kustomization()?["images"];
    let wanted = json!([{ "name": container()?["image"], "newTag": env!("CARGO_PKG_VERSION") }]);
    assert_eq!(*named, wanted);
    let dockerfile = fs::read_to_string(root().join("Dockerfile"))?;
    let toolchain = fs::read_to_string(root().join("rust-toolchain.toml"))?;
    let channel = toolchain.lines().find_map(|line| line.strip_prefix("channel = "));
    let channel = channel.ok_or("no channel")?.trim_matches('"');
    let base = format!("FROM rust:{channel}-alpine");
    assert!(dockerfile.contains(&base), "no {base}");
    let user = &deployment()?["spec"]["template"]["spec"]["securityContext"];
    let user = format!("USER {}:{}", user["runAsUser"], user["runAsGroup"]);
    assert!(dockerfile.contains(&user), "no {user}");
    // Cargo reads a package only if all its targets are there, built or not.
    let listed = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(root())
        .output()?;
    let listed: Value = serde_json::from_slice(&listed.stdout)?;
    let packages = listed["packages"].as_array().ok_or("no packages")?;
    let targets = packages
        .iter()
        .filter_map(|package| package["targets"].as_array());
    let sources = targets.flatten().filter_map(|target| target["src_path"].as_str());
    let mut folders = BTreeSet::new();
    for source in sources {
        let inside = Path::new(source).strip_prefix(root())?;
        folders.extend(
            inside
                .components()
                .next()
                .and_then(|folder| folder.as_os_str().to_str()),
        );
    }
    assert!(folders.len() > 2, "{folders:?}");
    let context = fs::read_to_string(root().join(".dockerignore"))?;
    for folder in folders {
        assert!(
            context.lines().any(|line| line == format!("!{folder}")),
            "{folder} is ignored"
        );
        let copied = format!("COPY {folder} {folder}");
        assert!(dockerfile.lines().any(|line| line == copied), "no {copied}");
    }
    Ok(())
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The documents of a file of `deploy/`.
fn read(file: &str) -> Result<Vec<Value>, Failed> {
    let path: PathBuf = root().join("deploy").join(file);
    let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(serde_saphyr::from_multiple(&text)?)
}

/// The document of a file that has one.
fn only(file: &str) -> Result<Value, Failed> {
    let mut documents = read(file)?;
    assert_eq!(documents.len(), 1, "{file}");
    Ok(documents.remove(0))
}

fn kustomization() -> Result<Value, Failed> {
    only("kustomization.yaml")
}

/// What the kustomization lists.
fn manifests() -> Result<Vec<Value>, Failed> {
    let mut all = Vec::new();
    for file in list(&kustomization()?["resources"]) {
        all.extend(read(file.as_str().ok_or("not a path")?)?);
    }
    Ok(all)
}

fn deployment() -> Result<Value, Failed> {
    only("controller/deployment.yaml")
}

fn container() -> Result<Value, Failed> {
    let mut deployment = deployment()?;
    Ok(deployment["spec"]["template"]["spec"]["containers"][0].take())
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn number(value: &Value) -> u64 {
    value.as_u64().expect("a number that is not negative")
}
