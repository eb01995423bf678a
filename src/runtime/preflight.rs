//! What a replica needs of its cluster before it starts: an API server, the CRDs, and Leases in its namespace.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::{
    Api, Client,
    api::{ListParams, PostParams},
    core::{PartialObjectMeta, Resource},
};

use super::{config::Config, error::one_line};
use crate::{api, lease::record::LeaseName};

/// How long an API server that does not answer, or lacks the CRDs, is tried at start.
const START_WITHIN: Duration = Duration::from_secs(30);
const TRY_EVERY: Duration = Duration::from_secs(1);

/// Waits for the API server, the CRDs and the namespace of the Leases.
///
/// # Errors
/// What was still missing after 30 s, and the remedy.
pub(super) async fn reach(config: &Config, client: &Client) -> Result<(), String> {
    let namespace = config.namespace();
    let own_lease = LeaseName::Replica(config.replica().into()).object_name(config.shards);
    let mut last = "the API server does not answer".to_owned();
    let tries = async {
        while let Err(problem) = installed(client, &namespace, &own_lease).await {
            if problem != last {
                tracing::warn!(problem, "not ready to start; trying again");
                last = problem;
            }
            tokio::time::sleep(TRY_EVERY).await;
        }
    };
    let reached = tokio::time::timeout(START_WITHIN, tries).await;
    reached.map_err(|_| format!("gave up after 30 s: {last}"))
}

async fn installed(client: &Client, namespace: &str, own_lease: &str) -> Result<(), String> {
    client
        .apiserver_version()
        .await
        .map_err(|error| format!("the API server does not answer: {}", one_line(&error)))?;
    present(Api::<PartialObjectMeta<api::Order>>::all(client.clone())).await?;
    present(Api::<PartialObjectMeta<api::Ticket>>::all(client.clone())).await?;
    present(Api::<PartialObjectMeta<api::Shard>>::namespaced(
        client.clone(),
        namespace,
    ))
    .await?;
    leases(client, namespace, own_lease).await
}

/// Whether Leases can be made in the namespace: tried without making one.
async fn leases(client: &Client, namespace: &str, own_lease: &str) -> Result<(), String> {
    let leases: Api<Lease> = Api::namespaced(client.clone(), namespace);
    let mut probe = Lease::default();
    probe.metadata.name = Some(own_lease.to_owned());
    let params = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    match leases.create(&params, &probe).await {
        Ok(_) => Ok(()),
        // A former process of this replica made it.
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 422 => Err(format!(
            "the API server refuses the Lease {own_lease}: {}: choose another --replica-id",
            status.message
        )),
        Err(kube::Error::Api(status)) if status.code == 404 => Err(format!(
            "the namespace {namespace} does not exist: create it, or choose another with --namespace"
        )),
        Err(error) => Err(format!(
            "cannot make Leases in the namespace {namespace}: {}: check deploy/rbac",
            one_line(&error)
        )),
    }
}

async fn present<K>(objects: Api<PartialObjectMeta<K>>) -> Result<(), String>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug,
{
    let kind = K::plural(&());
    match objects.list(&ListParams::default().limit(1)).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Err(format!(
            "the CRD {kind}.{} is not installed: install it with `korder crds | kubectl apply --server-side -f -`",
            K::group(&())
        )),
        Err(error) => Err(format!(
            "cannot list {kind}: {}: check deploy/rbac",
            one_line(&error)
        )),
    }
}
