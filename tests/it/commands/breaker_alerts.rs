//! Breakers that open and close while nobody looks, and what people are told of it.

use std::collections::BTreeSet;
use std::time::Duration;

use cynosure::engine::breaker::{Admission, Breaker, BreakerPolicy, BreakerState, CallSubject};
use cynosure::engine::{Cause, Failure, Timestamp};
use cynosure::state::{BreakersFile, ExecutionState};
use cynosure::worker::{Env, RealEnv};
use rustix::process::Signal;
use serde_json::Value;

use crate::commands::check_and_monitor::{fresh_state, write_state};
use crate::commands::test_home::{RunningProgram, TestHome};
use crate::fake_receiver::FakeReceiver;

/// The name of the one provider of [`TestHome::of_work`].
const PROVIDER: &str = "127.0.0.1";

/// One that is tried again at once.
const POLICY: BreakerPolicy =
    BreakerPolicy { recovery_timeout: Duration::ZERO, ..BreakerPolicy::DEFAULT };

/// A home in which all is well, and the monitor looks without pause.
fn home_with_monitor(receiver: &FakeReceiver) -> TestHome {
    let home = TestHome::with_source_work();
    let webhook = format!("[alert.webhook.a]\nurl = \"{}/\"\nshape = \"json\"", receiver.url());
    let monitor = "[monitor]\ninterval = \"10ms\"";
    home.configure("[restart]", &format!("{webhook}\n{monitor}\n[restart]"));
    home.configure("max_retries = 0", "max_retries = 0\nhealth_check_interval = \"10ms\"");
    write_state(&home, "work", &ExecutionState { last_updated: RealEnv.now(), ..fresh_state() });
    home
}

/// A worker whose provider fails five times and is well again, before its file is written.
fn open_and_close_breaker(home: &TestHome) {
    let file = BreakersFile::new(&home.path("state"));
    let work = |breaker: &mut Breaker, now: Timestamp| {
        let failure = Failure::new(Cause::Server, "503 from a server");
        for call in 0..8 {
            let (Admission::Admitted(permit), _) = breaker.admit(now) else {
                panic!("it may be called")
            };
            let changed = match call {
                0..5 => breaker.record_failure(permit, &CallSubject::Service, &failure, now),
                _ => breaker.record_success(permit, now),
            };
            assert_eq!(changed.is_some(), call == 4 || call == 7);
        }
        assert_eq!(breaker.state(), BreakerState::Closed);
    };
    let changed = file.update(|memories| {
        let now = RealEnv.now();
        let mut breaker = match memories.get(PROVIDER) {
            Some(memory) => Breaker::restore(PROVIDER, POLICY, memory, now),
            None => Breaker::new(PROVIDER, POLICY, now),
        };
        work(&mut breaker, now);
        memories.insert(PROVIDER.to_owned(), breaker.to_persisted());
    });
    changed.unwrap();
}

/// Puts this in the place of the breakers' file as a worker does: who reads it sees all or nothing.
fn replace_atomically(home: &TestHome, breakers: &str) {
    home.write("state/breakers.json.new", breakers);
    fs_err::rename(home.path("state/breakers.json.new"), home.path("state/breakers.json")).unwrap();
}

/// Waits until the monitor has looked so often from now on.
fn wait_for_evaluations(home: &TestHome, count: usize) {
    let looked = || {
        let text = fs_err::read_to_string(home.path("state/health.json")).ok()?;
        Some(serde_json::from_str::<Value>(&text).unwrap()["report"]["looked_at"].to_string())
    };
    let mut seen = BTreeSet::new();
    // One may be under way, and one be over that was begun before.
    while seen.len() < count + 2 {
        seen.extend(looked());
        std::thread::yield_now();
    }
}

/// Waits until it is also noted that all was delivered: what is not is delivered once more.
fn wait_until_all_delivered(home: &TestHome) {
    let waiting = || {
        let outbox: Value = serde_json::from_str(&home.read("state/outbox.json")).unwrap();
        outbox["words"].as_array().unwrap().len()
    };
    while waiting() > 0 {
        std::thread::yield_now();
    }
}

fn stop(mut monitor: RunningProgram) {
    monitor.signal(Signal::TERM);
    assert_eq!(monitor.0.wait().unwrap().code(), Some(143));
}

/// What the book says of the provider: severity, worst, and how often.
fn stored_alert(home: &TestHome) -> Vec<(String, String, u64)> {
    let book: Value = serde_json::from_str(&home.read("state/alerts.json")).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let alerts = book["alerts"].as_array().unwrap().iter();
    let one = |alert: &Value| {
        assert_eq!(
            (&alert["cause"], &alert["about"]),
            (&"provider.unwell".into(), &PROVIDER.into())
        );
        (text(&alert["severity"]), text(&alert["worst"]), alert["times"].as_u64().unwrap())
    };
    alerts.map(one).collect()
}

