//! A mailbox that is never held: each message follows from the seed and its number.
//!
//! Only what changes while it is served is kept, some bytes per change.

mod changes;
mod compose;
mod id;
mod layout;
mod message;
mod query;
mod words;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use self::changes::{Change, Entry, Log};
use self::compose::Outline;
use self::layout::Layout;
use super::chance::{Draw, draw_below};

pub(super) use self::changes::{Delta, Unknown};
pub(super) use self::message::Message;
pub(super) use self::query::{Filter, Order, Query, place};

/// Threads a mailbox may start with; messages are numbered by 32 bits.
pub const ITEMS_MAX: u32 = 100_000_000;

/// A message, by the order in which messages were received.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct MessageNo(pub(super) u32);

/// A thread, by the order in which threads began.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct ThreadNo(pub(super) u32);

/// What JMAP calls a Mailbox (RFC 8621 §2).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Folder {
    Inbox,
    Archive,
    Sent,
    Trash,
}

/// The folders a message is in; always at least one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Folders(u8);

/// A generated mailbox.
#[derive(Debug)]
pub struct Mailbox {
    layout: Layout,
    /// The thread of each message delivered since, in the order of delivery.
    delivered: Vec<ThreadNo>,
    /// The messages delivered since, by thread.
    later: BTreeMap<ThreadNo, Vec<MessageNo>>,
    threads_ever: u32,
    destroyed: BTreeSet<MessageNo>,
    log: Log,
    /// The answer to the last query, with the length of the log at which it was true.
    listing: Option<(Query, usize, Arc<[MessageNo]>)>,
}

impl Mailbox {
    /// Makes the mailbox that `seed` stands for, of `items` threads (at most [`ITEMS_MAX`]).
    #[must_use]
    pub fn new(seed: u64, items: u32) -> Self {
        let layout = Layout::new(seed, items.min(ITEMS_MAX));
        Self {
            layout,
            delivered: Vec::new(),
            later: BTreeMap::new(),
            threads_ever: layout.threads,
            destroyed: BTreeSet::new(),
            log: Log::default(),
            listing: None,
        }
    }

    /// Returns the raw octets of the message whose blob has this id, if it exists.
    #[must_use]
    pub fn read(&self, blob_id: &str) -> Option<Vec<u8>> {
        let message = self.message(self.find_blob(blob_id)?);
        Some(message.flatten().collect())
    }

    /// Tells the blob id and the size of every message there is now, oldest first.
    pub fn blobs(&self) -> impl Iterator<Item = (String, usize)> {
        (0..self.messages_ever())
            .map(MessageNo)
            .filter(|message| self.is_live(*message))
            .map(|message| (self.blob_id(message), self.size(message)))
    }

    /// Returns how many messages there are now.
    #[must_use]
    pub fn messages(&self) -> u32 {
        self.messages_ever() - u32::try_from(self.destroyed.len()).unwrap_or(u32::MAX)
    }

    /// Adds `count` messages, about half of them to threads that exist already.
    pub fn deliver(&mut self, count: u32) {
        for _ in 0..count {
            let message = MessageNo(self.messages_ever());
            let (seed, ever) = (self.layout.seed, self.threads_ever);
            let is_reply = draw_below(seed, Draw::Reply, u64::from(message.0), 2) == 0;
            let parent = ThreadNo(draw_below(seed, Draw::Parent, u64::from(message.0), ever));
            let (thread, on_thread) = if is_reply && self.is_thread_live(parent) {
                (parent, Change::Updated)
            } else {
                self.threads_ever += 1;
                (ThreadNo(self.threads_ever - 1), Change::Created)
            };
            self.delivered.push(thread);
            self.later.entry(thread).or_default().push(message);
            self.log.push(Entry { message, on_message: Change::Created, thread, on_thread });
        }
    }

    /// Deletes `count` messages, or as many as there are.
    pub fn destroy(&mut self, count: u32) {
        for _ in 0..count {
            let ever = self.messages_ever();
            let start = draw_below(self.layout.seed, Draw::Victim, self.log.len() as u64, ever);
            let victim = (start..ever).chain(0..start).map(MessageNo).find(|no| self.is_live(*no));
            let Some(victim) = victim else { return };
            self.destroy_message(victim);
        }
    }

    /// Makes every state given out before this one useless: `cannotCalculateChanges`.
    pub fn expire_states(&mut self) {
        self.log.expire();
    }

    /// Returns the state string of messages and threads (RFC 8620 §5.1).
    #[must_use]
    pub fn state(&self) -> String {
        self.log.state()
    }

    pub(super) fn destroy_message(&mut self, message: MessageNo) {
        let thread = self.thread_of(message);
        if !self.is_live(message) {
            return;
        }
        self.destroyed.insert(message);
        let on_thread =
            if self.is_thread_live(thread) { Change::Updated } else { Change::Destroyed };
        self.log.push(Entry { message, on_message: Change::Destroyed, thread, on_thread });
    }

    pub(super) fn message_changes(
        &self,
        since: &str,
        changes_max: usize,
    ) -> Result<Delta<MessageNo>, Unknown> {
        self.log.since(since, changes_max, |entry| (entry.message, entry.on_message))
    }

    pub(super) fn thread_changes(
        &self,
        since: &str,
        changes_max: usize,
    ) -> Result<Delta<ThreadNo>, Unknown> {
        self.log.since(since, changes_max, |entry| (entry.thread, entry.on_thread))
    }

