//! Scanner of JSON that arrives in chunks: it finds one text by its path, and keeps a skeleton of
//! everything else.
//!
//! It checks no grammar. The skeleton is parsed at the end, so invalid and truncated JSON is found
//! there.

/// Maximum bytes of the skeleton.
pub(super) const SKELETON_BYTES_MAX: usize = 64 * 1024;

/// Bytes of a text that are kept in the skeleton. Those that rules compare are shorter.
const KEPT_TEXT_BYTES_MAX: usize = 1024;

/// Maximum bytes of a key that is compared with a part of the path, as written.
const KEY_BYTES_MAX: usize = 1024;

/// Maximum depth, which is that of the parser of the skeleton.
const DEPTH_MAX: usize = 128;

/// Scanner with its place in the JSON.
#[derive(Debug)]
pub(super) struct JsonScanner {
    /// Parts of the path to the text; `None` if none is looked for.
    path: Option<Vec<String>>,
    containers: Vec<OpenContainer>,
    text: Option<OpenText>,
    /// Key that was read last, as written.
    key: Vec<u8>,
    is_target_found: bool,
    skeleton: Vec<u8>,
}

/// Problem of a text in JSON.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum JsonTextError {
    /// The skeleton is too large.
    SkeletonTooLarge,
    TooDeep,
    /// There are two texts at the path, because an object has a key twice.
    DuplicateText,
    /// An escape or a character of the encoding is invalid.
    InvalidEncoding,
}

