//! Scenarios of the circuit breaker.

use std::rc::Rc;
use std::time::Duration;

use cynosure::env::Env;
use cynosure::worker::{LoopExit, RunMode, SourceBreakers, apply_command};
use cynosure_engine::breaker::{BreakerPolicy, BreakerState, ManualCommand, PersistedBreaker};
use cynosure_engine::{Status, Timestamp};
use tokio::time::{sleep, timeout};

use crate::driver::{Harness, run_scenario};
use crate::server::{ServerCondition, SimServer};

/// Margin for the jitter of a session's wait and the duration of requests.
const SLACK: Duration = Duration::from_secs(20);

impl Harness {
    /// Returns the saved state of the provider's breaker.
    fn breaker_state(&self) -> PersistedBreaker {
        let saved_states = self.breakers_file().read().unwrap().unwrap();
        saved_states.get("example").cloned().unwrap_or_default()
    }

    async fn wait_for_breaker(&self, state: BreakerState) {
        while self.breaker_state().state != state.name() {
            sleep(Duration::from_millis(200)).await;
        }
    }

    fn send_command(&self, command: ManualCommand) {
        let (file, now) = (self.breakers_file(), self.env.now());
        apply_command(&file, "example", command, BreakerPolicy::DEFAULT, now).unwrap();
    }

    /// Runs the process until the session is completed, with the restarts that it requests.
    async fn run_until_completed(&self) {
        loop {
            let result = self.run_process(RunMode::UntilComplete).await.unwrap();
            match result.exit {
                LoopExit::Completed | LoopExit::NothingToDo => return,
                LoopExit::Restart(_) => {}
                LoopExit::Stopped | LoopExit::GaveUp => panic!("{result:?}"),
            }
        }
    }
}

#[test]
fn an_open_breaker_survives_a_kill_until_its_deadline() {
    run_scenario(async |harness| {
        let server = Rc::clone(&harness.server);
        server.borrow_mut().deliver(500, &harness.env);
        let outage = async {
            SimServer::wait_until_served(&server, 50).await;
            server.borrow_mut().condition = ServerCondition::Down;
            harness.wait_for_breaker(BreakerState::Open).await;
            harness.env.kill_now();
        };
        let (result, ()) = tokio::join!(harness.run_process(RunMode::Continuous), outage);
        assert!(result.is_none());

        // The state machine loses its wait with the state file; the breaker does not.
        harness.env.start_process(None);
        harness.delete_state_file();
        harness.corrupt_snapshot();
        server.borrow_mut().condition = ServerCondition::Healthy;
        let until = Timestamp(harness.breaker_state().open_until.unwrap());
        let requests = server.borrow().requests;
        let left = until.since(harness.env.now());
        assert!(Duration::from_secs(50) < left, "{left:?}");
        timeout(
            left.checked_sub(Duration::from_secs(1)).unwrap(),
            harness.run_process(RunMode::Continuous),
        )
        .await
        .unwrap_err();
        assert_eq!(server.borrow().requests, requests);
        let state = harness.stored_state().unwrap();
        assert_eq!(state.status, Status::Error);
        assert!(
            state.reason.starts_with("the circuit breaker example is open until 2025-"),
            "{state:?}"
        );

        harness.run_until_completed().await;
        assert!(harness.env.now() >= until);
        assert_eq!(harness.breaker_state().state, "closed");
    });
}

#[test]
fn sources_of_one_provider_share_the_breaker_and_its_probe() {
    run_scenario(async |harness| {
        let mut other = Harness::another_source();
        let breakers = harness.new_breakers();
        harness.shared_breakers = Some(SourceBreakers::new(&breakers, "example", "sim"));
        other.shared_breakers = Some(SourceBreakers::new(&breakers, "example", "other"));
        let servers = [&harness.server, &other.server].map(Rc::clone);
        servers[0].borrow_mut().deliver(500, &harness.env);
        servers[1].borrow_mut().deliver(500, &other.env);
        for server in &servers {
            server
                .borrow_mut()
                .messages
                .values_mut()
                .for_each(|message| message.always_fails = false);
        }
        let in_flight = || servers.iter().map(|server| server.borrow().in_flight).sum::<u64>();

        let outage = async {
            for server in &servers {
                SimServer::wait_until_served(server, 50).await;
            }
            // So slow that none of its successes falls between the failures of the first source.
            servers[1].borrow_mut().extra_latency = Duration::from_secs(5);
            sleep(Duration::from_secs(1)).await;
            servers[0].borrow_mut().condition = ServerCondition::Down;
            harness.wait_for_breaker(BreakerState::Open).await;
            sleep(Duration::from_secs(10)).await;
            let requests = servers[1].borrow().requests;
            let (tripped, waiting) =
                (harness.stored_state().unwrap(), other.stored_state().unwrap());
            assert_eq!((tripped.status, tripped.error_count), (Status::Error, 1));
            assert!(
                tripped
                    .reason
                    .starts_with("retry 1 of 3: the circuit breaker example is open until ")
            );
            assert_eq!((waiting.status, waiting.error_count), (Status::Error, 0));
            assert!(waiting.reason.starts_with("the circuit breaker example is open until "));

            servers[0].borrow_mut().condition = ServerCondition::Healthy;
            while breakers.state("example") == BreakerState::Open {
                assert_eq!(servers[1].borrow().requests, requests);
                sleep(Duration::from_millis(50)).await;
            }
            while breakers.state("example") == BreakerState::HalfOpen {
                assert!(in_flight() <= 1, "{} requests in flight", in_flight());
                sleep(Duration::from_millis(5)).await;
            }
        };

        tokio::join!(harness.run_until_completed(), other.run_until_completed(), outage);

        assert_eq!(breakers.state("example"), BreakerState::Closed);
        harness.check_all_stored();
        other.check_all_stored();
    });
}

