//! The named policies of quick retries, as the configuration wants them.

use crate::config::Settings;
use crate::retry::{RetryPolicy, RetryRegistry};

/// The policies of one source. They count together, each under its name.
#[derive(Clone, Debug)]
pub struct RetryPolicies {
    pub request: RetryPolicy,
    pub storage: RetryPolicy,
    pub listing: RetryPolicy,
    /// For calls over D-Bus.
    pub dbus: RetryPolicy,
    pub registry: RetryRegistry,
}

impl RetryPolicies {
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        let (retry, registry) = (&settings.retry, RetryRegistry::default());
        let policy = |name, shape| RetryPolicy::new(name, shape).with_registry(&registry);
        Self {
            request: policy("request", retry.request),
            storage: policy("storage", retry.storage),
            listing: policy("collect", retry.collect),
            dbus: policy("bus", retry.bus),
            registry,
        }
    }
}
