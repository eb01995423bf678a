//! The CRDs: the files under `deploy/crds` are what `korder crds` prints, and the schemas hold the
//! rules, defaults, columns and selectable fields that users rely on.

use std::{collections::BTreeSet, env, fs, path::PathBuf};

use korder::{
    api::{self, Order},
    cli::crds::{crd_files, crds_yaml},
};
use libtest_mimic::{Failed, Trial};
use serde_json::{Value, json};

use crate::harness::fast;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        fast("crds", "deploy_files_are_fresh", deploy_files_are_fresh),
        fast("crds", "printed_yaml_is_the_crds", printed_yaml_is_the_crds),
        fast("crds", "rules_are_in_the_schemas", rules_are_in_the_schemas),
        fast("crds", "defaults_are_in_the_schemas", defaults_are_in_the_schemas),
        fast(
            "crds",
            "columns_and_selectable_fields",
            columns_and_selectable_fields,
        ),
        fast(
            "crds",
            "schemas_use_known_formats_and_no_null",
            schemas_use_known_formats_and_no_null,
        ),
        fast("crds", "example_orders_are_read", example_orders_are_read),
    ]
}

/// With `UPDATE=1` the files are written instead.
fn deploy_files_are_fresh() -> Result<(), Failed> {
    let directory = deploy().join("crds");
    let files = crd_files();
    if env::var_os("UPDATE").is_some() {
        for (name, text) in &files {
            fs::write(directory.join(format!("{name}.yaml")), text)?;
        }
    }
    let present = fs::read_dir(&directory)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<BTreeSet<_>, Failed>>()?;
    assert_eq!(
        present,
        files.iter().map(|(name, _)| format!("{name}.yaml")).collect()
    );
    for (name, text) in files {
        let file = directory.join(format!("{name}.yaml"));
        if fs::read_to_string(&file)? != text {
            return Err(format!("{} is out of date; run `make crds`", file.display()).into());
        }
    }
    Ok(())
}

fn printed_yaml_is_the_crds() -> Result<(), Failed> {
    let printed: Vec<Value> = serde_saphyr::from_multiple(&crds_yaml())?;
    let expected = api::crds()
        .iter()
        .map(serde_json::to_value)
        .collect::<Result<Vec<_>, _>>()?;
    assert_eq!(printed, expected);
    Ok(())
}

fn rules_are_in_the_schemas() -> Result<(), Failed> {
    let template = "/properties/spec/properties/template/properties/spec/properties";
    let terms = "affinity/properties/nodeAffinity/properties/requiredDuringSchedulingIgnoredDuringExecution/properties/nodeSelectorTerms/items/properties";
    let metadata = "/properties/spec/properties/template/properties/metadata/properties";
    let orders = [
        (String::new(), "self.metadata.name.size() <= 63"),
        ("/properties/spec".to_owned(), "has(self.template.spec.duration)"),
        ("/properties/spec".to_owned(), "self.daemonSet"),
        (
            "/properties/spec/properties/strategy".to_owned(),
            "has(self.schedule)",
        ),
        (
            "/properties/spec/properties/updateStrategy/properties/maxUnavailable".to_owned(),
            "self >= 1",
        ),
        (format!("{metadata}/labels"), "korder.dev/"),
        (format!("{metadata}/annotations"), "korder.dev/"),
        (format!("{template}/duration"), "duration(self)"),
        (format!("{template}/resources"), "self.requests.all"),
        (
            format!("{template}/resources/properties/requests/additionalProperties"),
            "isQuantity(self)",
        ),
        (format!("{template}/tolerations/items"), "tolerationSeconds"),
        (format!("{template}/{terms}/matchExpressions/items"), "'Gt', 'Lt'"),
        (format!("{template}/{terms}/matchFields/items"), "metadata.name"),
    ];
    let tickets = ["nodeName", "nodeUID", "sequence"]
        .map(|field| (format!("/properties/spec/properties/{field}"), "self == oldSelf"));
    let cases = orders.into_iter().map(|case| ("orders", case));
    for (plural, (pointer, rule)) in cases.chain(tickets.map(|case| ("tickets", case))) {
        let schema = schema(plural)?;
        let rules = schema
            .pointer(&pointer)
            .and_then(|part| part["x-kubernetes-validations"].as_array())
            .ok_or_else(|| format!("{plural}: no rules at {pointer:?}"))?;
        let found = rules
            .iter()
            .find(|found| found["rule"].as_str().is_some_and(|text| text.contains(rule)));
        let message = found.and_then(|found| found["message"].as_str());
        if message.is_none_or(str::is_empty) {
            return Err(
                format!("{plural}: no rule {rule:?} with a message at {pointer:?}: {rules:?}").into(),
            );
        }
    }
    Ok(())
}

