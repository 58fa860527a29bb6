//! Restarts that do not help: they stay within bounds, whoever set these, and a person is told.

use std::time::Duration;

use crate::systemd::install::{UNIT, cynosure, override_service, override_unit};
use crate::systemd::switchable_proxy::ConnectionMode;
use crate::systemd::test_setup::ServiceSetup;
use crate::wait::{sleep, wait_until};

const MONITOR: &str = "cynosure-monitor.service";

#[test]
fn a_start_limit_of_an_administrator_is_reported() {
    let Some(scene) = ServiceSetup::with_config(10, "[monitor]\ninterval = \"1s\"\n") else {
        return;
    };
    override_unit(&scene.machine, UNIT, "[Unit]\nStartLimitIntervalSec=1h\nStartLimitBurst=2");
    // A server that refuses keeps the worker from completing, which would be a start, too.
    scene.proxy.set_mode(ConnectionMode::Silent);
    scene.start_until("collecting");
    let warned = cynosure(&scene.machine, "cynosure", &["doctor"]);
    assert!(warned.contains("start limit"), "{warned}");
    assert!(!warned.contains("ok     start limit"), "{warned}");

    for _ in 0..2 {
        let pid = scene.pid();
        scene.signal("KILL");
        wait_until("it is started again, or not any more", || scene.pid() != pid);
        wait_until("that is decided", || {
            ["active", "failed"].contains(&&*scene.property("ActiveState"))
        });
    }

    assert_eq!(scene.property("ActiveState"), "failed");
    assert!(
        finding_texts(&scene).contains("Start request repeated too quickly"),
        "{}",
        finding_texts(&scene)
    );
    let health = cynosure(&scene.machine, "cynosure", &["check"]);
    println!("{health}");
    assert!(health.contains("CRITICAL") && health.contains("reset-failed"), "{health}");
    scene.machine.run_successfully(&["systemctl", "start", MONITOR]);
    wait_until("the monitor has tried", || {
        scene.machine.journal(MONITOR).contains("the next restart is allowed at")
    });
    let asked = scene.machine.journal(MONITOR).matches("asked systemd for a restart").count();
    assert_eq!(asked, 1, "{}", scene.machine.journal(MONITOR));
}

#[test]
fn an_exhausted_budget_delays_the_next_restart() {
    let Some(scene) = ServiceSetup::with_config(10, "") else { return };
    scene.proxy.set_mode(ConnectionMode::Silent);
    scene.start_until("collecting");
    scene.systemctl("stop");
    exhausted_restart_budget(&scene, 0);
    override_service(&scene.machine, "Environment=FAIL_CYNOSURE=block_runtime\nWatchdogSec=4s");

    scene.systemctl("start");
    let pid = scene.pid();
    wait_until("it is stuck", || finding_texts(&scene).contains("does not come back to its loop"));
    // Three times as long as the watchdog waits: it is fed as long as a restart is to come.
    sleep(Duration::from_secs(12));

    assert_eq!((scene.pid(), scene.restarts()), (pid, 0));
    assert_eq!(
        finding_texts(&scene).matches("a person is needed").count(),
        1,
        "{}",
        finding_texts(&scene)
    );
}

#[test]
fn a_restart_that_failed_five_times_is_repeated_and_reported() {
    let Some(scene) = ServiceSetup::with_config(10, "") else { return };
    scene.proxy.set_mode(ConnectionMode::Silent);
    scene.start_until("collecting");
    scene.systemctl("stop");
    exhausted_restart_budget(&scene, 170);
    override_service(&scene.machine, "Environment=FAIL_CYNOSURE=block_runtime\nWatchdogSec=4s");

    scene.systemctl("start");
    let pid = scene.pid();
    wait_until("there is another worker", || !["0", &pid].contains(&&*scene.pid()));

    assert!(finding_texts(&scene).contains("a person is needed"), "{}", finding_texts(&scene));
}

fn finding_texts(scene: &ServiceSetup) -> String {
    scene.machine.journal(UNIT)
}

/// As if five restarts had been asked for, the last so many seconds ago, and nothing had moved since.
fn exhausted_restart_budget(scene: &ServiceSetup, ago: u32) {
    scene.machine.run_successfully(&[
        "sh",
        "-c",
        &format!(
            r#"sed -i 's/"last_progress": "[^"]*"/"last_progress": "2020-01-01T00:00:00.000Z"/' \
                /var/lib/cynosure/work/execution_state.json
            last=$(( ($(date +%s) - {ago}) * 1000 ))
            echo '{{"schema":1,"restarts":{{"{UNIT}":{{"in_a_row":5,"last_ms":'$last'}}}}}}' \
                >/var/lib/cynosure/restarts.json
            chown cynosure:cynosure /var/lib/cynosure/restarts.json"#
        ),
    ]);
}
