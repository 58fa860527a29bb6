//! Leaves in good order: what is in flight may end, and is made durable.

use std::time::Duration;

use futures_util::StreamExt;
use tracing::{error, warn};

use super::doubt::{Blame, Failed};
use super::{Driver, Exit};
use crate::engine::RestartCause;
use crate::source::Source;
use crate::worker::jobs::Done;
use crate::worker::world::World;

/// How long what is in flight may take to end when the worker is asked to stop.
/// Below systemd's own limit of 90 s by far, and a person waits for it.
const STOP_LIMIT: Duration = Duration::from_secs(10);

impl<S: Source + 'static, W: World> Driver<S, W> {
    /// Lets what is in flight end, within a limit, and makes it durable.
    pub(super) async fn wind_down(&mut self) {
        let patience = if self.is_stuck() { Duration::ZERO } else { STOP_LIMIT };
        let limit = self.world.time().after(patience);
        self.seat.promise(patience, "leaving");
        self.downloads.drop_queue(self.world.now());
        while self.downloads.in_flight() > 0 && self.world.now() < limit.wall {
            tokio::select! {
                biased;
                Some(done) = self.jobs.next(), if !self.jobs.is_empty() => self.keep(done),
                () = self.world.sleep_until(limit) => break,
            }
        }
        self.jobs.clear();
        loop {
            while let Some(done) = self.commits.next().await {
                self.keep(done);
            }
            self.move_ledger().await;
            let Some(group) = self.downloads.take_last_group() else { break };
            self.commit(group, self.world.now());
        }
        self.circuits.save(&*self.world).await;
        self.figures.is_overdue = true;
        let machine = self.machine.clone();
        if let Err(failure) = self.save(&machine).await {
            error!(cause = %failure.cause, "cannot save the state while leaving: {failure}");
        }
    }

    /// Whether it leaves because nothing moves: what is in flight has had its time.
    fn is_stuck(&self) -> bool {
        self.exit == Some(Exit::Restart(RestartCause::Stuck))
    }

    /// Takes in the last answers, when no decision hangs on them any more.
    pub(super) fn keep(&mut self, done: Done) {
        self.count_attempt(&done);
        self.trace(&done);
        match done {
            Done::Fetched { errand, pass, answer: Ok(draft) } => self.served(errand, pass, draft),
            Done::Fetched { errand, pass, answer: Err(failure) } => {
                let at = self.world.now();
                if let Some(failed) = self.doubted(Failed { errand, pass, failure, at }) {
                    self.keep_failed(failed);
                }
            }
            Done::KnownGood(served) => {
                for failed in self.known_good(served) {
                    self.keep_failed(failed);
                }
            }
            Done::Committed { items, retry_at, weight, took, result } => {
                self.downloads.committed(&items, retry_at);
                match result {
                    Ok(tally) => {
                        self.count_group(weight, took);
                        self.count_on(tally);
                    }
                    Err(failure) => error!(cause = %failure.cause, "not stored: {failure}"),
                }
            }
            Done::Looked(_)
            | Done::Paged(_)
            | Done::Proved(_)
            | Done::Refilled(_)
            | Done::Finished(_)
            | Done::ReconcileDue
            | Done::Renewed(_)
            | Done::Shut(_) => {}
        }
    }

    fn keep_failed(&mut self, failed: Failed) {
        if let Blame::Session(failure) = self.blame(failed) {
            warn!(cause = %failure.cause, "recorded error while leaving: {failure}");
        }
    }
}
