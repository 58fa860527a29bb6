//! How often one address may ask: a number of requests in each minute, counted from its first.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

/// The time in which requests are counted.
pub(super) const WINDOW: Duration = Duration::from_secs(60);

/// Addresses that are counted each for itself, about 400 KiB of them; those beyond share one count.
const CLIENTS_MAX: usize = 4096;

/// Who asks, and for what: programs that probe do not use up what a person's browser needs, and the
/// other way round, since both often are on this machine and have one address.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum RateLimitClass {
    /// `/health` and `/metrics`.
    Probe,
    /// The page, its stream, and everything below `/api/`.
    Dashboard,
    /// What is refused: behind a proxy all have one address, and strangers must not shut out the owner.
    Unauthenticated,
}

/// Whether a request is answered, and what is left.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct RateLimitDecision {
    pub(super) is_allowed: bool,
    /// Requests in each window.
    pub(super) quota: u32,
    /// Requests that are left in this one.
    pub(super) remaining: u32,
    /// Until the next one begins.
    pub(super) resets_in: Duration,
}

#[derive(Debug)]
pub(super) struct EndpointLimiter {
    quota: u32,
    clients: BTreeMap<(ClientKey, RateLimitClass), RequestWindow>,
    /// Of everyone for whom there was no room.
    overflow: RequestWindow,
}

/// Whoever has a network of IPv6 has all its addresses, so the network counts as one.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct ClientKey(IpAddr);

#[derive(Clone, Copy, Debug, Default)]
struct RequestWindow {
    started_at: Duration,
    used: u32,
}

impl EndpointLimiter {
    pub(super) fn new(quota: u32) -> Self {
        Self { quota, clients: BTreeMap::new(), overflow: RequestWindow::default() }
    }

    /// Counts a request; `now` is the time since any fixed moment.
    pub(super) fn check(
        &mut self,
        who: IpAddr,
        purpose: RateLimitClass,
        now: Duration,
    ) -> RateLimitDecision {
        let key = (ClientKey::from_ip(who), purpose);
        if self.clients.len() >= CLIENTS_MAX && !self.clients.contains_key(&key) {
            self.clients.retain(|_, window| !window.is_expired(now));
        }
        let fresh = RequestWindow { started_at: now, used: 0 };
        let window = if self.clients.len() < CLIENTS_MAX {
            self.clients.entry(key).or_insert(fresh)
        } else {
            self.clients.get_mut(&key).unwrap_or(&mut self.overflow)
        };
        if window.is_expired(now) {
            *window = fresh;
        }
        let is_granted = window.used < self.quota;
        window.used = window.used.saturating_add(1);
        RateLimitDecision {
            is_allowed: is_granted,
            quota: self.quota,
            remaining: self.quota.saturating_sub(window.used),
            resets_in: (window.started_at + WINDOW).saturating_sub(now),
        }
    }
}

impl RequestWindow {
    fn is_expired(&self, now: Duration) -> bool {
        self.started_at + WINDOW <= now
    }
}

impl ClientKey {
    fn from_ip(address: IpAddr) -> Self {
        match address.to_canonical() {
            v4 @ IpAddr::V4(_) => Self(v4),
            IpAddr::V6(v6) => {
                let [a, b, c, d, ..] = v6.segments();
                Self(IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Duration = Duration::from_secs(1000);

    fn v4(last: u32) -> IpAddr {
        IpAddr::V4((0x0a00_0000 + last).into())
    }

    fn is_allowed(limiter: &mut EndpointLimiter, who: IpAddr, times: u32, now: Duration) -> u32 {
        let asked = (0..times).map(|_| limiter.check(who, RateLimitClass::Dashboard, now));
        u32::try_from(asked.filter(|allowance| allowance.is_allowed).count()).unwrap()
    }

    #[test]
    fn a_window_allows_exactly_the_limit() {
        let mut limiter = EndpointLimiter::new(60);

        let first = limiter.check(v4(1), RateLimitClass::Dashboard, START);
        assert_eq!((first.is_allowed, first.remaining, first.resets_in), (true, 59, WINDOW));
        assert_eq!(is_allowed(&mut limiter, v4(1), 100, START), 59);

        let refused =
            limiter.check(v4(1), RateLimitClass::Dashboard, START + Duration::from_secs(20));
        assert_eq!((refused.is_allowed, refused.remaining), (false, 0));
        assert_eq!(refused.resets_in, Duration::from_secs(40));

        assert!(limiter.check(v4(1), RateLimitClass::Dashboard, START + WINDOW).is_allowed);
    }

    #[test]
    fn addresses_and_classes_are_counted_separately() {
        let mut limiter = EndpointLimiter::new(1);
        assert_eq!(is_allowed(&mut limiter, v4(1), 2, START), 1);

        assert!(limiter.check(v4(2), RateLimitClass::Dashboard, START).is_allowed);
        assert!(limiter.check(v4(1), RateLimitClass::Probe, START).is_allowed);
        assert!(!limiter.check(v4(1), RateLimitClass::Probe, START).is_allowed);
    }

    #[test]
    fn an_ipv6_network_counts_as_one_and_mapped_ipv4_as_ipv4() {
        let mut limiter = EndpointLimiter::new(1);
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        assert!(limiter.check(address("2001:db8::1"), RateLimitClass::Dashboard, START).is_allowed);

        assert!(
            !limiter.check(address("2001:db8::ffff"), RateLimitClass::Dashboard, START).is_allowed
        );
        assert!(
            limiter.check(address("2001:db8:0:1::1"), RateLimitClass::Dashboard, START).is_allowed
        );
        assert!(
            limiter.check(address("::ffff:10.0.0.9"), RateLimitClass::Dashboard, START).is_allowed
        );
        assert!(!limiter.check(v4(9), RateLimitClass::Dashboard, START).is_allowed);
    }

    #[test]
    fn many_addresses_use_bounded_memory_and_evict_no_client() {
        let mut limiter = EndpointLimiter::new(2);
        assert_eq!(is_allowed(&mut limiter, v4(0), 1, START), 1);
        for number in 0..20_000 {
            limiter.check(v4(1 + number), RateLimitClass::Dashboard, START);
        }
        assert_eq!(limiter.clients.len(), CLIENTS_MAX);

        assert_eq!(is_allowed(&mut limiter, v4(0), 2, START), 1, "its count still stands");
        assert!(
            !limiter.check(v4(30_000), RateLimitClass::Dashboard, START).is_allowed,
            "shares one count"
        );
        assert!(limiter.check(v4(30_000), RateLimitClass::Dashboard, START + WINDOW).is_allowed);
        assert!(limiter.clients.len() < CLIENTS_MAX, "what is over is forgotten");
    }
}