#[test]
fn an_outage_costs_few_requests_and_one_wait() {
    for (seconds, requests_max, wait_max) in [(30, 20, 60), (300, 24, 240), (7200, 50, 600)] {
        run_scenario(async |harness| {
            let server = Rc::clone(&harness.server);
            server.borrow_mut().deliver(500, &harness.env);
            let outage = async {
                SimServer::wait_until_served(&server, 50).await;
                server.borrow_mut().condition = ServerCondition::Down;
                let before = server.borrow().requests;
                sleep(Duration::from_secs(seconds)).await;
                let requests = server.borrow().requests - before;
                assert!(requests <= requests_max, "{requests} requests in {seconds} s");
                assert_eq!(harness.breaker_state().state, "open");

                server.borrow_mut().condition = ServerCondition::Healthy;
                let repaired_at = harness.env.now();
                SimServer::wait_until_served(&server, 60).await;
                let elapsed = harness.env.now().since(repaired_at);
                assert!(
                    elapsed < Duration::from_secs(wait_max) + SLACK,
                    "{elapsed:?} after {seconds} s"
                );
            };

            tokio::join!(harness.run_until_completed(), outage);

            harness.check_all_stored();
        });
    }
}

#[test]
fn a_local_network_outage_opens_no_breaker() {
    run_scenario(async |harness| {
        let server = Rc::clone(&harness.server);
        server.borrow_mut().deliver(500, &harness.env);
        let outage = async {
            SimServer::wait_until_served(&server, 50).await;
            server.borrow_mut().condition = ServerCondition::Unreachable;
            sleep(Duration::from_secs(6 * 3600)).await;
            server.borrow_mut().condition = ServerCondition::Healthy;
        };

        tokio::join!(harness.run_until_completed(), outage);

        let breaker = harness.breaker_state();
        assert_eq!((breaker.statistics.times_opened, &*breaker.state), (0, "closed"));
        assert_eq!(breaker.open_periods(), []);
        let is_tested = breaker.transitions.iter().any(|change| change.to == "half_open");
        assert!(is_tested, "{breaker:?}");
        assert!(breaker.statistics.successes > 50);
        assert!(breaker.statistics.calls > breaker.statistics.successes, "{breaker:?}");
    });
}

#[test]
fn a_slow_source_failing_two_in_three_opens_the_breaker() {
    run_scenario(async |harness| {
        let server = Rc::clone(&harness.server);
        server.borrow_mut().deliver(500, &harness.env);
        let outage = async {
            SimServer::wait_until_served(&server, 20).await;
            server.borrow_mut().extra_latency = Duration::from_secs(100);
            server.borrow_mut().condition = ServerCondition::MostDocumentsFail;
            timeout(Duration::from_secs(1800), harness.wait_for_breaker(BreakerState::Open))
                .await
                .unwrap();
            let reason = harness.breaker_state().last_transition.unwrap().reason;
            assert!(reason.ends_with(" calls failed: no response in time"), "{reason}");
            server.borrow_mut().extra_latency = Duration::ZERO;
            server.borrow_mut().condition = ServerCondition::Healthy;
        };

        tokio::join!(harness.run_until_completed(), outage);
    });
}

#[test]
fn manual_commands_apply_within_seconds_in_any_state() {
    run_scenario(async |harness| {
        let server = Rc::clone(&harness.server);
        server.borrow_mut().deliver(1000, &harness.env);
        let operator = async {
            SimServer::wait_until_served(&server, 50).await;
            harness.send_command(ManualCommand::Open { until: None });
            sleep(Duration::from_secs(7)).await;
            let requests = server.borrow().requests;
            sleep(Duration::from_secs(50 * 3600)).await;
            assert_eq!(server.borrow().requests, requests, "the breaker stays open");
            let reason = harness.stored_state().unwrap().reason;
            assert!(reason.ends_with("with `cynosure breaker close example`"), "{reason}");

            harness.send_command(ManualCommand::Close);
            sleep(Duration::from_secs(7)).await;
            assert!(server.borrow().requests > requests, "no request after the close");

            server.borrow_mut().condition = ServerCondition::Down;
            harness.wait_for_breaker(BreakerState::Open).await;
            server.borrow_mut().condition = ServerCondition::Healthy;
            harness.send_command(ManualCommand::Reset);
            let reset_at = harness.env.now();
            SimServer::wait_until_served(&server, 400).await;
            let elapsed = harness.env.now().since(reset_at);
            assert!(elapsed < Duration::from_secs(30), "resumed after {elapsed:?}");
        };

        tokio::join!(harness.run_until_completed(), operator);
    });
}

#[test]
fn once_mode_does_not_wait_for_a_manually_opened_breaker() {
    run_scenario(async |harness| {
        harness.send_command(ManualCommand::Open { until: None });

        let result = harness.run_process(RunMode::Once).await.unwrap();

        assert_eq!(result.exit, LoopExit::GaveUp);
        assert_eq!(harness.server.borrow().requests, 0);
        assert!(result.machine.reason.contains("cynosure breaker close example"), "{result:?}");
        harness.send_command(ManualCommand::Close);
        assert_eq!(
            harness.run_process(RunMode::Once).await.map(|result| result.exit),
            Some(LoopExit::Completed)
        );
    });
}
