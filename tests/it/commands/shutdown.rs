//! Signals: requests in flight may finish, a second signal exits at once, the next run resumes.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::ExitStatus;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use cynosure::disk::RealDisk;
use cynosure::state::{StateFile, read_state_file};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::Signal;
use serde_json::Value;
use tokio::sync::watch;

use crate::commands::test_home::{RunningProgram, TestHome};
use crate::fake_mailbox::{FakeMailbox, ServedMailbox};
use crate::hostile_server::{ConnectionAction, ReceivedRequest, plain_response};

/// Maximum duration of a wait, longer than any of them takes; a test that reaches it fails.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Maximum duration of an immediate exit, below the worker's shutdown limit of ten seconds.
const IMMEDIATE_MAX: Duration = Duration::from_secs(5);

/// Polls every 20 ms until another process has reached a state.
#[expect(clippy::disallowed_methods, reason = "another process sends no event to wait for")]
fn wait_until<T>(goal: &str, limit: Duration, mut poll: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = poll() {
            return found;
        }
        assert!(started.elapsed() < limit, "timed out before {goal}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn wait_for_exit(running: &mut RunningProgram, limit: Duration) -> ExitStatus {
    wait_until("the worker's exit", limit, || running.0.try_wait().unwrap())
}

/// A service manager may send SIGHUP as soon as the process exists.
#[test]
fn a_hangup_during_the_start_does_not_end_the_program() {
    for (args, code) in [(&["run", "--once"][..], 0), (&["monitor"], 143)] {
        let home = TestHome::with_demo_server(5);
        let config = home.path("config.toml");
        let text = home.read("config.toml");
        home.write("whole.toml", &text);
        fs_err::remove_file(&config).unwrap();
        mknodat(CWD, &config, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let mut running = home.start(args);
        // This blocks until the program opens its configuration. The program then blocks until the
        // test writes.
        let mut pipe = fs_err::File::options().write(true).open(&config).unwrap();

        running.signal(Signal::HUP);

        // A second read finds the regular file.
        fs_err::rename(home.path("whole.toml"), &config).unwrap();
        pipe.write_all(text.as_bytes()).unwrap();
        drop(pipe);
        if args == ["monitor"] {
            let monitor_file = home.path("state/monitor.json");
            wait_until("the first check", TIMEOUT, || monitor_file.exists().then_some(()));
            running.signal(Signal::TERM);
        }
        assert_eq!(wait_for_exit(&mut running, TIMEOUT).code(), Some(code), "{args:?}");
    }
}

#[test]
fn an_interrupted_run_is_resumed_by_the_next() {
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let home = TestHome::with_demo_server(3000);
        let mut running = home.start(&["run", "--once"]);
        wait_until("the first stored mail", TIMEOUT, || {
            (home.path("downloads").exists() && !home.messages().is_empty()).then_some(())
        });

        running.signal(signal);

        assert_eq!(wait_for_exit(&mut running, TIMEOUT).code(), Some(code));
        let status = home.cynosure(&["status"]);
        assert!(status.stdout.contains("downloading (not running)"), "{status:?}");
        let before = home.messages().len();
        let again = home.cynosure(&["run", "--once"]);
        assert_eq!(again.code, Some(0), "{again:?}");
        assert_eq!(again.stdout, "listed 3000 = stored 3000 + gone 0 + quarantined 0\n");
        assert!(before < home.messages().len());
        assert_eq!(home.repeated_downloads(), 0, "a clean stop loses nothing that was fetched");
        assert_eq!(home.cynosure(&["verify"]).code, Some(0));
    }
}

#[test]
fn under_systemd_the_worker_exits_to_be_restarted() {
    let home = TestHome::with_demo_server(20);
    let mut command = home.command(&["run"]);
    command.env("INVOCATION_ID", "0123").env("NOTIFY_SOCKET", "/nowhere/notify");

    let completed = home.run_to_end(&mut command);
    assert_eq!(completed.code, Some(75), "{completed:?}");
    assert!(completed.stdout.starts_with("the session is completed"), "{completed:?}");

    let mut waiting = RunningProgram(command.spawn().unwrap());
    let state = || home.cynosure(&["status"]).stdout;
    wait_until("the wait for the next poll", TIMEOUT, || {
        (state().contains("idle") && !state().contains("not running")).then_some(())
    });
    waiting.signal(Signal::TERM);
    assert_eq!(wait_for_exit(&mut waiting, TIMEOUT).code(), Some(75));
}

#[test]
fn an_in_process_restart_keeps_the_pid_in_the_state() {
    let home = TestHome::with_source_work();
    home.configure("\"1s\"", "\"10ms\"");
    home.configure("max_retries = 0", "max_retries = 0\nrestart_delay_errors = \"10ms\"");
    let mut running = home.start(&["run"]);
    let file = home.path("state/work/execution_state.json");
    let state = || read_state_file(&RealDisk, &file).expect("the state file is readable");

    let pid = Some(running.0.id());
    let mut restarts = 0;
    // Not more, because the fifth would wait for the circuit breaker.
    while restarts < 4 {
        if let StateFile::Read(state) = state() {
            assert_eq!(state.pid, pid, "{state:?}");
            restarts = state.restart_count;
        }
        std::thread::yield_now();
    }
    running.signal(Signal::INT);
    wait_for_exit(&mut running, TIMEOUT);

    let StateFile::Read(state) = state() else { panic!("the state file is missing") };
    assert_eq!(state.pid, None);
}

#[tokio::test]
async fn a_second_signal_exits_at_once() {
    let is_download = |request: &ReceivedRequest| request.path().starts_with("/get/");
    let (sender, receiver) = mpsc::channel();
    let served = FakeMailbox::with_emails(3)
        .serve_with(move |request| {
            is_download(request).then(|| {
                sender.send(()).ok();
                vec![ConnectionAction::StopResponding]
            })
        })
        .await;
    let home =
        TestHome::with_source_at(served.server.url.join("/.well-known/jmap").unwrap().as_str());

    // The server lives on this test's runtime, which must not be blocked.
    let status = tokio::task::spawn_blocking(move || {
        let mut running = home.start(&["run"]);
        receiver.recv_timeout(TIMEOUT).unwrap();
        running.signal(Signal::TERM);
        running.log_until("a second signal exits immediately");
        running.signal(Signal::TERM);
        wait_for_exit(&mut running, IMMEDIATE_MAX)
    });

    assert_eq!(status.await.unwrap().code(), Some(143));
}

/// Serves 24 mails, more than are fetched at a time. Every other one is held back until `release`
/// becomes true, and a request for such a mail is reported through `sender`.
async fn mailbox_with_delayed_half(
    sender: mpsc::Sender<()>,
    release: watch::Receiver<bool>,
) -> ServedMailbox {
    FakeMailbox::with_emails(24)
        .serve_with(move |request| {
            let id = request.path().strip_prefix("/get/alice/B")?.split('/').next()?;
            let is_held_back = id.strip_prefix('M')?.parse::<u32>().ok()? % 2 == 1;
            is_held_back.then(|| {
                sender.send(()).ok();
                let mail =
                    plain_response("200 OK", "Content-Type: application/octet-stream\r\n", id);
                vec![ConnectionAction::Wait(release.clone()), ConnectionAction::Send(mail)]
            })
        })
        .await
}

/// Returns the requested mails and the called methods, in order.
fn requested_messages(requests: &[ReceivedRequest]) -> Vec<String> {
    let requested = requests.iter().filter_map(|request| match request.path() {
        "/jmap/" => {
            let json: Value = serde_json::from_slice(&request.body).unwrap();
            json["methodCalls"][0][0].as_str().map(str::to_owned)
        }
        path => {
            let id = path.strip_prefix("/get/alice/B")?.split('/').next()?;
            Some(id.to_owned())
        }
    });
    requested.collect()
}

#[tokio::test]
async fn an_open_session_is_finished_and_changes_polled_once() {
    for (signal, code) in [(Signal::KILL, None), (Signal::TERM, Some(143))] {
        let (sender, receiver) = mpsc::channel();
        let (release, released) = watch::channel(false);
        let served = mailbox_with_delayed_half(sender, released).await;
        let home = TestHome::with_source_at(served.server.url.as_str());
        // The server lives on this test's runtime, which must not be blocked.
        let first = tokio::task::spawn_blocking(move || {
            let mut running = home.start(&["run", "--once"]);
            receiver.recv_timeout(TIMEOUT).unwrap();
            running.signal(signal);
            if signal == Signal::TERM {
                running.log_until("a second signal exits immediately");
                release.send_replace(true);
            }
            assert_eq!(wait_for_exit(&mut running, TIMEOUT).code(), code);
            release.send_replace(true);
            home
        });
        let home = first.await.unwrap();
        let before = served.server.requests().len();
        served.with_mailbox(|mailbox| mailbox.deliver("M24"));

        let second = tokio::task::spawn_blocking(move || {
            let output = home.cynosure(&["run", "--once"]);
            (home, output)
        });
        let (home, output) = second.await.unwrap();

        assert_eq!(output.code, Some(0), "{output:?}");
        assert_eq!(output.stdout, "listed 25 = stored 25 + gone 0 + quarantined 0\n");
        let messages = home.messages();
        let stored = messages.iter().map(|path| fs_err::read_to_string(path).unwrap());
        let all = (0..=24).map(|no| format!("M{no}")).collect();
        assert_eq!((messages.len(), stored.collect::<BTreeSet<_>>()), (25, all));
        let requested = requested_messages(&served.server.requests()[before..]);
        let (resumed, polled) = requested.split_at(requested.len() - 5);
        assert!(!resumed.is_empty(), "{requested:?}");
        assert!(resumed.iter().all(|id| id.starts_with('M')), "{requested:?}");
        // One poll, then the listing with the names of the folders, and the download of the change.
        assert_eq!(polled, ["Email/changes", "Email/changes", "Email/get", "Mailbox/get", "M24"]);
    }
}
