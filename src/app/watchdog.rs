//! Start of the watchdog, for a process that systemd runs.

use std::sync::Arc;
use std::time::Duration;

use tracing::warn;

use crate::app::context::AppContext;
use crate::app::exit::ProgramExit;
use crate::app::monitoring::systemd_bus_with_timeout;
use crate::systemd::{InvalidUnitName, Notifier, UnitName, own_unit, watchdog_interval};
use crate::worker::{
    HeartbeatRegistry, RestartRequester, WatchdogConfig, run_runtime_heartbeat, spawn_watchdog,
};

/// Name of the heartbeat of the runtime itself.
const RUNTIME_HEARTBEAT: &str = "runtime";

/// Timeout of one D-Bus call, during which no keep-alive is sent to systemd.
const BUS_TIMEOUT: Duration = Duration::from_secs(5);

/// Starts the watchdog thread and the heartbeat of the runtime. Without a `restart_requester` the
/// watchdog requests no restarts.
pub(super) fn start_watchdog(
    context: &AppContext,
    registry: &HeartbeatRegistry,
    notifier: &Arc<Notifier>,
    restart_requester: Option<RestartRequester>,
) {
    let service = &context.loaded.settings.service;
    let interval = watchdog_interval_of(context);
    // Without health monitoring no heartbeat can be missed, so the keep-alive only shows that the
    // process exists.
    let heartbeats = if service.enable_health_monitoring {
        registry.clone()
    } else {
        HeartbeatRegistry::default()
    };
    let config = WatchdogConfig {
        heartbeats,
        notifier: Arc::clone(notifier),
        interval,
        restart_requester,
        state_dir: context.state_dir.clone(),
        unit: own_unit_name(context),
        exit_process,
    };
    if let Err(error) = spawn_watchdog(config) {
        warn!(%error, "cannot start the watchdog thread");
        return;
    }
    let heartbeat = registry.register(RUNTIME_HEARTBEAT);
    tokio::task::spawn_local(run_runtime_heartbeat(heartbeat, interval));
}

/// Returns the unit of this process: from its control group, or else from the configuration.
pub(super) fn own_unit_name(context: &AppContext) -> String {
    let name = &context.loaded.settings.service.service_name;
    own_unit().unwrap_or_else(|| format!("{name}.service"))
}

/// Returns the requester of restarts by systemd; `None` if automatic restarts are disabled.
pub(super) fn restart_requester(context: &AppContext) -> Option<RestartRequester> {
    let (bus, unit) = (systemd_bus_with_timeout(context, BUS_TIMEOUT), own_unit_name(context));
    let request = move || {
        let unit: UnitName = unit.parse().map_err(|error: InvalidUnitName| error.to_string())?;
        bus.restart_unit(&unit).map_err(|error| format!("{error}; {}", error.advice()))
    };
    context.loaded.settings.service.enable_auto_restart.then(|| RestartRequester::new(request))
}

fn watchdog_interval_of(context: &AppContext) -> Option<Duration> {
    let variable = |name| context.environment.get(name);
    watchdog_interval(variable("WATCHDOG_USEC"), variable("WATCHDOG_PID"), std::process::id())
}

#[expect(clippy::exit, reason = "a process whose runtime is blocked cannot end otherwise")]
fn exit_process() -> ! {
    std::process::exit(i32::from(ProgramExit::Restart.code()))
}