    /// Returns all messages that answer the query; the last answer is kept for the next page.
    pub(super) fn query(&mut self, query: &Query) -> Arc<[MessageNo]> {
        if let Some((known, at, list)) = &self.listing
            && known == query
            && *at == self.log.len()
        {
            return Arc::clone(list);
        }
        let list: Arc<[MessageNo]> = query::list(self, query).into();
        self.listing = Some((query.clone(), self.log.len(), Arc::clone(&list)));
        list
    }

    /// Returns the messages of a thread that exist, oldest first.
    pub(super) fn messages_of(&self, thread: ThreadNo) -> Vec<MessageNo> {
        self.messages_ever_of(thread).filter(|message| self.is_live(*message)).collect()
    }

    pub(super) fn thread_of(&self, message: MessageNo) -> ThreadNo {
        match message.0.checked_sub(self.layout.messages) {
            None => self.layout.thread_of(message),
            Some(place) => self.delivered[place as usize],
        }
    }

    /// Returns the Unix second at which the message was received.
    pub(super) fn received_at(&self, message: MessageNo) -> i64 {
        self.layout.received_at(message)
    }

    pub(super) fn folders(&self, message: MessageNo) -> Folders {
        let chance = draw_below(self.layout.seed, Draw::Folders, u64::from(message.0), 100);
        match chance {
            0..58 => Folders::of(&[Folder::Inbox]),
            58..60 => Folders::of(&[Folder::Inbox, Folder::Archive]),
            60..85 => Folders::of(&[Folder::Archive]),
            85..95 => Folders::of(&[Folder::Sent]),
            _ => Folders::of(&[Folder::Trash]),
        }
    }

    /// Returns the octets of the raw message, without generating it.
    pub(super) fn size(&self, message: MessageNo) -> usize {
        compose::size(self.layout.seed, message)
    }

    pub(super) fn message(&self, message: MessageNo) -> Message {
        let thread = self.thread_of(message);
        let ancestors =
            self.messages_ever_of(thread).take_while(|other| *other < message).collect();
        let received_at = self.received_at(message);
        compose::compose(&Outline {
            seed: self.layout.seed,
            message,
            thread,
            received_at,
            ancestors,
        })
    }

    pub(super) fn email_id(&self, message: MessageNo) -> String {
        id::encode(self.layout.seed, id::Kind::Email, message.0)
    }

    pub(super) fn blob_id(&self, message: MessageNo) -> String {
        id::encode(self.layout.seed, id::Kind::Blob, message.0)
    }

    pub(super) fn thread_id(&self, thread: ThreadNo) -> String {
        id::encode(self.layout.seed, id::Kind::Thread, thread.0)
    }

    pub(super) fn folder_id(&self, folder: Folder) -> String {
        id::encode(self.layout.seed, id::Kind::Folder, folder as u32)
    }

    pub(super) fn find_email(&self, id: &str) -> Option<MessageNo> {
        let message = MessageNo(id::decode(self.layout.seed, id::Kind::Email, id)?);
        self.is_live(message).then_some(message)
    }

    pub(super) fn find_blob(&self, id: &str) -> Option<MessageNo> {
        let message = MessageNo(id::decode(self.layout.seed, id::Kind::Blob, id)?);
        self.is_live(message).then_some(message)
    }

    pub(super) fn find_thread(&self, id: &str) -> Option<ThreadNo> {
        let thread = ThreadNo(id::decode(self.layout.seed, id::Kind::Thread, id)?);
        self.is_thread_live(thread).then_some(thread)
    }

    pub(super) fn find_folder(&self, id: &str) -> Option<Folder> {
        Folder::EVERY.into_iter().find(|folder| self.folder_id(*folder) == id)
    }

    fn is_live(&self, message: MessageNo) -> bool {
        message.0 < self.messages_ever() && !self.destroyed.contains(&message)
    }

    fn is_thread_live(&self, thread: ThreadNo) -> bool {
        self.messages_ever_of(thread).any(|message| self.is_live(message))
    }

    fn messages_ever(&self) -> u32 {
        self.layout.messages + u32::try_from(self.delivered.len()).unwrap_or(u32::MAX)
    }

    fn messages_ever_of(&self, thread: ThreadNo) -> impl Iterator<Item = MessageNo> {
        let later = self.later.get(&thread).into_iter().flatten().copied();
        self.layout.messages_of(thread).map(MessageNo).chain(later)
    }
}

impl Folder {
    pub(super) const EVERY: [Self; 4] = [Self::Inbox, Self::Archive, Self::Sent, Self::Trash];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Inbox => "Inbox",
            Self::Archive => "Archive",
            Self::Sent => "Sent",
            Self::Trash => "Trash",
        }
    }

    /// Returns the role (RFC 8621 §2, the IANA registry of mailbox attributes in lower case).
    pub(super) fn role(self) -> &'static str {
        match self {
            Self::Inbox => "inbox",
            Self::Archive => "archive",
            Self::Sent => "sent",
            Self::Trash => "trash",
        }
    }
}

impl Folders {
    fn of(folders: &[Folder]) -> Self {
        Self(folders.iter().fold(0, |bits, folder| bits | 1 << *folder as u8))
    }

    pub(super) fn contains(self, folder: Folder) -> bool {
        self.0 & 1 << folder as u8 != 0
    }
}
