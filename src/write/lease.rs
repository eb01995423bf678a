//! Reads and writes Leases: one request each, with its own time limit, and nothing repeated.

use std::{collections::BTreeMap, future::Future, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ObjectMeta, PostParams, Preconditions},
};
use parking_lot::Mutex;
use tokio::{sync::Semaphore, time::error::Elapsed};

use crate::{
    api::{ANNOTATION_INCARNATION, ANNOTATION_SHARDS, LABEL_LEASE},
    domain::values::shard::ShardCount,
    lease::{
        member::LeaseResult,
        record::{Holder, LeaseName, LeaseTimes, Record},
    },
};

/// The Leases of an installation.
#[derive(Clone)]
pub(crate) struct Leases {
    api: Api<Lease>,
    shards: ShardCount,
    times: LeaseTimes,
    turns: Arc<Semaphore>,
    /// What was last complained of.
    refused: Arc<Mutex<String>>,
}

/// Requests in flight: a round of 64 is over within a second, and is not a burst of 64.
const AT_ONCE: usize = 16;

/// The name of a Lease of korder's, and what it says; none for another's.
pub(crate) fn read(lease: &Lease) -> Option<(LeaseName, Record)> {
    let name = LeaseName::parse(lease.metadata.name.as_deref()?)?;
    let annotation = |key: &str| lease.annotations().get(key).map(String::as_str);
    let holder = lease
        .spec
        .as_ref()
        .and_then(|spec| spec.holder_identity.as_deref());
    let record = Record {
        version: lease.resource_version()?.into(),
        holder: holder.filter(|holder| !holder.is_empty()).map(|replica| Holder {
            replica: replica.into(),
            incarnation: annotation(ANNOTATION_INCARNATION).unwrap_or_default().into(),
        }),
        shards: annotation(ANNOTATION_SHARDS).and_then(|shards| shards.parse().ok()),
    };
    Some((name, record))
}

impl Leases {
    /// Those in this namespace.
    pub(crate) fn new(client: Client, namespace: &str, shards: ShardCount, times: LeaseTimes) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            shards,
            times,
            turns: Arc::new(Semaphore::new(AT_ONCE)),
            refused: Arc::default(),
        }
    }

    /// Waits for its turn; the request's time begins then. Everything hangs on the membership, which does not wait.
    async fn in_time<T>(&self, name: &LeaseName, request: impl Future<Output = T>) -> Result<T, Elapsed> {
        let _turn = match name {
            LeaseName::Replica(_) => None,
            LeaseName::Shard(_) => Some(self.turns.acquire().await.expect("it is never closed")),
        };
        tokio::time::timeout(self.times.request, request).await
    }

    /// Takes, renews or releases a Lease whose version is this; makes it if it has none. `now` is for
    /// people to read.
    pub(crate) async fn put(
        &self,
        name: &LeaseName,
        version: Option<&str>,
        holder: Option<&Holder>,
        now: Timestamp,
    ) -> LeaseResult {
        let lease = self.lease(name, version, holder, now);
        let object = name.object_name(self.shards);
        let sent = async {
            match version {
                Some(_) => self.api.replace(&object, &PostParams::default(), &lease).await,
                None => self.api.create(&PostParams::default(), &lease).await,
            }
        };
        match self.in_time(name, sent).await {
            Ok(Ok(lease)) => {
                read(&lease).map_or(LeaseResult::Unknown, |(_, record)| LeaseResult::Landed(record))
            }
            Ok(Err(error)) => self.failed(name, &error),
            Err(_) => LeaseResult::Unknown,
        }
    }

    /// Reads a Lease as it is committed.
    pub(crate) async fn get(&self, name: &LeaseName) -> LeaseResult {
        let object = name.object_name(self.shards);
        match self.in_time(name, self.api.get_opt(&object)).await {
            Ok(Ok(lease)) => LeaseResult::Found(lease.as_ref().and_then(read).map(|(_, record)| record)),
            Ok(Err(error)) => self.failed(name, &error),
            Err(_) => LeaseResult::Unknown,
        }
    }

    /// Removes a Lease that has this version.
    pub(crate) async fn delete(&self, name: &LeaseName, version: &str) -> LeaseResult {
        let object = name.object_name(self.shards);
        let params = DeleteParams::default().preconditions(Preconditions {
            uid: None,
            resource_version: Some(version.to_owned()),
        });
        match self.in_time(name, self.api.delete(&object, &params)).await {
            Ok(Ok(_)) => LeaseResult::Gone,
            Ok(Err(error)) => self.failed(name, &error),
            Err(_) => LeaseResult::Unknown,
        }
    }

    fn failed(&self, name: &LeaseName, error: &kube::Error) -> LeaseResult {
        match error {
            kube::Error::Api(status) if status.code == 409 => LeaseResult::Conflict,
            kube::Error::Api(status) if status.code == 404 => LeaseResult::Gone,
            kube::Error::Api(status) if matches!(status.code, 400 | 401 | 403 | 422) => {
                let mut refused = self.refused.lock();
                if *refused != status.message {
                    refused.clone_from(&status.message);
                    tracing::warn!(
                        message = status.message,
                        "the API server refuses a Lease; this replica can own no shard without it"
                    );
                }
                LeaseResult::Unknown
            }
            error => {
                tracing::debug!(?name, %error, "a Lease request failed");
                LeaseResult::Unknown
            }
        }
    }

    fn lease(
        &self,
        name: &LeaseName,
        version: Option<&str>,
        holder: Option<&Holder>,
        now: Timestamp,
    ) -> Lease {
        let kind = match name {
            LeaseName::Replica(_) => "replica",
            LeaseName::Shard(_) => "shard",
        };
        let mut annotations = BTreeMap::from([(ANNOTATION_SHARDS.to_owned(), self.shards.get().to_string())]);
        annotations
            .extend(holder.map(|holder| (ANNOTATION_INCARNATION.to_owned(), holder.incarnation.to_string())));
        Lease {
            metadata: ObjectMeta {
                name: Some(name.object_name(self.shards)),
                labels: Some(BTreeMap::from([(LABEL_LEASE.to_owned(), kind.to_owned())])),
                annotations: Some(annotations),
                resource_version: version.map(str::to_owned),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(
                    holder
                        .map(|holder| holder.replica.to_string())
                        .unwrap_or_default(),
                ),
                lease_duration_seconds: Some(whole_seconds(self.times.lease)),
                renew_time: Some(MicroTime(now)),
                ..LeaseSpec::default()
            }),
        }
    }
}

fn whole_seconds(span: Duration) -> i32 {
    i32::try_from(span.as_secs()).unwrap_or(i32::MAX)
}
