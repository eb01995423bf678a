//! How one request is sent: in its turn, under its Lease, within four seconds; and how it fails.
//!
//! Nothing is sent twice here: whoever decided the operation decides again.

use std::{
    future::Future,
    sync::{Arc, atomic::Ordering},
    task::Poll,
    time::Duration,
};

use kube::{
    Api, Resource,
    core::{NamespaceResourceScope, Status},
};
use tokio::time::error::Elapsed;

use super::{Writer, pending::Permit};
use crate::{
    domain::{pair::op::Outcome, values::ids::ObjectKey},
    queue::{Lane, budget::Feedback},
};

/// How long one request may take; the API server is told the same.
pub const TIMEOUT: Duration = Duration::from_secs(4);

/// How a request failed.
#[derive(Debug)]
pub(super) enum RequestError {
    NotFound,
    /// 409 on a create.
    AlreadyExists,
    /// 409 on a patch or a delete.
    Conflict,
    /// Its time would end after the Lease: nothing was sent.
    Leaseless,
    /// 429 or 503: nothing landed.
    Later(Arc<str>),
    /// The namespace is being deleted.
    NamespaceTerminating,
    /// korder lacks the right, perhaps only until an API server that starts has read its roles.
    Unauthorized(Arc<str>),
    /// The API server will not have it.
    Refused(Arc<str>),
    /// No answer: it may have landed.
    Unknown {
        message: Arc<str>,
        /// Nothing else is answered either.
        outage: bool,
    },
}

impl Writer {
    /// Sends one request, when its turn has come, with the time limit.
    pub(super) async fn ask<T>(
        &self,
        request: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, RequestError> {
        let permit = self.admitted().await;
        if !self.lease.admits(self.pending.now(), TIMEOUT) {
            return Err(RequestError::Leaseless);
        }
        let sent = tokio::select! {
            biased; // a process that was stopped looks at its Lease before anything else goes out
            () = self.over() => {
                return Err(RequestError::Unknown {
                    message: "the Lease ran out before the answer".into(),
                    outage: false,
                });
            }
            sent = tokio::time::timeout(TIMEOUT, request) => sent,
        };
        permit.answered(feedback(&sent));
        match sent {
            Ok(sent) => sent.map_err(|error| self.failed(error)),
            Err(_) => Err(RequestError::Unknown {
                message: "no answer within 4 s".into(),
                outage: self.pending.outage(),
            }),
        }
    }

    /// Waits for leave to send, which an operation whose turn it is has for its first request.
    async fn admitted(&self) -> Permit {
        let given = self.permit.lock().take();
        let mut permit = match given {
            Some(permit) => permit,
            None => self.pending.turn(self.lane).await,
        };
        // The gate may have been closed since.
        while self.pending.closed_until().is_some() {
            drop(permit);
            permit = self.pending.turn(Lane::Settle).await;
        }
        permit
    }

    fn failed(&self, error: kube::Error) -> RequestError {
        let error = RequestError::read(error, self.pending.outage());
        if let RequestError::Unauthorized(message) = &error
            && !self.warned.swap(true, Ordering::Relaxed)
        {
            tracing::warn!(message = &**message, "korder lacks a right: check deploy/rbac");
        }
        error
    }

    /// Ready when the Lease has run out, as seen by whatever wakes the task.
    async fn over(&self) {
        let held = || self.lease.admits(self.pending.now(), Duration::ZERO);
        std::future::poll_fn(|_| if held() { Poll::Pending } else { Poll::Ready(()) }).await;
    }

    pub(super) fn api<K>(&self, key: &ObjectKey) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), key.namespace.as_str())
    }
}

