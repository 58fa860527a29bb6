//! Paths in JSON: pointers (RFC 6901) in which `*` selects every element.

use serde_json::Value;

/// Part that selects every element of a list, or every value of an object.
const EVERY: &str = "*";

/// Path to values in JSON, such as `/value` or `/history/*/messagesAdded/*/message`.
///
/// The empty path selects the whole value. A name with a slash has `~1` for it, one with a tilde
/// `~0`. A `*` is one only as a whole part.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct JsonPath {
    /// Path as written.
    text: String,
    /// Parts without escapes.
    parts: Vec<String>,
}

/// Rows that a path selects.
#[derive(Clone, Debug, PartialEq)]
pub enum RowMatch<'v> {
    /// There is nothing at the path.
    Absent,
    /// Kind of the value there, such as `an object`.
    NotAList(&'static str),
    Rows(Vec<&'v Value>),
}

impl JsonPath {
    /// Reads a path.
    ///
    /// # Errors
    /// A sentence for a text that neither is empty nor begins with a slash, and for a `~` before
    /// anything but `0` and `1`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = text.split('/');
        if parts.next() != Some("") {
            return Err(format!("{text:?} is not a path: it must begin with /"));
        }
        let parts: Option<Vec<String>> = parts.map(unescape).collect();
        let parts = parts.ok_or_else(|| {
            format!("{text:?} is not a path: write ~0 for ~ and ~1 for / inside a name")
        })?;
        Ok(Self { text: text.to_owned(), parts })
    }

    /// Returns the path as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns the values at the path, in their order; null is a value.
    #[must_use]
    pub fn select<'v>(&self, value: &'v Value) -> Vec<&'v Value> {
        select(value, &self.parts)
    }

    /// Returns the first value at the path. Null counts as absent.
    #[must_use]
    pub fn first<'v>(&self, value: &'v Value) -> Option<&'v Value> {
        self.select(value).into_iter().find(|found| !found.is_null())
    }

    /// Returns the rows at the path: the elements of the list there; with a `*`, every match.
    ///
    /// Null counts as absent. With a `*`, the rows are absent only if the value before the first
    /// one is: a list without elements has no rows.
    #[must_use]
    pub fn rows<'v>(&self, value: &'v Value) -> RowMatch<'v> {
        let first_star = self.parts.iter().position(|part| part == EVERY);
        let (before, after) = self.parts.split_at(first_star.unwrap_or(self.parts.len()));
        match select(value, before).into_iter().find(|found| !found.is_null()) {
            None => RowMatch::Absent,
            Some(Value::Array(elements)) if after.is_empty() => {
                RowMatch::Rows(elements.iter().collect())
            }
            Some(list @ (Value::Array(_) | Value::Object(_))) if !after.is_empty() => {
                let matches = select(list, after).into_iter();
                RowMatch::Rows(matches.filter(|found| !found.is_null()).collect())
            }
            Some(other) => RowMatch::NotAList(kind_of(other)),
        }
    }

    /// True if the path may select several values.
    #[must_use]
    pub fn has_star(&self) -> bool {
        self.parts().any(|part| part == EVERY)
    }

    /// Returns the parts, without escapes.
    pub fn parts(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().map(String::as_str)
    }
}

/// Returns the text of a scalar: a text as it is, a whole number in decimal, `true` or `false`.
///
/// `None` for null, lists and objects, and for other numbers, whose text is not unique.
#[must_use]
pub fn scalar_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => (!number.is_f64()).then(|| number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Returns the kind of a value with its article, for messages.
pub(super) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(number) if number.is_f64() => "a fractional or very large number",
        Value::Number(_) => "a number",
        Value::String(text) if text.is_empty() => "an empty text",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// Replaces `~1` and `~0` in a part. `None` if a `~` is followed by anything else.
fn unescape(part: &str) -> Option<String> {
    let mut pieces = part.split('~');
    let mut name = pieces.next()?.to_owned();
    for piece in pieces {
        let (c, rest) = match piece.split_at_checked(1)? {
            ("0", rest) => ('~', rest),
            ("1", rest) => ('/', rest),
            _ => return None,
        };
        name.push(c);
        name.push_str(rest);
    }
    Some(name)
}

fn select<'v>(value: &'v Value, parts: &[String]) -> Vec<&'v Value> {
    let mut selected = vec![value];
    for part in parts {
        selected = selected.into_iter().flat_map(|value| children(value, part)).collect();
    }
    selected
}

/// Returns the values inside a value that a part of a path selects.
fn children<'v>(value: &'v Value, part: &str) -> Vec<&'v Value> {
    match value {
        Value::Array(elements) if part == EVERY => elements.iter().collect(),
        Value::Object(members) if part == EVERY => members.values().collect(),
        Value::Array(elements) => {
            parse_index(part).and_then(|index| elements.get(index)).into_iter().collect()
        }
        Value::Object(members) => members.get(part).into_iter().collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
    }
}

