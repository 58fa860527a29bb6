//! Survey of the folders, which a poll keeps for the listing after it.

use std::cell::RefCell;
use std::time::Duration;

use tokio::time::Instant;

use crate::source::Listing;
use crate::source::imap::folders::listed_folder::FolderStatus;
use crate::source::imap::wire::FolderName;

/// Longest time for which a survey is kept. A listing follows its poll within seconds.
const AGE_MAX: Duration = Duration::from_secs(60);

/// Selected folders, and their status at one time.
#[derive(Debug, Default)]
pub(in crate::source::imap) struct FolderSurvey {
    pub(in crate::source::imap) folders: Vec<SurveyedFolder>,
    /// Selected folders whose status the server refuses.
    pub(in crate::source::imap) refused: Vec<FolderName>,
    /// Selected folder of Gmail that contains all messages, whatever their labels are.
    pub(in crate::source::imap) all_mail: Option<FolderName>,
}

/// Selected folder with its status.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::source::imap) struct SurveyedFolder {
    pub(in crate::source::imap) name: FolderName,
    pub(in crate::source::imap) status: FolderStatus,
}

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
    pub(super) fn take(&self, listing: &Listing) -> Option<FolderSurvey> {
        let kept = self.0.take()?;
        let is_usable = kept.listing == *listing && kept.made_at.elapsed() <= AGE_MAX;
        is_usable.then_some(kept.survey)
    }
}
