//! What all that korder writes has in common: owners, preconditions, times, and labels that have to stay.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{OwnerReference, Time};
use kube::{
    Resource,
    api::{DeleteParams, Preconditions},
    core::ObjectMeta,
};
use serde_json::Value;

use crate::domain::pair::{observed::Revision, op::Outcome, reason};

/// The reference to the object that controls what is made.
pub(super) fn owner<K: Resource<DynamicType = ()>>(name: &str, uid: &str) -> OwnerReference {
    OwnerReference {
        api_version: K::api_version(&()).into_owned(),
        kind: K::kind(&()).into_owned(),
        name: name.to_owned(),
        uid: uid.to_owned(),
        controller: Some(true),
        block_owner_deletion: None,
    }
}

/// To delete what has this uid and, if that was decided on it, still has this revision.
pub(super) fn delete_params(uid: &str, revision: Option<Revision>) -> DeleteParams {
    let preconditions = Preconditions {
        uid: Some(uid.to_owned()),
        resource_version: revision.map(|revision| revision.0.to_string()),
    };
    DeleteParams::default().preconditions(preconditions)
}

/// The API's times have no fractions of a second.
pub(super) fn whole_seconds(at: Timestamp) -> Time {
    Time(Timestamp::from_second(at.as_second()).expect("seconds of a valid time"))
}

/// Whether the labels and annotations of a patch are in the answer: what an admission plugin undoes would
/// otherwise be written again at once, for ever.
pub(super) fn stays(patch: &Value, answer: &ObjectMeta) -> bool {
    let in_line = |field: &str, present: Option<&BTreeMap<String, String>>| {
        let wanted = patch["metadata"][field].as_object();
        wanted.into_iter().flatten().all(|(key, wanted)| {
            let present = present.and_then(|present| present.get(key));
            present.map(String::as_str) == wanted.as_str()
        })
    };
    in_line("labels", answer.labels.as_ref()) && in_line("annotations", answer.annotations.as_ref())
}

/// What comes of a patch that does not stay.
pub(super) fn undone(kind: &str) -> Outcome {
    let message = format!(
        "an admission webhook or policy takes back labels or annotations that korder writes to {kind}: exempt {kind} from it"
    );
    Outcome::Refused {
        reason: reason::TICKET_REFUSED,
        message: message.into(),
    }
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
}
