//! The gates before the providers: what the engine decides about quotas, put before every request.
//!
//! One gate per provider, shared by its sources. What a gate knows is in `quota.json` of
//! the state folder, where the next process finds it, and other processes that ask the
//! same provider meanwhile.

mod limiter;
mod scope;
mod store;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use crate::config::{Provider, SharedBy};
use crate::disk::LockedFile;
use crate::engine::rate_limit::RateLimitPolicy;
use crate::worker::env::Env;

use self::limiter::ProviderLimiter;
use self::store::LimiterStore;

pub use self::limiter::LimiterHandle;

/// What a gate decides by.
#[derive(Clone, Debug, PartialEq)]
pub struct RateLimitConfig {
    pub provider: Provider,
    pub policy: RateLimitPolicy,
}

impl RateLimitConfig {
    /// The rules of the provider's quota, or of that of one route.
    fn policy_for(&self, route: Option<&str>) -> RateLimitPolicy {
        let mut routes = self.provider.routes.iter();
        let route = routes.find(|known| Some(known.path.as_str()) == route);
        // The cap is in units of the provider's own quota.
        let cap = route.map_or(self.policy.cap, |route| route.budget);
        RateLimitPolicy { cap, ..self.policy.clone() }
    }
}

/// All gates of a process.
#[derive(Debug)]
pub struct RateLimiters<W: Env> {
    env: Rc<W>,
    store: Rc<RefCell<LimiterStore>>,
    limiters: RefCell<BTreeMap<String, Rc<ProviderLimiter<W>>>>,
}

impl<W: Env> RateLimiters<W> {
    /// Gates that remember in `file`.
    #[must_use]
    pub fn new(world: Rc<W>, file: LockedFile) -> Self {
        let file = Rc::new(RefCell::new(LimiterStore::new(file)));
        Self { env: world, store: file, limiters: RefCell::default() }
    }

    /// Returns the gate through which an account asks a provider.
    ///
    /// Rules that have changed since the last time count for all who pass it.
    #[must_use]
    pub fn handle_for(
        &self,
        provider: &str,
        account: &str,
        rules: RateLimitConfig,
    ) -> Rc<LimiterHandle<W>> {
        let mut keepers = self.limiters.borrow_mut();
        let account = match rules.provider.shared_by {
            SharedBy::Provider => None,
            SharedBy::Account => Some(account.to_owned()),
        };
        let keeper = keepers.entry(provider.to_owned()).or_insert_with(|| {
            Rc::new(ProviderLimiter::new(
                provider,
                Rc::clone(&self.env),
                Rc::clone(&self.store),
                &rules,
            ))
        });
        keeper.reconfigure(rules);
        Rc::new(LimiterHandle::new(Rc::clone(keeper), account))
    }
}

/// A closed gate is waited for inside a request only this long; what is longer is a state of the source.
const BLOCKED_WAIT_MAX: Duration = Duration::from_secs(5);

/// A request whose turn comes later than this is better told so: nothing else happens meanwhile.
const PACED_WAIT_MAX: Duration = Duration::from_secs(60);
