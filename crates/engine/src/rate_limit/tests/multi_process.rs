//! Tests of several processes, in turn or at once, against a server that locks clients out.

use std::collections::VecDeque;

use super::*;

const START: Timestamp = Timestamp(1_800_000_000_000);
const WINDOW: Duration = Duration::from_secs(10);
const LOCK_OUT: Duration = Duration::from_secs(30);
const RESPONSE_TIME: Duration = Duration::from_millis(20);

/// Grants 60 requests in any 10 s; one more locks the client out for 30 s.
#[derive(Default)]
struct LockOutServer {
    accepted_at: VecDeque<Timestamp>,
    locked_until: Timestamp,
    throttle_count: u32,
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
        self.throttle_count += 1;
        Some(self.locked_until.since(now))
    }
}

/// Sends requests for an hour, from each of `processes` in turn; all of them restart after each
/// `lifetime`. Returns the number of responses and how many of them were throttles.
fn run_for_an_hour(processes: usize, lifetime: Duration) -> (u32, u32) {
    let mut server = LockOutServer::default();
    let mut limiters = vec![RateLimiter::new(RateLimitPolicy::default(), START); processes];
    let (mut now, mut started_at, mut responses) = (START, START, 0);
    let mut state = limiters[0].to_state(now);
    for index in (0..processes).cycle() {
        if now.since(START) > Duration::from_secs(3600) {
            break;
        }
        if now.since(started_at) > lifetime {
            limiters.fill(RateLimiter::restore(RateLimitPolicy::default(), &state, now));
            started_at = now;
        }
        let limiter = &mut limiters[index];
        if processes > 1 {
            limiter.merge_from_peer(&state, now);
        }
        match limiter.admit(1, now) {
            SendDecision::Wait { until, .. } => now = until,
            SendDecision::Admitted(token) => {
                now = now.after(RESPONSE_TIME);
                let retry_after = server.handle_request(now);
                let outcome = if retry_after.is_some() {
                    ResponseOutcome::Throttled
                } else {
                    ResponseOutcome::Accepted
                };
                let headers = ReportedLimits { retry_after, ..ReportedLimits::default() };
                let response = RateLimitResponse { outcome, reported: &headers };
                let _block: Option<Block> =
                    limiter.record_response(token, &response, now, RandomSample(0));
                responses += 1;
            }
        }
        state = limiters[index].to_state(now);
        limiters[index].record_saved();
    }
    (responses, server.throttle_count)
}

/// Requests that the server grants in an hour.
const HOURLY_ALLOWANCE: u32 = 60 * 360;

#[test]
fn one_process_is_throttled_only_at_the_limit_and_when_probing() {
    let (responses, throttled) = run_for_an_hour(1, Duration::MAX);

    assert!(responses > HOURLY_ALLOWANCE * 95 / 100, "{responses}");
    assert!(throttled <= 2, "{throttled}");
}

#[test]
fn restart_costs_one_window_but_no_throttle() {
    for lifetime in [187, 304, 613] {
        let (responses, throttled) = run_for_an_hour(1, Duration::from_secs(lifetime));

        assert!(responses > HOURLY_ALLOWANCE * 92 / 100, "{lifetime}: {responses}");
        assert!(throttled <= 2, "{lifetime}: {throttled}");
    }
}

#[test]
fn three_processes_share_one_rate_limit() {
    let (responses, throttled) = run_for_an_hour(3, Duration::MAX);

    assert!(responses > HOURLY_ALLOWANCE * 95 / 100, "{responses}");
    assert!(throttled <= 2, "{throttled}");
}
