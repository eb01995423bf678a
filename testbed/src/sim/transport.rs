//! The HTTP transport of a process under test: hands requests to the API server through its link, with
//! the faults that the dice throw.
//!
//! What was handed over is carried out even if the caller has gone away, as on a real network.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures::channel::mpsc;
use http::{HeaderMap, Method, Request, Response, header};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use jiff::SignedDuration;
use serde_json::{Value, json};
use tokio::{sync::oneshot, time::Instant};
use tower::{BoxError, Service};

use super::{
    api::{self, Answer, Reply, Watch},
    faults::{Delivery, Twist},
    link::Link,
};

/// The transport of one process; clones share its link.
#[derive(Clone)]
pub struct Transport {
    link: Link,
}

/// What is asked of it, whatever the client's own kind of body is.
type Asked = Request<UnsyncBoxBody<Bytes, ()>>;
type Responded = Result<Response<UnsyncBoxBody<Bytes, BoxError>>, BoxError>;

impl Transport {
    /// Over this link.
    pub fn new(link: Link) -> Self {
        Self { link }
    }
}

impl<B> Service<Request<B>> for Transport
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
{
    type Response = Response<UnsyncBoxBody<Bytes, BoxError>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Responded> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let request: Asked = request.map(|body| body.map_err(|_| ()).boxed_unsync());
        let (link, (sender, receiver)) = (self.link.clone(), oneshot::channel());
        let what = name(&request);
        let apart = request.uri().path().contains("/leases");
        if !apart {
            link.leaves(&what);
        }
        let carrier = link.clone();
        link.cluster.spawn(async move {
            if let Some(responded) = carry(&carrier, request, what).await {
                // The caller may have given up.
                let _taken = sender.send(responded);
            }
        });
        let link = self.link.clone();
        Box::pin(async move {
            let Ok(responded) = receiver.await else {
                return std::future::pending().await;
            };
            // Who has given up waiting does not hear that it is to wait.
            if let Some(seconds) = responded.as_ref().ok().and_then(retry_after).filter(|_| !apart) {
                link.asked_to_wait(seconds);
            }
            responded
        })
    }
}

fn retry_after<B>(response: &Response<B>) -> Option<u32> {
    response
        .headers()
        .get(header::RETRY_AFTER)?
        .to_str()
        .ok()?
        .parse()
        .ok()
}

fn name(request: &Asked) -> String {
    format!("{} {}", request.method(), request.uri())
}

/// What is counted: Leases are renewed for ever.
fn counts(method: &Method, path: &str) -> bool {
    *method != Method::GET && !path.contains("/leases")
}

/// An API server lags behind by no more than this.
const STALE: SignedDuration = SignedDuration::from_secs(60);

/// Carries a request there and its answer back; none if nobody hears of it again.
async fn carry(link: &Link, request: Asked, what: String) -> Option<Responded> {
    let write = counts(request.method(), request.uri().path());
    let fate = link.dice.request(*request.method() != Method::GET);
    let asked = asked(link, request).await;
    if link.up().await && fate.twist != Twist::None {
        return Some(broken("the connection broke before the request was sent"));
    }
    tokio::time::sleep(fate.there).await;
    // Leases have seats of their own, as the FlowSchema for them says.
    let seat = (!what.contains("/leases")).then(|| link.seat());
    if seat.as_ref().is_some_and(Option::is_none) {
        link.count_answer(429);
        return answer(link, &what, too_many(1), fate.back).await;
    }
    let taken = seat.flatten();
    let service = taken.as_ref().map_or(Duration::ZERO, |(_, service)| *service);
    if !service.is_zero() {
        tokio::time::sleep(service).await;
    }
    let instead = match fate.twist {
        Twist::FailBefore(code) => Some(failure(code)),
        Twist::Conflict => Some(conflict()),
        Twist::TooMany(seconds) => Some(too_many(seconds)),
        Twist::LoseRequest => {
            link.up().await;
            return Some(broken("the connection broke"));
        }
        _ if link.refuses_pods() && resource(&what) == "POST pods" => Some(quota()),
        _ => None,
    };
    if let Some(reply) = instead {
        link.count_answer(reply.code);
        return answer(link, &what, reply, fate.back).await;
    }
    let single = asked.method == Method::GET && !asked.query.contains("watch=") && !is_list(&asked);
    link.check(&asked, &what, single);
    let dies = write && link.count_write(resource(&what));
    let answered = link.cluster.api(|api| match lag(&asked, fate.twist) {
        Some(by) => {
            let oldest = api.revision_before(STALE).max(api.compacted());
            let at = api.revision().saturating_sub(by).max(oldest);
            api.handle_stale(&asked, at)
        }
        None => api.handle(&asked),
    });
    if dies {
        link.break_down();
        return None;
    }
    match (answered, fate.twist) {
        (_, Twist::LoseReply) => None,
        (_, Twist::FailAfter(code)) => {
            link.count_answer(code);
            answer(link, &what, failure(code), fate.back).await
        }
        (Answer::Whole(mut reply), _) => {
            if asked.path == "/api/v1/nodes" && is_list(&asked) && link.hides_nodes() {
                hide(&mut reply);
            }
            link.count_answer(reply.code);
            answer(link, &what, reply, fate.back).await
        }
        (Answer::Watch(watch), _) => {
            link.count_answer(200);
            note(link, &what, 200);
            tokio::time::sleep(fate.back).await;
            link.up().await;
            Some(Ok(stream(link, watch, &asked.query)))
        }
    }
}

