//! Shapes of JSON documents: each key with the types of its values. The snapshots in
//! `tests/fixtures/shapes` fail if an internal rename changes a key that other programs read.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// Types of the values at each path.
type TypesByPath = BTreeMap<String, BTreeSet<&'static str>>;

/// Returns one line for each path of the documents, with the types of the values found there.
/// `has_name_keys` is true for the path of an object whose keys are names; the shape has `NAME` in
/// their place.
pub(crate) fn json_shape(documents: &[Value], has_name_keys: impl Fn(&str) -> bool) -> String {
    let mut types = TypesByPath::new();
    for document in documents {
        record_type(&mut types, "", document, &has_name_keys);
    }
    let line = |(path, types): (&String, &BTreeSet<&str>)| {
        let types: Vec<&str> = types.iter().copied().collect();
        format!("{path}: {}\n", types.join(" or "))
    };
    types.iter().map(line).collect()
}

fn record_type(
    types: &mut TypesByPath,
    path: &str,
    value: &Value,
    has_name_keys: &impl Fn(&str) -> bool,
) {
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    types.entry(path.to_owned()).or_default().insert(kind);
    match value {
        Value::Array(values) => {
            for value in values {
                record_type(types, &format!("{path}[]"), value, has_name_keys);
            }
        }
        Value::Object(values) => {
            for (key, value) in values {
                let key = if has_name_keys(path) { "NAME" } else { key };
                record_type(types, &format!("{path}.{key}"), value, has_name_keys);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Asserts that a text equals the snapshot of this name.
pub(crate) fn assert_matches_snapshot(name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("../fixtures/shapes");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, text));
}

#[test]
fn a_shape_has_each_path_with_all_its_types() {
    let documents = [
        serde_json::json!({"a": [1, "x", {"b": null}], "of": {"work": {"n": 1}}}),
        serde_json::json!({"a": [], "c": true}),
    ];

    let shape = json_shape(&documents, |path| path == ".of");

    assert_eq!(
        shape,
        ": object\n.a: array\n.a[]: number or object or string\n.a[].b: null\n.c: bool\n\
         .of: object\n.of.NAME: object\n.of.NAME.n: number\n"
    );
}
