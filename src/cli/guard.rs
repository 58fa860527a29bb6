//! Sets the watchdog's keeper to work, where systemd runs the program.

use std::sync::Arc;
use std::time::Duration;

use tracing::warn;

use crate::cli::exit::Exit;
use crate::cli::place::Ground;
use crate::cli::watching::bus_within;
use crate::systemd::{Bus, NotAUnit, Notifier, UnitName, own_unit, watchdog_interval};
use crate::worker::{AskRestart, Board, Watch, beat, watch};

/// Who keeps time for the runtime itself.
const RUNTIME_SEAT: &str = "runtime";

/// How long one call over the bus may take: the watchdog goes hungry meanwhile.
const BUS_TIMEOUT: Duration = Duration::from_secs(5);

/// Starts the keeper and the beat of the runtime it listens to.
pub(super) fn guard(ground: &Ground, board: &Board, notifier: &Arc<Notifier>) {
    let service = &ground.loaded.settings.service;
    let unit = unit(ground);
    let interval = interval(ground);
    // Without judgement, what is fed is the mere presence of the process.
    let judged = if service.enable_health_monitoring { board.clone() } else { Board::default() };
    let keeper = Watch {
        board: judged,
        notifier: Arc::clone(notifier),
        interval,
        ask: service
            .enable_auto_restart
            .then(|| ask_for(bus_within(ground, BUS_TIMEOUT), unit.clone())),
        state_dir: ground.state_dir.clone(),
        unit,
        leave,
    };
    if let Err(error) = watch(keeper) {
        warn!("cannot watch over the work: there can be no thread for it ({error})");
        return;
    }
    tokio::task::spawn_local(beat(board.seat(RUNTIME_SEAT), interval));
}

/// The unit that the process runs in, by the kernel's word or else by the configuration's.
pub(super) fn unit(ground: &Ground) -> String {
    let name = &ground.loaded.settings.service.service_name;
    own_unit().unwrap_or_else(|| format!("{name}.service"))
}

fn interval(ground: &Ground) -> Option<Duration> {
    let variable = |name| ground.environment.get(name);
    watchdog_interval(variable("WATCHDOG_USEC"), variable("WATCHDOG_PID"), std::process::id())
}

fn ask_for(bus: Bus, unit: String) -> AskRestart {
    Box::new(move || {
        let unit: UnitName = unit.parse().map_err(|wrong: NotAUnit| wrong.to_string())?;
        bus.restart_unit(&unit).map_err(|error| format!("{error}; {}", error.remedy()))
    })
}

#[expect(clippy::exit, reason = "nothing else can end a process whose runtime is blocked")]
fn leave() -> ! {
    std::process::exit(i32::from(Exit::StartAgain.number()))
}
