//! The parts of the schemas that a derive cannot say: rules on types of Kubernetes, bounded maps,
//! and the last pass over a generated CRD.
//!
//! Every list, map and string that a CEL rule walks has a bound here, for the API server refuses a
//! CRD whose rules could cost too much.

use k8s_openapi::{
    api::core::v1::{NodeAffinity, Toleration},
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

/// Greatest number of resources in one list of requests or limits.
const MAX_RESOURCES: usize = 32;
/// Greatest number of labels, annotations or node selector pairs in a template.
const MAX_PAIRS: usize = 64;
/// Greatest number of tolerations in a template.
const MAX_TOLERATIONS: usize = 128;
/// Greatest number of node selector terms, and of requirements in one of them.
const MAX_TERMS: usize = 64;
/// Greatest number of values in one requirement.
const MAX_VALUES: usize = 1024;
/// Greatest length of a quantity's text.
const MAX_QUANTITY: usize = 64;
/// Greatest length of a label's value.
const MAX_LABEL_VALUE: usize = 63;
/// Greatest length of a label's key: a prefix of 253, a slash, a name of 63.
const MAX_LABEL_KEY: usize = 317;

const LABEL_VALUE: &str = "^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$";

fn rule(rule: &str, message: &str) -> Value {
    json!({ "rule": rule, "message": message })
}

fn rule_at(path: &str, rule: &str, message: &str) -> Value {
    json!({ "rule": rule, "message": message, "fieldPath": path })
}

fn own_keys(what: &str) -> Value {
    rule(
        "self.all(key, !key.startsWith('korder.dev/'))",
        &format!(
            "{what} with the prefix korder.dev/ belong to the controller; remove them from the template"
        ),
    )
}

/// Labels of a template.
pub(super) fn labels(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": MAX_PAIRS,
        "additionalProperties": { "type": "string", "maxLength": MAX_LABEL_VALUE },
        "x-kubernetes-validations": [
            own_keys("labels"),
            rule(
                &format!("self.all(key, self[key].matches('{LABEL_VALUE}'))"),
                "a label's value consists of letters, digits, '-', '_' and '.', and begins and ends with a letter or digit",
            ),
        ],
    })
}

/// Annotations of a template.
pub(super) fn annotations(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": MAX_PAIRS,
        "additionalProperties": { "type": "string" },
        "x-kubernetes-validations": [own_keys("annotations")],
    })
}

/// Labels that a node must carry.
pub(super) fn node_selector(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": MAX_PAIRS,
        "additionalProperties": { "type": "string", "maxLength": MAX_LABEL_VALUE },
    })
}

/// Requests or limits by resource name.
pub(super) fn resource_list(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": MAX_RESOURCES,
        "additionalProperties": super::Quantity::json_schema(generator),
    })
}

/// The text of a quantity, or a whole number.
pub(super) fn quantity() -> Schema {
    json_schema!({
        "x-kubernetes-int-or-string": true,
        "anyOf": [{ "type": "integer" }, { "type": "string" }],
        "maxLength": MAX_QUANTITY,
        "x-kubernetes-validations": [rule(
            "type(self) == int ? self >= 0 : isQuantity(self) && !self.startsWith('-')",
            "must be a quantity that is not negative, such as 100m, 2 or 1Gi",
        )],
    })
}

/// A number of pairs, or a percentage of them.
pub(super) fn max_unavailable(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "x-kubernetes-int-or-string": true,
        "anyOf": [{ "type": "integer" }, { "type": "string" }],
        "maxLength": 4,
        "x-kubernetes-validations": [rule(
            "type(self) == int ? self >= 1 : self.matches('^(100|[1-9]?[0-9])%$')",
            "must be a whole number from 1, or a percentage from 0% to 100% such as 10%",
        )],
    })
}