fn defaults_are_in_the_schemas() -> Result<(), Failed> {
    let spec = "/properties/spec/properties";
    let template = "/properties/spec/properties/template/properties/spec/properties";
    let cases = [
        ("orders", format!("{spec}/daemonSet"), json!(false)),
        ("orders", format!("{spec}/paused"), json!(false)),
        (
            "orders",
            format!("{spec}/strategy/properties/type"),
            json!("OneTime"),
        ),
        (
            "orders",
            format!("{spec}/strategy/properties/refreshPolicy"),
            json!("OnClaim"),
        ),
        (
            "orders",
            format!("{spec}/updateStrategy/properties/maxUnavailable"),
            json!("10%"),
        ),
        (
            "orders",
            format!("{template}/lifecycle/properties/ttlSecondsAfterFinished"),
            json!(0),
        ),
        (
            "orders",
            format!("{template}/lifecycle/properties/cleanupPolicy"),
            json!("Delete"),
        ),
        (
            "tickets",
            "/properties/status".to_owned(),
            json!({ "phase": "Pending" }),
        ),
    ];
    for (plural, pointer, expected) in cases {
        let found = schema(plural)?.pointer(&format!("{pointer}/default")).cloned();
        assert_eq!(found, Some(expected), "{plural}: default of {pointer}");
    }
    Ok(())
}

fn columns_and_selectable_fields() -> Result<(), Failed> {
    let cases = [
        (
            "orders",
            vec!["STRATEGY", "DESIRED", "RESERVED", "CLAIMED", "UNAVAILABLE", "AGE"],
            vec![],
        ),
        (
            "tickets",
            vec!["ORDER", "NODE", "PHASE", "EXPIRES", "AGE"],
            vec![".status.phase", ".spec.nodeName"],
        ),
        (
            "shards",
            vec![
                "OWNER", "NODES", "TICKETS", "RESERVED", "CLAIMED", "PENDING", "QUEUE",
            ],
            vec![],
        ),
    ];
    for (plural, columns, fields) in cases {
        let version = version(plural)?;
        let texts = |list: &str, field: &str| {
            let list = version[list].as_array().into_iter().flatten();
            list.filter_map(|entry| entry[field].as_str())
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        assert_eq!(texts("additionalPrinterColumns", "name"), columns, "{plural}");
        assert_eq!(texts("selectableFields", "jsonPath"), fields, "{plural}");
    }
    Ok(())
}

fn schemas_use_known_formats_and_no_null() -> Result<(), Failed> {
    fn check(schema: &Value, path: &str) {
        match schema {
            Value::Object(fields) => {
                assert!(
                    fields.get("nullable").is_none_or(|value| !value.is_boolean()),
                    "{path} is nullable"
                );
                if let Some(format) = fields.get("format").and_then(Value::as_str) {
                    assert!(
                        ["int32", "int64", "double", "date-time"].contains(&format),
                        "{path}: {format}"
                    );
                }
                fields
                    .iter()
                    .for_each(|(key, value)| check(value, &format!("{path}/{key}")));
            }
            Value::Array(items) => items.iter().for_each(|item| check(item, path)),
            _ => {}
        }
    }
    for plural in ["orders", "tickets", "shards"] {
        check(&schema(plural)?, plural);
    }
    Ok(())
}

fn example_orders_are_read() -> Result<(), Failed> {
    for (name, resources) in [
        ("infrastructure-reservation", "100m"),
        ("gpu-node-buffer", "500m"),
    ] {
        let text = fs::read_to_string(deploy().join(format!("examples/{name}.yaml")))?;
        let order: Order = serde_saphyr::from_str(&text)?;
        let room = order.spec.template.spec.resources.ok_or("no resources")?;
        assert_eq!(order.metadata.name.as_deref(), Some(name));
        assert!(order.spec.daemon_set);
        assert_eq!(room.requests["cpu"].0, resources);
    }
    Ok(())
}

fn deploy() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("deploy")
}

fn version(plural: &str) -> Result<Value, Failed> {
    let crds = api::crds();
    let crd = crds
        .iter()
        .find(|crd| crd.spec.names.plural == plural)
        .ok_or("no such CRD")?;
    Ok(serde_json::to_value(&crd.spec.versions[0])?)
}

fn schema(plural: &str) -> Result<Value, Failed> {
    Ok(version(plural)?["schema"]["openAPIV3Schema"].take())
}
