//! Follows one kind of object for ever, through errors and relists.

use std::{collections::HashSet, fmt::Debug, hash::Hash, sync::Arc, time::Duration};

use futures::{FutureExt, StreamExt, future::BoxFuture};
use kube::{
    Api, Resource, ResourceExt,
    api::{ListParams, ObjectList},
    runtime::watcher::{Config, Error, Event, watcher},
};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;

use super::relist::{Change, Relist};
use crate::env::metrics;

/// First and longest pause after an error.
const PAUSE: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(15));
/// Longest pause after a 429. Everything that this replica sends waits for the Retry-After, and then goes at once. A
/// watch that came back much later would find every seat taken, time and again, and korder would decide on what was so
/// minutes ago.
const BUSY: Duration = Duration::from_secs(1);
/// Objects per request outside the watch.
const PAGE: u32 = 500;

/// Follows `api` and hands every change to `out`, which must not block.
///
/// `read` gives what is needed to route an object's end, and its value; none if the object is not
/// korder's. What is known is kept in `relist`, where others may look. With the brake on, a list that
/// lacks too much is checked against a consistent read, while the watch goes on; if that disagrees, all
/// is listed again.
pub(crate) async fn follow<K, U, R, V>(
    kind: &'static str,
    api: Api<K>,
    config: Config,
    relist: Arc<Mutex<Relist<U, R>>>,
    read: impl Fn(K) -> Option<(R, V)>,
    mut out: impl FnMut(Change<V, R>),
) where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
    U: Eq + Hash + Ord + From<String> + Send + 'static,
    R: Clone + Ord + Send,
{
    let (mut changes, mut pause, mut check) = (Vec::new(), PAUSE.0, Check::default());
    let uid = |object: &K| object.meta().uid.clone().map(U::from);
    let mut stream = watcher(api.clone(), config.clone()).boxed();
    loop {
        check.keep(kind, &api, relist.lock().doubts());
        tokio::select! {
            biased; // the watch is never kept waiting
            Some(event) = stream.next() => match event {
                Ok(event) => {
                    // A list that has only begun may fail like the one before.
                    if !matches!(event, Event::Init) {
                        pause = PAUSE.0;
                    }
                    metrics::watch_event(kind, word(&event));
                    relist.lock().apply(event, uid, &read, &mut changes);
                }
                Err(error) => {
                    complain(kind, &error);
                    metrics::watch_event(kind, "error");
                    pause = rest(pause, refusal(&error)).await;
                }
            },
            present = check.present() => {
                let confirmed = relist.lock().confirm(&present, &mut changes);
                tracing::warn!(kind, confirmed, "the list was checked");
                check.ended(confirmed);
                if !confirmed {
                    stream = watcher(api.clone(), config.clone()).boxed();
                }
            }
        }
        changes.drain(..).for_each(&mut out);
    }
}

/// The check of a list that lacks too much.
struct Check<U> {
    reading: Option<BoxFuture<'static, HashSet<U>>>,
    /// The pause before the next read.
    pause: Duration,
}

impl<U> Default for Check<U> {
    fn default() -> Self {
        Self {
            reading: None,
            pause: Duration::ZERO,
        }
    }
}

impl<U: Eq + Hash + From<String> + Send + 'static> Check<U> {
    /// Begins to read if something is in doubt, and gives it up if nothing is.
    fn keep<K>(&mut self, kind: &'static str, api: &Api<K>, doubts: bool)
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
    {
        if !doubts {
            self.reading = None;
        } else if self.reading.is_none() {
            tracing::warn!(
                kind,
                "a list lacks objects; a second, consistent read checks it before korder believes it"
            );
            self.reading = Some(present(kind, api.clone(), self.pause).boxed());
        }
    }

    /// Waits for what is read; for ever if nothing is.
    async fn present(&mut self) -> HashSet<U> {
        match &mut self.reading {
            Some(reading) => reading.await,
            None => std::future::pending().await,
        }
    }

    /// A server that goes on contradicting itself is asked less and less often.
    fn ended(&mut self, confirmed: bool) {
        self.reading = None;
        self.pause = match confirmed {
            true => Duration::ZERO,
            false => longer(self.pause),
        };
    }
}

/// The pause after one that was in vain.
fn longer(pause: Duration) -> Duration {
    pause.saturating_mul(2).clamp(PAUSE.0, PAUSE.1)
}

