//! Scenes in which a breaker opens, or does not.

use std::rc::Rc;
use std::time::Duration;

use cynosure::engine::breaker::{BreakerPolicy, BreakerState, ManualCommand, PersistedBreaker};
use cynosure::engine::{Status, Timestamp};
use cynosure::worker::{Env, LoopExit, RunMode, SourceBreakers, apply_command};
use tokio::time::{sleep, timeout};

use crate::driver::{Harness, run_scenario};
use crate::server::{ServerCondition, SimServer};

/// The jitter of a session's own wait, and the time that requests take.
const SLACK: Duration = Duration::from_secs(20);

impl Harness {
    /// What the provider's breaker remembers.
    fn breaker_state(&self) -> PersistedBreaker {
        let memories = self.breakers_file().read().unwrap().unwrap();
        memories.get("example").cloned().unwrap_or_default()
    }

    async fn wait_for_breaker(&self, phase: BreakerState) {
        while self.breaker_state().state != phase.name() {
            sleep(Duration::from_millis(200)).await;
        }
    }

    fn send_command(&self, wanted: ManualCommand) {
        let (file, now) = (self.breakers_file(), self.env.now());
        apply_command(&file, "example", wanted, BreakerPolicy::DEFAULT, now).unwrap();
    }

    /// Lives until the session is over, started anew whenever that is due.
    async fn run_until_completed(&self) {
        loop {
            let ended = self.run_process(RunMode::UntilComplete).await.unwrap();
            match ended.exit {
                LoopExit::Completed | LoopExit::NothingToDo => return,
                LoopExit::Restart(_) => {}
                LoopExit::Stopped | LoopExit::GaveUp => panic!("{ended:?}"),
            }
        }
    }
}

#[test]
fn an_open_breaker_survives_a_kill_until_its_deadline() {
    run_scenario(async |stage| {
        let server = Rc::clone(&stage.server);
        server.borrow_mut().deliver(500, &stage.env);
        let outage = async {
            SimServer::wait_until_served(&server, 50).await;
            server.borrow_mut().condition = ServerCondition::Down;
            stage.wait_for_breaker(BreakerState::Open).await;
            stage.env.kill_now();
        };
        let (ended, ()) = tokio::join!(stage.run_process(RunMode::Continuous), outage);
        assert!(ended.is_none());

        // The machine forgets that it waits; the breaker does not.
        stage.env.start_process(None);
        stage.delete_state_file();
        stage.delete_snapshot();
        server.borrow_mut().condition = ServerCondition::Healthy;
        let until = Timestamp(stage.breaker_state().open_until.unwrap());
        let asked = server.borrow().requests;
        let left = until.since(stage.env.now());
        assert!(Duration::from_secs(50) < left, "{left:?}");
        timeout(
            left.checked_sub(Duration::from_secs(1)).unwrap(),
            stage.run_process(RunMode::Continuous),
        )
        .await
        .unwrap_err();
        assert_eq!(server.borrow().requests, asked);
        let saved = stage.stored_state().unwrap();
        assert_eq!(saved.status, Status::Error);
        assert!(
            saved.reason.starts_with("the circuit of example is open until 2025-"),
            "{saved:?}"
        );

        stage.run_until_completed().await;
        assert!(stage.env.now() >= until);
        assert_eq!(stage.breaker_state().state, "closed");
    });
}

#[test]
fn sources_of_one_provider_share_the_breaker_and_its_probe() {
    run_scenario(async |stage| {
        let mut other = Harness::another_source();
        let breakers = stage.new_breakers();
        stage.breakers_of_source = Some(SourceBreakers::new(&breakers, "example", "sim"));
        other.breakers_of_source = Some(SourceBreakers::new(&breakers, "example", "other"));
        let servers = [&stage.server, &other.server].map(Rc::clone);
        servers[0].borrow_mut().deliver(500, &stage.env);
        servers[1].borrow_mut().deliver(500, &other.env);
        for server in &servers {
            server.borrow_mut().messages.values_mut().for_each(|mail| mail.always_fails = false);
        }
        let in_flight = || servers.iter().map(|server| server.borrow().in_flight).sum::<u64>();

        let outage = async {
            for server in &servers {
                SimServer::wait_until_served(server, 50).await;
            }
            // So slow that no success of it comes between the failures of the first one.
            servers[1].borrow_mut().extra_latency = Duration::from_secs(5);
            sleep(Duration::from_secs(1)).await;
            servers[0].borrow_mut().condition = ServerCondition::Down;
            stage.wait_for_breaker(BreakerState::Open).await;
            sleep(Duration::from_secs(10)).await;
            let asked = servers[1].borrow().requests;
            let (tripped, waiting) = (stage.stored_state().unwrap(), other.stored_state().unwrap());
            assert_eq!((tripped.status, tripped.error_count), (Status::Error, 1));
            assert!(
                tripped.reason.starts_with("retry 1 of 3: the circuit of example is open until ")
            );
            assert_eq!((waiting.status, waiting.error_count), (Status::Error, 0));
            assert!(waiting.reason.starts_with("the circuit of example is open until "));

            servers[0].borrow_mut().condition = ServerCondition::Healthy;
            while breakers.state("example") == BreakerState::Open {
                assert_eq!(servers[1].borrow().requests, asked);
                sleep(Duration::from_millis(50)).await;
            }
            while breakers.state("example") == BreakerState::HalfOpen {
                assert!(in_flight() <= 1, "{} at once", in_flight());
                sleep(Duration::from_millis(5)).await;
            }
        };

        tokio::join!(stage.run_until_completed(), other.run_until_completed(), outage);

        assert_eq!(breakers.state("example"), BreakerState::Closed);
        stage.check_all_stored();
        other.check_all_stored();
    });
}

