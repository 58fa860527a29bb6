//! Requests over D-Bus to a systemd that responds, denies, hangs, or is not there.

mod daemon;
mod systemd;

use std::time::Duration;

use cynosure::retry::{BackoffConfig, RetryPolicy};
use cynosure::systemd::{Bus, BusErrorKind, RestartPermission, UnitName};
use cynosure_engine::health::watch::{ActiveState, LoadState};

pub(crate) use self::daemon::BusDaemon;
pub(crate) use self::systemd::{FakeSystemd, SystemdBehaviour};

/// Timeout where a response is expected, long enough for any machine.
const LONG_TIMEOUT: Duration = Duration::from_secs(60);

fn unit(name: &str) -> UnitName {
    name.parse().unwrap()
}

fn bus(address: &str, timeout: Duration) -> Bus {
    let backoff = BackoffConfig { base_delay: Duration::from_millis(1), ..BackoffConfig::FAST };
    Bus::new(address, timeout, RetryPolicy::new("bus", backoff))
}

#[test]
fn a_unit_reports_its_status() {
    let daemon = BusDaemon::start();
    let _systemd = FakeSystemd::start(daemon.address(), SystemdBehaviour::Allow);

    let status = bus(daemon.address(), LONG_TIMEOUT).unit_status(&unit("cynosure")).unwrap();

    assert_eq!(status.name, "cynosure.service");
    assert_eq!((status.load_state, status.active_state), (LoadState::Loaded, ActiveState::Active));
    assert_eq!((status.main_pid, status.restarts), (Some(4711), 3));
    assert_eq!(status.watchdog_timeout, Some(Duration::from_secs(60)));
    assert_eq!(status.start_limit.interval, Duration::from_secs(10));
    assert_eq!(status.active_since.map(|at| at.0), Some(1_772_874_303_456));
    assert_eq!(status.state_changed_at, None);
}

#[test]
fn a_missing_unit_is_reported_as_not_installed() {
    let daemon = BusDaemon::start();
    let _systemd = FakeSystemd::start(daemon.address(), SystemdBehaviour::Allow);

    let status = bus(daemon.address(), LONG_TIMEOUT).unit_status(&unit("other")).unwrap();

    assert_eq!(status.load_state, LoadState::NotFound);
}

#[test]
fn a_restart_is_requested_once_and_a_query_restarts_nothing() {
    let daemon = BusDaemon::start();
    let systemd = FakeSystemd::start(daemon.address(), SystemdBehaviour::Allow);
    let bus = bus(daemon.address(), LONG_TIMEOUT);

    assert_eq!(
        bus.check_restart_permission(&unit("cynosure")).unwrap(),
        RestartPermission::Granted
    );
    assert_eq!(systemd.restarts(), Vec::<String>::new());
    bus.restart_unit(&unit("cynosure")).unwrap();

    assert_eq!(systemd.restarts(), ["cynosure.service"]);
}

#[test]
fn an_unauthorised_restart_names_the_missing_rule() {
    let daemon = BusDaemon::start();
    let systemd = FakeSystemd::start(daemon.address(), SystemdBehaviour::Deny);
    let bus = bus(daemon.address(), LONG_TIMEOUT);

    let error = bus.restart_unit(&unit("cynosure")).unwrap_err();

    assert!(matches!(error.kind, BusErrorKind::NotAuthorised { .. }), "{error}");
    assert!(error.advice().contains("rules.d"), "{}", error.advice());
    let denied = bus.check_restart_permission(&unit("cynosure")).unwrap();
    assert!(matches!(denied, RestartPermission::Denied(_)), "{denied:?}");
    assert_eq!(systemd.restarts(), Vec::<String>::new());
}

#[test]
fn an_unknown_unit_is_named() {
    let daemon = BusDaemon::start();
    let _systemd = FakeSystemd::start(daemon.address(), SystemdBehaviour::Allow);

    let error = bus(daemon.address(), LONG_TIMEOUT).restart_unit(&unit("other")).unwrap_err();

    assert_eq!(error.to_string(), "cannot restart other.service: there is no unit other.service");
}

#[test]
fn a_silent_systemd_does_not_block_the_caller() {
    let daemon = BusDaemon::start();
    let systemd = FakeSystemd::start(daemon.address(), SystemdBehaviour::Silent);

    let result = bus(daemon.address(), Duration::from_millis(300)).restart_unit(&unit("cynosure"));

    let error = result.unwrap_err();
    assert!(matches!(error.kind, BusErrorKind::Timeout { .. }), "{error}");
    assert_eq!(systemd.restarts(), Vec::<String>::new());
}

#[test]
fn a_silent_bus_does_not_block_the_caller() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("bus");
    let _listening = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let address = format!("unix:path={}", path.display());

    let error = bus(&address, Duration::from_millis(300)).systemd_version().unwrap_err();

    assert!(matches!(error.kind, BusErrorKind::Timeout { .. }), "{error}");
}

#[test]
fn a_bus_without_systemd_is_reported() {
    let daemon = BusDaemon::start();

    let error = bus(daemon.address(), LONG_TIMEOUT).systemd_version().unwrap_err();

    assert_eq!(error.to_string(), "cannot query the version of systemd: systemd is not on the bus");
}

#[test]
fn a_missing_bus_is_reported_with_its_address() {
    let error = bus("unix:path=/nowhere/bus", LONG_TIMEOUT).systemd_version().unwrap_err();

    assert!(matches!(error.kind, BusErrorKind::BusUnavailable { .. }), "{error}");
    assert_eq!(error.to_string().matches("/nowhere/bus").count(), 1, "{error}");
}

#[test]
fn a_broken_bus_connection_is_retried_and_reported() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("bus");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let address = format!("unix:path={}", path.display());

    let error = bus(&address, LONG_TIMEOUT).systemd_version().unwrap_err();

    assert!(matches!(error.kind, BusErrorKind::Disconnected { .. }), "{error}");
}

#[test]
fn a_bus_query_works_beside_a_blocked_runtime() {
    let daemon = BusDaemon::start();
    let _systemd = FakeSystemd::start(daemon.address(), SystemdBehaviour::Allow);
    let bus = bus(daemon.address(), LONG_TIMEOUT);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();

    let version = runtime.block_on(async {
        // Joining here blocks the runtime for as long as the call takes.
        std::thread::spawn(move || bus.systemd_version()).join().unwrap()
    });

    assert_eq!(version.unwrap(), "257.1");
}
