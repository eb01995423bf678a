//! Whether an object of this uid is still there: the Order and the Node of a Ticket, and the owner of what
//! has the name that a create asks for.
//!
//! What a dead owner left is deleted by uid and revision; a foreign object is never touched.

use std::fmt::Debug;

use k8s_openapi::api::core::v1::Node;
use kube::{
    Api, Resource, ResourceExt,
    core::{NamespaceResourceScope, PartialObjectMeta},
};
use serde::de::DeserializeOwned;

use super::{Writer, metadata::delete_params, request::RequestError};
use crate::{
    api::Order,
    domain::{
        pair::{
            observed::{Revision, TicketView},
            op::{Observation, Outcome},
            reason,
        },
        values::ids::{ObjectKey, OrderUid},
    },
};

impl Writer {
    /// Asks whether the Order is gone.
    pub(super) async fn confirm_order(&self, key: &ObjectKey, uid: &OrderUid) -> Outcome {
        let exists = self.exists::<Order>(self.api(key), &key.name, uid.as_str()).await;
        confirmed(exists, Observation::OrderGone)
    }

    /// Asks whether the Ticket's Node is gone.
    pub(super) async fn confirm_node(&self, ticket: &TicketView) -> Outcome {
        let nodes = Api::all(self.client.clone());
        let exists = self.exists::<Node>(nodes, ticket.node_name.as_str(), ticket.node.as_str());
        confirmed(exists.await, Observation::NodeGone)
    }

    /// What becomes of an object that is not ours and has the name that a create asks for. `owner` is the name
    /// and uid of the `O` that controls it, if one does.
    pub(super) async fn settle_other<K, O>(
        &self,
        key: &ObjectKey,
        uid: &str,
        revision: Revision,
        owner: Option<(&str, &str)>,
    ) -> Outcome
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
        O: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug,
    {
        let dead = match owner {
            Some((name, uid)) => matches!(self.exists::<O>(self.api(key), name, uid).await, Ok(false)),
            None => false,
        };
        if !dead {
            return taken(&K::kind(&()), key);
        }
        let objects: Api<K> = self.api(key);
        let params = delete_params(uid, Some(revision)).grace_period(0);
        match self.ask(objects.delete(&key.name, &params)).await {
            Ok(_) | Err(RequestError::NotFound | RequestError::Conflict) => Outcome::Retry {
                message: "an object of an owner that is gone had the name; korder deleted it".into(),
            },
            Err(error) => error.outcome(reason::NAME_TAKEN),
        }
    }

    /// Whether an object of this name and uid exists.
    pub(super) async fn exists<K>(
        &self,
        objects: Api<PartialObjectMeta<K>>,
        name: &str,
        uid: &str,
    ) -> Result<bool, RequestError>
    where
        K: Resource<DynamicType = ()> + Clone + Debug,
    {
        match self.ask(objects.get(name)).await {
            Ok(found) => Ok(found.uid().as_deref() == Some(uid)),
            Err(RequestError::NotFound) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn confirmed(exists: Result<bool, RequestError>, gone: fn(bool) -> Observation) -> Outcome {
    match exists {
        Ok(exists) => Outcome::Observed(gone(!exists)),
        Err(error) => error.outcome(reason::TICKET_REFUSED),
    }
}

fn taken(kind: &str, key: &ObjectKey) -> Outcome {
    let message = format!(
        "a {kind} named {key} exists that korder did not make: delete it, or make it again under another name"
    );
    Outcome::Refused {
        reason: reason::NAME_TAKEN,
        message: message.into(),
    }
}
