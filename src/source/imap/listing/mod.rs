//! Lists the messages of the selected folders by ranges of UIDs: `UID FETCH 1:1000 (UID …)`.
//!
//! Never by `SEARCH`, whose answers have been seen to be short, and never by sequence number, which
//! shifts when a message is deleted. Each folder is listed below the UIDNEXT that was read before.
//! At its end, its number of messages must not contradict the list. A folder whose listing fails is
//! continued after the others. If all that are left fail again, so does the listing.

mod folder_progress;
mod message_row;
mod position;
mod row_reader;
mod vanished;
mod window;

use std::collections::BTreeMap;

use cynosure_engine::{
    Cause, DocumentLocation, Failure, ListedDocument, NextPage, PageToken, VanishedMessages,
    sanitize_line,
};
use tracing::{debug, info, warn};

use self::message_row::{MessageRow, RowAttributes};
pub(in crate::source::imap) use self::position::ListingPosition;
use self::position::{FolderRange, FolderShortfall};
use self::row_reader::{WindowRows, read_rows};
use self::vanished::{QRESYNC, read_vanished};
use self::window::{ROWS_MIN, UidWindow};
use crate::source::imap::connection::Connection;
use crate::source::imap::folders::{
    FolderStatus, FolderWarning, StatusAnswer, read_status, survey_for_listing, warn_of_refusal,
};
use crate::source::imap::source::ImapSource;
use crate::source::imap::wire::FolderName;
use crate::source::{Listing, Page, UnverifiedEnd};

/// Documents with which a page ends. With the largest usual window it has about twice as many.
const PAGE_DOCUMENTS: usize = ROWS_MIN;

/// Maximum number of steps of a page, each of one or two commands: 64 small folders. More would
/// take so long that the listing looks as if it were stuck.
const PAGE_STEPS_MAX: u32 = 128;

/// Messages after which a page ends even if it has no documents, because `since` leaves them all
/// out. More would take a slow server so long that the listing looks as if it were stuck.
const PAGE_ROWS_MAX: usize = 20_000;

/// Maximum number of folders that fail again before the listing does. They take fewer steps than a
/// page has, so that a page that ends without documents has advanced in another folder.
const FAILED_AGAIN_MAX: usize = 32;

/// Maximum restarts of a folder that is renumbered. It happens when a folder is deleted and made
/// again; a server that does it at each access cannot be listed.
const RESTARTS_MAX: u32 = 3;

/// Result of a step.
#[derive(Debug, Eq, PartialEq)]
enum ListingStep {
    Advanced,
    /// The server contradicts the list of a folder, for the reason in this sentence.
    Contradicted(String),
}

/// Page that is being listed.
struct PageBuilder<'a> {
    source: &'a ImapSource,
    connection: &'a mut Connection,
    attributes: RowAttributes,
    position: ListingPosition,
    entries: Vec<ListedDocument>,
    vanished: Vec<VanishedMessages>,
    steps: u32,
    /// Number of failures of folders that had failed before.
    failed_again: usize,
    /// Messages that the server listed, whether they are selected or not.
    rows: usize,
}

/// Returns the page after `token` of a listing of all messages.
pub(super) async fn list_page(
    source: &ImapSource,
    token: Option<&PageToken>,
) -> Result<Page, Failure> {
    let mut connection = source.connect().await?;
    let position = match resume(source, token) {
        Some(position) => position,
        None => {
            let survey = survey_for_listing(source, &mut connection, &Listing::Full).await?;
            ListingPosition::of_everything(&survey)
        }
    };
    list_from(source, &mut connection, position).await
}

/// Returns the position of a page token. Returns `None` without a token, and if the configuration
/// selects other folders since: one that is excluded because it fails must not be listed any more.
pub(super) fn resume(source: &ImapSource, token: Option<&PageToken>) -> Option<ListingPosition> {
    ListingPosition::decode(token).filter(|position| position.filter == source.options.folders)
}

