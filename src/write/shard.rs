//! Writes of `Shard` objects: totals and pages of counts.
//!
//! Each is written on the version it was decided on, so that a former owner of the shard, woken late,
//! overwrites nothing. A conflict is answered by reading again; whoever asked decides again.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
    core::PartialObjectMeta,
};
use serde_json::{Value, json};

use super::{
    Writer,
    metadata::{delete_params, whole_seconds},
    request::RequestError,
};
use crate::{
    api::{self, LABEL_PAGE, ShardSpec, ShardStatus},
    domain::values::{
        ids::{Namespace, ObjectKey},
        shard_object::ShardObject,
    },
    queue::Lane,
    watch::shard::{Listing, ShardVersion, ShardView, SlimShard},
};

/// What a Shard object is to say.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum ShardContent {
    /// The totals of a shard.
    Totals(ShardStatus),
    /// The counts on one page. A page without any is no longer needed.
    Page(Listing),
}

/// What has become of a write of a Shard object.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum ShardWriteResult {
    /// It landed; this is the version since.
    Written(ShardVersion),
    /// The object is not there, or no longer.
    Gone,
    /// Somebody else has written it.
    Found(ShardView),
    /// It did not land, or nobody knows.
    Failed,
}

impl Writer {
    /// Makes a Shard object say this at `now`, if it still is what it was; one that is not there is made
    /// first, and a page without counts is removed.
    pub(crate) async fn shard_object(
        &self,
        namespace: &Namespace,
        object: ShardObject,
        version: Option<&ShardVersion>,
        content: &ShardContent,
        now: Timestamp,
    ) -> ShardWriteResult {
        let status = status(content, now);
        let writer = self.in_lane(Lane::Status);
        let key = ObjectKey::new(namespace.clone(), object.name(self.shards));
        let sent = match (version, content) {
            (Some(version), ShardContent::Page(listing)) if listing.is_empty() => {
                return writer.delete_shard(&key, version).await;
            }
            (Some(version), _) => writer.patch_shard(&key, version, &status).await,
            (None, _) => match writer.create_shard(&key, object).await {
                Ok(version) => writer.patch_shard(&key, &version, &status).await,
                Err(error) => Err(error),
            },
        };
        match sent {
            Ok(version) => ShardWriteResult::Written(version),
            Err(error) => writer.settle_shard(&key, error).await,
        }
    }

    /// Those of these objects that there are; none if that cannot be told.
    pub(crate) async fn shard_objects(
        &self,
        namespace: &Namespace,
        objects: &[ShardObject],
    ) -> Option<Vec<(ShardObject, ShardView)>> {
        let writer = self.in_lane(Lane::Status);
        let mut found = Vec::new();
        for object in objects {
            let key = ObjectKey::new(namespace.clone(), object.name(self.shards));
            let shards: Api<SlimShard> = writer.api(&key);
            match writer.ask(shards.get(&key.name)).await {
                Ok(shard) => found.extend(shard.view(self.shards)),
                Err(RequestError::NotFound) => {}
                Err(error) => {
                    tracing::debug!(shard = %key, ?error, "shard object not read");
                    return None;
                }
            }
        }
        Some(found)
    }

    async fn create_shard(&self, key: &ObjectKey, object: ShardObject) -> Result<ShardVersion, RequestError> {
        let shards: Api<api::Shard> = self.api(key);
        let shard = api::Shard {
            metadata: ObjectMeta {
                name: Some(key.name.to_string()),
                namespace: Some(key.namespace.to_string()),
                labels: object
                    .page
                    .map(|page| [(LABEL_PAGE.to_owned(), page.to_string())].into()),
                ..ObjectMeta::default()
            },
            spec: ShardSpec {
                shard: object.shard.0,
                page: object.page,
            },
            status: None,
        };
        let made = self.ask(shards.create(&PostParams::default(), &shard)).await?;
        Ok(ShardVersion::of(&made.metadata))
    }

    async fn patch_shard(
        &self,
        key: &ObjectKey,
        version: &ShardVersion,
        status: &Value,
    ) -> Result<ShardVersion, RequestError> {
        // The answer repeats the whole page; its metadata are enough.
        let shards: Api<PartialObjectMeta<api::Shard>> = self.api(key);
        let patch = Patch::Merge(json!({
            "metadata": { "uid": version.uid, "resourceVersion": version.revision.0.to_string() },
            "status": status,
        }));
        let params = PatchParams::default();
        let patched = self.ask(shards.patch_status(&key.name, &params, &patch)).await?;
        Ok(ShardVersion::of(&patched.metadata))
    }

    async fn delete_shard(&self, key: &ObjectKey, version: &ShardVersion) -> ShardWriteResult {
        let shards: Api<SlimShard> = self.api(key);
        let params = delete_params(&version.uid, Some(version.revision));
        match self.ask(shards.delete(&key.name, &params)).await {
            Ok(_) | Err(RequestError::NotFound) => ShardWriteResult::Gone,
            Err(error) => self.settle_shard(key, error).await,
        }
    }

