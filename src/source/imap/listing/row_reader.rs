//! Reads the messages of a window of UIDs.

use std::collections::BTreeMap;

use cynosure_engine::{Cause, Failure, ImapPhase};

use crate::source::imap::connection::Connection;
use crate::source::imap::listing::message_row::{MessageRow, RowAttributes};
use crate::source::imap::listing::window::UidWindow;
use crate::source::imap::wire::{Command, NoBodies, Response, Value};

/// Maximum number of rows that are held in memory: a few megabytes.
const HELD_ROWS_MAX: usize = 10_000;

/// Maximum number of responses to one command: twice the largest window, for changes of flags that
/// are reported besides. A server that sends more never ends.
const RESPONSES_MAX: u32 = 1 << 21;

/// Messages of a window.
#[derive(Debug)]
pub(super) enum WindowRows {
    /// All messages, by UID.
    Complete(BTreeMap<u32, MessageRow>),
    /// More messages than are held in memory. The window must be narrower.
    TooMany,
}

/// Collector of the rows of a window.
struct RowCollector<'a> {
    window: UidWindow,
    attributes: &'a RowAttributes,
    rows: BTreeMap<u32, MessageRow>,
    is_full: bool,
}

/// Asks for the messages of a window in the folder that is open.
///
/// # Errors
/// Returns the failure of the command; [`Cause::Server`] if its answer does not end.
pub(super) async fn read_rows(
    connection: &mut Connection,
    window: UidWindow,
    attributes: &RowAttributes,
) -> Result<WindowRows, Failure> {
    let command = Command::new(format!("UID FETCH {window} {attributes}"));
    let in_flight = connection.start(&command, ImapPhase::Listing).await?;
    let mut collector = RowCollector { window, attributes, rows: BTreeMap::new(), is_full: false };
    for _ in 0..RESPONSES_MAX {
        match connection.read(&mut NoBodies).await? {
            Response::Tagged { tag, reply } if tag == in_flight.tag() => {
                connection.finish(in_flight, &reply)?;
                return Ok(collector.finish());
            }
            Response::Data { name, values, .. } if name == "FETCH" => {
                if collector.add(&values) {
                    connection.record_progress();
                }
            }
            Response::Tagged { .. }
            | Response::Data { .. }
            | Response::Status(_)
            | Response::Continuation(_) => {}
        }
    }
    Err(Failure::new(Cause::Server, "the server's list of messages does not end"))
}

impl RowCollector<'_> {
    /// Adds a row. A message that was not asked for is ignored. Returns true if the message is new.
    fn add(&mut self, values: &[Value]) -> bool {
        let Some((uid, row)) = self.attributes.read_row(values) else { return false };
        if !self.window.contains(uid) {
            return false;
        }
        if let Some(known) = self.rows.get_mut(&uid) {
            known.merge(row);
            return false;
        }
        if self.rows.len() < HELD_ROWS_MAX {
            self.rows.insert(uid, row);
        } else {
            self.is_full = true;
        }
        true
    }

    fn finish(self) -> WindowRows {
        if self.is_full { WindowRows::TooMany } else { WindowRows::Complete(self.rows) }
    }
}
