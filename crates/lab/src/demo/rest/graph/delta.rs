//! Delta query of the messages of a folder: a first round that lists them, and the changes since.
//!
//! With immutable ids, a move is reported for the folder that the message has left, and not for the
//! one where it is now. The true service does the same; only a list of the whole mailbox finds such
//! a message.

use std::collections::BTreeMap;
use std::str::FromStr;

use serde_json::{Value, json};

use super::error::GraphError;
use super::ids::IdType;
use super::link::{link, preferred_page_rows};
use super::messages::row;
use crate::demo::mailbox::{ChangeKind, ChangeLogEntry, Folder, GeneratedMailbox, MessageNumber};
use crate::demo::rest::request::DemoRequest;

/// Interval of the pages of a first round that are empty although more follow. The second page is
/// the first of them.
const EMPTY_PAGE_INTERVAL: u32 = 3;

/// Position of a delta query, as its links contain it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum DeltaPosition {
    /// Page of the first round.
    Listing {
        /// Number of changes to the mailbox before the round.
        since: usize,
        /// The messages below this number are still to be listed.
        below: u32,
        /// Number of pages before.
        page: u32,
    },
    /// The changes after this number of changes to the mailbox.
    Changes { since: usize },
}

/// Page of a delta query.
struct DeltaPage {
    rows: Vec<Value>,
    next: DeltaPosition,
    /// True if the round ends with this page.
    is_last: bool,
}

/// Lists a page of a round.
pub(super) fn page(
    mailbox: &mut GeneratedMailbox,
    request: &DemoRequest,
    folder: Folder,
) -> Result<Value, GraphError> {
    let (ids, rows_max) = (IdType::requested(request), preferred_page_rows(request));
    let token = request.query("$skiptoken").or_else(|| request.query("$deltatoken"));
    let position = match token {
        None => DeltaPosition::Listing { since: mailbox.change_count(), below: u32::MAX, page: 0 },
        Some(token) => token.parse::<DeltaPosition>()?,
    };
    let DeltaPage { rows, next, is_last } = match position {
        DeltaPosition::Listing { since, below, page } => {
            if mailbox.changes_after(since, 0).is_none() {
                return Err(GraphError::resync_required());
            }
            let rest = mailbox.home_messages(folder);
            let rest: Vec<MessageNumber> =
                rest.into_iter().filter(|message| message.0 < below).collect();
            first_round_page(mailbox, (since, below, page), &rest, rows_max, ids)
        }
        DeltaPosition::Changes { since } => {
            let changes = mailbox.changes_after(since, rows_max);
            let changes = changes.ok_or_else(GraphError::sync_state_not_found)?;
            DeltaPage {
                rows: changed_rows(mailbox, changes, folder, ids),
                next: DeltaPosition::Changes { since: since + changes.len() },
                is_last: since + changes.len() == mailbox.change_count(),
            }
        }
    };
    let (name, parameter) = if is_last {
        ("@odata.deltaLink", "$deltatoken")
    } else {
        ("@odata.nextLink", "$skiptoken")
    };
    let mut body = json!({ "value": rows });
    body[name] = link(request, &format!("{parameter}={}", next.token())).into();
    Ok(body)
}

/// True for the request for a page of a first round that is not the first.
pub(super) fn continues_first_round(request: &DemoRequest) -> bool {
    let position = request.query("$skiptoken").map(str::parse::<DeltaPosition>);
    matches!(position, Some(Ok(DeltaPosition::Listing { .. })))
}

/// Lists a page of a first round. `rest` has the messages that are still to be listed.
fn first_round_page(
    mailbox: &GeneratedMailbox,
    (since, below, page): (usize, u32, u32),
    rest: &[MessageNumber],
    rows_max: usize,
    ids: IdType,
) -> DeltaPage {
    let rows_max = if page % EMPTY_PAGE_INTERVAL == 1 { 0 } else { rows_max };
    let listed = &rest[..rest.len().min(rows_max)];
    let is_last = listed.len() == rest.len();
    let below = listed.last().map_or(below, |message| message.0);
    let next = if is_last {
        // Changes during the round are those of the next one.
        DeltaPosition::Changes { since }
    } else {
        DeltaPosition::Listing { since, below, page: page + 1 }
    };
    let rows = listed.iter().map(|message| row(mailbox, *message, ids)).collect();
    DeltaPage { rows, next, is_last }
}

/// Returns the rows for the net changes of a folder.
fn changed_rows(
    mailbox: &GeneratedMailbox,
    changes: &[ChangeLogEntry],
    folder: Folder,
    ids: IdType,
) -> Vec<Value> {
    let mut folders_before = BTreeMap::new();
    for change in changes {
        folders_before.entry(change.message).or_insert_with(|| folder_before(mailbox, change));
    }
    let mut rows = Vec::new();
    for (message, before) in folders_before {
        let now = mailbox.exists(message).then(|| mailbox.home_folder(message));
        let has_moved =
            changes.iter().any(|change| change.message == message && change.moved_from.is_some());
        let is_here = now == Some(folder);
        if before == Some(folder) && !is_here {
            let reason = if now.is_some() { "changed" } else { "deleted" };
            let id = ids.message_id(mailbox, message, folder);
            rows.push(json!({ "id": id, "@removed": { "reason": reason } }));
        } else if is_here && before != now && (!has_moved || ids == IdType::Mutable) {
            rows.push(row(mailbox, message, ids));
        }
    }
    rows
}

/// Returns the folder of the message before its first change; `None` if it did not exist.
fn folder_before(mailbox: &GeneratedMailbox, change: &ChangeLogEntry) -> Option<Folder> {
    match change.message_change {
        ChangeKind::Created => None,
        ChangeKind::Updated => change.moved_from,
        ChangeKind::Destroyed => Some(mailbox.home_folder(change.message)),
    }
}

