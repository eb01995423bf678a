//! The two servers that are asked the same: each answers a request with a whole body or a watch.
//!
//! An arm remembers what it answered in one case and gives its bodies in comparable form.

use std::{collections::VecDeque, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use http_body_util::BodyExt;
use jiff::Timestamp;
use kube::client::Body;
use serde_json::{Value, json};
use testbed::{
    real::{Plane, wait},
    sim::api::{Answer, ApiServer, Request, Watch},
};

use crate::{memory::Memory, normal::Symbols, step::Call};

/// How long one answer, or the next event of a watch, may take on the real server.
const PATIENCE: Duration = Duration::from_secs(20);

/// A comparable answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Answered {
    pub(crate) code: u16,
    pub(crate) retry_after: Option<u32>,
    pub(crate) body: Value,
}

/// What one arm knows in one case.
pub(crate) struct Arm<S> {
    server: S,
    memory: Memory,
    symbols: Symbols,
}

/// What an arm asks.
pub(crate) trait Server {
    type Stream: Events;

    async fn send(&mut self, request: &Request) -> Result<Raw<Self::Stream>>;

    /// Forgets the history up to now.
    async fn forget(&mut self) -> Result<()>;

    /// The next event of a watch; none if there is none without waiting, or its end was reached.
    async fn next(&mut self, watch: &mut Self::Stream) -> Result<Option<Value>>;
}

/// An open watch.
pub(crate) trait Events {
    /// Events read but not yet compared.
    fn read(&mut self) -> &mut VecDeque<Value>;
}

/// An answer as it came.
pub(crate) enum Raw<S> {
    Whole(u16, Option<u32>, Value),
    Watch(S),
}

impl<S: Server> Arm<S> {
    pub(crate) fn new(server: S, id: &str) -> Self {
        Self {
            server,
            memory: Memory::new(id),
            symbols: Symbols::default(),
        }
    }

    /// Asks and waits for the whole answer.
    pub(crate) async fn ask(&mut self, call: &Call) -> Result<Answered> {
        match self.open(call).await? {
            Ok(_) => bail!("a watch was not asked for"),
            Err(answered) => Ok(answered),
        }
    }

    /// Opens a watch, or gives the answer that is none. A watch that streams its initial events has sent
    /// them all when this returns, so that what follows is no part of them.
    pub(crate) async fn open(&mut self, call: &Call) -> Result<Result<S::Stream, Answered>> {
        let request = self.memory.fill(call);
        let mut stream = match self.server.send(&request).await? {
            Raw::Watch(stream) => stream,
            Raw::Whole(code, retry_after, body) => {
                self.memory.learn(&request, &body);
                let sent: Value = serde_json::from_slice(&request.body).unwrap_or_default();
                if let Some(prefix) = sent["metadata"]["generateName"].as_str() {
                    self.symbols.generated_from(prefix, &body);
                }
                let body = self.symbols.body(body, Timestamp::now());
                return Ok(Err(Answered {
                    code,
                    retry_after,
                    body,
                }));
            }
        };
        if request.query.contains("sendInitialEvents=true") {
            let mut initial = VecDeque::new();
            loop {
                let event = self.server.next(&mut stream).await?;
                let event = event.context("the initial events have no end")?;
                let last = event["type"] != "ADDED";
                initial.push_back(event);
                if last {
                    break;
                }
            }
            *stream.read() = initial;
        }
        Ok(Ok(stream))
    }

    /// Asks for what is not compared; it must be created.
    pub(crate) async fn prepare(&mut self, call: &Call) -> Result<()> {
        match self.server.send(&self.memory.fill(call)).await? {
            Raw::Whole(201, ..) => Ok(()),
            Raw::Whole(code, _, body) => bail!("{code}: {body}"),
            Raw::Watch(_) => bail!("a watch was not asked for"),
        }
    }

    /// Forgets the history up to now.
    pub(crate) async fn forget(&mut self) -> Result<()> {
        self.server.forget().await
    }

    /// The events up to the first that names `end`, in comparable form.
    pub(crate) async fn collect(&mut self, mut watch: S::Stream, end: &str) -> Result<Vec<Value>> {
        let end = self.memory.fill_text(end);
        let (mut events, mut newest) = (Vec::new(), 0);
        loop {
            let read = watch.read().pop_front();
            let next = match read {
                Some(event) => Some(event),
                None => self.server.next(&mut watch).await?,
            };
            let Some(event) = next else {
                events.push(json!(format!("no event names {end}")));
                return Ok(events);
            };
            let metadata = &event["object"]["metadata"];
            let last = metadata["name"] == *end || metadata["annotations"]["end"] == *end;
            let over = event["type"] == "ERROR";
            events.extend(self.symbols.event(event, &mut newest, Timestamp::now()));
            if last || over {
                return Ok(events);
            }
        }
    }
}

/// The simulated server: one of its own for each case.
pub(crate) struct Simulated(pub(crate) ApiServer);

