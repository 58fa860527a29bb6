//! What `status` says of the breakers that a source depends on.

use crate::cli::context::AppContext;
use crate::engine::breaker::{Breaker, BreakerState};
use crate::engine::{Timestamp, sanitize_line};
use crate::human::format_deadline;
use crate::worker::{ARCHIVE, BreakersFile, LEDGER, breaker_policy};

/// The breakers at one moment.
#[derive(Debug)]
pub(in crate::cli) struct BreakerNotes {
    breakers: Vec<Breaker>,
    now: Timestamp,
}

impl BreakerNotes {
    /// Looks at the breakers. What cannot be read is told by `breaker list`.
    #[must_use]
    pub(in crate::cli) fn load(ground: &AppContext, now: Timestamp) -> Self {
        let policy = breaker_policy(&ground.loaded.settings);
        let memories = BreakersFile::new(&ground.state_dir).read();
        let memories = memories.ok().and_then(Result::ok).unwrap_or_default();
        let breakers = memories
            .iter()
            .map(|(name, memory)| Breaker::restore(name, policy, memory, now))
            .collect();
        Self { breakers, now }
    }

    /// What to say of a source of this provider; nothing while all is well.
    #[must_use]
    pub(in crate::cli) fn for_provider(&self, provider: &str) -> Option<String> {
        let concerns = |name: &str| name == provider || name == LEDGER || name == ARCHIVE;
        let remarks = self.breakers.iter().filter(|breaker| concerns(breaker.name()));
        let remarks: Vec<String> = remarks.filter_map(|breaker| self.note(breaker)).collect();
        (!remarks.is_empty()).then(|| remarks.join("; "))
    }

    fn note(&self, breaker: &Breaker) -> Option<String> {
        let name = sanitize_line(breaker.name());
        match (breaker.state(), breaker.rejecting_until(self.now)) {
            (BreakerState::Closed, _) => None,
            (BreakerState::Open, Some(Some(until))) => {
                let until = format_deadline(until, self.now);
                Some(format!("the circuit of {name} is open until {until}"))
            }
            (BreakerState::Open, Some(None)) => {
                Some(format!("the circuit of {name} is open until `cynosure breaker close {name}`"))
            }
            (BreakerState::Open, None) => {
                Some(format!("the circuit of {name} is open; the next request may try"))
            }
            (BreakerState::HalfOpen, _) => {
                Some(format!("the circuit of {name} is half-open: one request at a time"))
            }
        }
    }
}
