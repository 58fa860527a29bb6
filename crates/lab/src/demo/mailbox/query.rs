//! Queries for messages: filter, order and listing.

use super::{Folder, Folders, GeneratedMailbox, MessageNumber};
use crate::demo::bitmap::Bitmap;

/// Condition on messages (RFC 8621 §4.4.1, the part about folders and time).
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum MessageFilter {
    All(Vec<Self>),
    Any(Vec<Self>),
    None(Vec<Self>),
    InFolder(Folder),
    /// Received before this Unix second.
    Before(i64),
    /// Received at this Unix second or later.
    NotBefore(i64),
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct MessageQuery {
    pub(crate) filter: MessageFilter,
    pub(crate) order: SortOrder,
    /// Lists only the first message of each thread, in the requested order.
    pub(crate) collapse_threads: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum SortOrder {
    OldestFirst,
    NewestFirst,
}

impl MessageFilter {
    fn matches(&self, folders: Folders, received_at: i64) -> bool {
        match self {
            Self::All(filters) => filters.iter().all(|filter| filter.matches(folders, received_at)),
            Self::Any(filters) => filters.iter().any(|filter| filter.matches(folders, received_at)),
            Self::None(filters) => {
                !filters.iter().any(|filter| filter.matches(folders, received_at))
            }
            Self::InFolder(folder) => folders.contains(*folder),
            Self::Before(second) => received_at < *second,
            Self::NotBefore(second) => *second <= received_at,
        }
    }
}

/// Lists all messages that match a query. The numbers ascend or descend throughout, by its order.
pub(super) fn list_messages(
    mailbox: &GeneratedMailbox,
    query: &MessageQuery,
) -> Vec<MessageNumber> {
    let mut seen_threads = Bitmap::default();
    let mut matches_query = |message: &MessageNumber| {
        mailbox.exists(*message)
            && query.filter.matches(mailbox.folders(*message), mailbox.received_at(*message))
            && (!query.collapse_threads || seen_threads.insert(mailbox.thread_of(*message).0))
    };
    let messages = (0..mailbox.messages_total()).map(MessageNumber);
    match query.order {
        SortOrder::OldestFirst => messages.filter(&mut matches_query).collect(),
        SortOrder::NewestFirst => messages.rev().filter(&mut matches_query).collect(),
    }
}

/// Returns the position of a message in a list made by [`list_messages`], if the list contains it.
pub(crate) fn position_of(
    list: &[MessageNumber],
    order: SortOrder,
    message: MessageNumber,
) -> Option<usize> {
    list.binary_search_by(|other| match order {
        SortOrder::OldestFirst => other.cmp(&message),
        SortOrder::NewestFirst => message.cmp(other),
    })
    .ok()
}
