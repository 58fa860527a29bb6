//! Ids of folders and messages. An immutable id survives a move; one of the other kind contains the
//! folder.

use hyper::header::HeaderName;

use super::error::GraphError;
use crate::demo::mailbox::{Folder, GeneratedMailbox, MessageNumber};
use crate::demo::rest::request::DemoRequest;

const IMMUTABLE_PREFIX: &str = "AAkALgAAAAAAHYQDEapmEc2byACqAC-E";
const MUTABLE_PREFIX: &str = "AAMkAGVmMDEz";
const FOLDER_PREFIX: &str = "AQMkADNkNAAA";

/// Id of the folder that contains all others, which no list has.
pub(super) const ROOT_FOLDER_ID: &str = "AQMkADNkNAAuAAAB=";

/// Last character of every id, which clients must encode in a path.
const END: char = '=';

/// Kind of the ids in a response.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum IdType {
    /// Requested by `Prefer: IdType="ImmutableId"`.
    Immutable,
    Mutable,
}

impl IdType {
    pub(super) fn requested(request: &DemoRequest) -> Self {
        let prefer = preferences(request);
        if prefer.contains("idtype=\"immutableid\"") { Self::Immutable } else { Self::Mutable }
    }

    /// Returns the id of a message that is, or was, in this folder.
    pub(super) fn message_id(
        self,
        mailbox: &GeneratedMailbox,
        message: MessageNumber,
        folder: Folder,
    ) -> String {
        let id = mailbox.email_id(message);
        match self {
            Self::Immutable => format!("{IMMUTABLE_PREFIX}{id}{END}"),
            Self::Mutable => format!("{MUTABLE_PREFIX}{}{id}{END}", folder_digit(folder)),
        }
    }
}

/// Returns the values of `Prefer` (RFC 7240) in lower case.
pub(super) fn preferences(request: &DemoRequest) -> String {
    request.header(HeaderName::from_static("prefer")).to_ascii_lowercase()
}

pub(super) fn folder_id(mailbox: &GeneratedMailbox, folder: Folder) -> String {
    format!("{FOLDER_PREFIX}{}{END}", mailbox.folder_id(folder))
}

pub(super) fn find_folder(mailbox: &GeneratedMailbox, id: &str) -> Result<Folder, GraphError> {
    id.strip_prefix(FOLDER_PREFIX)
        .and_then(|id| mailbox.find_folder(id.strip_suffix(END)?))
        .ok_or_else(GraphError::item_not_found)
}

pub(super) fn find_message(
    mailbox: &GeneratedMailbox,
    id: &str,
) -> Result<MessageNumber, GraphError> {
    let id = id.strip_suffix(END).ok_or_else(GraphError::item_not_found)?;
    if let Some(id) = id.strip_prefix(IMMUTABLE_PREFIX) {
        return mailbox.find_email(id).ok_or_else(GraphError::item_not_found);
    }
    let parts = id.strip_prefix(MUTABLE_PREFIX).and_then(|id| id.split_at_checked(1));
    let message = parts.and_then(|(digit, id)| {
        let message = mailbox.find_email(id)?;
        (digit == folder_digit(mailbox.home_folder(message))).then_some(message)
    });
    message.ok_or_else(GraphError::item_not_found)
}

fn folder_digit(folder: Folder) -> String {
    (folder as u8).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_immutable_id_survives_a_move() {
        let mut mailbox = GeneratedMailbox::new(1, 20);
        let message = mailbox.home_messages(Folder::Inbox).pop().unwrap();
        let [immutable, mutable] = [IdType::Immutable, IdType::Mutable]
            .map(|ids| ids.message_id(&mailbox, message, Folder::Inbox));
        for id in [&immutable, &mutable] {
            assert_eq!(find_message(&mailbox, id), Ok(message));
        }

        mailbox.move_to_trash(30);

        assert_eq!(find_message(&mailbox, &immutable), Ok(message));
        let gone = Err(GraphError::item_not_found());
        for id in [mutable.as_str(), "", "=", "AAMkAGVmMDEz=", &immutable[1..]] {
            assert_eq!(find_message(&mailbox, id), gone, "{id}");
        }
    }

    #[test]
    fn the_header_selects_the_kind_of_ids() {
        let prefer = HeaderName::from_static("prefer");
        let request = DemoRequest::get("/x");
        assert_eq!(IdType::requested(&request), IdType::Mutable);

        let request = request.with_header(prefer, "odata.maxpagesize=50, IdType=\"ImmutableId\"");

        assert_eq!(IdType::requested(&request), IdType::Immutable);
    }

    #[test]
    fn a_folder_is_found_by_its_id() {
        let mailbox = GeneratedMailbox::new(1, 1);
        for folder in Folder::ALL {
            assert_eq!(find_folder(&mailbox, &folder_id(&mailbox, folder)), Ok(folder));
        }
        assert!(find_folder(&mailbox, "inbox").is_err());
    }
}
