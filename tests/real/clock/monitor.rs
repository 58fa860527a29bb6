//! Monitor and worker under clock steps: no source is reported as stuck, and no alert is wrong.

use std::net::SocketAddr;
use std::process::{Command, Stdio};

use cynosure_lab::demo::{self, DemoOptions, DemoServer};
use serde_json::Value;

use super::daemon::BusDaemon;
use super::fake_clock::{DAY, FakeClock, now, offset_to_1970};
use super::receiver::FakeReceiver;
use super::systemd::{FakeSystemd, SystemdBehaviour};
use super::{fixed_response_server, read_state_file, unix_seconds};
use crate::http::TestHttpClient;
use crate::test_program::{RunningProgram, TestFolder};
use crate::wait::{sleep, timed, wait_until};

const THROTTLED: &str = "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 7200\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
const UNAUTHORIZED: &str =
    "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// Tolerance of a deadline, in seconds, because a busy machine is slow. A worker that waits checks
/// its clock every 15 seconds.
const SLACK: i64 = 3;

/// Share of one processor that a process that checks once a second does not reach.
const CPU_SHARE_MAX: f64 = 0.5;

/// Worker and monitor, and the services that they use.
struct MonitorScenario {
    folder: TestFolder,
    clock: FakeClock,
    systemd: FakeSystemd,
    receiver: FakeReceiver,
    worker: RunningProgram,
    monitor: RunningProgram,
    endpoint: String,
    /// Deadline of each source that waits, by the true time, in seconds since the epoch.
    deadlines: Vec<(&'static str, i64)>,
    _demo: DemoServer,
    _daemon: BusDaemon,
}

impl MonitorScenario {
    /// Starts worker and monitor with a source that is idle for an hour, one that is throttled for
    /// two hours, and `extra_sources`, which reject the credential. Returns when each source waits.
    fn start(extra_sources: &[(&'static str, SocketAddr)]) -> Option<Self> {
        let demo = demo::start(DemoOptions { items: 5, ..DemoOptions::default() })
            .expect("the service starts");
        let mut sources =
            vec![("healthy", demo.address()), ("throttled", fixed_response_server(THROTTLED))];
        sources.extend(extra_sources);
        let receiver = FakeReceiver::with_statuses(&[]);
        let test_folder = TestFolder::new(&config(&sources, &receiver));
        let clock = FakeClock::new(test_folder.path())?;
        let daemon = BusDaemon::start();
        let systemd = FakeSystemd::start(daemon.address(), SystemdBehaviour::Allow);
        let start = |subcommand: &str| {
            let log = fs_err::File::create(test_folder.path().join(subcommand))
                .expect("the folder is ours");
            let mut command = test_folder.command(&[subcommand]);
            under_fake_clock(&clock, &mut command, &daemon).stderr(Stdio::from(log.into_file()));
            RunningProgram::start(command.stdout(Stdio::null()))
        };
        let worker = start("run");
        let state =
            |name: &str| read_state_file(&test_folder, &format!("{name}/execution_state.json"));
        wait_until("each source waits", || {
            let is_waiting = |(name, _): &(&str, _)| {
                let state = state(name);
                match *name {
                    "healthy" => state["status"] == "idle" && state["completion_time"].is_string(),
                    "throttled" => state["status"] == "rate_limited",
                    _ => state["status"] == "auth_failed",
                }
            };
            sources.iter().all(is_waiting)
        });
        let until = |name: &str| unix_seconds(&state(name)["until"]).expect("it waits");
        let deadlines = ["healthy", "throttled"].map(|name| (name, until(name))).to_vec();
        systemd.set_main_pid(worker.id());
        let monitor = start("monitor");
        wait_until("the endpoint listens", || endpoint(&test_folder).is_some());
        let endpoint = endpoint(&test_folder)?;
        let (_demo, _daemon) = (demo, daemon);
        Some(Self {
            folder: test_folder,
            clock,
            systemd,
            receiver,
            worker,
            monitor,
            endpoint,
            deadlines,
            _demo,
            _daemon,
        })
    }

    /// Sets the clock, and waits until the monitor has completed several cycles with it.
    fn set_clock(&self, ahead: i64) {
        self.clock.set(ahead);
        for _cycle in 0..3 {
            let from = now() + ahead;
            wait_until("the monitor completes a cycle", || {
                let checked_at = read_state_file(&self.folder, "monitor.json")["looked_at"].clone();
                unix_seconds(&checked_at).is_some_and(|at| from < at && at <= from + 60)
            });
        }
    }

    /// Waits until the worker has shifted its deadlines with the clock: each wait is as long as
    /// before.
    fn wait_until_deadlines_shift(&self, ahead: i64) {
        for (name, until) in &self.deadlines {
            wait_until("the worker has shifted its deadlines", || {
                let state = read_state_file(&self.folder, &format!("{name}/execution_state.json"));
                let shifted = unix_seconds(&state["until"]).expect("it waits");
                (shifted - until - ahead).abs() <= SLACK
            });
        }
    }

    /// Asserts that both run, no source is reported as stuck, and all saved state can be read.
    fn assert_consistent(&mut self, ahead: i64) {
        assert_eq!(self.systemd.restarts(), Vec::<String>::new(), "{ahead}");
        let record = read_state_file(&self.folder, "monitor.json");
        assert_eq!(record["restarts"], Value::Array(Vec::new()), "{ahead}");
        let findings = record["findings"].as_array().expect("a cycle is recorded");
        let is_stuck = |finding: &&Value| {
            ["overdue", "stalled", "clock_skew"].iter().any(|name| finding["finding"] == *name)
        };
        assert_eq!(findings.iter().find(is_stuck), None, "{ahead}");
        let health = read_state_file(&self.folder, "health.json");
        let checked_at = unix_seconds(&health["report"]["looked_at"]).expect("it has evaluated");
        assert!((checked_at - now() - ahead).abs() < 60, "{ahead}: {checked_at}");
        for file in ["alerts.json", "trends.json", "outbox.json"] {
            read_state_file(&self.folder, file);
        }
        assert_eq!((self.worker.try_wait(), self.monitor.try_wait()), (None, None), "{ahead}");
    }

    fn overview(&self) -> Value {
        let url = format!("{}/api/health/overview", self.endpoint);
        // A new connection, because a kept one may have been closed meanwhile.
        TestHttpClient::new().send(|client| client.get(url)).json()
    }

    /// Returns the key and the event of each notification since the last call.
    fn notifications(&self) -> Vec<(String, String)> {
        let mut notifications = Vec::new();
        while let Some(post) = self.receiver.try_next() {
            let alerts = post.json["alerts"].as_array().expect("it has alerts").clone();
            let text = |value: &Value| value.as_str().expect("it is text").to_owned();
            notifications
                .extend(alerts.iter().map(|alert| (text(&alert["key"]), text(&alert["event"]))));
        }
        notifications
    }
}

fn under_fake_clock<'c>(
    clock: &FakeClock,
    command: &'c mut Command,
    daemon: &BusDaemon,
) -> &'c mut Command {
    clock
        .apply_to(command)
        .env("DBUS_SYSTEM_BUS_ADDRESS", daemon.address())
        .env("DEMO_PASSWORD", "demo")
}

fn endpoint(test_folder: &TestFolder) -> Option<String> {
    let log = fs_err::read_to_string(test_folder.path().join("monitor")).ok()?;
    let (_, after) = log.split_once("endpoint listening url=")?;
    let (url, _) = after.split_once(char::is_whitespace)?;
    Some(url.trim_end_matches('/').to_owned())
}

fn config(sources: &[(&str, SocketAddr)], receiver: &FakeReceiver) -> String {
    let source = |(name, address): &(&str, SocketAddr)| {
        format!(
            r#"
[source.{name}]
kind = "jmap"
url = "http://{address}/.well-known/jmap"
account = "demo@example.com"
provider = "{name}"
poll_interval = "1h"
auth = {{ type = "basic", username = "demo@example.com", password = {{ env = "DEMO_PASSWORD" }} }}
"#
        )
    };
    let sources: String = sources.iter().map(source).collect();
    format!(
        r#"{sources}
[archive]
dir = "downloads"

[restart]
restart_delay_auth = "2h"
health_check_interval = "1s"

[monitor]
interval = "1s"

[health]
timeout = "1m"
cpu = 1.0
memory = 1.0
disk_warning = 1.0
disk_critical = 1.0
disk_free = 0
inodes = 1.0

[alert.webhook.test]
url = "{receiver}/"
shape = "json"

[endpoint]
listen = "127.0.0.1:0"
requests_per_minute = 10000
"#,
        receiver = receiver.url()
    )
}

/// Returns the processor time that a process has used, in seconds.
fn cpu_seconds(process: &RunningProgram) -> f64 {
    let stat = fs_err::read_to_string(format!("/proc/{}/stat", process.id())).expect("it runs");
    let (_, fields) = stat.rsplit_once(')').expect("it has a name");
    let ticks = fields.split_whitespace().skip(11).take(2);
    ticks.map(|ticks| ticks.parse::<f64>().expect("it is a number")).sum::<f64>() / 100.0
}

#[test]
fn clock_steps_change_no_wait_and_send_no_alert() {
    let Some(mut scenario) = MonitorScenario::start(&[]) else { return };
    let before = [&scenario.worker, &scenario.monitor].map(cpu_seconds);

    let ((), took) = timed(|| {
        for ahead in [DAY, 0, -DAY, offset_to_1970(), 0] {
            scenario.set_clock(ahead);
            scenario.assert_consistent(ahead);
            scenario.wait_until_deadlines_shift(ahead);
            scenario.set_clock(ahead);
            scenario.assert_consistent(ahead);
            assert_eq!(scenario.overview()["level"], "HEALTHY", "{ahead}: {}", scenario.overview());
        }
    });

    assert_eq!(scenario.notifications(), []);
    let after = [&scenario.worker, &scenario.monitor].map(cpu_seconds);
    for (before, after) in before.into_iter().zip(after) {
        let share = (after - before) / took.as_secs_f64();
        assert!(share < CPU_SHARE_MAX, "{share} of a processor");
    }
}

#[test]
fn clock_steps_neither_repeat_nor_resolve_an_alert() {
    let Some(mut scenario) =
        MonitorScenario::start(&[("refused", fixed_response_server(UNAUTHORIZED))])
    else {
        return;
    };
    scenario.set_clock(0);
    let expected = [("execution.credential_refused".to_owned(), "firing".to_owned())];
    let mut notifications = Vec::new();
    wait_until("the alert is sent", || {
        notifications.extend(scenario.notifications());
        notifications == expected
    });

    for ahead in [DAY, 0, -DAY, offset_to_1970(), 0, DAY] {
        scenario.set_clock(ahead);
        scenario.assert_consistent(ahead);
    }

    sleep(std::time::Duration::from_secs(2));
    assert_eq!(scenario.notifications(), [], "it was sent already, and is not resolved");
    let alerts = read_state_file(&scenario.folder, "alerts.json");
    assert_eq!(alerts["alerts"].as_array().map(Vec::len), Some(1), "{alerts}");
}
