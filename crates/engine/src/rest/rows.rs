//! Rows of a page: the listed items, parts and documents.

use serde_json::Value;

use crate::rest::json_path::{JsonPath, RowMatch, kind_of, scalar_text};
use crate::rest::paging::PageRule;
use crate::rest::request::RequestTemplate;
use crate::rest::selected_ids::select_ids;
use crate::rest::table_name::TableName;
use crate::{Scalar, sanitize_line, truncate_to_bytes};

/// Maximum number of names of an object in a message.
const SHOWN_KEYS_MAX: usize = 8;
/// Longest part of such a name, in bytes, since some servers use ids as names.
const SHOWN_KEY_BYTES_MAX: usize = 32;

/// List of rows: its request, the rows in a response, and the continuation.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RowListing {
    pub request: RequestTemplate,
    pub rows: RowRules,
    pub page: PageRule,
}

/// Meaning of the rows of a page.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RowRules {
    /// List of the rows; every match is a row if the path has a `*`.
    pub items: JsonPath,
    /// True if the server leaves `items` out of a page without rows.
    pub is_optional: bool,
    /// Id of the item: the first path with a value.
    pub id: Vec<JsonPath>,
    /// Id of the document, if the rows are documents: the first path with a value.
    pub document: Vec<JsonPath>,
    pub skip: Option<SkipRule>,
    /// Values for `{document.NAME}`, which are kept with the document.
    pub keep: Vec<(String, JsonPath)>,
    /// Values that are stored with the document, for people.
    pub labels: Vec<(String, JsonPath)>,
    /// Ids of the folders of the document: the first path with a value.
    pub folder: Vec<JsonPath>,
    /// Exact size of the document in bytes.
    pub size: Option<JsonPath>,
    /// Size of the document in bytes, for progress only.
    pub size_estimate: Option<JsonPath>,
}

/// Rows that are left out.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SkipRule {
    pub at: JsonPath,
    /// Values for which a row is left out; any value if empty.
    pub is: Vec<Scalar>,
}

/// Row of a page.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RestRow<'v> {
    pub id: String,
    /// Id of the document, if the rows are documents.
    pub document: Option<String>,
    pub keep: Vec<(String, String)>,
    pub labels: Vec<(String, String)>,
    /// Ids of the folders of the document. `None` if the rules have no path to them.
    pub folders: Option<Vec<String>>,
    pub size: Option<u64>,
    pub size_estimate: Option<u64>,
    /// The row itself.
    pub value: &'v Value,
}

/// Row or page that does not agree with the profile. The sentence quotes the rule and says what was
/// found, without a value of the response.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RowError(pub String);

/// Row that is being read, for messages.
struct RowReader<'v> {
    table: TableName,
    /// Position in the page, from 1.
    number: usize,
    value: &'v Value,
}

impl RowRules {
    /// Returns the rows of a page that are not skipped.
    ///
    /// # Errors
    /// The first rule that does not agree with the page. `table` names the table in the sentence.
    pub fn read<'v>(
        &self,
        table: TableName,
        body: &'v Value,
    ) -> Result<Vec<RestRow<'v>>, RowError> {
        let rule = || quote_rule(table, "items", std::slice::from_ref(&self.items));
        let values = match self.items.rows(body) {
            RowMatch::Rows(values) => values,
            RowMatch::Absent if self.is_optional => Vec::new(),
            RowMatch::Absent => {
                let found = describe_content(body);
                let message = format!("{} selects nothing in the response, {found}", rule());
                return Err(RowError(message));
            }
            RowMatch::NotAList(kind) => {
                return Err(RowError(format!("{} selects {kind}, not a list", rule())));
            }
        };
        let rows = values.into_iter().zip(1_usize..).filter(|(value, _)| !self.is_skipped(value));
        rows.map(|(value, number)| self.read_row(&RowReader { table, number, value })).collect()
    }

    /// Returns the ids of the rows of a page that are skipped. One without a valid id has none.
    #[must_use]
    pub fn skipped_ids(&self, body: &Value) -> Vec<String> {
        let rows = match self.items.rows(body) {
            RowMatch::Rows(rows) => rows,
            RowMatch::Absent | RowMatch::NotAList(_) => Vec::new(),
        };
        let skipped = rows.into_iter().filter(|row| self.is_skipped(row));
        skipped.filter_map(|row| select_ids(&self.id, row).into_iter().next()).collect()
    }

    fn is_skipped(&self, row: &Value) -> bool {
        self.skip.as_ref().is_some_and(|skip| skip.matches(row))
    }

    fn read_row<'v>(&self, row: &RowReader<'v>) -> Result<RestRow<'v>, RowError> {
        let id = row.id("id", &self.id)?;
        let document = match self.document.as_slice() {
            [] => None,
            paths => Some(row.id("document", paths)?),
        };
        let keep = self.keep.iter().map(|(name, path)| row.kept(name, path));
        let labels = self.labels.iter().filter_map(|(name, path)| {
            let value = path.first(row.value).and_then(scalar_text)?;
            Some((name.clone(), value))
        });
        let size = |path: Option<&JsonPath>| path?.first(row.value)?.as_u64();
        Ok(RestRow {
            id,
            document,
            keep: keep.collect::<Result<_, _>>()?,
            labels: labels.collect(),
            folders: (!self.folder.is_empty()).then(|| select_ids(&self.folder, row.value)),
            size: size(self.size.as_ref()),
            size_estimate: size(self.size_estimate.as_ref()),
            value: row.value,
        })
    }
}

