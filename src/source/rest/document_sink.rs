//! Sink of a document, which checks what the profile demands of every document.

use cynosure_engine::rest::FetchTable;
use cynosure_engine::{Cause, Failure};

use crate::source::Sink;

/// Maximum bytes of the name of a header: those of a line (RFC 5322 §2.1.1).
const NAME_BYTES_MAX: usize = 998;

/// Characters with which HTML and JSON begin. The name of a header may have them, but none does.
const MARKUP_STARTS: [u8; 4] = *b"<{[\"";

/// Sink that passes a document on, unless its beginning is wrong.
pub(super) struct DocumentSink<'a, S> {
    sink: &'a mut S,
    table: &'a FetchTable,
    host: &'a str,
    /// Bytes that are held back until the name of a header has ended. `None` if nothing is held
    /// back any more.
    held: Option<Vec<u8>>,
    length: u64,
}

/// Decision about the beginning of a document.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum DocumentStart {
    HeaderLine,
    /// More bytes are needed.
    Undecided,
    SomethingElse,
}

impl<'a, S: Sink> DocumentSink<'a, S> {
    pub(super) fn new(sink: &'a mut S, table: &'a FetchTable, host: &'a str) -> Self {
        Self { sink, table, host, held: held_back(table), length: 0 }
    }

    /// Checks the whole document, and returns its length.
    pub(super) fn finish(&self) -> Result<u64, Failure> {
        match self.table.empty {
            Some(cause) if self.length == 0 => {
                let message = format!("{} sent an empty document", self.host);
                Err(Failure::new(cause, message))
            }
            Some(_) | None if self.held.is_some() => Err(self.wrong_start()),
            Some(_) | None => Ok(self.length),
        }
    }

    fn wrong_start(&self) -> Failure {
        let message = format!("{} sent a document that begins with no header line", self.host);
        Failure::new(Cause::Challenge, message)
    }
}

impl<S: Sink> Sink for DocumentSink<'_, S> {
    async fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.length = self.length.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        let Some(held) = &mut self.held else { return self.sink.write(bytes).await };
        held.extend_from_slice(bytes);
        match document_start(held) {
            DocumentStart::Undecided => Ok(()),
            DocumentStart::SomethingElse => Err(self.wrong_start()),
            DocumentStart::HeaderLine => {
                let held = self.held.take().unwrap_or_default();
                self.sink.write(&held).await
            }
        }
    }

    async fn rewind(&mut self) -> Result<(), Failure> {
        self.held = held_back(self.table);
        self.length = 0;
        self.sink.rewind().await
    }
}

/// Returns the bytes that are held back at first.
fn held_back(table: &FetchTable) -> Option<Vec<u8>> {
    table.must_start_with_header.then(Vec::new)
}

/// Looks for the name of a header: printable characters up to a colon (RFC 5322 §2.2). The line
/// `From me@example.com …` of an mbox has a space first.
fn document_start(bytes: &[u8]) -> DocumentStart {
    let Some(first) = bytes.first() else { return DocumentStart::Undecided };
    let name = bytes.iter().take_while(|byte| byte.is_ascii_graphic() && **byte != b':');
    let name_length = name.count();
    let may_be_name = (1..=NAME_BYTES_MAX).contains(&name_length) && !MARKUP_STARTS.contains(first);
    match bytes.get(name_length) {
        Some(b':') if may_be_name => DocumentStart::HeaderLine,
        None if may_be_name => DocumentStart::Undecided,
        Some(_) | None => DocumentStart::SomethingElse,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::rest::test_server::{MemoryDocument, block_on, bytes_table};

    /// Writes a document in chunks of this many bytes. Returns what reached the sink, and the
    /// result.
    fn write(table: &FetchTable, document: &[u8], chunk: usize) -> (Vec<u8>, Result<u64, Failure>) {
        let mut written = MemoryDocument::default();
        let mut sink = DocumentSink::new(&mut written, table, "mail.example");
        let result = block_on(async {
            // A first attempt that was cut off leaves nothing.
            sink.write(b"Subj").await?;
            sink.rewind().await?;
            for chunk in document.chunks(chunk) {
                sink.write(chunk).await?;
            }
            sink.finish()
        });
        (written.bytes, result)
    }

    fn mail_table() -> FetchTable {
        FetchTable { must_start_with_header: true, ..bytes_table("/raw/{document.id}") }
    }

    #[test]
    fn a_document_with_a_header_line_reaches_the_sink_whole() {
        for document in [&b"Subject: a\r\n\r\nb"[..], b"x:", b"X-!#$%~: \xff\x00"] {
            for chunk in [1, 2, 5, 100] {
                let (written, result) = write(&mail_table(), document, chunk);

                assert_eq!((written.as_slice(), result), (document, Ok(document.len() as u64)));
            }
        }
    }

    #[test]
    fn anything_else_never_reaches_the_sink() {
        let long = [b'x'; 2000];
        for document in [
            &b"<html>a:b"[..],
            b"From me@mail.example Thu Jan  1 00:00:00 1970\nSubject: a",
            b": a",
            b"Subject : a",
            b"\nSubject: a",
            b"\xef\xbb\xbfSubject: a",
            b"{\"status\":403}",
            b"Subject",
            b"",
            &long,
        ] {
            for chunk in [1, 3, 4096] {
                let (written, result) = write(&mail_table(), document, chunk);

                assert_eq!(written, b"", "{document:?}");
                let failure = result.unwrap_err();
                assert_eq!(failure.cause, Cause::Challenge, "{document:?}");
                assert!(failure.message.contains("no header line"), "{failure}");
            }
        }
    }

    #[test]
    fn an_empty_document_is_what_the_profile_says() {
        let table = bytes_table("/raw/{document.id}");
        assert_eq!(write(&table, b"", 1).1, Ok(0));

        let table = FetchTable { empty: Some(Cause::Server), ..mail_table() };
        let failure = write(&table, b"", 1).1.unwrap_err();
        assert_eq!(failure.cause, Cause::Server);
        assert_eq!(failure.message, "mail.example sent an empty document");
        assert_eq!(write(&table, b"a: b", 1).1, Ok(4));
    }
}
