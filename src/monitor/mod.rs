//! Monitor: watches the workers from outside, and lets systemd restart a unit that cannot recover
//! by itself.
//!
//! ```text
//! state, unit ─▶ StatusCollector ─▶ health::watch ─findings─▶ Monitor ─▶ systemd, monitor.json
//! ```
//!
//! The monitor changes no file of a worker. It only reads their state files, and records its own
//! actions in a separate file. A cycle ends within the time limits of its bus calls, so that a
//! watchdog can supervise it.

mod alert_delivery;
mod alert_dispatcher;
mod collect;
mod collect_metrics;
mod cycle;
mod health_evaluator;
mod health_files;
mod monitor_file;
mod status_collector;
mod trends;
mod unit_evaluation;

pub use self::alert_delivery::{AlertDelivery, DeliveryAttempt, OUTBOX_FILE, host_name};
pub use self::alert_dispatcher::AlertDispatcher;
pub use self::collect::{CollectConfig, Collectors, SourceIdentity};
pub use self::collect_metrics::collect_metrics;
pub use self::cycle::{CycleResult, Monitor, RestartPolicy, RestartRule};
pub use self::health_evaluator::{HealthEvaluator, HealthSnapshot};
pub use self::health_files::{
    ALERTS_FILE, DEGRADATION_FILE, HEALTH_FILE, HealthFiles, HealthRecord,
};
pub use self::monitor_file::{
    FindingRecord, MONITOR_FILE, MonitorFile, MonitorRecord, RestartCountSample, RestartOutcome,
    RestartRecord,
};
pub use self::status_collector::{SourceStates, StatusCollector};
pub use self::trends::{
    TREND_SERIES_MAX, TREND_STEP, TREND_STEPS_PER_DAY, TRENDS_FILE, TrendSamples, TrendSeries,
    TrendsFile, add_samples,
};
pub use self::unit_evaluation::{RestartAction, UnitEvaluation};

#[cfg(test)]
mod tests;
