//! `deletecollection` of all that an Order has: Guardians, then Tickets, page by page.
//!
//! Used when the Order goes; the selector names the shards so that each replica removes its own.

use either::Either;
use kube::{
    Api, Resource,
    api::{DeleteParams, ListParams},
    core::{NamespaceResourceScope, ObjectList, Request},
};
use serde::de::DeserializeOwned;

use super::{
    Writer,
    request::{RequestError, TIMEOUT},
};
use crate::{
    api::LABEL_ORDER_UID,
    domain::values::{
        ids::{Namespace, OrderUid},
        shard::ShardId,
        time::Mono,
    },
    queue::Lane,
    watch::{guardian::SlimPod, meta::shard_selector, ticket::SlimTicket},
};

/// Objects per request; halved when a request takes too long.
const PAGE: u32 = 500;
const SMALLEST_PAGE: u32 = 20;

/// Shards that are not given up before a request has ended.
pub(crate) trait HeldShards: Send {
    fn shards(&self) -> &[ShardId];
}

impl Writer {
    /// Removes the Order's Guardians and Tickets in own shards; false if it must be tried again. `own` is asked
    /// before every request, with the time when that ends, and keeps the shards it names until then.
    pub(crate) async fn purge<G: HeldShards>(
        &self,
        order: &OrderUid,
        namespace: &Namespace,
        own: &(impl Fn(Mono) -> G + Sync),
    ) -> bool {
        let immediately = DeleteParams::default().grace_period(0);
        let writer = self.in_lane(Lane::Delete);
        writer
            .purge_kind::<SlimPod, _>(order, namespace, own, &immediately)
            .await
            && writer
                .purge_kind::<SlimTicket, _>(order, namespace, own, &DeleteParams::default())
                .await
    }

    async fn purge_kind<K, G: HeldShards>(
        &self,
        order: &OrderUid,
        namespace: &Namespace,
        own: &(impl Fn(Mono) -> G + Sync),
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
            let held = own(self.pending.now().after(TIMEOUT));
            if held.shards().is_empty() {
                return true;
            }
            let selector = format!("{LABEL_ORDER_UID}={order},{}", shard_selector(held.shards()));
            let request = request(api.resource_url(), &selector, page, params);
            match self
                .ask(self.client.request_status::<ObjectList<K>>(request))
                .await
            {
                // What is being deleted already waits for somebody else's finalizer.
                Ok(Either::Left(deleted)) if deleted.items.iter().all(ending) => return true,
                Ok(_) => {}
                // The budget sees to the pause.
                Err(RequestError::Later(_)) => {}
                // It may have removed a part: the rest in pages that take less time.
                Err(RequestError::Unknown { .. }) if page > SMALLEST_PAGE => page /= 2,
                Err(error) => {
                    let kind = K::kind(&());
                    tracing::debug!(%kind, %namespace, selector, ?error, "deletecollection failed");
                    return false;
                }
            }
        }
    }
}

/// `kube` knows deletecollection, but leaves out the limit.
fn request(url: &str, selector: &str, page: u32, params: &DeleteParams) -> http::Request<Vec<u8>> {
    let list = ListParams::default().labels(selector);
    let request = Request::new(url).delete_collection(params, &list);
    let mut request = request.expect("options that can be written as JSON");
    let limited = format!("{}&limit={page}", request.uri());
    *request.uri_mut() = limited.parse().expect("a valid URI and a number");
    request
}

fn ending(object: &impl Resource) -> bool {
    object.meta().deletion_timestamp.is_some()
}

#[cfg(test)]
mod tests {
    use std::{future::Future, sync::Arc};

    use http::Response;
    use kube::client::Body;
    use parking_lot::Mutex;
    use serde_json::{Value, json};

    use super::*;
    use crate::{env::clock::Clock, write::testing::writer};

    /// Removes Pods at a server that answers its n-th request, counted from 0, with `answer(n)`; returns
    /// whether all are gone, and the page sizes that were asked for.
    async fn purged<F>(answer: impl Fn(usize) -> F + Clone + Send + 'static) -> (bool, Vec<String>)
    where
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let pages = asked.clone();
        let (writer, _) = writer(1, &Clock::system(), move |request: http::Request<Body>| {
            let query = request.uri().query().unwrap_or_default();
            let limit = query.split('&').find_map(|pair| pair.strip_prefix("limit="));
            let mut pages = pages.lock();
            pages.push(limit.unwrap_or_default().to_owned());
            assert!(pages.len() < 20, "asked again and again");
            answer(pages.len() - 1)
        });
        let (order, namespace, params) = ("o".into(), "ns".into(), DeleteParams::default());
        let done = writer
            .purge_kind::<SlimPod, _>(&order, &namespace, &|_| One, &params)
            .await;
        let pages = asked.lock().clone();
        (done, pages)
    }

    struct One;

    impl HeldShards for One {
        fn shards(&self) -> &[ShardId] {
            &[ShardId(0)]
        }
    }

    fn deleted(items: &Value) -> Response<Body> {
        let list = json!({ "kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items });
        Response::new(Body::from(list.to_string().into_bytes()))
    }

    #[tokio::test]
    async fn what_a_finalizer_keeps_is_deleted_once() {
        let (done, pages) = purged(|n| {
            let mut metadata = json!({ "name": "guardian-t", "uid": "u" });
            if n > 0 {
                metadata["deletionTimestamp"] = json!("2030-01-01T00:00:00Z");
            }
            std::future::ready(deleted(&json!([{ "metadata": metadata }])))
        })
        .await;
        assert_eq!((done, pages.len()), (true, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn removal_that_takes_too_long_was_partial_and_goes_on_in_smaller_pages() {
        let (done, pages) = purged(|n| async move {
            if n < 2 {
                std::future::pending::<()>().await;
            }
            deleted(&json!([]))
        })
        .await;
        assert_eq!(
            (done, pages),
            (true, ["500", "250", "125"].map(String::from).to_vec())
        );
    }

    #[tokio::test(start_paused = true)]
    async fn removal_that_an_overloaded_server_refuses_goes_on_after_the_pause() {
        let (done, pages) = purged(|n| {
            let busy = Response::builder().status(429).header("Retry-After", "5");
            std::future::ready(match n {
                0 => busy.body(Body::empty()).unwrap(),
                _ => deleted(&json!([])),
            })
        })
        .await;
        assert_eq!((done, pages), (true, ["500", "500"].map(String::from).to_vec()));
    }
}
