//! Generated mailbox: each message follows from the seed and its number, and none is stored.
//!
//! Only the changes made while it is served are stored, some bytes per change.

mod changes;
mod compose;
mod filler_text;
mod folder;
mod id;
mod layout;
mod message;
mod number;
mod query;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use self::changes::ChangeLog;
use self::compose::MessageSpec;
use self::layout::MailboxLayout;
use super::rng::{RngStream, random_below};

pub(super) use self::changes::{ChangeKind, ChangeLogEntry, ChangesError, ChangesSince};
pub(super) use self::folder::{Folder, Folders};
pub(super) use self::message::RawMessage;
pub(super) use self::number::{MessageNumber, ThreadNumber};
pub(super) use self::query::{MessageFilter, MessageQuery, SortOrder, position_of};

/// Maximum number of initial threads of a mailbox, because message numbers have 32 bits.
pub const ITEMS_MAX: u32 = 100_000_000;

/// A generated mailbox.
#[derive(Debug)]
pub struct GeneratedMailbox {
    layout: MailboxLayout,
    /// The thread of each message delivered since the start, in the order of delivery.
    delivered: Vec<ThreadNumber>,
    /// The messages delivered since the start, by thread.
    delivered_by_thread: BTreeMap<ThreadNumber, Vec<MessageNumber>>,
    /// Threads ever begun, destroyed ones included.
    threads_total: u32,
    destroyed: BTreeSet<MessageNumber>,
    /// The only folder of each message that was moved.
    moved: BTreeMap<MessageNumber, Folder>,
    change_log: ChangeLog,
    /// The last query, the length of the change log when it ran, and its result.
    last_query: Option<(MessageQuery, usize, Arc<[MessageNumber]>)>,
}

impl GeneratedMailbox {
    /// Creates the mailbox of this seed, with `items` threads (at most [`ITEMS_MAX`]).
    #[must_use]
    pub fn new(seed: u64, items: u32) -> Self {
        let layout = MailboxLayout::new(seed, items.min(ITEMS_MAX));
        Self {
            layout,
            delivered: Vec::new(),
            delivered_by_thread: BTreeMap::new(),
            threads_total: layout.threads,
            destroyed: BTreeSet::new(),
            moved: BTreeMap::new(),
            change_log: ChangeLog::default(),
            last_query: None,
        }
    }

    /// Returns the raw octets of the message whose blob has this id, if it exists.
    #[must_use]
    pub fn message_bytes(&self, blob_id: &str) -> Option<Vec<u8>> {
        let message = self.message(self.find_blob(blob_id)?);
        Some(message.flatten().collect())
    }

    /// Returns the blob id and the size of every message that exists now, oldest first.
    pub fn blobs(&self) -> impl Iterator<Item = (String, usize)> {
        (0..self.messages_total())
            .map(MessageNumber)
            .filter(|message| self.exists(*message))
            .map(|message| (self.blob_id(message), self.size(message)))
    }

    /// Returns the number of messages that exist now.
    #[must_use]
    pub fn message_count(&self) -> u32 {
        self.messages_total() - u32::try_from(self.destroyed.len()).unwrap_or(u32::MAX)
    }

    /// Adds `count` messages, about half of them to threads that exist already.
    pub fn deliver(&mut self, count: u32) {
        for _ in 0..count {
            let message = MessageNumber(self.messages_total());
            let (seed, threads_total) = (self.layout.seed, self.threads_total);
            let is_reply = random_below(seed, RngStream::Reply, u64::from(message.0), 2) == 0;
            let parent = ThreadNumber(random_below(
                seed,
                RngStream::Parent,
                u64::from(message.0),
                threads_total,
            ));
            let (thread, thread_change) = if is_reply && self.thread_exists(parent) {
                (parent, ChangeKind::Updated)
            } else {
                self.threads_total += 1;
                (ThreadNumber(self.threads_total - 1), ChangeKind::Created)
            };
            self.delivered.push(thread);
            self.delivered_by_thread.entry(thread).or_default().push(message);
            self.change_log.push(ChangeLogEntry {
                message,
                message_change: ChangeKind::Created,
                thread,
                thread_change,
                moved_from: None,
            });
        }
    }

    /// Moves `count` messages to Trash, the oldest that have another home folder. Over IMAP, where
    /// a message has one UID in all folders, clients do not find a moved message.
    pub fn move_to_trash(&mut self, count: u32) {
        self.move_oldest(count, Folder::Trash);
    }

    /// Moves `count` messages to the inbox, as [`Self::move_to_trash`] does to Trash.
    pub fn move_to_inbox(&mut self, count: u32) {
        self.move_oldest(count, Folder::Inbox);
    }

    /// Deletes `count` messages, or as many as there are.
    pub fn destroy(&mut self, count: u32) {
        for _ in 0..count {
            let total = self.messages_total();
            let start = random_below(
                self.layout.seed,
                RngStream::DestroyedMessage,
                self.change_log.len() as u64,
                total,
            );
            let message = (start..total)
                .chain(0..start)
                .map(MessageNumber)
                .find(|message| self.exists(*message));
            let Some(message) = message else { return };
            self.destroy_message(message);
        }
    }

