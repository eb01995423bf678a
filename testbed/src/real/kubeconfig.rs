//! kubeconfig files and clients made from them.

use std::path::Path;

use anyhow::{Context, Result};
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};

/// A kubeconfig for one token. The certificate is named relative to the file, so the whole directory may move.
pub(crate) fn render(port: u16, token: &str) -> String {
    format!(
        "apiVersion: v1
kind: Config
current-context: plane
clusters:
- name: plane
  cluster:
    server: https://127.0.0.1:{port}
    certificate-authority: certs/apiserver.crt
contexts:
- name: plane
  context:
    cluster: plane
    user: user
users:
- name: user
  user:
    token: {token}
"
    )
}

/// A client from a kubeconfig file, without retries of its own and without client-side limits.
///
/// # Errors
/// When the file cannot be read or names something unusable.
pub async fn client(kubeconfig: &Path) -> Result<Client> {
    let unusable = || format!("unusable kubeconfig {}", kubeconfig.display());
    let file = Kubeconfig::read_from(kubeconfig).with_context(unusable)?;
    let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await;
    let mut config = config.with_context(unusable)?;
    config.default_retry = false;
    Client::try_from(config).with_context(unusable)
}
