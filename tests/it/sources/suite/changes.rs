//! Listings of changes since a cursor.

use std::collections::BTreeSet;

use cynosure::source::{Listing, PollResult, Source as _};
use cynosure_engine::{Cause, DocumentId, ErrorAction, ListedDocument, RequestScope};

use super::extraction::{
    assert_same_contents, assert_verdict, fetch_all, list_since, list_with_cursor,
};
use super::options::SourceOptions;
use super::rig::{Rig, Unsupported};

const DOCUMENTS: usize = 25;

pub(crate) async fn new_documents_are_listed_since_the_cursor<R: Rig>() -> Result<(), Unsupported> {
    let rig = R::start(DOCUMENTS).await?;
    let source = rig.source(&SourceOptions::new(R::SECRET));
    let (mut listing, cursor) = list_with_cursor(&source).await;
    assert_eq!(source.poll_changes(&cursor).await, Ok(PollResult::Unchanged));

    rig.deliver(5)?;
    assert_eq!(source.poll_changes(&cursor).await, Ok(PollResult::Changed));
    let mut changes = list_since(&source, cursor).await;

    let (old, new) = (ids(&listing.entries), ids(&changes.entries));
    let repeated = old.intersection(&new).count();
    assert!(R::LISTS_PAGES_AGAIN || repeated == 0, "a document without changes is listed again");
    let new_cursor = changes.cursor.expect("a listing of changes ends with a cursor");
    assert_eq!(source.poll_changes(&new_cursor).await, Ok(PollResult::Unchanged));
    listing.entries.append(&mut changes.entries);
    assert_same_contents(&fetch_all(&source, &listing.documents()).await, &rig.contents());
    Ok(())
}

pub(crate) async fn an_expired_cursor_leads_to_a_full_listing<R: Rig>() -> Result<(), Unsupported> {
    let rig = R::start(DOCUMENTS).await?;
    let source = rig.source(&SourceOptions::new(R::SECRET));
    let cursor = source.current_cursor().await.expect("the server has a state");
    rig.expire_cursors()?;

    let polled = source.poll_changes(&cursor).await.expect_err("the cursor is no longer valid");
    let listed = source.list_page(&Listing::Since(cursor), None).await;
    let listed = listed.expect_err("the cursor is no longer valid");

    for failure in [polled, listed] {
        let (scope, action) = (RequestScope::Listing, ErrorAction::FullResync);
        assert_verdict(&failure, Cause::CursorExpired, scope, action);
    }
    let (listing, new_cursor) = list_with_cursor(&source).await;
    assert_same_contents(&fetch_all(&source, &listing.documents()).await, &rig.contents());
    assert_eq!(source.poll_changes(&new_cursor).await, Ok(PollResult::Unchanged));
    Ok(())
}

pub(crate) async fn a_renumbered_folder_is_listed_again<R: Rig>() -> Result<(), Unsupported> {
    let rig = R::start(DOCUMENTS).await?;
    let source = rig.source(&SourceOptions::new(R::SECRET));
    let cursor = source.current_cursor().await.expect("the server has a state");

    rig.renumber_folders()?;
    assert_eq!(source.poll_changes(&cursor).await, Ok(PollResult::Changed));
    let changes = list_since(&source, cursor).await;

    assert_same_contents(&fetch_all(&source, &changes.documents()).await, &rig.contents());
    let new_cursor = changes.cursor.expect("a listing of changes ends with a cursor");
    assert_eq!(source.poll_changes(&new_cursor).await, Ok(PollResult::Unchanged));
    Ok(())
}

fn ids(entries: &[ListedDocument]) -> BTreeSet<&DocumentId> {
    entries.iter().map(|entry| &entry.document).collect()
}
