//! Which cluster: the one of KUBECONFIG, or the one this Pod runs in; and what is said when there is none.
//!
//! A kubeconfig holds tokens, so nothing of its text is ever said: a parser's excerpt is left out.

use std::{error::Error, fmt::Write};

use kube::{
    Config,
    config::{InferConfigError, KubeconfigError},
};

use super::error::one_line;

/// The configuration for the cluster.
///
/// # Errors
/// One line that names the problem and the remedy, and quotes no file.
pub(crate) async fn infer() -> Result<Config, String> {
    let inferred = Config::infer().await;
    inferred.map_err(|error| {
        format!(
            "no cluster: {}: set KUBECONFIG to a kubeconfig file, or run in a Pod",
            why(&error)
        )
    })
}

fn why(error: &InferConfigError) -> String {
    let Some(KubeconfigError::Parse(parse)) = error.source().and_then(<dyn Error>::downcast_ref) else {
        return one_line(error);
    };
    let named = std::env::var("KUBECONFIG").unwrap_or_default();
    let file = if named.is_empty() {
        "~/.kube/config"
    } else {
        &named
    };
    let mut said = format!("{file} is no kubeconfig");
    if let Some(at) = parse.location() {
        // Writing to a String does not fail.
        let _written = write!(said, ": line {}, column {}", at.line(), at.column());
    }
    said
}
