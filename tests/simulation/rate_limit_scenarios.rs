//! Scenes about limits that are none: one mail throttled for ever, and a wait in which nothing runs.

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
    fn clear_faults_except_throttling(&self, throttled: u64) {
        let mut server = self.server.borrow_mut();
        for (no, mail) in &mut server.messages {
            (mail.always_fails, mail.is_always_throttled) = (false, *no == throttled);
        }
    }

    /// Lives on, started anew whenever that is due.
    async fn run_until_stopped(&self) {
        loop {
            self.run_process(RunMode::Continuous).await;
            sleep(Duration::from_secs(10)).await;
        }
    }

    /// What a refusal cost, as the limiter learned it.
    fn learned_lockout(&self) -> Duration {
        let json = self.disk.files().remove(Path::new("/state/quota.json")).unwrap();
        let quota: Value = serde_json::from_slice(&json).unwrap();
        let cost = &quota["scopes"]["sim"]["quota"]["learned"]["cost_millis"];
        Duration::from_millis(cost.as_u64().unwrap())
    }

    /// Waits until `number` mails were given out, and returns how long that took.
    async fn time_until_served(&self, number: usize) -> Duration {
        let began = self.env.server_now();
        SimServer::wait_until_served(&self.server, number).await;
        self.env.server_now().since(began)
    }
}

/// FAULTS 50.
fn throttle_one_message_forever(retry_after: Option<Duration>, mode: RunMode) {
    run_scenario(async |stage| {
        stage.clear_faults_except_throttling(3);
        stage.server.borrow_mut().retry_after = retry_after;

        let ended = timeout(Duration::from_secs(3600), stage.run_process(mode)).await;

        let ended = ended.expect("it comes to an end").expect("nobody killed it");
        assert_eq!(ended.exit, LoopExit::Completed, "{ended:?}");
        assert_eq!(ended.counts.quarantined, 1, "{ended:?}");
        let asked = stage.server.borrow().messages[&3].request_count;
        assert!((5..=8).contains(&asked), "{asked} times");
        let twice =
            stage.server.borrow().messages.values().filter(|mail| mail.served_count > 1).count();
        assert_eq!(twice, 0);
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
        run_scenario(async |stage| {
            let mut other = Harness::another_source();
            let gates = stage.new_rate_limiters();
            stage.rate_limiters = Some(Rc::clone(&gates));
            other.rate_limiters = Some(gates);
            other.machine_config.poll_interval = Duration::from_secs(30);
            stage.clear_faults_except_throttling(3);
            stage.server.borrow_mut().retry_after = retry_after.map(Duration::from_secs);
            other.clear_faults_except_throttling(0);
            let scene = async {
                // The first refusal is obeyed by all.
                stage.time_until_served(59).await;
                other.time_until_served(60).await;
                sleep(Duration::from_secs(60)).await;
                for round in 1..=20 {
                    other.server.borrow_mut().deliver(10, &other.env);
                    other.clear_faults_except_throttling(0);
                    let took = other.time_until_served(60 + 10 * round).await;
                    assert!(took < Duration::from_secs(60), "{retry_after:?}, {round}: {took:?}");
                }
            };

            tokio::select! {
                () = scene => {}
                () = stage.run_until_stopped() => {}
                () = other.run_until_stopped() => {}
            }
        });
    }
}

/// How long the rest of a mailbox takes after refusals for no reason, with something done in the wait.
async fn duration_after_rejections(
    stage: &Harness,
    in_the_wait: impl AsyncFn(&SimEnv),
) -> Duration {
    let server = Rc::clone(&stage.server);
    server.borrow_mut().deliver(400, &stage.env);
    stage.clear_faults_except_throttling(0);
    let refusal = async {
        SimServer::wait_until_served(&server, 300).await;
        server.borrow_mut().condition = ServerCondition::RateLimitedSilently { requests: 0 };
        // By then the waits are long enough for something to come in between.
        while server.borrow().rate_limited_requests < 12 {
            sleep(Duration::from_millis(10)).await;
        }
        server.borrow_mut().condition = ServerCondition::Healthy;
        in_the_wait(&stage.env).await;
        let began = stage.env.server_now();
        SimServer::wait_until_served(&server, 460).await;
        stage.env.server_now().since(began)
    };
    tokio::select! {
        took = refusal => took,
        () = stage.run_until_stopped() => Duration::MAX,
    }
}

/// FAULTS 52.
#[test]
fn a_suspend_during_a_wait_slows_nothing_later() {
    run_scenario(async |stage| {
        let night = async |world: &SimEnv| {
            world.kill_now();
            sleep(SUSPEND_DURATION).await;
            world.start_process(None);
        };

        let took = duration_after_rejections(stage, night).await;

        assert!(took < Duration::from_secs(120), "{took:?}");
        let cost = stage.learned_lockout();
        assert!(Duration::ZERO < cost && cost < Duration::from_secs(120), "{cost:?}");
    });
}

/// FAULTS 52.
#[test]
fn a_clock_step_during_a_wait_slows_nothing_later() {
    for days in [-1, 1, 20] {
        run_scenario(async |stage| {
            let set = async |world: &SimEnv| world.step_clock(days * 86_400);

            let took = duration_after_rejections(stage, set).await;

            assert!(took < Duration::from_secs(120), "{days}: {took:?}");
            let cost = stage.learned_lockout();
            assert!(Duration::ZERO < cost && cost < Duration::from_secs(120), "{days}: {cost:?}");
        });
    }
}
