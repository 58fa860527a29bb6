//! A server that locks out, met by one process after another and by several at once.

use std::collections::VecDeque;

use super::*;

const START: Timestamp = Timestamp(1_800_000_000_000);
const WINDOW: Duration = Duration::from_secs(10);
const LOCK: Duration = Duration::from_secs(30);
const REPLY: Duration = Duration::from_millis(20);

/// Sixty in any ten seconds; one more locks out for thirty.
#[derive(Default)]
struct Server {
    accepted: VecDeque<Timestamp>,
    locked_until: Timestamp,
    refused: u32,
}

impl Server {
    /// Returns how long to wait, if the request is refused.
    fn ask(&mut self, now: Timestamp) -> Option<Duration> {
        self.accepted.retain(|at| now.since(*at) < WINDOW);
        if now >= self.locked_until {
            if self.accepted.len() < 60 {
                self.accepted.push_back(now);
                return None;
            }
            self.locked_until = now.after(LOCK);
        }
        self.refused += 1;
        Some(self.locked_until.since(now))
    }
}

/// Asks for an hour, each request from the next of `processes`, which end and begin anew after each
/// `life`. Returns how many requests were answered, and how many of them by a refusal.
fn hour(processes: usize, life: Duration) -> (u32, u32) {
    let mut server = Server::default();
    let mut quotas = vec![Quota::new(QuotaPolicy::default(), START); processes];
    let (mut now, mut began, mut answered) = (START, START, 0);
    let mut memory = quotas[0].memory(now);
    for turn in (0..processes).cycle() {
        if now.since(START) > Duration::from_secs(3600) {
            break;
        }
        if now.since(began) > life {
            quotas.fill(Quota::recall(QuotaPolicy::default(), &memory, now));
            began = now;
        }
        let quota = &mut quotas[turn];
        if processes > 1 {
            quota.adopt(&memory, now);
        }
        match quota.admit(1, now) {
            Admission::Wait { until, .. } => now = until,
            Admission::Go(ticket) => {
                now = now.after(REPLY);
                let told = server.ask(now);
                let outcome = if told.is_some() { Outcome::Throttled } else { Outcome::Accepted };
                let signals = Signals { told, ..Signals::default() };
                let reply = Reply { outcome, signals: &signals };
                let _hold: Option<Hold> = quota.answered(ticket, &reply, now, RandomSample(0));
                answered += 1;
            }
        }
        memory = quotas[turn].memory(now);
    }
    (answered, server.refused)
}

/// What the server grants in an hour.
const HOUR: u32 = 60 * 360;

#[test]
fn one_process_is_refused_when_it_finds_the_limit_and_when_it_tries_more() {
    let (answered, refused) = hour(1, Duration::MAX);

    assert!(answered > HOUR * 95 / 100, "{answered}");
    assert!(refused <= 2, "{refused}");
}

#[test]
fn a_restart_costs_a_window_but_no_refusal() {
    for life in [187, 304, 613] {
        let (answered, refused) = hour(1, Duration::from_secs(life));

        assert!(answered > HOUR * 92 / 100, "{life}: {answered}");
        assert!(refused <= 2, "{life}: {refused}");
    }
}

#[test]
fn three_processes_share_what_one_may_have() {
    let (answered, refused) = hour(3, Duration::MAX);

    assert!(answered > HOUR * 95 / 100, "{answered}");
    assert!(refused <= 2, "{refused}");
}
