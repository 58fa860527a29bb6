//! Messages that vanished since a cursor: `UID FETCH 1:9 (UID) (CHANGEDSINCE 5 VANISHED)`
//! (RFC 7162 §3.2.6).
//!
//! A row for each message with changed flags comes with them, maybe for the whole folder. The rows
//! are dropped while they arrive.

use std::ops::RangeInclusive;

use cynosure_engine::{Cause, Failure, ImapPhase, VanishedMessages};

use crate::source::imap::connection::Connection;
use crate::source::imap::cursor::{ChangedFolder, FIRST_UID};
use crate::source::imap::wire::{Command, FolderName, NoBodies, Response, Value};

/// Capability of servers that report vanished messages.
pub(super) const QRESYNC: &str = "QRESYNC";

/// Maximum number of ranges of UIDs that are kept of a folder. The others are dropped: their
/// messages are found gone when they are fetched.
const RANGES_MAX: usize = 5_000;

/// Maximum number of responses to one command: a row for each of two million messages. A server
/// that sends more never ends.
const RESPONSES_MAX: u32 = 1 << 21;

/// Answer about one folder.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct VanishedAnswer {
    pub(super) messages: VanishedMessages,
    /// Number of rows and ranges that the server sent.
    pub(super) rows: usize,
}

/// Asks which of the messages that a cursor knows are no longer in their folder. The answer is
/// empty if the folder has another numbering now.
///
/// # Errors
/// Returns the failures of the commands; [`Cause::Server`] if an answer does not end.
pub(super) async fn read_vanished(
    connection: &mut Connection,
    folder: &ChangedFolder,
) -> Result<VanishedAnswer, Failure> {
    let ChangedFolder { name, uid_validity, last_uid, mod_seq } = folder;
    let mut answer = VanishedAnswer::new(name, *uid_validity);
    connection.enable(QRESYNC).await?;
    let open = connection.open_folder(&FolderName::from_text(name)).await?;
    if open.uid_validity != *uid_validity {
        return Ok(answer);
    }
    let command = Command::new(format!(
        "UID FETCH {FIRST_UID}:{last_uid} (UID) (CHANGEDSINCE {mod_seq} VANISHED)"
    ));
    let in_flight = connection.start(&command, ImapPhase::Listing).await?;
    for _ in 0..RESPONSES_MAX {
        match connection.read(&mut NoBodies).await? {
            Response::Tagged { tag, reply } if tag == in_flight.tag() => {
                connection.finish(in_flight, &reply)?;
                return Ok(answer);
            }
            Response::Data { name, values, .. } if name == "VANISHED" => {
                answer.add(&values);
                connection.record_progress();
            }
            Response::Data { name, .. } if name == "FETCH" => {
                answer.rows = answer.rows.saturating_add(1);
                connection.record_progress();
            }
            Response::Tagged { .. }
            | Response::Data { .. }
            | Response::Status(_)
            | Response::Continuation(_) => {}
        }
    }
    Err(Failure::new(Cause::Server, "the server's list of changed messages does not end"))
}

impl VanishedAnswer {
    fn new(folder: &str, uid_validity: u32) -> Self {
        let messages =
            VanishedMessages { folder: folder.to_owned(), uid_validity, uids: Vec::new() };
        Self { messages, rows: 0 }
    }

    /// Adds the UIDs of a response: `VANISHED (EARLIER) 2,5:9`, or `VANISHED 3` for a message that
    /// has vanished since the folder was opened.
    fn add(&mut self, values: &[Value]) {
        let Some(set) = values.last().and_then(Value::as_text) else { return };
        for range in uid_ranges(&set) {
            self.rows = self.rows.saturating_add(1);
            if self.messages.uids.len() < RANGES_MAX {
                self.messages.uids.push(range);
            }
        }
    }
}

/// Returns the ranges of a set of UIDs. The ends of one may be in either order (RFC 3501 §9,
/// `seq-range`).
fn uid_ranges(set: &str) -> impl Iterator<Item = RangeInclusive<u32>> {
    set.split(',').filter_map(|range| {
        let (one, other) = range.split_once(':').unwrap_or((range, range));
        let (one, other): (u32, u32) = (one.parse().ok()?, other.parse().ok()?);
        Some(one.min(other)..=one.max(other))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer_to(responses: &[&[Value]]) -> VanishedAnswer {
        let mut answer = VanishedAnswer::new("INBOX", 3);
        responses.iter().for_each(|values| answer.add(values));
        answer
    }

    fn atom(text: &str) -> Value {
        Value::Atom(text.to_owned())
    }

    #[test]
    fn vanished_uids_are_read_with_and_without_earlier() {
        let earlier = [Value::List(vec![atom("EARLIER")]), atom("2,9:5")];

        let answer = answer_to(&[&earlier[..], &[atom("12")]]);

        assert_eq!((answer.messages.uids, answer.rows), (vec![2..=2, 5..=9, 12..=12], 3));
    }

    #[test]
    fn what_is_no_range_is_left_out() {
        let sets = ["", "*", "1:*", "x,4,:", "4294967296"].map(|set| [atom(set)]);
        let sets: Vec<&[Value]> = sets.iter().map(|set| &set[..]).collect();

        let kept: Vec<u32> = answer_to(&sets).messages.uids.into_iter().flatten().collect();
        assert_eq!(kept, [4]);
        assert_eq!(answer_to(&[&[Value::Nil]]).rows, 0);
    }

    #[test]
    fn the_number_of_ranges_is_limited() {
        let uids: Vec<String> =
            (0..2 * RANGES_MAX).map(|number| (2 * number).to_string()).collect();

        let answer = answer_to(&[&[atom(&uids.join(","))], &[atom("7")]]);

        assert_eq!((answer.messages.uids.len(), answer.rows), (RANGES_MAX, 2 * RANGES_MAX + 1));
    }
}