impl SkipRule {
    /// True if a row is left out.
    fn matches(&self, row: &Value) -> bool {
        let mut found = self.at.select(row).into_iter().filter(|value| !value.is_null());
        found.any(|value| self.is.is_empty() || self.is.iter().any(|scalar| scalar.matches(value)))
    }
}

impl RowReader<'_> {
    /// Returns the id at the first path with one. Null and an empty text count as absent.
    fn id(&self, key: &str, paths: &[JsonPath]) -> Result<String, RowError> {
        let expected = "a text or a whole number";
        let mut values = paths.iter().filter_map(|path| path.first(self.value));
        let Some(value) = values.clone().find(|value| value.as_str() != Some("")) else {
            return Err(self.invalid(key, paths, values.next(), expected));
        };
        let text = scalar_text(value).filter(|_| !value.is_boolean());
        text.ok_or_else(|| self.invalid(key, paths, Some(value), expected))
    }

    /// Returns a kept value with its name.
    fn kept(&self, name: &str, path: &JsonPath) -> Result<(String, String), RowError> {
        let value = path.first(self.value);
        let text = value.and_then(scalar_text).ok_or_else(|| {
            let paths = std::slice::from_ref(path);
            self.invalid(&format!("keep.{name}"), paths, value, "a text, whole number or boolean")
        })?;
        Ok((name.to_owned(), text))
    }

    /// Describes a rule that selects `found`, or nothing, instead of `expected`.
    fn invalid(
        &self,
        key: &str,
        paths: &[JsonPath],
        found: Option<&Value>,
        expected: &str,
    ) -> RowError {
        let (rule, number) = (quote_rule(self.table, key, paths), self.number);
        RowError(match found {
            Some(found) => {
                format!("{rule} selects {} in row {number}, not {expected}", kind_of(found))
            }
            None => {
                let content = describe_content(self.value);
                format!("{rule} selects nothing in row {number}, {content}")
            }
        })
    }
}

/// Quotes a rule as a profile writes it: `` `[list] id` = "/id" ``.
fn quote_rule(table: TableName, key: &str, paths: &[JsonPath]) -> String {
    let quoted: Vec<String> = paths.iter().map(|path| format!("{:?}", path.as_str())).collect();
    let value = match quoted.as_slice() {
        [path] => path.clone(),
        paths => format!("[{}]", paths.join(", ")),
    };
    format!("`[{}] {key}` = {value}", table.name())
}

