//! Partial responses: the fields that a client asks for.

use std::collections::BTreeMap;

use serde_json::Value;

use super::error::GmailError;

/// Field that stands for all of them.
const WILDCARD: &str = "*";

/// Fields of an object, each with those of its value; all if there are none.
#[derive(Debug, Default, Eq, PartialEq)]
pub(super) struct FieldMask(BTreeMap<String, Self>);

impl FieldMask {
    /// Parses the parameter `fields`, such as `messages(id,threadId),nextPageToken`.
    pub(super) fn parse(text: Option<&str>) -> Result<Self, GmailError> {
        let Some(text) = text else { return Ok(Self::default()) };
        match Self::parse_list(text) {
            Some((mask, "")) => Ok(mask),
            Some(_) | None => Err(GmailError::invalid(format!("Invalid field selection {text}"))),
        }
    }

    /// True if a response has the field of this name.
    pub(super) fn contains(&self, name: &str) -> bool {
        self.is_everything() || self.0.contains_key(name)
    }

    /// Removes the fields that were not asked for.
    pub(super) fn apply(&self, value: &mut Value) {
        if self.is_everything() {
            return;
        }
        match value {
            Value::Object(fields) => {
                fields.retain(|name, _| self.0.contains_key(name));
                for (name, mask) in &self.0 {
                    if let Some(field) = fields.get_mut(name) {
                        mask.apply(field);
                    }
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.apply(item)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    fn is_everything(&self) -> bool {
        self.0.is_empty() || self.0.contains_key(WILDCARD)
    }

    /// Parses fields with commas between them. Returns the text behind them.
    fn parse_list(text: &str) -> Option<(Self, &str)> {
        let mut fields = BTreeMap::new();
        let mut text = text;
        loop {
            let (name, mask, rest) = Self::parse_field(text)?;
            fields.insert(name, mask);
            match rest.strip_prefix(',') {
                Some(next) => text = next,
                None => return Some((Self(fields), rest)),
            }
        }
    }

    /// Parses a field with the fields of its value: `name`, `name/name` or `name(name,name)`.
    fn parse_field(text: &str) -> Option<(String, Self, &str)> {
        let end = text.find(['/', '(', ')', ',']).unwrap_or(text.len());
        let (name, rest) = text.split_at(end);
        if name.is_empty() {
            return None;
        }
        let (mask, rest) = if let Some(path) = rest.strip_prefix('/') {
            let (inner, mask, rest) = Self::parse_field(path)?;
            (Self(BTreeMap::from([(inner, mask)])), rest)
        } else if let Some(list) = rest.strip_prefix('(') {
            let (mask, rest) = Self::parse_list(list)?;
            (mask, rest.strip_prefix(')')?)
        } else {
            (Self::default(), rest)
        };
        Some((name.to_owned(), mask, rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn masked(mask: &str) -> Value {
        let mut value = json!({
            "messages": [{ "id": "1", "threadId": "2", "labels": { "a": 1, "b": 2 } }],
            "nextPageToken": "x",
        });
        FieldMask::parse(Some(mask)).unwrap().apply(&mut value);
        value
    }

    #[test]
    fn only_the_named_fields_remain() {
        assert_eq!(
            masked("messages(id,threadId),other"),
            json!({ "messages": [{ "id": "1", "threadId": "2" }] })
        );
        assert_eq!(
            masked("messages/labels/b,nextPageToken"),
            json!({ "messages": [{ "labels": { "b": 2 } }], "nextPageToken": "x" })
        );
        assert_eq!(masked("nextPageToken"), json!({ "nextPageToken": "x" }));
        assert_eq!(masked("*").as_object().unwrap().len(), 2);
        assert!(FieldMask::parse(None).unwrap().contains("raw"));
        assert!(!FieldMask::parse(Some("id")).unwrap().contains("raw"));
    }

    #[test]
    fn a_malformed_mask_is_refused() {
        for mask in ["", "a,", "a(b", "a)", "a/", "(a)", "a(b)c"] {
            assert!(FieldMask::parse(Some(mask)).is_err(), "{mask}");
        }
    }
}
