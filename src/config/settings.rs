//! Validated settings: their users need no further checks.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use cynosure_engine::ErrorRule;
use cynosure_engine::rate_limit::RateLimitPolicy;
use cynosure_engine::user_input::closest_match;

use super::alert::AlertSettings;
use super::endpoint::EndpointSettings;
use super::health::HealthSettings;
use super::provider::ProviderSettings;
use super::proxy::ProxySettings;
use super::request::RequestSettings;
use super::retry::RetrySettings;
use super::source::{SourceName, SourceSettings};
use super::telemetry::TelemetrySettings;

/// All settings of `config.toml`. That file gives units and reasons beside each setting.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    pub restart: RestartSettings,
    pub service: ServiceSettings,
    pub backoff: BackoffSettings,
    pub request: RequestSettings,
    pub retry: RetrySettings,
    pub proxy: ProxySettings,
    pub item: ItemSettings,
    pub breaker: BreakerSettings,
    pub archive: ArchiveSettings,
    pub monitor: MonitorSettings,
    pub health: HealthSettings,
    pub alert: AlertSettings,
    pub endpoint: EndpointSettings,
    pub telemetry: TelemetrySettings,
    pub sources: BTreeMap<SourceName, SourceSettings>,
    pub providers: BTreeMap<String, ProviderSettings>,
}

/// `[restart]`: retries of a session, and restarts of the unit.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RestartSettings {
    pub max_retries: u32,
    pub retry_delay_base: Duration,
    pub retry_delay_multiplier: u32,
    /// Never shorter than `retry_delay_base`.
    pub max_retry_delay: Duration,
    /// May be zero; other durations may not, unless their comment allows it.
    pub restart_delay_success: Duration,
    pub restart_delay_auth: Duration,
    pub restart_delay_errors: Duration,
    pub max_execution_time: Duration,
    pub max_consecutive_errors: u32,
    /// `None`: the delays grow until the server's rate is found.
    pub rate_limit_duration: Option<Duration>,
    pub stuck_threshold: Duration,
    pub health_check_interval: Duration,
}

/// `[service]`: name of the unit, and switches for the automatic actions of the worker.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ServiceSettings {
    /// The unit's name without `.service`.
    pub service_name: String,
    pub enable_health_monitoring: bool,
    pub enable_auto_restart: bool,
    pub enable_retry_logic: bool,
}

/// `[backoff]`: exponential delays between retries.
#[derive(Clone, Debug, PartialEq)]
pub struct BackoffSettings {
    pub base: BackoffDelays,
    /// Share of the base delay, from 0 to 1, by which a delay is varied up or down.
    pub jitter: f64,
    pub max_doublings: u32,
}

/// `[backoff.base]`: the first delay, per cause.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BackoffDelays {
    pub transient: Duration,
    pub rate_limit: Duration,
    pub proxy: Duration,
    pub challenge: Duration,
    pub source_down: Duration,
    pub unknown: Duration,
}

/// `[item]`: attempts for one item before it is quarantined, and rechecks after that.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ItemSettings {
    pub max_attempts: u32,
    pub retry_delay: Duration,
    /// Never shorter than `retry_delay`.
    pub max_retry_delay: Duration,
    pub recheck_delay: Duration,
    /// Never shorter than `recheck_delay`.
    pub max_recheck_delay: Duration,
}

/// `[breaker]`: thresholds and timeouts of the circuit breakers.
#[derive(Clone, Debug, PartialEq)]
pub struct BreakerSettings {
    pub failure_threshold: u32,
    pub window: Duration,
    /// The share of failed calls in the window, from 0 to 1.
    pub failure_rate_threshold: f64,
    pub min_calls: u32,
    pub recovery_timeout: Duration,
    /// Never shorter than `recovery_timeout`.
    pub max_recovery_timeout: Duration,
    pub success_threshold: u32,
}

/// `[archive]`: storage of the documents.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ArchiveSettings {
    /// Absolute path.
    pub dir: PathBuf,
}

/// `[monitor]`: the second process, which watches the workers and may restart them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MonitorSettings {
    pub interval: Duration,
    /// Time after its deadline in which a worker may still act.
    pub grace_period: Duration,
    /// Restarts a worker that is stuck: its process exists, and its deadline has passed by more than
    /// `grace_period`.
    pub should_restart_stuck: bool,
    /// Restarts a unit that has failed, or hangs while it starts.
    pub should_restart_failed: bool,
    /// Time limit of one call over D-Bus.
    pub bus_timeout: Duration,
}

impl Settings {
    /// Returns the names of the enabled sources.
    pub fn enabled_sources(&self) -> impl Iterator<Item = &SourceName> {
        self.sources.iter().filter(|(_, source)| source.is_enabled).map(|(name, _)| name)
    }

    /// Finds a source by name.
    ///
    /// # Errors
    ///
    /// If no source has this name. The error suggests a similar name, or lists the known ones.
    pub fn find_source(
        &self,
        name: &str,
    ) -> Result<(&SourceName, &SourceSettings), UnknownSourceError> {
        self.sources.get_key_value(name).ok_or_else(|| {
            let known: Vec<String> = self.sources.keys().map(ToString::to_string).collect();
            UnknownSourceError { name: name.to_owned(), known_sources: known }
        })
    }

    /// Returns the settings of a provider, or the defaults if the configuration does not name it.
    #[must_use]
    pub fn provider_or_default(&self, name: &str) -> ProviderSettings {
        self.providers
            .get(name)
            .cloned()
            .unwrap_or_else(|| ProviderSettings::with_defaults(&self.request))
    }

    /// Returns the rate limit policy of a provider.
    #[must_use]
    pub fn rate_limit_policy(&self, provider: &str) -> RateLimitPolicy {
        let provider = self.provider_or_default(provider);
        RateLimitPolicy {
            mode: provider.mode,
            cap: provider.cap,
            reserve: provider.reserve,
            max_wait: provider.max_wait,
            initial_block: self.restart.rate_limit_duration,
        }
    }

    /// Returns a provider's configured error rules, which are tried before the built-in ones.
    #[must_use]
    pub fn error_rules(&self, provider: &str) -> &[ErrorRule] {
        self.providers.get(provider).map_or(&[], |provider| &provider.error_rules)
    }
}

/// Error for a name that no source of the configuration has.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct UnknownSourceError {
    name: String,
    known_sources: Vec<String>,
}

impl fmt::Display for UnknownSourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "there is no source {:?} in the configuration; ", self.name)?;
        let known = self.known_sources.iter().map(String::as_str);
        match closest_match(&self.name, known) {
            Some(suggestion) => write!(f, "did you mean {suggestion}?"),
            None if self.known_sources.is_empty() => {
                write!(f, "add a [source.NAME] table to it first")
            }
            None => write!(f, "it has {}", self.known_sources.join(", ")),
        }
    }
}

impl Error for UnknownSourceError {}
