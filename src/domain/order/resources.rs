//! The room a Ticket keeps: defaults, and what the API server would refuse of a Guardian.
//!
//! What comes out is what the Guardian's container will have, so that claims and hashes need not
//! know the defaults.

use std::collections::BTreeMap;

use crate::api::{Quantity, order::Resources};
use crate::domain::values::{invalid::Invalid, quantity::Amount, syntax};

const QUANTITY_REMEDY: &str = "use a number with an optional suffix, such as 250m, 2, 512Mi or 1.5Gi";

/// The resources of an Order's template with all defaults applied; `path` is their field.
///
/// Without any, requests are 100m CPU and 128Mi memory; a limit without a request is also the
/// request, as the API server has it.
///
/// # Errors
/// Everything the API server would refuse in a container.
pub(crate) fn compile(path: &str, given: Option<&Resources>) -> Result<Resources, Vec<Invalid>> {
    let mut resources = given.cloned().unwrap_or_default();
    if resources.requests.is_empty() && resources.limits.is_empty() {
        let default = |name: &str, amount: &str| (name.to_owned(), Quantity(amount.to_owned()));
        resources.requests = [default("cpu", "100m"), default("memory", "128Mi")].into();
        return Ok(resources);
    }
    let mut problems = Vec::new();
    let limits = amounts(&mut problems, &format!("{path}.limits"), &resources.limits);
    let requests = amounts(&mut problems, &format!("{path}.requests"), &resources.requests);
    for (name, request) in &requests {
        compare(&mut problems, path, name, *request, limits.get(name).copied());
    }
    for (name, limit) in &resources.limits {
        resources
            .requests
            .entry(name.clone())
            .or_insert_with(|| limit.clone());
    }
    let has = |name: &str| resources.requests.contains_key(name);
    if resources.requests.keys().any(|name| is_huge(name)) && !has("cpu") && !has("memory") {
        problems.push(Invalid::new(
            path,
            "has huge pages only",
            "also request cpu or memory",
        ));
    }
    if problems.is_empty() {
        Ok(resources)
    } else {
        Err(problems)
    }
}

fn amounts<'a>(
    problems: &mut Vec<Invalid>,
    path: &str,
    list: &'a BTreeMap<String, Quantity>,
) -> BTreeMap<&'a str, Amount> {
    let mut amounts = BTreeMap::new();
    for (name, Quantity(text)) in list {
        let field = format!("{path}[{name}]");
        let mut wrong = |problem: String, remedy: &str| problems.push(Invalid::new(&field, problem, remedy));
        if !is_container_resource(name) {
            let remedy = "use cpu, memory, ephemeral-storage, hugepages-SIZE, or an extended resource such as example.com/device";
            wrong(format!("{name:?} is not a resource of containers"), remedy);
        }
        match Amount::parse(text) {
            Err(error) => wrong(format!("{text:?} {error}"), QUANTITY_REMEDY),
            Ok(amount) if amount.is_negative() => wrong(format!("{text} is negative"), "use 0 or more"),
            Ok(amount) if is_extended(name) && !amount.is_whole() => {
                wrong(
                    format!("{text} is not a whole number"),
                    "extended resources are counted in whole numbers",
                );
            }
            Ok(amount) => {
                amounts.insert(name.as_str(), amount);
            }
        }
    }
    amounts
}

fn compare(problems: &mut Vec<Invalid>, path: &str, name: &str, request: Amount, limit: Option<Amount>) {
    let overcommit = !is_extended(name) && !is_huge(name);
    let (problem, remedy) = match limit {
        None if !overcommit => (
            "has no limit",
            "this resource cannot be shared: set the same limit",
        ),
        Some(limit) if !overcommit && request != limit => (
            "differs from its limit",
            "this resource cannot be shared: set the same limit",
        ),
        Some(limit) if request > limit => ("is more than its limit", "lower the request or raise the limit"),
        _ => return,
    };
    problems.push(Invalid::new(format!("{path}.requests[{name}]"), problem, remedy));
}

