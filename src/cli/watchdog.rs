//! Sets the watchdog's keeper to work, where systemd runs the program.

use std::sync::Arc;
use std::time::Duration;

use tracing::warn;

use crate::cli::context::AppContext;
use crate::cli::exit::ProgramExit;
use crate::cli::monitoring::systemd_bus_with_timeout;
use crate::systemd::{InvalidUnitName, Notifier, UnitName, own_unit, watchdog_interval};
use crate::worker::{
    HeartbeatRegistry, RestartRequester, WatchdogConfig, run_runtime_heartbeat, watch,
};

/// Who keeps time for the runtime itself.
const RUNTIME_HEARTBEAT: &str = "runtime";

/// How long one call over the bus may take: the watchdog goes hungry meanwhile.
const BUS_TIMEOUT: Duration = Duration::from_secs(5);

/// Starts the keeper and the beat of the runtime it listens to. `ask` is absent where the worker may
/// not be started anew.
pub(super) fn start_watchdog(
    ground: &AppContext,
    board: &HeartbeatRegistry,
    notifier: &Arc<Notifier>,
    ask: Option<RestartRequester>,
) {
    let service = &ground.loaded.settings.service;
    let interval = watchdog_interval_of(ground);
    // Without judgement, what is fed is the mere presence of the process.
    let judged =
        if service.enable_health_monitoring { board.clone() } else { HeartbeatRegistry::default() };
    let keeper = WatchdogConfig {
        heartbeats: judged,
        notifier: Arc::clone(notifier),
        interval,
        restart_requester: ask,
        state_dir: ground.state_dir.clone(),
        unit: own_unit_name(ground),
        exit_process: exit_process,
    };
    if let Err(error) = watch(keeper) {
        warn!("cannot watch over the work: there can be no thread for it ({error})");
        return;
    }
    tokio::task::spawn_local(run_runtime_heartbeat(board.register(RUNTIME_HEARTBEAT), interval));
}

/// The unit that the process runs in, by the kernel's word or else by the configuration's.
pub(super) fn own_unit_name(ground: &AppContext) -> String {
    let name = &ground.loaded.settings.service.service_name;
    own_unit().unwrap_or_else(|| format!("{name}.service"))
}

/// How to have systemd restart the unit, where that is allowed.
pub(super) fn restart_requester(ground: &AppContext) -> Option<RestartRequester> {
    let (bus, unit) = (systemd_bus_with_timeout(ground, BUS_TIMEOUT), own_unit_name(ground));
    let ask = move || {
        let unit: UnitName = unit.parse().map_err(|wrong: InvalidUnitName| wrong.to_string())?;
        bus.restart_unit(&unit).map_err(|error| format!("{error}; {}", error.advice()))
    };
    ground.loaded.settings.service.enable_auto_restart.then(|| RestartRequester::new(ask))
}

fn watchdog_interval_of(ground: &AppContext) -> Option<Duration> {
    let variable = |name| ground.environment.get(name);
    watchdog_interval(variable("WATCHDOG_USEC"), variable("WATCHDOG_PID"), std::process::id())
}

#[expect(clippy::exit, reason = "nothing else can end a process whose runtime is blocked")]
fn exit_process() -> ! {
    std::process::exit(i32::from(ProgramExit::Restart.code()))
}
