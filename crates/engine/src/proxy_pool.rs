//! Proxy selection, by the health that the requests through each proxy show.
//!
//! A working proxy stays in use, because each change of the client address looks suspicious to a
//! server. A proxy that fails several times in a row is dead for a cooldown, which doubles each
//! time until the proxy works again; after the cooldown, one request probes it.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::Timestamp;
use crate::backoff::doubled_delay;

/// Weight of the newest latency in the average: about the last ten requests count.
const LATENCY_WEIGHT: f64 = 0.2;

/// Latency ratio below which another proxy replaces a working one.
const MUCH_FASTER_RATIO: f64 = 0.5;

/// Latency up to which a proxy is not replaced by a faster one, since the gain is not noticeable.
const FAST_ENOUGH_LATENCY: Duration = Duration::from_millis(50);

/// Conditions under which a proxy counts as dead, and for how long.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ProxyPolicy {
    /// Consecutive failures after which a proxy is dead; 0 counts as 1.
    pub failure_threshold: u32,
    /// Time that a proxy is unused after its first death; doubles with each consecutive death.
    pub cooldown: Duration,
    pub max_cooldown: Duration,
}

/// Index of a proxy in the configured order.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct ProxyIndex(pub usize);

/// Change of a proxy's state after a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ProxyChange {
    /// Dead from now on, and unused for the cooldown.
    Dead { cooldown: Duration },
    /// Dead as before, since its probe failed, and unused for the cooldown.
    StillDead { cooldown: Duration },
    /// Alive again after it was dead.
    Recovered,
}

/// Health of a proxy.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ProxyHealth {
    pub state: ProxyState,
    /// Average time from sending a request to the head of its response, once known.
    pub latency: Option<Duration>,
    /// Failures since the last success.
    pub consecutive_failures: u32,
    /// Failures in total.
    pub total_failures: u64,
    /// Time of the retry of a proxy that failed but is alive, even if another is better.
    retry_at: Option<Timestamp>,
    /// Number of deaths since the last success.
    consecutive_deaths: u32,
}

/// State of a proxy.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ProxyState {
    Alive,
    Dead {
        until: Timestamp,
    },
    /// Dead, with one probe in flight. A probe without a result has failed at `until`.
    Probing {
        since: Timestamp,
        until: Timestamp,
    },
}

/// All configured proxies.
#[derive(Clone, Debug)]
pub struct ProxyPool {
    policy: ProxyPolicy,
    proxies: Vec<ProxyHealth>,
    /// Proxy that stays in use.
    current: Option<ProxyIndex>,
}

impl ProxyPool {
    #[must_use]
    pub fn new(policy: ProxyPolicy, count: usize) -> Self {
        let proxy = ProxyHealth {
            state: ProxyState::Alive,
            latency: None,
            consecutive_failures: 0,
            total_failures: 0,
            retry_at: None,
            consecutive_deaths: 0,
        };
        Self { policy, proxies: vec![proxy; count], current: None }
    }

    /// Chooses the proxy for a request that failed with those in `tried`.
    ///
    /// In this order: a proxy whose retry is due, whether dead or only failing; an untested one;
    /// the current one, unless another fails less or is much faster; the one with the fewest
    /// consecutive failures, and of these the fastest. `None` if all others are dead.
    pub fn choose(&mut self, tried: &BTreeSet<ProxyIndex>, now: Timestamp) -> Option<ProxyIndex> {
        let is_untried = |index: &ProxyIndex| !tried.contains(index);
        let untried: Vec<_> = (0..self.proxies.len()).map(ProxyIndex).filter(is_untried).collect();
        if let Some(index) = untried.iter().find(|index| self.is_retry_due(**index, now)) {
            let until = now.after(self.next_cooldown(*index));
            let proxy = &mut self.proxies[index.0];
            match proxy.state {
                ProxyState::Alive => proxy.retry_at = Some(until),
                ProxyState::Dead { .. } | ProxyState::Probing { .. } => {
                    proxy.state = ProxyState::Probing { since: now, until };
                }
            }
            return Some(*index);
        }
        let is_alive = |index: &ProxyIndex| self.proxies[index.0].state == ProxyState::Alive;
        let alive: Vec<_> = untried.into_iter().filter(is_alive).collect();
        if let Some(index) = alive.iter().find(|index| self.proxies[index.0].is_untested()) {
            return Some(*index);
        }
        let best = alive.iter().copied().min_by_key(|index| {
            let proxy = &self.proxies[index.0];
            (proxy.consecutive_failures, proxy.latency.unwrap_or(Duration::MAX))
        })?;
        let current =
            self.current.filter(|index| alive.contains(index) && !self.should_switch(*index, best));
        let chosen = current.unwrap_or(best);
        self.current = Some(chosen);
        Some(chosen)
    }