/// Tolerations as in a Pod, refused where a Pod with them would be (`Lt` and `Gt` are: their feature
/// gate `TaintTolerationComparisonOperators` is off by default).
pub(super) fn tolerations(generator: &mut SchemaGenerator) -> Schema {
    let mut item = Toleration::json_schema(generator).to_value();
    let properties = &mut item["properties"];
    properties["key"]["maxLength"] = json!(MAX_LABEL_KEY);
    properties["value"]["maxLength"] = json!(MAX_LABEL_VALUE);
    properties["operator"]["enum"] = json!(["", "Equal", "Exists"]);
    properties["effect"]["enum"] = json!(["", "NoExecute", "NoSchedule", "PreferNoSchedule"]);
    item["x-kubernetes-validations"] = json!([
        rule_at(
            ".operator",
            "(has(self.key) && self.key != '') || (has(self.operator) && self.operator == 'Exists')",
            "must be Exists when key is empty, which tolerates every taint; or name a key",
        ),
        rule_at(
            ".value",
            "!(has(self.operator) && self.operator == 'Exists') || !has(self.value) || self.value == ''",
            "must be empty when operator is Exists; remove it, or use operator Equal",
        ),
        rule_at(
            ".effect",
            "!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')",
            "must be NoExecute when tolerationSeconds is set; or remove tolerationSeconds",
        ),
    ]);
    json_schema!({ "type": "array", "maxItems": MAX_TOLERATIONS, "items": item })
}

/// Node affinity as in a Pod, refused where a Pod with it would be.
pub(super) fn node_affinity(generator: &mut SchemaGenerator) -> Schema {
    let mut affinity = NodeAffinity::json_schema(generator).to_value();
    let terms = affinity
        .pointer_mut(
            "/properties/requiredDuringSchedulingIgnoredDuringExecution/properties/nodeSelectorTerms",
        )
        .expect("node affinity has node selector terms");
    terms["maxItems"] = json!(MAX_TERMS);
    let requirements = &mut terms["items"]["properties"];

    let expressions = &mut requirements["matchExpressions"];
    bound_requirements(
        expressions,
        &["DoesNotExist", "Exists", "Gt", "In", "Lt", "NotIn"],
    );
    expressions["items"]["x-kubernetes-validations"] = json!([
        needs_values(),
        rule_at(
            ".values",
            "!(self.operator in ['Exists', 'DoesNotExist']) || !has(self.values) || size(self.values) == 0",
            "must be empty when operator is Exists or DoesNotExist",
        ),
        rule_at(
            ".values",
            "!(self.operator in ['Gt', 'Lt']) || (has(self.values) && size(self.values) == 1 && self.values[0].matches('^-?[0-9]{1,19}$'))",
            "must be exactly one whole number, in quotes, when operator is Gt or Lt",
        ),
    ]);

    let fields = &mut requirements["matchFields"];
    bound_requirements(fields, &["In", "NotIn"]);
    fields["items"]["x-kubernetes-validations"] = json!([
        needs_values(),
        rule_at(
            ".key",
            "self.key == 'metadata.name'",
            "must be metadata.name, the only field of a Node that can be matched; use matchExpressions for labels",
        ),
    ]);
    Schema::try_from(affinity).expect("an object is a schema")
}

fn needs_values() -> Value {
    rule_at(
        ".values",
        "!(self.operator in ['In', 'NotIn']) || (has(self.values) && size(self.values) > 0)",
        "must have at least one value when operator is In or NotIn",
    )
}

fn bound_requirements(list: &mut Value, operators: &[&str]) {
    list["maxItems"] = json!(MAX_TERMS);
    let properties = &mut list["items"]["properties"];
    properties["key"]["maxLength"] = json!(MAX_LABEL_KEY);
    properties["operator"]["enum"] = json!(operators);
    properties["values"]["maxItems"] = json!(MAX_VALUES);
    properties["values"]["items"]["maxLength"] = json!(253);
}

/// Makes a generated CRD what the API server takes without a warning.
///
/// `null` means absent (so it is defaulted like an absent field), and the sizes of Rust's integers
/// become formats that Kubernetes knows.
pub(super) fn finish(crd: CustomResourceDefinition) -> CustomResourceDefinition {
    let mut value = serde_json::to_value(crd).expect("a CRD has a JSON form");
    for version in value["spec"]["versions"].as_array_mut().into_iter().flatten() {
        tidy(&mut version["schema"]["openAPIV3Schema"]);
    }
    serde_json::from_value(value).expect("a tidied CRD is a CRD")
}

fn tidy(schema: &mut Value) {
    let Some(fields) = schema.as_object_mut() else {
        return;
    };
    fields.remove("nullable");
    match fields.get("format").and_then(Value::as_str) {
        Some("uint8" | "uint16") => fields.insert("format".to_owned(), json!("int32")),
        Some("uint32") => fields.insert("format".to_owned(), json!("int64")),
        _ => None,
    };
    for key in ["items", "additionalProperties"] {
        fields.get_mut(key).into_iter().for_each(tidy);
    }
    if let Some(properties) = fields.get_mut("properties").and_then(Value::as_object_mut) {
        properties.values_mut().for_each(tidy);
    }
}
