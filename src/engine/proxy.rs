//! Which proxy to go out by: the health of each, from what became of the requests through it.
//!
//! A proxy that works is kept to, since each change of the address we come from looks odd to a
//! server. One that fails several times in a row is dead for a while, twice as long each time
//! until it works again; when its time is over, one request tries it.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::engine::Moment;

/// The weight of the newest latency in the average: the last ten or so requests count.
const LATENCY_WEIGHT: f64 = 0.2;

/// A proxy that works is left for one that takes less than this share of its time.
const MUCH_FASTER: f64 = 0.5;

/// A proxy this fast is not left for a faster one: nobody would notice.
const FAST_ENOUGH: Duration = Duration::from_millis(50);

/// When a proxy counts as dead, and for how long.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ProxyPolicy {
    /// Failures in a row that make it so; 0 counts as 1.
    pub failures: u32,
    /// How long it is left alone the first time; doubles with each time in a row.
    pub cooldown: Duration,
    pub max_cooldown: Duration,
}

/// A proxy by its place in the configured order.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct ProxyNo(pub usize);

/// What a request showed of a proxy.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ProxyChange {
    /// It is dead, and left alone for so long.
    Dead { cooldown: Duration },
    /// It was tried, is dead as before, and left alone for so long.
    StillDead { cooldown: Duration },
    /// It was dead and works.
    Back,
}

/// How a proxy is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ProxyHealth {
    pub life: Life,
    /// The average time from sending a request to the head of its answer, once known.
    pub latency: Option<Duration>,
    /// Failures since it last worked.
    pub failures: u32,
    /// Failures in all.
    pub failures_total: u64,
    /// When one that failed and is alive is tried again, though another is better.
    doubted_until: Option<Moment>,
    /// How often in a row it was found dead.
    deaths: u32,
}

/// Whether a proxy is used.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Life {
    Alive,
    Dead {
        until: Moment,
    },
    /// Out of those for the dead, one request tries it. One that is never heard of again
    /// has failed `until` then.
    Tried {
        since: Moment,
        until: Moment,
    },
}

/// All proxies there are.
#[derive(Clone, Debug)]
pub struct ProxyPool {
    policy: ProxyPolicy,
    proxies: Vec<ProxyHealth>,
    /// The one that is kept to.
    current: Option<ProxyNo>,
}

impl ProxyPool {
    #[must_use]
    pub fn new(policy: ProxyPolicy, count: usize) -> Self {
        let proxy = ProxyHealth {
            life: Life::Alive,
            latency: None,
            failures: 0,
            failures_total: 0,
            doubted_until: None,
            deaths: 0,
        };
        Self { policy, proxies: vec![proxy; count], current: None }
    }

    /// Chooses the proxy for a request that those in `tried` did not let through.
    ///
    /// First one whose time to be tried again has come, dead or only in doubt; then one of which nothing is known,
    /// then the one that is kept to, unless it fails or another is much faster; else the one
    /// with the fewest failures in a row, and of these the fastest. `None` when the rest is dead.
    pub fn choose(&mut self, tried: &BTreeSet<ProxyNo>, now: Moment) -> Option<ProxyNo> {
        let is_left = |no: &ProxyNo| !tried.contains(no);
        let left: Vec<_> = (0..self.proxies.len()).map(ProxyNo).filter(is_left).collect();
        if let Some(no) = left.iter().find(|no| self.is_due(**no, now)) {
            let until = now.after(self.cooldown(*no));
            let proxy = &mut self.proxies[no.0];
            match proxy.life {
                Life::Alive => proxy.doubted_until = Some(until),
                Life::Dead { .. } | Life::Tried { .. } => {
                    proxy.life = Life::Tried { since: now, until };
                }
            }
            return Some(*no);
        }
        let is_alive = |no: &ProxyNo| self.proxies[no.0].life == Life::Alive;
        let alive: Vec<_> = left.into_iter().filter(is_alive).collect();
        if let Some(no) = alive.iter().find(|no| self.proxies[no.0].is_unknown()) {
            return Some(*no);
        }
        let best = alive.iter().copied().min_by_key(|no| {
            let proxy = &self.proxies[no.0];
            (proxy.failures, proxy.latency.unwrap_or(Duration::MAX))
        })?;
        let kept = self.current.filter(|no| alive.contains(no) && !self.is_outdone(*no, best));
        let chosen = kept.unwrap_or(best);
        self.current = Some(chosen);
        Some(chosen)
    }

