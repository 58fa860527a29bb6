//! Limiter layer between the sources and the network: a permit for every request.
//!
//! A source asks for a [`Permit`] with a scope and a cost, and reports what came back. It is the
//! same for every protocol. Each provider has one limiter, shared by its sources. Its state is kept
//! in `quota.json` of the state folder, for the next process and for other processes that use the
//! same provider.

mod config;
mod handle;
mod permit;
mod provider;
mod scope;
mod store;
#[cfg(test)]
mod tests;
mod wait_guard;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use crate::disk::LockedFile;
use crate::env::Env;

use self::provider::ProviderLimiter;
use self::store::LimiterStore;

pub use self::config::LimiterConfig;
pub use self::handle::LimiterHandle;
pub use self::permit::{AttemptKind, Permit, PermitRequest, QuotaScope, RequestLimiter, Unlimited};

/// All rate limiters of a process.
#[derive(Debug)]
pub struct RateLimiters<E: Env> {
    env: Rc<E>,
    store: Rc<RefCell<LimiterStore>>,
    limiters: RefCell<BTreeMap<String, Rc<ProviderLimiter<E>>>>,
}

impl<E: Env> RateLimiters<E> {
    /// Creates the limiters, which persist their state in `file`.
    #[must_use]
    pub fn new(env: Rc<E>, file: LockedFile) -> Self {
        let store = Rc::new(RefCell::new(LimiterStore::new(file)));
        Self { env, store, limiters: RefCell::default() }
    }

    /// Returns the limiter handle of an account for a provider.
    ///
    /// A changed configuration applies to all accounts that share the limiter.
    #[must_use]
    pub fn handle_for(
        &self,
        provider: &str,
        account: &str,
        config: LimiterConfig,
    ) -> Rc<LimiterHandle<E>> {
        let mut limiters = self.limiters.borrow_mut();
        let account = config.is_per_account.then(|| account.to_owned());
        let limiter = limiters.entry(provider.to_owned()).or_insert_with(|| {
            Rc::new(ProviderLimiter::new(
                provider,
                Rc::clone(&self.env),
                Rc::clone(&self.store),
                &config,
            ))
        });
        limiter.reconfigure(config);
        Rc::new(LimiterHandle::new(Rc::clone(limiter), account))
    }
}