async fn asked(link: &Link, request: Asked) -> api::Request {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes().to_vec());
    let text = |name| {
        let value = parts.headers.get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default().to_owned()
    };
    api::Request {
        user: link.user.clone(),
        method: parts.method,
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().unwrap_or_default().to_owned(),
        accept: text(header::ACCEPT),
        content_type: text(header::CONTENT_TYPE),
        body: body.unwrap_or_default(),
    }
}

/// A GET of a collection that is not a watch.
fn is_list(request: &api::Request) -> bool {
    let segments = request.path.trim_matches('/').split('/').count();
    let collection = match (
        request.path.starts_with("/api/"),
        request.path.contains("/namespaces/"),
    ) {
        (true, false) => 3,
        (true, true) => 5,
        (false, false) => 4,
        (false, true) => 6,
    };
    request.method == Method::GET && segments == collection && !request.query.contains("watch=")
}

/// How many revisions ago a read is answered from, if not from what is committed. Every list without a resourceVersion
/// should be: of those, korder relies on the one of metadata alone, by which it confirms what another list lacks.
fn lag(request: &api::Request, twist: Twist) -> Option<u64> {
    match twist {
        Twist::Stale(by) if is_list(request) && !request.accept.contains("PartialObjectMetadata") => Some(by),
        _ => None,
    }
}

/// `METHOD resource[/subresource]` of a request's name.
fn resource(what: &str) -> String {
    let (method, uri) = what.split_once(' ').unwrap_or((what, ""));
    let path = uri.split('?').next().unwrap_or_default();
    let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
    let after = match segments.iter().position(|&segment| segment == "namespaces") {
        Some(at) if segments.len() > at + 2 => at + 2,
        Some(at) => at,
        None if segments.first() == Some(&"api") => 2,
        None => 3,
    };
    let mut named = segments.get(after).copied().unwrap_or_default().to_owned();
    if let Some(subresource) = segments.get(after + 2) {
        named = format!("{named}/{subresource}");
    }
    if method == "DELETE" && segments.len() == after + 1 {
        return format!("DELETECOLLECTION {named}");
    }
    format!("{method} {named}")
}

fn note(link: &Link, what: &str, code: u16) {
    let (cluster, user) = (&link.cluster, &link.user);
    let line = format_args!("{user} {what} -> {code}");
    cluster.journal().note(cluster.elapsed(), line);
}

async fn answer(link: &Link, what: &str, reply: Reply, back: Duration) -> Option<Responded> {
    note(link, what, reply.code);
    tokio::time::sleep(back).await;
    if link.up().await {
        return Some(broken("the connection broke before the answer came"));
    }
    let body = Full::new(Bytes::from(reply.body.to_string())).map_err(|never: Infallible| match never {});
    let mut response = Response::new(body.boxed_unsync());
    *response.status_mut() = http::StatusCode::from_u16(reply.code).expect("a status code");
    headers(link, response.headers_mut());
    if let Some(seconds) = reply.retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    Some(Ok(response))
}

fn headers(link: &Link, headers: &mut HeaderMap) {
    headers.insert(header::DATE, link.cluster.date());
    headers.insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("application/json"),
    );
}

fn broken(why: &str) -> Responded {
    Err(std::io::Error::new(std::io::ErrorKind::ConnectionReset, why).into())
}

fn status(code: u16, reason: &str, message: &str, details: Value) -> Reply {
    Reply {
        code,
        body: std::sync::Arc::new(json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": message, "reason": reason, "details": details, "code": code,
        })),
        retry_after: None,
    }
}

fn failure(code: u16) -> Reply {
    let reason = match code {
        503 => "ServiceUnavailable",
        504 => "Timeout",
        _ => "InternalError",
    };
    status(code, reason, "testbed: injected", json!({}))
}

fn quota() -> Reply {
    let message = "pods \"testbed\" is forbidden: exceeded quota: injected";
    status(403, "Forbidden", message, json!({ "kind": "pods" }))
}

/// An empty list, as a cache gives that has just begun to fill.
fn hide(list: &mut Reply) {
    let mut body = (*list.body).clone();
    body["items"] = json!([]);
    if let Some(metadata) = body.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("continue");
        metadata.remove("remainingItemCount");
    }
    list.body = std::sync::Arc::new(body);
}

fn conflict() -> Reply {
    status(409, "Conflict", "testbed: injected conflict", json!({}))
}

