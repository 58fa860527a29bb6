//! Texts of a request with values to be filled in, such as `/messages/{document.id}`.

use std::collections::BTreeMap;
use std::fmt;

use crate::rest::placeholder::Placeholder;

/// Text with placeholders.
///
/// A brace that begins no placeholder stays as it is, so that JSON needs no escapes. `{{` is always
/// a brace, and so is the next `}}` after it: `{{account}}` is the text `{account}`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Template {
    /// Text as written.
    text: String,
    pieces: Vec<TemplatePiece>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum TemplatePiece {
    Literal(String),
    Placeholder(Placeholder),
}

/// Place of a filled template, which decides about the encoding of its values.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TemplateForm {
    /// Values stand as they are.
    Plain,
    /// Path of a URL. Values of the server and the account are encoded, each as one segment or a
    /// part of one; options and fields of the credential stand as they are.
    Path,
}

/// Values for the placeholders of a request.
#[derive(Clone, Copy)]
pub struct TemplateValues<'a> {
    /// Values of `{options.NAME}`, in which only `{credential.NAME}` and `{account}` may stand.
    pub options: &'a BTreeMap<String, Template>,
    /// Fields of the credential. `None` if it has none.
    pub credential: Option<&'a BTreeMap<String, String>>,
    pub account: &'a str,
    pub part: Option<&'a str>,
    pub item: Option<&'a str>,
    pub document: Option<&'a DocumentValues>,
    pub page: PageValues,
    pub cursor: Option<&'a str>,
}

/// Values of a document.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DocumentValues {
    pub id: String,
    /// Values of `{document.NAME}`.
    pub keep: Vec<(String, String)>,
}

/// Position of a page in its list.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct PageValues {
    pub offset: u64,
    pub number: u32,
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// A sentence for an unknown placeholder, with the most similar one.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        // Number of `{{` before, each without its `}}`.
        let mut open_count = 0_usize;
        while let Some(at) = rest.find(['{', '}']) {
            literal.push_str(&rest[..at]);
            rest = &rest[at..];
            if let Some(after) = rest.strip_prefix("{{") {
                literal.push('{');
                open_count += 1;
                rest = after;
            } else if let Some(after) = rest.strip_prefix("}}").filter(|_| open_count > 0) {
                literal.push('}');
                open_count -= 1;
                rest = after;
            } else if let Some((placeholder, after)) = Placeholder::parse_start(rest)? {
                if !literal.is_empty() {
                    pieces.push(TemplatePiece::Literal(std::mem::take(&mut literal)));
                }
                pieces.push(TemplatePiece::Placeholder(placeholder));
                rest = after;
            } else {
                literal.push_str(&rest[..1]);
                rest = &rest[1..];
            }
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            pieces.push(TemplatePiece::Literal(literal));
        }
        Ok(Self { text: text.to_owned(), pieces })
    }

    /// Creates a template without placeholders, whatever the text contains.
    #[must_use]
    pub fn literal(text: impl Into<String>) -> Self {
        let text = text.into();
        let pieces =
            if text.is_empty() { Vec::new() } else { vec![TemplatePiece::Literal(text.clone())] };
        Self { text, pieces }
    }

    /// Returns the template as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns the placeholders, in their order.
    pub fn placeholders(&self) -> impl Iterator<Item = &Placeholder> {
        self.pieces.iter().filter_map(|piece| match piece {
            TemplatePiece::Literal(_) => None,
            TemplatePiece::Placeholder(placeholder) => Some(placeholder),
        })
    }

    /// True if the template is this placeholder and nothing else.
    #[must_use]
    pub fn is_only(&self, placeholder: &Placeholder) -> bool {
        match self.pieces.as_slice() {
            [TemplatePiece::Placeholder(only)] => only == placeholder,
            _ => false,
        }
    }

    /// Returns the text with all values filled in.
    ///
    /// # Errors
    /// A sentence that names a placeholder without a value, and in a path one whose value no path
    /// can contain. It quotes no value.
    pub fn fill(&self, values: &TemplateValues<'_>, form: TemplateForm) -> Result<String, String> {
        let mut filled = String::new();
        for piece in &self.pieces {
            match piece {
                TemplatePiece::Literal(literal) => filled.push_str(literal),
                TemplatePiece::Placeholder(placeholder) => {
                    filled.push_str(&values.text_of(placeholder, form)?);
                }
            }
        }
        Ok(filled)
    }
}

