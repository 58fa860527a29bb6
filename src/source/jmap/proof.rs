//! The proof that a listing of everything is complete.
//!
//! What the server says of its list at the end is compared with what was listed: its total, and the
//! place of the last mail. A mailbox changes while it is listed, so that a difference proves nothing by
//! itself: it counts only as far as the changes since the listing began cannot explain it.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::engine::{Cause, Failure};
use crate::source::jmap::Jmap;
use crate::source::jmap::changes::{self, Changes};
use crate::source::jmap::filter::Filter;
use crate::source::jmap::mail;
use crate::source::jmap::place::Trail;
use crate::source::jmap::session::Session;

/// What a listing remembers for its proof.
#[derive(Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct Proof {
    /// Where the stream of changes stood before the first page.
    since: String,
    /// How many there were then, where the server said so and nothing changed meanwhile.
    announced: Option<u64>,
    /// Ids that were listed, each once.
    seen: u64,
    /// The server tells where a page is in its list, as one of them has shown.
    has_positions: bool,
}

/// What the server says of its list where that ends, all in one answer.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct End {
    pub(super) total: Option<u64>,
    /// How many there are up to the last mail.
    pub(super) index: Option<u64>,
    /// How many of the mails listed last are not there any more.
    pub(super) followers: u64,
}

/// How many mails changes must account for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Shortfall {
    /// That are there now, beyond those listed.
    there_now: u64,
    /// That were there when the listing began, beyond those listed.
    there_before: u64,
}

impl Proof {
    pub(super) fn new(since: &str) -> Self {
        Self { since: since.to_owned(), ..Self::default() }
    }

    /// Whether no page was noted yet.
    pub(super) fn is_new(&self) -> bool {
        self.seen == 0
    }

    /// Notes how many ids a page has, and where the server says that it begins.
    pub(super) fn note_page(&mut self, count: u64, index: Option<u64>) {
        self.has_positions |= 0 < self.seen && index == Some(self.seen);
        self.seen = self.seen.saturating_add(count);
    }

    /// Notes how many there are when the listing begins. What comes or goes between the two questions
    /// may be in no list of changes: then the total says nothing.
    pub(super) fn note_announced(&mut self, total: Option<u64>, state: Option<&str>) {
        self.announced = total.filter(|_| state == Some(self.since.as_str()));
    }

    /// Notes that the last so many mails are listed once more.
    pub(super) fn go_back(&mut self, count: u64) {
        self.seen = self.seen.saturating_sub(count);
    }

    /// Says why the listing cannot have ended here; `None` where it can.
    pub(super) async fn contradiction(
        &self,
        jmap: &Jmap,
        session: &Arc<Session>,
        filter: &Filter,
        end: End,
    ) -> Result<Option<String>, Failure> {
        if let Some((index, total)) = self.early_end(end) {
            return Ok(Some(ended(index, total)));
        }
        let Some(shortfall) = self.shortfall(end) else { return Ok(None) };
        let account = Account { jmap, session, filter };
        if account.explains(&self.since, shortfall).await? {
            return Ok(None);
        }
        let total = end.total.max(self.announced).unwrap_or_default();
        Ok(Some(ended(self.seen.saturating_sub(end.followers), total)))
    }

    /// Finds an end that one answer shows to be none, whatever changes.
    fn early_end(&self, end: End) -> Option<(u64, u64)> {
        let total = end.total?;
        let index = if self.is_new() { 0 } else { end.index.filter(|_| self.has_positions)? };
        (index < total).then_some((index, total))
    }

    fn shortfall(&self, end: End) -> Option<Shortfall> {
        let seen = self.seen.saturating_sub(end.followers);
        let beyond = |total: Option<u64>| total.unwrap_or_default().saturating_sub(seen);
        let shortfall =
            Shortfall { there_now: beyond(end.total), there_before: beyond(self.announced) };
        (shortfall != Shortfall { there_now: 0, there_before: 0 }).then_some(shortfall)
    }
}

fn ended(after: impl fmt::Display, total: u64) -> String {
    format!("the server's list ended after {after} of {total} mails")
}