/// Priority and fairness answers with a header and plain words; so does this, for odd numbers.
fn too_many(seconds: u32) -> Reply {
    let mut reply = status(
        429,
        "TooManyRequests",
        "testbed: injected, too many requests",
        json!({ "retryAfterSeconds": seconds }),
    );
    if seconds % 2 == 1 {
        reply.body = std::sync::Arc::new(json!("Too many requests, please try again later."));
    }
    reply.retry_after = Some(seconds);
    reply
}

/// How often an idle watch gets a bookmark.
const BOOKMARK: Duration = Duration::from_secs(60);
/// How long a watch lasts whose client says nothing.
const LASTS: u64 = 1800;

fn stream(link: &Link, watch: Watch, query: &str) -> Response<UnsyncBoxBody<Bytes, BoxError>> {
    let (sender, receiver) = mpsc::unbounded();
    let timeout = query
        .split('&')
        .find_map(|pair| pair.strip_prefix("timeoutSeconds="))
        .and_then(|seconds| seconds.parse().ok())
        .unwrap_or(LASTS);
    let feed = feed(link.clone(), watch, sender);
    link.cluster.spawn(async move {
        // At its end the stream closes, as a real one does.
        let _ended = tokio::time::timeout(Duration::from_secs(timeout), feed).await;
    });
    let mut response = Response::new(StreamBody::new(receiver).boxed_unsync());
    headers(link, response.headers_mut());
    response
}

type Frames = mpsc::UnboundedSender<Result<http_body::Frame<Bytes>, BoxError>>;

/// Delivers what a watch sees until it is cut, ends, or nobody listens.
async fn feed(link: Link, mut watch: Watch, sender: Frames) {
    let (mut bell, mut expires) = (link.cluster.bell(), None);
    loop {
        let seen = bell.latest().max(watch.position());
        let lines = link.cluster.api(|api| watch.poll(api, seen));
        if !lines.is_empty() {
            match link.dice.delivery() {
                Delivery::After(delay) => tokio::time::sleep(delay).await,
                Delivery::Cut => return,
                Delivery::Expire => return link.cluster.api(|api| api.compact(api.revision())),
            }
            if link.up().await {
                return;
            }
        }
        for line in lines {
            match deliver(&link, &watch, line, &sender) {
                Delivered::Yes => {}
                Delivered::Dropped => expires = Some(Instant::now() + FOUND_OUT),
                Delivered::NobodyListens => return,
            }
        }
        if watch.ended() {
            return;
        }
        tokio::select! {
            biased; // a change is news, a bookmark is not
            () = bell.changed() => {}
            () = at(expires) => {
                let status = status(410, "Expired", "too old resource version", json!({}));
                push(&sender, json!({ "type": "ERROR", "object": &*status.body }).to_string().into_bytes());
                return;
            }
            () = tokio::time::sleep(BOOKMARK) => {
                let mark = link.cluster.api(|api| watch.bookmark(api));
                if !mark.is_none_or(|line| push(&sender, line.json)) {
                    return;
                }
            }
        }
    }
}

/// A watch that has lost an event expires after this; its client lists again.
const FOUND_OUT: Duration = Duration::from_secs(40);

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Delivered {
    Yes,
    Dropped,
    NobodyListens,
}

fn deliver(link: &Link, watch: &Watch, line: api::Line, sender: &Frames) -> Delivered {
    let what = || {
        format!(
            "{} {} {}/{}",
            line.kind,
            watch.resource(),
            line.namespace,
            line.name
        )
    };
    let cluster = &link.cluster;
    cluster.journal().note(
        cluster.elapsed(),
        format_args!("{} sees {} at {}", link.user, what(), line.revision),
    );
    if link.count_delivery(what) {
        return Delivered::Dropped;
    }
    link.count_heard(watch.resource(), line.json.len());
    if push(sender, line.json) {
        Delivered::Yes
    } else {
        Delivered::NobodyListens
    }
}

fn push(sender: &Frames, mut json: Vec<u8>) -> bool {
    json.push(b'\n');
    let frame = http_body::Frame::data(Bytes::from(json));
    sender.unbounded_send(Ok(frame)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn list_of_metadata_is_never_stale() {
        let get = |path: &str, accept: &str| api::Request {
            user: "korder".into(),
            method: Method::GET,
            path: path.to_owned(),
            query: "limit=500".to_owned(),
            accept: accept.to_owned(),
            content_type: String::new(),
            body: Vec::new(),
        };
        let (whole, metadata) = (
            "application/json",
            "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
        );
        let nodes = "/api/v1/nodes";
        assert_eq!(lag(&get(nodes, whole), Twist::Stale(3)), Some(3));
        assert_eq!(lag(&get(nodes, metadata), Twist::Stale(3)), None);
        assert_eq!(lag(&get("/api/v1/nodes/n1", whole), Twist::Stale(3)), None);
        assert_eq!(lag(&get(nodes, whole), Twist::Conflict), None);
    }
}
