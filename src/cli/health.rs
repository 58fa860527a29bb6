//! The monitor's looks at the health of everything, and the one who delivers what comes of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use tracing::{debug, warn};

use crate::cli::alert::in_runtime;
use crate::cli::exit::Exit;
use crate::cli::place::Ground;
use crate::cli::trouble::Trouble;
use crate::cli::watching::{look, post};
use crate::engine::alert::{Cause, Concern, Severity};
use crate::engine::watch::{Finding, Level};
use crate::engine::{Failure, Moment};
use crate::monitor::{Gatherers, Judged, Post, Postman, Round, Tried};
use crate::worker::{RealWorld, World};

/// Looks at the health of everything, less often than at unit and sources.
#[derive(Debug)]
pub(super) struct Health {
    gatherers: Arc<Gatherers>,
    postman: Postman,
    last: Option<Moment>,
    /// What was found of unit and sources at the last look.
    known: Vec<(String, Level, &'static str)>,
    /// It was told that nothing can be written down, and so that nothing else can be told.
    is_mute: Arc<AtomicBool>,
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
        let (gatherers, is_mute) = (Arc::default(), Arc::default());
        Ok(Self { gatherers, postman, last: None, known: Vec::new(), is_mute })
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
        let (gatherers, findings) =
            (Arc::clone(&self.gatherers), Judged::findings(&round.units).cloned().collect());
        let is_mute = Arc::clone(&self.is_mute);
        Ok(RealWorld.offload(move || {
            let seen = look.look(&gatherers, findings, now);
            let published = look.publish(&seen, now);
            // People are told even where it cannot be published.
            let told = look.tell(&seen, &post, now).map(drop);
            match published.and(told) {
                Ok(()) => is_mute.store(false, Ordering::Relaxed),
                Err(failure) if is_mute.swap(true, Ordering::Relaxed) => {
                    debug!(cause = %failure.cause, "still nothing can be written down: {failure}");
                }
                Err(failure) => cry(post, &failure, now),
            }
        }))
    }

    /// Delivers what there is now, as the configuration now says.
    pub(super) fn deliver(&mut self, ground: &Ground) {
        self.postman.deliver(post(ground));
    }
}

/// Tells that nothing can be written down, on a thread of its own, since nobody is to wait for it.
fn cry(post: Post, failure: &Failure, now: Moment) {
    let concern = Concern {
        cause: Cause::new("monitor", "cannot_write"),
        about: post.state_dir.display().to_string(),
        severity: Severity::Critical,
        message: format!("nothing else can be told, since nothing can be written down: {failure}"),
        advice: Some("see whether the disk is full, read-only or failing: `dmesg`".to_owned()),
    };
    thread::spawn(move || {
        let tried = in_runtime(post.tell_at_once(concern, now)).unwrap_or_default();
        for Tried { channel, outcome } in tried {
            if let Err(why) = outcome {
                warn!(channel, "alert not delivered, and not tried again: {why}");
            }
        }
    });
}

fn known(round: &Round) -> Vec<(String, Level, &'static str)> {
    let known =
        |finding: &Finding| (finding.about.name().to_owned(), finding.level, finding.what.name());
    Judged::findings(&round.units).map(known).collect()
}
