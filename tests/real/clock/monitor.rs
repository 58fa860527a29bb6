//! A monitor beside a worker: nobody is called stuck who is not, and nothing is told that is not so.

use std::net::SocketAddr;
use std::process::{Command, Stdio};

use cynosure::demo::{self, DemoOptions, DemoServer};
use serde_json::Value;

use super::daemon::Daemon;
use super::receiver::Receiver;
use super::set::{Clock, DAY, now, to_1970};
use super::systemd::{Manner, Systemd};
use super::{answering, saved, seconds};
use crate::binary::{Running, Workplace};
use crate::http::Http;
use crate::patience::{let_pass, timed, wait_until};

const THROTTLED: &str = "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 7200\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
const REFUSED: &str = "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// A worker looks at its clock every 15 seconds while it waits, and a busy machine is slow.
const SLACK: i64 = 3;

/// The share of one processor that nobody takes who only looks once a second.
const BUSY: f64 = 0.5;

/// The worker, its monitor, and all that they meet.
struct Scene {
    workplace: Workplace,
    clock: Clock,
    systemd: Systemd,
    receiver: Receiver,
    worker: Running,
    monitor: Running,
    endpoint: String,
    /// By the name of a source: until when it waits, by the right time.
    waits: Vec<(&'static str, i64)>,
    _demo: DemoServer,
    _daemon: Daemon,
}

impl Scene {
    /// A source that has nothing to do for an hour, one that is throttled for two, and these.
    fn play(more: &[(&'static str, SocketAddr)]) -> Option<Self> {
        let demo =
            demo::start(DemoOptions { items: 5, ..DemoOptions::default() }).expect("it starts");
        let mut sources = vec![("well", demo.address()), ("throttled", answering(THROTTLED))];
        sources.extend(more);
        let receiver = Receiver::answering(&[]);
        let workplace = Workplace::new(&config(&sources, &receiver));
        let clock = Clock::new(workplace.path())?;
        let daemon = Daemon::start();
        let systemd = Systemd::start(daemon.address(), Manner::Obliging);
        let start = |name: &str| {
            let log = fs_err::File::create(workplace.path().join(name)).expect("it is ours");
            let mut command = workplace.command(&[name]);
            ruled(&clock, &mut command, &daemon).stderr(Stdio::from(log.into_file()));
            Running::start(command.stdout(Stdio::null()))
        };
        let worker = start("run");
        let state = |name: &str| saved(&workplace, &format!("{name}/execution_state.json"));
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
            waits,
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
                let looked_at = saved(&self.workplace, "monitor.json")["looked_at"].clone();
                seconds(&looked_at).is_some_and(|at| from < at && at <= from + 60)
            });
        }
    }

    /// Waits until the worker goes by the clock: each wait is as long as it was.
    fn followed(&self, ahead: i64) {
        for (name, until) in &self.waits {
            wait_until("the worker follows the clock", || {
                let state = saved(&self.workplace, &format!("{name}/execution_state.json"));
                let moved = seconds(&state["until"]).expect("it waits");
                (moved - until - ahead).abs() <= SLACK
            });
        }
    }

    /// What must hold at any time.
    fn is_sound(&mut self, ahead: i64) {
        assert_eq!(self.systemd.restarts(), Vec::<String>::new(), "{ahead}");
        let record = saved(&self.workplace, "monitor.json");
        assert_eq!(record["restarts"], Value::Array(Vec::new()), "{ahead}");
        let findings = record["findings"].as_array().expect("it has looked");
        let stuck = |finding: &&Value| {
            ["overdue", "stalled", "from_the_future"].iter().any(|word| finding["finding"] == *word)
        };
        assert_eq!(findings.iter().find(stuck), None, "{ahead}");
        let health = saved(&self.workplace, "health.json");
        let looked_at = seconds(&health["report"]["looked_at"]).expect("it has looked");
        assert!((looked_at - now() - ahead).abs() < 60, "{ahead}: {looked_at}");
        for file in ["alerts.json", "trends.json", "outbox.json"] {
            saved(&self.workplace, file);
        }
        assert_eq!((self.worker.ended(), self.monitor.ended()), (None, None), "{ahead}");
    }