    /// Expires every state before the current one: `/changes` since such a state then fails with
    /// `cannotCalculateChanges`. In IMAP, every UIDVALIDITY changes if there is a new state.
    pub fn expire_states(&mut self) {
        self.change_log.expire_states();
    }

    /// Returns the state string of messages and threads (RFC 8620 §5.1).
    #[must_use]
    pub fn state(&self) -> String {
        self.change_log.state()
    }

    pub(super) fn destroy_message(&mut self, message: MessageNumber) {
        let thread = self.thread_of(message);
        if !self.exists(message) {
            return;
        }
        self.destroyed.insert(message);
        let thread_change =
            if self.thread_exists(thread) { ChangeKind::Updated } else { ChangeKind::Destroyed };
        self.change_log.push(ChangeLogEntry {
            message,
            message_change: ChangeKind::Destroyed,
            thread,
            thread_change,
            moved_from: None,
        });
    }

    fn move_oldest(&mut self, count: u32, target: Folder) {
        let messages: Vec<MessageNumber> = (0..self.messages_total())
            .map(MessageNumber)
            .filter(|message| self.exists(*message) && self.home_folder(*message) != target)
            .take(count as usize)
            .collect();
        for message in messages {
            let moved_from = Some(self.home_folder(message));
            self.moved.insert(message, target);
            self.change_log.push(ChangeLogEntry {
                message,
                message_change: ChangeKind::Updated,
                thread: self.thread_of(message),
                thread_change: ChangeKind::Updated,
                moved_from,
            });
        }
    }

    pub(super) fn message_changes(
        &self,
        since: &str,
        changes_max: usize,
    ) -> Result<ChangesSince<MessageNumber>, ChangesError> {
        self.change_log
            .changes_since(since, changes_max, |entry| (entry.message, entry.message_change))
    }

    pub(super) fn thread_changes(
        &self,
        since: &str,
        changes_max: usize,
    ) -> Result<ChangesSince<ThreadNumber>, ChangesError> {
        self.change_log
            .changes_since(since, changes_max, |entry| (entry.thread, entry.thread_change))
    }

    /// Returns at most `changes_max` changes from this position on; `None` if the position has
    /// expired or was never reached. The position after all changes is [`Self::change_count`].
    pub(super) fn changes_after(
        &self,
        position: usize,
        changes_max: usize,
    ) -> Option<&[ChangeLogEntry]> {
        self.change_log.entries_after(position, changes_max)
    }

    /// Returns all messages that match the query. The last result is cached for the next page.
    pub(super) fn query(&mut self, query: &MessageQuery) -> Arc<[MessageNumber]> {
        if let Some((last_query, log_len, list)) = &self.last_query
            && last_query == query
            && *log_len == self.change_log.len()
        {
            return Arc::clone(list);
        }
        let list: Arc<[MessageNumber]> = query::list_messages(self, query).into();
        self.last_query = Some((query.clone(), self.change_log.len(), Arc::clone(&list)));
        list
    }

    /// Returns the messages of a thread that exist, oldest first.
    pub(super) fn messages_of(&self, thread: ThreadNumber) -> Vec<MessageNumber> {
        self.all_messages_of(thread).filter(|message| self.exists(*message)).collect()
    }

    /// True if no other message of its thread exists.
    pub(super) fn is_only_in_thread(&self, message: MessageNumber) -> bool {
        self.messages_of(self.thread_of(message)).len() == 1
    }

    pub(super) fn thread_of(&self, message: MessageNumber) -> ThreadNumber {
        match message.0.checked_sub(self.layout.messages) {
            None => self.layout.thread_of(message),
            Some(index) => self.delivered[index as usize],
        }
    }

    /// Returns the Unix second at which the message was received.
    pub(super) fn received_at(&self, message: MessageNumber) -> i64 {
        self.layout.received_at(message)
    }

    pub(super) fn folders(&self, message: MessageNumber) -> Folders {
        if let Some(folder) = self.moved.get(&message) {
            return Folders::of(&[*folder]);
        }
        let sample = random_below(self.layout.seed, RngStream::Folders, u64::from(message.0), 100);
        match sample {
            0..58 => Folders::of(&[Folder::Inbox]),
            58..60 => Folders::of(&[Folder::Inbox, Folder::Archive]),
            60..85 => Folders::of(&[Folder::Archive]),
            85..95 => Folders::of(&[Folder::Sent]),
            _ => Folders::of(&[Folder::Trash]),
        }
    }

    /// Returns the folder of a message for services that put it into one folder only.
    pub(super) fn home_folder(&self, message: MessageNumber) -> Folder {
        self.folders(message).first()
    }

