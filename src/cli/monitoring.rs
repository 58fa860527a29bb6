//! What `check` and `monitor` share: who watches, and how what it did is told.

use std::sync::Arc;
use std::time::Duration;

use crate::cli::archive_check::archive_mismatch;
use crate::cli::context::AppContext;
use crate::cli::error::CliError;
use crate::cli::exit::ProgramExit;
use crate::config::{HealthSettings, Settings, SourceName};
use crate::disk::RealDisk;
use crate::engine::health::HealthLimits;
use crate::engine::watch::WatchLimits;
use crate::engine::{CrashLoop, Timestamp};
use crate::human::format_deadline;
use crate::monitor::{
    AlertDelivery, CollectConfig, HealthEvaluator, Monitor, RestartAction, RestartPolicy,
    RestartRule, SourceIdentity, StatusCollector, UnitEvaluation, host_name,
};
use crate::retry::RetryPolicy;
use crate::systemd::{Bus, SYSTEM_BUS, UnitName};

/// How long a start or a stop of the unit may take: its own time limits are shorter.
const UNIT_TRANSITION_MAX: Duration = Duration::from_secs(300);

/// Finds who watches the sources of the configuration.
///
/// # Errors
/// When the unit's name cannot be one.
pub(super) fn build_monitor(
    ground: &AppContext,
    powers: RestartPolicy,
) -> Result<Monitor, CliError> {
    let settings = &ground.loaded.settings;
    let lookout = StatusCollector {
        disk: Arc::new(RealDisk),
        state_dir: ground.state_dir.clone(),
        sources: enabled_source_names(settings),
        unit: worker_unit(settings)?,
        bus: systemd_bus(ground),
    };
    let limits = WatchLimits {
        grace: settings.monitor.grace_period,
        stuck_threshold: settings.restart.stuck_threshold,
        max_consecutive_errors: settings.restart.max_consecutive_errors,
        max_transition: UNIT_TRANSITION_MAX,
        max_starts: settings.health.thresholds.restarts,
        clock_stable_for: Duration::MAX,
    };
    Ok(Monitor::new(lookout, limits, powers))
}

/// Finds out what a look at the health of everything is to look at.
///
/// # Errors
/// When the unit's name cannot be one.
pub(super) fn health_evaluation(
    ground: &AppContext,
    clock_kept: Duration,
) -> Result<HealthEvaluator, CliError> {
    let settings = &ground.loaded.settings;
    let HealthSettings { thresholds, timeout } = settings.health.clone();
    let enabled = settings.sources.iter().filter(|(_, source)| source.is_enabled);
    let named = enabled.map(|(name, source)| SourceIdentity {
        name: name.to_string(),
        provider: source.provider.clone(),
    });
    let scope = CollectConfig {
        state_dir: ground.state_dir.clone(),
        archive_dir: settings.archive.dir.clone(),
        sources: named.collect(),
        archive_mismatch: archive_mismatch,
        unit: worker_unit(settings)?.as_str().to_owned(),
        has_proxy_pool: !settings.proxy.pool.is_empty(),
        journal_window: thresholds.journal_window,
        timeout,
    };
    let bounds = HealthLimits {
        thresholds,
        max_session_age: settings.restart.max_execution_time,
        grace: settings.monitor.grace_period,
        clock_stable_for: clock_kept,
        stuck_threshold: settings.restart.stuck_threshold,
        max_transition: UNIT_TRANSITION_MAX,
    };
    Ok(HealthEvaluator { config: scope, limits: bounds })
}

/// Those who are told.
#[must_use]
pub(super) fn alert_delivery(ground: &AppContext) -> AlertDelivery {
    let settings = &ground.loaded.settings;
    AlertDelivery {
        disk: Arc::new(RealDisk),
        state_dir: ground.state_dir.clone(),
        alert_config: Arc::new(settings.alert.clone()),
        environment: Arc::new(ground.environment.clone()),
        host_name: host_name(),
        sources: enabled_source_names(settings).into_iter().collect(),
    }
}

/// What the configuration lets a watcher do.
#[must_use]
pub(super) fn restart_policy(settings: &Settings) -> RestartPolicy {
    let permit = |switch: bool| {
        if switch && settings.service.enable_auto_restart {
            RestartRule::Allowed
        } else {
            RestartRule::Denied
        }
    };
    RestartPolicy {
        stuck_worker: permit(settings.monitor.should_restart_stuck),
        failed_unit: permit(settings.monitor.should_restart_failed),
    }
}

/// The unit of the worker.
///
/// # Errors
/// When its name cannot be one.
pub(super) fn worker_unit(settings: &Settings) -> Result<UnitName, CliError> {
    let name = &settings.service.service_name;
    name.parse().map_err(|wrong: crate::systemd::InvalidUnitName| {
        CliError::new(ProgramExit::Configuration, format!("service.service_name: {wrong}"))
    })
}

/// The way to systemd.
#[must_use]
pub(super) fn systemd_bus(ground: &AppContext) -> Bus {
    systemd_bus_with_timeout(ground, ground.loaded.settings.monitor.bus_timeout)
}

/// The same, for whoever has no more than this time for a call.
#[must_use]
pub(super) fn systemd_bus_with_timeout(ground: &AppContext, timeout: Duration) -> Bus {
    let address = ground.environment.get("DBUS_SYSTEM_BUS_ADDRESS");
    let address = address.and_then(|address| address.to_str()).filter(|text| !text.is_empty());
    let again = RetryPolicy::new("bus", ground.loaded.settings.retry.bus);
    Bus::new(address.unwrap_or(SYSTEM_BUS), timeout, again)
}

/// What was done about the findings, in a sentence for each unit; `None` where nothing was called for.
#[must_use]
pub(super) fn restart_summary(units: &[UnitEvaluation], now: Timestamp) -> Option<String> {
    let told: Vec<String> =
        units.iter().filter_map(|judged| restart_action_text(&judged.action, now)).collect();
    (!told.is_empty()).then(|| told.join("; "))
}

/// What was done about one unit.
#[must_use]
pub(super) fn restart_action_text(act: &RestartAction, now: Timestamp) -> Option<String> {
    Some(match act {
        RestartAction::None => return None,
        RestartAction::Denied => "a restart would help, and is switched off".to_owned(),
        RestartAction::BudgetUnavailable { failure } => {
            format!(
                "a restart would help, and cannot be counted, so that it is left out: {failure}"
            )
        }
        RestartAction::Requested { grant, reason: why } => {
            let count = match grant.crash_loop {
                CrashLoop::NotDetected => {
                    format!("restart {} in a row", grant.consecutive_restarts)
                }
                CrashLoop::Detected | CrashLoop::Ongoing => {
                    format!("restart {} in a row: a crash loop", grant.consecutive_restarts)
                }
            };
            format!("asked systemd for a restart ({count}), since {why}")
        }
        RestartAction::Delayed { not_before: at, reason: why } => {
            format!("the next restart is allowed at {}: {why}", format_deadline(*at, now))
        }
        RestartAction::Rejected { error, .. } => format!("{error}; {}", error.advice()),
    })
}

fn enabled_source_names(settings: &Settings) -> Vec<String> {
    settings.enabled_sources().map(SourceName::to_string).collect()
}