    fn overview(&self) -> Value {
        let url = format!("{}/api/health/overview", self.endpoint);
        // A connection of its own: one that is kept may be closed meanwhile.
        Http::new().send(|client| client.get(url)).json()
    }

    /// The news that were told so far: of each its cause, and whether it was raised or ended.
    fn told(&self) -> Vec<(String, String)> {
        let mut told = Vec::new();
        while let Some(posted) = self.receiver.came() {
            let alerts = posted.json["alerts"].as_array().expect("it tells alerts").clone();
            let word = |value: &Value| value.as_str().expect("it is a word").to_owned();
            told.extend(alerts.iter().map(|alert| (word(&alert["cause"]), word(&alert["news"]))));
        }
        told
    }
}

fn ruled<'c>(clock: &Clock, command: &'c mut Command, daemon: &Daemon) -> &'c mut Command {
    clock
        .rules(command)
        .env("DBUS_SYSTEM_BUS_ADDRESS", daemon.address())
        .env("DEMO_PASSWORD", "demo")
}

fn endpoint(workplace: &Workplace) -> Option<String> {
    let log = fs_err::read_to_string(workplace.path().join("monitor")).ok()?;
    let (_, after) = log.split_once("the endpoint listens on ")?;
    Some(after.split(['/', ' ', '\n']).filter(|part| part.contains(':')).nth(1)?.to_owned())
        .map(|address| format!("http://{address}"))
}

fn config(sources: &[(&str, SocketAddr)], receiver: &Receiver) -> String {
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
fn taken(process: &Running) -> f64 {
    let stat = fs_err::read_to_string(format!("/proc/{}/stat", process.id())).expect("it runs");
    let (_, after_the_name) = stat.rsplit_once(')').expect("it has a name");
    let ticks = after_the_name.split_whitespace().skip(11).take(2);
    ticks.map(|ticks| ticks.parse::<f64>().expect("it is a number")).sum::<f64>() / 100.0
}

#[test]
fn waits_are_as_long_as_they_were_and_nothing_is_told_whatever_the_clock_does() {
    let Some(mut scene) = Scene::play(&[]) else { return };
    let before = [&scene.worker, &scene.monitor].map(taken);

    let ((), took) = timed(|| {
        for ahead in [DAY, 0, -DAY, to_1970(), 0] {
            scene.set(ahead);
            scene.is_sound(ahead);
            scene.followed(ahead);
            scene.set(ahead);
            scene.is_sound(ahead);
            assert_eq!(scene.overview()["level"], "HEALTHY", "{ahead}: {}", scene.overview());
        }
    });

    assert_eq!(scene.told(), []);
    let after = [&scene.worker, &scene.monitor].map(taken);
    for (before, after) in before.into_iter().zip(after) {
        let share = (after - before) / took.as_secs_f64();
        assert!(share < BUSY, "{share} of a processor");
    }
}

#[test]
fn an_alert_is_told_once_and_stands_whatever_the_clock_does() {
    let Some(mut scene) = Scene::play(&[("refused", answering(REFUSED))]) else { return };
    scene.set(0);
    let raised = [("execution.credential_refused".to_owned(), "raised".to_owned())];
    let mut told = Vec::new();
    wait_until("it is told", || {
        told.extend(scene.told());
        told == raised
    });

    for ahead in [DAY, 0, -DAY, to_1970(), 0, DAY] {
        scene.set(ahead);
        scene.is_sound(ahead);
    }

    let_pass(std::time::Duration::from_secs(2));
    assert_eq!(scene.told(), [], "it was told already, and is not over");
    let alerts = saved(&scene.workplace, "alerts.json");
    assert_eq!(alerts["alerts"].as_array().map(Vec::len), Some(1), "{alerts}");
}
