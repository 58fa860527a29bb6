//! A worker in the middle of its work.

use std::process::Stdio;
use std::time::Duration;

use cynosure::demo::{self, DemoOptions, DemoServer, FaultLevel};
use serde_json::Value;

use super::fake_clock::{DAY, FakeClock, to_1970};
use super::read_state_file;
use crate::test_program::{RunningProgram, TestFolder};
use crate::wait::{sleep, timed, wait_until};

/// The longest that the storm of the embedded service asks for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(6);

/// A wait begins a moment after it was told, and a busy machine is slow.
const SLACK: Duration = Duration::from_secs(4);

/// Everything that the storm brings is waited for within two minutes; this is twice that.
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

fn storm(items: u32) -> DemoServer {
    demo::start(DemoOptions { items, faults: FaultLevel::Storm, ..DemoOptions::default() })
        .expect("it starts")
}

fn start(workplace: &TestFolder, clock: &FakeClock) -> RunningProgram {
    let log = |name| fs_err::File::create(workplace.path().join(name)).expect("the folder is ours");
    let mut command = workplace.command(&["run", "--once"]);
    clock
        .apply_to(&mut command)
        .env("DEMO_PASSWORD", "demo")
        .stdout(Stdio::from(log("out").into_file()))
        .stderr(Stdio::from(log("err").into_file()));
    RunningProgram::start(&mut command)
}

fn status(workplace: &TestFolder) -> Value {
    read_state_file(workplace, "work/execution_state.json")["status"].clone()
}

fn log_text(workplace: &TestFolder) -> String {
    let text = |name| fs_err::read_to_string(workplace.path().join(name)).unwrap_or_default();
    format!("{}{}", text("err"), text("out"))
}

/// It accounts for everything, and the files agree.
fn assert_completed(running: RunningProgram, workplace: &TestFolder) {
    let code = running.wait().code();
    let said = log_text(workplace);
    let last = said.lines().last().unwrap_or_default();
    // One message is poison.
    assert_eq!(code, Some(3), "{said}");
    let counts: Vec<u64> = last.split(' ').filter_map(|word| word.parse().ok()).collect();
    assert_eq!(counts.len(), 4, "{said}");
    assert_eq!(counts[0], counts[1..].iter().sum::<u64>(), "{last}");
    workplace.run_successfully(&["verify"]);
}

#[test]
fn a_retry_after_is_kept_across_clock_steps() {
    for ahead in [-DAY, DAY, to_1970()] {
        let demo = storm(400);
        let workplace = TestFolder::new(&config(&demo));
        let Some(clock) = FakeClock::new(workplace.path()) else { return };
        let running = start(&workplace, &clock);
        wait_until("it waits for the server", || status(&workplace) == "rate_limited");
        // What was in flight is answered by now.
        sleep(Duration::from_millis(300));
        let refused = demo.counters().rate_limited;

        clock.set(ahead);

        let (asked, waited) = timed(|| {
            wait_until("the wait is over", || status(&workplace) != "rate_limited");
            demo.counters().rate_limited - refused
        });
        assert_eq!(asked, 0, "{ahead}: it came too early, after {waited:?}");
        assert!(waited < RETRY_AFTER_MAX + SLACK, "{ahead}: it waited for {waited:?}");
        drop(running);
    }
}

#[test]
fn a_session_completes_under_constant_clock_steps() {
    let demo = storm(400);
    let workplace = TestFolder::new(&config(&demo));
    let Some(clock) = FakeClock::new(workplace.path()) else { return };
    let mut running = start(&workplace, &clock);

    let ((), took) = timed(|| {
        for ahead in [DAY, 0, -DAY, to_1970(), 0].into_iter().cycle() {
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
    assert!(counters.requests < 3 * messages, "it asked too often: {counters:?}");
    clock.set(0);
    assert_completed(running, &workplace);
}
