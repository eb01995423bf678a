//! What every write of a controller must name, so that it hits only the object it was decided for.

use http::Method;
use serde_json::Value;

use super::api::Request;

/// What a write to a Ticket or Pod lacks, if anything: a uid to delete or to patch, and the revision that a
/// status, or the end of a Ticket, was decided on. A collection is deleted by its labels.
pub(super) fn careless(request: &Request) -> Option<&'static str> {
    let segments: Vec<&str> = request.path.trim_matches('/').split('/').collect();
    let at = segments
        .iter()
        .position(|segment| matches!(*segment, "tickets" | "pods"))?;
    let (named, subresource) = (segments.get(at + 1).is_some(), segments.get(at + 2));
    if !named {
        return None;
    }
    let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    let names = |pointer: &str| body.pointer(pointer).and_then(Value::as_str).is_some();
    match (&request.method, subresource) {
        (&Method::DELETE, _) if !names("/preconditions/uid") => Some("deletes without a uid"),
        (&Method::DELETE, _) if segments[at] == "tickets" && !names("/preconditions/resourceVersion") => {
            Some("deletes a Ticket without the revision it was decided on")
        }
        (&Method::PATCH, Some(&"status")) if !names("/metadata/resourceVersion") => {
            Some("writes a status without the revision it was decided on")
        }
        (&Method::PATCH, None) if !names("/metadata/uid") => Some("patches without a uid"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn request(method: Method, path: &str, body: &Value) -> Request {
        Request {
            user: "korder".into(),
            method,
            path: format!("/apis/core.korder.dev/v1alpha1/namespaces/default/{path}"),
            query: String::new(),
            accept: String::new(),
            content_type: String::new(),
            body: body.to_string().into_bytes(),
        }
    }

    #[test]
    fn a_write_names_what_it_was_decided_for() {
        let (uid, none) = (json!({ "metadata": { "uid": "u" } }), json!({}));
        let revision = json!({ "metadata": { "resourceVersion": "7" } });
        let precise = json!({ "preconditions": { "uid": "u" } });
        let revised = json!({ "preconditions": { "uid": "u", "resourceVersion": "7" } });
        for (method, path, body, safe) in [
            (Method::DELETE, "tickets/a", &revised, true),
            (Method::DELETE, "tickets/a", &precise, false),
            (Method::DELETE, "tickets/a", &none, false),
            (Method::DELETE, "pods/a", &precise, true),
            (Method::DELETE, "pods/a", &none, false),
            (Method::DELETE, "tickets", &none, true),
            (Method::PATCH, "tickets/a", &uid, true),
            (Method::PATCH, "tickets/a", &none, false),
            (Method::PATCH, "tickets/a/status", &revision, true),
            (Method::PATCH, "tickets/a/status", &uid, false),
            (Method::PATCH, "orders/a/status", &none, true),
            (Method::GET, "tickets/a", &none, true),
        ] {
            let request = request(method.clone(), path, body);
            assert_eq!(careless(&request).is_none(), safe, "{method} {path} {body}");
        }
    }
}