    /// Records that the response to a request sent at `sent` came through a proxy.
    pub fn record_success(
        &mut self,
        index: ProxyIndex,
        sent: Timestamp,
        now: Timestamp,
    ) -> Option<ProxyChange> {
        let proxy = self.proxies.get_mut(index.0)?;
        let change = match proxy.state {
            ProxyState::Alive => None,
            ProxyState::Probing { since, .. } if since <= sent => Some(ProxyChange::Recovered),
            // Sent before the proxy died.
            ProxyState::Probing { .. } | ProxyState::Dead { .. } => return None,
        };
        let latency = now.since(sent);
        proxy.latency = Some(proxy.latency.map_or(latency, |average| {
            average.mul_f64(1.0 - LATENCY_WEIGHT) + latency.mul_f64(LATENCY_WEIGHT)
        }));
        (proxy.state, proxy.retry_at) = (ProxyState::Alive, None);
        (proxy.consecutive_failures, proxy.consecutive_deaths) = (0, 0);
        change
    }

    /// Records that a request sent at `sent` failed through the fault of a proxy.
    pub fn record_failure(
        &mut self,
        index: ProxyIndex,
        sent: Timestamp,
        now: Timestamp,
    ) -> Option<ProxyChange> {
        let failure_threshold = self.policy.failure_threshold.max(1);
        let proxy = self.proxies.get_mut(index.0)?;
        proxy.consecutive_failures = proxy.consecutive_failures.saturating_add(1);
        proxy.total_failures = proxy.total_failures.saturating_add(1);
        let was_dead = match proxy.state {
            ProxyState::Alive if failure_threshold <= proxy.consecutive_failures => false,
            ProxyState::Probing { since, .. } if since <= sent => true,
            ProxyState::Alive => {
                proxy.retry_at = Some(now.after(self.policy.cooldown));
                return None;
            }
            ProxyState::Probing { .. } | ProxyState::Dead { .. } => return None,
        };
        let cooldown = self.next_cooldown(index);
        let proxy = self.proxies.get_mut(index.0)?;
        proxy.state = ProxyState::Dead { until: now.after(cooldown) };
        proxy.consecutive_deaths = proxy.consecutive_deaths.saturating_add(1);
        Some(match was_dead {
            false => ProxyChange::Dead { cooldown },
            true => ProxyChange::StillDead { cooldown },
        })
    }

    /// Returns the health of each proxy, in the configured order.
    #[must_use]
    pub fn health(&self) -> &[ProxyHealth] {
        &self.proxies
    }

    fn is_retry_due(&self, index: ProxyIndex, now: Timestamp) -> bool {
        let proxy = &self.proxies[index.0];
        match proxy.state {
            ProxyState::Alive => proxy.retry_at.is_some_and(|retry_at| retry_at <= now),
            ProxyState::Dead { until } | ProxyState::Probing { until, .. } => until <= now,
        }
    }

    /// Returns true if the best proxy should replace the current one.
    fn should_switch(&self, current: ProxyIndex, best: ProxyIndex) -> bool {
        let (current, best) = (&self.proxies[current.0], &self.proxies[best.0]);
        let current_latency = current.latency.unwrap_or(Duration::MAX);
        best.consecutive_failures < current.consecutive_failures
            || (FAST_ENOUGH_LATENCY < current_latency
                && best.latency.is_some_and(|latency| {
                    latency.as_secs_f64() < current_latency.as_secs_f64() * MUCH_FASTER_RATIO
                }))
    }

    /// Returns the cooldown of a proxy that dies now.
    fn next_cooldown(&self, index: ProxyIndex) -> Duration {
        let doublings = self.proxies[index.0].consecutive_deaths;
        doubled_delay(self.policy.cooldown, doublings, self.policy.max_cooldown)
    }
}

