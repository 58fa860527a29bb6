//! Interface of a server under test, and the cell of the table for the result of a case.

use cynosure::source::Source;

use super::fault::Fault;
use super::options::SourceOptions;

/// Reason for which a case does not apply to a rig.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unsupported(pub(crate) &'static str);

/// Reason of IMAP servers, which have no cursor that could expire.
pub(crate) const CURSOR_IS_LOCAL: Unsupported =
    Unsupported("a cursor never expires: a folder with another UIDVALIDITY is listed again");

/// Documents of a server whose listing has several pages.
const PAGED_DOCUMENTS: usize = 50;

/// Server with a mailbox, and the source that reads it. Dropping it stops the server.
pub(crate) trait Rig: Sized {
    type Source: Source;

    /// Kind of the source, and name of the server.
    const NAME: &'static str;
    /// Credential that the server accepts.
    const SECRET: &'static str;
    /// Credential that the server refuses.
    const REFUSED_SECRET: &'static str = "expired";
    /// Maximum number of times that a full listing contains a document. It is more than one where a
    /// list is read again, or where its pages overlap.
    const LISTED_MAX: usize = 1;
    /// True if a listing of changes has whole pages of the list, and so also documents of before.
    const LISTS_PAGES_AGAIN: bool = false;

    /// Starts a server with at least this number of documents, or with none if it is zero.
    async fn start(documents: usize) -> Result<Self, Unsupported>;

    /// Starts a server with so many documents that a listing has several pages.
    async fn start_with_pages() -> Result<Self, Unsupported> {
        Self::start(PAGED_DOCUMENTS).await
    }

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

    /// Gives the documents of the folders that have ordinary ones other numbers, as a server does
    /// that was restored from a backup.
    fn renumber_folders(&self) -> Result<(), Unsupported> {
        Err(Unsupported("it identifies no document by a number in a folder"))
    }

    /// Returns an error if the server does not tell the number of documents in its folders.
    fn check_folder_counts(&self) -> Result<(), Unsupported> {
        Ok(())
    }

    /// Replaces the response to the next request for a document by a fault.
    fn inject(&self, fault: Fault) -> Result<(), Unsupported>;

    /// Returns the number of requests for documents that the server or its proxy has received.
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