    /// Returns the messages of the folder, newest first, for services that put a message into one
    /// folder only.
    pub(super) fn home_messages(&mut self, folder: Folder) -> Vec<MessageNumber> {
        let messages = self.query(&MessageQuery {
            filter: MessageFilter::InFolder(folder),
            order: SortOrder::NewestFirst,
            collapse_threads: false,
        });
        messages.iter().copied().filter(|message| self.home_folder(*message) == folder).collect()
    }

    /// Returns the size of the raw message in octets, without generating it.
    pub(super) fn size(&self, message: MessageNumber) -> usize {
        compose::size(self.layout.seed, message)
    }

    pub(super) fn message(&self, message: MessageNumber) -> RawMessage {
        let thread = self.thread_of(message);
        let ancestors = self.all_messages_of(thread).take_while(|other| *other < message).collect();
        let received_at = self.received_at(message);
        compose::compose(&MessageSpec {
            seed: self.layout.seed,
            message,
            thread,
            received_at,
            ancestors,
        })
    }

    /// Returns the UIDVALIDITY of a folder (RFC 3501 §2.3.1.1), which differs for other mail.
    pub(super) fn uid_validity(&self, folder: Folder) -> u32 {
        let index = u64::from(self.layout.threads) << 8 | folder as u64;
        let first = random_below(self.layout.seed, RngStream::UidValidity, index, 1 << 30) + 1;
        first.saturating_add(u32::try_from(self.change_log.oldest_state()).unwrap_or(u32::MAX))
    }

    /// Returns the number of changes since the mailbox was created.
    pub(super) fn change_count(&self) -> usize {
        self.change_log.len()
    }

    /// Returns the `Message-ID` with its angle brackets; not every message has that header.
    pub(super) fn message_id(&self, message: MessageNumber) -> String {
        compose::message_id(self.layout.seed, message)
    }

    pub(super) fn email_id(&self, message: MessageNumber) -> String {
        id::encode(self.layout.seed, id::IdKind::Email, message.0)
    }

    pub(super) fn blob_id(&self, message: MessageNumber) -> String {
        id::encode(self.layout.seed, id::IdKind::Blob, message.0)
    }

    pub(super) fn thread_id(&self, thread: ThreadNumber) -> String {
        id::encode(self.layout.seed, id::IdKind::Thread, thread.0)
    }

    pub(super) fn folder_id(&self, folder: Folder) -> String {
        id::encode(self.layout.seed, id::IdKind::Folder, folder as u32)
    }

    pub(super) fn find_email(&self, id: &str) -> Option<MessageNumber> {
        let message = MessageNumber(id::decode(self.layout.seed, id::IdKind::Email, id)?);
        self.exists(message).then_some(message)
    }

    pub(super) fn find_blob(&self, id: &str) -> Option<MessageNumber> {
        let message = MessageNumber(id::decode(self.layout.seed, id::IdKind::Blob, id)?);
        self.exists(message).then_some(message)
    }

    pub(super) fn find_thread(&self, id: &str) -> Option<ThreadNumber> {
        let thread = ThreadNumber(id::decode(self.layout.seed, id::IdKind::Thread, id)?);
        self.thread_exists(thread).then_some(thread)
    }

    /// Returns the message that began the thread, which may be destroyed.
    pub(super) fn first_message_of(&self, thread: ThreadNumber) -> Option<MessageNumber> {
        self.all_messages_of(thread).next()
    }

    /// Finds a thread by the id of the message that began it.
    pub(super) fn find_thread_begun_by(&self, email_id: &str) -> Option<ThreadNumber> {
        let number = id::decode(self.layout.seed, id::IdKind::Email, email_id)?;
        let first = MessageNumber(number);
        let is_known = first.0 < self.messages_total();
        let thread = is_known.then(|| self.thread_of(first))?;
        let is_first = self.first_message_of(thread) == Some(first);
        (is_first && self.thread_exists(thread)).then_some(thread)
    }

    pub(super) fn find_folder(&self, id: &str) -> Option<Folder> {
        Folder::ALL.into_iter().find(|folder| self.folder_id(*folder) == id)
    }

    pub(super) fn exists(&self, message: MessageNumber) -> bool {
        message.0 < self.messages_total() && !self.destroyed.contains(&message)
    }

    fn thread_exists(&self, thread: ThreadNumber) -> bool {
        self.all_messages_of(thread).any(|message| self.exists(message))
    }

    /// Returns the number of messages ever received, destroyed ones included.
    pub(super) fn messages_total(&self) -> u32 {
        self.layout.messages + u32::try_from(self.delivered.len()).unwrap_or(u32::MAX)
    }

    /// Returns the messages of a thread, destroyed ones included, oldest first.
    fn all_messages_of(&self, thread: ThreadNumber) -> impl Iterator<Item = MessageNumber> {
        let delivered = self.delivered_by_thread.get(&thread).into_iter().flatten().copied();
        self.layout.messages_of(thread).map(MessageNumber).chain(delivered)
    }
}
