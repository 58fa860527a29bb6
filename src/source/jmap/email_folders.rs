//! Folders of listed emails: the paths of their mailboxes, read once per session and listing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cynosure_engine::{Failure, ListedDocument};
use tracing::warn;

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
        if !jmap.has_refused_mailboxes.get() {
            paths.extend(read_paths(jmap, session, &unknown).await?);
        }
        paths.name_by_id(unknown);
    }
    Ok(emails.into_iter().map(|email| paths.name_folders(email)).collect())
}

/// Reads the paths of mailboxes. There are none if the server refuses to list them: they are for
/// people and exports, and must not keep email from being stored.
async fn read_paths(
    jmap: &JmapSource,
    session: &Arc<JmapSession>,
    ids: &BTreeSet<&str>,
) -> Result<BTreeMap<String, String>, Failure> {
    match mailboxes::fetch_paths(jmap, session, ids).await {
        Err(error) if error.is_refusal() => {
            warn!(
                source = jmap.options.name,
                error = %error.failure,
                "folders are named by their ids until the next full listing, because the server \
                 refuses to list the mailboxes"
            );
            jmap.has_refused_mailboxes.set(true);
            Ok(BTreeMap::new())
        }
        result => Ok(result?),
    }
}
