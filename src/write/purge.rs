//! Removes everything of one Order at once: Guardians, then Tickets, page by page.
//!
//! Used when the Order goes; the selector names the shards so that each replica removes its own.

use either::Either;
use kube::{
    Api, Resource,
    api::{DeleteParams, ListParams},
    core::NamespaceResourceScope,
};
use serde::de::DeserializeOwned;

use super::writer::{Failure, Writer};
use crate::{
    api::{LABEL_ORDER_UID, LABEL_SHARD},
    domain::ids::{Namespace, OrderUid},
    queue::Lane,
    shard::ShardId,
    watch::{guardian::SlimPod, ticket::SlimTicket},
};

/// Objects per request; halved when a request takes too long.
const PAGE: u32 = 500;
const SMALLEST_PAGE: u32 = 20;

impl Writer {
    /// Removes the Order's Guardians and Tickets in these shards; false if it must be tried again.
    pub async fn purge(&self, order: &OrderUid, namespace: &Namespace, shards: &[ShardId]) -> bool {
        let selector = format!("{LABEL_ORDER_UID}={order},{}", shard_selector(shards));
        let immediately = DeleteParams::default().grace_period(0);
        let writer = self.in_lane(Lane::Delete);
        writer
            .purge_kind::<SlimPod>("Pod", namespace, &selector, &immediately)
            .await
            && writer
                .purge_kind::<SlimTicket>("Ticket", namespace, &selector, &DeleteParams::default())
                .await
    }

    async fn purge_kind<K>(
        &self,
        kind: &str,
        namespace: &Namespace,
        selector: &str,
        params: &DeleteParams,
    ) -> bool
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + std::fmt::Debug
            + DeserializeOwned,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), namespace.as_str());
        let mut page = PAGE;
        loop {
            let list = ListParams::default().labels(selector).limit(page);
            match self.ask(api.delete_collection(params, &list)).await {
                // What is being deleted already waits for somebody else's finalizer.
                Ok(Either::Left(deleted)) if deleted.items.iter().all(ending) => return true,
                Ok(_) => {}
                // The budget sees to the pause.
                Err(Failure::Later(_)) => {}
                // It may have removed a part: the rest in pages that take less time.
                Err(Failure::Unknown { .. }) if page > SMALLEST_PAGE => page /= 2,
                Err(failure) => {
                    tracing::debug!(kind, %namespace, selector, ?failure, "deletecollection failed");
                    return false;
                }
            }
        }
    }
}

fn ending(object: &impl Resource) -> bool {
    object.meta().deletion_timestamp.is_some()
}

/// The label selector of what belongs to these shards.
pub fn shard_selector(shards: &[ShardId]) -> String {
    let shards: Vec<String> = shards.iter().map(ToString::to_string).collect();
    format!("{LABEL_SHARD} in ({})", shards.join(","))
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use http::{Request, Response};
    use kube::client::Body;
    use serde_json::json;

    use super::*;
    use crate::{
        runtime::clock::Clock,
        shard::ShardCount,
        write::{Guardians, Pending},
    };

    #[tokio::test]
    async fn what_a_finalizer_keeps_is_deleted_once() {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        let answer = move |_: Request<Body>| {
            let deleting = count.fetch_add(1, Ordering::Relaxed) > 0;
            assert!(count.load(Ordering::Relaxed) < 10, "asked again and again");
            let mut metadata = json!({ "name": "guardian-t", "uid": "u" });
            if deleting {
                metadata["deletionTimestamp"] = json!("2030-01-01T00:00:00Z");
            }
            let list = json!({ "kind": "PodList", "apiVersion": "v1", "metadata": {},
                "items": [{ "metadata": metadata }] });
            std::future::ready(Ok::<_, std::convert::Infallible>(Response::new(Body::from(
                list.to_string().into_bytes(),
            ))))
        };
        let client = kube::Client::new(tower::service_fn(answer), "default");
        let guardians = Guardians {
            image: String::new(),
            priority_class: None,
        };
        let pending = Arc::new(Pending::new(Clock::system()));
        let writer = Writer::new(client, pending, ShardCount::try_from(1).unwrap(), guardians);
        let (namespace, params) = ("ns".into(), DeleteParams::default());
        let done = writer.purge_kind::<SlimPod>("Pod", &namespace, "a=b", &params);
        assert!(done.await);
        assert_eq!(asked.load(Ordering::Relaxed), 2);
    }
}
