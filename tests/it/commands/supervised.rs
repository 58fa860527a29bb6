//! Under a service manager, which here is a socket of the test: what the worker tells it, and
//! what it does when it is told to read everything again, or can't go on.

use std::io::Read;
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::commands::home::{Home, Running};
use crate::hostile::{Act, Asked, plain};
use crate::mailbox::Mailbox;

/// Longer than any of this takes; a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// A service manager: it listens, and notes what it is told.
struct Manager {
    socket: UnixDatagram,
    dir: TempDir,
}

impl Manager {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(dir.path().join("notify")).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket, dir }
    }

    fn command(&self, home: &Home) -> Command {
        let mut command = home.command(&["run"]);
        command.env("INVOCATION_ID", "0123").env("NOTIFY_SOCKET", self.dir.path().join("notify"));
        command
    }

    fn start(&self, home: &Home) -> Running {
        Running(self.command(home).spawn().unwrap())
    }

    /// The next thing it is told, a word a line.
    fn told(&self) -> String {
        let mut bytes = [0; 4096];
        let length = self.socket.recv(&mut bytes).expect("the worker says something");
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    }

    /// Listens until it is told this, and returns what it was told up to then.
    fn until(&self, text: &str) -> Vec<String> {
        let mut all = Vec::new();
        while !all.last().is_some_and(|told: &String| told.contains(text)) {
            all.push(self.told());
        }
        all
    }

    /// Whether nothing comes any more, once what is in the queue is gone.
    fn hears_no_more_of(&self, text: &str, within: Duration) -> bool {
        self.socket.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        let mut bytes = [0; 4096];
        while self.socket.recv(&mut bytes).is_ok() {}
        self.socket.set_read_timeout(Some(within)).unwrap();
        match self.socket.recv(&mut bytes) {
            Ok(length) => !String::from_utf8_lossy(&bytes[..length]).contains(text),
            Err(_) => true,
        }
    }
}

fn code(mut running: Running) -> Option<i32> {
    running.0.wait().unwrap().code()
}

/// What it says on standard error until it is gone.
fn last_words(running: &mut Running) -> String {
    running.0.kill().ok();
    let mut text = String::new();
    running.0.stderr.as_mut().unwrap().read_to_string(&mut text).unwrap();
    text
}

