//! The simulated API over HTTP on loopback, for `kubectl`: on a thread and a runtime of its own, while the
//! cluster's own time is virtual.

use std::{
    convert::Infallible,
    fs::{File, OpenOptions},
    io::Write,
    net::{Ipv4Addr, TcpListener},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result};
use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    extract::State,
    http::{HeaderMap, HeaderName, Request, Response, StatusCode, header},
};
use futures::stream;
use serde_json::Value;
use testbed::sim::{
    api::{self, Answer, Reply, Watch},
    bell::Bell,
    cluster::Cluster,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::Instant,
};

/// How long a watch lasts whose client says nothing, in seconds.
const LASTS: u64 = 1800;
/// How often an idle watch gets a bookmark.
const BOOKMARK: Duration = Duration::from_secs(30);
const STRATEGIC: &str = "application/strategic-merge-patch+json";
const MERGE: &str = "application/merge-patch+json";
/// Greatest length of a body.
const LONGEST: usize = 3 << 20;

/// Serves until the process ends; takes its kubeconfig away when dropped.
pub(crate) struct Server {
    kubeconfig: PathBuf,
}

impl Server {
    /// Serves `cluster` from now on. Ctrl-C or SIGTERM no longer ends the process, which would leave the kubeconfig
    /// behind, but sets `interrupted`.
    pub(crate) fn start(cluster: &Cluster, interrupted: Arc<AtomicBool>) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listening on loopback")?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        let kubeconfig = std::env::temp_dir().join(format!("korder-demo-{port}.kubeconfig"));
        let path = kubeconfig.display();
        write_kubeconfig(&kubeconfig, port).with_context(|| format!("writing {path}"))?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let cluster = cluster.clone();
        std::thread::Builder::new()
            .name("api".to_owned())
            .spawn(move || {
                let ended = runtime.block_on(async {
                    tokio::select! {
                        biased; // a request does not keep a user from leaving
                        caught = interrupt() => caught.context("catching signals"),
                        served = serve(listener, cluster) => served,
                    }
                });
                interrupted.store(true, Ordering::Release);
                if let Err(error) = ended {
                    eprintln!("demo: serving the API: {error:#}");
                }
            })?;
        Ok(Self { kubeconfig })
    }

    /// What to type to look around.
    pub(crate) fn usage(&self) -> String {
        let path = self.kubeconfig.display();
        format!("KUBECONFIG={path} kubectl get orders")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Somebody else may have taken it away.
        let _gone = std::fs::remove_file(&self.kubeconfig);
    }
}

async fn interrupt() -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        biased; // either will do
        caught = tokio::signal::ctrl_c() => caught,
        _ = terminate.recv() => Ok(()),
    }
}

fn write_kubeconfig(path: &Path, port: u16) -> Result<()> {
    let mut file: File = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    write!(
        file,
        "apiVersion: v1\n\
         kind: Config\n\
         clusters: [{{ name: demo, cluster: {{ server: \"http://127.0.0.1:{port}\" }} }}]\n\
         users: [{{ name: kubectl, user: {{}} }}]\n\
         contexts: [{{ name: demo, context: {{ cluster: demo, user: kubectl }} }}]\n\
         current-context: demo\n"
    )?;
    Ok(())
}

async fn serve(listener: TcpListener, cluster: Cluster) -> Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let router = Router::new().fallback(answer).with_state(cluster);
    axum::serve(listener, router).await?;
    Ok(())
}

async fn answer(State(cluster): State<Cluster>, request: Request<Body>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, LONGEST).await else {
        return plain(StatusCode::PAYLOAD_TOO_LARGE);
    };
    let mut content_type = text(&parts.headers, header::CONTENT_TYPE);
    if content_type == STRATEGIC && merges(&body) {
        content_type = MERGE.to_owned();
    }
    let asked = api::Request {
        user: "kubectl".into(),
        method: parts.method,
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().unwrap_or_default().to_owned(),
        accept: text(&parts.headers, header::ACCEPT),
        content_type,
        body: body.to_vec(),
    };
    // The objects' times are virtual, so the server's is.
    let date = cluster.date();
    let mut response = match cluster.api(|api| api.handle(&asked)) {
        Answer::Whole(reply) => whole(&reply),
        Answer::Watch(watch) => {
            let lasts = Duration::from_secs(watch.timeout_seconds().unwrap_or(LASTS));
            let feed = Feed {
                bell: cluster.bell(),
                until: Instant::now() + lasts,
                cluster,
                watch,
            };
            let mut response = plain(StatusCode::OK);
            *response.body_mut() = Body::from_stream(stream::unfold(feed, Feed::next));
            response
        }
    };
    response.headers_mut().insert(header::DATE, date);
    response
}

