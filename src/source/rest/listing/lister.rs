//! Decisions of a listing: the next request, and what its response means.
//!
//! Nothing is sent here. All that must survive a restart is in the position.

use std::collections::BTreeSet;

use cynosure_engine::rest::{PartsTable, RowError, RowListing, TableName, scalar_text};
use cynosure_engine::{Cursor, ListedDocument, PageToken};
use tracing::warn;

use crate::source::rest::again::{has_only_known_rows, newest_rows};
use crate::source::rest::call::RestResponse;
use crate::source::rest::cursor::{ChangeMethod, ChangePosition, part_key};
use crate::source::rest::listing::context::{ListingContext, RowOrigin};
use crate::source::rest::listing::documents::{
    PendingItem, document_of_item, document_of_row, hash_row,
};
use crate::source::rest::listing::pages::{
    ListError, ListPage, PagePlace, PageRequest, whole_number,
};
use crate::source::rest::listing::passes::{PASSES_MAX, PassVerdict, RowHash, TotalShortfall};
use crate::source::rest::listing::position::{QueuedPart, RestPosition, RestStage};
use crate::source::rest::parts::{PARTS_MAX, no_part, too_many_parts};

/// Page that is being listed.
pub(super) struct Lister<'a> {
    pub(super) context: ListingContext<'a>,
    pub(super) position: RestPosition,
    entries: Vec<ListedDocument>,
}

/// Next step of a listing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ListerStep {
    Request,
    /// The end of a list cannot be verified.
    Unverified,
    Finished,
}

impl<'a> Lister<'a> {
    /// Begins a page after a token. Without one, and with one of another profile, the listing
    /// begins.
    pub(super) fn resume(context: ListingContext<'a>, token: Option<&PageToken>) -> Self {
        context.seen_items.borrow_mut().resume(token);
        let position =
            RestPosition::decode(token, context.profile).unwrap_or_else(|| context.start());
        Self { context, position, entries: Vec::new() }
    }

    /// Does all that needs no request, and returns the next step.
    pub(super) fn next_step(&mut self) -> ListerStep {
        loop {
            if self.position.is_contradicted() {
                return ListerStep::Unverified;
            }
            if !self.position.pending.is_empty() {
                return ListerStep::Request;
            }
            if self.position.progress.has_ended {
                if !self.position.pending.retry_deferred() {
                    self.finish_list();
                }
                continue;
            }
            match self.position.stage {
                RestStage::Rows if self.position.parts.is_empty() => {
                    if !self.context.needs_sweep() {
                        return ListerStep::Finished;
                    }
                    self.position.begin_list(RestStage::Sweep);
                }
                RestStage::Parts | RestStage::Rows | RestStage::Sweep => {
                    return ListerStep::Request;
                }
                RestStage::Swept => return ListerStep::Finished,
            }
        }
    }

    pub(super) fn has_documents(&self) -> bool {
        !self.entries.is_empty()
    }

    /// True if no item of the page waits for its documents.
    pub(super) fn is_page_complete(&self) -> bool {
        self.position.pending.is_empty()
    }

    /// Returns the next request, and the place of its page.
    pub(super) fn request(&self) -> (PageRequest<'_>, &PagePlace) {
        let (tables, position) = (self.context.tables(), &self.position);
        let part = position.part_id();
        if let (Some(item), Some(documents)) = (position.pending.first(), &tables.documents) {
            let request = PageRequest::new(TableName::Documents, documents);
            let request = PageRequest { part, item: Some(&item.id), ..request };
            return (request, &position.pending.progress.place);
        }
        let request = match (position.stage, &tables.parts, &tables.sweep) {
            (RestStage::Parts, Some(parts), _) => {
                PageRequest::new(TableName::Parts, &parts.listing)
            }
            (RestStage::Sweep, _, Some(sweep)) => {
                PageRequest::new(TableName::Sweep, &sweep.listing)
            }
            (RestStage::Parts | RestStage::Rows | RestStage::Sweep | RestStage::Swept, _, _) => {
                let origin = self.row_origin();
                let (table, listing) = self.context.row_table(origin);
                let since = self.context.since().filter(|_| origin == RowOrigin::Changes);
                let cursor = since.and_then(|since| since.stream_position(part));
                PageRequest { part, cursor, ..PageRequest::new(table, listing) }
            }
        };
        (request, &position.progress.place)
    }

