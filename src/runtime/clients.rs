//! Clients of the API server, all without retries of their own.
//!
//! Watches and writes have separate connections. Every answer's `Date` header sets the clock; every
//! write tells the API server how long it may take.

use std::task::{Context, Poll};

use futures::{FutureExt, future::BoxFuture};
use http::{Method, Request, Response, Uri, header::DATE};
use kube::{
    Client, Config,
    client::{Body, ClientBuilder},
};
use tower::{BoxError, Service};

use super::clock::Clock;
use crate::write::writer::TIMEOUT;

/// The clients of one replica.
#[derive(Clone)]
pub struct Clients {
    /// For lists, watches and single reads.
    pub read: Client,
    /// For writes and the reads that settle them.
    pub write: Client,
}

impl Clients {
    /// Clients for the cluster of `config`.
    pub fn new(mut config: Config, clock: &Clock) -> kube::Result<Self> {
        config.default_retry = false;
        Ok(Self {
            read: client(config.clone(), clock, false)?,
            write: client(config, clock, true)?,
        })
    }

    /// Clients over a transport of the caller's.
    pub fn over<S, B>(transport: S, clock: &Clock) -> Self
    where
        S: Service<Request<Body>, Response = Response<B>> + Clone + Send + 'static,
        S::Future: Send + 'static,
        S::Error: Into<BoxError> + 'static,
        B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let over = |limited| {
            let (inner, clock) = (transport.clone(), clock.clone());
            Client::new(
                Dated {
                    inner,
                    clock,
                    limited,
                },
                "default",
            )
        };
        Self {
            read: over(false),
            write: over(true),
        }
    }
}

fn client(config: Config, clock: &Clock, limited: bool) -> kube::Result<Client> {
    let clock = clock.clone();
    let layer = tower::layer::layer_fn(move |inner| Dated {
        inner,
        clock: clock.clone(),
        limited,
    });
    Ok(ClientBuilder::try_from(config)?.with_layer(&layer).build())
}

/// Adds the time limit to writes and reads the `Date` of answers.
struct Dated<S> {
    inner: S,
    clock: Clock,
    limited: bool,
}

impl<S, B> Service<Request<Body>> for Dated<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Future: Send + 'static,
    S::Error: 'static,
    B: 'static,
{
    type Response = Response<B>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response<B>, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        if self.limited && request.method() != Method::GET {
            let limited = with_limit(request.uri());
            *request.uri_mut() = limited;
        }
        let (clock, sent) = (self.clock.clone(), self.clock.mono());
        let answer = self.inner.call(request);
        async move {
            let answer = answer.await?;
            let date = answer.headers().get(DATE).and_then(|date| date.to_str().ok());
            if let Some(date) = date.and_then(|date| jiff::fmt::rfc2822::parse(date).ok()) {
                clock.hear(date.timestamp(), sent);
            }
            Ok(answer)
        }
        .boxed()
    }
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
