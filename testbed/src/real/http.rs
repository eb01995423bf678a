//! Plain requests to loopback, for health checks, metrics and etcd's JSON gateway.

use std::time::Duration;

use anyhow::{Context, Result};
use http::Request;
use kube::{Client, Config, client::Body};
use serde_json::Value;

/// A client of one loopback server. Certificates are not checked: these servers make their own.
pub(crate) fn client(scheme: &str, port: u16) -> Result<Client> {
    let mut config = Config::new(format!("{scheme}://127.0.0.1:{port}").parse()?);
    config.accept_invalid_certs = true;
    config.default_retry = false;
    config.connect_timeout = Some(Duration::from_secs(2));
    config.read_timeout = Some(Duration::from_secs(10));
    Ok(Client::try_from(config)?)
}

/// GET: the status and the body, whatever the status is.
pub(crate) async fn get(client: &Client, path: &str) -> Result<(u16, String)> {
    let answer = client.send(Request::get(path).body(Body::empty())?).await;
    let answer = answer.with_context(|| format!("GET {path}"))?;
    let status = answer.status().as_u16();
    let body = answer.into_body().collect_bytes().await?;
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}

/// POST of a JSON body that must answer 200: the JSON answer.
pub(crate) async fn post_ok(client: &Client, path: &str, body: &Value) -> Result<Value> {
    let request = Request::post(path).body(Body::from(body.to_string().into_bytes()))?;
    let answer = client
        .send(request)
        .await
        .with_context(|| format!("POST {path}"))?;
    let status = answer.status().as_u16();
    let body = answer.into_body().collect_bytes().await?;
    let text = String::from_utf8_lossy(&body);
    anyhow::ensure!(status == 200, "POST {path}: {status}: {}", text.trim());
    Ok(serde_json::from_slice(&body)?)
}

/// GET that must answer 200: the body.
pub(crate) async fn get_ok(client: &Client, path: &str) -> Result<String> {
    let (status, body) = get(client, path).await?;
    anyhow::ensure!(status == 200, "GET {path}: {status}: {}", body.trim());
    Ok(body)
}