/// Parses the index of an element, which has no sign and no leading zeros (RFC 6901 §4).
fn parse_index(part: &str) -> Option<usize> {
    let is_canonical = part == "0" || !part.starts_with(['0', '+']);
    part.parse().ok().filter(|_| is_canonical)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn path(text: &str) -> JsonPath {
        JsonPath::parse(text).unwrap()
    }

    fn selected(text: &str, value: &Value) -> Value {
        path(text).select(value).into_iter().cloned().collect()
    }

    #[test]
    fn a_path_without_star_selects_as_a_json_pointer() {
        let value = json!({"a": [{"b/c": 1, "~": 2, "": 3}], "0": {"1": 4}, "01": 5});
        for (text, expected) in [
            ("/a/0/b~1c", json!([1])),
            ("/a/0/~0", json!([2])),
            ("/a/0/", json!([3])),
            ("/0/1", json!([4])),
            ("/01", json!([5])),
            ("/a/1", json!([])),
            ("/a/00", json!([])),
            ("/a/+0", json!([])),
            ("/a/-", json!([])),
            ("/a/0/b~1c/d", json!([])),
        ] {
            assert_eq!(selected(text, &value), expected, "{text}");
        }
        assert_eq!(path("").select(&value), [&value]);
        assert_eq!(path("/a~1b/~01/*").parts().collect::<Vec<_>>(), ["a/b", "~1", "*"]);
    }

    #[test]
    fn a_star_selects_every_element_and_every_member() {
        let value = json!({"a": [{"x": 1}, {"y": 2}, {"x": null}], "b": {"p": {"x": 3}, "q": 4}});

        assert_eq!(selected("/a/*/x", &value), json!([1, null]));
        assert_eq!(selected("/b/*/x", &value), json!([3]));
        assert_eq!(selected("/*/*/x", &value), json!([1, null, 3]));
        assert_eq!(path("/a/*/x").first(&value), Some(&json!(1)));
        assert_eq!(path("/a/2/x").first(&value), None, "null counts as absent");
        assert!(path("/a/*").has_star() && !path("/a*/b").has_star());
    }

    #[test]
    fn an_invalid_path_is_rejected() {
        assert_eq!(
            JsonPath::parse("messages").unwrap_err(),
            "\"messages\" is not a path: it must begin with /"
        );
        for text in ["/a~", "/a~2b", "/~é"] {
            let error = JsonPath::parse(text).unwrap_err();
            assert!(error.contains("write ~0 for ~ and ~1 for /"), "{error}");
        }
    }

    #[test]
    fn rows_are_the_elements_of_a_list_or_the_matches_of_a_star() {
        let value = json!({
            "list": [1, null], "none": null, "empty": [], "object": {"a": {"id": 1}, "b": null},
            "text": "x",
            "history": [{"added": [{"message": 1}, {"message": 2}]}, {}, {"added": null}],
        });
        let rows = |text: &str| match path(text).rows(&value) {
            RowMatch::Absent => "absent".to_owned(),
            RowMatch::NotAList(kind) => kind.to_owned(),
            RowMatch::Rows(rows) => json!(rows).to_string(),
        };
        for (text, expected) in [
            ("/list", "[1,null]"),
            ("/empty", "[]"),
            ("/none", "absent"),
            ("/missing", "absent"),
            ("/object", "an object"),
            ("/text", "a text"),
            ("", "an object"),
            ("/history/*/added/*/message", "[1,2]"),
            ("/empty/*/added/*/message", "[]"),
            ("/missing/*/added", "absent"),
            ("/none/*/added", "absent"),
            ("/object/*", "[{\"id\":1}]"),
            ("/text/*", "a text"),
        ] {
            assert_eq!(rows(text), expected, "{text}");
        }
    }

    #[test]
    fn scalars_have_a_text() {
        let texts = [json!("a"), json!(""), json!(-7), json!(u64::MAX), json!(true)]
            .map(|v| scalar_text(&v));
        assert_eq!(texts.map(Option::unwrap), ["a", "", "-7", "18446744073709551615", "true"]);
        for value in [json!(null), json!(1.0), json!(1e30), json!([]), json!({})] {
            assert_eq!(scalar_text(&value), None, "{value}");
        }
    }
}

#[cfg(test)]
pub(super) mod proptests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    /// Generates JSON with few names, so that paths often match. Every text that is not empty
    /// contains `s3cr3t`.
    pub(in crate::rest) fn json() -> impl Strategy<Value = Value> {
        let scalar = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "|s3cr3t\\PC{0,5}".prop_map(Value::from),
        ];
        scalar.prop_recursive(4, 40, 5, |inner| {
            prop_oneof![
                vec(inner.clone(), 0..5).prop_map(Value::from),
                vec(("a|b|id", inner), 0..5)
                    .prop_map(|members| members.into_iter().collect::<Value>()),
            ]
        })
    }

    /// Generates paths that often match such JSON.
    pub(in crate::rest) fn json_path() -> impl Strategy<Value = JsonPath> {
        "(/(a|b|id|\\*|0)){0,4}".prop_map(|text| JsonPath::parse(&text).unwrap())
    }

    proptest! {
        #[test]
        fn parsing_any_text_never_panics(text in "\\PC{0,20}|(/[~01*a]{0,4}){0,4}") {
            if let Ok(path) = JsonPath::parse(&text) {
                prop_assert_eq!(path.as_str(), &text);
                prop_assert_eq!(path.parts().count(), text.matches('/').count());
            }
        }

        #[test]
        fn a_path_without_star_agrees_with_a_json_pointer(value in json(), path in json_path()) {
            let selected = path.select(&value);
            if !path.has_star() {
                prop_assert_eq!(selected, Vec::from_iter(value.pointer(path.as_str())));
            }
        }

        #[test]
        fn rows_are_never_lost(value in json(), path in json_path()) {
            match path.rows(&value) {
                RowMatch::Rows(rows) if path.has_star() => {
                    let selected = path.select(&value);
                    let expected: Vec<_> = selected.into_iter().filter(|v| !v.is_null()).collect();
                    prop_assert_eq!(rows, expected);
                }
                RowMatch::Rows(rows) => {
                    let list = path.first(&value).and_then(Value::as_array);
                    prop_assert_eq!(Some(rows.len()), list.map(Vec::len));
                }
                RowMatch::Absent => prop_assert!(path.first(&value).is_none()),
                RowMatch::NotAList(kind) => prop_assert!(!kind.is_empty()),
            }
        }
    }
}