/// As `ValidateContainerResourceName`.
fn is_container_resource(name: &str) -> bool {
    let standard = matches!(name, "cpu" | "memory" | "ephemeral-storage") || is_huge(name);
    match syntax::label_key(name) {
        Some(_) => false,
        None if name.contains('/') => is_native(name) || is_extended(name),
        None => standard,
    }
}

fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

fn is_extended(name: &str) -> bool {
    !is_native(name)
        && !name.starts_with("requests.")
        && syntax::label_key(&format!("requests.{name}")).is_none()
}

fn is_huge(name: &str) -> bool {
    name.starts_with("hugepages-")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn compiled(resources: Value) -> Result<Value, Vec<String>> {
        let resources: Resources = serde_json::from_value(resources).unwrap();
        compile("r", Some(&resources))
            .map(|resources| serde_json::to_value(resources).unwrap())
            .map_err(|problems| problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn without_resources_there_are_the_default_requests() {
        let default = json!({ "requests": { "cpu": "100m", "memory": "128Mi" } });
        assert_eq!(compiled(json!({})), Ok(default.clone()));
        let absent = compile("r", None).unwrap();
        assert_eq!(serde_json::to_value(absent).unwrap(), default);
    }

    #[test]
    fn given_requests_get_no_defaults() {
        let given = json!({ "requests": { "memory": "1Gi" } });
        assert_eq!(compiled(given.clone()), Ok(given));
    }

    #[test]
    fn a_limit_without_a_request_is_the_request() {
        assert_eq!(
            compiled(json!({ "limits": { "cpu": 2, "example.com/gpu": 1 }, "requests": { "cpu": 0.5 } })),
            Ok(json!({
                "limits": { "cpu": "2", "example.com/gpu": "1" },
                "requests": { "cpu": "0.5", "example.com/gpu": "1" },
            }))
        );
    }

    #[test]
    fn what_a_container_may_not_ask_for_is_refused() {
        for (resources, expected) in [
            (
                json!({ "requests": { "cpu": "100x" } }),
                "r.requests[cpu]: \"100x\" has an unknown suffix: use a number",
            ),
            (
                json!({ "limits": { "cpu": "many" } }),
                "r.limits[cpu]: \"many\" is not a quantity: use a number",
            ),
            (
                json!({ "requests": { "cpu": "-1" } }),
                "r.requests[cpu]: -1 is negative: use 0 or more",
            ),
            (
                json!({ "requests": { "cpu": "1100m" }, "limits": { "cpu": "1" } }),
                "r.requests[cpu]: is more than its limit: lower the request",
            ),
            (
                json!({ "requests": { "gpu": "1" } }),
                "r.requests[gpu]: \"gpu\" is not a resource of containers: use cpu",
            ),
            (
                json!({ "requests": { "pods": "1" } }),
                "r.requests[pods]: \"pods\" is not a resource of containers",
            ),
            (
                json!({ "requests": { "a b/c": "1" } }),
                "r.requests[a b/c]: \"a b/c\" is not a resource of containers",
            ),
            (
                json!({ "requests": { "x.io/gpu": "1" } }),
                "r.requests[x.io/gpu]: has no limit: this resource",
            ),
            (
                json!({ "requests": { "x.io/gpu": "1" }, "limits": { "x.io/gpu": "2" } }),
                "r.requests[x.io/gpu]: differs from its limit: this resource",
            ),
            (
                json!({ "limits": { "x.io/gpu": "500m" } }),
                "r.limits[x.io/gpu]: 500m is not a whole number: extended",
            ),
            (
                json!({ "limits": { "hugepages-2Mi": "4Mi" } }),
                "r: has huge pages only: also request cpu or memory",
            ),
        ] {
            let problems = compiled(resources).unwrap_err();
            assert_eq!(problems.len(), 1, "{problems:?}");
            assert!(problems[0].starts_with(expected), "{problems:?}, not {expected}");
        }
    }

    #[test]
    fn equal_values_written_differently_compare_equal() {
        assert!(compiled(json!({ "requests": { "cpu": "1" }, "limits": { "cpu": "1000m" } })).is_ok());
        assert!(compiled(json!({ "requests": { "x.io/gpu": "1" }, "limits": { "x.io/gpu": 1 } })).is_ok());
    }
}
