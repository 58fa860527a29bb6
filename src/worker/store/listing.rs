//! Listings of a session: what is still to be listed, and each page as it is recorded.

use cynosure_engine::{Cause, Cursor, Failure, NextPage, Session, SessionId, Timestamp};

use super::{ListingNeeds, ListingState, RecordedPage, Store};
use crate::ledger::{ListingKind, NewSession, SessionKind};
use crate::source::{Listing, Page, UnverifiedEnd};

impl Store {
    /// Returns the state of a session's listing.
    pub(in crate::worker) fn listing_state(
        &mut self,
        id: &SessionId,
        needs: ListingNeeds,
        now: Timestamp,
    ) -> Result<ListingState, Failure> {
        let relist = needs.should_relist;
        let Some(session) = self.ledger.newest_session()?.filter(|session| session.id == *id)
        else {
            let (kind, listing) = match self.ledger.cursor()?.filter(|_| !relist) {
                None => (SessionKind::Full, Listing::Full),
                Some(_) if self.is_reconcile_due(now)? => (SessionKind::Reconcile, Listing::Full),
                Some(cursor) => (SessionKind::Changes, Listing::Since(cursor)),
            };
            return Ok(ListingState::NotStarted { kind, listing });
        };
        if session.is_listing_complete {
            if !needs.should_list_changes {
                return Ok(ListingState::Complete { counts: self.ledger.session_counts()? });
            }
            return Ok(match self.ledger.cursor()?.filter(|_| !relist) {
                None => {
                    ListingState::NotStarted { kind: SessionKind::Full, listing: Listing::Full }
                }
                Some(cursor) => {
                    let listing = Listing::Since(cursor);
                    ListingState::NotStarted { kind: SessionKind::Changes, listing }
                }
            });
        }
        let listing = match session.listing {
            ListingKind::Full | ListingKind::Reconcile => Listing::Full,
            ListingKind::Changes | ListingKind::Nothing if relist => {
                let (kind, listing) = (SessionKind::Full, Listing::Full);
                return Ok(ListingState::NotStarted { kind, listing });
            }
            ListingKind::Changes | ListingKind::Nothing => match self.ledger.cursor()? {
                Some(cursor) => Listing::Since(cursor),
                None => Listing::Full,
            },
        };
        Ok(ListingState::Open { listing, page_token: session.page_token })
    }

    /// Begins the listing of a session, or another listing in the open session.
    pub(in crate::worker) fn begin_listing(
        &mut self,
        session: &Session,
        kind: SessionKind,
        start_cursor: Option<Cursor>,
        now: Timestamp,
    ) -> Result<(), Failure> {
        if self.ledger.open_session()?.is_some_and(|open| open.id == session.id) {
            return match kind {
                SessionKind::Full | SessionKind::Reconcile => {
                    self.ledger.restart_listing(start_cursor.as_ref())
                }
                SessionKind::Changes | SessionKind::Recheck => {
                    self.ledger.start_changes_listing(now)
                }
            };
        }
        let (id, started_at) = (session.id.clone(), session.started_at);
        self.ledger.begin_session(&NewSession { id, kind, started_at, start_cursor })
    }

    pub(in crate::worker) fn reset_page_token(&mut self) -> Result<(), Failure> {
        self.ledger.reset_page_token()
    }

    pub(in crate::worker) fn record_page(
        &mut self,
        page: &Page,
        now: Timestamp,
    ) -> Result<RecordedPage, Failure> {
        let to_failure = |end: &UnverifiedEnd| Failure::new(Cause::ListingIncomplete, &end.reason);
        let next = page.next.as_ref().map_err(to_failure)?;
        // Recorded first, since they belong to the pages before the page token.
        self.ledger.record_missing(&page.missing_documents, now)?;
        self.ledger.record_page(&page.entries, &page.vanished, next, now)?;
        let is_listing_complete = matches!(next, NextPage::Done(_));
        let session = self
            .ledger
            .newest_session()?
            .filter(|session| is_listing_complete && session.listing == ListingKind::Reconcile);
        let reconciled = session.map(|session| session.counts);
        Ok(RecordedPage {
            counts: self.ledger.session_counts()?,
            total: page.total_documents,
            is_listing_complete,
            reconciled,
        })
    }
}
