//! Sends operations and turns every answer into an [`Outcome`].
//!
//! A write takes at most four seconds; one that got no answer is settled by a GET. Nothing is
//! retried here: whoever decided the operation decides again.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
    time::Duration,
};

use k8s_openapi::api::core::v1::{Node as FullNode, Pod};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
    core::{ObjectMeta, PartialObjectMeta, Status},
};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::time::error::Elapsed;

use super::{
    body::{self, Guardians},
    pending::{Pending, Permit},
};
use crate::{
    api::{Order, Ticket},
    domain::{
        node::record::Node,
        order::spec::{self, Template},
        pair::{
            names::ticket_name,
            observed::{Revision, TicketView},
            op::{Expect, Observation, Op, Outcome},
            reason,
        },
        values::{
            ids::{ObjectKey, OrderUid, PodKey, PodUid, TicketUid},
            shard::{ShardCount, ShardId},
        },
    },
    lease::deadline::Deadline,
    queue::{Lane, budget::Answer},
    shard::state::Work,
};

/// How long one request may take; the API server is told the same.
pub const TIMEOUT: Duration = Duration::from_secs(4);

/// Sends operations.
#[derive(Clone)]
pub struct Writer {
    pub(super) client: Client,
    pub(super) shards: ShardCount,
    guardians: Arc<Guardians>,
    pub(super) pending: Arc<Pending>,
    /// Where requests line up.
    lane: Lane,
    /// For the first request of an operation whose turn it is.
    permit: Arc<Mutex<Option<Permit>>>,
    /// Nothing begins that could end after this.
    lease: Arc<Deadline>,
    /// Somebody has been told of a right that is missing.
    warned: Arc<AtomicBool>,
}

