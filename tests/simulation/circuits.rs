//! Scenes in which a breaker opens, or does not.

use std::rc::Rc;
use std::time::Duration;

use cynosure::engine::breaker::{BreakerPolicy, BreakerState, ManualCommand, PersistedBreaker};
use cynosure::engine::{Status, Timestamp};
use cynosure::worker::{Env, LoopExit, RunMode, SourceBreakers, apply_command};
use tokio::time::{sleep, timeout};

use crate::life::{Stage, play};
use crate::server::{Mood, Server};

/// The jitter of a session's own wait, and the time that requests take.
const SLACK: Duration = Duration::from_secs(20);

impl Stage {
    /// What the provider's breaker remembers.
    fn circuit(&self) -> PersistedBreaker {
        let memories = self.breakers_file().read().unwrap().unwrap();
        memories.get("example").cloned().unwrap_or_default()
    }

    async fn until_circuit(&self, phase: BreakerState) {
        while self.circuit().state != phase.name() {
            sleep(Duration::from_millis(200)).await;
        }
    }

    fn order(&self, wanted: ManualCommand) {
        let (file, now) = (self.breakers_file(), self.world.now());
        apply_command(&file, "example", wanted, BreakerPolicy::DEFAULT, now).unwrap();
    }

    /// Lives until the session is over, started anew whenever that is due.
    async fn live_on(&self) {
        loop {
            let ended = self.live(RunMode::UntilComplete).await.unwrap();
            match ended.exit {
                LoopExit::Completed | LoopExit::NothingToDo => return,
                LoopExit::Restart(_) => {}
                LoopExit::Stopped | LoopExit::GaveUp => panic!("{ended:?}"),
            }
        }
    }
}

#[test]
fn a_breaker_that_is_open_stays_open_over_a_kill_until_its_own_time() {
    play(async |stage| {
        let server = Rc::clone(&stage.server);
        server.borrow_mut().deliver(500, &stage.world);
        let outage = async {
            Server::until_served(&server, 50).await;
            server.borrow_mut().mood = Mood::Down;
            stage.until_circuit(BreakerState::Open).await;
            stage.world.kill_now();
        };
        let (ended, ()) = tokio::join!(stage.live(RunMode::Continuous), outage);
        assert!(ended.is_none());

        // The machine forgets that it waits; the breaker does not.
        stage.world.revive(None);
        stage.lose_state_file();
        stage.lose_snapshot();
        server.borrow_mut().mood = Mood::Well;
        let until = Timestamp(stage.circuit().open_until.unwrap());
        let asked = server.borrow().requests;
        let left = until.since(stage.world.now());
        assert!(Duration::from_secs(50) < left, "{left:?}");
        timeout(left.checked_sub(Duration::from_secs(1)).unwrap(), stage.live(RunMode::Continuous))
            .await
            .unwrap_err();
        assert_eq!(server.borrow().requests, asked);
        let saved = stage.saved().unwrap();
        assert_eq!(saved.status, Status::Error);
        assert!(
            saved.reason.starts_with("the circuit of example is open until 2025-"),
            "{saved:?}"
        );

        stage.live_on().await;
        assert!(stage.world.now() >= until);
        assert_eq!(stage.circuit().state, "closed");
    });
}

#[test]
fn when_one_source_opens_it_the_others_of_the_provider_wait_too_and_share_the_one_probe() {
    play(async |stage| {
        let mut other = Stage::another();
        let breakers = stage.breakers();
        stage.circuits = Some(SourceBreakers::new(&breakers, "example", "sim"));
        other.circuits = Some(SourceBreakers::new(&breakers, "example", "other"));
        let servers = [&stage.server, &other.server].map(Rc::clone);
        servers[0].borrow_mut().deliver(500, &stage.world);
        servers[1].borrow_mut().deliver(500, &other.world);
        for server in &servers {
            server.borrow_mut().mail.values_mut().for_each(|mail| mail.poison = false);
        }
        let in_flight = || servers.iter().map(|server| server.borrow().in_flight).sum::<u64>();

        let outage = async {
            for server in &servers {
                Server::until_served(server, 50).await;
            }
            // So slow that no success of it comes between the failures of the first one.
            servers[1].borrow_mut().slowness = Duration::from_secs(5);
            sleep(Duration::from_secs(1)).await;
            servers[0].borrow_mut().mood = Mood::Down;
            stage.until_circuit(BreakerState::Open).await;
            sleep(Duration::from_secs(10)).await;
            let asked = servers[1].borrow().requests;
            let (tripped, waiting) = (stage.saved().unwrap(), other.saved().unwrap());
            assert_eq!((tripped.status, tripped.error_count), (Status::Error, 1));
            assert!(
                tripped.reason.starts_with("retry 1 of 3: the circuit of example is open until ")
            );
            assert_eq!((waiting.status, waiting.error_count), (Status::Error, 0));
            assert!(waiting.reason.starts_with("the circuit of example is open until "));

            servers[0].borrow_mut().mood = Mood::Well;
            while breakers.state("example") == BreakerState::Open {
                assert_eq!(servers[1].borrow().requests, asked);
                sleep(Duration::from_millis(50)).await;
            }
            while breakers.state("example") == BreakerState::HalfOpen {
                assert!(in_flight() <= 1, "{} at once", in_flight());
                sleep(Duration::from_millis(5)).await;
            }
        };

        tokio::join!(stage.live_on(), other.live_on(), outage);

        assert_eq!(breakers.state("example"), BreakerState::Closed);
        stage.check();
        other.check();
    });
}

