//! A writer over an API server that is a function.

use std::{convert::Infallible, future::Future, sync::Arc};

use http::{Request, Response};
use kube::client::Body;

use super::{GuardianSettings, Pending, Writer, clients::Clients};
use crate::{domain::values::shard::ShardCount, env::clock::Clock, lease::deadline::held};

/// A writer whose requests `serve` answers, and where they wait.
pub(super) fn writer<F>(
    shards: u16,
    clock: &Clock,
    serve: impl Fn(Request<Body>) -> F + Clone + Send + 'static,
) -> (Writer, Arc<Pending>)
where
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let transport = tower::service_fn(move |request| {
        let answer = serve(request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let clients = Clients::over(transport.clone(), transport.clone(), transport, clock);
    let guardians = GuardianSettings {
        image: String::new(),
        priority_class: None,
    };
    let shards = ShardCount::try_from(shards).unwrap();
    let writer = Writer::new(clients.write, clients.pending.clone(), shards, guardians, held());
    (writer, clients.pending)
}
