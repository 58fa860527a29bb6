//! Changes since a cursor: new messages in folders, and new folders.
//!
//! Changed flags and deletions are none. No folder is opened for a poll.

use cynosure_engine::{Cursor, Failure, PageToken};

use crate::source::imap::cursor::ImapCursor;
use crate::source::imap::folders::{survey_folders, survey_for_listing};
use crate::source::imap::listing::{self, ListingPosition};
use crate::source::imap::source::ImapSource;
use crate::source::{Listing, Page, PollResult};

/// Returns the current cursor.
pub(super) async fn current_cursor(source: &ImapSource) -> Result<Cursor, Failure> {
    let mut connection = source.connect().await?;
    let survey = survey_folders(source, &mut connection).await?;
    let cursor = ImapCursor::new(&survey).to_cursor();
    source.recent_survey.keep(survey, Listing::Full);
    Ok(cursor)
}

/// Checks whether a folder has messages that were added since the cursor.
pub(super) async fn poll_changes(
    source: &ImapSource,
    cursor: &Cursor,
) -> Result<PollResult, Failure> {
    let listing = Listing::Since(cursor.clone());
    let cursor = ImapCursor::parse(cursor)?;
    let mut connection = source.connect().await?;
    let survey = survey_folders(source, &mut connection).await?;
    let has_changes =
        survey.folders.iter().any(|folder| cursor.is_outdated(&folder.name, &folder.status));
    if !has_changes {
        return Ok(PollResult::Unchanged);
    }
    source.recent_survey.keep(survey, listing);
    Ok(PollResult::Changed)
}

/// Returns the page after `token` of a listing of changes; the first page starts at `cursor`.
pub(super) async fn list_page(
    source: &ImapSource,
    cursor: &Cursor,
    token: Option<&PageToken>,
) -> Result<Page, Failure> {
    let listing = Listing::Since(cursor.clone());
    let cursor = ImapCursor::parse(cursor)?;
    let mut connection = source.connect().await?;
    let position = match listing::resume(source, token) {
        Some(position) => position,
        None => {
            let survey = survey_for_listing(source, &mut connection, &listing).await?;
            ListingPosition::of_changes(&survey, &cursor)
        }
    };
    listing::list_from(source, &mut connection, position).await
}
