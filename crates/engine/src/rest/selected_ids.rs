//! Ids that paths select, such as those of the folders of a document.

use std::collections::BTreeSet;
use std::slice;

use serde_json::Value;

use crate::rest::json_path::{JsonPath, scalar_text};

/// Returns the ids at the first path with one, each once.
///
/// A path may select several values, and a list of them. What is neither a text nor a whole number,
/// and an empty text, is no id.
#[must_use]
pub fn select_ids(paths: &[JsonPath], value: &Value) -> Vec<String> {
    let mut found = paths.iter().map(|path| ids_at(path, value));
    found.find(|ids| !ids.is_empty()).unwrap_or_default()
}

fn ids_at(path: &JsonPath, value: &Value) -> Vec<String> {
    let mut known = BTreeSet::new();
    let mut ids = Vec::new();
    for selected in path.select(value) {
        let elements = selected.as_array().map_or_else(|| slice::from_ref(selected), Vec::as_slice);
        for id in elements.iter().filter(|element| !element.is_boolean()).filter_map(scalar_text) {
            if !id.is_empty() && known.insert(id.clone()) {
                ids.push(id);
            }
        }
    }
    ids
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_first_path_with_an_id_applies() {
        let ids = |paths: &[&str], row: &Value| {
            let paths = paths.iter().map(|text| JsonPath::parse(text).unwrap());
            select_ids(&paths.collect::<Vec<_>>(), row).join(",")
        };
        let row = json!({"in": [], "folder": 7, "tags": [{"id": "a"}, {"id": ["b", "c"]}, {}]});

        assert_eq!(ids(&["/in", "/folder"], &row), "7");
        assert_eq!(ids(&["/tags/*/id", "/folder"], &row), "a,b,c");
        assert_eq!(ids(&["/none", "/tags"], &row), "");
        assert_eq!(ids(&[], &row), "");
    }

    #[test]
    fn only_texts_and_whole_numbers_are_ids() {
        let paths = [JsonPath::parse("/in").unwrap()];
        for (value, expected) in [
            (json!(["b", "a", "b", 3]), "b,a,3"),
            (json!("a"), "a"),
            (json!(["", null, true, 1.5, {"id": 1}, ["a"]]), ""),
            (json!({"a": true}), ""),
            (json!(null), ""),
        ] {
            assert_eq!(select_ids(&paths, &json!({ "in": value })).join(","), expected);
        }
    }
}
