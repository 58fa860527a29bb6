//! Clock steps while a worker is working.

use std::process::Stdio;
use std::time::Duration;

use cynosure_lab::demo::{self, DemoOptions, DemoServer, FaultLevel};
use serde_json::Value;

use super::fake_clock::{DAY, FakeClock, offset_to_1970};
use super::read_state_file;
use crate::test_program::{RunningProgram, TestFolder};
use crate::wait::{sleep, timed, wait_until};

/// Longest Retry-After that the embedded service sends in a storm.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(6);

/// Tolerance of a wait, because it begins a moment after the response, and a busy machine is slow.
const SLACK: Duration = Duration::from_secs(4);

/// Maximum duration of a session. All waits of the storm together take two minutes at most; this is
/// twice that.
const TIMEOUT: Duration = Duration::from_secs(240);

fn config(demo: &DemoServer) -> String {
    format!(
        r#"
[source.work]
kind = "jmap"
url = "http://{address}/.well-known/jmap"
account = "demo@example.com"
auth = {{ type = "basic", username = "demo@example.com", password = {{ env = "DEMO_PASSWORD" }} }}

[archive]
dir = "downloads"

[restart]
retry_delay_base = "1s"
[backoff.base]
transient = "1s"
challenge = "1s"
[breaker]
recovery_timeout = "2s"
[item]
retry_delay = "2s"
max_retry_delay = "5s"
"#,
        address = demo.address()
    )
}

fn start_storm(items: u32) -> DemoServer {
    demo::start(DemoOptions { items, faults: FaultLevel::Storm, ..DemoOptions::default() })
        .expect("the service starts")
}

fn start_run(test_folder: &TestFolder, clock: &FakeClock) -> RunningProgram {
    let log =
        |name| fs_err::File::create(test_folder.path().join(name)).expect("the folder is ours");
    let mut command = test_folder.command(&["run", "--once"]);
    clock
        .apply_to(&mut command)
        .env("DEMO_PASSWORD", "demo")
        .stdout(Stdio::from(log("out").into_file()))
        .stderr(Stdio::from(log("err").into_file()));
    RunningProgram::start(&mut command)
}

fn status(test_folder: &TestFolder) -> Value {
    read_state_file(test_folder, "work/execution_state.json")["status"].clone()
}

fn log_text(test_folder: &TestFolder) -> String {
    let text = |name| fs_err::read_to_string(test_folder.path().join(name)).unwrap_or_default();
    format!("{}{}", text("err"), text("out"))
}

/// Asserts that the run accounts for all items, and that the archive agrees with the ledger.
fn assert_completed(running: RunningProgram, test_folder: &TestFolder) {
    let code = running.wait().code();
    let log = log_text(test_folder);
    let last = log.lines().last().unwrap_or_default();
    // One message can never be fetched, and is quarantined.
    assert_eq!(code, Some(3), "{log}");
    let counts: Vec<u64> = last.split(' ').filter_map(|word| word.parse().ok()).collect();
    assert_eq!(counts.len(), 4, "{log}");
    assert_eq!(counts[0], counts[1..].iter().sum::<u64>(), "{last}");
    test_folder.run_successfully(&["verify"]);
}

#[test]
fn a_retry_after_is_kept_across_clock_steps() {
    for ahead in [-DAY, DAY, offset_to_1970()] {
        let demo = start_storm(400);
        let test_folder = TestFolder::new(&config(&demo));
        let Some(clock) = FakeClock::new(test_folder.path()) else { return };
        let running = start_run(&test_folder, &clock);
        wait_until("the worker waits for the server", || status(&test_folder) == "rate_limited");
        // By then all requests in flight have a response.
        sleep(Duration::from_millis(300));
        let throttled = demo.counters().rate_limited;

        clock.set(ahead);

        let (early_requests, waited) = timed(|| {
            wait_until("the wait is over", || status(&test_folder) != "rate_limited");
            demo.counters().rate_limited - throttled
        });
        assert_eq!(early_requests, 0, "{ahead}: too early, after {waited:?}");
        assert!(waited < RETRY_AFTER_MAX + SLACK, "{ahead}: it waited for {waited:?}");
        drop(running);
    }
}

#[test]
fn a_session_completes_under_constant_clock_steps() {
    let demo = start_storm(400);
    let test_folder = TestFolder::new(&config(&demo));
    let Some(clock) = FakeClock::new(test_folder.path()) else { return };
    let mut running = start_run(&test_folder, &clock);

    let ((), took) = timed(|| {
        for ahead in [DAY, 0, -DAY, offset_to_1970(), 0].into_iter().cycle() {
            clock.set(ahead);
            sleep(Duration::from_millis(700));
            if running.try_wait().is_some() {
                return;
            }
        }
    });

    assert!(took < TIMEOUT, "it took {took:?}");
    let counters = demo.counters();
    let messages = u64::from(counters.messages_served);
    assert!(counters.requests < 3 * messages, "too many requests: {counters:?}");
    clock.set(0);
    assert_completed(running, &test_folder);
}
