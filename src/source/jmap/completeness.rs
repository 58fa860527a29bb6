//! Check that a full listing is complete.
//!
//! At the end, the server's total and the position of the last email are compared with the emails
//! listed. A mailbox may change during the listing, so a difference alone proves nothing: it counts
//! only as far as the changes since the start of the listing cannot explain it.

use std::fmt;
use std::sync::Arc;

use cynosure_engine::{Cause, Failure};
use serde::{Deserialize, Serialize};

use crate::source::jmap::changes::{self, ChangesResponse};
use crate::source::jmap::email_get;
use crate::source::jmap::filter::MailFilter;
use crate::source::jmap::session::JmapSession;
use crate::source::jmap::source::JmapSource;
use crate::source::page_token::{CycleDetector, EMPTY_PAGES_MAX};

/// Data that a listing collects for its completeness check.
#[derive(Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct CompletenessCheck {
    /// State of the change stream before the first page.
    #[serde(rename = "since")]
    start_state: String,
    /// Total before the first page, if the server reported it and nothing changed meanwhile.
    #[serde(rename = "announced")]
    total_at_start: Option<u64>,
    /// Number of ids listed, each counted once.
    #[serde(rename = "seen")]
    listed: u64,
    /// True once a page has shown that the server reports correct positions.
    has_positions: bool,
}

/// Data about the end of the server's list, all from one response.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct ListEnd {
    pub(super) total: Option<u64>,
    /// Number of emails up to and including the last one.
    pub(super) index: Option<u64>,
    /// Number of the emails listed last that no longer exist.
    pub(super) vanished: u64,
}

/// Numbers of emails that changes must account for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Shortfall {
    /// Emails that exist now, beyond those listed.
    at_end: u64,
    /// Emails that existed when the listing started, beyond those listed.
    at_start: u64,
}

impl CompletenessCheck {
    pub(super) fn new(start_state: &str) -> Self {
        Self { start_state: start_state.to_owned(), ..Self::default() }
    }

    /// True if no page has been recorded yet.
    pub(super) fn is_first_page(&self) -> bool {
        self.listed == 0
    }

    /// Records the number of ids of a page, and the server's position of its start.
    pub(super) fn record_page(&mut self, count: u64, index: Option<u64>) {
        self.has_positions |= 0 < self.listed && index == Some(self.listed);
        self.listed = self.listed.saturating_add(count);
    }

    /// Records the total at the start of the listing. Ignores it if the state has changed since,
    /// because changes between the two requests may be in no list of changes.
    pub(super) fn record_initial_total(&mut self, total: Option<u64>, state: Option<&str>) {
        self.total_at_start = total.filter(|_| state == Some(self.start_state.as_str()));
    }

    /// Subtracts the last `count` emails, which are listed once more.
    pub(super) fn rewind(&mut self, count: u64) {
        self.listed = self.listed.saturating_sub(count);
    }

    /// Returns the reason why the listing cannot have ended here; `None` if it can.
    pub(super) async fn find_contradiction(
        &self,
        jmap: &JmapSource,
        session: &Arc<JmapSession>,
        filter: &MailFilter,
        end: ListEnd,
    ) -> Result<Option<String>, Failure> {
        if let Some((index, total)) = self.find_early_end(end) {
            return Ok(Some(early_end_message(index, total)));
        }
        let Some(shortfall) = self.shortfall(end) else { return Ok(None) };
        let check = ShortfallCheck { jmap, session, filter };
        if check.is_explained(&self.start_state, shortfall).await? {
            return Ok(None);
        }
        let total = end.total.max(self.total_at_start).unwrap_or_default();
        Ok(Some(early_end_message(self.listed.saturating_sub(end.vanished), total)))
    }

    /// Returns position and total if one response alone shows, regardless of changes, that this is
    /// not the end.
    fn find_early_end(&self, end: ListEnd) -> Option<(u64, u64)> {
        let total = end.total?;
        let index =
            if self.is_first_page() { 0 } else { end.index.filter(|_| self.has_positions)? };
        (index < total).then_some((index, total))
    }

    fn shortfall(&self, end: ListEnd) -> Option<Shortfall> {
        let listed = self.listed.saturating_sub(end.vanished);
        let unlisted = |total: Option<u64>| total.unwrap_or_default().saturating_sub(listed);
        let shortfall =
            Shortfall { at_end: unlisted(end.total), at_start: unlisted(self.total_at_start) };
        (shortfall != Shortfall { at_end: 0, at_start: 0 }).then_some(shortfall)
    }
}

fn early_end_message(after: impl fmt::Display, total: u64) -> String {
    format!("the server's list ended after {after} of {total} messages")
}

