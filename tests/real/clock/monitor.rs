//! A monitor beside a worker: nobody is called stuck who is not, and nothing is told that is not so.

use std::net::SocketAddr;
use std::process::{Command, Stdio};

use cynosure::demo::{self, DemoOptions, DemoServer};
use serde_json::Value;

use super::daemon::BusDaemon;
use super::fake_clock::{DAY, FakeClock, now, to_1970};
use super::receiver::FakeReceiver;
use super::systemd::{FakeSystemd, SystemdBehaviour};
use super::{fixed_response_server, read_state_file, seconds};
use crate::http::TestHttpClient;
use crate::test_program::{RunningProgram, TestFolder};
use crate::wait::{sleep, timed, wait_until};

const THROTTLED: &str = "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 7200\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
const UNAUTHORIZED: &str =
    "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// A worker looks at its clock every 15 seconds while it waits, and a busy machine is slow.
const SLACK: i64 = 3;

/// The share of one processor that nobody takes who only looks once a second.
const CPU_SHARE_MAX: f64 = 0.5;

/// The worker, its monitor, and all that they meet.
struct MonitorScenario {
    workplace: TestFolder,
    clock: FakeClock,
    systemd: FakeSystemd,
    receiver: FakeReceiver,
    worker: RunningProgram,
    monitor: RunningProgram,
    endpoint: String,
    /// By the name of a source: until when it waits, by the right time.
    deadlines: Vec<(&'static str, i64)>,
    _demo: DemoServer,
    _daemon: BusDaemon,
}

impl MonitorScenario {
    /// A source that has nothing to do for an hour, one that is throttled for two, and these.
    fn run(more: &[(&'static str, SocketAddr)]) -> Option<Self> {
        let demo =
            demo::start(DemoOptions { items: 5, ..DemoOptions::default() }).expect("it starts");
        let mut sources =
            vec![("well", demo.address()), ("throttled", fixed_response_server(THROTTLED))];
        sources.extend(more);
        let receiver = FakeReceiver::with_statuses(&[]);
        let workplace = TestFolder::new(&config(&sources, &receiver));
        let clock = FakeClock::new(workplace.path())?;
        let daemon = BusDaemon::start();
        let systemd = FakeSystemd::start(daemon.address(), SystemdBehaviour::Allow);
        let start = |name: &str| {
            let log = fs_err::File::create(workplace.path().join(name)).expect("it is ours");
            let mut command = workplace.command(&[name]);
            under_fake_clock(&clock, &mut command, &daemon).stderr(Stdio::from(log.into_file()));
            RunningProgram::start(command.stdout(Stdio::null()))
        };
        let worker = start("run");
        let state =
            |name: &str| read_state_file(&workplace, &format!("{name}/execution_state.json"));
        wait_until("each source waits", || {
            let waits = |(name, _): &(&str, _)| {
                let state = state(name);
                match *name {
                    "well" => state["status"] == "idle" && state["completion_time"].is_string(),
                    "throttled" => state["status"] == "rate_limited",
                    _ => state["status"] == "auth_failed",
                }
            };
            sources.iter().all(waits)
        });
        let until = |name: &str| seconds(&state(name)["until"]).expect("it waits");
        let waits = ["well", "throttled"].map(|name| (name, until(name))).to_vec();
        systemd.set_main_pid(worker.id());
        let monitor = start("monitor");
        wait_until("the endpoint listens", || endpoint(&workplace).is_some());
        let endpoint = endpoint(&workplace)?;
        let (_demo, _daemon) = (demo, daemon);
        Some(Self {
            workplace,
            clock,
            systemd,
            receiver,
            worker,
            monitor,
            endpoint,
            deadlines: waits,
            _demo,
            _daemon,
        })
    }

    /// Sets the clock, and returns when the monitor has looked at it more than once.
    fn set(&self, ahead: i64) {
        self.clock.set(ahead);
        for _look in 0..3 {
            let from = now() + ahead;
            wait_until("the monitor looks", || {
                let looked_at =
                    read_state_file(&self.workplace, "monitor.json")["looked_at"].clone();
                seconds(&looked_at).is_some_and(|at| from < at && at <= from + 60)
            });
        }
    }

    /// Waits until the worker goes by the clock: each wait is as long as it was.
    fn wait_until_deadlines_shift(&self, ahead: i64) {
        for (name, until) in &self.deadlines {
            wait_until("the worker follows the clock", || {
                let state =
                    read_state_file(&self.workplace, &format!("{name}/execution_state.json"));
                let moved = seconds(&state["until"]).expect("it waits");
                (moved - until - ahead).abs() <= SLACK
            });
        }
    }

    /// What must hold at any time.
    fn assert_consistent(&mut self, ahead: i64) {
        assert_eq!(self.systemd.restarts(), Vec::<String>::new(), "{ahead}");
        let record = read_state_file(&self.workplace, "monitor.json");
        assert_eq!(record["restarts"], Value::Array(Vec::new()), "{ahead}");
        let findings = record["findings"].as_array().expect("it has looked");
        let stuck = |finding: &&Value| {
            ["overdue", "stalled", "from_the_future"].iter().any(|word| finding["finding"] == *word)
        };
        assert_eq!(findings.iter().find(stuck), None, "{ahead}");
        let health = read_state_file(&self.workplace, "health.json");
        let looked_at = seconds(&health["report"]["looked_at"]).expect("it has looked");
        assert!((looked_at - now() - ahead).abs() < 60, "{ahead}: {looked_at}");
        for file in ["alerts.json", "trends.json", "outbox.json"] {
            read_state_file(&self.workplace, file);
        }
        assert_eq!((self.worker.try_wait(), self.monitor.try_wait()), (None, None), "{ahead}");
    }

    fn overview(&self) -> Value {
        let url = format!("{}/api/health/overview", self.endpoint);
        // A connection of its own: one that is kept may be closed meanwhile.
        TestHttpClient::new().send(|client| client.get(url)).json()
    }

    /// The news that were told so far: of each its cause, and whether it was raised or ended.
    fn notifications(&self) -> Vec<(String, String)> {
        let mut told = Vec::new();
        while let Some(posted) = self.receiver.try_next() {
            let alerts = posted.json["alerts"].as_array().expect("it tells alerts").clone();
            let word = |value: &Value| value.as_str().expect("it is a word").to_owned();
            told.extend(alerts.iter().map(|alert| (word(&alert["cause"]), word(&alert["news"]))));
        }
        told
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

fn endpoint(workplace: &TestFolder) -> Option<String> {
    let log = fs_err::read_to_string(workplace.path().join("monitor")).ok()?;
    let (_, after) = log.split_once("the endpoint listens on ")?;
    Some(after.split(['/', ' ', '\n']).filter(|part| part.contains(':')).nth(1)?.to_owned())
        .map(|address| format!("http://{address}"))
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

/// Processor time that a process has taken, in seconds.
fn cpu_seconds(process: &RunningProgram) -> f64 {
    let stat = fs_err::read_to_string(format!("/proc/{}/stat", process.id())).expect("it runs");
    let (_, after_the_name) = stat.rsplit_once(')').expect("it has a name");
    let ticks = after_the_name.split_whitespace().skip(11).take(2);
    ticks.map(|ticks| ticks.parse::<f64>().expect("it is a number")).sum::<f64>() / 100.0
}

#[test]
fn clock_steps_change_no_wait_and_send_no_alert() {
    let Some(mut scene) = MonitorScenario::run(&[]) else { return };
    let before = [&scene.worker, &scene.monitor].map(cpu_seconds);

    let ((), took) = timed(|| {
        for ahead in [DAY, 0, -DAY, to_1970(), 0] {
            scene.set(ahead);
            scene.assert_consistent(ahead);
            scene.wait_until_deadlines_shift(ahead);
            scene.set(ahead);
            scene.assert_consistent(ahead);
            assert_eq!(scene.overview()["level"], "HEALTHY", "{ahead}: {}", scene.overview());
        }
    });

    assert_eq!(scene.notifications(), []);
    let after = [&scene.worker, &scene.monitor].map(cpu_seconds);
    for (before, after) in before.into_iter().zip(after) {
        let share = (after - before) / took.as_secs_f64();
        assert!(share < CPU_SHARE_MAX, "{share} of a processor");
    }
}

#[test]
fn clock_steps_neither_repeat_nor_resolve_an_alert() {
    let Some(mut scene) = MonitorScenario::run(&[("refused", fixed_response_server(UNAUTHORIZED))])
    else {
        return;
    };
    scene.set(0);
    let raised = [("execution.credential_refused".to_owned(), "raised".to_owned())];
    let mut told = Vec::new();
    wait_until("it is told", || {
        told.extend(scene.notifications());
        told == raised
    });

    for ahead in [DAY, 0, -DAY, to_1970(), 0, DAY] {
        scene.set(ahead);
        scene.assert_consistent(ahead);
    }

    sleep(std::time::Duration::from_secs(2));
    assert_eq!(scene.notifications(), [], "it was told already, and is not over");
    let alerts = read_state_file(&scene.workplace, "alerts.json");
    assert_eq!(alerts["alerts"].as_array().map(Vec::len), Some(1), "{alerts}");
}
