//! Follows one kind of object for ever, through errors and relists.

use std::{fmt::Debug, hash::Hash, time::Duration};

use futures::{StreamExt, pin_mut};
use kube::{
    Api, Resource,
    runtime::watcher::{Config, Error, Event, watcher},
};
use serde::de::DeserializeOwned;

use super::relist::{Change, Relist};
use crate::runtime::metrics;

/// First and longest pause after an error.
const PAUSE: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(15));

/// Follows `api` and hands every change to `out`, which must not block.
///
/// `read` gives what is needed to route an object's end, and its value; none if the object is not
/// korder's.
pub async fn follow<K, U, R, V>(
    kind: &'static str,
    api: Api<K>,
    config: Config,
    read: impl Fn(K) -> Option<(R, V)>,
    mut out: impl FnMut(Change<V, R>),
) where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    U: Eq + Hash + Ord + From<String>,
    R: Clone + Ord,
{
    let (mut relist, mut changes, mut pause) = (Relist::<U, R>::default(), Vec::new(), PAUSE.0);
    let uid = |object: &K| object.meta().uid.clone().map(U::from);
    let stream = watcher(api, config);
    pin_mut!(stream);
    while let Some(event) = stream.next().await {
        match event {
            Ok(event) => {
                pause = PAUSE.0;
                metrics::watch_event(kind, word(&event));
                relist.apply(event, uid, &read, &mut changes);
                changes.drain(..).for_each(&mut out);
            }
            Err(error) => {
                complain(kind, &error);
                metrics::watch_event(kind, "error");
                tokio::time::sleep(pause).await;
                pause = pause.saturating_mul(2).min(PAUSE.1);
            }
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
    match error {
        Error::InitialListFailed(kube::Error::Api(status))
        | Error::WatchStartFailed(kube::Error::Api(status))
            if matches!(status.code, 401 | 403 | 404) =>
        {
            tracing::warn!(kind, %error, "the API server refuses the watch");
        }
        _ => tracing::debug!(kind, %error, "watch interrupted"),
    }
}