/// Describes a value by its kind, or by the names in it: `which has the keys a, b`.
fn describe_content(value: &Value) -> String {
    let Some(members) = value.as_object().filter(|members| !members.is_empty()) else {
        let kind = if value.is_object() { "an empty object" } else { kind_of(value) };
        return format!("which is {kind}");
    };
    let shown = members.keys().take(SHOWN_KEYS_MAX);
    let mut keys: Vec<String> =
        shown.map(|key| sanitize_line(truncate_to_bytes(key, SHOWN_KEY_BYTES_MAX))).collect();
    if members.len() > SHOWN_KEYS_MAX {
        keys.push("…".to_owned());
    }
    let noun = if members.len() == 1 { "key" } else { "keys" };
    format!("which has the {noun} {}", keys.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn path(text: &str) -> JsonPath {
        JsonPath::parse(text).unwrap()
    }

    fn rules(items: &str) -> RowRules {
        RowRules {
            items: path(items),
            is_optional: false,
            id: vec![path("/id")],
            document: Vec::new(),
            skip: None,
            keep: Vec::new(),
            labels: Vec::new(),
            folder: Vec::new(),
            size: None,
            size_estimate: None,
        }
    }

    fn ids(rules: &RowRules, body: &Value) -> Vec<String> {
        let rows = rules.read(TableName::List, body).unwrap();
        rows.into_iter().map(|row| row.id).collect()
    }

    fn error(rules: &RowRules, body: &Value) -> String {
        rules.read(TableName::List, body).unwrap_err().0
    }

    #[test]
    fn a_row_has_all_values_of_the_rules() {
        let rules = RowRules {
            document: vec![path("/mail")],
            keep: vec![("folder".to_owned(), path("/in/folder"))],
            labels: vec![
                ("thread".to_owned(), path("/thread")),
                ("none".to_owned(), path("/none")),
                ("list".to_owned(), path("/in")),
            ],
            folder: vec![path("/boxes")],
            size: Some(path("/size")),
            size_estimate: Some(path("/about")),
            ..rules("/value")
        };
        let body = json!({"value": [
            {"id": 7, "mail": "m", "in": {"folder": 3}, "thread": "t", "size": 12, "about": -1,
             "boxes": ["x", 5, "x", "", null, true, {"id": 1}]},
            {"id": "8", "mail": "n", "in": {"folder": ""}, "size": "12", "about": 5},
        ]});

        let owned = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
        assert_eq!(
            rules.read(TableName::List, &body).unwrap(),
            [
                RestRow {
                    id: "7".to_owned(),
                    document: Some("m".to_owned()),
                    keep: owned("folder", "3"),
                    labels: owned("thread", "t"),
                    folders: Some(vec!["x".to_owned(), "5".to_owned()]),
                    size: Some(12),
                    size_estimate: None,
                    value: &body["value"][0],
                },
                RestRow {
                    id: "8".to_owned(),
                    document: Some("n".to_owned()),
                    keep: owned("folder", ""),
                    labels: Vec::new(),
                    folders: Some(Vec::new()),
                    size: None,
                    size_estimate: Some(5),
                    value: &body["value"][1],
                },
            ]
        );
    }

    #[test]
    fn the_first_path_with_an_id_applies() {
        let rules = RowRules { id: vec![path("/thread_id"), path("/id")], ..rules("") };
        let body = json!([
            {"thread_id": "t", "id": "a"}, {"id": "b"}, {"thread_id": null, "id": "c"},
            {"thread_id": "", "id": "d"},
        ]);

        assert_eq!(ids(&rules, &body), ["t", "b", "c", "d"]);
    }

    #[test]
    fn a_row_may_be_the_id() {
        let rules = RowRules { id: vec![path("")], ..rules("/ids") };

        assert_eq!(ids(&rules, &json!({"ids": ["a", 2]})), ["a", "2"]);
    }

    #[test]
    fn skipped_rows_are_left_out() {
        let skip = |at: &str, is: Vec<Scalar>| RowRules {
            skip: Some(SkipRule { at: path(at), is }),
            ..rules("")
        };
        let body = json!([
            {"id": "a", "removed": {"reason": "deleted"}}, {"id": "b", "removed": null},
            {"id": "c", "locked": true}, {"id": "d", "locked": false}, {"removed": 1},
        ]);

        assert_eq!(ids(&skip("/removed", Vec::new()), &body), ["b", "c", "d"]);
        let locked = skip("/locked", vec![Scalar::Flag(true)]);
        assert_eq!(
            error(&locked, &body),
            "`[list] id` = \"/id\" selects nothing in row 5, which has the key removed"
        );
        assert_eq!(ids(&locked, &json!([{"locked": true}, {"id": "d", "locked": false}])), ["d"]);
    }

    #[test]
    fn the_ids_of_skipped_rows_are_known() {
        let at = path("/hidden");
        let rules = RowRules { skip: Some(SkipRule { at, is: Vec::new() }), ..rules("/all") };
        let hidden = json!({"id": "b", "hidden": 1});
        let body = json!({"all": [{"id": "a"}, hidden, {"hidden": 1}, {"id": [], "hidden": 1}]});

        assert_eq!(rules.skipped_ids(&body), ["b"]);
        assert_eq!(rules.skipped_ids(&json!({"all": 7})), [""; 0]);
    }

    #[test]
    fn missing_items_are_an_error_unless_they_are_optional() {
        let optional = RowRules { is_optional: true, ..rules("/messages") };

        assert_eq!(ids(&optional, &json!({"resultSizeEstimate": 0})), [""; 0]);
        assert_eq!(ids(&rules("/messages"), &json!({"messages": []})), [""; 0]);
        for (body, expected) in [
            (json!({}), "selects nothing in the response, which is an empty object"),
            (json!("a"), "selects nothing in the response, which is a text"),
            (json!(null), "selects nothing in the response, which is null"),
            (
                json!({"a\u{1b}": 1, "b": 2, "messages": null}),
                "selects nothing in the response, which has the keys a\\u{1b}, b, messages",
            ),
            (json!({"messages": {}}), "selects an object, not a list"),
        ] {
            let expected = format!("`[list] items` = \"/messages\" {expected}");
            assert_eq!(error(&rules("/messages"), &body), expected);
        }
        let not_a_list = json!({"messages": 1});
        assert_eq!(
            error(&optional, &not_a_list),
            "`[list] items` = \"/messages\" selects a number, not a list"
        );
    }

    #[test]
    fn an_invalid_id_is_an_error_that_quotes_the_rule() {
        let kinds = [
            (json!(1.5), "a fractional or very large number"),
            (json!({"x": 1}), "an object"),
            (json!([1]), "a list"),
            (json!(true), "a boolean"),
            (json!(""), "an empty text"),
        ];
        for (id, kind) in kinds {
            assert_eq!(
                error(&rules(""), &json!([{"id": 1}, {"id": id}])),
                format!(
                    "`[list] id` = \"/id\" selects {kind} in row 2, not a text or a whole number"
                )
            );
        }
        let many = RowRules { id: vec![path("/x"), path("/y")], ..rules("") };
        let row = Value::from_iter((0..9).map(|key| (format!("key{key}"), key)));
        assert_eq!(
            error(&many, &json!([row])),
            "`[list] id` = [\"/x\", \"/y\"] selects nothing in row 1, which has the keys key0, \
             key1, key2, key3, key4, key5, key6, key7, …"
        );
        assert_eq!(
            error(&rules(""), &json!([null])),
            "`[list] id` = \"/id\" selects nothing in row 1, which is null"
        );
    }

    #[test]
    fn a_kept_value_must_exist() {
        let keep = vec![("folder".to_owned(), path("/folder"))];
        let rules = RowRules { keep, ..rules("") };

        assert_eq!(
            error(&rules, &json!([{"id": 1}])),
            "`[list] keep.folder` = \"/folder\" selects nothing in row 1, which has the key id"
        );
        assert_eq!(
            error(&rules, &json!([{"id": 1, "folder": [2]}])),
            "`[list] keep.folder` = \"/folder\" selects a list in row 1, not a text, whole number \
             or boolean"
        );
    }
}

#[cfg(test)]
mod proptests {
    use super::*;
    use crate::rest::json_path::proptests::{json, json_path};
    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;

    fn rules() -> impl Strategy<Value = RowRules> {
        let paths = vec(json_path(), 1..3);
        let named = vec(("[xy]", json_path()), 0..2);
        let skip = option::of(json_path());
        (json_path(), any::<bool>(), paths, vec(json_path(), 0..2), named, skip).prop_map(
            |(items, is_optional, id, document, keep, skip)| RowRules {
                items,
                is_optional,
                id,
                folder: document.clone(),
                document,
                skip: skip.map(|at| SkipRule { at, is: Vec::new() }),
                labels: keep.clone(),
                keep,
                size: None,
                size_estimate: None,
            },
        )
    }

    proptest! {
        #[test]
        fn an_error_quotes_the_rule_and_no_value(body in json(), rules in rules()) {
            match rules.read(TableName::Documents, &body) {
                Ok(rows) => {
                    for row in rows {
                        prop_assert!(!row.id.is_empty() && row.document.as_deref() != Some(""));
                        prop_assert_eq!(row.document.is_some(), !rules.document.is_empty());
                        prop_assert_eq!(row.keep.len(), rules.keep.len());
                        prop_assert_eq!(row.folders.is_some(), !rules.folder.is_empty());
                    }
                }
                Err(RowError(error)) => {
                    prop_assert!(error.starts_with("`[documents] "), "{error}");
                    prop_assert!(!error.contains("s3cr3t"), "{error}");
                }
            }
        }
    }
}