    /// Notes that the answer to a request of `sent` came through a proxy.
    pub fn answered(&mut self, no: ProxyNo, sent: Moment, now: Moment) -> Option<ProxyChange> {
        let proxy = self.proxies.get_mut(no.0)?;
        let change = match proxy.life {
            Life::Alive => None,
            Life::Tried { since, .. } if since <= sent => Some(ProxyChange::Back),
            // On its way since before it died.
            Life::Tried { .. } | Life::Dead { .. } => return None,
        };
        let newest = now.since(sent);
        proxy.latency = Some(proxy.latency.map_or(newest, |known| {
            known.mul_f64(1.0 - LATENCY_WEIGHT) + newest.mul_f64(LATENCY_WEIGHT)
        }));
        (proxy.life, proxy.doubted_until) = (Life::Alive, None);
        (proxy.failures, proxy.deaths) = (0, 0);
        change
    }

    /// Notes that a proxy did not let a request of `sent` through, and that it is its own fault.
    pub fn failed(&mut self, no: ProxyNo, sent: Moment, now: Moment) -> Option<ProxyChange> {
        let failures_max = self.policy.failures.max(1);
        let proxy = self.proxies.get_mut(no.0)?;
        proxy.failures = proxy.failures.saturating_add(1);
        proxy.failures_total = proxy.failures_total.saturating_add(1);
        let was_dead = match proxy.life {
            Life::Alive if failures_max <= proxy.failures => false,
            Life::Tried { since, .. } if since <= sent => true,
            Life::Alive => {
                proxy.doubted_until = Some(now.after(self.policy.cooldown));
                return None;
            }
            Life::Tried { .. } | Life::Dead { .. } => return None,
        };
        let cooldown = self.cooldown(no);
        let proxy = self.proxies.get_mut(no.0)?;
        proxy.life = Life::Dead { until: now.after(cooldown) };
        proxy.deaths = proxy.deaths.saturating_add(1);
        Some(match was_dead {
            false => ProxyChange::Dead { cooldown },
            true => ProxyChange::StillDead { cooldown },
        })
    }

    /// How each proxy is, in the configured order.
    #[must_use]
    pub fn health(&self) -> &[ProxyHealth] {
        &self.proxies
    }

    fn is_due(&self, no: ProxyNo, now: Moment) -> bool {
        let proxy = &self.proxies[no.0];
        match proxy.life {
            Life::Alive => proxy.doubted_until.is_some_and(|until| until <= now),
            Life::Dead { until } | Life::Tried { until, .. } => until <= now,
        }
    }

    /// Whether a proxy that is kept to is given up for the best one.
    fn is_outdone(&self, kept: ProxyNo, best: ProxyNo) -> bool {
        let (kept, best) = (&self.proxies[kept.0], &self.proxies[best.0]);
        let slow = kept.latency.unwrap_or(Duration::MAX);
        best.failures < kept.failures
            || (FAST_ENOUGH < slow
                && best
                    .latency
                    .is_some_and(|fast| fast.as_secs_f64() < slow.as_secs_f64() * MUCH_FASTER))
    }

    /// How long a proxy that dies now is left alone.
    fn cooldown(&self, no: ProxyNo) -> Duration {
        let doubled = 2_u32.saturating_pow(self.proxies[no.0].deaths);
        self.policy.cooldown.saturating_mul(doubled).min(self.policy.max_cooldown)
    }
}