    /// Records a response.
    ///
    /// # Errors
    /// The response does not agree with the profile, or the list changes faster than it can be
    /// read. The page is void then.
    pub(super) fn on_response(&mut self, response: &RestResponse) -> Result<(), ListError> {
        self.position.outcomes.failed_in_a_row = 0;
        let tables = self.context.tables();
        if let (false, Some(documents)) = (self.position.pending.is_empty(), &tables.documents) {
            return self.on_documents(documents, response);
        }
        match (self.position.stage, &tables.parts, &tables.sweep) {
            (RestStage::Parts, Some(parts), _) => self.on_parts(parts, response),
            (RestStage::Sweep, _, Some(sweep)) => self.on_sweep(&sweep.listing, response),
            (RestStage::Parts | RestStage::Rows | RestStage::Sweep | RestStage::Swept, _, _) => {
                self.on_rows(response)
            }
        }
    }

    /// Ends the page before the end of the listing.
    pub(super) fn finish_early(self) -> (Vec<ListedDocument>, Option<u64>, PageToken) {
        let token = self.position.encode();
        self.context.seen_items.borrow_mut().end_page(&token);
        (self.entries, self.position.total, token)
    }

    /// Ends the listing. The cursor is `None` if it is the one that was read before it.
    pub(super) fn finish(self) -> (Vec<ListedDocument>, Option<u64>, Option<Cursor>) {
        // The items are seen no more: the next listing looks at them again.
        self.context.seen_items.borrow_mut().resume(None);
        let cursor = self.context.end_cursor(&self.position);
        (self.entries, self.position.total, cursor)
    }

    /// Returns the reason why the end of the list cannot be verified, and the token from which the
    /// listing resumes.
    pub(super) fn unverified_end(&self) -> Option<(String, PageToken)> {
        let (reason, resumed) = self.position.contradiction()?;
        Some((reason, resumed.encode()))
    }

    pub(super) fn row_origin(&self) -> RowOrigin {
        let part = self.position.parts.front();
        part.map_or(RowOrigin::Everything, |part| self.context.row_origin(part))
    }

    fn on_parts(&mut self, parts: &PartsTable, response: &RestResponse) -> Result<(), ListError> {
        let progress = &mut self.position.progress;
        let page = progress.read_page(TableName::Parts, &parts.listing, response)?;
        let Some(page) = page else { return Ok(()) };
        self.count_documents(parts, &page);
        if !self.position.add_parts(page.rows.into_iter().map(|row| row.id), PARTS_MAX) {
            return Err(too_many_parts().into());
        }
        if self.position.progress.has_ended && self.position.found_parts.is_empty() {
            return Err(no_part().into());
        }
        Ok(())
    }

    /// Adds the numbers of documents of the parts on a page to the total, for progress.
    fn count_documents(&mut self, parts: &PartsTable, page: &ListPage<'_>) {
        let is_first_list = self.context.since().is_none() && self.position.parts.is_empty();
        let Some(path) = parts.count.as_ref().filter(|_| is_first_list) else { return };
        let is_first_page = self.position.found_parts.is_empty();
        let before = if is_first_page { Some(0) } else { self.position.total };
        let mut counts = page.rows.iter().map(|row| whole_number(path.first(row.value)?));
        let add = |sum: u64, count: Option<u64>| Some(sum.saturating_add(count?));
        self.position.total = before.and_then(|before| counts.try_fold(before, add));
    }

