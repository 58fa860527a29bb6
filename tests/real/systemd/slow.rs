//! Starts and stops that take longer than systemd grants at first: the worker asks for more time.

use crate::systemd::install::override_service;
use crate::systemd::switchable_proxy::ConnectionMode;
use crate::systemd::test_setup::ServiceSetup;
use crate::wait::timed;

#[test]
fn a_slow_recovery_is_no_failed_start() {
    let Some(scene) = ServiceSetup::new(10) else { return };
    override_service(&scene.machine, "Environment=FAIL_CYNOSURE=slow_start\nTimeoutStartSec=12s");

    let ((), took) = timed(|| scene.systemctl("start"));

    println!("with 12 s for a start it took {took:?}");
    assert!(took.as_secs() >= 13, "{took:?}");
    assert_eq!((scene.property("ActiveState").as_str(), scene.restarts()), ("active", 0));
}

#[test]
fn a_slow_stop_is_not_cut_short() {
    let Some(scene) = ServiceSetup::new(10) else { return };
    override_service(&scene.machine, "Environment=FAIL_CYNOSURE=slow_stop\nTimeoutStopSec=12s");
    // Else it may be between two sessions, and not running at all.
    scene.proxy.set_mode(ConnectionMode::Silent);
    scene.start_until("collecting");

    let ((), took) = timed(|| scene.systemctl("stop"));

    println!("with 12 s for a stop it took {took:?}");
    assert!(took.as_secs() >= 13, "{took:?}");
    assert_eq!(scene.property("Result"), "success");
    assert_eq!(scene.status()["running"], false);
}
