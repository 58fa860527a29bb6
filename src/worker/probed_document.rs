//! Document that a probe fetches: what would be stored of it, and where.

use std::time::Duration;

use cynosure_engine::{DocumentId, Failure, ItemId};

use crate::archive::layout::{FIRST_VERSION, document_path};
use crate::archive::{DocumentFormat, LINES_FILE, RecordLayout};
use crate::source::Sink;

/// Bytes that are kept of a document, to show its first line.
const HEAD_BYTES_MAX: usize = 320;

/// Document that was fetched, as it would be stored. Its texts are untrusted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ProbedDocument {
    /// Number of documents on its page of the listing.
    pub listed_documents: usize,
    pub bytes: u64,
    pub duration: Duration,
    /// Path below the session folder.
    pub path: String,
    pub labels: Vec<(String, String)>,
    /// Beginning of the first line.
    pub first_line: String,
}

/// Sink that counts the bytes of a document, keeps the first ones and discards the others.
#[derive(Debug, Default)]
pub(super) struct HeadSink {
    bytes: u64,
    head: Vec<u8>,
    /// Number of the first byte that is a line feed or a carriage return.
    first_line_break: Option<u64>,
}

/// Returns the path of a document below the session folder. `is_line` is true for a document of
/// one line.
pub(super) fn stored_path(
    format: &DocumentFormat,
    item: &ItemId,
    document: &DocumentId,
    is_line: bool,
) -> String {
    match format.layout {
        RecordLayout::Lines if is_line => LINES_FILE.to_owned(),
        RecordLayout::Lines | RecordLayout::Files => {
            document_path(item, document, FIRST_VERSION, &format.extension)
        }
    }
}

impl HeadSink {
    /// Returns the number of bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// True if the document has no line break, or only one at its end.
    pub(super) fn is_line(&self) -> bool {
        match self.first_line_break {
            None => self.bytes > 0,
            Some(position) => position > 0 && position + 1 == self.bytes,
        }
    }

    /// Returns the beginning of the first line.
    pub(super) fn first_line(&self) -> String {
        let line = self.head.split(|byte| is_line_break(*byte)).next().unwrap_or_default();
        String::from_utf8_lossy(line).into_owned()
    }

    fn append(&mut self, bytes: &[u8]) {
        if self.first_line_break.is_none() {
            let position = bytes.iter().position(|byte| is_line_break(*byte));
            self.first_line_break = position.map(|position| self.bytes + position as u64);
        }
        let missing = HEAD_BYTES_MAX.saturating_sub(self.head.len());
        self.head.extend(bytes.iter().take(missing));
        self.bytes = self.bytes.saturating_add(bytes.len() as u64);
    }
}

impl Sink for HeadSink {
    async fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.append(bytes);
        Ok(())
    }

    async fn rewind(&mut self) -> Result<(), Failure> {
        *self = Self::default();
        Ok(())
    }
}

fn is_line_break(byte: u8) -> bool {
    matches!(byte, b'\n' | b'\r')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::FileExtension;

    fn sink(chunks: &[&str]) -> HeadSink {
        let mut sink = HeadSink::default();
        chunks.iter().for_each(|chunk| sink.append(chunk.as_bytes()));
        sink
    }

    #[test]
    fn the_first_line_is_kept_and_the_rest_counted() {
        let sink = sink(&["Sub", "ject: a\r", "\nTo: b\r\n\r\n", &"x".repeat(1_000)]);

        assert_eq!(sink.first_line(), "Subject: a");
        assert_eq!(sink.bytes(), 1_021);
        assert_eq!(sink.head.len(), HEAD_BYTES_MAX);
        assert_eq!(HeadSink::default().first_line(), "");
    }

    #[test]
    fn a_document_of_one_line_is_told_from_others() {
        for (chunks, is_line) in [
            (&["{}"][..], true),
            (&["{", "}", "\n"], true),
            (&["{}\r\n"], false),
            (&["{\n", "}"], false),
            (&["\n"], false),
            (&[], false),
        ] {
            assert_eq!(sink(chunks).is_line(), is_line, "{chunks:?}");
        }
    }

    #[test]
    fn the_path_is_that_of_the_archive() {
        let (item, document) = (ItemId::new("T1"), DocumentId::new("m.1"));
        let path = |layout, is_line| {
            let extension = FileExtension::parse("json").unwrap();
            stored_path(&DocumentFormat { extension, layout }, &item, &document, is_line)
        };

        assert_eq!(path(RecordLayout::Files, true), "+t1/m=2e1.json");
        assert_eq!(path(RecordLayout::Lines, true), "records.jsonl");
        assert_eq!(path(RecordLayout::Lines, false), "+t1/m=2e1.json");
    }
}
