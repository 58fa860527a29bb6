//! Starts and stops that take longer than the timeouts of systemd: the worker extends them.

use crate::systemd::install::override_service;
use crate::systemd::switchable_proxy::ConnectionMode;
use crate::systemd::test_setup::ServiceSetup;
use crate::wait::timed;

#[test]
fn a_slow_start_is_not_a_failed_start() {
    let Some(setup) = ServiceSetup::new(10) else { return };
    override_service(&setup.machine, "Environment=FAIL_CYNOSURE=slow_start\nTimeoutStartSec=12s");

    let ((), took) = timed(|| setup.systemctl("start"));

    println!("start timeout 12 s: the start took {took:?}");
    assert!(took.as_secs() >= 13, "{took:?}");
    assert_eq!((setup.property("ActiveState").as_str(), setup.restarts()), ("active", 0));
}

#[test]
fn a_slow_stop_is_not_aborted() {
    let Some(setup) = ServiceSetup::new(10) else { return };
    override_service(&setup.machine, "Environment=FAIL_CYNOSURE=slow_stop\nTimeoutStopSec=12s");
    // Otherwise it may be between two sessions, and not running at all.
    setup.proxy.set_mode(ConnectionMode::Silent);
    setup.start_until("collecting");

    let ((), took) = timed(|| setup.systemctl("stop"));

    println!("stop timeout 12 s: the stop took {took:?}");
    assert!(took.as_secs() >= 13, "{took:?}");
    assert_eq!(setup.property("Result"), "success");
    assert_eq!(setup.status()["running"], false);
}
