//! systemd, polkit, the unit, the clock, what is built in.

use std::io::{self, IsTerminal};

use crate::cli::doctor::Found;
use crate::cli::place::Ground;
use crate::cli::watching::{bus, unit};
use crate::engine::Timestamp;
use crate::engine::watch::{LoadState, UnitStatus};
use crate::human::{format_date_time, format_duration};
use crate::ledger::sqlite_version;
use crate::systemd::{Bus, BusError, BusErrorKind, RestartPermission, UnitName};
use crate::worker::{Env, RealEnv};

/// The first day of the year in which this was written: an earlier clock is not set.
const CLOCK_MIN: Timestamp = Timestamp(1_767_225_600_000);

pub(super) fn look(ground: &Ground) -> Vec<Found> {
    let bus = bus(ground);
    let mut found = systemd(ground, &bus);
    found.push(clock(&bus));
    found.push(Found::sound("SQLite", format!("{}, built in", sqlite_version())));
    found.push(terminal());
    found
}

fn systemd(ground: &Ground, bus: &Bus) -> Vec<Found> {
    let version = match bus.systemd_version() {
        Ok(version) => version,
        Err(error) => return vec![absent("systemd", &error)],
    };
    let mut found = vec![Found::sound("systemd", version)];
    found.push(match bus.polkit_version() {
        Ok(version) => Found::sound("polkit", version),
        Err(error) => absent("polkit", &error),
    });
    match unit(&ground.loaded.settings) {
        Ok(name) => {
            found.extend(of_unit(bus, &name));
            let sources = ground.loaded.settings.enabled_sources();
            let instances = sources.filter_map(|source| name.instance(source.as_str()));
            let in_use = |unit: &UnitName| bus.unit_status(unit).is_ok_and(|it| it.is_in_use());
            for unit in instances.filter(in_use) {
                found.extend(of_unit(bus, &unit));
            }
        }
        Err(_) => found.push(Found::note("unit", "service.service_name is no name of a unit")),
    }
    found
}

/// What is not here is no fault; what is here and silent is one.
fn absent(what: &str, error: &BusError) -> Found {
    match &error.kind {
        BusErrorKind::BusUnavailable { .. } | BusErrorKind::ServiceNotFound { .. } => {
            Found::note(what, format!("not here: {}", error.kind))
        }
        BusErrorKind::Disconnected { .. }
        | BusErrorKind::NotAuthorised { .. }
        | BusErrorKind::UnknownUnit { .. }
        | BusErrorKind::Timeout { .. }
        | BusErrorKind::Failed { .. } => Found::wrong(what, error.to_string(), error.advice()),
    }
}

fn of_unit(bus: &Bus, name: &UnitName) -> Vec<Found> {
    let status = match bus.unit_status(name) {
        Ok(status) => status,
        Err(error) => return vec![absent(name.as_str(), &error)],
    };
    match status.load_state {
        LoadState::Loaded => {}
        LoadState::NotFound => return vec![Found::note(name.as_str(), "not installed")],
        LoadState::Masked => {
            let remedy = format!("unmask it with `systemctl unmask {name}`");
            return vec![Found::wrong(name.as_str(), "masked", remedy)];
        }
        LoadState::Invalid => {
            let remedy = format!("see `systemd-analyze verify {name}`");
            return vec![Found::wrong(name.as_str(), "systemd cannot read it", remedy)];
        }
    }
    let doing = format!("{} ({})", status.active_state.name(), status.sub_state);
    vec![
        Found::sound(name.as_str(), format!("installed, {}, {doing}", status.unit_file_state)),
        permission(bus, name),
        start_limit(&status),
        watchdog(&status),
    ]
}

fn permission(bus: &Bus, name: &UnitName) -> Found {
    const WHAT: &str = "restart over D-Bus";
    match bus.check_restart_permission(name) {
        Ok(RestartPermission::Granted) => {
            Found::sound(WHAT, format!("this user may restart {name}"))
        }
        Ok(RestartPermission::Denied(error)) | Err(error) => {
            Found::wrong(WHAT, error.to_string(), error.advice())
        }
    }
}

fn start_limit(status: &UnitStatus) -> Found {
    const WHAT: &str = "start limit";
    let limit = status.start_limit;
    if limit.interval.is_zero() || limit.burst == 0 {
        return Found::sound(WHAT, "none: systemd never gives up");
    }
    let told = format!(
        "after {} starts within {} systemd leaves it down, restarts over D-Bus included",
        limit.burst,
        format_duration(limit.interval)
    );
    Found::wrong(WHAT, told, "set StartLimitIntervalSec=0 in [Unit]: `systemctl edit` the unit")
}

fn watchdog(status: &UnitStatus) -> Found {
    const WHAT: &str = "watchdog";
    match status.watchdog_timeout {
        Some(limit) => {
            Found::sound(WHAT, format!("ends it after {} of silence", format_duration(limit)))
        }
        None => Found::wrong(
            WHAT,
            "off: a worker that hangs is not ended",
            "set WatchdogSec= in [Service]: `systemctl edit` the unit",
        ),
    }
}

fn clock(bus: &Bus) -> Found {
    const WHAT: &str = "clock";
    const REMEDY: &str = "have it follow a server: `timedatectl set-ntp true`";
    let now = RealEnv.now();
    if now < CLOCK_MIN {
        return Found::wrong(WHAT, format!("it says {}", format_date_time(now)), REMEDY);
    }
    match bus.is_clock_synchronised() {
        Ok(true) => Found::sound(WHAT, format!("{}, synchronised", format_date_time(now))),
        Ok(false) => {
            Found::wrong(WHAT, format!("{}, follows no server", format_date_time(now)), REMEDY)
        }
        Err(_) => Found::note(
            WHAT,
            format!("{}; nobody here knows whether it is right", format_date_time(now)),
        ),
    }
}

fn terminal() -> Found {
    let told = if io::stderr().is_terminal() {
        "a person looks on: progress is a line that moves"
    } else {
        "none: what happens goes to the log"
    };
    Found::note("terminal", told)
}
