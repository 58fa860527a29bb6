//! Tests of several processes, in turn or at once, against a server that locks clients out.

use std::collections::VecDeque;

use super::*;

const START: Timestamp = Timestamp(1_800_000_000_000);
const WINDOW: Duration = Duration::from_secs(10);
const LOCK_OUT: Duration = Duration::from_secs(30);
const REPLY_TIME: Duration = Duration::from_millis(20);

/// Grants 60 requests in any 10 s; one more locks the client out for 30 s.
#[derive(Default)]
struct LockOutServer {
    accepted_at: VecDeque<Timestamp>,
    locked_until: Timestamp,
    rejected_count: u32,
}

impl LockOutServer {
    /// Returns the time to wait if the request is throttled.
    fn handle_request(&mut self, now: Timestamp) -> Option<Duration> {
        self.accepted_at.retain(|at| now.since(*at) < WINDOW);
        if now >= self.locked_until {
            if self.accepted_at.len() < 60 {
                self.accepted_at.push_back(now);
                return None;
            }
            self.locked_until = now.after(LOCK_OUT);
        }
        self.rejected_count += 1;
        Some(self.locked_until.since(now))
    }
}

/// Sends requests for an hour, from each of `processes` in turn; these restart after each `life`.
/// Returns the number of replies and how many of them were throttles.
fn run_for_an_hour(processes: usize, life: Duration) -> (u32, u32) {
    let mut server = LockOutServer::default();
    let mut quotas = vec![RateLimiter::new(RateLimitPolicy::default(), START); processes];
    let (mut now, mut began, mut answered) = (START, START, 0);
    let mut memory = quotas[0].to_state(now);
    for turn in (0..processes).cycle() {
        if now.since(START) > Duration::from_secs(3600) {
            break;
        }
        if now.since(began) > life {
            quotas.fill(RateLimiter::restore(RateLimitPolicy::default(), &memory, now));
            began = now;
        }
        let quota = &mut quotas[turn];
        if processes > 1 {
            quota.merge_from_peer(&memory, now);
        }
        match quota.admit(1, now) {
            SendDecision::Wait { until, .. } => now = until,
            SendDecision::Admitted(ticket) => {
                now = now.after(REPLY_TIME);
                let told = server.handle_request(now);
                let outcome =
                    if told.is_some() { ReplyOutcome::Throttled } else { ReplyOutcome::Accepted };
                let signals = RateLimitHeaders { retry_after: told, ..RateLimitHeaders::default() };
                let reply = RateLimitReply { outcome, headers: &signals };
                let _hold: Option<Block> = quota.record_reply(ticket, &reply, now, RandomSample(0));
                answered += 1;
            }
        }
        memory = quotas[turn].to_state(now);
    }
    (answered, server.rejected_count)
}

/// Requests that the server grants in an hour.
const HOURLY_ALLOWANCE: u32 = 60 * 360;

#[test]
fn one_process_is_throttled_only_at_the_limit_and_when_probing() {
    let (answered, refused) = run_for_an_hour(1, Duration::MAX);

    assert!(answered > HOURLY_ALLOWANCE * 95 / 100, "{answered}");
    assert!(refused <= 2, "{refused}");
}

#[test]
fn restart_costs_one_window_but_no_throttle() {
    for life in [187, 304, 613] {
        let (answered, refused) = run_for_an_hour(1, Duration::from_secs(life));

        assert!(answered > HOURLY_ALLOWANCE * 92 / 100, "{life}: {answered}");
        assert!(refused <= 2, "{life}: {refused}");
    }
}

#[test]
fn three_processes_share_one_rate_limit() {
    let (answered, refused) = run_for_an_hour(3, Duration::MAX);

    assert!(answered > HOURLY_ALLOWANCE * 95 / 100, "{answered}");
    assert!(refused <= 2, "{refused}");
}
