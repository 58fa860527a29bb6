//! A thread that no loop can block: it feeds the watchdog while every loop keeps its word, and
//! climbs the last rungs of the ladder when one does not.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tracing::{debug, error, info, warn};

use crate::engine::{CrashLoop, MissedHeartbeat, WatchdogAction, WatchdogState};
use crate::systemd::{Notifier, NotifyState, RestartBudgetFile};
use crate::worker::liveness::{Board, Seat};
use crate::worker::world::{RealWorld, World};

/// How often the thread looks where no watchdog waits to be fed, and the longest it may sleep.
const LOOK_INTERVAL: Duration = Duration::from_secs(15);

/// Feedings in each interval that systemd grants: one may be lost or late.
const FEEDS_PER_INTERVAL: u32 = 4;

/// Pauses of the beat that the runtime may take for one: a machine under load is slow.
const PAUSES_MAX: u32 = 2;

/// Asks systemd to restart the unit; it blocks, and the error is a sentence.
#[derive(Clone)]
pub struct AskRestart(Arc<dyn Fn() -> Result<(), String> + Send + Sync>);

/// Who is watched, and what is done about it.
pub struct Watch {
    pub board: Board,
    pub notifier: Arc<Notifier>,
    /// How often systemd wants to be fed; `None` where it does not.
    pub interval: Option<Duration>,
    /// Absent where the worker may not start itself anew.
    pub ask: Option<AskRestart>,
    /// What is asked for is counted here, under the unit's name.
    pub state_dir: PathBuf,
    pub unit: String,
    /// Leaves the process at once, with the code that has it started again.
    pub leave: fn() -> !,
}

/// Starts the thread. It ends with the process.
///
/// # Errors
/// When there can be no more threads.
pub fn start(watch: Watch) -> std::io::Result<()> {
    thread::Builder::new().name("watchdog".to_owned()).spawn(move || keep(&watch)).map(drop)
}

/// Beats on the runtime, by way of its pool of blocking threads, so that a runtime that is
/// blocked and a pool that is dead are both missed.
pub async fn beat(seat: Seat, interval: Option<Duration>) {
    let pause = look_interval(interval);
    loop {
        seat.beat(pause.saturating_mul(PAUSES_MAX));
        tokio::time::sleep(pause).await;
        RealWorld.offload(|| ()).await;
    }
}

#[expect(clippy::disallowed_methods, reason = "a thread of its own may sleep")]
fn keep(watch: &Watch) {
    let pause = look_interval(watch.interval);
    let mut keeper = WatchdogState::default();
    loop {
        look(watch, &mut keeper);
        thread::sleep(pause);
    }
}

fn look(watch: &Watch, keeper: &mut WatchdogState) {
    let uptime = RealWorld::uptime();
    let keep = keeper.evaluate(watch.board.overdue(), uptime);
    if keep != WatchdogAction::WithholdKeepAlive && watch.interval.is_some() {
        watch.notifier.notify(&[NotifyState::Watchdog]);
    }
    match keep {
        WatchdogAction::SendKeepAlive | WatchdogAction::WithholdKeepAlive => {}
        WatchdogAction::Recovered => info!("what was stuck moves again"),
        WatchdogAction::ConsultRestartBudget(overdue) => {
            error!(
                source = overdue.loop_name,
                state = overdue.activity,
                late_s = overdue.overdue_by.as_secs(),
                "stuck: the work does not come back to its loop"
            );
            keeper.wait_to_restart(granted(watch), uptime);
        }
        WatchdogAction::RequestRestart(overdue) => ask(watch, keeper, &overdue),
    }
}

/// How long the budget has the request for a restart wait.
fn granted(watch: &Watch) -> Duration {
    let (now, progress) = (RealWorld.now(), watch.board.last_progress());
    match RestartBudgetFile::new(&watch.state_dir).request_restart(&watch.unit, progress, now) {
        Ok(grant) => {
            if grant.crash_loop == CrashLoop::Detected {
                error!(
                    restarts = grant.consecutive_restarts,
                    "a person is needed: restarts do not help, nothing moves between them"
                );
            }
            grant.not_before.since(now)
        }
        Err(failure) => {
            warn!(cause = %failure.cause, "restarts cannot be counted: {failure}");
            Duration::ZERO
        }
    }
}

fn ask(watch: &Watch, keeper: &mut WatchdogState, overdue: &MissedHeartbeat) {
    let Some(ask) = &watch.ask else {
        error!(
            source = overdue.loop_name,
            "stuck: not asking for a restart, since auto-restart is off"
        );
        return keeper.mark_restart_refused();
    };
    error!(
        source = overdue.loop_name,
        unit = watch.unit,
        "stuck: asking systemd to restart the unit"
    );
    match ask.ask() {
        Ok(()) => {
            // It would only wait for us to leave, which nothing here can do any more.
            debug!("the restart is granted");
            (watch.leave)()
        }
        Err(why) if watch.interval.is_some() => {
            error!("stuck: systemd does not restart the unit ({why}); leaving it to the watchdog");
            keeper.mark_restart_refused();
        }
        Err(why) => {
            error!(
                "stuck: systemd does not restart the unit ({why}), and no watchdog is set; leaving"
            );
            (watch.leave)()
        }
    }
}

fn look_interval(interval: Option<Duration>) -> Duration {
    interval.map_or(LOOK_INTERVAL, |interval| (interval / FEEDS_PER_INTERVAL).min(LOOK_INTERVAL))
}

impl AskRestart {
    pub fn new(ask: impl Fn() -> Result<(), String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(ask))
    }

    pub(super) fn ask(&self) -> Result<(), String> {
        (self.0)()
    }
}

impl std::fmt::Debug for AskRestart {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("AskRestart").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").field("unit", &self.unit).finish_non_exhaustive()
    }
}
