//! Lists and watches of some ranges of uids alone, where the API server offers that.
//!
//! Kubernetes has it as the alpha feature `ShardedListAndWatch`. A server without it ignores the
//! selector and sends everything, so whoever reads has to look at the uid as well.

use http::{Request, Response, StatusCode, Uri};
use kube::{Client, client::Body};
use serde::Deserialize;

/// Hardly any uid is in these ranges, so that the answer is small: two, because own ranges are several.
const PROBE: &str = "shardRange(object.metadata.uid, '0x0000000000000000', '0x0000000000000001') || \
                     shardRange(object.metadata.uid, '0xffffffffffffffff', '0x10000000000000000')";

#[derive(Deserialize)]
struct Probe {
    #[serde(default)]
    metadata: ProbeMeta,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct ProbeMeta {
    shard_info: Option<ShardInfo>,
}

#[derive(Deserialize)]
struct ShardInfo {}

/// Whether the API server sends only the Nodes whose hashes it is asked for.
pub(crate) async fn offered(client: &Client) -> kube::Result<bool> {
    let uri = selecting(&Uri::from_static("/api/v1/nodes?limit=1"), PROBE);
    let request = Request::get(uri)
        .body(Vec::new())
        .map_err(kube::Error::HttpError)?;
    match client.request::<Probe>(request).await {
        Ok(probe) => Ok(probe.metadata.shard_info.is_some()),
        // It knows the parameter and not this form of it.
        Err(kube::Error::Api(status)) if matches!(status.code, 400 | 422) => Ok(false),
        Err(error) => Err(error),
    }
}

/// A client whose requests ask for the objects in `selector` alone. One that a server refuses is made
/// again without it.
pub(crate) fn within(client: &Client, selector: String) -> Client {
    let (inner, namespace) = (client.clone(), client.default_namespace().to_owned());
    let transport = tower::service_fn(move |request: Request<Body>| {
        let (client, selector) = (inner.clone(), selector.clone());
        async move { send(&client, &selector, request).await }
    });
    Client::new(transport, namespace)
}

async fn send(client: &Client, selector: &str, request: Request<Body>) -> kube::Result<Response<Body>> {
    let (mut parts, body) = request.into_parts();
    let plain = (parts.clone(), body.try_clone());
    parts.uri = selecting(&parts.uri, selector);
    let answer = client.send(Request::from_parts(parts, body)).await?;
    match (answer.status(), plain) {
        (
            StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY | StatusCode::INTERNAL_SERVER_ERROR,
            (parts, Some(body)),
        ) => client.send(Request::from_parts(parts, body)).await,
        _ => Ok(answer),
    }
}

/// The same request for the objects in `selector`.
fn selecting(uri: &Uri, selector: &str) -> Uri {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("shardSelector", selector);
    let selector = query.finish();
    let query = match uri.query() {
        Some(query) if !query.is_empty() => format!("{query}&{selector}"),
        _ => selector,
    };
    let mut parts = uri.clone().into_parts();
    let path_and_query = format!("{}?{query}", uri.path());
    parts.path_and_query = Some(path_and_query.parse().expect("a valid path and a valid query"));
    Uri::from_parts(parts).expect("the parts of a valid URI")
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, sync::Arc};

    use k8s_openapi::api::core::v1::Node;
    use kube::{Api, api::ListParams};
    use parking_lot::Mutex;
    use serde_json::{Value, json};

    use super::*;

    /// A server that answers so what has a selector, and otherwise with an empty list; and what it is asked.
    fn server(code: u16, answer: Value) -> (Client, Arc<Mutex<Vec<String>>>) {
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let heard = asked.clone();
        let transport = tower::service_fn(move |request: Request<Body>| {
            let query = request.uri().query().unwrap_or_default().to_owned();
            let selecting = query.contains("shardSelector=");
            heard.lock().push(query);
            let (code, body) = match selecting {
                true => (code, answer.clone()),
                false => (200, list(json!({ "resourceVersion": "7" }))),
            };
            let answer = Response::builder().status(code);
            let answer = answer.body(Body::from(body.to_string().into_bytes())).unwrap();
            async move { Ok::<_, Infallible>(answer) }
        });
        (Client::new(transport, "default"), asked)
    }

    fn list(metadata: Value) -> Value {
        json!({ "kind": "NodeList", "apiVersion": "v1", "metadata": metadata, "items": [] })
    }

    fn refusal(code: u16) -> Value {
        json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": "invalid shard selector", "code": code })
    }

    #[tokio::test]
    async fn offered_by_a_server_that_says_what_it_selected() {
        let said = list(json!({ "resourceVersion": "7", "shardInfo": { "selector": PROBE } }));
        assert!(offered(&server(200, said).0).await.unwrap());
        let silent = list(json!({ "resourceVersion": "7" }));
        assert!(!offered(&server(200, silent).0).await.unwrap());
        assert!(!offered(&server(400, refusal(400)).0).await.unwrap());
        for code in [403, 500] {
            let unsure = offered(&server(code, refusal(code)).0).await;
            assert!(unsure.is_err(), "to be asked again");
        }
    }

    #[tokio::test]
    async fn what_a_server_refuses_is_asked_without_selector() {
        let (client, asked) = server(500, refusal(500));
        let nodes: Api<Node> = Api::all(within(&client, "shardRange(a, '0x0', '0x1')".to_owned()));
        nodes.list(&ListParams::default().limit(5)).await.unwrap();
        let asked = asked.lock();
        assert!(asked[0].ends_with("limit=5&shardSelector=shardRange%28a%2C+%270x0%27%2C+%270x1%27%29"));
        assert_eq!(asked.len(), 2);
        assert!(!asked[1].contains("shardSelector"), "{asked:?}");
    }
}