    fn on_rows(&mut self, response: &RestResponse) -> Result<(), ListError> {
        let origin = self.row_origin();
        let (table, listing) = self.context.row_table(origin);
        let page = self.position.progress.read_page(table, listing, response)?;
        let Some(page) = page else { return Ok(()) };
        self.record_stream_position(table, origin, response)?;
        match origin {
            RowOrigin::Everything => self.record_total(response),
            RowOrigin::Newest => self.end_at_known_rows(&page),
            RowOrigin::Changes => {}
        }
        self.use_rows(page);
        Ok(())
    }

    fn on_sweep(&mut self, listing: &RowListing, response: &RestResponse) -> Result<(), ListError> {
        let page = self.position.progress.read_page(TableName::Sweep, listing, response)?;
        if let Some(page) = page {
            self.use_rows(page);
        }
        Ok(())
    }

    /// Records the position in the stream of changes, which the last page must contain.
    fn record_stream_position(
        &mut self,
        table: TableName,
        origin: RowOrigin,
        response: &RestResponse,
    ) -> Result<(), RowError> {
        let Some(path) = self.context.stream_position_path(origin) else { return Ok(()) };
        let progress = &mut self.position.progress;
        let position = path.first(&response.body).and_then(scalar_text);
        match position.filter(|position| !position.is_empty()) {
            Some(position) => progress.found.stream_position = Some(position),
            None if progress.has_ended => {
                return Err(RowError(format!(
                    "`[{}] cursor` = {:?} selects no text and no whole number in the last page",
                    table.name(),
                    path.as_str()
                )));
            }
            None => {}
        }
        Ok(())
    }

    fn record_total(&mut self, response: &RestResponse) {
        let tables = self.context.tables();
        let path = tables.list.total.as_ref();
        let total = path.and_then(|path| whole_number(path.first(&response.body)?));
        self.position.progress.passes.record_total(total);
        if tables.parts.is_none() && self.context.since().is_none() {
            self.position.total = total.or(self.position.total);
        }
    }

    /// Ends the list if only rows that the cursor knows can follow.
    fn end_at_known_rows(&mut self, page: &ListPage<'_>) {
        let (tables, part) = (self.context.tables(), self.position.part_id());
        let known = self.context.since().and_then(|since| since.newest_rows(part));
        let Some(known) = known else { return };
        let rows: Vec<RowHash> = page.rows.iter().map(|row| hash_row(tables, part, row)).collect();
        if has_only_known_rows(&rows, known) {
            self.position.progress.has_ended = true;
        }
    }

    /// Takes over the rows of a page.
    fn use_rows(&mut self, page: ListPage<'_>) {
        let (profile, tables) = (self.context.profile, self.context.tables());
        let keeps_newest = self.context.method() == ChangeMethod::Newest;
        let part = self.position.part_id().map(str::to_owned);
        let mut queued = BTreeSet::new();
        let new_rows: Vec<bool> = page.rows.iter().map(|row| page.is_new(row)).collect();
        for (row, is_new) in page.rows.into_iter().zip(new_rows) {
            let hash = hash_row(tables, part.as_deref(), &row);
            if is_new {
                self.position.progress.found.record(hash, keeps_newest);
            }
            if tables.documents.is_none() {
                self.position.progress.passes.record_documents(usize::from(is_new));
                self.entries.push(document_of_row(profile, part.as_deref(), row));
            } else if let Some(documents) = self.context.seen_items.borrow().documents(hash) {
                let counted = if is_new { documents } else { 0 };
                self.position.progress.passes.record_documents(counted);
            } else if queued.insert(row.id.clone()) {
                self.position.pending.push(PendingItem::new(row, hash, !is_new));
            }
        }
    }

