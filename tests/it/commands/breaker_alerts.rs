//! Notifications of breakers that open and close between two checks.

use std::collections::BTreeSet;
use std::time::Duration;

use cynosure::env::{Env, RealEnv};
use cynosure::state::{BreakersFile, ExecutionState};
use cynosure_engine::breaker::{Admission, Breaker, BreakerPolicy, BreakerState, CallSubject};
use cynosure_engine::{Cause, Failure, Timestamp};
use rustix::process::Signal;
use serde_json::Value;

use crate::commands::check_and_monitor::{fresh_state, write_state};
use crate::commands::test_home::{RunningProgram, TestHome};
use crate::fake_receiver::FakeReceiver;

/// Name of the only provider of [`TestHome::with_source_work`].
const PROVIDER: &str = "127.0.0.1";

/// Policy with which an open breaker admits a probe at once.
const POLICY: BreakerPolicy =
    BreakerPolicy { recovery_timeout: Duration::ZERO, ..BreakerPolicy::DEFAULT };

/// Home with one healthy source, whose monitor checks every 10 ms.
fn home_with_monitor(receiver: &FakeReceiver) -> TestHome {
    let home = TestHome::with_source_work();
    let webhook = format!("[alert.webhook.a]\nurl = \"{}/\"\nshape = \"json\"", receiver.url());
    let monitor = "[monitor]\ninterval = \"10ms\"";
    home.configure("[restart]", &format!("{webhook}\n{monitor}\n[restart]"));
    home.configure("max_retries = 0", "max_retries = 0\nhealth_check_interval = \"10ms\"");
    write_state(&home, "work", &ExecutionState { last_updated: RealEnv.now(), ..fresh_state() });
    home
}

/// Opens and closes the breaker of [`PROVIDER`] in one write: five failures, then three successes.
fn open_and_close_breaker(home: &TestHome) {
    let file = BreakersFile::new(&home.path("state"));
    let make_calls = |breaker: &mut Breaker, now: Timestamp| {
        let failure = Failure::new(Cause::Server, "503 from a server");
        for call in 0..8 {
            let (Admission::Admitted(permit), _) = breaker.admit(now) else {
                panic!("the breaker rejected a call")
            };
            let transition = match call {
                0..5 => breaker.record_failure(permit, &CallSubject::Service, &failure, now),
                _ => breaker.record_success(permit, now),
            };
            assert_eq!(transition.is_some(), call == 4 || call == 7);
        }
        assert_eq!(breaker.state(), BreakerState::Closed);
    };
    let result = file.update(|breakers| {
        let now = RealEnv.now();
        let mut breaker = match breakers.get(PROVIDER) {
            Some(saved_state) => Breaker::restore(PROVIDER, POLICY, saved_state, now),
            None => Breaker::new(PROVIDER, POLICY, now),
        };
        make_calls(&mut breaker, now);
        breakers.insert(PROVIDER.to_owned(), breaker.to_persisted());
    });
    result.unwrap();
}

/// Replaces the breakers file atomically, as a worker does, so that no reader sees a part of it.
fn replace_atomically(home: &TestHome, breakers: &str) {
    home.write("state/breakers.json.new", breakers);
    fs_err::rename(home.path("state/breakers.json.new"), home.path("state/breakers.json")).unwrap();
}

/// Waits until the monitor has made `count` more checks.
fn wait_for_checks(home: &TestHome, count: usize) {
    let checked_at = || {
        let text = fs_err::read_to_string(home.path("state/health.json")).ok()?;
        Some(serde_json::from_str::<Value>(&text).unwrap()["report"]["looked_at"].to_string())
    };
    let mut check_times = BTreeSet::new();
    // Two more: the last published check, and one that may already be running.
    while check_times.len() < count + 2 {
        check_times.extend(checked_at());
        std::thread::yield_now();
    }
}

/// Waits until the delivery is recorded as well; otherwise the next monitor would deliver it again.
fn wait_until_all_delivered(home: &TestHome) {
    let pending_messages = || {
        let outbox: Value = serde_json::from_str(&home.read("state/outbox.json")).unwrap();
        outbox["messages"].as_array().unwrap().len()
    };
    while pending_messages() > 0 {
        std::thread::yield_now();
    }
}

fn stop(mut monitor: RunningProgram) {
    monitor.signal(Signal::TERM);
    assert_eq!(monitor.0.wait().unwrap().code(), Some(143));
}

/// Returns severity, highest severity and occurrences of each stored alert, all of the provider.
fn stored_alerts(home: &TestHome) -> Vec<(String, String, u64)> {
    let store: Value = serde_json::from_str(&home.read("state/alerts.json")).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let alerts = store["alerts"].as_array().unwrap().iter();
    let summary = |alert: &Value| {
        assert_eq!(
            (&alert["key"], &alert["subject"]),
            (&"provider.degraded".into(), &PROVIDER.into())
        );
        let occurrences = alert["occurrences"].as_u64().unwrap();
        (text(&alert["severity"]), text(&alert["max_severity"]), occurrences)
    };
    alerts.map(summary).collect()
}