/// The uids of all objects after a while, by a read that the API server answers from what is committed: one without
/// a resourceVersion. Goes on until it succeeds.
async fn present<K, U>(kind: &'static str, api: Api<K>, after: Duration) -> HashSet<U>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
    U: Eq + Hash + From<String>,
{
    tokio::time::sleep(after).await;
    let list = |page: ListParams| {
        let api = api.clone();
        async move { api.list_metadata(&page).await }
    };
    let found = insist(kind, &ListParams::default(), list).await;
    found.iter().filter_map(ResourceExt::uid).map(U::from).collect()
}

/// All objects with these labels, by a read that the API server answers from what is committed. Goes on until it
/// succeeds.
pub(crate) async fn every<K>(kind: &'static str, api: Api<K>, labels: &str) -> Vec<K>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let params = ListParams::default().labels(labels);
    let list = |page: ListParams| {
        let api = api.clone();
        async move { api.list(&page).await }
    };
    insist(kind, &params, list).await
}

async fn insist<K, F, L>(kind: &'static str, params: &ListParams, list: F) -> Vec<K>
where
    K: Clone,
    F: Fn(ListParams) -> L,
    L: Future<Output = kube::Result<ObjectList<K>>>,
{
    let mut pause = PAUSE.0;
    loop {
        match pages(params.clone().limit(PAGE), &list).await {
            Ok(found) => return found,
            Err(error) => {
                tracing::debug!(kind, %error, "could not be listed");
                pause = rest(pause, code(&error)).await;
            }
        }
    }
}

async fn pages<K, F, L>(params: ListParams, list: &F) -> kube::Result<Vec<K>>
where
    K: Clone,
    F: Fn(ListParams) -> L,
    L: Future<Output = kube::Result<ObjectList<K>>>,
{
    let (mut found, mut page) = (Vec::new(), params);
    loop {
        let part = list(page.clone()).await?;
        found.extend(part.items);
        match part.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => return Ok(found),
        }
    }
}

fn word<K>(event: &Event<K>) -> &'static str {
    match event {
        Event::Init => "relist",
        Event::InitApply(_) => "listed",
        Event::InitDone => "synced",
        Event::Apply(_) => "applied",
        Event::Delete(_) => "deleted",
    }
}

/// A watch that ends or expires is normal; one that is refused needs a person.
fn complain(kind: &'static str, error: &Error) {
    match refusal(error) {
        Some(401 | 403 | 404) => tracing::warn!(kind, %error, "the API server refuses the watch"),
        _ => tracing::debug!(kind, %error, "watch interrupted"),
    }
}

/// The code with which the API server refuses to list or to watch.
fn refusal(error: &Error) -> Option<u16> {
    match error {
        Error::InitialListFailed(error) | Error::WatchStartFailed(error) => code(error),
        _ => None,
    }
}

fn code(error: &kube::Error) -> Option<u16> {
    match error {
        kube::Error::Api(status) => Some(status.code),
        _ => None,
    }
}