fn critical_and_over(times: u64) -> Vec<(String, String, u64)> {
    vec![("info".to_owned(), "critical".to_owned(), times)]
}

#[test]
fn a_missed_open_period_is_notified_once_then_counted() {
    let receiver = FakeReceiver::with_statuses(&[]);
    let home = home_with_monitor(&receiver);
    let mut monitor = home.start(&["monitor"]);
    wait_for_evaluations(&home, 1);

    open_and_close_breaker(&home);
    monitor.log_until(
        "alert, over by now, well again: left alone by its breaker: \
         5 failures in a row: 503 from a server (from ",
    );
    let told = receiver.next_post().json;
    wait_for_evaluations(&home, 5);
    assert_eq!(stored_alert(&home), critical_and_over(1));
    for _ in 0..3 {
        open_and_close_breaker(&home);
        wait_for_evaluations(&home, 2);
    }

    stop(monitor);
    assert_eq!(stored_alert(&home), critical_and_over(4));
    assert!(receiver.is_empty(), "the hour is not over");
    let alert = &told["alerts"][0];
    assert_eq!((told["alerts"].as_array().unwrap().len(), &told["severity"]), (1, &"info".into()));
    assert_eq!((&alert["news"], &alert["severity"]), (&"passed".into(), &"info".into()));
    assert_eq!((&alert["about"], &alert["worst"]), (&PROVIDER.into(), &"critical".into()));
    assert!(alert["raised_at"].is_string() && alert["ended_at"].is_string(), "{alert}");
    let listed = home.cynosure(&["alert", "list"]);
    let cells = listed.cells();
    assert!(cells.contains(" | info | 127.0.0.1 | over after "), "{cells}");
    assert!(cells.ends_with("5 failures in a row: 503 from a server; it was critical"), "{cells}");
}

#[test]
fn open_periods_during_monitor_downtime_are_notified_once() {
    let receiver = FakeReceiver::with_statuses(&[]);
    let home = home_with_monitor(&receiver);
    open_and_close_breaker(&home);
    let monitor = home.start(&["monitor"]);
    wait_for_evaluations(&home, 3);
    stop(monitor);
    assert_eq!(stored_alert(&home), [], "it is history");

    open_and_close_breaker(&home);
    let mut monitor = home.start(&["monitor"]);
    monitor.log_until("alerts delivered");
    wait_until_all_delivered(&home);
    stop(monitor);
    let monitor = home.start(&["monitor"]);
    wait_for_evaluations(&home, 3);
    stop(monitor);
    assert_eq!(stored_alert(&home), critical_and_over(1));

    // The file is lost, and one that an older program wrote comes back without its changes.
    let old = home.read("state/breakers.json");
    fs_err::remove_file(home.path("state/breakers.json")).unwrap();
    let monitor = home.start(&["monitor"]);
    wait_for_evaluations(&home, 2);
    let mut older: Value = serde_json::from_str(&old).unwrap();
    older["breakers"][PROVIDER].as_object_mut().unwrap().remove("changes").unwrap();
    replace_atomically(&home, &older.to_string());
    wait_for_evaluations(&home, 2);
    replace_atomically(&home, &old);
    wait_for_evaluations(&home, 2);
    stop(monitor);
    assert_eq!(stored_alert(&home), critical_and_over(1));
    let told = receiver.next_post().json;
    assert_eq!((&told["alerts"][0]["news"], receiver.is_empty()), (&"passed".into(), true));
}

#[test]
fn a_manual_open_period_is_reported_as_manual() {
    let receiver = FakeReceiver::with_statuses(&[]);
    let home = home_with_monitor(&receiver);
    assert_eq!(home.cynosure(&["check", "--alert"]).code, Some(0));
    for order in ["open", "close"] {
        assert_eq!(home.cynosure(&["breaker", order, PROVIDER]).code, Some(0));
    }

    let ran = home.cynosure(&["check", "--alert"]);

    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stdout.contains("1 alert told\nwebhook a: delivered\n"), "{}", ran.stdout);
    assert!(
        ran.stderr.contains(
            "INFO alert, over by now, a person closed its breaker: left alone, \
             since a person opened its breaker (from "
        ),
        "{}",
        ran.stderr
    );
    let alert = &receiver.next_post().json["alerts"][0];
    assert_eq!(alert["message"], "left alone, since a person opened its breaker");
    assert_eq!(alert["ended_since"], "a person closed its breaker");
}
