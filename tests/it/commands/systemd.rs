//! Worker under a service manager, here a socket of the test: notifications, reloads, and the
//! escalation of a stuck worker.

use std::io::Read;
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::commands::test_home::{RunningProgram, TestHome};
use crate::fake_mailbox::FakeMailbox;
use crate::hostile_server::{ConnectionAction, ReceivedRequest, plain_response};

/// Maximum duration of a wait, longer than any of them takes; a test that reaches it fails.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Service manager that receives the notifications of a worker.
struct FakeServiceManager {
    socket: UnixDatagram,
    dir: TempDir,
}

impl FakeServiceManager {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(dir.path().join("notify")).unwrap();
        socket.set_read_timeout(Some(TIMEOUT)).unwrap();
        Self { socket, dir }
    }

    fn command(&self, home: &TestHome) -> Command {
        let mut command = home.command(&["run"]);
        command.env("INVOCATION_ID", "0123").env("NOTIFY_SOCKET", self.dir.path().join("notify"));
        command
    }

    fn start(&self, home: &TestHome) -> RunningProgram {
        RunningProgram(self.command(home).spawn().unwrap())
    }

    /// Returns the next notification, one assignment per line.
    fn next_message(&self) -> String {
        let mut bytes = [0; 4096];
        let length = self.socket.recv(&mut bytes).expect("the worker sends a notification");
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    }

    /// Receives notifications up to the first one with `text`, and returns all of them.
    fn wait_for_message(&self, text: &str) -> Vec<String> {
        let mut all = Vec::new();
        while !all.last().is_some_and(|message: &String| message.contains(text)) {
            all.push(self.next_message());
        }
        all
    }

    /// Discards the notifications in the queue. Returns true if none arrives within `timeout`, or
    /// the next one lacks `text`.
    fn has_stopped_sending(&self, text: &str, timeout: Duration) -> bool {
        self.socket.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        let mut bytes = [0; 4096];
        while self.socket.recv(&mut bytes).is_ok() {}
        self.socket.set_read_timeout(Some(timeout)).unwrap();
        match self.socket.recv(&mut bytes) {
            Ok(length) => !String::from_utf8_lossy(&bytes[..length]).contains(text),
            Err(_) => true,
        }
    }
}

fn exit_code(mut running: RunningProgram) -> Option<i32> {
    running.0.wait().unwrap().code()
}

/// Kills the program, and returns the rest of its standard error.
fn stderr_to_end(running: &mut RunningProgram) -> String {
    running.0.kill().ok();
    let mut text = String::new();
    running.0.stderr.as_mut().unwrap().read_to_string(&mut text).unwrap();
    text
}

