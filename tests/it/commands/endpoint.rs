//! Endpoint of the monitor: start, changed settings, refused settings, and shutdown.

use std::io::{BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use cynosure::env::{Env, RealEnv};
use cynosure::state::ExecutionState;
use cynosure_engine::Status;
use rustix::process::Signal;

use crate::commands::check_and_monitor::{fresh_state, write_state};
use crate::commands::status::live_state;
use crate::commands::test_home::{RunningProgram, TestHome};
use crate::endpoint::client::{connect, read_head, request, send_request};

/// Home with one source, whose monitor checks every 200 ms and serves this endpoint.
fn home_with_monitor(endpoint: &str) -> TestHome {
    let home = TestHome::with_source_work();
    write_state(&home, "work", &ExecutionState { last_updated: RealEnv.now(), ..fresh_state() });
    let settings = format!("[monitor]\ninterval = \"200ms\"\n{endpoint}\n[restart]");
    home.configure("[restart]", &settings);
    home
}

const ENDPOINT_CONFIG: &str = "[endpoint]\nlisten = \"127.0.0.1:0\"\nrequests_per_minute = 10000";

/// Waits until the endpoint listens, and returns its address.
fn listening_address(monitor: &mut RunningProgram) -> SocketAddr {
    let log = monitor.log_until("endpoint listening url=http://");
    let (_, after) = log.rsplit_once("http://").unwrap();
    after.split('/').next().unwrap().parse().unwrap()
}

#[test]
fn the_endpoint_shows_the_state_and_ends_with_the_monitor() {
    let home = home_with_monitor(ENDPOINT_CONFIG);
    let mut monitor = home.start(&["monitor"]);
    let address = listening_address(&mut monitor);
    let overview = || send_request(address, "GET", "/api/health/overview", &[]).json();
    crate::endpoint::wait_until(|| overview()["looked_at"].is_string());

    let source = send_request(address, "GET", "/api/sources/work", &[]).json();
    assert_eq!(source["state"], live_state().status.name());
    assert_eq!(source["total"], live_state().total_threads);
    let overview = overview();
    assert!(!overview["checks"].as_array().unwrap().is_empty(), "{overview}");
    let metrics = send_request(address, "GET", "/metrics", &[]);
    assert!(metrics.body.contains("source=\"work\""), "{}", metrics.body);
    assert_eq!(
        send_request(address, "GET", "/api/sources/work/history", &[]).json()["history"],
        serde_json::json!([])
    );
    assert_eq!(
        send_request(address, "GET", "/api/sources/work/summary", &[]).json(),
        serde_json::json!({ "source": "work", "summary": [], "growth": [] })
    );
    assert!(send_request(address, "GET", "/", &[]).body.contains("id=\"source-work\""));

    // An open event stream does not delay the shutdown.
    let mut stream = connect(address);
    stream.write_all(request("GET", "/events", &[]).as_bytes()).unwrap();
    let mut events = BufReader::new(stream);
    assert_eq!(read_head(&mut events).status, 200);
    monitor.signal(Signal::TERM);
    assert_eq!(monitor.0.wait().unwrap().code(), Some(143));
    let mut rest = Vec::new();
    events.read_to_end(&mut rest).ok();
}

#[test]
fn the_archive_is_shown_with_the_last_session_and_its_growth() {
    let home = TestHome::with_demo_server(20);
    assert_eq!(home.cynosure(&["run", "--once"]).code, Some(0));
    let config = home.read("config.toml");
    home.write("config.toml", &format!("{config}\n{ENDPOINT_CONFIG}\n"));
    let mut monitor = home.start(&["monitor"]);
    let address = listening_address(&mut monitor);
    let messages = home.messages();
    let bytes: u64 = messages.iter().map(|path| fs_err::metadata(path).unwrap().len()).sum();

    let source = send_request(address, "GET", "/api/sources/demo", &[]).json();
    assert_eq!(source["archive_documents"], messages.len(), "{source}");
    assert_eq!(source["archive_bytes"], bytes, "{source}");
    assert!(source["complete_until"].is_string(), "{source}");

    let summary = send_request(address, "GET", "/api/sources/demo/summary", &[]).json();
    let entries = summary["summary"].as_array().unwrap();
    assert!(!entries.is_empty(), "{summary}");
    let growth = summary["growth"].as_array().unwrap();
    assert_eq!(growth.len(), 30, "{summary}");
    assert_eq!(growth[0]["documents"], serde_json::Value::Null, "{summary}");
    let today = &growth[29];
    assert_eq!(today["documents"], messages.len(), "{summary}");
    assert_eq!(today["bytes"], bytes, "{summary}");
    let page = send_request(address, "GET", "/?source=demo", &[]).body;
    assert!(page.contains("archive size over the last"), "{page}");
}

#[test]
fn an_archive_that_nothing_completes_is_stale() {
    let now = RealEnv.now();
    let home = home_with_monitor(ENDPOINT_CONFIG);
    // The source is polled every five minutes.
    let state = ExecutionState {
        status: Status::AuthFailed,
        archive_documents: Some(12),
        archive_bytes: Some(3400),
        complete_until: Some(now.before(Duration::from_secs(3600))),
        last_updated: now,
        ..fresh_state()
    };
    write_state(&home, "work", &state);
    let mut monitor = home.start(&["monitor"]);
    let address = listening_address(&mut monitor);

    let source = send_request(address, "GET", "/api/sources/work", &[]).json();

    assert_eq!(
        (&source["archive_documents"], &source["archive_bytes"]),
        (&12.into(), &3400.into())
    );
    assert_eq!(source["complete_until"], serde_json::to_value(state.complete_until).unwrap());
    assert_eq!(source["complete_until_stale"], true, "{source}");
    let page = send_request(address, "GET", "/", &[]).body;
    assert!(page.contains("12 documents in 3.4 kB") && page.contains("1 stale source"), "{page}");
}

#[test]
fn missing_or_truncated_state_files_are_reported() {
    let home = home_with_monitor(ENDPOINT_CONFIG);
    let mut monitor = home.start(&["monitor"]);
    let address = listening_address(&mut monitor);

    home.write("state/work/execution_state.json", "{\"schema\":");
    home.write("state/quota.json", "{");
    home.write("state/breakers.json", "[]");
    home.write("state/health.json", "");
    home.write("state/alerts.json", "{\"schema\":1,\"alerts\":7}");
    home.write("state/trends.json", "{}");
    home.write("state/work/ledger.sqlite", "this is no ledger");

    crate::endpoint::wait_until(|| {
        send_request(address, "GET", "/api/sources/work", &[]).json()["state"] == "unknown"
    });
    for path in ["/", "/?source=work", "/health", "/metrics", "/api/health/overview", "/api/trends"]
    {
        let status = send_request(address, "GET", path, &[]).status;
        assert!(matches!(status, 200 | 503), "{path}: {status}");
    }
    for list in ["history", "summary"] {
        let path = format!("/api/sources/work/{list}");
        assert_eq!(send_request(address, "GET", &path, &[]).status, 503, "{path}");
    }

    fs_err::remove_dir_all(home.path("state/work")).unwrap();
    crate::endpoint::wait_until(|| {
        send_request(address, "GET", "/api/sources/work", &[]).json()["state"] == "never_run"
    });
    home.configure("[source.work]", "[source.other]");
    crate::endpoint::wait_until(|| {
        send_request(address, "GET", "/api/sources/work", &[]).status == 404
    });
}

#[test]
fn changed_settings_apply_and_a_token_protects_the_endpoint() {
    let home = home_with_monitor(ENDPOINT_CONFIG);
    let mut monitor = home.start(&["monitor"]);
    let unprotected = listening_address(&mut monitor);
    assert_ne!(send_request(unprotected, "GET", "/health", &[]).status, 401);

    home.configure("requests_per_minute = 10000", "token = { file = \"token\" }");
    let protected = listening_address(&mut monitor);

    assert_eq!(send_request(protected, "GET", "/health", &[]).status, 401);
    let credential = ("Authorization", "Bearer secret");
    let authorized = send_request(protected, "GET", "/api/health/overview", &[credential]);
    assert_eq!(authorized.status, 200);
}

#[test]
fn a_changed_token_is_applied() {
    let home = home_with_monitor(&format!("{ENDPOINT_CONFIG}\ntoken = {{ file = \"token\" }}"));
    let mut monitor = home.start(&["monitor"]);
    let address_before = listening_address(&mut monitor);
    let status_with_token = |token: &str| {
        let bearer = format!("Bearer {token}");
        let headers = [("Authorization", bearer.as_str())];
        send_request(address_before, "GET", "/api/health/overview", &headers).status
    };
    assert_eq!(status_with_token("secret"), 200);

    home.write("token", "another");
    let address_after = listening_address(&mut monitor);

    let statuses = ["secret", "another"].map(status_with_token);
    assert_eq!((address_after, statuses), (address_before, [401, 200]));
}

#[test]
fn the_old_address_is_kept_while_the_new_one_is_in_use() {
    let other_listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let new = other_listener.local_addr().unwrap();
    let home = home_with_monitor(ENDPOINT_CONFIG);
    let mut monitor = home.start(&["monitor"]);
    let old = listening_address(&mut monitor);

    home.configure("listen = \"127.0.0.1:0\"", &format!("listen = \"{new}\""));
    monitor.log_until(&format!("error=still served at http://{old}/: cannot listen on {new}"));
    assert_eq!(send_request(old, "GET", "/api/health/overview", &[]).status, 200);

    drop(other_listener);
    assert_eq!(listening_address(&mut monitor), new);
    assert_eq!(send_request(new, "GET", "/api/health/overview", &[]).status, 200);
    assert!(TcpStream::connect(old).is_err(), "nothing listens at the old address any more");
}

#[test]
fn a_slow_token_command_does_not_delay_the_monitor() {
    let slow = "token = { command = [\"sleep\", \"20\"] }";
    let home = home_with_monitor(&format!("[endpoint]\nlisten = \"127.0.0.1:0\"\n{slow}"));
    let mut monitor = home.start(&["monitor"]);

    let log = monitor.log_until("it cannot be observed or restarted");

    assert!(!log.contains("cannot apply the endpoint settings"), "{log}");
}

#[test]
fn unwritable_trends_are_logged_once_and_block_nothing() {
    let home = home_with_monitor(ENDPOINT_CONFIG);
    home.write("state/trends.lock/in-the-way", "");
    let mut monitor = home.start(&["monitor"]);
    let address = listening_address(&mut monitor);
    monitor.log_until("cannot record the trends of the last day");

    let checked_at = || send_request(address, "GET", "/health", &[]).json()["looked_at"].clone();
    for _ in 0..2 {
        let before = checked_at();
        crate::endpoint::wait_until(|| checked_at() != before);
    }
    monitor.signal(Signal::TERM);
    let mut rest = String::new();
    monitor.0.stderr.take().unwrap().read_to_string(&mut rest).unwrap();

    assert!(!rest.contains("cannot record the trends"), "{rest}");
}

#[test]
fn an_address_in_use_is_logged_and_the_monitor_continues() {
    let other_listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other_listener.local_addr().unwrap();
    let home = home_with_monitor(&format!("[endpoint]\nlisten = \"{address}\""));
    let mut monitor = home.start(&["monitor"]);

    // The endpoint and the checks start concurrently: either log line may come first.
    let first_finding = "it cannot be observed or restarted";
    if !monitor.log_until("error=not served: cannot listen on").contains(first_finding) {
        monitor.log_until(first_finding);
    }
    drop(other_listener);
    monitor.log_until("endpoint listening url=http://");
}

#[test]
fn an_unreadable_token_leaves_the_endpoint_closed() {
    let home =
        home_with_monitor("[endpoint]\nlisten = \"127.0.0.1:0\"\ntoken = { file = \"nowhere\" }");
    let mut monitor = home.start(&["monitor"]);

    let log = monitor.log_until("error=not served: ");

    assert!(log.contains("credential file"), "{log}");
    assert!(!log.contains("endpoint listening"), "{log}");
}

#[test]
fn remote_access_requires_a_token() {
    let home = home_with_monitor("[endpoint]\nlisten = \"0.0.0.0:8080\"");
    for command in [&["config", "check"][..], &["monitor"]] {
        let output = home.cynosure(command);

        assert_eq!(output.code, Some(78), "{output:?}");
        let reason = "`endpoint.listen` accepts requests from other machines";
        assert!(output.stderr.contains(reason), "{}", output.stderr);
        assert!(output.stderr.contains("token = { file ="), "{}", output.stderr);
    }
}
