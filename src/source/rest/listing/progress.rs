//! Progress in a list: the place of the next page, and guards against lists that move or do not
//! end.

use cynosure_engine::rest::{
    LinkOrigin, PageRule, Paging, RowError, RowListing, TableName, scalar_text,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::source::page_token::{CycleDetector, EMPTY_PAGES_MAX};
use crate::source::rest::again::KNOWN_ROWS_MAX;
use crate::source::rest::call::RestResponse;
use crate::source::rest::listing::pages::{ListError, ListPage, PagePlace};
use crate::source::rest::listing::passes::{ListPasses, PassVerdict, RowHash, RowHashes};

/// Maximum number of consecutive pages without rows, where the profile does not say that they are
/// normal. Some servers remove rows from a page that they have filled already.
const UNEXPECTED_EMPTY_PAGES_MAX: u64 = 100;

/// Rows of the page before that are compared with a page, counted from its end.
const PREVIOUS_ROWS_MAX: usize = 200;

/// Maximum number of times in a row that a list is read from an earlier page because it has moved.
const STEPS_BACK_MAX: u32 = 3;

/// Maximum number of rows on pages in a row that repeat the page before. A page may do so if as many
/// rows as it has arrive between two requests; that many never arrive.
const REPEATED_ROWS_MAX: usize = 1_000;

/// Maximum number of times that a list begins again, because the server no longer accepts the place
/// or the list has moved. If it keeps happening, the listing fails.
const RESTARTS_MAX: u32 = 3;

/// Progress in a list, as a page token stores it.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub(in crate::source::rest) struct ListProgress {
    #[serde(skip_serializing_if = "is_default")]
    pub(in crate::source::rest) place: PagePlace,
    /// True once the last page of a pass is read.
    #[serde(skip_serializing_if = "is_default")]
    pub(in crate::source::rest) has_ended: bool,
    /// True if the page before was short, and the list is read on because it lacks documents.
    #[serde(skip_serializing_if = "is_default")]
    is_past_short_page: bool,
    #[serde(skip_serializing_if = "is_default")]
    restarts: u32,
    #[serde(skip_serializing_if = "is_default")]
    cycle_detector: CycleDetector,
    /// Hash of the rows of the page before.
    #[serde(skip_serializing_if = "is_default")]
    page: Option<RowHash>,
    #[serde(skip_serializing_if = "is_default")]
    repeated_rows: usize,
    /// Rows of the page before, if they are compared with the next one.
    #[serde(skip_serializing_if = "is_default")]
    previous: RowHashes,
    #[serde(skip_serializing_if = "is_default")]
    steps_back: u32,
    #[serde(skip_serializing_if = "is_default")]
    pub(super) passes: ListPasses,
    #[serde(skip_serializing_if = "is_default")]
    pub(in crate::source::rest) found: FoundRows,
}

/// Rows that a pass has found, as far as the next cursor needs them.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub(in crate::source::rest) struct FoundRows {
    /// First rows of the list.
    #[serde(skip_serializing_if = "is_default")]
    pub(super) newest: RowHashes,
    /// Sum of the hashes of all rows.
    #[serde(skip_serializing_if = "is_default")]
    pub(in crate::source::rest) sum: u64,
    /// Position in the stream of changes that a page reported last.
    #[serde(skip_serializing_if = "is_default")]
    pub(super) stream_position: Option<String>,
}

impl FoundRows {
    /// Records a row. The first ones are kept as the newest, if the cursor needs them.
    pub(in crate::source::rest) fn record(&mut self, row: RowHash, keeps_newest: bool) {
        self.sum = row.add_to(self.sum);
        if keeps_newest {
            self.newest.push(row, KNOWN_ROWS_MAX);
        }
    }

    /// Removes a row, so that it is new later.
    pub(super) fn forget(&mut self, row: RowHash) {
        self.sum = row.subtract_from(self.sum);
        self.newest.remove(row);
    }
}

impl ListProgress {
    /// Returns the start of a list whose end could not be verified before.
    pub(super) fn retried() -> Self {
        Self { passes: ListPasses::retried(), ..Self::default() }
    }