/// Check whether changes explain a shortfall.
struct ShortfallCheck<'a> {
    jmap: &'a JmapSource,
    session: &'a Arc<JmapSession>,
    filter: &'a MailFilter,
}

impl ShortfallCheck<'_> {
    async fn is_explained(
        &self,
        start_state: &str,
        mut shortfall: Shortfall,
    ) -> Result<bool, Failure> {
        let page_size = self.session.page_size(self.jmap.options.page_size_max);
        let (mut state, mut detector) = (start_state.to_owned(), CycleDetector::default());
        loop {
            let result = changes::fetch_changes(self.jmap, self.session, &state, page_size).await;
            let changes = match result {
                Ok(changes) => changes,
                // The server no longer knows the changes.
                Err(failure) if failure.cause == Cause::CursorExpired => return Ok(false),
                Err(failure) => return Err(failure),
            };
            let (added, removed) = self.count_changes(&changes).await?;
            shortfall.at_end = shortfall.at_end.saturating_sub(added);
            shortfall.at_start = shortfall.at_start.saturating_sub(removed);
            if shortfall == (Shortfall { at_end: 0, at_start: 0 }) {
                return Ok(true);
            }
            let has_more = changes.has_more_changes && changes.new_state != state;
            let ids = usize::try_from(added.saturating_add(removed)).unwrap_or(usize::MAX);
            if !has_more || detector.step(&changes.new_state, ids, EMPTY_PAGES_MAX).is_err() {
                return Ok(false);
            }
            state = changes.new_state;
        }
    }

    /// Returns how many emails may have been added to the list, and how many removed from it.
    async fn count_changes(&self, changes: &ChangesResponse) -> Result<(u64, u64), Failure> {
        let to_u64 = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        let added = to_u64(changes.created.len());
        let removed = to_u64(changes.destroyed.iter().flatten().count());
        let moved: Vec<String> = changes.updated.iter().flatten().cloned().collect();
        if !self.filter.can_match_later() || moved.is_empty() {
            return Ok((added, removed));
        }
        let properties = self.filter.required_properties();
        let found = email_get::find_emails(self.jmap, self.session, &moved, properties).await?;
        let matching = found.emails.iter().filter(|email| self.filter.matches(email)).count();
        Ok((added + to_u64(matching), removed + to_u64(moved.len() - matching)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_after(total_at_start: Option<u64>, pages: &[(u64, Option<u64>)]) -> CompletenessCheck {
        let mut check = CompletenessCheck::new("s");
        check.record_initial_total(total_at_start, Some("s"));
        pages.iter().for_each(|(count, index)| check.record_page(*count, *index));
        check
    }

    fn list_end(total: u64, index: u64) -> ListEnd {
        ListEnd { total: Some(total), index: Some(index), vanished: 0 }
    }

    #[test]
    fn a_reached_total_has_no_shortfall() {
        let check = check_after(Some(8), &[(4, Some(0)), (4, Some(4))]);

        assert_eq!(check.shortfall(list_end(8, 8)), None);
        assert_eq!(check.shortfall(list_end(7, 7)), None, "one was deleted after it was listed");
        assert_eq!(check.shortfall(ListEnd::default()), None);
    }

    #[test]
    fn an_unreached_total_is_a_shortfall() {
        let check = check_after(Some(8), &[(4, Some(0))]);

        let shortfall = |at_end, at_start| Some(Shortfall { at_end, at_start });
        assert_eq!(check.shortfall(list_end(9, 4)), shortfall(5, 4));
        // The total shrinks to the number listed.
        assert_eq!(check.shortfall(list_end(4, 4)), shortfall(0, 4));
    }

    #[test]
    fn an_early_position_contradicts_the_end_where_reported() {
        let reporting = check_after(None, &[(4, Some(0)), (4, Some(4))]);
        let not_reporting = check_after(None, &[(4, Some(0)), (4, Some(0))]);

        assert_eq!(reporting.find_early_end(list_end(9, 8)), Some((8, 9)));
        assert_eq!(reporting.find_early_end(list_end(8, 8)), None);
        assert_eq!(not_reporting.find_early_end(list_end(9, 1)), None);
        assert_eq!(
            check_after(None, &[]).find_early_end(list_end(9, 0)),
            Some((0, 9)),
            "an empty first page"
        );
    }

    #[test]
    fn a_total_of_another_state_is_ignored() {
        let mut check = CompletenessCheck::new("s");
        check.record_initial_total(Some(8), Some("t"));

        assert_eq!(check.shortfall(list_end(0, 0)), None);
    }
}