impl ProxyHealth {
    fn is_unknown(&self) -> bool {
        self.latency.is_none() && self.failures == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: ProxyPolicy = ProxyPolicy {
        failures: 3,
        cooldown: Duration::from_secs(30),
        max_cooldown: Duration::from_secs(900),
    };
    const START: Moment = Moment(0);

    fn at(seconds: i64) -> Moment {
        Moment(seconds * 1000)
    }

    /// A pool whose proxies have answered after so many milliseconds each.
    fn pool(latencies: &[i64]) -> ProxyPool {
        let mut pool = ProxyPool::new(POLICY, latencies.len());
        for (no, latency) in latencies.iter().enumerate() {
            pool.answered(ProxyNo(no), START, Moment(*latency));
        }
        pool
    }

    fn first(pool: &mut ProxyPool, now: Moment) -> Option<usize> {
        pool.choose(&BTreeSet::new(), now).map(|no| no.0)
    }

    fn kill(pool: &mut ProxyPool, no: usize, now: Moment) -> Option<ProxyChange> {
        (0..3).map(|_| pool.failed(ProxyNo(no), now, now)).last().flatten()
    }

    #[test]
    fn each_is_tried_once_and_then_the_fastest_is_kept_to() {
        let mut pool = ProxyPool::new(POLICY, 3);
        for (no, latency) in [(0, 300), (1, 80), (2, 200)] {
            assert_eq!(first(&mut pool, START), Some(no));
            pool.answered(ProxyNo(no), START, Moment(latency));
        }
        assert_eq!(first(&mut pool, START), Some(1));

        // A little faster is no reason to change; much faster is.
        for _ in 0..50 {
            pool.answered(ProxyNo(2), START, Moment(60));
        }
        assert_eq!(first(&mut pool, START), Some(1));
        for _ in 0..50 {
            pool.answered(ProxyNo(2), START, Moment(20));
        }
        assert_eq!(first(&mut pool, START), Some(2));
    }

    #[test]
    fn one_that_fails_is_left_at_once_and_dead_after_some_failures() {
        let mut pool = pool(&[10, 20]);
        assert_eq!(first(&mut pool, START), Some(0));

        assert_eq!(pool.failed(ProxyNo(0), START, START), None);
        assert_eq!(first(&mut pool, START), Some(1), "it works better");
        pool.failed(ProxyNo(0), START, START);
        let change = pool.failed(ProxyNo(0), START, START);

        assert_eq!(change, Some(ProxyChange::Dead { cooldown: POLICY.cooldown }));
        assert_eq!(pool.choose(&BTreeSet::from([ProxyNo(1)]), at(29)), None);
    }

    #[test]
    fn one_in_doubt_is_tried_again_though_another_is_better() {
        let mut pool = pool(&[10, 20]);
        pool.failed(ProxyNo(0), START, START);

        assert_eq!(first(&mut pool, at(29)), Some(1));
        assert_eq!(first(&mut pool, at(30)), Some(0));
        assert_eq!(first(&mut pool, at(30)), Some(1), "one request is enough");
        pool.answered(ProxyNo(0), at(30), at(30));
        assert_eq!(pool.health()[0].failures, 0);
    }

    #[test]
    fn one_request_tries_a_dead_one_when_its_time_has_come() {
        let mut pool = pool(&[10, 20]);
        kill(&mut pool, 0, START);

        assert_eq!(first(&mut pool, at(29)), Some(1));
        assert_eq!(first(&mut pool, at(30)), Some(0));
        assert_eq!(first(&mut pool, at(30)), Some(1), "one is enough");
        assert_eq!(pool.answered(ProxyNo(0), at(30), at(31)), Some(ProxyChange::Back));
        assert_eq!(pool.health()[0].life, Life::Alive);
    }

    #[test]
    fn a_try_that_fails_doubles_the_time_and_one_that_works_forgets_it() {
        let mut pool = pool(&[10]);
        let mut now = START;
        let cooldown = POLICY.cooldown;
        assert_eq!(kill(&mut pool, 0, now), Some(ProxyChange::Dead { cooldown }));
        let mut cooldowns = Vec::new();
        for _ in 0..6 {
            now = now.after(POLICY.max_cooldown);
            assert_eq!(first(&mut pool, now), Some(0));
            cooldowns.push(pool.failed(ProxyNo(0), now, now));
        }
        let seconds = [60, 120, 240, 480, 900, 900].map(Duration::from_secs);
        assert_eq!(cooldowns, seconds.map(|cooldown| Some(ProxyChange::StillDead { cooldown })));

        now = now.after(POLICY.max_cooldown);
        first(&mut pool, now);
        pool.answered(ProxyNo(0), now, now);
        assert_eq!(kill(&mut pool, 0, now), Some(ProxyChange::Dead { cooldown }));
    }

    #[test]
    fn what_was_under_way_when_it_died_changes_nothing() {
        let mut pool = pool(&[10, 20]);
        kill(&mut pool, 0, at(1));

        assert_eq!(pool.answered(ProxyNo(0), START, at(2)), None);
        assert_eq!(pool.failed(ProxyNo(0), START, at(2)), None);
        assert_eq!(first(&mut pool, at(31)), Some(0));
        assert_eq!(pool.answered(ProxyNo(0), START, at(32)), None);
        assert_eq!(pool.failed(ProxyNo(0), START, at(32)), None);
        assert_eq!(pool.answered(ProxyNo(0), at(31), at(32)), Some(ProxyChange::Back));
    }

    #[test]
    fn a_try_that_is_never_heard_of_again_is_made_again() {
        let mut pool = pool(&[10]);
        kill(&mut pool, 0, START);

        assert_eq!(first(&mut pool, at(30)), Some(0));
        assert_eq!(first(&mut pool, at(31)), None);
        // It died once, and would be left alone for twice the time now.
        assert_eq!(first(&mut pool, at(90)), Some(0));
    }
}

#[cfg(test)]
mod laws {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Fact {
        Sent,
        Answered { request: usize },
        Failed { request: usize },
        Passes { seconds: i64 },
    }