    /// Reads a page, and finds the place of the next one.
    ///
    /// Returns `None` for a page that does not continue the list, because rows before it were
    /// removed. The list is then read from an earlier page.
    ///
    /// # Errors
    /// The response does not agree with the profile, or the list does not end. The progress is void
    /// then.
    pub(in crate::source::rest) fn read_page<'v>(
        &mut self,
        table: TableName,
        listing: &RowListing,
        response: &'v RestResponse,
    ) -> Result<Option<ListPage<'v>>, ListError> {
        let rule = &listing.page;
        let mut page = ListPage::read(table, &listing.rows, response)?;
        page.new_ids.retain(|id| !self.previous.contains(*id));
        if self.has_moved(rule, &page) {
            return if self.step_back(rule) { Ok(None) } else { Err(ListError::Unstable) };
        }
        let next = self.following(table, rule, &page, response)?;
        self.check_repetition(table, rule, &page)?;
        let new_rows: Vec<RowHash> =
            page.ids.iter().copied().filter(|id| page.new_ids.contains(id)).collect();
        self.passes.record_page(&new_rows, self.place == PagePlace::First);
        self.is_past_short_page = next.is_some() && is_short(&rule.paging, page.ids.len());
        self.steps_back = 0;
        self.previous = if has_overlap(rule) || self.passes.reads_past_short_pages() {
            RowHashes::last(&page.ids, PREVIOUS_ROWS_MAX)
        } else {
            RowHashes::default()
        };
        match next {
            Some(next) => {
                self.check_advance(table, rule, &page, &next)?;
                self.place = next;
            }
            None => self.has_ended = true,
        }
        Ok(Some(page))
    }

    /// Ends a pass over all rows of a list, and begins the next one if it is needed.
    pub(super) fn finish_pass(&mut self, rule: &PageRule) -> PassVerdict {
        let needs_two_passes = matches!(rule.paging, Paging::Offset { needs_two_passes: true, .. });
        let verdict = self.passes.finish_pass(needs_two_passes);
        if verdict == PassVerdict::Repeat {
            let passes = std::mem::take(&mut self.passes);
            *self = Self { restarts: self.restarts, passes, ..Self::default() };
        }
        verdict
    }

    /// Begins again with the first page. Returns false, and changes nothing, if that was done too
    /// often.
    #[must_use]
    pub(super) fn restart(&mut self) -> bool {
        if RESTARTS_MAX <= self.restarts {
            return false;
        }
        let (restarts, passes) = (self.restarts + 1, self.passes.restarted());
        *self = Self { restarts, passes, ..Self::default() };
        true
    }

    /// Ends a list at a page that the server refuses, if the page before may have been its last.
    /// Returns false, and changes nothing, if it was not.
    #[must_use]
    pub(super) fn end_at_refusal(&mut self) -> bool {
        self.has_ended |= self.is_past_short_page;
        self.is_past_short_page
    }

    /// Returns to an earlier page. Begins again if that does not help; false if it did so too
    /// often.
    fn step_back(&mut self, rule: &PageRule) -> bool {
        match (&rule.paging, &self.place) {
            (Paging::Offset { size, .. }, PagePlace::Offset(offset))
                if self.steps_back < STEPS_BACK_MAX =>
            {
                self.place = PagePlace::Offset(offset.saturating_sub(u64::from(*size)));
                self.steps_back += 1;
                true
            }
            _ => self.restart(),
        }
    }

    /// True if a page has no row of the page before, although it should begin with the last ones of
    /// that. At the start of the list nothing is left out.
    fn has_moved(&self, rule: &PageRule, page: &ListPage<'_>) -> bool {
        let is_within = matches!(self.place, PagePlace::Offset(offset) if 0 < offset);
        let has_known_row = page.ids.iter().any(|id| self.previous.contains(*id));
        has_overlap(rule) && is_within && !self.previous.is_empty() && !has_known_row
    }

    /// Returns the place of the next page; `None` after the last one.
    fn following(
        &self,
        table: TableName,
        rule: &PageRule,
        page: &ListPage<'_>,
        response: &RestResponse,
    ) -> Result<Option<PagePlace>, RowError> {
        Ok(match &rule.paging {
            Paging::Single => None,
            Paging::Token { from, .. } => {
                let value = from.first(&response.body);
                place_text(table, from.as_str(), value)?.map(PagePlace::Token)
            }
            Paging::Link { from: LinkOrigin::Body(from) } => {
                let value = from.first(&response.body);
                place_text(table, from.as_str(), value)?.map(PagePlace::Link)
            }
            Paging::Link { from: LinkOrigin::Header } => {
                response.next_link.clone().map(PagePlace::Link)
            }
            Paging::Offset { .. } | Paging::Number { .. } | Paging::Anchor { .. }
                if self.is_last(&rule.paging, page) =>
            {
                None
            }
            Paging::Offset { overlap, .. } => {
                let offset = if let PagePlace::Offset(offset) = self.place { offset } else { 0 };
                let overlap = usize::try_from(*overlap).unwrap_or(usize::MAX);
                let step = page.ids.len().saturating_sub(overlap).max(1);
                let step = u64::try_from(step).unwrap_or(u64::MAX);
                Some(PagePlace::Offset(offset.saturating_add(step)))
            }
            Paging::Number { first, .. } => {
                let number =
                    if let PagePlace::Number(number) = self.place { number } else { *first };
                Some(PagePlace::Number(number.saturating_add(1)))
            }
            Paging::Anchor { from, .. } => {
                let value = page.last_row.and_then(|row| from.first(row));
                let anchor = place_text(table, from.as_str(), value)?.ok_or_else(|| {
                    RowError(format!(
                        "`[{}] page.from` = {:?} selects nothing in the last row of a page",
                        table.name(),
                        from.as_str()
                    ))
                })?;
                Some(PagePlace::Anchor(anchor))
            }
        })
    }

    /// True for the last page of a list that is addressed by positions: one without rows, or with
    /// fewer than requested. If the pass before lacked documents, such a page must bring nothing
    /// new: the server may return fewer rows than requested.
    fn is_last(&self, paging: &Paging, page: &ListPage<'_>) -> bool {
        let is_end = page.new_ids.is_empty() || !self.passes.reads_past_short_pages();
        page.ids.is_empty() || (is_short(paging, page.ids.len()) && is_end)
    }

    /// Checks that the server does not return one page for every place.
    fn check_repetition(
        &mut self,
        table: TableName,
        rule: &PageRule,
        page: &ListPage<'_>,
    ) -> Result<(), RowError> {
        match rule.paging {
            Paging::Offset { .. } | Paging::Number { .. } | Paging::Anchor { .. } => {}
            Paging::Single | Paging::Token { .. } | Paging::Link { .. } => return Ok(()),
        }
        // A server may return the same rows in another order each time.
        let mut ids = page.ids.clone();
        ids.sort_unstable();
        let hash = Some(RowHash::of_rows(&ids)).filter(|_| !ids.is_empty());
        let is_repeated = hash.is_some() && hash == self.page;
        let repeated_rows = self.repeated_rows.saturating_add(page.ids.len());
        self.repeated_rows = if is_repeated { repeated_rows } else { 0 };
        self.page = hash;
        if REPEATED_ROWS_MAX < self.repeated_rows {
            return Err(RowError(format!(
                "`[{}] page`: the server returns the same rows for every page, as if it did not \
                 know the parameter",
                table.name()
            )));
        }
        Ok(())
    }

    /// Checks that the list does not lead to a place of before, and has rows from time to time.
    fn check_advance(
        &mut self,
        table: TableName,
        rule: &PageRule,
        page: &ListPage<'_>,
        next: &PagePlace,
    ) -> Result<(), RowError> {
        let place = match next {
            PagePlace::Token(text) | PagePlace::Link(text) | PagePlace::Anchor(text) => text,
            PagePlace::First | PagePlace::Offset(_) | PagePlace::Number(_) => return Ok(()),
        };
        let empty_pages_max =
            if rule.may_be_empty { EMPTY_PAGES_MAX } else { UNEXPECTED_EMPTY_PAGES_MAX };
        // A place may be a long text, and the detector keeps it in the page token.
        let place = RowHash::of(&[place]).to_hex();
        self.cycle_detector
            .step(&place, page.ids.len(), empty_pages_max)
            .map_err(|failure| RowError(format!("`[{}] page`: {}", table.name(), failure.message)))
    }
}

/// True for a value that a page token need not contain.
pub(super) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn has_overlap(rule: &PageRule) -> bool {
    matches!(rule.paging, Paging::Offset { overlap, .. } if 0 < overlap)
}

/// True if a page has fewer rows than requested.
fn is_short(paging: &Paging, count: usize) -> bool {
    let size = match paging {
        Paging::Offset { size, .. } => Some(*size),
        Paging::Number { size, .. } | Paging::Anchor { size, .. } => *size,
        Paging::Single | Paging::Token { .. } | Paging::Link { .. } => None,
    };
    size.is_some_and(|size| count < usize::try_from(size).unwrap_or(usize::MAX))
}

/// Returns the text of a token, a link or an anchor. An empty text and `false` are none.
fn place_text(
    table: TableName,
    path: &str,
    value: Option<&Value>,
) -> Result<Option<String>, RowError> {
    let Some(value) = value.filter(|value| **value != Value::Bool(false)) else { return Ok(None) };
    match scalar_text(value) {
        Some(text) => Ok(Some(text).filter(|text| !text.is_empty())),
        None => Err(RowError(format!(
            "`[{}] page.from` = {path:?} selects a value that is neither a text nor a whole number",
            table.name()
        ))),
    }
}