/// Whether a strategic merge patch does what a JSON merge patch would: it has no directives, and no lists but taints,
/// which are replaced as a whole. What `kubectl cordon` and `kubectl taint` send is such a one.
fn merges(patch: &[u8]) -> bool {
    fn plain(value: &Value) -> bool {
        match value {
            Value::Array(_) => false,
            Value::Object(fields) => fields.iter().all(|(name, value)| {
                !name.starts_with('$') && (plain(value) || name == "taints" && value.is_array())
            }),
            _ => true,
        }
    }
    serde_json::from_slice(patch).is_ok_and(|patch| plain(&patch))
}

fn text(headers: &HeaderMap, name: HeaderName) -> String {
    let value = headers.get(name).and_then(|value| value.to_str().ok());
    value.unwrap_or_default().to_owned()
}

fn plain(code: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = code;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("application/json"),
    );
    response
}

fn whole(reply: &Reply) -> Response<Body> {
    let mut response = plain(StatusCode::from_u16(reply.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR));
    *response.body_mut() = Body::from(reply.body.to_string());
    if let Some(seconds) = reply.retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    response
}

/// A watch and when it has something to say.
struct Feed {
    cluster: Cluster,
    watch: Watch,
    bell: Bell,
    until: Instant,
}

impl Feed {
    /// The next lines; none at the end of the watch.
    async fn next(mut self) -> Option<(Result<Bytes, Infallible>, Self)> {
        loop {
            let seen = self.bell.latest().max(self.watch.position());
            let watch = &mut self.watch;
            let lines = self.cluster.api(|api| watch.poll(api, seen));
            if !lines.is_empty() {
                return Some((Ok(joined(lines)), self));
            }
            if self.watch.ended() {
                return None;
            }
            tokio::select! {
                biased; // a change is news, a bookmark is not
                () = self.bell.changed() => {}
                () = tokio::time::sleep_until(self.until) => return None,
                () = tokio::time::sleep(BOOKMARK) => {
                    let watch = &mut self.watch;
                    if let Some(line) = self.cluster.api(|api| watch.bookmark(api)) {
                        return Some((Ok(joined(vec![line])), self));
                    }
                }
            }
        }
    }
}

fn joined(lines: Vec<api::Line>) -> Bytes {
    let mut all = Vec::new();
    for line in lines {
        all.extend_from_slice(&line.json);
        all.push(b'\n');
    }
    all.into()
}

#[cfg(test)]
mod tests {
    use testbed::sim::journal::{Journal, Keep};

    use super::*;

    #[test]
    fn strategic_patches_without_lists_and_directives_are_merge_patches() {
        let patches = [
            (r#"{"spec":{"unschedulable":true}}"#, true),
            (r#"{"metadata":{"labels":{"team":null}}}"#, true),
            (r#"{"spec":{"taints":[{"key":"a","effect":"NoSchedule"}]}}"#, true),
            (r#"{"spec":{"containers":[{"name":"a"}]}}"#, false),
            (r#"{"metadata":{"labels":{"$patch":"replace"}}}"#, false),
            ("no JSON", false),
        ];
        for (patch, merge) in patches {
            assert_eq!(merges(patch.as_bytes()), merge, "{patch}");
        }
    }

    /// The answer to a GET, a minute of virtual time after the beginning.
    fn got(path: &str) -> (HeaderMap, Value) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let cluster = Cluster::new(1, 1.0, Journal::new(Keep::Digest));
            for crd in korder::api::crds() {
                cluster.api(|api| api.install(&serde_json::to_value(crd).unwrap()));
            }
            tokio::time::sleep(Duration::from_secs(60)).await;
            let request = Request::get(path).body(Body::empty()).unwrap();
            let (parts, body) = answer(State(cluster), request).await.into_parts();
            assert_eq!(parts.status, StatusCode::OK, "{path}");
            let body = to_bytes(body, LONGEST).await.unwrap();
            (parts.headers, serde_json::from_slice(&body).unwrap())
        })
    }

    #[test]
    fn answers_are_dated_in_virtual_time() {
        let (headers, namespaces) = got("/api/v1/namespaces");
        let created = &namespaces["items"][0]["metadata"]["creationTimestamp"];
        let created: jiff::Timestamp = created.as_str().unwrap().parse().unwrap();
        let date = jiff::fmt::rfc2822::parse(headers[header::DATE].to_str().unwrap()).unwrap();
        assert_eq!(date.timestamp().duration_since(created).as_secs(), 60);
    }

    #[test]
    fn kubectl_learns_that_the_server_checks_fields_and_what_they_mean() {
        let (_, index) = got("/openapi/v3");
        let link = &index["paths"]["apis/core.korder.dev/v1alpha1"]["serverRelativeURL"];
        let (_, document) = got(link.as_str().unwrap());
        let patch = &document["paths"]["/apis/core.korder.dev/v1alpha1/orders/{name}"]["patch"];
        assert_eq!(patch["x-kubernetes-group-version-kind"]["kind"], "Order");
        assert_eq!(patch["parameters"][0]["name"], "fieldValidation");
        let order = &document["components"]["schemas"]["Order"]["properties"]["spec"];
        assert!(
            order["properties"]["paused"]["description"].is_string(),
            "{order}"
        );
    }
}
