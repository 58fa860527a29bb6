//! Which messages a client asks for, and in which order.

use super::{Folder, Folders, Mailbox, MessageNo};
use crate::demo::bitmap::Bitmap;

/// A condition on messages (RFC 8621 §4.4.1, the part about folders and time).
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Filter {
    All(Vec<Self>),
    Any(Vec<Self>),
    None(Vec<Self>),
    In(Folder),
    /// Received before this Unix second.
    Before(i64),
    /// Received at this Unix second or later.
    NotBefore(i64),
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Query {
    pub(crate) filter: Filter,
    pub(crate) order: Order,
    /// Lists only the first message, in the order asked for, of each thread.
    pub(crate) collapse_threads: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Order {
    OldestFirst,
    NewestFirst,
}

impl Filter {
    fn matches(&self, folders: Folders, received_at: i64) -> bool {
        match self {
            Self::All(filters) => filters.iter().all(|one| one.matches(folders, received_at)),
            Self::Any(filters) => filters.iter().any(|one| one.matches(folders, received_at)),
            Self::None(filters) => !filters.iter().any(|one| one.matches(folders, received_at)),
            Self::In(folder) => folders.contains(*folder),
            Self::Before(second) => received_at < *second,
            Self::NotBefore(second) => *second <= received_at,
        }
    }
}

/// Lists all messages that answer a query; numbers rise or fall throughout, as the order asks.
pub(super) fn list(mailbox: &Mailbox, query: &Query) -> Vec<MessageNo> {
    let mut seen_threads = Bitmap::default();
    let mut wanted = |message: &MessageNo| {
        mailbox.is_live(*message)
            && query.filter.matches(mailbox.folders(*message), mailbox.received_at(*message))
            && (!query.collapse_threads || seen_threads.insert(mailbox.thread_of(*message).0))
    };
    let messages = (0..mailbox.messages_ever()).map(MessageNo);
    match query.order {
        Order::OldestFirst => messages.filter(&mut wanted).collect(),
        Order::NewestFirst => messages.rev().filter(&mut wanted).collect(),
    }
}

/// Returns where a message stands in a list made by [`list`], if it is in there.
pub(crate) fn place(list: &[MessageNo], order: Order, message: MessageNo) -> Option<usize> {
    list.binary_search_by(|other| match order {
        Order::OldestFirst => other.cmp(&message),
        Order::NewestFirst => message.cmp(other),
    })
    .ok()
}