/// What the answer says of the API server.
fn feedback<T>(sent: &Result<kube::Result<T>, Elapsed>) -> Feedback {
    let status = match sent {
        Ok(Err(kube::Error::Api(status))) => status,
        Ok(Ok(_) | Err(kube::Error::SerdeError(_))) => return Feedback::Served,
        Ok(Err(_)) | Err(_) => return Feedback::Silence,
    };
    match status.code {
        429 | 503 => Feedback::TooMuch(retry_after(status)),
        504 => Feedback::Silence,
        500 | 502 => Feedback::Nothing,
        _ => Feedback::Served,
    }
}

/// The time that the answer's body asks for; the client has read the header.
fn retry_after(status: &Status) -> Option<Duration> {
    let seconds = status.details.as_ref()?.retry_after_seconds;
    (seconds > 0).then(|| Duration::from_secs(seconds.into()))
}

impl RequestError {
    fn read(error: kube::Error, outage: bool) -> Self {
        let kube::Error::Api(status) = error else {
            let message = error.to_string().into();
            return Self::Unknown { message, outage };
        };
        let message: Arc<str> = status.message.as_str().into();
        let details = status.details.as_ref();
        let causes = details
            .map(|details| details.causes.as_slice())
            .unwrap_or_default();
        match (status.code, status.reason.as_str()) {
            (404, _) => Self::NotFound,
            (409, "AlreadyExists") => Self::AlreadyExists,
            (409, _) => Self::Conflict,
            // A patch that names another uid than the object has.
            (422, _) if causes.iter().any(|cause| cause.field == "metadata.uid") => Self::Conflict,
            (403, _) if causes.iter().any(|cause| cause.reason == "NamespaceTerminating") => {
                Self::NamespaceTerminating
            }
            (403, _) if unauthorized(&message) => Self::Unauthorized(message),
            (429 | 503, _) => Self::Later(message),
            (500 | 502 | 504, _) => Self::Unknown { message, outage },
            _ => Self::Refused(message),
        }
    }

    pub(super) fn outcome(self, refusal: &'static str) -> Outcome {
        let retry = |message: Arc<str>| Outcome::Retry { message };
        match self {
            Self::NotFound => retry("not found".into()),
            Self::AlreadyExists | Self::Conflict => retry("conflict".into()),
            Self::Leaseless => Outcome::Busy {
                message: "the Lease would end too soon".into(),
            },
            Self::Later(message)
            | Self::Unknown {
                message,
                outage: true,
            } => Outcome::Busy { message },
            Self::NamespaceTerminating => Outcome::NamespaceTerminating,
            Self::Refused(message) => Outcome::Refused {
                reason: refusal,
                message,
            },
            Self::Unauthorized(message)
            | Self::Unknown {
                message,
                outage: false,
            } => retry(message),
        }
    }
}

/// Whether the authorizer said so, and not admission, whose messages name no User in this place:
/// `k8s.io/apiserver/pkg/endpoints/handlers/responsewriters/errors.go`.
fn unauthorized(message: &str) -> bool {
    message
        .split_once(" is forbidden: User \"")
        .is_some_and(|(what, who)| !what.starts_with("admission webhook") && who.contains("\" cannot "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_authorizer_is_taken_for_the_authorizer() {
        let who = r#"User "system:serviceaccount:k:korder" cannot create resource "pods" in API group """#;
        for (message, expected) in [
            (format!("pods is forbidden: {who}"), true),
            (format!(r#"pods "guardian-t" is forbidden: {who}"#), true),
            (
                r#"pods "guardian-t" is forbidden: exceeded quota: q"#.to_owned(),
                false,
            ),
            (
                r#"pods "guardian-t" is forbidden: violates PodSecurity "restricted:latest""#.to_owned(),
                false,
            ),
            (
                r#"pods "guardian-t" is forbidden: no PriorityClass with name p was found"#.to_owned(),
                false,
            ),
            (
                format!(r#"admission webhook "w" denied the request: pods is forbidden: {who}"#),
                false,
            ),
        ] {
            assert_eq!(unauthorized(&message), expected, "{message}");
        }
    }
}