#[test]
fn an_outage_costs_few_requests_and_work_goes_on_within_the_wait_it_has_led_to() {
    for (lasts, requests, wait) in [(30, 20, 60), (300, 24, 240), (7200, 50, 600)] {
        play(async |stage| {
            let server = Rc::clone(&stage.server);
            server.borrow_mut().deliver(500, &stage.world);
            let outage = async {
                Server::until_served(&server, 50).await;
                server.borrow_mut().mood = Mood::Down;
                let before = server.borrow().requests;
                sleep(Duration::from_secs(lasts)).await;
                let asked = server.borrow().requests - before;
                assert!(asked <= requests, "{asked} requests in {lasts} s");
                assert_eq!(stage.circuit().state, "open");

                server.borrow_mut().mood = Mood::Well;
                let healed = stage.world.now();
                Server::until_served(&server, 60).await;
                let took = stage.world.now().since(healed);
                assert!(took < Duration::from_secs(wait) + SLACK, "{took:?} after {lasts} s");
            };

            tokio::join!(stage.live_on(), outage);

            stage.check();
        });
    }
}

#[test]
fn a_network_of_our_own_that_is_down_opens_nothing() {
    play(async |stage| {
        let server = Rc::clone(&stage.server);
        server.borrow_mut().deliver(500, &stage.world);
        let outage = async {
            Server::until_served(&server, 50).await;
            server.borrow_mut().mood = Mood::Unreachable;
            sleep(Duration::from_secs(6 * 3600)).await;
            server.borrow_mut().mood = Mood::Well;
        };

        tokio::join!(stage.live_on(), outage);

        let circuit = stage.circuit();
        assert_eq!((circuit.statistics.times_opened, &*circuit.state), (0, "closed"));
        assert!(circuit.statistics.successes > 50);
        assert!(circuit.statistics.calls > circuit.statistics.successes, "{circuit:?}");
    });
}

#[test]
fn a_slow_source_that_fails_two_times_in_three_opens_it() {
    play(async |stage| {
        let server = Rc::clone(&stage.server);
        server.borrow_mut().deliver(500, &stage.world);
        let ailing = async {
            Server::until_served(&server, 20).await;
            server.borrow_mut().slowness = Duration::from_secs(100);
            server.borrow_mut().mood = Mood::Ailing;
            timeout(Duration::from_secs(1800), stage.until_circuit(BreakerState::Open))
                .await
                .unwrap();
            let why = stage.circuit().last_transition.unwrap().reason;
            assert!(why.ends_with(" calls failed: no answer in time"), "{why}");
            server.borrow_mut().slowness = Duration::ZERO;
            server.borrow_mut().mood = Mood::Well;
        };

        tokio::join!(stage.live_on(), ailing);
    });
}

#[test]
fn what_a_person_orders_is_heeded_within_seconds_waiting_or_downloading() {
    play(async |stage| {
        let server = Rc::clone(&stage.server);
        server.borrow_mut().deliver(1000, &stage.world);
        let person = async {
            Server::until_served(&server, 50).await;
            stage.order(ManualCommand::Open { until: None });
            sleep(Duration::from_secs(7)).await;
            let asked = server.borrow().requests;
            sleep(Duration::from_secs(50 * 3600)).await;
            assert_eq!(server.borrow().requests, asked, "it stays open");
            let reason = stage.saved().unwrap().reason;
            assert!(reason.ends_with("with `cynosure breaker close example`"), "{reason}");

            stage.order(ManualCommand::Close);
            sleep(Duration::from_secs(7)).await;
            assert!(server.borrow().requests > asked, "closed, it goes on");

            server.borrow_mut().mood = Mood::Down;
            stage.until_circuit(BreakerState::Open).await;
            server.borrow_mut().mood = Mood::Well;
            stage.order(ManualCommand::Reset);
            let reset = stage.world.now();
            Server::until_served(&server, 400).await;
            let took = stage.world.now().since(reset);
            assert!(took < Duration::from_secs(30), "it waited for {took:?}");
        };

        tokio::join!(stage.live_on(), person);
    });
}

#[test]
fn asked_for_one_session_it_does_not_sit_out_what_a_person_keeps_open() {
    play(async |stage| {
        stage.order(ManualCommand::Open { until: None });

        let ended = stage.live(RunMode::Once).await.unwrap();

        assert_eq!(ended.exit, LoopExit::GaveUp);
        assert_eq!(stage.server.borrow().requests, 0);
        assert!(ended.machine.reason.contains("cynosure breaker close example"), "{ended:?}");
        stage.order(ManualCommand::Close);
        assert_eq!(
            stage.live(RunMode::Once).await.map(|ended| ended.exit),
            Some(LoopExit::Completed)
        );
    });
}