/// A watch on the simulated server.
pub(crate) struct SimulatedWatch {
    watch: Watch,
    read: VecDeque<Value>,
}

impl Events for SimulatedWatch {
    fn read(&mut self) -> &mut VecDeque<Value> {
        &mut self.read
    }
}

impl Server for Simulated {
    type Stream = SimulatedWatch;

    async fn send(&mut self, request: &Request) -> Result<Raw<SimulatedWatch>> {
        self.0.set_now(Timestamp::now());
        Ok(match self.0.handle(request) {
            Answer::Whole(reply) => Raw::Whole(reply.code, reply.retry_after, Value::clone(&reply.body)),
            Answer::Watch(watch) => {
                // What the watch begins with is what the server has now.
                let mut watch = SimulatedWatch {
                    watch,
                    read: VecDeque::new(),
                };
                self.poll(&mut watch)?;
                Raw::Watch(watch)
            }
        })
    }

    async fn forget(&mut self) -> Result<()> {
        self.0.compact(self.0.revision());
        Ok(())
    }

    async fn next(&mut self, watch: &mut SimulatedWatch) -> Result<Option<Value>> {
        if watch.read.is_empty() {
            self.poll(watch)?;
        }
        Ok(watch.read.pop_front())
    }
}

impl Simulated {
    fn poll(&self, watch: &mut SimulatedWatch) -> Result<()> {
        for line in watch.watch.poll(&self.0, self.0.revision()) {
            watch.read.push_back(serde_json::from_slice(&line.json)?);
        }
        Ok(())
    }
}

/// The real server, shared by all cases.
pub(crate) struct Real<'a>(pub(crate) &'a Plane);

/// A watch on the real server.
pub(crate) struct RealWatch {
    body: Body,
    bytes: Vec<u8>,
    read: VecDeque<Value>,
}

impl Events for RealWatch {
    fn read(&mut self) -> &mut VecDeque<Value> {
        &mut self.read
    }
}

impl Server for Real<'_> {
    type Stream = RealWatch;

    async fn send(&mut self, request: &Request) -> Result<Raw<RealWatch>> {
        let question = format!("{} {}?{}", request.method, request.path, request.query);
        let target = match request.query.as_str() {
            "" => request.path.clone(),
            query => format!("{}?{query}", request.path),
        };
        let mut built = http::Request::builder()
            .method(request.method.clone())
            .uri(target)
            .header(http::header::ACCEPT, &request.accept);
        if !request.body.is_empty() {
            built = built.header(http::header::CONTENT_TYPE, &request.content_type);
        }
        let client = self.0.client();
        let sent = client.send(built.body(Body::from(request.body.clone()))?);
        let answer = tokio::time::timeout(PATIENCE, sent).await;
        let answer = answer
            .with_context(|| question.clone())?
            .with_context(|| question.clone())?;
        let code = answer.status().as_u16();
        let retry_after = answer.headers().get(http::header::RETRY_AFTER);
        let retry_after = retry_after.and_then(|value| value.to_str().ok()?.parse().ok());
        if code == 200 && is_watch(&request.query) {
            return Ok(Raw::Watch(RealWatch {
                body: answer.into_body(),
                bytes: Vec::new(),
                read: VecDeque::new(),
            }));
        }
        let bytes = tokio::time::timeout(PATIENCE, answer.into_body().collect_bytes());
        let bytes = bytes.await.with_context(|| question.clone())??;
        let text = || Value::from(String::from_utf8_lossy(&bytes).into_owned());
        let body = serde_json::from_slice(&bytes).unwrap_or_else(|_| text());
        Ok(Raw::Whole(code, retry_after, body))
    }

    async fn forget(&mut self) -> Result<()> {
        self.0.forget_history().await?;
        let client = self.0.client();
        wait::until(PATIENCE, "the caches to be there", async || {
            let request = http::Request::get("/apis/core.korder.dev/v1alpha1/tickets?resourceVersion=0");
            let request = request.body(Vec::new()).map_err(|error| error.to_string())?;
            client
                .request_text(request)
                .await
                .map_err(|error| error.to_string())
        })
        .await?;
        Ok(())
    }

    async fn next(&mut self, watch: &mut RealWatch) -> Result<Option<Value>> {
        loop {
            if let Some(end) = watch.bytes.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = watch.bytes.drain(..=end).collect();
                return Ok(Some(serde_json::from_slice(&line)?));
            }
            let frame = tokio::time::timeout(PATIENCE, watch.body.frame()).await;
            let Ok(frame) = frame else { return Ok(None) };
            let Some(frame) = frame else {
                ensure!(watch.bytes.is_empty(), "the watch ended within a line");
                return Ok(None);
            };
            if let Ok(data) = frame?.into_data() {
                watch.bytes.extend_from_slice(&data);
            }
        }
    }
}

/// Whether a query asks for a watch.
pub(crate) fn is_watch(query: &str) -> bool {
    let mut pairs = query.split('&');
    pairs.any(|pair| matches!(pair, "watch=true" | "watch=1"))
}
