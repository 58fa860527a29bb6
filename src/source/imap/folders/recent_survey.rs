//! Survey of the folders that is kept from a poll for the listing after it.

use std::cell::RefCell;
use std::time::Duration;

use cynosure_engine::Failure;
use tokio::time::Instant;

use crate::source::Listing;
use crate::source::imap::connection::Connection;
use crate::source::imap::folders::{FolderSurvey, survey_folders};
use crate::source::imap::source::ImapSource;

/// Longest time for which a survey is kept. A listing follows its poll within seconds.
const AGE_MAX: Duration = Duration::from_secs(60);

/// Survey that a poll or the cursor of a listing has just made. The listing that follows begins with
/// it instead of asking again, which takes a command for each folder on some servers.
#[derive(Debug, Default)]
pub(in crate::source::imap) struct RecentSurvey(RefCell<Option<KeptSurvey>>);

#[derive(Debug)]
struct KeptSurvey {
    survey: FolderSurvey,
    made_at: Instant,
    listing: Listing,
}

impl RecentSurvey {
    /// Keeps a survey for this listing.
    pub(in crate::source::imap) fn keep(&self, survey: FolderSurvey, listing: Listing) {
        *self.0.borrow_mut() = Some(KeptSurvey { survey, made_at: Instant::now(), listing });
    }

    /// Returns the survey, once: a listing that begins again needs a new one.
    fn take(&self, listing: &Listing) -> Option<FolderSurvey> {
        let kept = self.0.take()?;
        let is_usable = kept.listing == *listing && kept.made_at.elapsed() <= AGE_MAX;
        is_usable.then_some(kept.survey)
    }
}

/// Returns the survey from which a listing starts. What arrives after it is new at the next poll.
pub(in crate::source::imap) async fn survey_for_listing(
    source: &ImapSource,
    connection: &mut Connection,
    listing: &Listing,
) -> Result<FolderSurvey, Failure> {
    match source.recent_survey.take(listing) {
        Some(survey) => Ok(survey),
        None => Box::pin(survey_folders(source, connection)).await,
    }
}
