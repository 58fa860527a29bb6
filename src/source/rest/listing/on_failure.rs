//! Failures of a listing: a list that begins again, and items and parts that fail alone.
//!
//! An item or a part that fails is tried again after the others, which the server may list. One
//! that it refuses then is left out. Any other failure is returned, once all else is listed.

use cynosure_engine::{Cause, Failure, sanitize_line};
use tracing::{debug, info, warn};

use crate::source::rest::listing::context::RowOrigin;
use crate::source::rest::listing::documents::PendingItems;
use crate::source::rest::listing::lister::Lister;
use crate::source::rest::listing::pages::PagePlace;
use crate::source::rest::listing::position::RestStage;

/// Maximum number of items in a row that the server lists and then does not find. Users delete some
/// at a time; more look as if the request were wrong.
const MISSING_ITEMS_MAX: u32 = 20;

/// Maximum number of parts in a row that are tried again after the others. More look as if the
/// server failed, or refused the whole account.
const FAILED_PARTS_MAX: u32 = 32;

impl Lister<'_> {
    /// Handles a failed request. Returns the failure unless the listing goes on without the
    /// response; then nothing has changed.
    pub(super) fn on_failure(&mut self, failure: Failure) -> Result<(), Failure> {
        let is_list = self.position.pending.is_empty();
        let is_handled = if is_list {
            self.on_list_failure(failure.cause)
        } else {
            self.on_documents_failure(failure.cause)
        };
        if is_handled {
            let (source, part) = (self.context.name, self.position.part_id());
            debug!(source, part, error = %failure, "listing without the page that failed");
            return Ok(());
        }
        if !may_fail_alone(failure.cause) {
            return Err(failure);
        }
        let goes_on = if is_list {
            self.defer_part(&failure) || self.leave_out_part(&failure)
        } else {
            self.defer_item(&failure) || self.leave_out_item(&failure) || self.defer_part(&failure)
        };
        if goes_on { Ok(()) } else { Err(self.with_place(failure)) }
    }

    /// Handles a failed request for a page of a list. Returns false, and changes nothing, if the
    /// listing cannot go on.
    ///
    /// A server that has forgotten a token or a link may answer with any refusal. Only the first
    /// page shows that something else is wrong.
    fn on_list_failure(&mut self, cause: Cause) -> bool {
        let position = &mut self.position;
        if !is_refusal(cause) {
            return false;
        }
        if position.progress.end_at_refusal() {
            return true;
        }
        let is_rows = position.stage == RestStage::Rows;
        if is_rows && cause == Cause::NotFound && position.check_part() {
            return true;
        }
        let is_first_page = position.progress.place == PagePlace::First;
        if is_first_page && cause != Cause::CursorExpired {
            return false;
        }
        if is_first_page && is_rows && self.row_origin() == RowOrigin::Changes {
            return self.position.list_whole_part();
        }
        self.position.progress.restart()
    }

    /// Handles a failed request for the documents of an item. Returns false, and changes nothing,
    /// if the listing cannot go on.
    ///
    /// An item that is not found was deleted after it was listed. If many are not found, the rows
    /// of the part are listed again.
    fn on_documents_failure(&mut self, cause: Cause) -> bool {
        let position = &mut self.position;
        let is_first_page = position.pending.progress.place == PagePlace::First;
        if is_refusal(cause) && (!is_first_page || cause == Cause::CursorExpired) {
            return position.pending.restart_first();
        }
        if cause != Cause::NotFound {
            return false;
        }
        if position.pending.skip_missing(MISSING_ITEMS_MAX) {
            return true;
        }
        let is_restarted = position.progress.restart();
        if is_restarted {
            position.pending = PendingItems::default();
        }
        is_restarted
    }

    /// Tries the current item again after the rest of the list, which the server may list.
    fn defer_item(&mut self, failure: &Failure) -> bool {
        let item = self.position.pending.first().map(|item| item.id.clone());
        let is_deferred = failure.cause != Cause::NotFound && self.position.pending.defer_first();
        if is_deferred {
            info!(
                source = self.context.name,
                part = self.position.part_id(),
                item,
                error = %failure,
                "listing the documents of other items first, because those of one failed"
            );
        }
        is_deferred
    }

    /// Leaves out the current item, whose documents the server refuses to list, although it lists
    /// those of others. Its row does not count as known, so that changes look at it again.
    fn leave_out_item(&mut self, failure: &Failure) -> bool {
        let lists_others =
            self.position.outcomes.has_listed_documents || self.context.since().is_some();
        let item = self.position.pending.first().filter(|item| item.is_deferred()).cloned();
        let Some(item) = item.filter(|_| failure.cause == Cause::Forbidden && lists_others) else {
            return false;
        };
        warn!(
            source = self.context.name,
            part = self.position.part_id(),
            item = item.id,
            error = %failure,
            "item left out until a later listing, because the server refuses to list its documents"
        );
        self.position.progress.found.forget(item.row);
        self.position.pending.finish_first();
        true
    }

    /// Continues the current part after the others, which the server may list.
    fn defer_part(&mut self, failure: &Failure) -> bool {
        let part = self.position.part_id().map(str::to_owned);
        let is_sure = failure.cause == Cause::Forbidden && self.position.outcomes.has_listed_part;
        let are_many = FAILED_PARTS_MAX <= self.position.outcomes.failed_in_a_row;
        let is_deferred = (is_sure || !are_many) && self.position.defer_part();
        if is_deferred {
            info!(
                source = self.context.name,
                part,
                error = %failure,
                "listing the other parts first, because one failed"
            );
        }
        is_deferred
    }

    /// Leaves out the current part, which the server refuses to list, although it lists others. What
    /// was known of it stays known; otherwise it is new later.
    fn leave_out_part(&mut self, failure: &Failure) -> bool {
        if failure.cause != Cause::Forbidden || !self.position.outcomes.has_listed_part {
            return false;
        }
        let Some(part) = self.position.refuse_part() else { return false };
        if let Some(since) = self.context.since() {
            self.position.changes.keep_from(since, &part);
        }
        let source = self.context.name;
        if self.context.was_refused(&part) {
            debug!(source, part, error = %failure, "part left out as before");
        } else {
            warn!(source, part, error = %failure, "part left out, because the server refuses it");
        }
        true
    }

    /// Names the item or the part that fails although others were tried.
    fn with_place(&self, failure: Failure) -> Failure {
        let item = self.position.pending.first().filter(|item| item.is_deferred());
        let part = self.position.parts.front().filter(|part| part.is_deferred());
        let place = match (item, part.and_then(|part| part.id.as_ref())) {
            (Some(item), _) => format!("documents of item \"{}\"", item.id),
            (None, Some(part)) => format!("part \"{part}\""),
            (None, None) => return failure,
        };
        let message = format!(
            "{place}: {}; if nothing else fails, an error rule that makes it `forbidden` leaves it \
             out",
            failure.message
        );
        Failure { message: sanitize_line(&message), ..failure }
    }
}

/// True if a server refuses a request in a way that the place of a page may explain.
fn is_refusal(cause: Cause) -> bool {
    matches!(cause, Cause::CursorExpired | Cause::NotFound | Cause::Unknown)
}

/// True for a failure that may be one of a single item or part.
fn may_fail_alone(cause: Cause) -> bool {
    matches!(cause, Cause::Forbidden | Cause::NotFound | Cause::Server | Cause::Unknown)
}