    fn facts() -> impl Strategy<Value = Vec<Fact>> {
        let fact = prop_oneof![
            3 => Just(Fact::Sent),
            2 => (0..8_usize).prop_map(|request| Fact::Answered { request }),
            3 => (0..8_usize).prop_map(|request| Fact::Failed { request }),
            1 => (0..100_i64).prop_map(|seconds| Fact::Passes { seconds }),
        ];
        prop::collection::vec(fact, 0..200)
    }

    proptest! {
        #[test]
        fn a_dead_proxy_is_left_alone_until_its_time_and_then_tried_by_one(
            facts in facts(), count in 1..4_usize
        ) {
            let policy = ProxyPolicy {
                failures: 2,
                cooldown: Duration::from_secs(10),
                max_cooldown: Duration::from_secs(40),
            };
            let mut pool = ProxyPool::new(policy, count);
            let mut now = Moment(0);
            let mut sent: Vec<(ProxyNo, Moment)> = Vec::new();
            for fact in facts {
                match fact {
                    Fact::Sent => {
                        let before = pool.clone();
                        if let Some(no) = pool.choose(&BTreeSet::new(), now) {
                            match before.health()[no.0].life {
                                Life::Alive => {}
                                Life::Dead { until } | Life::Tried { until, .. } => {
                                    prop_assert!(until <= now);
                                    prop_assert_ne!(pool.choose(&BTreeSet::new(), now), Some(no));
                                }
                            }
                            sent.push((no, now));
                        } else {
                            let alive = |proxy: &ProxyHealth| proxy.life == Life::Alive;
                            prop_assert!(!before.health().iter().any(alive));
                        }
                    }
                    Fact::Answered { request } if request < sent.len() => {
                        let (no, at) = sent.swap_remove(request);
                        pool.answered(no, at, now);
                    }
                    Fact::Failed { request } if request < sent.len() => {
                        let (no, at) = sent.swap_remove(request);
                        if let Some(
                            ProxyChange::Dead { cooldown } | ProxyChange::StillDead { cooldown },
                        ) = pool.failed(no, at, now)
                        {
                            prop_assert!(policy.cooldown <= cooldown);
                            prop_assert!(cooldown <= policy.max_cooldown);
                        }
                    }
                    Fact::Answered { .. } | Fact::Failed { .. } => {}
                    Fact::Passes { seconds } => now = now.after(Duration::from_secs(seconds.unsigned_abs())),
                }
            }
            // Whatever happened, each comes back in the end.
            let end = now.after(policy.max_cooldown);
            let mut tried = BTreeSet::new();
            while let Some(no) = pool.choose(&tried, end) {
                tried.insert(no);
            }
            prop_assert_eq!(tried.len(), count);
        }
    }
}
