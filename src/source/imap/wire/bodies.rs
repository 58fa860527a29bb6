//! Destination of message bodies while a response is read.

use cynosure_engine::{Cause, Failure};

use crate::source::imap::wire::value::WireValue;

/// Receiver of the values of `BODY[…]` attributes in `FETCH` responses.
///
/// For each body, `begin` is called once, then `write` for each chunk, then `end`. A body that is
/// interrupted has no `end`.
pub(in crate::source::imap) trait BodySink {
    /// Begins a body of `length` bytes.
    ///
    /// `values` are the values of the `FETCH` list before it, names and values in turn; the last
    /// is the name of the body, such as `BODY[]`. The UID may be among them or follow the body.
    ///
    /// # Errors
    /// Returns an error if the body is not wanted. The connection is unusable after that.
    fn begin(
        &mut self,
        values: &[WireValue],
        length: u64,
    ) -> impl Future<Output = Result<(), Failure>>;

    /// Writes the next bytes of the body, at most 64 KiB.
    ///
    /// # Errors
    /// Returns an error if the bytes cannot be taken. The connection is unusable after that.
    fn write(&mut self, bytes: &[u8]) -> impl Future<Output = Result<(), Failure>>;

    /// Ends the body: all its bytes were written, and the rest of the `FETCH` list is well-formed.
    ///
    /// It is called after the list has been read, because text that does not belong there means
    /// that the announced length was wrong.
    ///
    /// # Errors
    /// Returns an error if the body cannot be kept. The connection is unusable after that.
    fn end(&mut self) -> impl Future<Output = Result<(), Failure>>;
}

/// Sink for commands that ask for no body.
#[derive(Debug)]
pub(in crate::source::imap) struct NoBodies;

impl BodySink for NoBodies {
    async fn begin(&mut self, _values: &[WireValue], length: u64) -> Result<(), Failure> {
        let message = format!("the server sent a message of {length} bytes that was not asked for");
        Err(Failure::new(Cause::Server, message))
    }

    async fn write(&mut self, _bytes: &[u8]) -> Result<(), Failure> {
        Ok(())
    }

    async fn end(&mut self) -> Result<(), Failure> {
        Ok(())
    }
}
