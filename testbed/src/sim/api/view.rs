//! In which form an answer is wanted: whole objects, their metadata, or a table.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{
    events,
    kind::{Kind, Rules},
    status::{Result, failure},
    table,
};

/// The form of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Whole,
    Metadata,
    Table,
}

/// A form, and the API version that was asked for.
#[derive(Clone, Debug)]
pub(crate) struct View {
    pub(crate) form: Form,
    pub(crate) kind: Arc<Kind>,
    /// core/v1 of an Event, which is stored as events.k8s.io/v1.
    pub(crate) core_event: bool,
}

impl Form {
    /// # Errors
    /// 406 when nothing acceptable is simulated.
    pub(crate) fn accepted(accept: &str) -> Result<Self> {
        if accept.trim().is_empty() {
            return Ok(Self::Whole);
        }
        for media in accept.split(',') {
            let mut parts = media.split(';').map(str::trim);
            let json = matches!(parts.next(), Some("application/json" | "application/*" | "*/*"));
            let wanted = parts.find_map(|part| part.strip_prefix("as="));
            match (json, wanted) {
                (true, None) => return Ok(Self::Whole),
                (true, Some("Table")) => return Ok(Self::Table),
                (true, Some("PartialObjectMetadata" | "PartialObjectMetadataList")) => {
                    return Ok(Self::Metadata);
                }
                _ => {}
            }
        }
        let message = "only the following media types are accepted: application/json, application/yaml, \
                       application/vnd.kubernetes.protobuf";
        Err(failure(406, "NotAcceptable", message, None))
    }
}

impl View {
    /// An object as a whole answer or in a watch event.
    pub(crate) fn object(&self, object: &Arc<Value>, now: jiff::Timestamp) -> Arc<Value> {
        match self.form {
            Form::Whole if self.core_event => Arc::new(events::to_core(object)),
            Form::Whole => object.clone(),
            Form::Metadata => Arc::new(metadata(object)),
            Form::Table => {
                let revision = object["metadata"]["resourceVersion"].clone();
                let list = json!({ "resourceVersion": revision });
                Arc::new(table::table(self, list, std::slice::from_ref(object), now))
            }
        }
    }

    /// A list's body.
    pub(crate) fn list(
        &self,
        mut metadata_of_list: Value,
        items: &[Arc<Value>],
        now: jiff::Timestamp,
    ) -> Value {
        match self.form {
            Form::Whole => {
                let custom = matches!(self.kind.rules, Rules::Custom(_));
                if custom && metadata_of_list["continue"].is_null() {
                    metadata_of_list["continue"] = json!("");
                }
                json!({
                    "kind": format!("{}List", self.kind.kind),
                    "apiVersion": self.api_version(),
                    "metadata": metadata_of_list,
                    "items": items.iter().map(|item| self.item(item)).collect::<Vec<_>>(),
                })
            }
            Form::Metadata => {
                let items: Vec<Value> = items.iter().map(|item| metadata(item)).collect();
                json!({
                    "kind": "PartialObjectMetadataList",
                    "apiVersion": "meta.k8s.io/v1",
                    "metadata": metadata_of_list,
                    // A nil slice upstream.
                    "items": Some(items).filter(|items| !items.is_empty()),
                })
            }
            Form::Table => table::table(self, metadata_of_list, items, now),
        }
    }

    pub(crate) fn api_version(&self) -> String {
        if self.core_event {
            "v1".to_owned()
        } else {
            self.kind.api_version()
        }
    }

    /// Items of typed lists do not repeat their kind.
    fn item(&self, object: &Value) -> Value {
        let mut item = if self.core_event {
            events::to_core(object)
        } else {
            object.clone()
        };
        if let (None, Some(fields)) = (self.kind.custom(), item.as_object_mut()) {
            fields.remove("kind");
            fields.remove("apiVersion");
        }
        item
    }
}

/// An object's metadata alone.
pub(crate) fn metadata(object: &Value) -> Value {
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": object["metadata"],
    })
}