impl TemplateValues<'_> {
    fn text_of(&self, placeholder: &Placeholder, form: TemplateForm) -> Result<String, String> {
        let value = match placeholder {
            Placeholder::Option(name) => return self.option(name, form),
            Placeholder::Credential(name) => {
                let field = self.credential.and_then(|fields| fields.get(name));
                return field.cloned().ok_or_else(|| {
                    format!("{placeholder} has no value: the credential has no field `{name}`")
                });
            }
            Placeholder::PageOffset => return Ok(self.page.offset.to_string()),
            Placeholder::PageNumber => return Ok(self.page.number.to_string()),
            Placeholder::Account => Some(self.account),
            Placeholder::Part => self.part,
            Placeholder::Item => self.item,
            Placeholder::Document => self.document.map(|document| document.id.as_str()),
            Placeholder::Kept(name) => self.document.and_then(|document| document.kept(name)),
            Placeholder::Cursor => self.cursor,
        };
        let value = value.ok_or_else(|| format!("{placeholder} has no value in this request"))?;
        match form {
            TemplateForm::Plain => Ok(value.to_owned()),
            // A URL parser takes the encoded forms for steps up, too (WHATWG URL, section 4.1).
            TemplateForm::Path if matches!(value, "." | "..") => {
                Err(format!("{placeholder} is \".\" or \"..\", which a path cannot contain"))
            }
            TemplateForm::Path => Ok(encode_segment(value)),
        }
    }

    fn option(&self, name: &str, form: TemplateForm) -> Result<String, String> {
        let option = self.options.get(name).ok_or_else(|| {
            format!("{{options.{name}}} has no value: the profile has no option `{name}`")
        })?;
        // No other placeholder, so that options cannot contain each other without an end.
        let mut others = option.placeholders().filter(|placeholder| {
            !matches!(placeholder, Placeholder::Credential(_) | Placeholder::Account)
        });
        match others.next() {
            Some(other) => {
                Err(format!("{{options.{name}}} contains {other}, which an option cannot"))
            }
            None => option.fill(self, form),
        }
    }
}

/// Leaves out the fields of the credential, which are secret.
impl fmt::Debug for TemplateValues<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TemplateValues")
            .field("account", &self.account)
            .field("part", &self.part)
            .field("item", &self.item)
            .field("document", &self.document)
            .field("page", &self.page)
            .field("cursor", &self.cursor)
            .finish_non_exhaustive()
    }
}

impl DocumentValues {
    fn kept(&self, name: &str) -> Option<&str> {
        let mut values = self.keep.iter();
        values.find(|(kept, _)| kept == name).map(|(_, value)| value.as_str())
    }
}

