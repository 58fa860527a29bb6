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
pub(super) enum Purpose {
    /// `/health` and `/metrics`.
    Probe,
    /// The page, its stream, and everything below `/api/`.
    Look,
    /// What is refused: behind a proxy all have one address, and strangers must not shut out the owner.
    Stranger,
}

/// Whether a request is answered, and what is left.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Allowance {
    pub(super) is_granted: bool,
    /// Requests in each window.
    pub(super) quota: u32,
    /// Requests that are left in this one.
    pub(super) left: u32,
    /// Until the next one begins.
    pub(super) resets_in: Duration,
}

#[derive(Debug)]
pub(super) struct Limiter {
    quota: u32,
    clients: BTreeMap<(Client, Purpose), Window>,
    /// Of everyone for whom there was no room.
    others: Window,
}

/// Whoever has a network of IPv6 has all its addresses, so the network counts as one.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Client(IpAddr);

#[derive(Clone, Copy, Debug, Default)]
struct Window {
    since: Duration,
    used: u32,
}

impl Limiter {
    pub(super) fn new(quota: u32) -> Self {
        Self { quota, clients: BTreeMap::new(), others: Window::default() }
    }

    /// Counts a request; `now` is the time since any fixed moment.
    pub(super) fn ask(&mut self, who: IpAddr, purpose: Purpose, now: Duration) -> Allowance {
        let key = (Client::of(who), purpose);
        if self.clients.len() >= CLIENTS_MAX && !self.clients.contains_key(&key) {
            self.clients.retain(|_, window| !window.is_over(now));
        }
        let fresh = Window { since: now, used: 0 };
        let window = if self.clients.len() < CLIENTS_MAX {
            self.clients.entry(key).or_insert(fresh)
        } else {
            self.clients.get_mut(&key).unwrap_or(&mut self.others)
        };
        if window.is_over(now) {
            *window = fresh;
        }
        let is_granted = window.used < self.quota;
        window.used = window.used.saturating_add(1);
        Allowance {
            is_granted,
            quota: self.quota,
            left: self.quota.saturating_sub(window.used),
            resets_in: (window.since + WINDOW).saturating_sub(now),
        }
    }
}

impl Window {
    fn is_over(&self, now: Duration) -> bool {
        self.since + WINDOW <= now
    }
}

impl Client {
    fn of(address: IpAddr) -> Self {
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

    fn granted(limiter: &mut Limiter, who: IpAddr, times: u32, now: Duration) -> u32 {
        let asked = (0..times).map(|_| limiter.ask(who, Purpose::Look, now));
        u32::try_from(asked.filter(|allowance| allowance.is_granted).count()).unwrap()
    }

    #[test]
    fn a_minute_holds_as_many_requests_as_it_may() {
        let mut limiter = Limiter::new(60);

        let first = limiter.ask(v4(1), Purpose::Look, START);
        assert_eq!((first.is_granted, first.left, first.resets_in), (true, 59, WINDOW));
        assert_eq!(granted(&mut limiter, v4(1), 100, START), 59);

        let refused = limiter.ask(v4(1), Purpose::Look, START + Duration::from_secs(20));
        assert_eq!((refused.is_granted, refused.left), (false, 0));
        assert_eq!(refused.resets_in, Duration::from_secs(40));

        assert!(limiter.ask(v4(1), Purpose::Look, START + WINDOW).is_granted);
    }

    #[test]
    fn addresses_and_purposes_are_counted_apart() {
        let mut limiter = Limiter::new(1);
        assert_eq!(granted(&mut limiter, v4(1), 2, START), 1);

        assert!(limiter.ask(v4(2), Purpose::Look, START).is_granted);
        assert!(limiter.ask(v4(1), Purpose::Probe, START).is_granted);
        assert!(!limiter.ask(v4(1), Purpose::Probe, START).is_granted);
    }

    #[test]
    fn a_network_of_ipv6_counts_as_one_and_a_mapped_address_as_what_it_is() {
        let mut limiter = Limiter::new(1);
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        assert!(limiter.ask(address("2001:db8::1"), Purpose::Look, START).is_granted);

        assert!(!limiter.ask(address("2001:db8::ffff"), Purpose::Look, START).is_granted);
        assert!(limiter.ask(address("2001:db8:0:1::1"), Purpose::Look, START).is_granted);
        assert!(limiter.ask(address("::ffff:10.0.0.9"), Purpose::Look, START).is_granted);
        assert!(!limiter.ask(v4(9), Purpose::Look, START).is_granted);
    }

    #[test]
    fn any_number_of_addresses_takes_bounded_memory_and_drives_nobody_out() {
        let mut limiter = Limiter::new(2);
        assert_eq!(granted(&mut limiter, v4(0), 1, START), 1);
        for number in 0..20_000 {
            limiter.ask(v4(1 + number), Purpose::Look, START);
        }
        assert_eq!(limiter.clients.len(), CLIENTS_MAX);

        assert_eq!(granted(&mut limiter, v4(0), 2, START), 1, "its count still stands");
        assert!(!limiter.ask(v4(30_000), Purpose::Look, START).is_granted, "shares one count");
        assert!(limiter.ask(v4(30_000), Purpose::Look, START + WINDOW).is_granted);
        assert!(limiter.clients.len() < CLIENTS_MAX, "what is over is forgotten");
    }
}
