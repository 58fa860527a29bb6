//! Asks for the status of folders one by one, with several requests in flight.

use std::collections::{BTreeMap, VecDeque};

use cynosure_engine::{Cause, Failure, ImapPhase, ImapReply, sanitize_line};

use crate::source::imap::connection::{CommandInFlight, Connection};
use crate::source::imap::folders::listed_folder::FolderStatus;
use crate::source::imap::wire::{Command, FolderName, NoBodies, Response};

/// Capability of servers that number changes (RFC 7162).
const CONDSTORE: &str = "CONDSTORE";

/// Maximum number of requests in flight. A round trip for each of hundreds of folders would take
/// most of a poll; more than this gains little, and fills the buffers of both sides.
const IN_FLIGHT_MAX: usize = 50;

/// Answer to the request for a status.
#[derive(Debug)]
pub(in crate::source::imap) enum StatusAnswer {
    Known(FolderStatus),
    /// The folder does not exist, or no longer.
    Missing,
    /// The server refuses this folder. Others may be accessible.
    Refused(Failure),
}

/// Requests for the status of folders over one connection.
struct StatusRequests {
    queued: VecDeque<FolderName>,
    in_flight: Vec<(CommandInFlight, FolderName)>,
    /// Status of folders whose requests are not complete.
    reported: BTreeMap<FolderName, FolderStatus>,
    answers: BTreeMap<FolderName, StatusAnswer>,
    /// True if the rate limiter admits no other request before the next answer.
    is_next_denied: bool,
}

/// Returns the attributes to ask for, in parentheses.
pub(super) fn status_attributes(connection: &Connection) -> &'static str {
    if connection.has_capability(CONDSTORE) {
        "(MESSAGES UIDNEXT UIDVALIDITY HIGHESTMODSEQ)"
    } else {
        "(MESSAGES UIDNEXT UIDVALIDITY)"
    }
}

/// Asks for the status of each folder.
///
/// # Errors
/// Returns failures that do not concern one folder, and [`Cause::Server`] if a status lacks a
/// number that a listing needs.
pub(super) async fn request_statuses(
    connection: &mut Connection,
    folders: impl IntoIterator<Item = FolderName>,
) -> Result<BTreeMap<FolderName, StatusAnswer>, Failure> {
    let mut requests = StatusRequests {
        queued: folders.into_iter().collect(),
        in_flight: Vec::new(),
        reported: BTreeMap::new(),
        answers: BTreeMap::new(),
        is_next_denied: false,
    };
    loop {
        requests.send(connection).await?;
        if requests.in_flight.is_empty() {
            return Ok(requests.answers);
        }
        let response = connection.read(&mut NoBodies).await?;
        requests.on_response(connection, response)?;
    }
}

impl StatusRequests {
    /// Sends as many requests as may be in flight.
    async fn send(&mut self, connection: &mut Connection) -> Result<(), Failure> {
        let attributes = status_attributes(connection);
        while self.in_flight.len() < IN_FLIGHT_MAX
            && !self.is_next_denied
            && let Some(folder) = self.queued.pop_front()
        {
            let command = Command::new("STATUS").folder(&folder).text(attributes);
            let started = if self.in_flight.is_empty() {
                connection.start(&command, ImapPhase::Listing).await.map(Some)
            } else {
                // While a request waits, no answers are read, and the limiter may wait for these.
                connection.try_start(&command, ImapPhase::Listing).await
            };
            match started {
                Ok(Some(started)) => self.in_flight.push((started, folder)),
                Err(failure) if failure.cause != Cause::RateLimit || self.in_flight.is_empty() => {
                    return Err(failure);
                }
                // The answers to those in flight can be read, whatever the limiter says.
                Ok(None) | Err(_) => {
                    self.queued.push_front(folder);
                    self.is_next_denied = true;
                }
            }
        }
        Ok(())
    }

    fn on_response(
        &mut self,
        connection: &mut Connection,
        response: Response,
    ) -> Result<(), Failure> {
        if let Response::Tagged { tag, reply } = response {
            let Some(at) = self.in_flight.iter().position(|(command, _)| command.tag() == tag)
            else {
                let message = format!("the server answered {tag}, which was not sent");
                return Err(Failure::new(Cause::Connection, message));
            };
            self.is_next_denied = false;
            let (command, folder) = self.in_flight.swap_remove(at);
            let answer = self.finish(connection, command, &folder, &reply)?;
            self.answers.insert(folder, answer);
        } else if let Some((folder, status)) = FolderStatus::from_response(&response)
            && self.in_flight.iter().any(|(_, requested)| *requested == folder)
        {
            self.reported.insert(folder, status);
        }
        Ok(())
    }

    fn finish(
        &mut self,
        connection: &mut Connection,
        command: CommandInFlight,
        folder: &FolderName,
        reply: &ImapReply,
    ) -> Result<StatusAnswer, Failure> {
        let reported = self.reported.remove(folder);
        match connection.finish(command, reply) {
            Ok(()) => reported.map(StatusAnswer::Known).ok_or_else(|| incomplete_status(folder)),
            Err(failure) if failure.cause == Cause::NotFound => Ok(StatusAnswer::Missing),
            Err(failure) if matches!(failure.cause, Cause::Forbidden | Cause::Server) => {
                let message = format!("folder \"{}\": {}", folder.as_text(), failure.message);
                let message = sanitize_line(&message);
                Ok(StatusAnswer::Refused(Failure { message, ..failure }))
            }
            Err(failure) => Err(failure),
        }
    }
}

/// Without these numbers new messages cannot be told from old ones.
fn incomplete_status(folder: &FolderName) -> Failure {
    let name = folder.as_text();
    let message = format!(
        "the server reports no valid MESSAGES, UIDNEXT and UIDVALIDITY of folder \"{name}\"; add \
         it to `exclude` if it holds no mail"
    );
    Failure::new(Cause::Server, message)
}