impl ProxyHealth {
    fn is_untested(&self) -> bool {
        self.latency.is_none() && self.consecutive_failures == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: ProxyPolicy = ProxyPolicy {
        failure_threshold: 3,
        cooldown: Duration::from_secs(30),
        max_cooldown: Duration::from_secs(900),
    };
    const START: Timestamp = Timestamp(0);

    fn at(seconds: i64) -> Timestamp {
        Timestamp(seconds * 1000)
    }

    /// Creates a pool whose proxies have responded with these latencies in milliseconds.
    fn pool(latencies: &[i64]) -> ProxyPool {
        let mut pool = ProxyPool::new(POLICY, latencies.len());
        for (index, latency) in latencies.iter().enumerate() {
            pool.record_success(ProxyIndex(index), START, Timestamp(*latency));
        }
        pool
    }

    fn choose_first(pool: &mut ProxyPool, now: Timestamp) -> Option<usize> {
        pool.choose(&BTreeSet::new(), now).map(|index| index.0)
    }

    fn mark_dead(pool: &mut ProxyPool, index: usize, now: Timestamp) -> Option<ProxyChange> {
        (0..3).map(|_| pool.record_failure(ProxyIndex(index), now, now)).last().flatten()
    }

    #[test]
    fn each_proxy_is_tried_once_then_the_fastest_is_used() {
        let mut pool = ProxyPool::new(POLICY, 3);
        for (index, latency) in [(0, 300), (1, 80), (2, 200)] {
            assert_eq!(choose_first(&mut pool, START), Some(index));
            pool.record_success(ProxyIndex(index), START, Timestamp(latency));
        }
        assert_eq!(choose_first(&mut pool, START), Some(1));

        // A little faster is no reason to change; much faster is.
        for _ in 0..50 {
            pool.record_success(ProxyIndex(2), START, Timestamp(60));
        }
        assert_eq!(choose_first(&mut pool, START), Some(1));
        for _ in 0..50 {
            pool.record_success(ProxyIndex(2), START, Timestamp(20));
        }
        assert_eq!(choose_first(&mut pool, START), Some(2));
    }

    #[test]
    fn a_failing_proxy_is_left_at_once_and_dead_at_the_threshold() {
        let mut pool = pool(&[10, 20]);
        assert_eq!(choose_first(&mut pool, START), Some(0));

        assert_eq!(pool.record_failure(ProxyIndex(0), START, START), None);
        assert_eq!(choose_first(&mut pool, START), Some(1), "it has no failures");
        pool.record_failure(ProxyIndex(0), START, START);
        let change = pool.record_failure(ProxyIndex(0), START, START);

        assert_eq!(change, Some(ProxyChange::Dead { cooldown: POLICY.cooldown }));
        assert_eq!(pool.choose(&BTreeSet::from([ProxyIndex(1)]), at(29)), None);
    }

    #[test]
    fn a_failed_proxy_is_retried_though_another_is_better() {
        let mut pool = pool(&[10, 20]);
        pool.record_failure(ProxyIndex(0), START, START);

        assert_eq!(choose_first(&mut pool, at(29)), Some(1));
        assert_eq!(choose_first(&mut pool, at(30)), Some(0));
        assert_eq!(choose_first(&mut pool, at(30)), Some(1), "one request is the retry");
        pool.record_success(ProxyIndex(0), at(30), at(30));
        assert_eq!(pool.health()[0].consecutive_failures, 0);
    }

    #[test]
    fn one_request_probes_a_dead_proxy_after_its_cooldown() {
        let mut pool = pool(&[10, 20]);
        mark_dead(&mut pool, 0, START);

        assert_eq!(choose_first(&mut pool, at(29)), Some(1));
        assert_eq!(choose_first(&mut pool, at(30)), Some(0));
        assert_eq!(choose_first(&mut pool, at(30)), Some(1), "one request is the probe");
        assert_eq!(
            pool.record_success(ProxyIndex(0), at(30), at(31)),
            Some(ProxyChange::Recovered)
        );
        assert_eq!(pool.health()[0].state, ProxyState::Alive);
    }

    #[test]
    fn a_failed_probe_doubles_the_cooldown_a_success_resets_it() {
        let mut pool = pool(&[10]);
        let mut now = START;
        let cooldown = POLICY.cooldown;
        assert_eq!(mark_dead(&mut pool, 0, now), Some(ProxyChange::Dead { cooldown }));
        let mut cooldowns = Vec::new();
        for _ in 0..6 {
            now = now.after(POLICY.max_cooldown);
            assert_eq!(choose_first(&mut pool, now), Some(0));
            cooldowns.push(pool.record_failure(ProxyIndex(0), now, now));
        }
        let seconds = [60, 120, 240, 480, 900, 900].map(Duration::from_secs);
        assert_eq!(cooldowns, seconds.map(|cooldown| Some(ProxyChange::StillDead { cooldown })));

        now = now.after(POLICY.max_cooldown);
        choose_first(&mut pool, now);
        pool.record_success(ProxyIndex(0), now, now);
        assert_eq!(mark_dead(&mut pool, 0, now), Some(ProxyChange::Dead { cooldown }));
    }

    #[test]
    fn results_of_requests_sent_before_death_change_nothing() {
        let mut pool = pool(&[10, 20]);
        mark_dead(&mut pool, 0, at(1));

        assert_eq!(pool.record_success(ProxyIndex(0), START, at(2)), None);
        assert_eq!(pool.record_failure(ProxyIndex(0), START, at(2)), None);
        assert_eq!(choose_first(&mut pool, at(31)), Some(0));
        assert_eq!(pool.record_success(ProxyIndex(0), START, at(32)), None);
        assert_eq!(pool.record_failure(ProxyIndex(0), START, at(32)), None);
        assert_eq!(
            pool.record_success(ProxyIndex(0), at(31), at(32)),
            Some(ProxyChange::Recovered)
        );
    }

    #[test]
    fn a_probe_without_a_result_is_repeated() {
        let mut pool = pool(&[10]);
        mark_dead(&mut pool, 0, START);

        assert_eq!(choose_first(&mut pool, at(30)), Some(0));
        assert_eq!(choose_first(&mut pool, at(31)), None);
        // After one death the next cooldown is 60 s, so that the probe fails at 90 s.
        assert_eq!(choose_first(&mut pool, at(90)), Some(0));
    }
}

#[cfg(test)]
mod proptests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum PoolEvent {
        RequestSent,
        Succeeded { request: usize },
        Failed { request: usize },
        TimePasses { seconds: i64 },
    }

