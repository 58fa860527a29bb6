//! Validated settings: their users need no further checks.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use cynosure_engine::breaker::BreakerPolicy;
use cynosure_engine::health::HealthLimits;
use cynosure_engine::health::watch::WatchLimits;
use cynosure_engine::rate_limit::RateLimitPolicy;
use cynosure_engine::user_input::closest_match;
use cynosure_engine::{Backoff, ErrorRule, ItemRetryPolicy, MachineConfig};

use super::alert::AlertSettings;
use super::endpoint::EndpointSettings;
use super::health::HealthSettings;
use super::provider::ProviderSettings;
use super::proxy::ProxySettings;
use super::request::RequestSettings;
use super::retry::RetrySettings;
use super::source::{SourceName, SourceSettings};
use super::telemetry::TelemetrySettings;

/// Longest duration of a start or a stop of the unit; the unit's own limits are shorter.
const UNIT_TRANSITION_MAX: Duration = Duration::from_secs(300);

/// Longest wait after a rate limit when neither the server nor the configuration gives one.
const RATE_LIMIT_WAIT_MAX: Duration = Duration::from_secs(300);

/// All settings of `config.toml`. That file gives units and reasons beside each setting.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    pub restart: RestartSettings,
    pub service: ServiceSettings,
    /// `[backoff]`, with the limits of `[restart]`.
    pub backoff: Backoff,
    pub request: RequestSettings,
    pub retry: RetrySettings,
    pub proxy: ProxySettings,
    pub item: ItemRetryPolicy,
    pub breaker: BreakerPolicy,
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

    /// Returns the configuration of a source's state machine.
    #[must_use]
    pub fn machine_config(&self, source: &SourceSettings) -> MachineConfig {
        let restart = &self.restart;
        MachineConfig {
            backoff: self.backoff.clone(),
            max_retries: if self.service.enable_retry_logic { restart.max_retries } else { 0 },
            max_consecutive_errors: restart.max_consecutive_errors,
            rate_limit_duration: restart.rate_limit_duration.unwrap_or(RATE_LIMIT_WAIT_MAX),
            stuck_threshold: restart.stuck_threshold,
            max_execution_time: restart.max_execution_time,
            restart_delay_success: restart.restart_delay_success,
            restart_delay_auth: restart.restart_delay_auth,
            restart_delay_errors: restart.restart_delay_errors,
            recovery_timeout: self.breaker.recovery_timeout,
            poll_interval: source.poll_interval,
        }
    }

    /// Returns the limits by which the monitor judges units and workers. The clock counts as stable
    /// until the monitor knows better.
    #[must_use]
    pub fn watch_limits(&self) -> WatchLimits {
        WatchLimits {
            grace: self.monitor.grace_period,
            stuck_threshold: self.restart.stuck_threshold,
            max_consecutive_errors: self.restart.max_consecutive_errors,
            max_transition: UNIT_TRANSITION_MAX,
            max_starts: self.health.thresholds.restarts,
            clock_stable_for: Duration::MAX,
        }
    }

    /// Returns the limits of the health checks, on a clock that has been stable for this time.
    #[must_use]
    pub fn health_limits(&self, clock_stable_for: Duration) -> HealthLimits {
        HealthLimits {
            thresholds: self.health.thresholds.clone(),
            max_session_age: self.restart.max_execution_time,
            clock_stable_for,
        }
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
            bytes_per_day: provider.bytes_per_day,
            ..RateLimitPolicy::default()
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
