//! Notes in `status` and the dashboard about the circuit breakers that a source depends on.

use cynosure_engine::breaker::{Breaker, BreakerState};
use cynosure_engine::{Timestamp, sanitize_line};

use crate::app::context::AppContext;
use crate::human::format_deadline;
use crate::worker::{ARCHIVE, LEDGER};

/// Notes about the saved circuit breakers, as of one time.
#[derive(Debug)]
pub(crate) struct BreakerNotes {
    breakers: Vec<Breaker>,
    now: Timestamp,
}

impl BreakerNotes {
    /// Reads the breakers. An unreadable file is treated as empty: `breaker list` reports it.
    #[must_use]
    pub(crate) fn load(context: &AppContext, now: Timestamp) -> Self {
        let policy = context.loaded.settings.breaker;
        let states = context.state_folder().breakers_file().read();
        let states = states.ok().and_then(Result::ok).unwrap_or_default();
        let breakers =
            states.iter().map(|(name, state)| Breaker::restore(name, policy, state, now)).collect();
        Self { breakers, now }
    }

    /// Returns the note for a source of this provider. `None` if all its breakers are closed.
    #[must_use]
    pub(crate) fn for_provider(&self, provider: &str) -> Option<String> {
        let is_relevant = |name: &str| name == provider || name == LEDGER || name == ARCHIVE;
        let breakers = self.breakers.iter().filter(|breaker| is_relevant(breaker.name()));
        let notes: Vec<String> = breakers.filter_map(|breaker| self.note(breaker)).collect();
        (!notes.is_empty()).then(|| notes.join("; "))
    }

    fn note(&self, breaker: &Breaker) -> Option<String> {
        let name = sanitize_line(breaker.name());
        match (breaker.state(), breaker.rejecting_until(self.now)) {
            (BreakerState::Closed, _) => None,
            (BreakerState::Open, Some(Some(until))) => {
                let until = format_deadline(until, self.now);
                Some(format!("the circuit breaker {name} is open until {until}"))
            }
            (BreakerState::Open, Some(None)) => Some(format!(
                "the circuit breaker {name} is open until `cynosure breaker close {name}`"
            )),
            (BreakerState::Open, None) => {
                Some(format!("the circuit breaker {name} is open; the next request is a probe"))
            }
            (BreakerState::HalfOpen, _) => {
                Some(format!("the circuit breaker {name} is half-open: one request at a time"))
            }
        }
    }
}
