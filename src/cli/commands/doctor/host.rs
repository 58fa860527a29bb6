//! Checks of the host: systemd, polkit, the units, the clock, SQLite and the terminal.

use std::io::{self, IsTerminal};

use cynosure_engine::health::watch::{LoadState, UnitStatus};
use cynosure_engine::{Timestamp, format_duration};

use crate::app::context::AppContext;
use crate::app::monitoring::{systemd_bus, worker_unit};
use crate::cli::commands::doctor::DoctorCheck;
use crate::env::{Env, RealEnv};
use crate::human::format_date_time;
use crate::ledger::sqlite_version;
use crate::systemd::{Bus, BusError, BusErrorKind, RestartPermission, UnitName};

/// Earliest plausible time, 2026-01-01 UTC, when this was written: an earlier clock is not set.
const CLOCK_MIN_PLAUSIBLE: Timestamp = Timestamp(1_767_225_600_000);

pub(super) fn check_host(context: &AppContext) -> Vec<DoctorCheck> {
    let bus = systemd_bus(context);
    let mut checks = check_systemd(context, &bus);
    checks.push(check_clock(&bus));
    checks.push(DoctorCheck::ok("SQLite", format!("{}, built in", sqlite_version())));
    checks.push(check_terminal());
    checks
}

fn check_systemd(context: &AppContext, bus: &Bus) -> Vec<DoctorCheck> {
    let version = match bus.systemd_version() {
        Ok(version) => version,
        Err(error) => return vec![unavailable("systemd", &error)],
    };
    let mut checks = vec![DoctorCheck::ok("systemd", version)];
    checks.push(match bus.polkit_version() {
        Ok(version) => DoctorCheck::ok("polkit", version),
        Err(error) => unavailable("polkit", &error),
    });
    match worker_unit(&context.loaded.settings) {
        Ok(name) => {
            checks.extend(check_unit(bus, &name));
            let sources = context.loaded.settings.enabled_sources();
            let instances = sources.filter_map(|source| name.instance(source.as_str()));
            let in_use =
                |unit: &UnitName| bus.unit_status(unit).is_ok_and(|status| status.is_in_use());
            for unit in instances.filter(in_use) {
                checks.extend(check_unit(bus, &unit));
            }
        }
        Err(_) => {
            checks.push(DoctorCheck::note("unit", "service.service_name is not a valid unit name"));
        }
    }
    checks
}

/// Returns a note for a service that is not present, and a failure for one that does not respond.
fn unavailable(subject: &str, error: &BusError) -> DoctorCheck {
    match &error.kind {
        BusErrorKind::BusUnavailable { .. } | BusErrorKind::ServiceNotFound { .. } => {
            DoctorCheck::note(subject, format!("not available: {}", error.kind))
        }
        BusErrorKind::Disconnected { .. }
        | BusErrorKind::NotAuthorised { .. }
        | BusErrorKind::UnknownUnit { .. }
        | BusErrorKind::Timeout { .. }
        | BusErrorKind::Failed { .. } => {
            DoctorCheck::failed(subject, error.to_string(), error.advice())
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
    let state = format!("{} ({})", status.active_state.name(), status.sub_state);
    vec![
        DoctorCheck::ok(name.as_str(), format!("installed, {}, {state}", status.unit_file_state)),
        check_restart_permission(bus, name),
        check_start_limit(&status),
        check_watchdog(&status),
    ]
}

fn check_restart_permission(bus: &Bus, name: &UnitName) -> DoctorCheck {
    const SUBJECT: &str = "restart over D-Bus";
    match bus.check_restart_permission(name) {
        Ok(RestartPermission::Granted) => {
            DoctorCheck::ok(SUBJECT, format!("this user may restart {name}"))
        }
        Ok(RestartPermission::Denied(error)) | Err(error) => {
            DoctorCheck::failed(SUBJECT, error.to_string(), error.advice())
        }
    }
}

fn check_start_limit(status: &UnitStatus) -> DoctorCheck {
    const SUBJECT: &str = "start limit";
    let limit = status.start_limit;
    if limit.interval.is_zero() || limit.burst == 0 {
        return DoctorCheck::ok(SUBJECT, "none: systemd restarts it without limit");
    }
    let message = format!(
        "after {} starts within {}, systemd refuses to start it again, also over D-Bus",
        limit.burst,
        format_duration(limit.interval)
    );
    DoctorCheck::failed(
        SUBJECT,
        message,
        "set StartLimitIntervalSec=0 in [Unit] of the unit with `systemctl edit`",
    )
}

fn check_watchdog(status: &UnitStatus) -> DoctorCheck {
    const SUBJECT: &str = "watchdog";
    match status.watchdog_timeout {
        Some(limit) => {
            let limit = format_duration(limit);
            DoctorCheck::ok(SUBJECT, format!("kills it after {limit} without a keep-alive"))
        }
        None => DoctorCheck::failed(
            SUBJECT,
            "off: a worker that hangs is not killed",
            "set WatchdogSec= in [Service] of the unit with `systemctl edit`",
        ),
    }
}

fn check_clock(bus: &Bus) -> DoctorCheck {
    const SUBJECT: &str = "clock";
    const REMEDY: &str = "synchronise it with a time server: `timedatectl set-ntp true`";
    let now = RealEnv.now();
    if now < CLOCK_MIN_PLAUSIBLE {
        let message = format!("{}, which is in the past", format_date_time(now));
        return DoctorCheck::failed(SUBJECT, message, REMEDY);
    }
    match bus.is_clock_synchronised() {
        Ok(true) => DoctorCheck::ok(SUBJECT, format!("{}, synchronised", format_date_time(now))),
        Ok(false) => DoctorCheck::failed(
            SUBJECT,
            format!("{}, not synchronised", format_date_time(now)),
            REMEDY,
        ),
        Err(_) => DoctorCheck::note(
            SUBJECT,
            format!("{}; cannot check whether it is synchronised", format_date_time(now)),
        ),
    }
}

fn check_terminal() -> DoctorCheck {
    let message = if io::stderr().is_terminal() {
        "present: progress is shown as a progress bar"
    } else {
        "none: progress is written to the log"
    };
    DoctorCheck::note("terminal", message)
}
