//! Interface of a server under test, and the cell of the table for the result of a case.

use cynosure::source::Source;

use super::fault::Fault;
use super::options::SourceOptions;

/// Reason for which a case does not apply to a rig.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unsupported(pub(crate) &'static str);

/// Server with a mailbox, and the source that reads it. Dropping it stops the server.
pub(crate) trait Rig: Sized {
    type Source: Source;

    /// Kind of the source, and name of the server.
    const NAME: &'static str;
    /// Credential that the server accepts.
    const SECRET: &'static str;

    /// Starts a server with at least this number of documents, or with none if it is zero.
    async fn start(documents: usize) -> Result<Self, Unsupported>;

    /// Builds a source that knows nothing of earlier ones, as after a restart.
    fn source(&self, options: &SourceOptions) -> Self::Source;

    /// Returns the bytes of each document that the mailbox has now.
    fn contents(&self) -> Vec<Vec<u8>>;

    /// Adds ordinary documents.
    fn deliver(&self, count: usize) -> Result<(), Unsupported>;

    /// Adds documents with these bytes.
    fn deliver_contents(&self, contents: Vec<Vec<u8>>) -> Result<(), Unsupported>;

    /// Destroys this number of documents, of which no trace remains.
    fn destroy(&self, count: usize) -> Result<(), Unsupported>;

    /// Moves this number of documents, from the beginning of the mailbox, to another folder.
    fn move_to_other_folder(&self, count: usize) -> Result<(), Unsupported>;

    /// Adds this number of documents to a second folder, as the same documents.
    fn copy_to_other_folder(&self, count: usize) -> Result<(), Unsupported>;

    /// Makes the server forget all changes before the present state, so that no earlier cursor is
    /// valid. It may change the mailbox.
    fn expire_cursors(&self) -> Result<(), Unsupported>;

    /// Replaces the response to the next request for a document by a fault.
    fn inject(&self, fault: Fault) -> Result<(), Unsupported>;

    /// Returns the number of requests that the server or its proxy has received.
    fn request_count(&self) -> usize;
}

/// Prints the cell of the table for one case.
///
/// `tests/setup/tally.awk` reads the line.
#[expect(clippy::print_stdout, reason = "the table is the output of the suite")]
pub(crate) fn print_cell<R: Rig>(case: &str, result: Result<(), Unsupported>) {
    let outcome = match result {
        Ok(()) => "passed".to_owned(),
        Err(Unsupported(reason)) => format!("not applicable: {reason}"),
    };
    println!("CONFORMANCE: {} | {case} | {outcome}", R::NAME);
}
