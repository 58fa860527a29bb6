//! Setup shared by `check` and `monitor`, and the texts of restart actions.

use std::sync::Arc;
use std::time::Duration;

use cynosure_engine::{CrashLoop, Timestamp};

use crate::app::archive_check::archive_mismatch;
use crate::app::context::AppContext;
use crate::app::error::ProgramError;
use crate::app::exit::ProgramExit;
use crate::config::{Settings, SourceName};
use crate::disk::RealDisk;
use crate::human::format_deadline;
use crate::monitor::{
    AlertDelivery, CollectConfig, HealthEvaluator, Monitor, RestartAction, RestartPolicy,
    RestartRule, SourceIdentity, StatusCollector, UnitEvaluation, host_name,
};
use crate::retry::RetryPolicy;
use crate::systemd::{Bus, SYSTEM_BUS, UnitName};

/// Creates the monitor of the enabled sources.
///
/// # Errors
/// If the name of the unit is invalid.
pub(crate) fn build_monitor(
    context: &AppContext,
    policy: RestartPolicy,
) -> Result<Monitor, ProgramError> {
    let settings = &context.loaded.settings;
    let collector = StatusCollector {
        state_dir: context.state_dir.clone(),
        sources: enabled_source_names(settings),
        unit: worker_unit(settings)?,
        bus: systemd_bus(context),
    };
    Ok(Monitor::new(collector, settings.watch_limits(), policy))
}

/// Creates the health evaluator of the enabled sources.
///
/// # Errors
/// If the name of the unit is invalid.
pub(crate) fn build_health_evaluator(
    context: &AppContext,
    clock_stable_for: Duration,
) -> Result<HealthEvaluator, ProgramError> {
    let settings = &context.loaded.settings;
    let enabled = settings.sources.iter().filter(|(_, source)| source.is_enabled);
    let identities = enabled.map(|(name, source)| SourceIdentity {
        name: name.to_string(),
        provider: source.provider.clone(),
    });
    let config = CollectConfig {
        state_dir: context.state_dir.clone(),
        archive_dir: settings.archive.dir.clone(),
        sources: identities.collect(),
        archive_mismatch,
        unit: worker_unit(settings)?.as_str().to_owned(),
        has_proxy_pool: !settings.proxy.pool.is_empty(),
        journal_window: settings.health.thresholds.journal_window,
        timeout: settings.health.timeout,
    };
    Ok(HealthEvaluator { config, limits: settings.health_limits(clock_stable_for) })
}

/// Creates the alert delivery with the configured channels.
#[must_use]
pub(crate) fn alert_delivery(context: &AppContext) -> AlertDelivery {
    let settings = &context.loaded.settings;
    AlertDelivery {
        disk: Arc::new(RealDisk),
        state_dir: context.state_dir.clone(),
        alert_config: Arc::new(settings.alert.clone()),
        environment: Arc::new(context.environment.clone()),
        host_name: host_name(),
        sources: enabled_source_names(settings).into_iter().collect(),
    }
}

/// Returns the restarts that the configuration allows.
#[must_use]
pub(crate) fn restart_policy(settings: &Settings) -> RestartPolicy {
    let rule = |is_enabled: bool| {
        if is_enabled && settings.service.enable_auto_restart {
            RestartRule::Allowed
        } else {
            RestartRule::Denied
        }
    };
    RestartPolicy {
        stuck_worker: rule(settings.monitor.should_restart_stuck),
        failed_unit: rule(settings.monitor.should_restart_failed),
    }
}

/// Returns the unit of the worker.
///
/// # Errors
/// If its name is invalid.
pub(crate) fn worker_unit(settings: &Settings) -> Result<UnitName, ProgramError> {
    let name = &settings.service.service_name;
    name.parse().map_err(|error: crate::systemd::InvalidUnitName| {
        ProgramError::new(ProgramExit::Configuration, format!("service.service_name: {error}"))
    })
}

/// Creates the D-Bus client for systemd, with the configured timeout of a call.
#[must_use]
pub(crate) fn systemd_bus(context: &AppContext) -> Bus {
    systemd_bus_with_timeout(context, context.loaded.settings.monitor.bus_timeout)
}

/// Creates the D-Bus client for systemd, with this timeout of a call.
#[must_use]
pub(crate) fn systemd_bus_with_timeout(context: &AppContext, timeout: Duration) -> Bus {
    let address = context.environment.get("DBUS_SYSTEM_BUS_ADDRESS");
    let address = address.and_then(|address| address.to_str()).filter(|text| !text.is_empty());
    let retry_policy = RetryPolicy::new("bus", context.loaded.settings.retry.bus);
    Bus::new(address.unwrap_or(SYSTEM_BUS), timeout, retry_policy)
}

/// Returns the restart actions of all units, as text; `None` if no unit needs a restart.
#[must_use]
pub(crate) fn restart_summary(units: &[UnitEvaluation], now: Timestamp) -> Option<String> {
    let texts: Vec<String> =
        units.iter().filter_map(|unit| restart_action_text(&unit.action, now)).collect();
    (!texts.is_empty()).then(|| texts.join("; "))
}

/// Returns the restart action of one unit, as text; `None` if it needs no restart.
#[must_use]
pub(crate) fn restart_action_text(action: &RestartAction, now: Timestamp) -> Option<String> {
    Some(match action {
        RestartAction::None => return None,
        RestartAction::Denied => {
            "a restart would help, but automatic restarts are disabled".to_owned()
        }
        RestartAction::BudgetUnavailable { failure } => {
            format!("no restart, because the restart budget is unavailable: {failure}")
        }
        RestartAction::Requested { permit, reason } => {
            let count = match permit.crash_loop {
                CrashLoop::NotDetected => {
                    format!("restart {} in a row", permit.consecutive_restarts)
                }
                CrashLoop::Detected | CrashLoop::Ongoing => {
                    format!("restart {} in a row: a crash loop", permit.consecutive_restarts)
                }
            };
            format!("asked systemd for a restart ({count}), reason: {reason}")
        }
        RestartAction::Delayed { not_before, reason } => {
            let deadline = format_deadline(*not_before, now);
            format!("the next restart is allowed at {deadline}, reason: {reason}")
        }
        RestartAction::Rejected { error, .. } => {
            format!("systemd rejected a restart: {error}; {}", error.advice())
        }
    })
}

fn enabled_source_names(settings: &Settings) -> Vec<String> {
    settings.enabled_sources().map(SourceName::to_string).collect()
}
