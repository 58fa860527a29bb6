//! Resources of messages, and their ids.

use serde_json::{Value, json};

use crate::demo::mailbox::{Folder, GeneratedMailbox, MessageNumber, ThreadNumber};
use crate::demo::rest::hex_id::to_hex;

/// Id before the first change.
pub(super) const FIRST_HISTORY_ID: usize = 40_000;

/// Returns the id of the history after this number of changes.
pub(super) fn history_id(changes: usize) -> String {
    (FIRST_HISTORY_ID + changes).to_string()
}

/// Returns the ids of a message and of its thread.
pub(super) fn reference(mailbox: &GeneratedMailbox, message: MessageNumber) -> Value {
    json!({
        "id": to_hex(&mailbox.email_id(message)),
        "threadId": thread_id(mailbox, mailbox.thread_of(message)),
    })
}

/// Returns the labels that are folders.
pub(super) fn label_ids(mailbox: &GeneratedMailbox, message: MessageNumber) -> Vec<&'static str> {
    let folders = mailbox.folders(message);
    let in_folders = Folder::ALL.into_iter().filter(|folder| folders.contains(*folder));
    in_folders.filter_map(label_id).collect()
}

pub(super) fn label_id(folder: Folder) -> Option<&'static str> {
    match folder {
        Folder::Inbox => Some("INBOX"),
        Folder::Archive => None,
        Folder::Sent => Some("SENT"),
        Folder::Trash => Some("TRASH"),
    }
}

/// True if the message is unread. A request of the API does not change that.
fn is_unread(message: MessageNumber) -> bool {
    message.0.is_multiple_of(2)
}

/// Returns the id of a thread, which is that of the message that began it.
pub(super) fn thread_id(mailbox: &GeneratedMailbox, thread: ThreadNumber) -> String {
    let first = mailbox.first_message_of(thread).map(|message| mailbox.email_id(message));
    to_hex(&first.unwrap_or_default())
}

/// Returns a message without its parts.
pub(super) fn resource(mailbox: &GeneratedMailbox, message: MessageNumber) -> Value {
    let mut resource = reference(mailbox, message);
    let mut labels = label_ids(mailbox, message);
    if is_unread(message) {
        labels.push("UNREAD");
    }
    // A message without a label does not have the list.
    if !labels.is_empty() {
        resource["labelIds"] = labels.into();
    }
    resource["snippet"] = "".into();
    resource["historyId"] = history_id(0).into();
    resource["internalDate"] = format!("{}000", mailbox.received_at(message)).into();
    // An estimate is never the true size.
    resource["sizeEstimate"] = (mailbox.size(message) + 17).into();
    resource
}
