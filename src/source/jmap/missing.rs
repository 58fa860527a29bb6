//! Mails that a listing names and the server then does not find: asked for once more, later.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::engine::{DocumentId, Failure};
use crate::source::jmap::JmapSource;
use crate::source::jmap::mail::{self, Email};
use crate::source::jmap::session::JmapSession;

/// As many ids are carried along in the place of a listing, which is written down with each page. When
/// there are more, they are asked for at once.
const DEFERRED_IDS_MAX: usize = 500;

/// The ids of mails that are asked for once more when the listing has ended.
#[derive(Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(transparent)]
pub(super) struct MissingIds(BTreeSet<String>);

/// When a listing asks for what it did not find.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum RefetchTiming {
    /// Later, as long as there are not too many.
    Later,
    /// The listing has ended.
    Now,
}

impl MissingIds {
    /// Notes what a page named in vain, and asks for all of it once more when it is time. Returns what
    /// was found then, and what was not.
    pub(super) async fn refetch(
        &mut self,
        jmap: &JmapSource,
        session: &Arc<JmapSession>,
        named: Vec<String>,
        properties: &[&str],
        asking: RefetchTiming,
    ) -> Result<(Vec<Email>, Vec<DocumentId>), Failure> {
        self.0.extend(named);
        let is_time = asking == RefetchTiming::Now || DEFERRED_IDS_MAX < self.0.len();
        if self.0.is_empty() || !is_time {
            return Ok((Vec::new(), Vec::new()));
        }
        let ids: Vec<String> = std::mem::take(&mut self.0).into_iter().collect();
        let found = mail::find_emails(jmap, session, &ids, properties).await?;
        Ok((found.emails, found.missing.into_iter().map(DocumentId::new).collect()))
    }
}
