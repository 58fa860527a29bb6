//! Format in which the documents of a source are stored.

use std::fmt;

/// Maximum length of the extension of a file name, in bytes.
const EXTENSION_BYTES_MAX: usize = 8;

/// Format in which the documents of a source are stored.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct DocumentFormat {
    pub extension: FileExtension,
    pub layout: RecordLayout,
}

/// Extension of the file name of a document, without the dot. The default is `eml`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FileExtension(String);

/// Division of documents into files.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum RecordLayout {
    /// Each document is a file.
    #[default]
    Files,
    /// The documents of a session are lines of one file. Those that are not one line are files.
    Lines,
}

impl FileExtension {
    /// Parses an extension; `None` unless it is 1 to 8 characters of `a-z` and `0-9`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let is_valid = (1..=EXTENSION_BYTES_MAX).contains(&text.len())
            && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9'));
        is_valid.then(|| Self(text.to_owned()))
    }

    /// Returns the extension of a path; `None` if no document has such an extension.
    pub(super) fn of_path(path: &str) -> Option<Self> {
        Self::parse(path.rsplit_once('.')?.1)
    }
}

impl Default for FileExtension {
    fn default() -> Self {
        Self("eml".to_owned())
    }
}

impl fmt::Display for FileExtension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_extension_is_short_and_plain() {
        for valid in ["eml", "json", "7z", "a", "12345678"] {
            assert_eq!(FileExtension::parse(valid).unwrap().to_string(), valid);
        }
        for invalid in ["", ".eml", "EML", "e/ml", "123456789", "jsonl@0", "é"] {
            assert_eq!(FileExtension::parse(invalid), None, "{invalid}");
        }
        assert_eq!(FileExtension::of_path("t/m.2.eml"), Some(FileExtension::default()));
        assert_eq!(FileExtension::of_path("t/m"), None);
    }
}
