//! Rate limiter by client address: a number of requests per minute, in windows that start with a
//! request.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

/// Duration of a window.
pub(super) const WINDOW: Duration = Duration::from_secs(60);

/// Clients that are counted separately, in about 400 KiB; any further ones share one window.
const CLIENTS_MAX: usize = 4096;

/// Class of requests with a separate limit. Monitoring programs and a browser often run on this
/// machine and share one address; neither may use up the limit of the other.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum RateLimitClass {
    /// `/health` and `/metrics`.
    Probe,
    /// The page, its stream, and everything below `/api/`.
    Dashboard,
    /// Requests that fail authorization. Behind a proxy all clients share one address, and
    /// unauthenticated ones must not lock out the others.
    Unauthenticated,
}

/// Decision about one request, with the state of its window.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct RateLimitDecision {
    pub(super) is_allowed: bool,
    /// Requests allowed per window.
    pub(super) quota: u32,
    /// Requests remaining in the current window.
    pub(super) remaining: u32,
    /// Time until the window ends.
    pub(super) resets_in: Duration,
}

#[derive(Debug)]
pub(super) struct EndpointLimiter {
    quota: u32,
    clients: BTreeMap<(ClientKey, RateLimitClass), RequestWindow>,
    /// Shared window of the clients beyond [`CLIENTS_MAX`].
    overflow: RequestWindow,
}

/// Address under which a client is counted. An IPv6 /64 network counts as one, because a client can
/// use all its addresses.
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

    /// Counts a request and decides on it. `now` is the time since any fixed start.
    pub(super) fn check(
        &mut self,
        address: IpAddr,
        class: RateLimitClass,
        now: Duration,
    ) -> RateLimitDecision {
        let key = (ClientKey::from_ip(address), class);
        if self.clients.len() >= CLIENTS_MAX && !self.clients.contains_key(&key) {
            self.clients.retain(|_, window| !window.is_expired(now));
        }
        let new_window = RequestWindow { started_at: now, used: 0 };
        let window = if self.clients.len() < CLIENTS_MAX {
            self.clients.entry(key).or_insert(new_window)
        } else {
            self.clients.get_mut(&key).unwrap_or(&mut self.overflow)
        };
        if window.is_expired(now) {
            *window = new_window;
        }
        let is_allowed = window.used < self.quota;
        window.used = window.used.saturating_add(1);
        RateLimitDecision {
            is_allowed,
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

    fn count_allowed(
        limiter: &mut EndpointLimiter,
        address: IpAddr,
        times: u32,
        now: Duration,
    ) -> u32 {
        let decisions = (0..times).map(|_| limiter.check(address, RateLimitClass::Dashboard, now));
        u32::try_from(decisions.filter(|decision| decision.is_allowed).count()).unwrap()
    }

    #[test]
    fn a_window_allows_exactly_the_limit() {
        let mut limiter = EndpointLimiter::new(60);

        let first = limiter.check(v4(1), RateLimitClass::Dashboard, START);
        assert_eq!((first.is_allowed, first.remaining, first.resets_in), (true, 59, WINDOW));
        assert_eq!(count_allowed(&mut limiter, v4(1), 100, START), 59);

        let rejected =
            limiter.check(v4(1), RateLimitClass::Dashboard, START + Duration::from_secs(20));
        assert_eq!((rejected.is_allowed, rejected.remaining), (false, 0));
        assert_eq!(rejected.resets_in, Duration::from_secs(40));

        assert!(limiter.check(v4(1), RateLimitClass::Dashboard, START + WINDOW).is_allowed);
    }

    #[test]
    fn addresses_and_classes_are_counted_separately() {
        let mut limiter = EndpointLimiter::new(1);
        assert_eq!(count_allowed(&mut limiter, v4(1), 2, START), 1);

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
        assert_eq!(count_allowed(&mut limiter, v4(0), 1, START), 1);
        for number in 0..20_000 {
            limiter.check(v4(1 + number), RateLimitClass::Dashboard, START);
        }
        assert_eq!(limiter.clients.len(), CLIENTS_MAX);

        assert_eq!(count_allowed(&mut limiter, v4(0), 2, START), 1, "its window is kept");
        assert!(
            !limiter.check(v4(30_000), RateLimitClass::Dashboard, START).is_allowed,
            "shares one window"
        );
        assert!(limiter.check(v4(30_000), RateLimitClass::Dashboard, START + WINDOW).is_allowed);
        assert!(limiter.clients.len() < CLIENTS_MAX, "expired windows are removed");
    }
}
