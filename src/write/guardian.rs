//! Every write of a Guardian, and what comes of it.
//!
//! A create that answered 409 or not at all is settled by a GET of the name, any other write by a GET of the
//! Guardian.

use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::Value;

use super::{
    Writer,
    metadata::{delete_params, stays, undone},
    request::RequestError,
    template,
};
use crate::{
    api::Ticket,
    domain::{
        order::spec,
        pair::{
            observed::{GuardianView, Revision},
            op::{Expect, Observation, Outcome},
            reason,
        },
        values::ids::{PodKey, PodUid, TicketUid},
    },
    shard::state::Work,
    watch::{guardian::SlimPod, meta},
};

pub(super) mod body;

impl Writer {
    /// Makes a Guardian, unless the Ticket has another of the name `unless`.
    pub(super) async fn create_guardian(
        &self,
        work: &Work,
        ticket: &TicketUid,
        unless: Option<&PodKey>,
        key: &PodKey,
        body: &Pod,
    ) -> Outcome {
        if let Some(other) = self.stands_at(work, unless).await {
            return other;
        }
        match self
            .ask(self.pods(key).create(&PostParams::default(), body))
            .await
        {
            Ok(pod) => landed(key, &pod),
            Err(RequestError::AlreadyExists | RequestError::Unknown { .. }) => {
                self.settle_guardian(work, ticket, key).await
            }
            Err(error) => error.outcome(reason::GUARDIAN_REFUSED),
        }
    }

    /// What a GET tells unless no Guardian of the Ticket has this name.
    async fn stands_at(&self, work: &Work, pod: Option<&PodKey>) -> Option<Outcome> {
        match self.confirm_guardian(work, pod?).await {
            Outcome::Observed(Observation::GuardianGone(_)) => None,
            told => Some(told),
        }
    }

    /// Its tolerations are read first: there are more than the template's, and none may go.
    pub(super) async fn extend_guardian(
        &self,
        work: &Work,
        key: &PodKey,
        uid: &PodUid,
        order: &spec::Order,
    ) -> Outcome {
        match self.ask(self.pods(key).get(&key.name)).await {
            Ok(found) => {
                let patch = body::extend_patch(uid, &found, template(order));
                self.relabel_guardian(work, key, &patch).await
            }
            failed => self.patched_guardian(work, key, failed).await,
        }
    }

    pub(super) async fn nominate_guardian(&self, work: &Work, key: &PodKey, patch: &Value) -> Outcome {
        let (params, merge) = (PatchParams::default(), Patch::Merge(patch));
        let pods = self.pods(key);
        let sent = self.ask(pods.patch_status(&key.name, &params, &merge)).await;
        self.patched_guardian(work, key, sent).await
    }

    /// Takes gates away, unless the Ticket has another Guardian of the name `unless`.
    pub(super) async fn ungate_guardian(
        &self,
        work: &Work,
        key: &PodKey,
        unless: &PodKey,
        patch: &Value,
    ) -> Outcome {
        if let Some(other) = self.stands_at(work, Some(unless)).await {
            return other;
        }
        let sent = self.patch_pod(key, patch).await;
        self.patched_guardian(work, key, sent).await
    }

    /// Sends a patch whose labels and annotations have to stay.
    pub(super) async fn relabel_guardian(&self, work: &Work, key: &PodKey, patch: &Value) -> Outcome {
        match self.patch_pod(key, patch).await {
            Ok(patched) if !stays(patch, &patched.metadata) => undone("Guardian Pods"),
            sent => self.patched_guardian(work, key, sent).await,
        }
    }

    async fn patch_pod(&self, key: &PodKey, patch: &Value) -> Result<Pod, RequestError> {
        let (params, merge) = (PatchParams::default(), Patch::Merge(patch));
        self.ask(self.pods(key).patch(&key.name, &params, &merge)).await
    }

    async fn patched_guardian(&self, work: &Work, key: &PodKey, sent: Result<Pod, RequestError>) -> Outcome {
        match sent {
            Ok(patched) => landed(key, &patched),
            Err(RequestError::NotFound | RequestError::Conflict | RequestError::Unknown { .. }) => {
                self.confirm_guardian(work, key).await
            }
            Err(error) => error.outcome(reason::GUARDIAN_REFUSED),
        }
    }