    /// What is there now, if somebody else may have written it.
    async fn settle_shard(&self, key: &ObjectKey, error: RequestError) -> ShardWriteResult {
        let shards: Api<SlimShard> = self.api(key);
        match error {
            RequestError::NotFound => return ShardWriteResult::Gone,
            RequestError::AlreadyExists | RequestError::Conflict => {}
            error => {
                tracing::debug!(shard = %key, ?error, "shard object not written");
                return ShardWriteResult::Failed;
            }
        }
        match self.ask(shards.get(&key.name)).await {
            Ok(found) => match found.view(self.shards) {
                Some((_, view)) => ShardWriteResult::Found(view),
                None => ShardWriteResult::Failed,
            },
            Err(RequestError::NotFound) => ShardWriteResult::Gone,
            Err(_) => ShardWriteResult::Failed,
        }
    }
}

fn status(content: &ShardContent, now: Timestamp) -> Value {
    match content {
        ShardContent::Page(listing) => {
            let orders: Vec<_> = listing.iter().map(|(_, counts)| &**counts).collect();
            json!({ "orders": orders })
        }
        ShardContent::Totals(totals) => {
            json!(ShardStatus {
                updated_time: Some(whole_seconds(now)),
                ..totals.clone()
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::{Request, Response};
    use kube::client::Body;
    use parking_lot::Mutex;

    use super::*;
    use crate::{
        api::shard::OrderCounts,
        domain::{pair::observed::Revision, values::shard::ShardId},
        env::clock::Clock,
        write::testing::writer,
    };

    /// Writes the first page of shard 7 at a server that answers so, one answer after the other; returns
    /// what comes of it and what was asked.
    async fn written(
        version: Option<u64>,
        orders: usize,
        answers: Vec<(u16, Value)>,
    ) -> (ShardWriteResult, Vec<String>) {
        let (asked, answers) = (
            Arc::<Mutex<Vec<String>>>::default(),
            Arc::new(Mutex::new(answers)),
        );
        let heard = asked.clone();
        let (writer, _) = writer(64, &Clock::system(), move |request: Request<Body>| {
            let path = request.uri().path().rsplit_once("/shards").unwrap().1;
            heard.lock().push(format!("{} {path}", request.method()));
            let (code, body) = answers.lock().remove(0);
            let answer = Response::builder().status(code);
            std::future::ready(answer.body(Body::from(body.to_string().into_bytes())).unwrap())
        });
        let object = ShardObject {
            shard: ShardId(7),
            page: Some(0),
        };
        let listing = (0..orders).map(|n| (format!("o{n}").into(), Arc::new(OrderCounts::default())));
        let (content, version) = (ShardContent::Page(listing.collect()), version.map(self::version));
        let namespace = "korder-system".into();
        let answer = writer
            .shard_object(
                &namespace,
                object,
                version.as_ref(),
                &content,
                Timestamp::UNIX_EPOCH,
            )
            .await;
        let asked = asked.lock().clone();
        (answer, asked)
    }

    fn version(revision: u64) -> ShardVersion {
        ShardVersion {
            uid: "u".to_owned(),
            revision: Revision(revision),
        }
    }

    fn object(revision: u64) -> (u16, Value) {
        let metadata = json!({ "name": "shard-07-p0", "uid": "u", "resourceVersion": revision.to_string() });
        let kind = json!({
            "apiVersion": "core.korder.dev/v1alpha1", "kind": "Shard", "metadata": metadata,
            "spec": { "shard": 7, "page": 0 },
        });
        (200, kind)
    }

    fn refusal(code: u16, reason: &str) -> (u16, Value) {
        let status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "RequestError",
            "message": "no", "reason": reason, "code": code,
        });
        (code, status)
    }

    fn words(asked: &[&str]) -> Vec<String> {
        asked.iter().map(ToString::to_string).collect()
    }

    #[tokio::test]
    async fn a_page_that_is_not_there_is_made_and_then_filled() {
        let done = written(None, 1, vec![object(3), object(4)]).await;
        let asked = words(&["POST ", "PATCH /shard-07-p0/status"]);
        assert_eq!(done, (ShardWriteResult::Written(version(4)), asked));
    }

    #[tokio::test]
    async fn a_page_that_somebody_else_wrote_is_read_again() {
        let answers = vec![refusal(409, "Conflict"), object(9)];
        let (answer, asked) = written(Some(3), 1, answers).await;
        assert!(matches!(answer, ShardWriteResult::Found(view) if view.version == version(9)));
        assert_eq!(asked, ["PATCH /shard-07-p0/status", "GET /shard-07-p0"]);
    }

    #[tokio::test]
    async fn a_page_without_counts_is_removed() {
        let done = written(Some(3), 0, vec![object(3)]).await;
        assert_eq!(done, (ShardWriteResult::Gone, words(&["DELETE /shard-07-p0"])));
    }

    #[tokio::test]
    async fn a_page_that_is_gone_is_not_read_again() {
        let done = written(Some(3), 1, vec![refusal(404, "NotFound")]).await;
        assert_eq!(
            done,
            (ShardWriteResult::Gone, words(&["PATCH /shard-07-p0/status"]))
        );
    }
}
