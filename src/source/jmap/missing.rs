//! Emails that the server lists but does not find; they are requested once more, later.

use std::collections::BTreeSet;
use std::sync::Arc;

use cynosure_engine::{DocumentId, Failure};
use serde::{Deserialize, Serialize};

use crate::source::jmap::email::Email;
use crate::source::jmap::email_get;
use crate::source::jmap::session::JmapSession;
use crate::source::jmap::source::JmapSource;

/// Maximum number of ids kept in the page token, which is stored with each page. When there are
/// more, they are requested at once.
const DEFERRED_IDS_MAX: usize = 500;

/// Ids of emails to request once more when the listing has ended.
#[derive(Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(transparent)]
pub(super) struct MissingIds(BTreeSet<String>);

/// Time of the second request for missing emails.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum RefetchTiming {
    /// Later, unless there are too many.
    Later,
    /// Now, because the listing has ended.
    Now,
}

impl MissingIds {
    /// Adds a page's missing ids, and requests all of them once more when that is due. Returns the
    /// emails found then, and the ids that are still missing.
    pub(super) async fn refetch(
        &mut self,
        jmap: &JmapSource,
        session: &Arc<JmapSession>,
        new_ids: Vec<String>,
        properties: &[&str],
        timing: RefetchTiming,
    ) -> Result<(Vec<Email>, Vec<DocumentId>), Failure> {
        self.0.extend(new_ids);
        let is_due = timing == RefetchTiming::Now || DEFERRED_IDS_MAX < self.0.len();
        if self.0.is_empty() || !is_due {
            return Ok((Vec::new(), Vec::new()));
        }
        let ids: Vec<String> = std::mem::take(&mut self.0).into_iter().collect();
        let found = email_get::find_emails(jmap, session, &ids, properties).await?;
        Ok((found.emails, found.missing.into_iter().map(DocumentId::new).collect()))
    }
}