    pub(super) async fn delete_guardian(&self, work: &Work, key: &PodKey, uid: &PodUid) -> Outcome {
        let params = delete_params(uid.as_str(), None).grace_period(0);
        match self.ask(self.pods(key).delete(&key.name, &params)).await {
            Ok(_) => Outcome::Landed(Expect::GuardianGone(key.clone(), uid.clone())),
            Err(RequestError::NotFound) => Outcome::Observed(Observation::GuardianGone(key.clone())),
            Err(RequestError::Conflict | RequestError::Unknown { .. }) => {
                self.confirm_guardian(work, key).await
            }
            Err(error) => error.outcome(reason::GUARDIAN_REFUSED),
        }
    }

    /// Deletes a Guardian whose Ticket of this uid is gone.
    pub(super) async fn delete_orphan(
        &self,
        work: &Work,
        key: &PodKey,
        uid: &PodUid,
        ticket: &TicketUid,
    ) -> Outcome {
        let tickets = self.api(&work.ticket);
        let lives = self.exists::<Ticket>(tickets, &work.ticket.name, ticket.as_str());
        match lives.await {
            Ok(true) => Outcome::Retry {
                message: "the Guardian's Ticket lives".into(),
            },
            Ok(false) => self.delete_guardian(work, key, uid).await,
            Err(error) => error.outcome(reason::GUARDIAN_REFUSED),
        }
    }

    /// Looks at the Pod of this name.
    pub(super) async fn confirm_guardian(&self, work: &Work, key: &PodKey) -> Outcome {
        let pods: Api<SlimPod> = self.api(key);
        match self.ask(pods.get(&key.name)).await {
            Ok(found) => Outcome::Observed(match view(found, work) {
                Some(view) => Observation::Guardian(Box::new(view)),
                None => Observation::GuardianGone(key.clone()),
            }),
            Err(RequestError::NotFound) => Outcome::Observed(Observation::GuardianGone(key.clone())),
            Err(error) => error.outcome(reason::GUARDIAN_REFUSED),
        }
    }

    /// What the Pod of this name is to the Ticket.
    async fn settle_guardian(&self, work: &Work, ticket: &TicketUid, key: &PodKey) -> Outcome {
        let pods: Api<SlimPod> = self.api(key);
        let found = match self.ask(pods.get(&key.name)).await {
            Ok(found) => found,
            Err(error) => return error.outcome(reason::GUARDIAN_REFUSED),
        };
        let owner = meta::controller(&found.metadata, "Ticket").cloned();
        match owner.as_ref().map(|owner| (&*owner.name, &*owner.uid)) {
            Some((_, uid)) if uid == ticket.as_str() => seen(found, work),
            owner => {
                let revision = Revision::parse(found.resource_version().as_deref());
                let uid = found.uid().unwrap_or_default();
                self.settle_other::<Pod, Ticket>(key, &uid, revision, owner).await
            }
        }
    }

    fn pods(&self, key: &PodKey) -> Api<Pod> {
        self.api(key)
    }
}

fn seen(found: SlimPod, work: &Work) -> Outcome {
    match view(found, work) {
        Some(view) if !view.deleting => Outcome::Observed(Observation::Guardian(Box::new(view))),
        _ => Outcome::Retry {
            message: "the Guardian of this name is being deleted".into(),
        },
    }
}

/// The Guardian as the pair's shard sees it: labelled for another shard is not labelled.
fn view(found: SlimPod, work: &Work) -> Option<GuardianView> {
    let (shard, mut view) = found.view().filter(|(_, view)| view.ticket == work.ticket)?;
    view.labels_intact &= shard == Some(work.shard);
    Some(view)
}

fn landed(key: &PodKey, pod: &Pod) -> Outcome {
    let revision = Revision::parse(pod.metadata.resource_version.as_deref());
    Outcome::Landed(Expect::Guardian(
        key.clone(),
        pod.uid().unwrap_or_default().into(),
        revision,
    ))
}