impl DeltaPosition {
    fn token(self) -> String {
        match self {
            Self::Listing { since, below, page } => format!("list.{since}.{below}.{page}"),
            Self::Changes { since } => format!("changes.{since}"),
        }
    }
}

impl FromStr for DeltaPosition {
    type Err = GraphError;

    fn from_str(token: &str) -> Result<Self, GraphError> {
        let parts: Vec<&str> = token.split('.').collect();
        let position = match parts.as_slice() {
            ["list", since, below, page] => match (since.parse(), below.parse(), page.parse()) {
                (Ok(since), Ok(below), Ok(page)) => Some(Self::Listing { since, below, page }),
                _ => None,
            },
            ["changes", since] => since.parse().ok().map(|since| Self::Changes { since }),
            _ => None,
        };
        position.ok_or_else(|| GraphError::bad_request("Badly formed token."))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::rest::graph::tests::{GraphTestClient, row_ids};

    const INBOX: usize = 0;
    const TRASH: usize = 3;

    /// Client that has listed the inbox and Trash, with the delta link of each.
    fn client_after_first_round() -> (GraphTestClient, [String; 2]) {
        let mut client = GraphTestClient::new(20);
        let links = [INBOX, TRASH].map(|folder| {
            let uri = delta_uri(&mut client, folder);
            client.pages(&uri).1.unwrap()
        });
        (client, links)
    }

    fn delta_uri(client: &mut GraphTestClient, folder: usize) -> String {
        format!("/v1.0/me/mailFolders/{}/messages/delta", client.folders()[folder])
    }

    fn removed(pages: &[Vec<Value>]) -> Vec<&str> {
        pages.iter().flatten().filter_map(|row| row["@removed"]["reason"].as_str()).collect()
    }

    #[test]
    fn a_first_round_lists_the_folder_with_empty_pages_between() {
        let mut client = GraphTestClient::new(20);
        let inbox = client.mailbox.home_messages(Folder::Inbox).len();
        assert!(8 < inbox, "{inbox}");

        let uri = delta_uri(&mut client, INBOX);
        let (pages, link) = client.pages(&uri);

        let lengths: Vec<usize> = pages.iter().map(Vec::len).collect();
        assert_eq!(lengths[..3], [4, 0, 4]);
        assert_eq!(row_ids(&pages).len(), inbox);
        let expected = format!("http://127.0.0.1:80{uri}?$deltatoken=changes.0");
        assert_eq!(link, Some(expected));
    }

    #[test]
    fn new_and_destroyed_messages_are_changes_of_their_folder() {
        let (mut client, [inbox, _]) = client_after_first_round();
        let destroyed = client.mailbox.home_messages(Folder::Inbox)[2];
        client.mailbox.deliver(12);
        client.mailbox.destroy_message(destroyed);

        let (pages, link) = client.pages(&inbox);

        let new = client.mailbox.home_messages(Folder::Inbox);
        let new = new.iter().filter(|message| 32 <= message.0).count();
        assert!(0 < new);
        assert_eq!((row_ids(&pages).len(), removed(&pages)), (new, vec!["deleted"]));
        assert_eq!(pages.len(), 4, "13 changes, four to a page");
        let (pages, _) = client.pages(&link.unwrap());
        assert_eq!(pages, [Vec::<Value>::new()]);
    }

    #[test]
    fn a_move_is_reported_as_a_removal_only_unless_ids_change() {
        let (mut client, [inbox, trash]) = client_after_first_round();
        let in_inbox = client.mailbox.home_messages(Folder::Inbox).len();
        client.mailbox.move_to_trash(100);

        let (from_inbox, _) = client.pages(&inbox);
        let (to_trash, _) = client.pages(&trash);
        client.prefer = "odata.maxpagesize=100";
        let (to_trash_with_other_ids, _) = client.pages(&trash);

        assert_eq!(removed(&from_inbox), vec!["changed"; in_inbox]);
        assert!(row_ids(&from_inbox).is_empty());
        assert!(row_ids(&to_trash).is_empty() && removed(&to_trash).is_empty());
        assert!(in_inbox < row_ids(&to_trash_with_other_ids).len());
    }

    #[test]
    fn an_expired_round_is_gone_at_any_page() {
        let (mut client, [inbox, _]) = client_after_first_round();
        let uri = delta_uri(&mut client, INBOX);
        let next = client.get(&uri)["@odata.nextLink"].as_str().unwrap().to_owned();
        client.mailbox.deliver(1);
        client.mailbox.expire_states();

        let (listing, changes) = (client.answer(&next).json(410), client.answer(&inbox).json(410));

        assert_eq!(listing["error"]["code"], "resyncRequired");
        assert_eq!(changes["error"]["code"], "SyncStateNotFound");
        let request = DemoRequest::get(&next);
        assert!(continues_first_round(&request));
        assert!(!continues_first_round(&DemoRequest::get(&inbox)));
        client.answer(&format!("{uri}?$skiptoken=list.0.x")).json(400);
    }

    #[test]
    fn a_round_that_begins_during_changes_misses_none() {
        let mut client = GraphTestClient::new(20);
        let uri = delta_uri(&mut client, INBOX);
        let first = client.get(&uri);
        client.mailbox.deliver(8);

        let next = first["@odata.nextLink"].as_str().unwrap().to_owned();
        let (rest, link) = client.pages(&next);
        let (changes, _) = client.pages(&link.unwrap());

        let listed = [first["value"].as_array().unwrap().clone()];
        let found = row_ids(&listed).len() + row_ids(&rest).len() + row_ids(&changes).len();
        assert_eq!(found, client.mailbox.home_messages(Folder::Inbox).len());
    }
}
