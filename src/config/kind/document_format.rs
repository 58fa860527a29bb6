//! Form in which the documents of a source are stored.

/// Extension of the files that are raw messages.
pub(super) const MESSAGE_EXTENSION: &str = "eml";

/// Form in which the documents of a source are stored.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DocumentFormatSettings {
    /// Extension of the files, without its dot: 1 to 8 lower-case letters and digits.
    pub extension: String,
    /// True if documents are appended to a file of lines; false if each is a file.
    pub is_lines: bool,
}

impl Default for DocumentFormatSettings {
    /// Returns the form of raw messages.
    fn default() -> Self {
        Self { extension: MESSAGE_EXTENSION.to_owned(), is_lines: false }
    }
}
