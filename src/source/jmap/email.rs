//! Email with the properties that a listing needs (RFC 8621 §4.1).

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use cynosure_engine::{BlobId, DocumentId, ItemId, ListedDocument};
use serde::Deserialize;
use serde::de::IgnoredAny;

/// Properties needed for a listed document.
pub(super) const LIST_PROPERTIES: &[&str] = &["id", "blobId", "threadId", "size", "mailboxIds"];
/// The same properties, and those that a filter needs.
pub(super) const FILTER_PROPERTIES: &[&str] =
    &["id", "blobId", "threadId", "size", "mailboxIds", "receivedAt"];

/// Email with the properties that a listing needs.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Email {
    pub(super) id: String,
    blob_id: String,
    thread_id: String,
    size: Option<u64>,
    /// Any values, because a wrong one must not hide the email.
    mailbox_ids: Option<BTreeMap<String, IgnoredAny>>,
    received_at: Option<String>,
}

impl Email {
    /// Returns true if the email is in one of the mailboxes.
    pub(super) fn is_in_any(&self, mailboxes: &[String]) -> bool {
        let is_in = |id: &String| self.mailbox_ids.as_ref().is_some_and(|ids| ids.contains_key(id));
        mailboxes.iter().any(is_in)
    }

    /// Returns the ids of the mailboxes that contain the email.
    pub(super) fn mailbox_ids(&self) -> impl Iterator<Item = &str> {
        self.mailbox_ids.iter().flatten().map(|(id, _)| id.as_str())
    }

    /// Returns the time of receipt; `None` if it is missing or invalid.
    pub(super) fn received_at(&self) -> Option<DateTime<Utc>> {
        self.received_at.as_ref()?.parse().ok()
    }

    /// Converts the email to an entry of a listing, without folders.
    pub(super) fn into_listed_document(self) -> ListedDocument {
        let (item, document) = (ItemId::new(self.thread_id), DocumentId::new(self.id));
        let entry = ListedDocument::new(item, document, BlobId::new(self.blob_id));
        ListedDocument { size: self.size, ..entry }
    }
}