/// Waits before the next attempt, after an answer with this code or none; returns how long to wait the next time.
async fn rest(pause: Duration, code: Option<u16>) -> Duration {
    let longest = match code {
        Some(429) => BUSY,
        _ => PAUSE.1,
    };
    tokio::time::sleep(pause.min(longest)).await;
    pause.saturating_mul(2).min(longest)
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, sync::Arc};

    use http::{Request, Response, header::ACCEPT};
    use k8s_openapi::api::core::v1::Node;
    use kube::client::Body;
    use serde_json::json;

    use super::*;
    use crate::watch::relist::Brake;

    fn list(names: std::ops::Range<u32>) -> String {
        let node = |n| json!({ "metadata": { "name": format!("n{n}"), "uid": format!("u{n}") } });
        let items: Vec<_> = names.map(node).collect();
        json!({ "kind": "NodeList", "apiVersion": "v1", "metadata": { "resourceVersion": "7" }, "items": items })
            .to_string()
    }

    /// Follows nodes at a server whose n-th full list is `lists[n]`, whose watches expire at once while
    /// more lists are to come, and whose committed nodes are `committed`. Returns what is deleted and
    /// how many full lists were asked for.
    async fn deleted(lists: Vec<u32>, committed: u32) -> (usize, usize) {
        let (asked, gone) = (Arc::new(Mutex::new(0)), Arc::new(Mutex::new(0)));
        let (count, total) = (asked.clone(), lists.len());
        let transport = tower::service_fn(move |request: Request<Body>| {
            let watch = request
                .uri()
                .query()
                .is_some_and(|query| query.contains("watch=true"));
            let metadata = request
                .headers()
                .get(ACCEPT)
                .is_some_and(|accept| accept.to_str().unwrap().contains("Partial"));
            let mut asked = count.lock();
            let expired = json!({ "type": "ERROR", "object": { "kind": "Status", "apiVersion": "v1",
                "status": "Failure", "reason": "Expired", "code": 410, "message": "old", "metadata": {} } });
            let body = match () {
                () if watch && *asked < total => Some(format!("{expired}\n")),
                () if watch => None,
                () if metadata => Some(list(0..committed)),
                () => {
                    *asked += 1;
                    Some(list(0..lists[(*asked - 1).min(total - 1)]))
                }
            };
            async move {
                let Some(body) = body else {
                    return std::future::pending().await;
                };
                Ok::<_, Infallible>(Response::new(Body::from(body.into_bytes())))
            }
        });
        let api: Api<Node> = Api::all(kube::Client::new(transport, "default"));
        let read = |node: Node| node.metadata.name.clone().map(|name| (name, node));
        let tally = gone.clone();
        let out = move |change| *tally.lock() += usize::from(matches!(change, Change::Delete(_)));
        let follow = follow::<_, String, _, _>(
            "Node",
            api,
            Config::default(),
            Relist::shared(Brake::On),
            read,
            out,
        );
        let _ = tokio::time::timeout(Duration::from_secs(60), follow).await;
        let (gone, asked) = (*gone.lock(), *asked.lock());
        (gone, asked)
    }

    /// How often a minute a server is asked for what it refuses with this code: requests whose query has this in it.
    async fn asked(refused: &'static str, code: u16) -> usize {
        let asked = Arc::new(Mutex::new(0));
        let count = asked.clone();
        let transport = tower::service_fn(move |request: Request<Body>| {
            let refuse = request.uri().query().is_some_and(|query| query.contains(refused));
            *count.lock() += usize::from(refuse);
            let body = if refuse { "not now".to_owned() } else { list(0..1) };
            let answer = Response::builder().status(if refuse { code } else { 200 });
            let answer = answer.body(Body::from(body.into_bytes())).unwrap();
            async move { Ok::<_, Infallible>(answer) }
        });
        let api: Api<Node> = Api::all(kube::Client::new(transport, "default"));
        let read = |node: Node| node.metadata.name.clone().map(|name| (name, node));
        let relist = Relist::shared(Brake::Off);
        let follow = follow::<_, String, _, _>("Node", api, Config::default(), relist, read, |_| ());
        let _ = tokio::time::timeout(Duration::from_secs(60), follow).await;
        *asked.lock()
    }

    #[tokio::test(start_paused = true)]
    async fn watch_refused_for_load_is_asked_for_every_second_and_one_that_fails_less_and_less_often() {
        let busy = asked("watch=", 429).await;
        assert!((55..65).contains(&busy), "{busy}");
        let broken = asked("watch=", 500).await;
        assert!((5..15).contains(&broken), "{broken}");
    }

    #[tokio::test(start_paused = true)]
    async fn list_refused_for_load_is_asked_for_every_second_and_one_that_fails_less_and_less_often() {
        let busy = asked("limit=", 429).await;
        assert!((55..65).contains(&busy), "{busy}");
        let broken = asked("limit=", 500).await;
        assert!((5..15).contains(&broken), "{broken}");
    }

    #[tokio::test(start_paused = true)]
    async fn empty_list_that_a_read_contradicts_deletes_nothing_and_is_asked_for_again() {
        assert_eq!(deleted(vec![20, 0], 20).await.0, 0);
        assert_eq!(deleted(vec![20, 0, 20], 20).await, (0, 3));
    }

    #[tokio::test(start_paused = true)]
    async fn empty_list_that_a_read_confirms_deletes_all() {
        assert_eq!(deleted(vec![20, 0], 0).await, (20, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn list_that_lacks_little_is_believed() {
        assert_eq!(deleted(vec![20, 15], 20).await, (5, 2));
    }
}