/// Accounts for a shortfall with what has changed.
struct Account<'a> {
    jmap: &'a Jmap,
    session: &'a Arc<Session>,
    filter: &'a Filter,
}

impl Account<'_> {
    async fn explains(&self, since: &str, mut shortfall: Shortfall) -> Result<bool, Failure> {
        let page_size = self.session.page_size(self.jmap.options.page_size_max);
        let (mut state, mut trail) = (since.to_owned(), Trail::default());
        loop {
            let asked = changes::changes(self.jmap, self.session, &state, page_size).await;
            let changes = match asked {
                Ok(changes) => changes,
                // Nobody can tell what has changed.
                Err(failure) if failure.cause == Cause::CursorExpired => return Ok(false),
                Err(failure) => return Err(failure),
            };
            let (came, went) = self.balance(&changes).await?;
            shortfall.there_now = shortfall.there_now.saturating_sub(came);
            shortfall.there_before = shortfall.there_before.saturating_sub(went);
            if shortfall == (Shortfall { there_now: 0, there_before: 0 }) {
                return Ok(true);
            }
            let goes_on = changes.has_more_changes && changes.new_state != state;
            let ids = usize::try_from(came.saturating_add(went)).unwrap_or(usize::MAX);
            if !goes_on || trail.step(&changes.new_state, ids).is_err() {
                return Ok(false);
            }
            state = changes.new_state;
        }
    }

    /// How many mails may have come to the list, and how many have left it.
    async fn balance(&self, changes: &Changes) -> Result<(u64, u64), Failure> {
        let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        let came = count(changes.created.len());
        let went = count(changes.destroyed.iter().flatten().count());
        let moved: Vec<String> = changes.updated.iter().flatten().cloned().collect();
        if !self.filter.may_gain_by_moves() || moved.is_empty() {
            return Ok((came, went));
        }
        let properties = self.filter.properties();
        let found = mail::find(self.jmap, self.session, &moved, properties).await?;
        let wanted = found.emails.iter().filter(|email| self.filter.wants(email)).count();
        Ok((came + count(wanted), went + count(moved.len() - wanted)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proof(announced: Option<u64>, pages: &[(u64, Option<u64>)]) -> Proof {
        let mut proof = Proof::new("s");
        proof.note_announced(announced, Some("s"));
        pages.iter().for_each(|(count, index)| proof.note_page(*count, *index));
        proof
    }

    fn end(total: u64, index: u64) -> End {
        End { total: Some(total), index: Some(index), followers: 0 }
    }

    #[test]
    fn a_total_that_is_reached_needs_no_explanation() {
        let proof = proof(Some(8), &[(4, Some(0)), (4, Some(4))]);

        assert_eq!(proof.shortfall(end(8, 8)), None);
        assert_eq!(proof.shortfall(end(7, 7)), None, "one was deleted after it was listed");
        assert_eq!(proof.shortfall(End::default()), None);
    }

    #[test]
    fn a_total_that_is_not_reached_must_be_explained() {
        let proof = proof(Some(8), &[(4, Some(0))]);

        let there = |there_now, there_before| Some(Shortfall { there_now, there_before });
        assert_eq!(proof.shortfall(end(9, 4)), there(5, 4));
        // The total shrinks to what was listed.
        assert_eq!(proof.shortfall(end(4, 4)), there(0, 4));
    }

    #[test]
    fn a_place_before_the_end_contradicts_it_where_places_are_told() {
        let told = proof(None, &[(4, Some(0)), (4, Some(4))]);
        let not_told = proof(None, &[(4, Some(0)), (4, Some(0))]);

        assert_eq!(told.early_end(end(9, 8)), Some((8, 9)));
        assert_eq!(told.early_end(end(8, 8)), None);
        assert_eq!(not_told.early_end(end(9, 1)), None);
        assert_eq!(proof(None, &[]).early_end(end(9, 0)), Some((0, 9)), "an empty first page");
    }

    #[test]
    fn a_total_says_nothing_where_something_changed_before_it_was_told() {
        let mut proof = Proof::new("s");
        proof.note_announced(Some(8), Some("t"));

        assert_eq!(proof.shortfall(end(0, 0)), None);
    }
}