#[test]
fn the_manager_gets_every_status_from_start_to_stop() {
    let (manager, home) = (FakeServiceManager::new(), TestHome::with_demo_server(20_000));
    let running = manager.start(&home);

    let ready = manager.wait_for_message("READY=1");
    assert!(ready.last().unwrap().contains("\nSTATUS="), "{ready:?}");
    let messages = manager.wait_for_message(" left");
    let last = messages.last().unwrap();
    assert!(last.starts_with("STATUS=downloading "), "{messages:?}");
    assert!(last.contains("/20,000, ") && last.contains("/s, about "), "{last}");

    running.signal(Signal::TERM);
    manager.wait_for_message("STOPPING=1\nSTATUS=stopping: waiting for requests in flight");
    assert_eq!(exit_code(running), Some(75));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_is_reported_with_its_end_and_reason() {
    let served = FakeMailbox::with_emails(5)
        .serve_with(|request| {
            let throttle = plain_response("429 Too Many Requests", "Retry-After: 300\r\n", "");
            request.path().starts_with("/get/").then(|| vec![ConnectionAction::Send(throttle)])
        })
        .await;
    let home = TestHome::with_source_at(served.server.url.as_str());

    let status = tokio::task::spawn_blocking(move || {
        let manager = FakeServiceManager::new();
        let running = manager.start(&home);
        let status = manager.wait_for_message("STATUS=rate limited until ").pop().unwrap();
        running.signal(Signal::TERM);
        assert_eq!(exit_code(running), Some(75));
        status
    });

    let status = status.await.unwrap();
    assert!(status.contains("retry after 300 s"), "{status}");
}

/// Adds the demo's source a second time, as `other`.
fn add_second_demo_source(home: &TestHome) {
    let config = home.read("config.toml");
    let at = config.find("[source.demo]").expect("the demo is a source");
    let table = config[at + "[source.demo]".len()..].split("\n[").next().unwrap().to_owned();
    home.write("config.toml", &format!("{config}\n[source.other]{table}\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn several_sources_share_one_status_and_restart_in_process() {
    let limited = FakeMailbox::with_emails(5)
        .serve_with(|request| {
            let throttle = plain_response("429 Too Many Requests", "Retry-After: 300\r\n", "");
            request.path().starts_with("/get/").then(|| vec![ConnectionAction::Send(throttle)])
        })
        .await;
    let home = TestHome::with_demo_server(20);
    home.write("secret", "secret\n");
    rustix::fs::chmod(home.path("secret"), rustix::fs::Mode::RUSR).unwrap();
    let config = home.read("config.toml");
    let url = limited.server.url.as_str();
    let other = format!(
        "[source.other]\nkind = \"jmap\"\nurl = \"{url}\"\naccount = \"me@example.com\"\n\
         provider = \"other\"\nauth = {{ type = \"bearer\", token = {{ file = \"secret\" }} }}\n"
    );
    home.write("config.toml", &format!("{config}\n{other}"));

    let exit = tokio::task::spawn_blocking(move || {
        let manager = FakeServiceManager::new();
        let mut running = manager.start(&home);
        running.log_until("worker{source=demo}: restarting in place");
        manager.wait_for_message("STATUS=2 sources: 1 idle, 1 rate limited until ");
        running.signal(Signal::TERM);
        exit_code(running)
    });

    assert_eq!(exit.await.unwrap(), Some(75));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_token_and_sighup_end_auth_failed_at_once() {
    let is_fresh = |request: &ReceivedRequest| request.head.contains("Bearer fresh");
    let mut mailbox = FakeMailbox::with_emails(5);
    mailbox.token = "fresh";
    let served = mailbox
        .serve_with(move |request| {
            let rejection = plain_response("401 Unauthorized", "", "");
            (!is_fresh(request)).then(|| vec![ConnectionAction::Send(rejection)])
        })
        .await;
    let home = TestHome::with_source_at(served.server.url.as_str());

    let reloaded = tokio::task::spawn_blocking(move || {
        let manager = FakeServiceManager::new();
        let running = manager.start(&home);
        manager.wait_for_message("STATUS=auth failed until ");
        fs_err::remove_file(home.path("token")).unwrap();
        home.write("token", "fresh\n");
        rustix::fs::chmod(home.path("token"), rustix::fs::Mode::RUSR).unwrap();

        running.signal(Signal::HUP);

        let reloading = manager.wait_for_message("RELOADING=1\nMONOTONIC_USEC=");
        let ready = manager.wait_for_message("READY=1");
        // The worker exits after the session is completed, so that systemd restarts it.
        assert_eq!(exit_code(running), Some(75));
        assert_eq!(home.messages().len(), 5);
        (reloading, ready)
    });

    reloaded.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn sighup_with_the_rejected_token_sends_no_request() {
    let has_request = Arc::new(AtomicBool::new(false));
    let server_has_request = Arc::clone(&has_request);
    let served = FakeMailbox::with_emails(5)
        .serve_with(move |_| {
            server_has_request.store(true, Ordering::SeqCst);
            Some(vec![ConnectionAction::Send(plain_response("401 Unauthorized", "", ""))])
        })
        .await;
    let home = TestHome::with_source_at(served.server.url.as_str());

    let requested_again = tokio::task::spawn_blocking(move || {
        let manager = FakeServiceManager::new();
        let running = manager.start(&home);
        manager.wait_for_message("STATUS=auth failed until ");
        has_request.store(false, Ordering::SeqCst);
        running.signal(Signal::HUP);
        manager.wait_for_message("RELOADING=1");
        let ready = manager.wait_for_message("READY=1");
        assert!(ready.last().unwrap().contains("STATUS=auth failed until "), "{ready:?}");
        running.signal(Signal::TERM);
        assert_eq!(exit_code(running), Some(75));
        has_request.load(Ordering::SeqCst)
    });

    assert!(!requested_again.await.unwrap());
}

#[test]
fn sighup_with_an_invalid_configuration_keeps_the_old_one() {
    let (manager, home) = (FakeServiceManager::new(), TestHome::with_demo_server(20_000));
    let mut running = manager.start(&home);
    manager.wait_for_message("STATUS=downloading ");
    home.configure("kind = \"jmap\"", "kind = \"jamp\"");

    running.signal(Signal::HUP);

    running.log_until("keeping the last valid configuration");
    manager.wait_for_message("RELOADING=1");
    manager.wait_for_message("READY=1");
    manager.wait_for_message("STATUS=downloading ");
    let before = home.messages().len();
    running.signal(Signal::TERM);
    assert_eq!(exit_code(running), Some(75));
    assert!(before > 0);
    assert_eq!(home.repeated_downloads(), 0, "requests in flight at SIGHUP are not repeated");
}

#[test]
fn a_new_source_at_sighup_restarts_the_process() {
    let (manager, home) = (FakeServiceManager::new(), TestHome::with_demo_server(20_000));
    let running = manager.start(&home);
    manager.wait_for_message("STATUS=downloading ");
    add_second_demo_source(&home);

    running.signal(Signal::HUP);

    manager.wait_for_message("RELOADING=1");
    manager.wait_for_message("STOPPING=1");
    assert_eq!(exit_code(running), Some(75));
    assert_eq!(home.repeated_downloads(), 0, "requests in flight were completed");
}

#[test]
fn an_unreachable_notify_socket_is_logged_once() {
    let home = TestHome::with_demo_server(20);
    let mut command = home.command(&["run", "--once"]);
    command.env("NOTIFY_SOCKET", "/nowhere/notify").env("INVOCATION_ID", "0123");

    let output = home.run_to_end(&mut command);

    assert_eq!(output.code, Some(0), "{output:?}");
    assert_eq!(output.stderr.matches("cannot notify systemd").count(), 1, "{output:?}");
}

#[cfg(debug_assertions)]
#[test]
fn a_panicking_source_restarts_the_process() {
    let (manager, home) = (FakeServiceManager::new(), TestHome::with_demo_server(20_000));
    add_second_demo_source(&home);
    let mut command = manager.command(&home);
    command.env("FAIL_CYNOSURE", "break_other");

    let output = home.run_to_end(&mut command);

    // systemd restarts it because of this exit code.
    assert_eq!(output.code, Some(1), "{output:?}");
    assert!(output.stderr.contains("worker panicked"), "{output:?}");
    let state: Value = serde_json::from_str(&home.read("state/demo/execution_state.json")).unwrap();
    assert_eq!(state["pid"], Value::Null, "the other source shuts down cleanly");
}

/// Blocks a worker that cannot reach D-Bus at a failpoint, and checks every step up to the missing
/// keep-alive.
#[cfg(debug_assertions)]
fn assert_escalates_to_watchdog(failpoint: &str) {
    let (manager, home) = (FakeServiceManager::new(), TestHome::with_demo_server(20_000));
    let mut command = manager.command(&home);
    command.env("FAIL_CYNOSURE", failpoint).env("WATCHDOG_USEC", "4000000");
    command.env("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nowhere/bus");
    let mut running = RunningProgram(command.spawn().unwrap());
    manager.wait_for_message("WATCHDOG=1");

    let mut log = String::new();
    for step in [
        "stuck: the loop has missed its heartbeat deadline",
        "stuck: asking systemd to restart the unit",
        "stuck: systemd does not restart the unit",
    ] {
        log.push_str(&running.log_until(step));
    }

    assert!(manager.has_stopped_sending("WATCHDOG=1", Duration::from_secs(3)), "{log}");
    log.push_str(&stderr_to_end(&mut running));
    assert_eq!(log.matches("stuck: ").count(), 3, "{log}");
    let restarts = home.read("state/restarts.json");
    assert!(restarts.contains("\"in_a_row\": 1"), "{restarts}");
}

#[cfg(debug_assertions)]
#[test]
fn a_blocked_runtime_escalates_step_by_step_to_the_watchdog() {
    assert_escalates_to_watchdog("block_runtime");
}

#[cfg(debug_assertions)]
#[test]
fn a_full_thread_pool_escalates_step_by_step_to_the_watchdog() {
    assert_escalates_to_watchdog("fill_pool");
}
