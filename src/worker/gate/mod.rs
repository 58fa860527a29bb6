//! The gates before the providers: what the engine decides about quotas, put before every request.
//!
//! One gate per provider, shared by its sources. What a gate knows is in `quota.json` of
//! the state folder, where the next process finds it, and other processes that ask the
//! same provider meanwhile.

mod door;
mod file;
mod scope;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use crate::config::{Provider, SharedBy};
use crate::disk::SharedFile;
use crate::engine::quota::QuotaPolicy;
use crate::worker::world::World;

use self::door::Keeper;
use self::file::QuotaFile;

pub use self::door::Door;

/// What a gate decides by.
#[derive(Clone, Debug, PartialEq)]
pub struct GateRules {
    pub provider: Provider,
    pub policy: QuotaPolicy,
}

impl GateRules {
    /// The rules of the provider's quota, or of that of one route.
    fn policy_of(&self, route: Option<&str>) -> QuotaPolicy {
        let mut routes = self.provider.routes.iter();
        let route = routes.find(|known| Some(known.path.as_str()) == route);
        // The cap is in units of the provider's own quota.
        let cap = route.map_or(self.policy.cap, |route| route.budget);
        QuotaPolicy { cap, ..self.policy.clone() }
    }
}

/// All gates of a process.
#[derive(Debug)]
pub struct Gates<W: World> {
    world: Rc<W>,
    file: Rc<RefCell<QuotaFile>>,
    keepers: RefCell<BTreeMap<String, Rc<Keeper<W>>>>,
}

impl<W: World> Gates<W> {
    /// Gates that remember in `file`.
    #[must_use]
    pub fn new(world: Rc<W>, file: SharedFile) -> Self {
        let file = Rc::new(RefCell::new(QuotaFile::new(file)));
        Self { world, file, keepers: RefCell::default() }
    }

    /// Returns the gate through which an account asks a provider.
    ///
    /// Rules that have changed since the last time count for all who pass it.
    #[must_use]
    pub fn of(&self, provider: &str, account: &str, rules: GateRules) -> Rc<Door<W>> {
        let mut keepers = self.keepers.borrow_mut();
        let account = match rules.provider.shared_by {
            SharedBy::Provider => None,
            SharedBy::Account => Some(account.to_owned()),
        };
        let keeper = keepers.entry(provider.to_owned()).or_insert_with(|| {
            Rc::new(Keeper::new(provider, Rc::clone(&self.world), Rc::clone(&self.file), &rules))
        });
        keeper.rule(rules);
        Rc::new(Door::new(Rc::clone(keeper), account))
    }
}

/// A closed gate is waited for inside a request only this long; what is longer is a state of the source.
const HELD_PATIENCE: Duration = Duration::from_secs(5);

/// A request whose turn comes later than this is better told so: nothing else happens meanwhile.
const PACED_PATIENCE: Duration = Duration::from_secs(60);