/// Returns the page that begins at a position.
pub(super) async fn list_from(
    source: &ImapSource,
    connection: &mut Connection,
    mut position: ListingPosition,
) -> Result<Page, Failure> {
    position.filter.clone_from(&source.options.folders);
    // A folder that is open since an earlier page may have another UIDNEXT now.
    connection.forget_folder();
    let attributes = RowAttributes::new(connection, source.options.since);
    let page = PageBuilder {
        source,
        connection,
        attributes,
        position,
        entries: Vec::new(),
        vanished: Vec::new(),
        steps: 0,
        failed_again: 0,
        rows: 0,
    };
    page.build().await
}

impl PageBuilder<'_> {
    async fn build(mut self) -> Result<Page, Failure> {
        while let Some(range) = self.position.current_folder().cloned() {
            if self.is_full() {
                return Ok(self.finish_early());
            }
            self.steps += 1;
            match self.advance(&range).await {
                Ok(ListingStep::Advanced) if self.connection.is_reusable() => {}
                // The next page continues over another connection.
                Ok(ListingStep::Advanced) => return Ok(self.finish_early()),
                Ok(ListingStep::Contradicted(reason)) => return Ok(self.finish_unverified(reason)),
                Err(failure) if failure.cause == Cause::Server && !range.is_deferred() => {
                    self.defer_folder(&range, &failure);
                    if !self.connection.is_reusable() {
                        return Ok(self.finish_early());
                    }
                }
                // The documents before are returned first: those of a failed call are lost.
                Err(failure) if failure.cause == Cause::Server && !self.entries.is_empty() => {
                    return Ok(self.finish_early());
                }
                Err(failure) if failure.cause == Cause::Server && self.has_other_folder() => {
                    self.failed_again += 1;
                    self.defer_folder(&range, &failure);
                }
                Err(failure) => return Err(failure),
            }
        }
        self.list_vanished().await;
        if !self.position.changed_folders.is_empty() {
            return Ok(self.finish_early());
        }
        let next = NextPage::Done(Some(self.position.end_cursor()));
        Ok(self.finish(Ok(next)))
    }

    fn is_full(&self) -> bool {
        PAGE_DOCUMENTS <= self.entries.len()
            || PAGE_ROWS_MAX <= self.rows
            || PAGE_STEPS_MAX <= self.steps
    }

    /// True if a folder other than the current one is left that has not failed again on this page:
    /// one that fails always must not hold back one that failed once.
    fn has_other_folder(&self) -> bool {
        let others = self.position.folders.len().saturating_sub(1);
        self.failed_again < others.min(FAILED_AGAIN_MAX) && self.connection.is_reusable()
    }

    fn finish(self, next: Result<NextPage, UnverifiedEnd>) -> Page {
        Page {
            entries: self.entries,
            missing_documents: Vec::new(),
            total_documents: self.position.total(),
            vanished: self.vanished,
            next,
        }
    }

    /// Ends the page before the end of the listing.
    fn finish_early(self) -> Page {
        let token = self.position.encode();
        self.finish(Ok(NextPage::More(token)))
    }

    /// Ends the page where the server contradicts the list. The documents before are returned
    /// first: those of an unverified page are never recorded.
    fn finish_unverified(self, reason: String) -> Page {
        let token = self.position.encode();
        let next = if self.entries.is_empty() {
            Err(UnverifiedEnd { resume_from: token, reason })
        } else {
            Ok(NextPage::More(token))
        };
        self.finish(next)
    }

    async fn advance(&mut self, range: &FolderRange) -> Result<ListingStep, Failure> {
        match self.position.next_window() {
            Some(window) => self.list_window(range, window).await,
            None if range.is_whole() => self.check_folder(range).await,
            None => {
                self.position.finish_folder();
                Ok(ListingStep::Advanced)
            }
        }
    }

    async fn list_window(
        &mut self,
        range: &FolderRange,
        window: UidWindow,
    ) -> Result<ListingStep, Failure> {
        let name = FolderName::from_text(&range.name);
        let folder = match self.connection.open_folder(&name).await {
            Ok(folder) => folder,
            Err(failure) => {
                self.drop_inaccessible(&name, failure)?;
                return Ok(ListingStep::Advanced);
            }
        };
        let is_older = folder.uid_next.is_some_and(|uid_next| range.is_beyond(uid_next));
        if folder.uid_validity != range.uid_validity || is_older {
            let Some(status) = self.current_status(&name).await? else {
                return Ok(ListingStep::Advanced);
            };
            if folder.uid_validity != range.uid_validity {
                return Ok(self.restart_folder(range, &status));
            }
            if range.is_beyond(status.uid_next) {
                return Ok(older_state(range, &status));
            }
        }
        let omits_sizes = self.position.progress().omits_sizes;
        let attributes = if omits_sizes { self.attributes.without_size() } else { self.attributes };
        match read_rows(self.connection, window, &attributes).await {
            Ok(WindowRows::TooMany) => self.position.narrow_windows(),
            Ok(WindowRows::Complete(rows)) => self.record_rows(range, window, rows),
            Err(failure) if failure.is_transient() && !omits_sizes => {
                self.omit_sizes(range, &failure);
            }
            Err(failure) => {
                let message = format!("folder \"{}\": {}", range.name, failure.message);
                let failure = Failure { message: sanitize_line(&message), ..failure };
                self.drop_inaccessible(&name, failure)?;
            }
        }
        Ok(ListingStep::Advanced)
    }

    /// Asks for the next window again, without the sizes, which are only shown. For a size the
    /// server may read the message, and Dovecot ends the connection at one that it cannot read.
    fn omit_sizes(&mut self, range: &FolderRange, failure: &Failure) {
        info!(
            source = self.source.options.name,
            folder = range.name,
            error = %failure,
            "asking for messages without their sizes, because the server failed to list them"
        );
        self.position.omit_sizes();
    }

    fn record_rows(
        &mut self,
        range: &FolderRange,
        window: UidWindow,
        rows: BTreeMap<u32, MessageRow>,
    ) {
        self.position.record_window(window, rows.len());
        self.rows = self.rows.saturating_add(rows.len());
        let is_all_mail = self.position.is_all_mail(&range.name);
        let selected = rows.into_iter().filter(|(_, row)| self.attributes.selects(row));
        let documents = selected.map(|(uid, row)| {
            let (folder, uid_validity) = (range.name.clone(), range.uid_validity);
            row.into_document(DocumentLocation { folder, uid_validity, uid }, is_all_mail)
        });
        self.entries.extend(documents);
    }

    /// Lists the messages that vanished, until the page is full: after the new ones, so that the
    /// new place of a message that was moved is known when its old one is removed.
    ///
    /// A failure is none of the listing, because nothing depends on what is left out. After one
    /// that concerns more than a folder, no other folder is asked for.
    async fn list_vanished(&mut self) {
        // Without ids of contents, each document has one location, which stays in the ledger.
        if !self.connection.has_capability(QRESYNC) || !self.attributes.has_content_ids() {
            self.position.changed_folders.clear();
        }
        while !self.is_full()
            && let Some(folder) = self.position.changed_folders.pop_front()
        {
            self.steps += 1;
            match read_vanished(self.connection, &folder).await {
                Ok(answer) => {
                    self.rows = self.rows.saturating_add(answer.rows);
                    if !answer.messages.uids.is_empty() {
                        self.vanished.push(answer.messages);
                    }
                }
                Err(failure) => {
                    debug!(
                        source = self.source.options.name,
                        folder = folder.name,
                        error = %failure,
                        "vanished messages not listed"
                    );
                    if !matches!(failure.cause, Cause::NotFound | Cause::Forbidden) {
                        self.position.changed_folders.clear();
                    }
                }
            }
        }
    }

    /// Compares the list of a folder with its number of messages. If the list is too short, the
    /// folder is listed once more, and the number is then asked for again by the next page.
    async fn check_folder(&mut self, range: &FolderRange) -> Result<ListingStep, Failure> {
        let name = FolderName::from_text(&range.name);
        let Some(status) = self.current_status(&name).await? else {
            return Ok(ListingStep::Advanced);
        };
        if status.uid_validity != range.uid_validity {
            return Ok(self.restart_folder(range, &status));
        }
        if range.is_beyond(status.uid_next) {
            return Ok(older_state(range, &status));
        }
        let Some(shortfall) = self.position.shortfall(&status) else {
            self.position.finish_folder();
            return Ok(ListingStep::Advanced);
        };
        let FolderShortfall { listed, expected } = shortfall;
        let folder = &range.name;
        if self.position.progress().is_second_pass {
            return Ok(ListingStep::Contradicted(format!(
                "the server's list of folder \"{folder}\" ended after {listed} of {expected} \
                 messages"
            )));
        }
        warn!(
            source = self.source.options.name,
            folder, listed, expected, "the list of the folder is too short, listing it once more"
        );
        self.connection.forget_folder();
        self.position.repeat_folder();
        Ok(ListingStep::Advanced)
    }

    /// Begins again with a folder that was renumbered, unless that happens all the time.
    fn restart_folder(&mut self, range: &FolderRange, status: &FolderStatus) -> ListingStep {
        let folder = &range.name;
        if RESTARTS_MAX <= self.position.progress().restarts {
            return ListingStep::Contradicted(format!(
                "the server gives folder \"{folder}\" another UIDVALIDITY again and again"
            ));
        }
        info!(
            source = self.source.options.name,
            folder,
            uid_validity = status.uid_validity,
            "the server has renumbered the folder, listing it from its start"
        );
        // The folder that is open may be the one before.
        self.connection.forget_folder();
        self.position.restart_folder(status);
        ListingStep::Advanced
    }

    /// Returns the status of the current folder; `None` if that was left out instead.
    async fn current_status(&mut self, name: &FolderName) -> Result<Option<FolderStatus>, Failure> {
        match read_status(self.connection, name).await? {
            StatusAnswer::Known(status) => Ok(Some(status)),
            StatusAnswer::Missing => {
                self.drop_missing(name);
                Ok(None)
            }
            StatusAnswer::Refused(failure) => {
                self.drop_inaccessible(name, failure)?;
                Ok(None)
            }
        }
    }

    /// Leaves out the current folder if it does not exist or may not be read. Returns any other
    /// failure.
    fn drop_inaccessible(&mut self, name: &FolderName, failure: Failure) -> Result<(), Failure> {
        if failure.cause == Cause::NotFound {
            self.drop_missing(name);
            return Ok(());
        }
        if failure.cause == Cause::Forbidden {
            warn_of_refusal(self.source, name, &failure);
            self.position.refuse_folder();
            return Ok(());
        }
        if failure.cause == Cause::Server {
            let message =
                format!("{}; if only this folder fails, add it to `exclude`", failure.message);
            return Err(Failure { message, ..failure });
        }
        Err(failure)
    }

    /// Continues a folder that fails after the others, which the server may list.
    fn defer_folder(&mut self, range: &FolderRange, failure: &Failure) {
        if self.source.warnings.is_new(FolderWarning::Deferred(range.name.clone())) {
            warn!(
                source = self.source.options.name,
                folder = range.name,
                error = %failure,
                "listing the other folders first, because the server fails to list this one"
            );
        }
        // It is opened again then, even if no other was opened meanwhile.
        self.connection.forget_folder();
        self.position.defer_folder();
    }

    fn drop_missing(&mut self, name: &FolderName) {
        let folder = name.as_text();
        debug!(source = self.source.options.name, folder, "folder deleted while it was listed");
        self.position.drop_folder();
    }
}

/// Returns the contradiction of a UIDNEXT that is lower than before the listing. The server shows a
/// state in which the newest messages are missing: that of a replica that lags behind, or a backup.
fn older_state(range: &FolderRange, status: &FolderStatus) -> ListingStep {
    ListingStep::Contradicted(format!(
        "the server shows an older state of folder \"{}\": its UIDNEXT has fallen to {}",
        range.name, status.uid_next
    ))
}
