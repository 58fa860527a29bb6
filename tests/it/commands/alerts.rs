//! Notifications of `check --alert`, `alert test` and the monitor: content, frequency, and failing
//! receivers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cynosure::env::{Env, RealEnv};
use cynosure::state::ExecutionState;
use cynosure_engine::{Status, Timestamp};
use rustix::process::Signal;
use serde_json::Value;

use crate::commands::check_and_monitor::{fresh_state, write_state};
use crate::commands::test_home::{
    NO_HOST_CHECKS_CONFIG, ProgramOutput, RunningProgram, TestHome, fixed_response_server,
    silent_server,
};
use crate::hostile_server::{ConnectionAction, HostileServer, plain_response};

/// Secret part of the URL of every receiver.
const SECRET: &str = "hunter2";

/// State of a worker whose credential is refused.
fn state_with_refused_credential() -> ExecutionState {
    let until = Some(Timestamp(RealEnv.now().0 + 300_000));
    ExecutionState {
        status: Status::AuthFailed,
        state_until: until,
        reason: "401".to_owned(),
        ..healthy_state()
    }
}

fn healthy_state() -> ExecutionState {
    ExecutionState { last_updated: RealEnv.now(), ..fresh_state() }
}

/// Receiver that accepts every message.
async fn accepting_receiver() -> HostileServer {
    HostileServer::start(|_, _| {
        vec![ConnectionAction::Send(plain_response("200 OK", "", "")), ConnectionAction::Close]
    })
    .await
}

/// Home whose alerts go to these receivers: name, shape and URL of each.
fn home_with_receivers(receivers: &[(&str, &str, &str)]) -> TestHome {
    let home = TestHome::with_source_work();
    for (name, shape, url) in receivers {
        let file = format!("{name}-url");
        home.write(&file, &format!("{url}{SECRET}\n"));
        rustix::fs::chmod(home.path(&file), rustix::fs::Mode::RUSR).unwrap();
        let table = format!(
            "[alert.webhook.{name}]\nurl = {{ file = \"{file}\" }}\nshape = \"{shape}\"\n[request]"
        );
        home.configure("[request]", &table);
    }
    home.configure("[request]", "[alert]\ntimeout = \"400ms\"\n[request]");
    home
}

async fn cynosure(home: &TestHome, args: &[&str]) -> ProgramOutput {
    let mut command = home.command(args);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    ProgramOutput {
        code: output.status.code(),
        stdout: text(&output.stdout),
        stderr: text(&output.stderr),
    }
}

fn bodies(receiver: &HostileServer) -> Vec<Value> {
    let requests = receiver.requests();
    requests.iter().map(|request| serde_json::from_slice(&request.body).unwrap()).collect()
}