/// Encodes a value for one segment of a path. Unreserved characters stay (RFC 3986 §2.3).
fn encode_segment(value: &str) -> String {
    let mut encoded = String::new();
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(text: &str) -> Template {
        Template::parse(text).unwrap()
    }

    /// Fills a template with a value for every placeholder.
    fn filled(text: &str, form: TemplateForm) -> Result<String, String> {
        let options = [("raw", "/raw/{credential.key}/{account}"), ("loop", "{options.loop}")];
        let options =
            BTreeMap::from(options.map(|(name, value)| (name.to_owned(), template(value))));
        let credential = BTreeMap::from([("key".to_owned(), "k/1".to_owned())]);
        let document = DocumentValues {
            id: "d 1".to_owned(),
            keep: vec![("folder".to_owned(), "ä/b".to_owned()), ("up".to_owned(), "..".to_owned())],
        };
        let values = TemplateValues {
            options: &options,
            credential: Some(&credential),
            account: "me@example.com",
            part: Some("p"),
            item: None,
            document: Some(&document),
            page: PageValues { offset: 50, number: 2 },
            cursor: Some("c?"),
        };
        template(text).fill(&values, form)
    }

    #[test]
    fn every_placeholder_is_filled_in() {
        let text = "{options.raw} {credential.key} {account} {part.id} {document.id} \
                    {document.folder} {page.offset} {page.number} {cursor}";

        assert_eq!(
            filled(text, TemplateForm::Plain).unwrap(),
            "/raw/k/1/me@example.com k/1 me@example.com p d 1 ä/b 50 2 c?"
        );
        assert_eq!(
            filled(text, TemplateForm::Path).unwrap(),
            "/raw/k/1/me%40example.com k/1 me%40example.com p d%201 %C3%A4%2Fb 50 2 c%3F"
        );
    }

    #[test]
    fn a_missing_value_is_an_error_that_names_the_placeholder() {
        for (text, expected) in [
            ("/{item.id}", "{item.id} has no value in this request"),
            ("{document.size}", "{document.size} has no value in this request"),
            (
                "{credential.token}",
                "{credential.token} has no value: the credential has no field `token`",
            ),
            ("{options.x}", "{options.x} has no value: the profile has no option `x`"),
            ("{options.loop}", "{options.loop} contains {options.loop}, which an option cannot"),
        ] {
            assert_eq!(filled(text, TemplateForm::Plain).unwrap_err(), expected);
        }
    }

    #[test]
    fn a_path_contains_no_step_up() {
        assert_eq!(
            filled("/{document.up}/x", TemplateForm::Path).unwrap_err(),
            "{document.up} is \".\" or \"..\", which a path cannot contain"
        );
        assert_eq!(filled("{document.up}", TemplateForm::Plain).unwrap(), "..");
    }

    #[test]
    fn braces_that_begin_no_placeholder_stay() {
        for (text, expected) in [
            (
                "{\"type\":\"date\",\"order\":{\"a\":{}}}",
                "{\"type\":\"date\",\"order\":{\"a\":{}}}",
            ),
            ("{\"folder\":{\"id\":\"{part.id}\"}}", "{\"folder\":{\"id\":\"p\"}}"),
            ("{{account}}", "{account}"),
            ("{{{part.id}}}", "{p}"),
            ("{part.id}}}", "p}}"),
            ("{{ } {", "{ } {"),
            ("{Part.id} {} {.id} {part.} {part id}", "{Part.id} {} {.id} {part.} {part id}"),
            ("", ""),
        ] {
            assert_eq!(filled(text, TemplateForm::Plain).unwrap(), expected, "{text}");
        }
        assert_eq!(Template::literal("{account}").placeholders().count(), 0);
    }

    #[test]
    fn a_template_may_be_one_placeholder() {
        let kept = Placeholder::Kept("id2".to_owned());

        assert!(template("{cursor}").is_only(&Placeholder::Cursor));
        assert!(template("{document.id2}").is_only(&kept));
        assert!(!template("/{cursor}").is_only(&Placeholder::Cursor));
        assert!(!template("{cursor}{cursor}").is_only(&Placeholder::Cursor));
        assert!(!template("").is_only(&Placeholder::Cursor));
        let shown: Vec<_> =
            template("{part.id}{document.id2}").placeholders().map(ToString::to_string).collect();
        assert_eq!(shown, ["{part.id}", "{document.id2}"]);
    }
}

#[cfg(test)]
mod proptests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn parsing_any_text_never_panics(text in "\\PC{0,30}|([{}.]|part|id|account|x){0,12}") {
            if let Ok(template) = Template::parse(&text) {
                prop_assert_eq!(template.as_str(), &text);
                let has_value = template.placeholders().next().is_some();
                prop_assert!(!has_value || template != Template::literal(text));
            }
        }

        #[test]
        fn a_text_without_escapes_and_placeholders_stays(text in "([{}\":. A-Z]){0,20}") {
            prop_assume!(!text.contains("{{"));
            let values = TemplateValues {
                options: &BTreeMap::new(),
                credential: None,
                account: "",
                part: None,
                item: None,
                document: None,
                page: PageValues::default(),
                cursor: None,
            };
            let filled = Template::parse(&text).unwrap().fill(&values, TemplateForm::Plain);
            prop_assert_eq!(filled, Ok(text));
        }

        #[test]
        fn a_value_of_the_server_stays_in_one_segment(value in "\\PC{0,10}|[./%\\\\?#a]{0,6}") {
            let document = DocumentValues {
                id: value.clone(), keep: vec![("x".to_owned(), value.clone())],
            };
            let values = TemplateValues {
                options: &BTreeMap::new(),
                credential: None,
                account: &value,
                part: Some(&value),
                item: Some(&value),
                document: Some(&document),
                page: PageValues::default(),
                cursor: Some(&value),
            };
            for text in ["account", "part.id", "item.id", "document.id", "document.x", "cursor"] {
                let template = Template::parse(&format!("{{{text}}}")).unwrap();
                match template.fill(&values, TemplateForm::Path) {
                    Ok(filled) => {
                        let is_allowed = |c: char| c.is_ascii_alphanumeric() || "-._~%".contains(c);
                        prop_assert!(filled.chars().all(is_allowed), "{filled}");
                        prop_assert!(filled != "." && filled != "..");
                    }
                    Err(error) => prop_assert!(value == "." || value == "..", "{error}"),
                }
            }
        }
    }
}
