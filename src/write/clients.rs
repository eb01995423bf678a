//! Clients of the API server, all without retries of their own.
//!
//! Watches and writes have separate connections. Every answer's `Date` header sets the clock; every
//! write tells the API server how long it may take.

use std::{
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use ::metrics::Counter;
use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use http::{
    Method, Request, Response, StatusCode, Uri,
    header::{DATE, RETRY_AFTER},
};
use http_body::Frame;
use http_body_util::{BodyExt, combinators::MapFrame};
use kube::{
    Client, Config,
    client::{Body, ClientBuilder},
};
use tower::{BoxError, Layer, Service};

use crate::env::{clock::Clock, metrics};
use crate::write::{Pending, request::TIMEOUT};

/// The API server ends every watch after 290 s and sends bookmarks before: a connection on which nothing
/// has come for longer is dead.
const DEAD_AFTER: Duration = Duration::from_secs(300);

/// The clients of one replica.
#[derive(Clone)]
pub struct Clients {
    /// For lists, watches and single reads.
    pub read: Client,
    /// For writes and the reads that settle them.
    pub write: Client,
    /// For Leases alone: renewals wait for nothing else.
    pub lease: Client,
    /// Where everything that `write` sends waits first.
    pub(crate) pending: Arc<Pending>,
}

impl Clients {
    /// Clients for the cluster of `config`.
    pub fn new(mut config: Config, clock: &Clock) -> kube::Result<Self> {
        config.default_retry = false;
        config.read_timeout = Some(DEAD_AFTER);
        let pending = Arc::new(Pending::new(clock.clone()));
        let over =
            |layer| ClientBuilder::try_from(config.clone()).map(|client| client.with_layer(&layer).build());
        Ok(Self {
            read: over(layer(clock, &pending, Use::Read))?,
            write: over(layer(clock, &pending, Use::Write))?,
            lease: over(layer(clock, &pending, Use::Lease))?,
            pending,
        })
    }

    /// Clients over these transports, which retry nothing. Needs a tokio runtime.
    pub fn over<S, B>(read: S, write: S, lease: S, clock: &Clock) -> Self
    where
        S: Service<Request<Body>, Response = Response<B>> + Send + 'static,
        S::Future: Send + 'static,
        S::Error: Into<BoxError> + 'static,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let pending = Arc::new(Pending::new(clock.clone()));
        let client =
            |transport, r#use| Client::new(layer(clock, &pending, r#use).layer(transport), "default");
        Self {
            read: client(read, Use::Read),
            write: client(write, Use::Write),
            lease: client(lease, Use::Lease),
            pending,
        }
    }
}

fn layer<S>(clock: &Clock, pending: &Arc<Pending>, r#use: Use) -> impl Layer<S, Service = Dated<S>> + use<S> {
    let (clock, pending) = (clock.clone(), pending.clone());
    tower::layer::layer_fn(move |inner| Dated {
        inner,
        clock: clock.clone(),
        pending: pending.clone(),
        r#use,
        closed: None,
    })
}

/// What a client is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    Read,
    /// Each request says how long it may take.
    Write,
    /// Passes the gate while it is closed, and closes it for the others: a replica that is asked to do less
    /// still has its shards.
    Lease,
}

/// Reads the `Date` of answers, and is the gate: a Retry-After closes it before anything else sees the
/// answer, and no request of this replica passes it while it is closed. Adds the time limit to writes.
struct Dated<S> {
    inner: S,
    clock: Clock,
    pending: Arc<Pending>,
    r#use: Use,
    closed: Option<BoxFuture<'static, ()>>,
}

/// An answer that has not begun after this never will: without a limit, one list whose connection died
/// unheard would keep a watch from its start for ever. Writes have their own, shorter one.
const BEGINS_WITHIN: Duration = Duration::from_secs(30);

impl<S, B> Service<Request<Body>> for Dated<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Future: Send + 'static,
    S::Error: Into<BoxError> + 'static,
    B: http_body::Body<Data = Bytes> + Send + 'static,
{
    type Response = Response<Metered<B>>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        while let Some(until) = self.pending.closed_until().filter(|_| self.r#use != Use::Lease) {
            let clock = self.clock.clone();
            let wait = async move { clock.sleep_until(Some(until)).await };
            let closed = self.closed.get_or_insert_with(|| wait.boxed());
            ready!(closed.poll_unpin(context));
            self.closed = None;
        }
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        if self.r#use == Use::Write && request.method() != Method::GET {
            let limited = with_limit(request.uri());
            *request.uri_mut() = limited;
        }
        let (clock, sent, pending) = (self.clock.clone(), self.clock.mono(), self.pending.clone());
        let received = match self.r#use {
            Use::Read => metrics::received(resource(request.uri().path())),
            Use::Write | Use::Lease => Counter::noop(),
        };
        let answer = self.inner.call(request);
        async move {
            let answer = tokio::time::timeout(BEGINS_WITHIN, answer)
                .await?
                .map_err(Into::into)?;
            let date = answer.headers().get(DATE).and_then(|date| date.to_str().ok());
            if let Some(date) = date.and_then(|date| jiff::fmt::rfc2822::parse(date).ok()) {
                clock.hear(date.timestamp(), sent);
            }
            if let Some(span) = retry_after(&answer) {
                pending.close(span);
            }
            Ok(answer.map(|body| meter(body, received)))
        }
        .boxed()
    }
}

/// A body whose bytes are counted.
type Metered<B> = MapFrame<B, Box<dyn FnMut(Frame<Bytes>) -> Frame<Bytes> + Send>>;

fn meter<B: http_body::Body<Data = Bytes>>(body: B, received: Counter) -> Metered<B> {
    body.map_frame(Box::new(move |frame| {
        let bytes = frame.data_ref().map_or(0, Bytes::len);
        received.increment(u64::try_from(bytes).unwrap_or_default());
        frame
    }))
}

/// What is listed or watched at a path, of what korder follows.
fn resource(path: &str) -> &'static str {
    let name = path.rsplit('/').next().unwrap_or_default();
    let known = ["nodes", "pods", "orders", "tickets", "shards"];
    known.into_iter().find(|known| *known == name).unwrap_or("other")
}

/// The pause that an API server with too much to do asks for: API Priority and Fairness says it in this
/// header alone.
fn retry_after<B>(answer: &Response<B>) -> Option<Duration> {
    let busy = matches!(
        answer.status(),
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
    );
    let header = answer.headers().get(RETRY_AFTER).filter(|_| busy)?;
    let seconds = header.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// The same request with `timeout=4s`.
fn with_limit(uri: &Uri) -> Uri {
    let limit = format!("timeout={}s", TIMEOUT.as_secs());
    let query = match uri.query() {
        Some(query) if !query.is_empty() => format!("{query}&{limit}"),
        _ => limit,
    };
    let mut parts = uri.clone().into_parts();
    let path_and_query = format!("{}?{query}", uri.path());
    parts.path_and_query = Some(path_and_query.parse().expect("a valid path and a valid query"));
    Uri::from_parts(parts).expect("the parts of a valid URI")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_joins_what_is_asked_already() {
        let limited = |uri: &str| with_limit(&uri.parse().unwrap()).to_string();
        assert_eq!(
            limited("https://h/api/v1/pods?"),
            "https://h/api/v1/pods?timeout=4s"
        );
        assert_eq!(
            limited("https://h/api/v1/pods?a=b"),
            "https://h/api/v1/pods?a=b&timeout=4s"
        );
        assert_eq!(limited("/api/v1/pods"), "/api/v1/pods?timeout=4s");
    }
}
