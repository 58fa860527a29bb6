//! Folders of listed emails: the paths of their mailboxes, read once per session and listing.

use std::collections::BTreeSet;
use std::sync::Arc;

use cynosure_engine::{Failure, ListedDocument};

use crate::source::jmap::email::Email;
use crate::source::jmap::mailboxes;
use crate::source::jmap::session::JmapSession;
use crate::source::jmap::source::JmapSource;

/// Converts emails to entries of a listing, with their folders. Reads the mailboxes if one of them
/// is not known.
pub(super) async fn to_listed_documents(
    jmap: &JmapSource,
    session: &Arc<JmapSession>,
    emails: Vec<Email>,
) -> Result<Vec<ListedDocument>, Failure> {
    let mut paths = session.mailbox_paths.lock().await;
    let ids = || emails.iter().flat_map(Email::mailbox_ids);
    if ids().any(|id| !paths.contains(id)) {
        paths.limit();
        let unknown: BTreeSet<&str> = ids().filter(|id| !paths.contains(id)).collect();
        paths.extend(mailboxes::fetch_paths(jmap, session, &unknown).await?);
        paths.name_by_id(unknown);
    }
    Ok(emails.into_iter().map(|email| paths.name_folders(email)).collect())
}
