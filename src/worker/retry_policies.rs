//! The named policies of quick retries, as the configuration wants them.

use crate::config::Settings;
use crate::retry::{Policy, Registry};

/// The policies of one source. They count together, each under its name.
#[derive(Clone, Debug)]
pub struct RetryPolicies {
    pub request: Policy,
    pub storage: Policy,
    pub listing: Policy,
    /// For calls over D-Bus.
    pub dbus: Policy,
    pub registry: Registry,
}

impl RetryPolicies {
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        let (retry, registry) = (&settings.retry, Registry::default());
        let policy = |name, shape| Policy::new(name, shape).counted_in(&registry);
        Self {
            request: policy("request", retry.request),
            storage: policy("storage", retry.storage),
            listing: policy("collect", retry.collect),
            dbus: policy("bus", retry.bus),
            registry,
        }
    }
}
