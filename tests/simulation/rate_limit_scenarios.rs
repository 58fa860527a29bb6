//! Scenarios in which the rate limiter must not learn too low a rate: one message that is always
//! throttled, and waits during which the process is stopped or the clock is stepped.

use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use cynosure::worker::{LoopExit, RunMode};
use serde_json::Value;
use tokio::time::{sleep, timeout};

use crate::driver::{Harness, run_scenario};
use crate::server::{ServerCondition, SimServer};
use crate::virtual_env::SimEnv;

const SUSPEND_DURATION: Duration = Duration::from_secs(8 * 3600);

impl Harness {
    /// Clears the faults of all messages, and always throttles message `throttled_id`; 0 is none.
    fn throttle_only(&self, throttled_id: u64) {
        let mut server = self.server.borrow_mut();
        for (id, message) in &mut server.messages {
            (message.always_fails, message.is_always_throttled) = (false, *id == throttled_id);
        }
    }

    /// Runs the process again and again; never returns.
    async fn run_forever(&self) {
        loop {
            self.run_process(RunMode::Continuous).await;
            sleep(Duration::from_secs(10)).await;
        }
    }

    /// Returns the cost of a throttle, as estimated by the limiter.
    fn learned_throttle_cost(&self) -> Duration {
        let json = self.disk.files().remove(Path::new("/state/quota.json")).unwrap();
        let limiters: Value = serde_json::from_slice(&json).unwrap();
        let cost = &limiters["scopes"]["sim"]["quota"]["learned"]["cost_millis"];
        Duration::from_millis(cost.as_u64().unwrap())
    }

    /// Waits until `count` messages were sent, and returns the duration of the wait.
    async fn time_until_served(&self, count: usize) -> Duration {
        let started_at = self.env.server_now();
        SimServer::wait_until_served(&self.server, count).await;
        self.env.server_now().since(started_at)
    }
}

/// FAULTS 50: the server throttles one message permanently.
fn check_always_throttled_message(retry_after: Option<Duration>, mode: RunMode) {
    run_scenario(async |harness| {
        harness.throttle_only(3);
        harness.server.borrow_mut().retry_after = retry_after;

        let result = timeout(Duration::from_secs(3600), harness.run_process(mode)).await;

        let result =
            result.expect("the run ends within an hour").expect("the process was not killed");
        assert_eq!(result.exit, LoopExit::Completed, "{result:?}");
        assert_eq!(result.counts.quarantined, 1, "{result:?}");
        let requests = harness.server.borrow().messages[&3].request_count;
        assert!((5..=8).contains(&requests), "{requests} requests for the message");
        let repeated = harness
            .server
            .borrow()
            .messages
            .values()
            .filter(|message| message.served_count > 1)
            .count();
        assert_eq!(repeated, 0);
    });
}

#[test]
fn an_always_throttled_message_is_quarantined() {
    for retry_after in [None, Some(2), Some(30)] {
        check_always_throttled_message(retry_after.map(Duration::from_secs), RunMode::Once);
    }
}

/// FAULTS 50: the server throttles one message of one of two sources.
#[test]
fn an_always_throttled_message_blocks_no_other_source() {
    for retry_after in [None, Some(30)] {
        run_scenario(async |harness| {
            let mut other = Harness::another_source();
            let limiters = harness.new_rate_limiters();
            harness.shared_rate_limiters = Some(Rc::clone(&limiters));
            other.shared_rate_limiters = Some(limiters);
            other.machine_config.poll_interval = Duration::from_secs(30);
            harness.throttle_only(3);
            harness.server.borrow_mut().retry_after = retry_after.map(Duration::from_secs);
            other.throttle_only(0);
            let rounds = async {
                // All sources wait after the first throttle.
                harness.time_until_served(59).await;
                other.time_until_served(60).await;
                sleep(Duration::from_secs(60)).await;
                for round in 1..=20 {
                    other.server.borrow_mut().deliver(10, &other.env);
                    other.throttle_only(0);
                    let elapsed = other.time_until_served(60 + 10 * round).await;
                    assert!(
                        elapsed < Duration::from_secs(60),
                        "{retry_after:?}, {round}: {elapsed:?}"
                    );
                }
            };

            tokio::select! {
                () = rounds => {}
                () = harness.run_forever() => {}
                () = other.run_forever() => {}
            }
        });
    }
}

/// Returns the duration of the remaining downloads after throttles that no rate limit caused.
/// `during_wait` runs while the process waits.
async fn duration_after_throttles(
    harness: &Harness,
    during_wait: impl AsyncFn(&SimEnv),
) -> Duration {
    let server = Rc::clone(&harness.server);
    server.borrow_mut().deliver(400, &harness.env);
    harness.throttle_only(0);
    let throttling = async {
        SimServer::wait_until_served(&server, 300).await;
        server.borrow_mut().condition = ServerCondition::RateLimitedSilently { requests: 0 };
        // After 12 throttles, the waits are long enough to be interrupted.
        while server.borrow().rate_limited_requests < 12 {
            sleep(Duration::from_millis(10)).await;
        }
        server.borrow_mut().condition = ServerCondition::Healthy;
        during_wait(&harness.env).await;
        let started_at = harness.env.server_now();
        SimServer::wait_until_served(&server, 460).await;
        harness.env.server_now().since(started_at)
    };
    tokio::select! {
        elapsed = throttling => elapsed,
        () = harness.run_forever() => Duration::MAX,
    }
}

/// FAULTS 52: the process is stopped for eight hours during a wait.
#[test]
fn a_suspend_during_a_wait_slows_nothing_later() {
    run_scenario(async |harness| {
        let suspend = async |env: &SimEnv| {
            env.kill_now();
            sleep(SUSPEND_DURATION).await;
            env.start_process(None);
        };

        let elapsed = duration_after_throttles(harness, suspend).await;

        assert!(elapsed < Duration::from_secs(120), "{elapsed:?}");
        let cost = harness.learned_throttle_cost();
        assert!(Duration::ZERO < cost && cost < Duration::from_secs(120), "{cost:?}");
    });
}

/// FAULTS 52: the clock is set during a wait.
#[test]
fn a_clock_step_during_a_wait_slows_nothing_later() {
    for days in [-1, 1, 20] {
        run_scenario(async |harness| {
            let step_clock = async |env: &SimEnv| env.step_clock(days * 86_400);

            let elapsed = duration_after_throttles(harness, step_clock).await;

            assert!(elapsed < Duration::from_secs(120), "{days}: {elapsed:?}");
            let cost = harness.learned_throttle_cost();
            assert!(Duration::ZERO < cost && cost < Duration::from_secs(120), "{days}: {cost:?}");
        });
    }
}
