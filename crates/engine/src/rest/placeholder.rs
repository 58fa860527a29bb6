//! Places of values in a template, such as `{document.id}`.

use std::fmt;

use crate::user_input::closest_match;

/// Names of the placeholders that need no name of the profile.
const FIXED_NAMES: [&str; 7] =
    ["account", "cursor", "document.id", "item.id", "page.number", "page.offset", "part.id"];

/// Values of which a profile names each.
const NAMED_VALUES: [&str; 3] = ["options", "credential", "document"];

/// Place of a value in a template.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Placeholder {
    /// `{options.NAME}`.
    Option(String),
    /// `{credential.NAME}`: a field of the credential.
    Credential(String),
    /// `{account}`.
    Account,
    /// `{part.id}`.
    Part,
    /// `{item.id}`.
    Item,
    /// `{document.id}`.
    Document,
    /// `{document.NAME}`: a value that is kept with the document.
    Kept(String),
    /// `{page.offset}`.
    PageOffset,
    /// `{page.number}`.
    PageNumber,
    /// `{cursor}`.
    Cursor,
}

impl Placeholder {
    /// Reads a placeholder at the beginning of a text, and returns the text after it. `None` if the
    /// text begins otherwise.
    ///
    /// # Errors
    /// A sentence for an unknown placeholder, with the most similar one.
    pub(super) fn parse_start(text: &str) -> Result<Option<(Self, &str)>, String> {
        let Some((name, rest)) = split_placeholder(text) else { return Ok(None) };
        let placeholder = Self::from_name(name).ok_or_else(|| unknown_placeholder(name))?;
        Ok(Some((placeholder, rest)))
    }

    /// Returns the placeholder with a name, such as `part.id`.
    fn from_name(name: &str) -> Option<Self> {
        let placeholder = match name {
            "account" => Self::Account,
            "cursor" => Self::Cursor,
            "part.id" => Self::Part,
            "item.id" => Self::Item,
            "document.id" => Self::Document,
            "page.offset" => Self::PageOffset,
            "page.number" => Self::PageNumber,
            _ => match name.split_once('.')? {
                ("options", name) => Self::Option(name.to_owned()),
                ("credential", name) => Self::Credential(name.to_owned()),
                ("document", name) => Self::Kept(name.to_owned()),
                _ => return None,
            },
        };
        Some(placeholder)
    }
}

/// Writes the placeholder as in a template.
impl fmt::Display for Placeholder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Option(name) => write!(f, "{{options.{name}}}"),
            Self::Credential(name) => write!(f, "{{credential.{name}}}"),
            Self::Account => f.write_str("{account}"),
            Self::Part => f.write_str("{part.id}"),
            Self::Item => f.write_str("{item.id}"),
            Self::Document => f.write_str("{document.id}"),
            Self::Kept(name) => write!(f, "{{document.{name}}}"),
            Self::PageOffset => f.write_str("{page.offset}"),
            Self::PageNumber => f.write_str("{page.number}"),
            Self::Cursor => f.write_str("{cursor}"),
        }
    }
}

/// Splits a text that begins with `{name}` or `{name.field}` into the part between the braces and
/// the rest.
fn split_placeholder(text: &str) -> Option<(&str, &str)> {
    let (name, rest) = text.strip_prefix('{')?.split_once('}')?;
    let (first, field) = match name.split_once('.') {
        Some((first, field)) => (first, Some(field)),
        None => (name, None),
    };
    let is_word = |c: char| c.is_ascii_lowercase() || c == '_';
    let is_field_char = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    let is_field = |field: &str| !field.is_empty() && field.chars().all(is_field_char);
    let is_placeholder =
        !first.is_empty() && first.chars().all(is_word) && field.is_none_or(is_field);
    is_placeholder.then_some((name, rest))
}

/// Describes an unknown placeholder by its name, and the remedy.
fn unknown_placeholder(name: &str) -> String {
    let (first, field) = name.split_once('.').unwrap_or((name, "NAME"));
    let fixed = FIXED_NAMES.iter().map(|&name| name.to_owned());
    let known: Vec<String> =
        fixed.chain(NAMED_VALUES.iter().map(|value| format!("{value}.{field}"))).collect();
    let of_value = || {
        let mut names = known.iter().map(String::as_str);
        names.find(|known| known.split('.').next() == Some(first))
    };
    let remedy = match closest_match(name, known.iter().map(String::as_str)).or_else(of_value) {
        Some(suggestion) => format!("did you mean {{{suggestion}}}?"),
        None => {
            let names: Vec<String> = known.iter().map(|name| format!("{{{name}}}")).collect();
            format!("known ones: {}", names.join(", "))
        }
    };
    format!("{{{name}}} is not a placeholder (for this text itself write {{{{{name}}}}}); {remedy}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_placeholder_is_rejected_with_a_suggestion() {
        for (text, suggestion) in [
            ("{option.page}", "did you mean {options.page}?"),
            ("{acount}", "did you mean {account}?"),
            ("{part}/x", "did you mean {part.id}?"),
            ("{item.name}", "did you mean {item.id}?"),
            ("{page.size}", "did you mean {page.number}?"),
            ("{credentials.x}", "did you mean {credential.x}?"),
        ] {
            let error = Placeholder::parse_start(text).unwrap_err();
            assert!(error.ends_with(&format!("; {suggestion}")), "{error}");
        }
        assert_eq!(
            Placeholder::parse_start("{thing}").unwrap_err(),
            "{thing} is not a placeholder (for this text itself write {{thing}}); known ones: \
             {account}, {cursor}, {document.id}, {item.id}, {page.number}, {page.offset}, \
             {part.id}, {options.NAME}, {credential.NAME}, {document.NAME}"
        );
    }

    #[test]
    fn every_placeholder_is_shown_as_it_is_written() {
        let named = NAMED_VALUES.map(|value| format!("{value}.name_1-A"));
        for name in FIXED_NAMES.into_iter().chain(named.iter().map(String::as_str)) {
            let text = format!("{{{name}}}");
            let (placeholder, rest) = Placeholder::parse_start(&text).unwrap().unwrap();

            assert_eq!((placeholder.to_string(), rest), (text.clone(), ""));
        }
        for text in ["", "x", "{", "{}", "{ account}", "{Account}", "{part.}", "{\"a\":1}"] {
            assert_eq!(Placeholder::parse_start(text), Ok(None), "{text}");
        }
    }
}
