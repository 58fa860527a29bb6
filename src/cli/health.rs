//! The monitor's looks at the health of everything, and the one who delivers what comes of them.

use std::sync::Arc;

use tracing::error;

use crate::cli::exit::Exit;
use crate::cli::place::Ground;
use crate::cli::trouble::Trouble;
use crate::cli::watching::{look, post};
use crate::engine::Moment;
use crate::engine::watch::{Finding, Level};
use crate::monitor::{Gatherers, Postman, Round};
use crate::worker::{RealWorld, World};

/// Looks at the health of everything, less often than at unit and sources.
#[derive(Debug)]
pub(super) struct Health {
    gatherers: Arc<Gatherers>,
    postman: Postman,
    last: Option<Moment>,
    /// What was found of unit and sources at the last look.
    known: Vec<(String, Level, &'static str)>,
}

impl Health {
    /// Begins to deliver.
    ///
    /// # Errors
    /// When no thread can be had for it.
    pub(super) fn start(ground: &Ground) -> Result<Self, Trouble> {
        let postman = Postman::start(post(ground), || RealWorld.now());
        let postman = postman.map_err(|error| {
            Trouble::new(Exit::Other, format!("cannot start to deliver alerts: {error}"))
        })?;
        Ok(Self { gatherers: Arc::default(), postman, last: None, known: Vec::new() })
    }

    /// When its time has come, and when something about unit or sources is new.
    pub(super) fn is_due(&self, round: &Round, ground: &Ground, now: Moment) -> bool {
        let interval = ground.loaded.settings.restart.health_check_interval;
        let is_time = self.last.is_none_or(|last| now < last || now >= last.after(interval));
        is_time || self.known != known(round)
    }

    /// Looks, publishes and has people told, away from the loop.
    ///
    /// # Errors
    /// When the unit's name cannot be one.
    pub(super) fn look(
        &mut self,
        ground: &Ground,
        round: &Round,
        now: Moment,
    ) -> Result<impl Future<Output = ()> + use<>, Trouble> {
        (self.last, self.known) = (Some(now), known(round));
        let (look, post) = (look(ground)?, post(ground));
        let (gatherers, findings) = (Arc::clone(&self.gatherers), round.findings.clone());
        Ok(RealWorld.offload(move || {
            let seen = look.look(&gatherers, findings, now);
            let published = look.publish(&seen, now);
            // People are told even where it cannot be published.
            let told = look.tell(&seen, &post, now).map(drop);
            if let Err(failure) = published.and(told) {
                error!(cause = %failure.cause, "cannot write down how everything is: {failure}");
            }
        }))
    }

    /// Delivers what there is now, as the configuration now says.
    pub(super) fn deliver(&self, ground: &Ground) {
        self.postman.deliver(post(ground));
    }
}

fn known(round: &Round) -> Vec<(String, Level, &'static str)> {
    let known =
        |finding: &Finding| (finding.about.name().to_owned(), finding.level, finding.what.name());
    round.findings.iter().map(known).collect()
}
