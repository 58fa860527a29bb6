//! What is asked over the bus, of a systemd that answers, denies, hangs, or is not there.

mod daemon;
mod systemd;

use std::time::Duration;

use cynosure::engine::watch::{ActiveState, LoadState};
use cynosure::retry::{BackoffConfig, RetryPolicy};
use cynosure::systemd::{Bus, BusErrorKind, RestartPermission, UnitName};

pub(crate) use self::daemon::Daemon;
pub(crate) use self::systemd::{Manner, Systemd};

/// Long enough for any machine, where an answer is to be had.
const PATIENT: Duration = Duration::from_secs(60);

fn unit(name: &str) -> UnitName {
    name.parse().unwrap()
}

fn bus(address: &str, timeout: Duration) -> Bus {
    let again = BackoffConfig { base_delay: Duration::from_millis(1), ..BackoffConfig::FAST };
    Bus::new(address, timeout, RetryPolicy::new("bus", again))
}

#[test]
fn a_unit_tells_what_it_is_doing() {
    let daemon = Daemon::start();
    let _systemd = Systemd::start(daemon.address(), Manner::Obliging);

    let status = bus(daemon.address(), PATIENT).unit_status(&unit("cynosure")).unwrap();

    assert_eq!(status.name, "cynosure.service");
    assert_eq!((status.load_state, status.active_state), (LoadState::Loaded, ActiveState::Active));
    assert_eq!((status.main_pid, status.restarts), (Some(4711), 3));
    assert_eq!(status.watchdog_timeout, Some(Duration::from_secs(60)));
    assert_eq!(status.start_limit.interval, Duration::from_secs(10));
    assert_eq!(status.active_since.map(|at| at.0), Some(1_772_874_303_456));
    assert_eq!(status.state_changed_at, None);
}

#[test]
fn a_unit_that_is_not_installed_is_told_as_such() {
    let daemon = Daemon::start();
    let _systemd = Systemd::start(daemon.address(), Manner::Obliging);

    let status = bus(daemon.address(), PATIENT).unit_status(&unit("other")).unwrap();

    assert_eq!(status.load_state, LoadState::NotFound);
}

#[test]
fn a_restart_is_asked_for_once_and_a_question_restarts_nothing() {
    let daemon = Daemon::start();
    let systemd = Systemd::start(daemon.address(), Manner::Obliging);
    let bus = bus(daemon.address(), PATIENT);

    assert_eq!(
        bus.check_restart_permission(&unit("cynosure")).unwrap(),
        RestartPermission::Granted
    );
    assert_eq!(systemd.restarts(), Vec::<String>::new());
    bus.restart_unit(&unit("cynosure")).unwrap();

    assert_eq!(systemd.restarts(), ["cynosure.service"]);
}

#[test]
fn who_is_not_authorised_is_told_which_rule_is_missing() {
    let daemon = Daemon::start();
    let systemd = Systemd::start(daemon.address(), Manner::Denying);
    let bus = bus(daemon.address(), PATIENT);

    let error = bus.restart_unit(&unit("cynosure")).unwrap_err();

    assert!(matches!(error.kind, BusErrorKind::NotAuthorised { .. }), "{error}");
    assert!(error.advice().contains("rules.d"), "{}", error.advice());
    let denied = bus.check_restart_permission(&unit("cynosure")).unwrap();
    assert!(matches!(denied, RestartPermission::Denied(_)), "{denied:?}");
    assert_eq!(systemd.restarts(), Vec::<String>::new());
}

#[test]
fn an_unknown_unit_is_named() {
    let daemon = Daemon::start();
    let _systemd = Systemd::start(daemon.address(), Manner::Obliging);

    let error = bus(daemon.address(), PATIENT).restart_unit(&unit("other")).unwrap_err();

    assert_eq!(error.to_string(), "cannot restart other.service: there is no unit other.service");
}

#[test]
fn a_systemd_that_never_answers_holds_nobody_up() {
    let daemon = Daemon::start();
    let systemd = Systemd::start(daemon.address(), Manner::Silent);

    let error = bus(daemon.address(), Duration::from_millis(300)).restart_unit(&unit("cynosure"));

    let error = error.unwrap_err();
    assert!(matches!(error.kind, BusErrorKind::Timeout { .. }), "{error}");
    assert_eq!(systemd.restarts(), Vec::<String>::new());
}

#[test]
fn a_bus_that_takes_connections_and_says_nothing_holds_nobody_up() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("bus");
    let _listening = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let address = format!("unix:path={}", path.display());

    let error = bus(&address, Duration::from_millis(300)).systemd_version().unwrap_err();

    assert!(matches!(error.kind, BusErrorKind::Timeout { .. }), "{error}");
}

#[test]
fn a_bus_without_systemd_says_so() {
    let daemon = Daemon::start();

    let error = bus(daemon.address(), PATIENT).systemd_version().unwrap_err();

    assert_eq!(
        error.to_string(),
        "cannot ask for the version of systemd: systemd is not on the bus"
    );
}

#[test]
fn where_there_is_no_bus_its_place_is_named() {
    let error = bus("unix:path=/nowhere/bus", PATIENT).systemd_version().unwrap_err();

    assert!(matches!(error.kind, BusErrorKind::BusUnavailable { .. }), "{error}");
    assert_eq!(error.to_string().matches("/nowhere/bus").count(), 1, "{error}");
}

#[test]
fn a_bus_that_broke_off_is_tried_again_and_told() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("bus");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let address = format!("unix:path={}", path.display());

    let error = bus(&address, PATIENT).systemd_version().unwrap_err();

    assert!(matches!(error.kind, BusErrorKind::Disconnected { .. }), "{error}");
}

#[test]
fn the_bus_answers_a_thread_beside_a_runtime_that_is_blocked() {
    let daemon = Daemon::start();
    let _systemd = Systemd::start(daemon.address(), Manner::Obliging);
    let bus = bus(daemon.address(), PATIENT);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();

    let version = runtime.block_on(async {
        // Joining here blocks the runtime for as long as the call takes.
        std::thread::spawn(move || bus.systemd_version()).join().unwrap()
    });

    assert_eq!(version.unwrap(), "257.1");
}