    fn on_documents(
        &mut self,
        documents: &RowListing,
        response: &RestResponse,
    ) -> Result<(), ListError> {
        let part = self.position.part_id().map(str::to_owned);
        let Some(item) = self.position.pending.first().cloned() else { return Ok(()) };
        let pending = &mut self.position.pending;
        let page = pending.progress.read_page(TableName::Documents, documents, response)?;
        let Some(page) = page else { return Ok(()) };
        let documents_on_page = page.rows.iter().filter(|row| page.is_new(row)).count();
        let counted = pending.record_documents(documents_on_page);
        self.position.outcomes.has_listed_documents = true;
        if pending.progress.has_ended {
            match pending.progress.finish_pass(&documents.page) {
                PassVerdict::Repeat => {}
                PassVerdict::Complete(_) | PassVerdict::Contradicted => {
                    let documents = pending.finish_first();
                    self.context.seen_items.borrow_mut().add(item.row, documents);
                }
            }
        }
        self.position.progress.passes.record_documents(counted);
        let profile = self.context.profile;
        let to_document = |row| document_of_item(profile, part.as_deref(), &item, row);
        self.entries.extend(page.rows.into_iter().map(to_document));
        Ok(())
    }

    /// Ends a list, or begins another pass over it.
    fn finish_list(&mut self) {
        let tables = self.context.tables();
        let listing = match self.position.stage {
            RestStage::Parts => tables.parts.as_ref().map(|parts| &parts.listing),
            RestStage::Sweep => tables.sweep.as_ref().map(|sweep| &sweep.listing),
            RestStage::Rows if self.row_origin() == RowOrigin::Everything => {
                Some(&tables.list.listing)
            }
            // The changes and the newest rows are not all rows, and take one pass.
            RestStage::Rows | RestStage::Swept => None,
        };
        let Some(listing) = listing else {
            self.finish_rows(None);
            return;
        };
        match self.position.progress.finish_pass(&listing.page) {
            PassVerdict::Repeat => {}
            PassVerdict::Contradicted => self.contradict(),
            PassVerdict::Complete(shortfall) => match self.position.stage {
                RestStage::Parts => self.position.begin_rows(),
                RestStage::Rows => self.finish_rows(shortfall),
                RestStage::Sweep | RestStage::Swept => self.position.begin_list(RestStage::Swept),
            },
        }
    }

    fn contradict(&mut self) {
        let list = match (self.position.stage, self.position.part_id()) {
            (RestStage::Parts, _) => "list of parts".to_owned(),
            (RestStage::Sweep | RestStage::Swept, _) => "list for the sweep".to_owned(),
            (RestStage::Rows, Some(part)) => format!("list of part \"{part}\""),
            (RestStage::Rows, None) => "list".to_owned(),
        };
        let reason = format!("the server's {list} has other rows in each of {PASSES_MAX} passes");
        self.position.contradict(reason);
    }

    /// Ends the rows of a part.
    fn finish_rows(&mut self, shortfall: Option<TotalShortfall>) {
        if let Some(TotalShortfall { listed, total }) = shortfall {
            warn!(
                source = self.context.name,
                part = self.position.part_id(),
                listed,
                total,
                "the server counts more documents than it lists, and every pass finds the same"
            );
        }
        if let Some(part) = self.position.parts.front().cloned() {
            self.record_changes(&part);
        }
        self.position.outcomes.has_listed_part = true;
        self.position.finish_part();
    }

    /// Records the place from which changes of a part are known.
    fn record_changes(&mut self, part: &QueuedPart) {
        let id = part.id.as_deref();
        let is_update = self.context.row_origin(part) == RowOrigin::Newest;
        let found = std::mem::take(&mut self.position.progress.found);
        match &mut self.position.changes {
            ChangePosition::Stream(position) => {
                *position = found.stream_position.unwrap_or_default();
            }
            ChangePosition::Parts(positions) => {
                if let Some(position) = found.stream_position {
                    positions.insert(part_key(id).to_owned(), position);
                }
            }
            ChangePosition::Newest(newest) => {
                let since = self.context.since().filter(|_| is_update);
                let rows = match since.and_then(|since| since.newest_rows(id)) {
                    Some(known) => newest_rows(&found.newest, known),
                    None => found.newest,
                };
                newest.insert(part_key(id).to_owned(), rows);
            }
            ChangePosition::Rows(sum) => *sum = sum.wrapping_add(found.sum),
        }
    }
}
