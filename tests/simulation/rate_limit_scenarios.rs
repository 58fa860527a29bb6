//! Scenarios in which throttling does not mean a rate limit: one message that is always throttled,
//! and waits during which the process is stopped or the clock is stepped.

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
    fn clear_faults_except_throttling(&self, throttled_id: u64) {
        let mut server = self.server.borrow_mut();
        for (id, message) in &mut server.messages {
            (message.always_fails, message.is_always_throttled) = (false, *id == throttled_id);
        }
    }

    /// Runs the process again and again; never returns.
    async fn run_until_stopped(&self) {
        loop {
            self.run_process(RunMode::Continuous).await;
            sleep(Duration::from_secs(10)).await;
        }
    }

    /// Returns the cost of a throttle, as estimated by the limiter.
    fn learned_lockout(&self) -> Duration {
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

/// FAULTS 50.
fn throttle_one_message_forever(retry_after: Option<Duration>, mode: RunMode) {
    run_scenario(async |harness| {
        harness.clear_faults_except_throttling(3);
        harness.server.borrow_mut().retry_after = retry_after;

        let result = timeout(Duration::from_secs(3600), harness.run_process(mode)).await;

        let result =
            result.expect("the run ends within an hour").expect("the process was not killed");
        assert_eq!(result.exit, LoopExit::Completed, "{result:?}");
        assert_eq!(result.counts.quarantined, 1, "{result:?}");
        let requests = harness.server.borrow().messages[&3].request_count;
        assert!((5..=8).contains(&requests), "{requests} times");
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
        throttle_one_message_forever(retry_after.map(Duration::from_secs), RunMode::Once);
    }
}

/// FAULTS 50.
#[test]
fn an_always_throttled_message_blocks_no_other_source() {
    for retry_after in [None, Some(30)] {
        run_scenario(async |harness| {
            let mut other = Harness::another_source();
            let limiters = harness.new_rate_limiters();
            harness.rate_limiters = Some(Rc::clone(&limiters));
            other.rate_limiters = Some(limiters);
            other.machine_config.poll_interval = Duration::from_secs(30);
            harness.clear_faults_except_throttling(3);
            harness.server.borrow_mut().retry_after = retry_after.map(Duration::from_secs);
            other.clear_faults_except_throttling(0);
            let scenario = async {
                // All sources wait after the first throttle.
                harness.time_until_served(59).await;
                other.time_until_served(60).await;
                sleep(Duration::from_secs(60)).await;
                for round in 1..=20 {
                    other.server.borrow_mut().deliver(10, &other.env);
                    other.clear_faults_except_throttling(0);
                    let elapsed = other.time_until_served(60 + 10 * round).await;
                    assert!(
                        elapsed < Duration::from_secs(60),
                        "{retry_after:?}, {round}: {elapsed:?}"
                    );
                }
            };

            tokio::select! {
                () = scenario => {}
                () = harness.run_until_stopped() => {}
                () = other.run_until_stopped() => {}
            }
        });
    }
}

/// Returns the duration of the remaining downloads after throttles without cause. `during_wait`
/// runs while the process waits.
async fn duration_after_rejections(
    harness: &Harness,
    during_wait: impl AsyncFn(&SimEnv),
) -> Duration {
    let server = Rc::clone(&harness.server);
    server.borrow_mut().deliver(400, &harness.env);
    harness.clear_faults_except_throttling(0);
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
        () = harness.run_until_stopped() => Duration::MAX,
    }
}

/// FAULTS 52.
#[test]
fn a_suspend_during_a_wait_slows_nothing_later() {
    run_scenario(async |harness| {
        let suspend = async |env: &SimEnv| {
            env.kill_now();
            sleep(SUSPEND_DURATION).await;
            env.start_process(None);
        };

        let elapsed = duration_after_rejections(harness, suspend).await;

        assert!(elapsed < Duration::from_secs(120), "{elapsed:?}");
        let cost = harness.learned_lockout();
        assert!(Duration::ZERO < cost && cost < Duration::from_secs(120), "{cost:?}");
    });
}

/// FAULTS 52.
#[test]
fn a_clock_step_during_a_wait_slows_nothing_later() {
    for days in [-1, 1, 20] {
        run_scenario(async |harness| {
            let step_clock = async |env: &SimEnv| env.step_clock(days * 86_400);

            let elapsed = duration_after_rejections(harness, step_clock).await;

            assert!(elapsed < Duration::from_secs(120), "{days}: {elapsed:?}");
            let cost = harness.learned_lockout();
            assert!(Duration::ZERO < cost && cost < Duration::from_secs(120), "{days}: {cost:?}");
        });
    }
}
