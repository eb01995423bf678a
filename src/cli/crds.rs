//! `korder crds`: the CRDs as YAML, for `kubectl apply --server-side -f -`.
//!
//! The files under `deploy/crds/` are these documents; a test keeps them equal.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;

use crate::api;

const HEADER: &str =
    "# Printed by `korder crds`; do not edit. Apply with `kubectl apply --server-side -f`.\n";

/// All CRDs as one YAML stream, with a comment that says where it comes from.
pub fn crds_yaml() -> String {
    let documents = api::crds()
        .iter()
        .map(|crd| format!("---\n{}", document(crd)))
        .collect::<String>();
    format!("{HEADER}{documents}")
}

/// One file per CRD: the resource's plural name and the file's text.
pub fn crd_files() -> Vec<(String, String)> {
    api::crds()
        .iter()
        .map(|crd| {
            (
                crd.spec.names.plural.clone(),
                format!("{HEADER}{}", document(crd)),
            )
        })
        .collect()
}

fn document(crd: &CustomResourceDefinition) -> String {
    serde_saphyr::to_string(crd).expect("a CRD has a YAML form")
}
