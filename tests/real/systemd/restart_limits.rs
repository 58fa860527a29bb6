//! Restarts that do not help: they stay within the limits of the program or of an administrator,
//! and an error is reported.

use std::time::Duration;

use crate::systemd::install::{UNIT, cynosure, override_service, override_unit};
use crate::systemd::switchable_proxy::ConnectionMode;
use crate::systemd::test_setup::ServiceSetup;
use crate::wait::{sleep, wait_until};

const MONITOR: &str = "cynosure-monitor.service";

#[test]
fn a_start_limit_of_an_administrator_is_reported() {
    let Some(setup) = ServiceSetup::with_config(10, "[monitor]\ninterval = \"1s\"\n") else {
        return;
    };
    override_unit(&setup.machine, UNIT, "[Unit]\nStartLimitIntervalSec=1h\nStartLimitBurst=2");
    // With this server no session completes, because the restart after a session would count, too.
    setup.proxy.set_mode(ConnectionMode::Silent);
    setup.start_until("collecting");
    let report = cynosure(&setup.machine, "cynosure", &["doctor"]);
    assert!(report.contains("start limit"), "{report}");
    assert!(!report.contains("ok      start limit"), "{report}");

    for _ in 0..2 {
        let pid = setup.pid();
        setup.signal("KILL");
        wait_until("this worker has ended", || setup.pid() != pid);
        wait_until("systemd has restarted it or given up", || {
            ["active", "failed"].contains(&&*setup.property("ActiveState"))
        });
    }

    assert_eq!(setup.property("ActiveState"), "failed");
    assert!(
        worker_journal(&setup).contains("Start request repeated too quickly"),
        "{}",
        worker_journal(&setup)
    );
    let health = cynosure(&setup.machine, "cynosure", &["check"]);
    println!("{health}");
    assert!(health.contains("CRITICAL") && health.contains("reset-failed"), "{health}");
    setup.machine.run_successfully(&["systemctl", "start", MONITOR]);
    wait_until("the monitor delays a second restart", || {
        setup.machine.journal(MONITOR).contains("restart delayed")
    });
    let requests = setup.machine.journal(MONITOR).matches("asked systemd for a restart").count();
    assert_eq!(requests, 1, "{}", setup.machine.journal(MONITOR));
}

#[test]
fn an_exhausted_budget_delays_the_next_restart() {
    let Some(setup) = ServiceSetup::with_config(10, "") else { return };
    setup.proxy.set_mode(ConnectionMode::Silent);
    setup.start_until("collecting");
    setup.systemctl("stop");
    write_exhausted_restart_budget(&setup, 0);
    override_service(&setup.machine, "Environment=FAIL_CYNOSURE=block_runtime\nWatchdogSec=4s");

    setup.systemctl("start");
    let pid = setup.pid();
    wait_until("the worker is reported as stuck", || {
        worker_journal(&setup).contains("the loop has missed its heartbeat deadline")
    });
    // Three times the watchdog timeout: keep-alives are sent as long as a restart is scheduled.
    sleep(Duration::from_secs(12));

    assert_eq!((setup.pid(), setup.restarts()), (pid, 0));
    assert_eq!(
        worker_journal(&setup).matches("manual intervention required").count(),
        1,
        "{}",
        worker_journal(&setup)
    );
}

#[test]
fn a_restart_that_failed_five_times_is_repeated_and_reported() {
    let Some(setup) = ServiceSetup::with_config(10, "") else { return };
    setup.proxy.set_mode(ConnectionMode::Silent);
    setup.start_until("collecting");
    setup.systemctl("stop");
    write_exhausted_restart_budget(&setup, 170);
    override_service(&setup.machine, "Environment=FAIL_CYNOSURE=block_runtime\nWatchdogSec=4s");

    setup.systemctl("start");
    let pid = setup.pid();
    wait_until("there is another worker", || !["0", &pid].contains(&&*setup.pid()));

    assert!(
        worker_journal(&setup).contains("manual intervention required"),
        "{}",
        worker_journal(&setup)
    );
}

fn worker_journal(setup: &ServiceSetup) -> String {
    setup.machine.journal(UNIT)
}

/// Writes the state after five requested restarts without progress, the last one `seconds_ago`
/// seconds ago.
fn write_exhausted_restart_budget(setup: &ServiceSetup, seconds_ago: u32) {
    setup.machine.run_successfully(&[
        "sh",
        "-c",
        &format!(
            r#"sed -i 's/"last_progress": "[^"]*"/"last_progress": "2020-01-01T00:00:00.000Z"/' \
                /var/lib/cynosure/work/execution_state.json
            last=$(( ($(date +%s) - {seconds_ago}) * 1000 ))
            echo '{{"schema":1,"restarts":{{"{UNIT}":{{"in_a_row":5,"last_ms":'$last'}}}}}}' \
                >/var/lib/cynosure/restarts.json
            chown cynosure:cynosure /var/lib/cynosure/restarts.json"#
        ),
    ]);
}
