//! Scenes about limits that are none: one mail throttled for ever, and a wait in which nothing runs.

use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use cynosure::worker::{LoopExit, RunMode};
use serde_json::Value;
use tokio::time::{sleep, timeout};

use crate::life::{Stage, play};
use crate::server::{Mood, Server};
use crate::world::SimWorld;

const NIGHT: Duration = Duration::from_secs(8 * 3600);

impl Stage {
    fn spare_all_but_throttled(&self, throttled: u64) {
        let mut server = self.server.borrow_mut();
        for (no, mail) in &mut server.mail {
            (mail.poison, mail.throttled) = (false, *no == throttled);
        }
    }

    /// Lives on, started anew whenever that is due.
    async fn keep_living(&self) {
        loop {
            self.live(RunMode::Continuous).await;
            sleep(Duration::from_secs(10)).await;
        }
    }

    /// What a refusal cost, as the limiter learned it.
    fn learned_cost(&self) -> Duration {
        let json = self.disk.files().remove(Path::new("/state/quota.json")).unwrap();
        let quota: Value = serde_json::from_slice(&json).unwrap();
        let cost = &quota["scopes"]["sim"]["quota"]["learned"]["cost_millis"];
        Duration::from_millis(cost.as_u64().unwrap())
    }

    /// Waits until `number` mails were given out, and returns how long that took.
    async fn takes_until_served(&self, number: usize) -> Duration {
        let began = self.world.true_now();
        Server::until_served(&self.server, number).await;
        self.world.true_now().since(began)
    }
}

/// FAULTS 50.
fn one_mail_is_throttled_for_ever(retry_after: Option<Duration>, mode: RunMode) {
    play(async |stage| {
        stage.spare_all_but_throttled(3);
        stage.server.borrow_mut().retry_after = retry_after;

        let ended = timeout(Duration::from_secs(3600), stage.live(mode)).await;

        let ended = ended.expect("it comes to an end").expect("nobody killed it");
        assert_eq!(ended.exit, LoopExit::Completed, "{ended:?}");
        assert_eq!(ended.counts.quarantined, 1, "{ended:?}");
        let asked = stage.server.borrow().mail[&3].asked;
        assert!((5..=8).contains(&asked), "{asked} times");
        let twice = stage.server.borrow().mail.values().filter(|mail| mail.served > 1).count();
        assert_eq!(twice, 0);
    });
}

#[test]
fn one_mail_that_is_throttled_for_ever_is_quarantined() {
    for retry_after in [None, Some(2), Some(30)] {
        one_mail_is_throttled_for_ever(retry_after.map(Duration::from_secs), RunMode::Once);
    }
}

/// FAULTS 50.
#[test]
fn a_mail_throttled_for_ever_holds_up_no_other_source() {
    for retry_after in [None, Some(30)] {
        play(async |stage| {
            let mut other = Stage::another();
            let gates = stage.gates();
            stage.gates = Some(Rc::clone(&gates));
            other.gates = Some(gates);
            other.rules.poll_interval = Duration::from_secs(30);
            stage.spare_all_but_throttled(3);
            stage.server.borrow_mut().retry_after = retry_after.map(Duration::from_secs);
            other.spare_all_but_throttled(0);
            let scene = async {
                // The first refusal is obeyed by all.
                stage.takes_until_served(59).await;
                other.takes_until_served(60).await;
                sleep(Duration::from_secs(60)).await;
                for round in 1..=20 {
                    other.server.borrow_mut().deliver(10, &other.world);
                    other.spare_all_but_throttled(0);
                    let took = other.takes_until_served(60 + 10 * round).await;
                    assert!(took < Duration::from_secs(60), "{retry_after:?}, {round}: {took:?}");
                }
            };

            tokio::select! {
                () = scene => {}
                () = stage.keep_living() => {}
                () = other.keep_living() => {}
            }
        });
    }
}

/// How long the rest of a mailbox takes after refusals for no reason, with something done in the wait.
async fn takes_with_a_refusal(stage: &Stage, in_the_wait: impl AsyncFn(&SimWorld)) -> Duration {
    let server = Rc::clone(&stage.server);
    server.borrow_mut().deliver(400, &stage.world);
    stage.spare_all_but_throttled(0);
    let refusal = async {
        Server::until_served(&server, 300).await;
        server.borrow_mut().mood = Mood::Mute { requests: 0 };
        // By then the waits are long enough for something to come in between.
        while server.borrow().throttled < 12 {
            sleep(Duration::from_millis(10)).await;
        }
        server.borrow_mut().mood = Mood::Well;
        in_the_wait(&stage.world).await;
        let began = stage.world.true_now();
        Server::until_served(&server, 460).await;
        stage.world.true_now().since(began)
    };
    tokio::select! {
        took = refusal => took,
        () = stage.keep_living() => Duration::MAX,
    }
}

/// FAULTS 52.
#[test]
fn a_night_off_in_a_wait_makes_nothing_slower_after_it() {
    play(async |stage| {
        let night = async |world: &SimWorld| {
            world.kill_now();
            sleep(NIGHT).await;
            world.revive(None);
        };

        let took = takes_with_a_refusal(stage, night).await;

        assert!(took < Duration::from_secs(120), "{took:?}");
        let cost = stage.learned_cost();
        assert!(Duration::ZERO < cost && cost < Duration::from_secs(120), "{cost:?}");
    });
}

/// FAULTS 52.
#[test]
fn a_clock_that_is_set_in_a_wait_makes_nothing_slower_after_it() {
    for days in [-1, 1, 20] {
        play(async |stage| {
            let set = async |world: &SimWorld| world.step_clock(days * 86_400);

            let took = takes_with_a_refusal(stage, set).await;

            assert!(took < Duration::from_secs(120), "{days}: {took:?}");
            let cost = stage.learned_cost();
            assert!(Duration::ZERO < cost && cost < Duration::from_secs(120), "{days}: {cost:?}");
        });
    }
}