/// Returns all stored and printed text, which must not contain a secret.
fn everything_stored_or_logged(home: &TestHome, outputs: &[&ProgramOutput]) -> String {
    let files = ["outbox.json", "alerts.json"];
    let paths = files.map(|name| home.path("state").join(name));
    let stored = paths.iter().filter_map(|path| fs_err::read_to_string(path).ok());
    let printed = outputs.iter().map(|output| format!("{}{}", output.stdout, output.stderr));
    stored.chain(printed).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_alert_is_notified_when_firing_and_when_resolved() {
    let receiver = accepting_receiver().await;
    let home = home_with_receivers(&[("a", "json", receiver.url.as_str())]);
    write_state(&home, "work", &state_with_refused_credential());

    let first = cynosure(&home, &["check", "--alert"]).await;
    let second = cynosure(&home, &["check", "--alert"]).await;
    write_state(&home, "work", &healthy_state());
    let third = cynosure(&home, &["check", "--alert"]).await;

    assert_eq!((first.code, second.code, third.code), (Some(2), Some(2), Some(0)), "{third:?}");
    assert!(
        first.stdout.contains("1 new notification\nwebhook a: delivered\n"),
        "{}",
        first.stdout
    );
    assert!(second.stdout.contains("no new notifications\n"), "{}", second.stdout);
    let messages = bodies(&receiver);
    let alert = |index: usize| &messages[index]["alerts"][0];
    assert_eq!(
        (messages.len(), &alert(0)["event"], &alert(1)["event"]),
        (2, &"firing".into(), &"resolved".into())
    );
    assert_eq!(alert(0)["key"], "execution.credential_refused");
    let firing = "ERROR alert firing key=\"execution.credential_refused\" subject=\"work\" \
                  severity=\"critical\" problem=\"its credential is refused: 401 (";
    assert!(first.stderr.contains(firing), "{}", first.stderr);
    let resolved = "INFO alert resolved key=\"execution.credential_refused\" subject=\"work\" \
                    severity=\"info\" max_severity=\"critical\" \
                    problem=\"its credential is refused: 401 (";
    assert!(third.stderr.contains(resolved), "{}", third.stderr);
    assert!(third.stderr.contains("reason=\"the condition no longer holds\""), "{}", third.stderr);
    let text = everything_stored_or_logged(&home, &[&first, &second, &third]);
    assert!(!text.contains(SECRET), "{text}");

    let listed = cynosure(&home, &["alert", "list"]).await;
    assert!(listed.cells().contains(" | critical | work | resolved after "), "{}", listed.stdout);
}

#[tokio::test(flavor = "multi_thread")]
async fn failing_receivers_block_nothing_and_get_alerts_later() {
    let is_up = Arc::new(AtomicBool::new(false));
    let is_server_up = Arc::clone(&is_up);
    let broken = HostileServer::start(move |_, _| {
        let status = if is_server_up.load(Ordering::SeqCst) { "204 OK" } else { "500 No" };
        vec![ConnectionAction::Send(plain_response(status, "", "")), ConnectionAction::Close]
    });
    let (broken, good) = (broken.await, accepting_receiver().await);
    let slow = silent_server();
    let slow = format!("http://{}/", slow.local_addr().unwrap());
    let home = home_with_receivers(&[
        ("broken", "json", broken.url.as_str()),
        ("down", "json", "http://127.0.0.1:9/"),
        ("good", "json", good.url.as_str()),
        ("slow", "json", &slow),
    ]);
    write_state(&home, "work", &state_with_refused_credential());

    let first = cynosure(&home, &["check", "--alert"]).await;

    assert_eq!((first.code, bodies(&good).len()), (Some(2), 1), "{first:?}");
    for expected in [
        "webhook broken: status 500: the message was not accepted; queued, will retry",
        "webhook down: no connection: ",
        "webhook good: delivered",
        "webhook slow: not done within 400 ms; queued, will retry",
    ] {
        assert!(first.stdout.contains(expected), "{}", first.stdout);
    }
    // Ends the retry delays; the receiver `broken` works again.
    let mut outbox: Value = serde_json::from_str(&home.read("state/outbox.json")).unwrap();
    for channel in outbox["channels"].as_object_mut().unwrap().values_mut() {
        channel["retry_at"] = Value::Null;
    }
    outbox["channels"]["webhook down"]["consecutive_failures"] = 4.into();
    home.write("state/outbox.json", &outbox.to_string());
    is_up.store(true, Ordering::SeqCst);

    let second = cynosure(&home, &["check", "--alert"]).await;

    assert!(second.stdout.contains("webhook broken: delivered"), "{}", second.stdout);
    assert_eq!(bodies(&broken).len(), 2);
    // The other channels report the unreachable one.
    let alert = &bodies(&good)[1]["alerts"][0];
    assert_eq!(
        (&alert["key"], &alert["subject"]),
        (&"channel.unreachable".into(), &"webhook down".into())
    );
    let outbox: Value = serde_json::from_str(&home.read("state/outbox.json")).unwrap();
    let is_about_own_channel = |message: &&Value| {
        let channels = message["pending_channels"].as_array().unwrap();
        channels.contains(&"webhook down".into())
            && message.to_string().contains("channel.unreachable")
    };
    let messages = outbox["messages"].as_array().unwrap();
    assert_eq!(messages.iter().filter(is_about_own_channel).count(), 0);
    let text = everything_stored_or_logged(&home, &[&first, &second]);
    assert!(!text.contains(SECRET), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_is_rejected_and_leaks_no_secret() {
    let elsewhere = accepting_receiver().await;
    let location = format!("Location: {}stolen\r\n", elsewhere.url);
    let receiver = HostileServer::always_sending(plain_response("307 There", &location, "")).await;
    let home = home_with_receivers(&[("a", "json", receiver.url.as_str())]);

    let output = cynosure(&home, &["alert", "test"]).await;

    assert_eq!((output.code, elsewhere.requests().len()), (Some(1), 0), "{output:?}");
    assert!(output.stdout.contains("status 307: redirects are not followed"), "{}", output.stdout);
    assert!(!everything_stored_or_logged(&home, &[&output]).contains(SECRET));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_alert_is_sent_in_the_format_of_every_channel() {
    let receivers = [
        accepting_receiver().await,
        accepting_receiver().await,
        accepting_receiver().await,
        accepting_receiver().await,
    ];
    let home = home_with_receivers(&[
        ("a", "json", receivers[0].url.as_str()),
        ("b", "slack", receivers[1].url.as_str()),
        ("c", "ntfy", receivers[2].url.as_str()),
    ]);
    home.configure("shape = \"ntfy\"", "shape = \"ntfy\"\ntoken = { file = \"token\" }");
    let ping = format!("[alert]\nping = \"{}ping\"", receivers[3].url);
    home.configure("[alert]", &ping);

    let output = cynosure(&home, &["alert", "test"]).await;

    assert_eq!(output.code, Some(0), "{output:?}");
    insta::assert_snapshot!(output.cells(), @"
    CHANNEL | RESULT | DETAILS
    journal | ok | a line was logged
    ping | ok | accepted; check that it arrives
    webhook a | ok | accepted; check that it arrives
    webhook b | ok | accepted; check that it arrives
    webhook c | ok | accepted; check that it arrives
    ");
    assert_eq!(bodies(&receivers[0])[0]["test"], true);
    assert!(bodies(&receivers[1])[0]["text"].as_str().unwrap().starts_with("*cynosure on "));
    let ntfy = &receivers[2].requests()[0];
    let head = ntfy.head.to_lowercase();
    for header in ["authorization: bearer secret\r\n", "priority: 3\r\n", "title: cynosure on "] {
        assert!(head.contains(header), "{head}");
    }
    assert!(String::from_utf8_lossy(&ntfy.body).starts_with("This is a test"));
    let ping = &receivers[3].requests()[0];
    assert_eq!((ping.head.split(' ').next(), ping.path()), (Some("GET"), "/ping"));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_completed_session_sends_the_ping() {
    let receiver = accepting_receiver().await;
    let home = home_with_receivers(&[]);
    home.configure("[alert]", &format!("[alert]\nping = \"{}\"", receiver.url));
    write_state(&home, "work", &healthy_state());
    let set_completed_sessions = |sessions: u32| {
        let metrics = format!("{{\"schema\":1,\"course\":{{\"sessions_completed\":{sessions}}}}}");
        home.write("state/work/figures.json", &metrics);
    };

    // Before the first session there is no metrics file.
    cynosure(&home, &["check", "--alert"]).await;
    let mut pings = vec![receiver.requests().len()];
    for sessions in [1, 1, 2, 2, 5] {
        set_completed_sessions(sessions);
        cynosure(&home, &["check", "--alert"]).await;
        pings.push(receiver.requests().len());
    }
    assert_eq!(pings, [0, 1, 1, 2, 2, 3], "several sessions between two checks send one ping");

    home.write("state/work/figures.json", "{\"schema\":");
    let unreadable = cynosure(&home, &["check", "--alert"]).await;
    set_completed_sessions(5);
    cynosure(&home, &["check", "--alert"]).await;

    assert!(unreadable.stdout.contains("figures.json cannot be read"), "{}", unreadable.stdout);
    assert_eq!((unreadable.code, receiver.requests().len()), (Some(3), 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn unreadable_data_resolves_no_alert_and_removal_does() {
    let receiver = accepting_receiver().await;
    let home = home_with_receivers(&[("a", "json", receiver.url.as_str())]);
    write_state(&home, "work", &state_with_refused_credential());
    cynosure(&home, &["check", "--alert"]).await;
    for broken in ["{\"schema\":", ""] {
        home.write("state/work/execution_state.json", broken);
        assert_eq!(cynosure(&home, &["check", "--alert"]).await.code, Some(3));
    }
    fs_err::remove_file(home.path("state/work/execution_state.json")).unwrap();
    cynosure(&home, &["check", "--alert"]).await;
    let messages = bodies(&receiver);
    let alerts = |message: &Value| message["alerts"].as_array().unwrap().clone();
    let is_resolved = |alert: &Value| {
        alert["event"] == "resolved" && alert["key"] == "execution.credential_refused"
    };
    assert!(!messages.iter().flat_map(alerts).any(|alert| is_resolved(&alert)), "{messages:?}");

    home.configure("[source.work]", "[source.other]");
    let last = cynosure(&home, &["check", "--alert"]).await;

    let sent = bodies(&receiver).into_iter().flat_map(|body| alerts(&body)).collect::<Vec<_>>();
    let resolved =
        sent.iter().find(|alert| is_resolved(alert)).unwrap_or_else(|| panic!("{last:?}"));
    assert_eq!(resolved["resolved_reason"], "it is no longer in the configuration");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_failing_sources_are_one_message() {
    let receiver = accepting_receiver().await;
    let home = home_with_receivers(&[("a", "json", receiver.url.as_str())]);
    let mut text = home.read("config.toml");
    for number in 0..199 {
        text.push_str(&format!(
            "[source.s{number}]\nkind = \"jmap\"\nurl = \"http://127.0.0.1:9/\"\naccount = \"a\"\n\
             auth = {{ type = \"bearer\", token = {{ file = \"token\" }} }}\n"
        ));
        write_state(&home, &format!("s{number}"), &state_with_refused_credential());
    }
    home.write("config.toml", &text);
    write_state(&home, "work", &state_with_refused_credential());

    let output = cynosure(&home, &["check", "--alert"]).await;

    let messages = bodies(&receiver);
    assert_eq!((output.code, messages.len()), (Some(2), 1), "{}", output.stderr);
    assert_eq!(messages[0]["alerts"].as_array().unwrap().len(), 200);
    let host = messages[0]["host"].as_str().unwrap();
    assert_eq!(messages[0]["subject"], format!("cynosure on {host}: CRITICAL: 200 alerts"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_monitor_notifies_once_and_publishes_its_findings() {
    let receiver = accepting_receiver().await;
    let slow = silent_server();
    let slow = format!("http://{}/", slow.local_addr().unwrap());
    let home =
        home_with_receivers(&[("a", "json", receiver.url.as_str()), ("slow", "json", &slow)]);
    home.configure("400ms", "10m");
    home.configure("max_retries = 0", "max_retries = 0\nhealth_check_interval = \"10ms\"");
    home.configure("[alert]", "[monitor]\ninterval = \"10ms\"\n[alert]");
    write_state(&home, "work", &state_with_refused_credential());
    let mut monitor = home.start(&["monitor"]);
    let checked_at = |home: &TestHome| -> Option<Value> {
        let text = fs_err::read_to_string(home.path("state/health.json")).ok()?;
        Some(serde_json::from_str::<Value>(&text).unwrap()["report"]["looked_at"].clone())
    };

    let home = tokio::task::spawn_blocking(move || {
        monitor.log_until("alerts delivered");
        let mut check_times = std::collections::BTreeSet::new();
        while check_times.len() < 20 {
            check_times.extend(checked_at(&home).map(|at| at.to_string()));
            std::thread::yield_now();
        }
        write_state(&home, "work", &healthy_state());
        monitor.log_until("alert resolved");
        monitor.log_until("alerts delivered");
        monitor.signal(Signal::TERM);
        let code = monitor.0.wait().unwrap().code();
        assert_eq!(code, Some(143), "the slow channel does not delay the exit");
        home
    })
    .await
    .unwrap();

    let messages = bodies(&receiver);
    assert_eq!(messages.len(), 2, "{messages:#?}");
    let health: Value = serde_json::from_str(&home.read("state/health.json")).unwrap();
    assert_eq!((&health["schema"], &health["report"]["level"]), (&1.into(), &"HEALTHY".into()));
    assert_eq!(health["providers"][0]["band"], "healthy");
    let history: Value = serde_json::from_str(&home.read("state/degradation.json")).unwrap();
    assert_eq!(history["scores"]["127.0.0.1"].as_array().unwrap().len(), 288);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_monitor_that_cannot_write_alerts_once() {
    let receiver = accepting_receiver().await;
    let home = home_with_receivers(&[("a", "json", receiver.url.as_str())]);
    home.configure("max_retries = 0", "max_retries = 0\nhealth_check_interval = \"10ms\"");
    home.configure("[alert]", "[monitor]\ninterval = \"10ms\"\n[alert]");
    write_state(&home, "work", &state_with_refused_credential());
    std::os::unix::fs::symlink("/nowhere", home.path("state/alerts.lock")).unwrap();
    let mut command = home.command(&["-v", "monitor"]);
    let mut monitor = RunningProgram(command.spawn().unwrap());

    tokio::task::spawn_blocking(move || {
        monitor.log_until("alert firing key=\"monitor.persistence_failed\"");
        for _ in 0..5 {
            monitor.log_until("still cannot write to the state folder");
        }
    })
    .await
    .unwrap();

    let messages = bodies(&receiver);
    let key = &messages[0]["alerts"][0]["key"];
    assert_eq!((messages.len(), key), (1, &"monitor.persistence_failed".into()));
}

#[test]
fn undeliverable_alerts_do_not_block_the_worker_and_are_logged() {
    let broken =
        fixed_response_server(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    let slow = silent_server();
    let urls = [
        ("broken", format!("http://{broken}/")),
        ("down", "http://127.0.0.1:9/".to_owned()),
        ("slow", format!("http://{}/", slow.local_addr().unwrap())),
    ];
    let home = TestHome::with_demo_server(300);
    let mut text = home.read("config.toml");
    for (name, url) in &urls {
        text.push_str(&format!("[alert.webhook.{name}]\nurl = \"{url}\"\nshape = \"json\"\n"));
    }
    // An alert is always firing, because every machine uses more than 0.1 % of its memory.
    text.push_str(&NO_HOST_CHECKS_CONFIG.replace("memory = 1.0", "memory = 0.001"));
    text.push_str("[alert]\ntimeout = \"400ms\"\n[monitor]\ninterval = \"10ms\"\n");
    home.write("config.toml", &text);
    home.configure("[restart]", "[restart]\nhealth_check_interval = \"10ms\"");
    let mut monitor = home.start(&["monitor"]);
    for _ in &urls {
        monitor.log_until("alerts not delivered, will retry");
    }

    let output = home.cynosure(&["run", "--once"]);

    assert_eq!(output.code, Some(0), "{output:?}");
    assert_eq!(output.stdout, "listed 300 = stored 300 + gone 0 + quarantined 0\n");
    assert_eq!((home.cynosure(&["verify"]).code, home.repeated_downloads()), (Some(0), 0));
    assert!(monitor.0.try_wait().unwrap().is_none(), "the monitor is still running");
    monitor.signal(Signal::TERM);
    assert_eq!(monitor.0.wait().unwrap().code(), Some(143));

    // The pending messages become two days old.
    let mut outbox: Value = serde_json::from_str(&home.read("state/outbox.json")).unwrap();
    let messages = outbox["messages"].as_array_mut().unwrap();
    assert!(!messages.is_empty());
    let queued_at = Timestamp(RealEnv.now().0 - 2 * 86_400_000).to_string();
    messages.iter_mut().for_each(|message| message["queued_at"] = queued_at.clone().into());
    home.write("state/outbox.json", &outbox.to_string());
    let mut monitor = home.start(&["monitor"]);
    for _ in &urls {
        monitor.log_until("alerts could not be delivered and are lost");
    }
    monitor.signal(Signal::TERM);
    monitor.0.wait().unwrap();

    let alerts: Value = serde_json::from_str(&home.read("state/alerts.json")).unwrap();
    let stored = alerts["alerts"].as_array().unwrap().iter();
    let lost =
        stored.filter(|alert| alert["key"] == "channel.lost" && alert["resolved_at"].is_null());
    let subjects: Vec<&Value> = lost.map(|alert| &alert["subject"]).collect();
    assert_eq!(subjects, ["webhook broken", "webhook down", "webhook slow"]);
}