    fn pool_events() -> impl Strategy<Value = Vec<PoolEvent>> {
        let event = prop_oneof![
            3 => Just(PoolEvent::RequestSent),
            2 => (0..8_usize).prop_map(|request| PoolEvent::Succeeded { request }),
            3 => (0..8_usize).prop_map(|request| PoolEvent::Failed { request }),
            1 => (0..100_i64).prop_map(|seconds| PoolEvent::TimePasses { seconds }),
        ];
        prop::collection::vec(event, 0..200)
    }

    proptest! {
        #[test]
        fn a_dead_proxy_gets_one_probe_after_its_cooldown(
            events in pool_events(), count in 1..4_usize
        ) {
            let policy = ProxyPolicy {
                failure_threshold: 2,
                cooldown: Duration::from_secs(10),
                max_cooldown: Duration::from_secs(40),
            };
            let mut pool = ProxyPool::new(policy, count);
            let mut now = Timestamp(0);
            let mut in_flight: Vec<(ProxyIndex, Timestamp)> = Vec::new();
            for event in events {
                match event {
                    PoolEvent::RequestSent => {
                        let before = pool.clone();
                        if let Some(index) = pool.choose(&BTreeSet::new(), now) {
                            match before.health()[index.0].state {
                                ProxyState::Alive => {}
                                ProxyState::Dead { until } | ProxyState::Probing { until, .. } => {
                                    prop_assert!(until <= now);
                                    let next = pool.choose(&BTreeSet::new(), now);
                                    prop_assert_ne!(next, Some(index));
                                }
                            }
                            in_flight.push((index, now));
                        } else {
                            let alive = |proxy: &ProxyHealth| proxy.state == ProxyState::Alive;
                            prop_assert!(!before.health().iter().any(alive));
                        }
                    }
                    PoolEvent::Succeeded { request } if request < in_flight.len() => {
                        let (index, sent) = in_flight.swap_remove(request);
                        pool.record_success(index, sent, now);
                    }
                    PoolEvent::Failed { request } if request < in_flight.len() => {
                        let (index, sent) = in_flight.swap_remove(request);
                        if let Some(
                            ProxyChange::Dead { cooldown } | ProxyChange::StillDead { cooldown },
                        ) = pool.record_failure(index, sent, now)
                        {
                            prop_assert!(policy.cooldown <= cooldown);
                            prop_assert!(cooldown <= policy.max_cooldown);
                        }
                    }
                    PoolEvent::Succeeded { .. } | PoolEvent::Failed { .. } => {}
                    PoolEvent::TimePasses { seconds } => now = now.after(Duration::from_secs(seconds.unsigned_abs())),
                }
            }
            // After the longest cooldown, every proxy is chosen again.
            let end = now.after(policy.max_cooldown);
            let mut tried = BTreeSet::new();
            while let Some(index) = pool.choose(&tried, end) {
                tried.insert(index);
            }
            prop_assert_eq!(tried.len(), count);
        }
    }
}