#[test]
fn the_manager_is_told_the_story_from_the_start_to_the_end() {
    let (manager, home) = (Manager::new(), Home::served(20_000));
    let running = manager.start(&home);

    let begun = manager.until("READY=1");
    assert!(begun.last().unwrap().contains("\nSTATUS="), "{begun:?}");
    let story = manager.until(" left");
    let last = story.last().unwrap();
    assert!(last.starts_with("STATUS=downloading "), "{story:?}");
    assert!(last.contains("/20,000, ") && last.contains("/s, about "), "{last}");

    running.signal(Signal::TERM);
    manager.until("STOPPING=1\nSTATUS=stopping: what is in flight may end");
    assert_eq!(code(running), Some(75));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_is_told_with_its_end_and_its_reason() {
    let served = Mailbox::of(5)
        .serve_with(|asked| {
            let refusal = plain("429 Too Many Requests", "Retry-After: 300\r\n", "");
            asked.path().starts_with("/get/").then(|| vec![Act::Send(refusal)])
        })
        .await;
    let home = Home::at(served.server.url.as_str());

    let told = tokio::task::spawn_blocking(move || {
        let manager = Manager::new();
        let running = manager.start(&home);
        let told = manager.until("STATUS=rate limited until ").pop().unwrap();
        running.signal(Signal::TERM);
        assert_eq!(code(running), Some(75));
        told
    });

    let told = told.await.unwrap();
    assert!(told.contains("retry after 300 s"), "{told}");
}

/// The demo's source once more, by the name of `other`.
fn doubled(home: &Home) {
    let config = home.read("config.toml");
    let at = config.find("[source.demo]").expect("the demo is a source");
    let table = config[at + "[source.demo]".len()..].split("\n[").next().unwrap().to_owned();
    home.write("config.toml", &format!("{config}\n[source.other]{table}\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn several_sources_are_told_in_one_line_and_start_anew_in_their_places() {
    let limited = Mailbox::of(5)
        .serve_with(|asked| {
            let refusal = plain("429 Too Many Requests", "Retry-After: 300\r\n", "");
            asked.path().starts_with("/get/").then(|| vec![Act::Send(refusal)])
        })
        .await;
    let home = Home::served(20);
    home.write("secret", "secret\n");
    rustix::fs::chmod(home.path("secret"), rustix::fs::Mode::RUSR).unwrap();
    let config = home.read("config.toml");
    let url = limited.server.url.as_str();
    let other = format!(
        "[source.other]\nkind = \"jmap\"\nurl = \"{url}\"\naccount = \"me@example.com\"\n\
         provider = \"other\"\nauth = {{ type = \"bearer\", token = {{ file = \"secret\" }} }}\n"
    );
    home.write("config.toml", &format!("{config}\n{other}"));

    let ended = tokio::task::spawn_blocking(move || {
        let manager = Manager::new();
        let mut running = manager.start(&home);
        running.log_until("worker{source=demo}: starting anew in place");
        manager.until("STATUS=2 sources: 1 idle, 1 rate limited until ");
        running.signal(Signal::TERM);
        code(running)
    });

    assert_eq!(ended.await.unwrap(), Some(75));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_token_and_a_hangup_end_a_refusal_at_once() {
    let is_fresh = |asked: &Asked| asked.head.contains("Bearer fresh");
    let mut mailbox = Mailbox::of(5);
    mailbox.token = "fresh";
    let served = mailbox
        .serve_with(move |asked| {
            let refusal = plain("401 Unauthorized", "", "");
            (!is_fresh(asked)).then(|| vec![Act::Send(refusal)])
        })
        .await;
    let home = Home::at(served.server.url.as_str());

    let reloaded = tokio::task::spawn_blocking(move || {
        let manager = Manager::new();
        let running = manager.start(&home);
        manager.until("STATUS=auth failed until ");
        fs_err::remove_file(home.path("token")).unwrap();
        home.write("token", "fresh\n");
        rustix::fs::chmod(home.path("token"), rustix::fs::Mode::RUSR).unwrap();

        running.signal(Signal::HUP);

        let reloading = manager.until("RELOADING=1\nMONOTONIC_USEC=");
        let ready = manager.until("READY=1");
        // Completed, it leaves to be started again.
        assert_eq!(code(running), Some(75));
        assert_eq!(home.messages().len(), 5);
        (reloading, ready)
    });

    reloaded.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hangup_with_the_refused_token_asks_nobody_again() {
    let refused = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&refused);
    let served = Mailbox::of(5)
        .serve_with(move |_| {
            seen.store(true, Ordering::SeqCst);
            Some(vec![Act::Send(plain("401 Unauthorized", "", ""))])
        })
        .await;
    let home = Home::at(served.server.url.as_str());

    let asked_again = tokio::task::spawn_blocking(move || {
        let manager = Manager::new();
        let running = manager.start(&home);
        manager.until("STATUS=auth failed until ");
        refused.store(false, Ordering::SeqCst);
        running.signal(Signal::HUP);
        manager.until("RELOADING=1");
        let ready = manager.until("READY=1");
        assert!(ready.last().unwrap().contains("STATUS=auth failed until "), "{ready:?}");
        running.signal(Signal::TERM);
        assert_eq!(code(running), Some(75));
        refused.load(Ordering::SeqCst)
    });

    assert!(!asked_again.await.unwrap());
}

#[test]
fn a_broken_configuration_is_reported_at_a_hangup_and_the_old_one_kept() {
    let (manager, home) = (Manager::new(), Home::served(20_000));
    let mut running = manager.start(&home);
    manager.until("STATUS=downloading ");
    home.configure("kind = \"jmap\"", "kind = \"jamp\"");

    running.signal(Signal::HUP);

    running.log_until("going on with the last good configuration");
    manager.until("RELOADING=1");
    manager.until("READY=1");
    manager.until("STATUS=downloading ");
    let before = home.messages().len();
    running.signal(Signal::TERM);
    assert_eq!(code(running), Some(75));
    assert!(before > 0);
    assert_eq!(home.served_again(), 0, "what is in flight at a hangup is not fetched twice");
}

#[test]
fn a_source_that_is_new_at_a_hangup_has_the_process_started_anew() {
    let (manager, home) = (Manager::new(), Home::served(20_000));
    let running = manager.start(&home);
    manager.until("STATUS=downloading ");
    doubled(&home);

    running.signal(Signal::HUP);

    manager.until("RELOADING=1");
    manager.until("STOPPING=1");
    assert_eq!(code(running), Some(75));
    assert_eq!(home.served_again(), 0, "what was in flight was waited for");
}

#[test]
fn a_socket_that_leads_nowhere_is_told_of_once_and_stops_nothing() {
    let home = Home::served(20);
    let mut command = home.command(&["run", "--once"]);
    command.env("NOTIFY_SOCKET", "/nowhere/notify").env("INVOCATION_ID", "0123");

    let ran = home.end(&mut command);

    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(ran.err.matches("cannot tell systemd").count(), 1, "{ran:?}");
}

#[cfg(debug_assertions)]
#[test]
fn a_source_that_breaks_is_not_missing_for_weeks_beside_others() {
    let (manager, home) = (Manager::new(), Home::served(20_000));
    doubled(&home);
    let mut command = manager.command(&home);
    command.env("FAIL_CYNOSURE", "break_other");

    let ran = home.end(&mut command);

    // systemd starts it again for that.
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.err.contains("the worker broke"), "{ran:?}");
    let state: Value = serde_json::from_str(&home.read("state/demo/execution_state.json")).unwrap();
    assert_eq!(state["pid"], Value::Null, "the other leaves in good order");
}

/// Breaks the worker, which no bus can help, and sees it climb the ladder to the last rung.
#[cfg(debug_assertions)]
fn starves_when(broken: &str) {
    let (manager, home) = (Manager::new(), Home::served(20_000));
    let mut command = manager.command(&home);
    command.env("FAIL_CYNOSURE", broken).env("WATCHDOG_USEC", "4000000");
    command.env("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nowhere/bus");
    let mut running = Running(command.spawn().unwrap());
    manager.until("WATCHDOG=1");

    let mut log = String::new();
    for rung in [
        "stuck: the work does not come back to its loop",
        "stuck: asking systemd to restart the unit",
        "stuck: systemd does not restart the unit",
    ] {
        log.push_str(&running.log_up_to(rung));
    }

    assert!(manager.hears_no_more_of("WATCHDOG=1", Duration::from_secs(3)), "{log}");
    log.push_str(&last_words(&mut running));
    assert_eq!(log.matches("stuck: ").count(), 3, "{log}");
    let counted = home.read("state/restarts.json");
    assert!(counted.contains("\"in_a_row\": 1"), "{counted}");
}

#[cfg(debug_assertions)]
#[test]
fn a_blocked_runtime_climbs_each_rung_once_and_then_starves_the_watchdog() {
    starves_when("block_runtime");
}

#[cfg(debug_assertions)]
#[test]
fn a_dead_pool_of_threads_climbs_each_rung_once_and_then_starves_the_watchdog() {
    starves_when("fill_pool");
}
