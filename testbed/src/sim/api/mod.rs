//! The simulated API server: a plain synchronous state machine over JSON objects.
//!
//! It has one revision counter and a log of changes; whoever calls it passes the time. It knows only
//! what korder, its actors and `kubectl get` use, and answers 501 to the rest.

mod cel;
mod create;
mod decode;
mod delete;
mod discovery;
mod evaluate;
mod events;
mod expression;
mod fields;
mod handle;
mod kind;
mod list;
mod meta;
mod names;
mod namespaces;
mod nodes;
mod pods;
mod quantity;
mod query;
mod route;
mod schema;
mod selectors;
mod server;
mod shards;
mod status;
mod store;
mod strategy;
mod table;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod update;
mod view;
mod watch;

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;

pub use self::{
    server::ApiServer,
    watch::{Line, Watch},
};

/// Who asks, as the audit log of a real server would name it.
pub type User = Arc<str>;

/// One HTTP request.
#[derive(Clone, Debug)]
pub struct Request {
    /// Who asks.
    pub user: User,
    /// `GET`, `POST`, `PUT`, `PATCH` or `DELETE`.
    pub method: http::Method,
    /// The path, without the query.
    pub path: String,
    /// The query, percent-encoded, without `?`.
    pub query: String,
    /// The `Accept` header.
    pub accept: String,
    /// The `Content-Type` header.
    pub content_type: String,
    /// The body.
    pub body: Vec<u8>,
}

/// What a request is answered.
#[derive(Debug)]
pub enum Answer {
    /// A whole body.
    Whole(Reply),
    /// A stream of watch events.
    Watch(Watch),
}

/// A whole answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// The HTTP status code.
    pub code: u16,
    /// The body.
    pub body: Arc<Value>,
    /// Seconds of the `Retry-After` header.
    pub retry_after: Option<u32>,
}

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChangeKind {
    /// It is new.
    Added,
    /// It changed.
    Modified,
    /// It is gone; `after` is its last state at the new revision.
    Deleted,
}

/// One committed change.
#[derive(Clone, Debug)]
pub struct Change {
    /// The store's revision after it.
    pub revision: u64,
    /// The server's time.
    pub at: Timestamp,
    /// Who did it.
    pub by: User,
    /// The resource's plural, such as `pods`.
    pub resource: Arc<str>,
    /// The object's namespace; empty for cluster-scoped ones.
    pub namespace: Arc<str>,
    /// The object's name.
    pub name: Arc<str>,
    /// What happened.
    pub kind: ChangeKind,
    /// The object before, unless it is new.
    pub before: Option<Arc<Value>>,
    /// The object after, with the new resourceVersion.
    pub after: Arc<Value>,
}
