//! Objects as the API has them: plain JSON, read at pointers. What is missing is empty.

use serde_json::Value;

/// Namespace and name.
pub type Key = (String, String);

/// What is at a JSON pointer; faster than [`Value::pointer`] where nothing is escaped.
pub fn at<'a>(object: &'a Value, pointer: &str) -> Option<&'a Value> {
    if pointer.contains('~') {
        return object.pointer(pointer);
    }
    let step = |value: &'a Value, key: &str| match value {
        Value::Object(map) => map.get(key),
        Value::Array(list) => list.get(key.parse::<usize>().ok()?),
        _ => None,
    };
    pointer.split('/').skip(1).try_fold(object, step)
}

/// The text at a JSON pointer, or nothing.
pub fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    at(object, pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The elements of the list at a JSON pointer.
pub fn items<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    at(object, pointer)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// An object's namespace and name.
pub fn key(object: &Value) -> Key {
    let own = |pointer| text(object, pointer).to_owned();
    (own("/metadata/namespace"), own("/metadata/name"))
}

/// An object's uid.
pub fn uid(object: &Value) -> &str {
    text(object, "/metadata/uid")
}

/// Whether an object is being deleted.
pub fn deleting(object: &Value) -> bool {
    at(object, "/metadata/deletionTimestamp").is_some()
}

/// A condition of an object's status.
pub fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    items(object, "/status/conditions")
        .iter()
        .find(|condition| text(condition, "/type") == kind)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn pointers_lead_where_those_of_serde_json_lead() {
        let object = json!({ "a": { "b/c": [1, { "d": null }], "": 2 } });
        let pointers = [
            "",
            "/a",
            "/a/",
            "/a/b~1c",
            "/a/b~1c/1/d",
            "/a/b~1c/2",
            "/a/b~1c/x",
            "/x",
            "/a/b/c",
        ];
        for pointer in pointers {
            assert_eq!(at(&object, pointer), object.pointer(pointer), "{pointer}");
        }
    }
}