/// How a request failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// 404.
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
    /// A writer that sends with `client`, whose own retries are off, when `pending` lets it and `lease`
    /// is held.
    pub fn new(
        client: Client,
        pending: Arc<Pending>,
        shards: ShardCount,
        guardians: Guardians,
        lease: Arc<Deadline>,
    ) -> Self {
        Self {
            client,
            shards,
            guardians: Arc::new(guardians),
            pending,
            lane: Lane::Settle,
            permit: Arc::default(),
            lease,
            warned: Arc::default(),
        }
    }

    /// This writer for one operation whose turn it is, under the Lease of its shard.
    pub fn holding(&self, permit: Permit, lease: Arc<Deadline>) -> Self {
        Self {
            lease,
            permit: Arc::new(Mutex::new(Some(permit))),
            ..self.in_lane(Lane::Settle)
        }
    }

    /// This writer for requests that line up in `lane`.
    pub(super) fn in_lane(&self, lane: Lane) -> Self {
        Self {
            lane,
            permit: Arc::default(),
            ..self.clone()
        }
    }

    /// Carries out one operation.
    pub async fn perform(&self, work: &Work) -> Outcome {
        match &work.op {
            Op::CreateTicket {
                order,
                node,
                sequence,
            } => self.create_ticket(order, node, *sequence, work.shard).await,
            Op::SyncTicket {
                order, ticket, asks, ..
            } => self.sync_ticket(order, ticket, *asks, work.shard).await,
            Op::SetStatus {
                uid,
                revision,
                status,
                term,
            } => {
                let patch = body::status_patch(uid, *revision, status, *term);
                self.patch_status(work, patch).await
            }
            Op::Renew { uid, revision, term } => {
                let patch = body::renewal_patch(uid, *revision, *term);
                self.patch_status(work, patch).await
            }
            Op::Expire {
                uid,
                revision,
                term,
                finished,
                reason,
                message,
            } => {
                let said = (reason.as_deref(), message.as_deref());
                let patch = body::expiry_patch(uid, *revision, *term, finished.0, said);
                self.patch_status(work, patch).await
            }
            Op::DeleteTicket { uid, revision, .. } => self.delete_ticket(work, uid, *revision).await,
            Op::CreateGuardian {
                pod,
                covered,
                unless,
                uid,
                order,
                node,
            } => {
                if let Some(other) = self.stands_at(work, unless.as_ref()).await {
                    return other;
                }
                let of = body::GuardianOf {
                    ticket: &work.ticket,
                    uid,
                    order: &order.uid,
                    shard: work.shard,
                };
                let body = body::guardian(pod, *covered, &of, template(order), node, &self.guardians);
                self.create_guardian(work, uid, pod, &body).await
            }
            Op::ExtendGuardian { pod, uid, order } => self.extend_guardian(work, pod, uid, order).await,
            Op::NominateGuardian {
                pod,
                uid,
                revision,
                node,
            } => {
                let patch = Patch::Merge(body::nominate_patch(uid, *revision, node));
                let (pods, params) = (self.pods(pod), PatchParams::default());
                let sent = self.ask(pods.patch_status(&pod.name, &params, &patch)).await;
                self.patched_guardian(work, pod, sent).await
            }
            Op::UngateGuardian {
                pod,
                uid,
                gates,
                unless,
            } => {
                if let Some(other) = self.stands_at(work, Some(unless)).await {
                    return other;
                }
                let sent = self.patch_pod(pod, &body::ungate_patch(uid, gates)).await;
                self.patched_guardian(work, pod, sent).await
            }
            Op::RelabelGuardian {
                pod,
                uid,
                order,
                template_hash,
            } => {
                let patch =
                    body::relabel_patch(uid, &work.ticket, order, work.shard, template_hash.as_deref());
                self.relabel_guardian(work, pod, &patch).await
            }
            Op::DeleteGuardian { pod, uid, .. } => self.delete_guardian(work, pod, uid).await,
            Op::DeleteOrphan { pod, uid, ticket } => self.delete_orphan(work, pod, uid, ticket).await,
            Op::ConfirmTicket => self.see_ticket(&work.ticket).await,
            Op::ConfirmGuardian(pod) => self.see_guardian(work, pod).await,
            Op::ConfirmOrder { key, uid } => self.see_order(key, uid).await,
            Op::ConfirmNode(ticket) => self.see_node(ticket).await,
        }
    }

    async fn create_ticket(
        &self,
        order: &spec::Order,
        node: &Node,
        sequence: i64,
        shard: ShardId,
    ) -> Outcome {
        let template = template(order);
        let ticket = body::ticket(order, template, node, sequence, shard);
        let name = ticket_name(&order.key.name, &order.uid, &node.uid, sequence);
        let key = ObjectKey::new(order.key.namespace.clone(), name);
        match self
            .ask(self.tickets(&key).create(&PostParams::default(), &ticket))
            .await
        {
            Ok(ticket) => Outcome::Landed(expect_ticket(&ticket)),
            Err(Failure::AlreadyExists | Failure::Unknown { .. }) => {
                self.settle_ticket(&key, &order.uid, &node.uid, sequence).await
            }
            Err(failure) => failure.outcome(reason::TICKET_REFUSED),
        }
    }

    async fn sync_ticket(
        &self,
        order: &spec::Order,
        ticket: &TicketView,
        asks: bool,
        shard: ShardId,
    ) -> Outcome {
        let template = template(order);
        let mut present = None;
        if asks && ticket.template_hash.as_ref() != template.hash.as_str() {
            match self.ask(self.tickets(&ticket.key).get(&ticket.key.name)).await {
                Ok(found) => present = found.spec.resources,
                Err(Failure::NotFound) => {
                    return Outcome::Observed(Observation::TicketGone(ticket.key.clone()));
                }
                Err(failure) => return failure.outcome(reason::TICKET_REFUSED),
            }
        }
        let patch = match asks {
            true => body::sync_patch(ticket, template, present.as_ref(), shard),
            false => body::align_patch(ticket, template, shard),
        };
        let sent = self.patch_ticket(&ticket.key, patch.clone()).await;
        match sent {
            Ok(landed) if !stays(&patch, &landed.metadata) => undone("Tickets"),
            Ok(ticket) => Outcome::Landed(expect_ticket(&ticket)),
            Err(Failure::NotFound | Failure::Conflict | Failure::Unknown { .. }) => {
                self.see_ticket(&ticket.key).await
            }
            Err(failure) => failure.outcome(reason::TICKET_REFUSED),
        }
    }

    async fn patch_ticket(&self, key: &ObjectKey, patch: Value) -> Result<Ticket, Failure> {
        let (params, patch) = (PatchParams::default(), Patch::Merge(patch));
        self.ask(self.tickets(key).patch(&key.name, &params, &patch))
            .await
    }

    async fn patch_status(&self, work: &Work, patch: Value) -> Outcome {
        let (params, patch) = (PatchParams::default(), Patch::Merge(patch));
        let tickets = self.tickets(&work.ticket);
        match self
            .ask(tickets.patch_status(&work.ticket.name, &params, &patch))
            .await
        {
            Ok(ticket) => Outcome::Landed(expect_ticket(&ticket)),
            Err(Failure::NotFound | Failure::Conflict | Failure::Unknown { .. }) => {
                self.see_ticket(&work.ticket).await
            }
            Err(failure) => failure.outcome(reason::TICKET_REFUSED),
        }
    }

    async fn delete_ticket(&self, work: &Work, uid: &TicketUid, revision: Revision) -> Outcome {
        let params = delete_params(uid.as_str(), Some(revision));
        match self
            .ask(self.tickets(&work.ticket).delete(&work.ticket.name, &params))
            .await
        {
            Ok(_) => Outcome::Landed(Expect::TicketGone(uid.clone())),
            Err(Failure::NotFound) => Outcome::Observed(Observation::TicketGone(work.ticket.clone())),
            Err(Failure::Conflict | Failure::Unknown { .. }) => self.see_ticket(&work.ticket).await,
            Err(failure) => failure.outcome(reason::TICKET_REFUSED),
        }
    }

    async fn create_guardian(&self, work: &Work, uid: &TicketUid, key: &PodKey, body: &Pod) -> Outcome {
        match self
            .ask(self.pods(key).create(&PostParams::default(), body))
            .await
        {
            Ok(pod) => Outcome::Landed(expect_guardian(key, &pod)),
            Err(Failure::AlreadyExists | Failure::Unknown { .. }) => {
                self.settle_guardian(work, uid, key).await
            }
            Err(failure) => failure.outcome(reason::GUARDIAN_REFUSED),
        }
    }

    /// What a GET tells unless no Guardian of the Ticket has this name.
    async fn stands_at(&self, work: &Work, pod: Option<&PodKey>) -> Option<Outcome> {
        match self.see_guardian(work, pod?).await {
            Outcome::Observed(Observation::GuardianGone(_)) => None,
            told => Some(told),
        }
    }

    async fn relabel_guardian(&self, work: &Work, pod: &PodKey, patch: &Value) -> Outcome {
        let sent = self.patch_pod(pod, patch).await;
        match sent {
            Ok(patched) if !stays(patch, &patched.metadata) => undone("Guardian Pods"),
            sent => self.patched_guardian(work, pod, sent).await,
        }
    }

    /// Its tolerations are read first: there are more than the template's, and none may go.
    async fn extend_guardian(&self, work: &Work, pod: &PodKey, uid: &PodUid, order: &spec::Order) -> Outcome {
        let patch = match self.ask(self.pods(pod).get(&pod.name)).await {
            Ok(found) => body::extend_patch(uid, &found, template(order)),
            failed => return self.patched_guardian(work, pod, failed).await,
        };
        let sent = self.patch_pod(pod, &patch).await;
        match sent {
            Ok(patched) if !stays(&patch, &patched.metadata) => undone("Guardian Pods"),
            sent => self.patched_guardian(work, pod, sent).await,
        }
    }

    async fn patch_pod(&self, pod: &PodKey, patch: &Value) -> Result<Pod, Failure> {
        let (params, merge) = (PatchParams::default(), Patch::Merge(patch));
        self.ask(self.pods(pod).patch(&pod.name, &params, &merge)).await
    }

    async fn patched_guardian(&self, work: &Work, pod: &PodKey, sent: Result<Pod, Failure>) -> Outcome {
        match sent {
            Ok(patched) => Outcome::Landed(expect_guardian(pod, &patched)),
            Err(Failure::NotFound | Failure::Conflict | Failure::Unknown { .. }) => {
                self.see_guardian(work, pod).await
            }
            Err(failure) => failure.outcome(reason::GUARDIAN_REFUSED),
        }
    }

    pub(super) async fn delete_guardian(&self, work: &Work, pod: &PodKey, uid: &PodUid) -> Outcome {
        let params = delete_params(uid.as_str(), None).grace_period(0);
        match self.ask(self.pods(pod).delete(&pod.name, &params)).await {
            Ok(_) => Outcome::Landed(Expect::GuardianGone(pod.clone(), uid.clone())),
            Err(Failure::NotFound) => Outcome::Observed(Observation::GuardianGone(pod.clone())),
            Err(Failure::Conflict | Failure::Unknown { .. }) => self.see_guardian(work, pod).await,
            Err(failure) => failure.outcome(reason::GUARDIAN_REFUSED),
        }
    }

    async fn delete_orphan(&self, work: &Work, pod: &PodKey, uid: &PodUid, ticket: &TicketUid) -> Outcome {
        let tickets: Api<PartialObjectMeta<Ticket>> = self.api(&work.ticket);
        match self.ask(tickets.get(&work.ticket.name)).await {
            Ok(found) if found.uid().as_deref() == Some(ticket.as_str()) => Outcome::Retry {
                message: "the Guardian's Ticket lives".into(),
            },
            Ok(_) | Err(Failure::NotFound) => self.delete_guardian(work, pod, uid).await,
            Err(failure) => failure.outcome(reason::GUARDIAN_REFUSED),
        }
    }

    async fn see_order(&self, key: &ObjectKey, uid: &OrderUid) -> Outcome {
        let orders: Api<PartialObjectMeta<Order>> = self.api(key);
        self.gone(orders, key, uid.as_str(), Observation::OrderGone).await
    }

    async fn see_node(&self, ticket: &TicketView) -> Outcome {
        let nodes: Api<PartialObjectMeta<FullNode>> = Api::all(self.client.clone());
        let key = ObjectKey::new("", ticket.node_name.as_str());
        self.gone(nodes, &key, ticket.node.as_str(), Observation::NodeGone)
            .await
    }

    /// Sends one request, when its turn has come, with the time limit.
    pub(super) async fn ask<T>(&self, request: impl Future<Output = kube::Result<T>>) -> Result<T, Failure> {
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
        if !self.lease.admits(self.pending.now(), TIMEOUT) {
            return Err(Failure::Leaseless);
        }
        let sent = tokio::select! {
            biased; // a process that was stopped looks at its Lease before anything else goes out
            () = self.over() => {
                return Err(Failure::Unknown {
                    message: "the Lease ran out before the answer".into(),
                    outage: false,
                });
            }
            sent = tokio::time::timeout(TIMEOUT, request) => sent,
        };
        permit.answered(answer(&sent));
        match sent {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => {
                let failure = Failure::read(error, self.pending.outage());
                if let Failure::Unauthorized(message) = &failure
                    && !self.warned.swap(true, Ordering::Relaxed)
                {
                    tracing::warn!(message = &**message, "korder lacks a right: check deploy/rbac");
                }
                Err(failure)
            }
            Err(_) => Err(Failure::Unknown {
                message: "no answer within 4 s".into(),
                outage: self.pending.outage(),
            }),
        }
    }

    /// Ready when the Lease has run out, as seen by whatever wakes the task.
    async fn over(&self) {
        let held = || self.lease.admits(self.pending.now(), Duration::ZERO);
        std::future::poll_fn(|_| if held() { Poll::Pending } else { Poll::Ready(()) }).await;
    }

    /// Asks whether an object of this uid is gone.
    async fn gone<K>(
        &self,
        api: Api<PartialObjectMeta<K>>,
        key: &ObjectKey,
        uid: &str,
        tell: fn(bool) -> Observation,
    ) -> Outcome
    where
        K: Resource<DynamicType = ()> + Clone + std::fmt::Debug,
    {
        match self.ask(api.get(&key.name)).await {
            Ok(found) => Outcome::Observed(tell(found.uid().as_deref() != Some(uid))),
            Err(Failure::NotFound) => Outcome::Observed(tell(true)),
            Err(failure) => failure.outcome(reason::TICKET_REFUSED),
        }
    }

    pub(super) fn tickets(&self, key: &ObjectKey) -> Api<Ticket> {
        self.api(key)
    }

    pub(super) fn pods(&self, key: &ObjectKey) -> Api<Pod> {
        self.api(key)
    }

    pub(super) fn api<K>(&self, key: &ObjectKey) -> Api<K>
    where
        K: Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), key.namespace.as_str())
    }
}

