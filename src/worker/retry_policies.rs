//! Named policies of quick retries, built from the configuration.

use crate::config::Settings;
use crate::retry::{RetryPolicy, RetryRegistry};

/// Retry policies of one source. Each counts its retries under its name in one registry.
#[derive(Clone, Debug)]
pub struct RetryPolicies {
    pub request: RetryPolicy,
    pub storage: RetryPolicy,
    pub listing: RetryPolicy,
    /// Policy for calls over D-Bus.
    pub dbus: RetryPolicy,
    pub registry: RetryRegistry,
}

impl RetryPolicies {
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        let (retry, registry) = (&settings.retry, RetryRegistry::default());
        let policy = |name, backoff| RetryPolicy::new(name, backoff).with_registry(&registry);
        Self {
            request: policy("request", retry.request),
            storage: policy("storage", retry.storage),
            listing: policy("collect", retry.collect),
            dbus: policy("bus", retry.bus),
            registry,
        }
    }
}