fn critical_then_resolved(occurrences: u64) -> Vec<(String, String, u64)> {
    vec![("info".to_owned(), "critical".to_owned(), occurrences)]
}

#[test]
fn a_missed_open_period_is_notified_once_then_counted() {
    let receiver = FakeReceiver::with_statuses(&[]);
    let home = home_with_monitor(&receiver);
    let mut monitor = home.start(&["monitor"]);
    wait_for_checks(&home, 1);

    open_and_close_breaker(&home);
    let log = monitor.log_until("alert resolved before it was sent");
    assert!(
        log.contains(
            "problem=\"its circuit breaker opened: 5 failures in a row: 503 from a server\" \
             reason=\"the condition no longer holds\" occurrences=1 from="
        ),
        "{log}"
    );
    let message = receiver.next_post().json;
    wait_for_checks(&home, 5);
    assert_eq!(stored_alerts(&home), critical_then_resolved(1));
    for _ in 0..3 {
        open_and_close_breaker(&home);
        wait_for_checks(&home, 2);
    }

    stop(monitor);
    assert_eq!(stored_alerts(&home), critical_then_resolved(4));
    assert!(receiver.is_empty(), "a further notification is sent after an hour at the earliest");
    let alert = &message["alerts"][0];
    assert_eq!(
        (message["alerts"].as_array().unwrap().len(), &message["severity"]),
        (1, &"info".into())
    );
    assert_eq!(
        (&alert["event"], &alert["severity"]),
        (&"resolved_unnotified".into(), &"info".into())
    );
    assert_eq!((&alert["subject"], &alert["max_severity"]), (&PROVIDER.into(), &"critical".into()));
    assert!(alert["started_at"].is_string() && alert["resolved_at"].is_string(), "{alert}");
    let listed = home.cynosure(&["alert", "list"]);
    let cells = listed.cells();
    assert!(cells.contains(" | info | 127.0.0.1 | resolved after "), "{cells}");
    assert!(cells.ends_with("5 failures in a row: 503 from a server; it was critical"), "{cells}");
}

#[test]
fn open_periods_during_monitor_downtime_are_notified_once() {
    let receiver = FakeReceiver::with_statuses(&[]);
    let home = home_with_monitor(&receiver);
    open_and_close_breaker(&home);
    let monitor = home.start(&["monitor"]);
    wait_for_checks(&home, 3);
    stop(monitor);
    assert_eq!(stored_alerts(&home), [], "a period before the first check is not notified");

    open_and_close_breaker(&home);
    let mut monitor = home.start(&["monitor"]);
    monitor.log_until("alerts delivered");
    wait_until_all_delivered(&home);
    stop(monitor);
    let monitor = home.start(&["monitor"]);
    wait_for_checks(&home, 3);
    stop(monitor);
    assert_eq!(stored_alerts(&home), critical_then_resolved(1));

    // The file is lost; then one of an older version without `changes` is restored.
    let old = home.read("state/breakers.json");
    fs_err::remove_file(home.path("state/breakers.json")).unwrap();
    let monitor = home.start(&["monitor"]);
    wait_for_checks(&home, 2);
    let mut older: Value = serde_json::from_str(&old).unwrap();
    older["breakers"][PROVIDER].as_object_mut().unwrap().remove("changes").unwrap();
    replace_atomically(&home, &older.to_string());
    wait_for_checks(&home, 2);
    replace_atomically(&home, &old);
    wait_for_checks(&home, 2);
    stop(monitor);
    assert_eq!(stored_alerts(&home), critical_then_resolved(1));
    let event = receiver.next_post().json["alerts"][0]["event"].clone();
    assert_eq!((event, receiver.is_empty()), ("resolved_unnotified".into(), true));
}

#[test]
fn a_manual_open_period_is_reported_as_manual() {
    let receiver = FakeReceiver::with_statuses(&[]);
    let home = home_with_monitor(&receiver);
    assert_eq!(home.cynosure(&["check", "--alert"]).code, Some(0));
    for command in ["open", "close"] {
        assert_eq!(home.cynosure(&["breaker", command, PROVIDER]).code, Some(0));
    }

    let output = home.cynosure(&["check", "--alert"]);

    assert_eq!(output.code, Some(0), "{output:?}");
    assert!(
        output.stdout.contains("1 new notification\nwebhook a: delivered\n"),
        "{}",
        output.stdout
    );
    assert!(
        output.stderr.contains(
            "problem=\"its circuit breaker was opened manually\" \
             reason=\"its circuit breaker was closed manually\" occurrences=1 from="
        ),
        "{}",
        output.stderr
    );
    let alert = &receiver.next_post().json["alerts"][0];
    assert_eq!(alert["message"], "its circuit breaker was opened manually");
    assert_eq!(alert["resolved_reason"], "its circuit breaker was closed manually");
}
