//! The cluster that a command asks: how it is reached, and what is said when it cannot be.

use std::{fmt::Debug, time::Duration};

use anyhow::{Context, anyhow};
use jiff::Timestamp;
use kube::{Api, Client, Resource, api::ListParams};
use serde::de::DeserializeOwned;

use crate::{
    domain::values::time::Now,
    env::clock::Clock,
    runtime::{error::one_line, kubeconfig},
    write::clients::Clients,
};

/// Objects per page.
const PAGE: u32 = 500;
/// How long an API server that does not answer is waited for.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Also the answer, as plain text, for a kind that is not installed.
pub(super) const NOT_FOUND: u16 = 404;

/// One cluster.
pub(super) struct Cluster {
    pub(super) client: Client,
    clock: Clock,
    /// Where commands look that name no other namespace.
    pub(super) namespace: String,
    server: String,
}

impl Cluster {
    /// The cluster of KUBECONFIG, or the one this Pod runs in.
    pub(super) async fn connect(namespace: Option<String>) -> anyhow::Result<Self> {
        let mut config = kubeconfig::infer().await.map_err(anyhow::Error::msg)?;
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

    /// The object, none if it does not exist.
    pub(super) fn found<K>(&self, what: &str, answer: kube::Result<K>) -> anyhow::Result<Option<K>> {
        match answer {
            Ok(object) => Ok(Some(object)),
            Err(kube::Error::Api(status)) if status.code == NOT_FOUND => Ok(None),
            Err(error) => Err(self.failed(what, error)),
        }
    }

    /// An answer that was none, or not the one asked for.
    pub(super) fn failed(&self, what: &str, error: kube::Error) -> anyhow::Error {
        match error {
            kube::Error::Api(status) => match status.code {
                401 => anyhow!(
                    "the API server does not accept the credentials: check the user of the kubeconfig"
                ),
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

pub(super) fn not_installed<K: Resource<DynamicType = ()>>() -> anyhow::Error {
    anyhow!(
        "the CRD {}.{} is not installed: install it with `korder crds | kubectl apply --server-side -f -`",
        K::plural(&()),
        K::group(&())
    )
}

/// All objects, page by page.
pub(super) async fn pages<K>(api: &Api<K>, params: ListParams, mut each: impl FnMut(K)) -> kube::Result<()>
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
