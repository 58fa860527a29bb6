//! Takes in the answers of jobs, and turns each into a fact for the machine.

use tracing::{debug, info, warn};

use super::doubt::{Blame, Failed};
use super::{Driver, Exit, Mode, Proof};
use crate::archive::Draft;
use crate::engine::{
    AfterWait, Cause, ErrorCategory, Event, Failure, RandomSample, RequestScope, State, Timestamp,
};
use crate::ledger::{ItemNo, Tally};
use crate::source::{News, Renewal, Source};
use crate::worker::breakers::{Pass, Shut};
use crate::worker::downloads::Errand;
use crate::worker::group::Weight;
use crate::worker::jobs::Done;
use crate::worker::store::PageRecorded;
use crate::worker::world::World;

impl<S: Source + 'static, W: World> Driver<S, W> {
    pub(super) async fn take_in(&mut self, done: Done) {
        self.note_storage(&done);
        self.count_attempt(&done);
        self.trace(&done);
        if let Done::Looked(end) = &done {
            self.is_looking = false;
            self.owes_look &= end.is_err();
        }
        match done {
            Done::Shut(shut) => {
                // A look that it shut out is made again after the wait.
                self.is_looking = false;
                self.wait_for(shut).await;
            }
            Done::Looked(Ok(News::Something)) => self.decide(Event::ChangesFound).await,
            Done::ReconcileDue => {
                self.is_looking = false;
                self.decide(Event::ReconcileDue).await;
            }
            Done::Looked(Ok(News::Nothing)) => self.decide(Event::NoChanges).await,
            Done::Paged(Ok(page)) => self.paged(page).await,
            Done::Looked(Err(failure)) | Done::Paged(Err(failure)) => {
                self.fail(RequestScope::Listing, failure).await;
            }
            Done::Proved(Ok(())) => self.proof = Proof::NotOwed,
            Done::Refilled(Ok(batch)) => {
                let now = self.world.now();
                self.waiting = batch.waiting;
                self.downloads.admit(batch.work, batch.next_due, now);
            }
            Done::Fetched { errand, pass, answer } => self.fetched(errand, pass, answer).await,
            Done::KnownGood(served) => {
                for failed in self.known_good(served) {
                    // What failed after it was asked for begins another row.
                    let failed = if served.is_some() { self.doubted(failed) } else { Some(failed) };
                    if let Some(failed) = failed {
                        self.failed_item(failed).await;
                    }
                }
            }
            Done::Committed { items, retry_at, weight, took, result } => {
                if result.is_ok() {
                    self.count_group(weight, took);
                }
                self.committed(&items, retry_at, weight, result).await;
            }
            Done::Finished(Ok(tally)) => {
                self.finishing = false;
                self.count_on(tally);
                self.waiting = 0;
                self.decide(Event::AllItemsSettled).await;
            }
            Done::Renewed(Ok(Renewal::Changed)) => self.decide(Event::CredentialChanged).await,
            Done::Renewed(Ok(Renewal::Same)) => self.decide(Event::CredentialUnchanged).await,
            Done::Renewed(Err(failure)) if failure.cause == Cause::Unauthorized => {
                self.decide(Event::CredentialUnchanged).await;
            }
            Done::Proved(Err(failure))
            | Done::Refilled(Err(failure))
            | Done::Finished(Err(failure))
            | Done::Renewed(Err(failure)) => {
                self.drop_jobs();
                self.fail(RequestScope::Session, failure).await;
            }
        }
    }

    async fn paged(&mut self, page: PageRecorded) {
        self.count_on(page.tally);
        if let Some(found) = page.reconciled {
            let (listed, gone, versions) = (found.listed, found.gone, found.versions);
            info!(listed, gone, versions, "everything was listed once more");
        }
        self.expected_documents = page.total.or(self.expected_documents);
        self.decide(Event::ProgressMade).await;
        if page.listed_all {
            self.decide(Event::ListingCompleted).await;
        } else {
            self.collect();
        }
    }

    async fn fetched(&mut self, errand: Errand, pass: Pass, answer: Result<Draft, Failure>) {
        match answer {
            Ok(draft) => self.served(errand, pass, draft),
            Err(failure) => {
                let at = self.world.now();
                if let Some(failed) = self.doubted(Failed { errand, pass, failure, at }) {
                    self.failed_item(failed).await;
                }
            }
        }
    }

    /// Takes in a failure of an item, and whatever it amounts to.
    async fn failed_item(&mut self, failed: Failed) {
        let (item, failure) = (failed.errand.item_id.clone(), failed.failure.clone());
        match self.blame(failed) {
            Blame::Session(failure) => self.fail(RequestScope::Session, failure).await,
            // The one that was too much for a breaker.
            Blame::Provider if self.has_opened(&failure) => {
                self.fail(RequestScope::Session, failure).await;
            }
            Blame::Provider | Blame::Item => info!(
                item = %item, cause = %failure.cause,
                r#type = failure.cause.category().name(), "recorded error: {failure}"
            ),
        }
    }

    pub(super) async fn committed(
        &mut self,
        items: &[ItemNo],
        retry_at: Option<Timestamp>,
        weight: Weight,
        result: Result<Tally, Failure>,
    ) {
        self.downloads.committed(items, retry_at);
        match result {
            Ok(tally) => {
                let has_settled = tally.settled() > self.tally.settled();
                self.count_on(tally);
                self.rate.note(tally.settled(), self.world.now());
                let has_progressed = has_settled || weight.documents > 0;
                let event =
                    if has_progressed { Event::ProgressMade } else { Event::AttemptsFailed };
                self.decide(event).await;
            }
            Err(failure) => {
                // Nothing of the group is durable: whatever hangs on it begins anew.
                self.drop_jobs();
                self.fail(RequestScope::Session, failure).await;
            }
        }
    }

    pub(super) async fn fail(&mut self, scope: RequestScope, failure: Failure) {
        let draw: RandomSample = self.world.draw();
        let shut = self.circuits.shut_for(failure.cause, scope);
        let failure = match &shut {
            Some(shut) => shut.explains(&failure),
            None => failure,
        };
        let (cause, kind) = (failure.cause, failure.cause.category().name());
        if let State::Working(_) = self.machine.state {
            warn!(%cause, r#type = kind, "recorded error: {failure}");
        } else {
            debug!(%cause, r#type = kind, "recorded error, too late to matter: {failure}");
        }
        if failure.response.is_some() {
            self.refused = Some(failure.clone());
        }
        self.decide(Event::Failed { scope, failure, sample: draw }).await;
        if let (Some(shut), State::Error { .. }) = (shut, self.machine.state) {
            self.wait_for(shut).await;
        }
    }

    /// Whether the failure of an item has opened a breaker, or came when it was open.
    fn has_opened(&self, failure: &Failure) -> bool {
        self.is_downloading() && self.circuits.shut_for(failure.cause, RequestScope::Item).is_some()
    }

    /// Tells the breakers of the ledger and the archive how they did.
    fn note_storage(&self, done: &Done) {
        match done {
            Done::Committed { result: Ok(_), .. } => self.circuits.stored(),
            Done::Paged(Ok(_)) | Done::Refilled(Ok(_)) | Done::Finished(Ok(_)) => {
                self.circuits.recorded();
            }
            Done::Looked(Err(failure))
            | Done::Paged(Err(failure))
            | Done::Proved(Err(failure))
            | Done::Refilled(Err(failure))
            | Done::Fetched { answer: Err(failure), .. }
            | Done::Committed { result: Err(failure), .. }
            | Done::Finished(Err(failure))
            | Done::Renewed(Err(failure)) => self.circuits.not_stored(failure),
            Done::Looked(Ok(_))
            | Done::ReconcileDue
            | Done::KnownGood(_)
            | Done::Proved(Ok(()))
            | Done::Fetched { answer: Ok(_), .. }
            | Done::Renewed(Ok(_))
            | Done::Shut(_) => {}
        }
    }

    /// Asked for one session by a person, the worker does not sit out what needs a person.
    pub(super) fn give_up_if_asked_once(&mut self) {
        if self.mode != Mode::Once || self.exit.is_some() {
            return;
        }
        let needs_a_person = self.machine.last_error.as_ref().is_some_and(|error| {
            error.cause.category() == ErrorCategory::Permanent
                || matches!(error.cause, Cause::Challenge | Cause::Storage | Cause::Ledger)
        });
        let hopeless = match self.machine.state {
            State::AuthFailed { .. } | State::Error { after_wait: AfterWait::Restart, .. } => true,
            State::Error { after_wait: AfterWait::Resume, .. } => {
                needs_a_person
                    || self.shut_by.as_ref().is_some_and(Shut::needs_a_person)
                    || self.has_never_worked()
                    || self.machine.retry_count > self.rules.max_retries
            }
            State::Idle { .. }
            | State::Working(_)
            | State::Completed
            | State::RateLimited { .. } => false,
        };
        if hopeless {
            self.exit = Some(Exit::GaveUp);
        }
    }
}
