//! Export: copies of the archive in the formats of mail programs.
//!
//! ```text
//! ledger ──rows──▶ job ──verified bytes──▶ writer (Maildir, mbox, ZIP) ──▶ target folder
//!                   └──after each group──▶ state file
//! ```
//!
//! An export is resumable. Messages are written in groups. A group counts once everything in it is
//! durable and the state file says so; what a dead process wrote after that is removed by the next
//! one. Memory is bounded: rows are read in pages, and large messages in chunks. The archive and
//! the ledger are only read, so a worker may run at the same time.

mod content;
mod failure;
mod folder_names;
mod group_list;
mod job;
mod line_ends;
mod maildir;
mod mbox;
mod mboxrd;
mod message_time;
mod options;
mod readme;
mod source_export;
mod state;
mod target;
mod writer;
mod zip;
mod zip_format;

pub use self::failure::ExportFailure;
pub use self::job::{ExportControl, ExportJob, ExportOutcome, ExportSource};
pub use self::options::{ExportFormat, ExportOptions, LineEnds, MaildirLayout, SinceLimit};
pub use self::source_export::{ExportProgress, GroupSize};
pub use self::state::{DamagedFile, ExportCounts, ExportState, ExportedSource};
pub use self::target::{prepare_target, target_lock_file};

#[cfg(test)]
mod tests;