/// What the answer says of the API server.
fn answer<T>(sent: &Result<kube::Result<T>, Elapsed>) -> Answer {
    let status = match sent {
        Ok(Err(kube::Error::Api(status))) => status,
        Ok(Ok(_) | Err(kube::Error::SerdeError(_))) => return Answer::Taken,
        Ok(Err(_)) | Err(_) => return Answer::Silence,
    };
    match status.code {
        429 | 503 => Answer::TooMuch(retry_after(status)),
        504 => Answer::Silence,
        500 | 502 => Answer::Nothing,
        _ => Answer::Taken,
    }
}

/// The time that the answer's body asks for; the client has read the header.
fn retry_after(status: &Status) -> Option<Duration> {
    let seconds = status.details.as_ref()?.retry_after_seconds;
    (seconds > 0).then(|| Duration::from_secs(seconds.into()))
}

impl Failure {
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

/// Whether the labels and annotations of a patch are in the answer: what an admission plugin undoes would
/// otherwise be written again at once, for ever.
fn stays(patch: &Value, answer: &ObjectMeta) -> bool {
    let in_line = |field: &str, present: Option<&BTreeMap<String, String>>| {
        let wanted = patch["metadata"][field].as_object();
        wanted.into_iter().flatten().all(|(key, wanted)| {
            let present = present.and_then(|present| present.get(key));
            present.map(String::as_str) == wanted.as_str()
        })
    };
    in_line("labels", answer.labels.as_ref()) && in_line("annotations", answer.annotations.as_ref())
}

fn undone(kind: &str) -> Outcome {
    let message =
        format!("an admission webhook or policy undoes labels or annotations of {kind}: exempt them");
    Outcome::Refused {
        reason: reason::TICKET_REFUSED,
        message: message.into(),
    }
}

fn template(order: &spec::Order) -> &Template {
    &order
        .spec
        .as_ref()
        .expect("only valid Orders get Tickets")
        .template
}

/// To delete what has this uid and, if that was decided on it, still has this revision.
pub(super) fn delete_params(uid: &str, revision: Option<Revision>) -> DeleteParams {
    let preconditions = Preconditions {
        uid: Some(uid.to_owned()),
        resource_version: revision.map(|revision| revision.0.to_string()),
    };
    DeleteParams::default().preconditions(preconditions)
}

fn expect_ticket(ticket: &Ticket) -> Expect {
    let uid = ticket.uid().unwrap_or_default();
    Expect::Ticket(
        uid.into(),
        Revision::parse(ticket.metadata.resource_version.as_deref()),
    )
}

fn expect_guardian(key: &PodKey, pod: &Pod) -> Expect {
    let revision = Revision::parse(pod.metadata.resource_version.as_deref());
    Expect::Guardian(key.clone(), pod.uid().unwrap_or_default().into(), revision)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_stays_if_all_its_labels_and_annotations_are_in_the_answer() {
        let patch =
            serde_json::json!({ "metadata": { "labels": { "a": "1" }, "annotations": { "b": "2" } } });
        let map = |key: &str, value: &str| Some(BTreeMap::from([(key.to_owned(), value.to_owned())]));
        let answer = |labels, annotations| ObjectMeta {
            labels,
            annotations,
            ..ObjectMeta::default()
        };
        assert!(stays(&patch, &answer(map("a", "1"), map("b", "2"))));
        assert!(!stays(&patch, &answer(map("a", "2"), map("b", "2"))));
        assert!(!stays(&patch, &answer(map("a", "1"), None)));
    }

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
