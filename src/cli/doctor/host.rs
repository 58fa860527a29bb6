//! systemd, polkit, the unit, the clock, what is built in.

use std::io::{self, IsTerminal};

use crate::cli::context::AppContext;
use crate::cli::doctor::DoctorCheck;
use crate::cli::monitoring::{systemd_bus, worker_unit};
use crate::engine::Timestamp;
use crate::engine::watch::{LoadState, UnitStatus};
use crate::human::{format_date_time, format_duration};
use crate::ledger::sqlite_version;
use crate::systemd::{Bus, BusError, BusErrorKind, RestartPermission, UnitName};
use crate::worker::{Env, RealEnv};

/// The first day of the year in which this was written: an earlier clock is not set.
const CLOCK_MIN_PLAUSIBLE: Timestamp = Timestamp(1_767_225_600_000);

pub(super) fn check_host(ground: &AppContext) -> Vec<DoctorCheck> {
    let bus = systemd_bus(ground);
    let mut found = check_systemd(ground, &bus);
    found.push(check_clock(&bus));
    found.push(DoctorCheck::ok("SQLite", format!("{}, built in", sqlite_version())));
    found.push(check_terminal());
    found
}

fn check_systemd(ground: &AppContext, bus: &Bus) -> Vec<DoctorCheck> {
    let version = match bus.systemd_version() {
        Ok(version) => version,
        Err(error) => return vec![unavailable("systemd", &error)],
    };
    let mut found = vec![DoctorCheck::ok("systemd", version)];
    found.push(match bus.polkit_version() {
        Ok(version) => DoctorCheck::ok("polkit", version),
        Err(error) => unavailable("polkit", &error),
    });
    match worker_unit(&ground.loaded.settings) {
        Ok(name) => {
            found.extend(check_unit(bus, &name));
            let sources = ground.loaded.settings.enabled_sources();
            let instances = sources.filter_map(|source| name.instance(source.as_str()));
            let in_use = |unit: &UnitName| bus.unit_status(unit).is_ok_and(|it| it.is_in_use());
            for unit in instances.filter(in_use) {
                found.extend(check_unit(bus, &unit));
            }
        }
        Err(_) => {
            found.push(DoctorCheck::note("unit", "service.service_name is no name of a unit"))
        }
    }
    found
}

/// What is not here is no fault; what is here and silent is one.
fn unavailable(what: &str, error: &BusError) -> DoctorCheck {
    match &error.kind {
        BusErrorKind::BusUnavailable { .. } | BusErrorKind::ServiceNotFound { .. } => {
            DoctorCheck::note(what, format!("not here: {}", error.kind))
        }
        BusErrorKind::Disconnected { .. }
        | BusErrorKind::NotAuthorised { .. }
        | BusErrorKind::UnknownUnit { .. }
        | BusErrorKind::Timeout { .. }
        | BusErrorKind::Failed { .. } => {
            DoctorCheck::failed(what, error.to_string(), error.advice())
        }
    }
}

fn check_unit(bus: &Bus, name: &UnitName) -> Vec<DoctorCheck> {
    let status = match bus.unit_status(name) {
        Ok(status) => status,
        Err(error) => return vec![unavailable(name.as_str(), &error)],
    };
    match status.load_state {
        LoadState::Loaded => {}
        LoadState::NotFound => return vec![DoctorCheck::note(name.as_str(), "not installed")],
        LoadState::Masked => {
            let remedy = format!("unmask it with `systemctl unmask {name}`");
            return vec![DoctorCheck::failed(name.as_str(), "masked", remedy)];
        }
        LoadState::Invalid => {
            let remedy = format!("see `systemd-analyze verify {name}`");
            return vec![DoctorCheck::failed(name.as_str(), "systemd cannot read it", remedy)];
        }
    }
    let doing = format!("{} ({})", status.active_state.name(), status.sub_state);
    vec![
        DoctorCheck::ok(name.as_str(), format!("installed, {}, {doing}", status.unit_file_state)),
        check_restart_permission(bus, name),
        check_start_limit(&status),
        check_watchdog(&status),
    ]
}

fn check_restart_permission(bus: &Bus, name: &UnitName) -> DoctorCheck {
    const WHAT: &str = "restart over D-Bus";
    match bus.check_restart_permission(name) {
        Ok(RestartPermission::Granted) => {
            DoctorCheck::ok(WHAT, format!("this user may restart {name}"))
        }
        Ok(RestartPermission::Denied(error)) | Err(error) => {
            DoctorCheck::failed(WHAT, error.to_string(), error.advice())
        }
    }
}

fn check_start_limit(status: &UnitStatus) -> DoctorCheck {
    const WHAT: &str = "start limit";
    let limit = status.start_limit;
    if limit.interval.is_zero() || limit.burst == 0 {
        return DoctorCheck::ok(WHAT, "none: systemd never gives up");
    }
    let told = format!(
        "after {} starts within {} systemd leaves it down, restarts over D-Bus included",
        limit.burst,
        format_duration(limit.interval)
    );
    DoctorCheck::failed(
        WHAT,
        told,
        "set StartLimitIntervalSec=0 in [Unit]: `systemctl edit` the unit",
    )
}

fn check_watchdog(status: &UnitStatus) -> DoctorCheck {
    const WHAT: &str = "watchdog";
    match status.watchdog_timeout {
        Some(limit) => {
            DoctorCheck::ok(WHAT, format!("ends it after {} of silence", format_duration(limit)))
        }
        None => DoctorCheck::failed(
            WHAT,
            "off: a worker that hangs is not ended",
            "set WatchdogSec= in [Service]: `systemctl edit` the unit",
        ),
    }
}

fn check_clock(bus: &Bus) -> DoctorCheck {
    const WHAT: &str = "clock";
    const REMEDY: &str = "have it follow a server: `timedatectl set-ntp true`";
    let now = RealEnv.now();
    if now < CLOCK_MIN_PLAUSIBLE {
        return DoctorCheck::failed(WHAT, format!("it says {}", format_date_time(now)), REMEDY);
    }
    match bus.is_clock_synchronised() {
        Ok(true) => DoctorCheck::ok(WHAT, format!("{}, synchronised", format_date_time(now))),
        Ok(false) => DoctorCheck::failed(
            WHAT,
            format!("{}, follows no server", format_date_time(now)),
            REMEDY,
        ),
        Err(_) => DoctorCheck::note(
            WHAT,
            format!("{}; nobody here knows whether it is right", format_date_time(now)),
        ),
    }
}

fn check_terminal() -> DoctorCheck {
    let told = if io::stderr().is_terminal() {
        "a person looks on: progress is a line that moves"
    } else {
        "none: what happens goes to the log"
    };
    DoctorCheck::note("terminal", told)
}