/// List or object that is not closed yet.
#[derive(Debug)]
struct OpenContainer {
    kind: ContainerKind,
    /// True if it is on the path.
    is_on_path: bool,
    /// True if its current member is on the path.
    is_member_on_path: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum ContainerKind {
    /// The next text is a key if `expects_key`.
    Object { expects_key: bool },
    /// List with the index of its current element.
    List { index: usize },
}

/// Text that is not closed yet.
#[derive(Clone, Copy, Debug)]
struct OpenText {
    role: TextRole,
    escape: EscapeState,
    /// Bytes so far, as written.
    length: usize,
    /// True if the rest of it is left out of the skeleton.
    is_cut: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum TextRole {
    Key,
    Value,
    /// Text at the path.
    Target,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum EscapeState {
    None,
    Begun,
    /// This many digits follow.
    Digits(u8),
}

/// Part of a text in a chunk.
struct TextPart {
    /// Bytes in the chunk, without the closing quote.
    length: usize,
    /// Those of them that the skeleton keeps.
    kept: usize,
    is_end: bool,
}

impl JsonScanner {
    /// Creates a scanner that looks for the text at a path of these parts.
    pub(super) fn new(path: Option<Vec<String>>) -> Self {
        Self {
            path,
            containers: Vec::new(),
            text: None,
            key: Vec::new(),
            is_target_found: false,
            skeleton: Vec::new(),
        }
    }

    /// Forgets what was scanned.
    pub(super) fn reset(&mut self) {
        *self = Self::new(self.path.take());
    }

    /// True once the text at the path has begun.
    pub(super) fn is_target_found(&self) -> bool {
        self.is_target_found
    }

    /// Returns everything so far but the text at the path, in place of which an empty one stands.
    /// Long texts are cut.
    pub(super) fn skeleton(&self) -> &[u8] {
        &self.skeleton
    }

    /// Scans the next chunk. `on_target` gets the parts of the text at the path, with its escapes.
    pub(super) fn push(
        &mut self,
        chunk: &[u8],
        mut on_target: impl FnMut(&[u8]) -> Result<(), JsonTextError>,
    ) -> Result<(), JsonTextError> {
        let mut rest = chunk;
        while let Some((first, after_first)) = rest.split_first() {
            let Some(mut text) = self.text.take() else {
                self.scan_structure(*first)?;
                rest = after_first;
                continue;
            };
            let part = text.scan(rest);
            let content = &rest[..part.length];
            match text.role {
                TextRole::Target => on_target(content)?,
                TextRole::Value => self.keep(&content[..part.kept])?,
                TextRole::Key => {
                    self.keep(content)?;
                    if self.key.len() <= KEY_BYTES_MAX {
                        self.key.extend_from_slice(content);
                    }
                }
            }
            rest = &rest[part.length..];
            if part.is_end {
                self.keep(b"\"")?;
                self.on_text_end(text.role);
                rest = rest.get(1..).unwrap_or_default();
            } else {
                self.text = Some(text);
            }
        }
        Ok(())
    }

    /// Scans a byte outside of texts.
    fn scan_structure(&mut self, byte: u8) -> Result<(), JsonTextError> {
        self.keep(&[byte])?;
        match byte {
            b'{' => self.open(ContainerKind::Object { expects_key: true }),
            b'[' => self.open(ContainerKind::List { index: 0 }),
            b'"' => self.open_text(),
            b'}' | b']' => {
                self.containers.pop();
                Ok(())
            }
            b',' => {
                self.begin_next_member();
                Ok(())
            }
            b':' => {
                if let Some(OpenContainer { kind: ContainerKind::Object { expects_key }, .. }) =
                    self.containers.last_mut()
                {
                    *expects_key = false;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn open(&mut self, kind: ContainerKind) -> Result<(), JsonTextError> {
        let depth = self.containers.len();
        if depth == DEPTH_MAX {
            return Err(JsonTextError::TooDeep);
        }
        let is_on_path = self.is_value_on_path();
        let is_first_element = kind == ContainerKind::List { index: 0 };
        let is_member_on_path = is_on_path && is_first_element && self.has_part(depth, "0");
        self.containers.push(OpenContainer { kind, is_on_path, is_member_on_path });
        Ok(())
    }

    fn begin_next_member(&mut self) {
        let Some(depth) = self.containers.len().checked_sub(1) else { return };
        let container = &mut self.containers[depth];
        let index = match &mut container.kind {
            ContainerKind::Object { expects_key } => {
                *expects_key = true;
                container.is_member_on_path = false;
                return;
            }
            ContainerKind::List { index } => {
                *index += 1;
                index.to_string()
            }
        };
        let is_on_path = container.is_on_path;
        self.containers[depth].is_member_on_path = is_on_path && self.has_part(depth, &index);
    }

    fn open_text(&mut self) -> Result<(), JsonTextError> {
        let container = self.containers.last().map(|container| container.kind);
        let is_key = container == Some(ContainerKind::Object { expects_key: true });
        let depth = self.containers.len();
        let is_target =
            self.is_value_on_path() && self.path.as_ref().is_some_and(|path| path.len() == depth);
        let role = if is_key {
            self.key.clear();
            TextRole::Key
        } else if is_target {
            if self.is_target_found {
                return Err(JsonTextError::DuplicateText);
            }
            self.is_target_found = true;
            TextRole::Target
        } else {
            TextRole::Value
        };
        self.text = Some(OpenText { role, escape: EscapeState::None, length: 0, is_cut: false });
        Ok(())
    }

    fn on_text_end(&mut self, role: TextRole) {
        let Some(depth) = self.containers.len().checked_sub(1) else { return };
        if role == TextRole::Key {
            let is_member_on_path = self.containers[depth].is_on_path
                && decode_key(&self.key).is_some_and(|key| self.has_part(depth, &key));
            self.containers[depth].is_member_on_path = is_member_on_path;
        }
    }

    /// True if a value that begins here is on the path.
    fn is_value_on_path(&self) -> bool {
        self.path.is_some()
            && self.containers.last().is_none_or(|container| container.is_member_on_path)
    }

    /// True if the part of the path at a depth is this one.
    fn has_part(&self, depth: usize, part: &str) -> bool {
        let expected = self.path.as_ref().and_then(|path| path.get(depth));
        expected.is_some_and(|expected| expected == part)
    }

    fn keep(&mut self, bytes: &[u8]) -> Result<(), JsonTextError> {
        if SKELETON_BYTES_MAX < self.skeleton.len() + bytes.len() {
            return Err(JsonTextError::SkeletonTooLarge);
        }
        self.skeleton.extend_from_slice(bytes);
        Ok(())
    }
}

impl OpenText {
    /// Scans up to the closing quote, or to the end of the chunk.
    ///
    /// A long text is cut before a plain character of ASCII, so that no escape and no other
    /// character is torn.
    fn scan(&mut self, rest: &[u8]) -> TextPart {
        let mut cut_at = self.is_cut.then_some(0);
        let end = rest.iter().enumerate().find_map(|(at, byte)| match (self.escape, *byte) {
            (EscapeState::None, b'"') => Some(at),
            (EscapeState::None, b'\\') => {
                self.escape = EscapeState::Begun;
                None
            }
            (EscapeState::None, byte) => {
                if byte.is_ascii() && KEPT_TEXT_BYTES_MAX <= self.length + at {
                    cut_at.get_or_insert(at);
                }
                None
            }
            (EscapeState::Begun, b'u') => {
                self.escape = EscapeState::Digits(4);
                None
            }
            (EscapeState::Begun, _) | (EscapeState::Digits(0 | 1), _) => {
                self.escape = EscapeState::None;
                None
            }
            (EscapeState::Digits(count), _) => {
                self.escape = EscapeState::Digits(count - 1);
                None
            }
        });
        let length = end.unwrap_or(rest.len());
        self.length += length;
        self.is_cut = cut_at.is_some();
        TextPart { length, kept: cut_at.unwrap_or(length).min(length), is_end: end.is_some() }
    }
}

/// Returns a key without escapes. `None` if it is invalid or longer than any part of a path.
fn decode_key(key: &[u8]) -> Option<String> {
    if KEY_BYTES_MAX < key.len() {
        return None;
    }
    serde_json::from_slice(&[&b"\""[..], key, b"\""].concat()).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// Returns the text at a path as written, and the skeleton. The JSON comes in chunks of this
    /// many bytes.
    #[expect(clippy::unwrap_in_result, reason = "a helper of tests panics")]
    fn scan(
        json: &str,
        path: &[&str],
        chunk: usize,
    ) -> Result<(Option<String>, Value), JsonTextError> {
        let path = path.iter().map(|&part| part.to_owned()).collect();
        let mut scanner = JsonScanner::new(Some(path));
        let mut text = Vec::new();
        for chunk in json.as_bytes().chunks(chunk) {
            scanner.push(chunk, |part| {
                text.extend_from_slice(part);
                Ok(())
            })?;
        }
        let text = String::from_utf8(text).unwrap();
        let skeleton = serde_json::from_slice(scanner.skeleton()).unwrap();
        Ok((scanner.is_target_found().then_some(text), skeleton))
    }

    #[test]
    fn the_text_at_the_path_is_found_in_any_chunks() {
        let json = r#"{"a": [{"b": "no"}, {"x": {"b": "no"}, "\u0062": "t\"\\\u0041]}", "c": "["}],
                       "b": "no", "other": [1, "b", {"a": [{}, {"b": "no"}]}]}"#;
        for chunk in [1, 2, 3, 7, 1000] {
            let (text, skeleton) = scan(json, &["a", "1", "b"], chunk).unwrap();

            assert_eq!(text.as_deref(), Some(r#"t\"\\\u0041]}"#), "{chunk}");
            let mut expected: Value = serde_json::from_str(json).unwrap();
            expected["a"][1]["b"] = json!("");
            assert_eq!(skeleton, expected, "{chunk}");
        }
    }

    #[test]
    fn only_a_text_at_the_path_counts() {
        for (json, path) in [
            (r#"{"a": 1}"#, &["a"][..]),
            (r#"{"a": null, "b": "x"}"#, &["a"]),
            (r#"{"a": {"b": "x"}}"#, &["a"]),
            (r#"{"a": ["x", "y"]}"#, &["a", "2"]),
            (r#"{"a": ["x"]}"#, &["a", "00"]),
            (r#"[{"0": 1}, "a"]"#, &["0"]),
            (r#""x""#, &["a"]),
            ("{}", &[]),
        ] {
            let (text, skeleton) = scan(json, path, 1).unwrap();

            assert_eq!(text, None, "{json}");
            assert_eq!(skeleton, serde_json::from_str::<Value>(json).unwrap(), "{json}");
        }
        assert_eq!(scan(r#""x""#, &[], 1).unwrap(), (Some("x".to_owned()), json!("")));
        assert_eq!(scan(r#"{"": "x"}"#, &[""], 1).unwrap().0.as_deref(), Some("x"));
    }

    #[test]
    fn two_texts_at_the_path_are_an_error() {
        let error = scan(r#"{"a": "x", "a": "y"}"#, &["a"], 100);

        assert_eq!(error, Err(JsonTextError::DuplicateText));
    }

    #[test]
    fn long_texts_beside_the_target_are_cut_where_they_may_be() {
        let euros = "\\u20ac".repeat(900) + " x";
        for long in ["x".repeat(5000), euros, "é\\ud83d\\ude00".repeat(400)] {
            let json = format!(r#"{{"long": "{long}", "raw": "{long}", "end": true}}"#);
            for chunk in [1, 5, 4096] {
                let (text, skeleton) = scan(&json, &["raw"], chunk).unwrap();

                assert_eq!(text.as_deref(), Some(&*long));
                let kept = skeleton["long"].as_str().unwrap();
                let whole: String = serde_json::from_str(&format!("\"{long}\"")).unwrap();
                assert!(whole.starts_with(kept) && !kept.is_empty());
                assert_eq!(skeleton["end"], true);
            }
        }
    }

    #[test]
    fn what_is_kept_has_a_limit() {
        let rows = "1,".repeat(SKELETON_BYTES_MAX);

        assert_eq!(scan(&format!("[{rows}1]"), &["a"], 100), Err(JsonTextError::SkeletonTooLarge));
        assert_eq!(scan(&"[".repeat(200), &["a"], 100), Err(JsonTextError::TooDeep));
    }
}
