//! A worker in the middle of its work.

use std::process::Stdio;
use std::time::Duration;

use cynosure::demo::{self, DemoOptions, DemoServer, FaultLevel};
use serde_json::Value;

use super::saved;
use super::set::{Clock, DAY, to_1970};
use crate::binary::{Running, Workplace};
use crate::patience::{let_pass, timed, wait_until};

/// The longest that the storm of the embedded service asks for.
const TOLD: Duration = Duration::from_secs(6);

/// A wait begins a moment after it was told, and a busy machine is slow.
const SLACK: Duration = Duration::from_secs(4);

/// Everything that the storm brings is waited for within two minutes; this is twice that.
const LONG: Duration = Duration::from_secs(240);

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

fn start(workplace: &Workplace, clock: &Clock) -> Running {
    let log = |name| fs_err::File::create(workplace.path().join(name)).expect("the folder is ours");
    let mut command = workplace.command(&["run", "--once"]);
    clock
        .rules(&mut command)
        .env("DEMO_PASSWORD", "demo")
        .stdout(Stdio::from(log("out").into_file()))
        .stderr(Stdio::from(log("err").into_file()));
    Running::start(&mut command)
}

fn status(workplace: &Workplace) -> Value {
    saved(workplace, "work/execution_state.json")["status"].clone()
}

fn said(workplace: &Workplace) -> String {
    let text = |name| fs_err::read_to_string(workplace.path().join(name)).unwrap_or_default();
    format!("{}{}", text("err"), text("out"))
}

/// It accounts for everything, and the files agree.
fn has_ended_well(running: Running, workplace: &Workplace) {
    let code = running.wait().code();
    let said = said(workplace);
    let last = said.lines().last().unwrap_or_default();
    // One message is poison.
    assert_eq!(code, Some(3), "{said}");
    let counts: Vec<u64> = last.split(' ').filter_map(|word| word.parse().ok()).collect();
    assert_eq!(counts.len(), 4, "{said}");
    assert_eq!(counts[0], counts[1..].iter().sum::<u64>(), "{last}");
    workplace.succeed(&["verify"]);
}

#[test]
fn what_a_server_told_is_waited_for_as_long_whatever_the_clock_does() {
    for ahead in [-DAY, DAY, to_1970()] {
        let demo = storm(400);
        let workplace = Workplace::new(&config(&demo));
        let Some(clock) = Clock::new(workplace.path()) else { return };
        let running = start(&workplace, &clock);
        wait_until("it waits for the server", || status(&workplace) == "rate_limited");
        // What was in flight is answered by now.
        let_pass(Duration::from_millis(300));
        let refused = demo.counters().rate_limited;

        clock.set(ahead);

        let (asked, waited) = timed(|| {
            wait_until("the wait is over", || status(&workplace) != "rate_limited");
            demo.counters().rate_limited - refused
        });
        assert_eq!(asked, 0, "{ahead}: it came too early, after {waited:?}");
        assert!(waited < TOLD + SLACK, "{ahead}: it waited for {waited:?}");
        drop(running);
    }
}

#[test]
fn a_session_comes_to_its_end_under_a_clock_that_is_set_all_the_time() {
    let demo = storm(400);
    let workplace = Workplace::new(&config(&demo));
    let Some(clock) = Clock::new(workplace.path()) else { return };
    let mut running = start(&workplace, &clock);

    let ((), took) = timed(|| {
        for ahead in [DAY, 0, -DAY, to_1970(), 0].into_iter().cycle() {
            clock.set(ahead);
            let_pass(Duration::from_millis(700));
            if running.ended().is_some() {
                return;
            }
        }
    });

    assert!(took < LONG, "it took {took:?}");
    let counters = demo.counters();
    let messages = u64::from(counters.messages_served);
    assert!(counters.requests < 3 * messages, "it asked too often: {counters:?}");
    clock.set(0);
    has_ended_well(running, &workplace);
}