#[test]
fn an_outage_costs_few_requests_and_one_wait() {
    for (lasts, requests, wait) in [(30, 20, 60), (300, 24, 240), (7200, 50, 600)] {
        run_scenario(async |stage| {
            let server = Rc::clone(&stage.server);
            server.borrow_mut().deliver(500, &stage.env);
            let outage = async {
                SimServer::wait_until_served(&server, 50).await;
                server.borrow_mut().condition = ServerCondition::Down;
                let before = server.borrow().requests;
                sleep(Duration::from_secs(lasts)).await;
                let asked = server.borrow().requests - before;
                assert!(asked <= requests, "{asked} requests in {lasts} s");
                assert_eq!(stage.breaker_state().state, "open");

                server.borrow_mut().condition = ServerCondition::Healthy;
                let healed = stage.env.now();
                SimServer::wait_until_served(&server, 60).await;
                let took = stage.env.now().since(healed);
                assert!(took < Duration::from_secs(wait) + SLACK, "{took:?} after {lasts} s");
            };

            tokio::join!(stage.run_until_completed(), outage);

            stage.check_all_stored();
        });
    }
}

#[test]
fn a_local_network_outage_opens_no_breaker() {
    run_scenario(async |stage| {
        let server = Rc::clone(&stage.server);
        server.borrow_mut().deliver(500, &stage.env);
        let outage = async {
            SimServer::wait_until_served(&server, 50).await;
            server.borrow_mut().condition = ServerCondition::Unreachable;
            sleep(Duration::from_secs(6 * 3600)).await;
            server.borrow_mut().condition = ServerCondition::Healthy;
        };

        tokio::join!(stage.run_until_completed(), outage);

        let circuit = stage.breaker_state();
        assert_eq!((circuit.statistics.times_opened, &*circuit.state), (0, "closed"));
        assert!(circuit.statistics.successes > 50);
        assert!(circuit.statistics.calls > circuit.statistics.successes, "{circuit:?}");
    });
}

#[test]
fn a_slow_source_failing_two_in_three_opens_the_breaker() {
    run_scenario(async |stage| {
        let server = Rc::clone(&stage.server);
        server.borrow_mut().deliver(500, &stage.env);
        let ailing = async {
            SimServer::wait_until_served(&server, 20).await;
            server.borrow_mut().extra_latency = Duration::from_secs(100);
            server.borrow_mut().condition = ServerCondition::MostDocumentsFail;
            timeout(Duration::from_secs(1800), stage.wait_for_breaker(BreakerState::Open))
                .await
                .unwrap();
            let why = stage.breaker_state().last_transition.unwrap().reason;
            assert!(why.ends_with(" calls failed: no answer in time"), "{why}");
            server.borrow_mut().extra_latency = Duration::ZERO;
            server.borrow_mut().condition = ServerCondition::Healthy;
        };

        tokio::join!(stage.run_until_completed(), ailing);
    });
}

#[test]
fn manual_commands_apply_within_seconds_in_any_state() {
    run_scenario(async |stage| {
        let server = Rc::clone(&stage.server);
        server.borrow_mut().deliver(1000, &stage.env);
        let person = async {
            SimServer::wait_until_served(&server, 50).await;
            stage.send_command(ManualCommand::Open { until: None });
            sleep(Duration::from_secs(7)).await;
            let asked = server.borrow().requests;
            sleep(Duration::from_secs(50 * 3600)).await;
            assert_eq!(server.borrow().requests, asked, "it stays open");
            let reason = stage.stored_state().unwrap().reason;
            assert!(reason.ends_with("with `cynosure breaker close example`"), "{reason}");

            stage.send_command(ManualCommand::Close);
            sleep(Duration::from_secs(7)).await;
            assert!(server.borrow().requests > asked, "closed, it goes on");

            server.borrow_mut().condition = ServerCondition::Down;
            stage.wait_for_breaker(BreakerState::Open).await;
            server.borrow_mut().condition = ServerCondition::Healthy;
            stage.send_command(ManualCommand::Reset);
            let reset = stage.env.now();
            SimServer::wait_until_served(&server, 400).await;
            let took = stage.env.now().since(reset);
            assert!(took < Duration::from_secs(30), "it waited for {took:?}");
        };

        tokio::join!(stage.run_until_completed(), person);
    });
}

#[test]
fn once_mode_does_not_wait_for_a_manually_opened_breaker() {
    run_scenario(async |stage| {
        stage.send_command(ManualCommand::Open { until: None });

        let ended = stage.run_process(RunMode::Once).await.unwrap();

        assert_eq!(ended.exit, LoopExit::GaveUp);
        assert_eq!(stage.server.borrow().requests, 0);
        assert!(ended.machine.reason.contains("cynosure breaker close example"), "{ended:?}");
        stage.send_command(ManualCommand::Close);
        assert_eq!(
            stage.run_process(RunMode::Once).await.map(|ended| ended.exit),
            Some(LoopExit::Completed)
        );
    });
}
