//! Input of the metrics: plain values, collected outside this folder.

use cynosure_engine::alert::Severity;
use cynosure_engine::breaker::{BreakerState, BreakerStatistics};
use cynosure_engine::health::degradation::ProviderHealth;
use cynosure_engine::health::{HealthCheckReport, HostMetrics};
use cynosure_engine::metrics::{ItemTotals, SourceMetrics};
use cynosure_engine::{Status, Timestamp, rate_limit};

/// All values at one moment.
#[derive(Clone, Debug)]
pub struct MetricsSnapshot {
    pub taken_at: Timestamp,
    /// Version of this program.
    pub version: &'static str,
    /// Configured sources only: a source that was removed has no series any more.
    pub sources: Vec<SourceSnapshot>,
    pub providers: Vec<ProviderHealth>,
    pub breakers: Vec<BreakerSnapshot>,
    pub rate_limits: Vec<RateLimitSnapshot>,
    /// Last health report; `None` before the first one.
    pub report: Option<HealthCheckReport>,
    pub alerts: Vec<AlertCount>,
    /// `None` if the host could not be measured.
    pub system: Option<HostMetrics>,
    /// Units known to systemd; empty without systemd.
    pub units: Vec<UnitSnapshot>,
}

/// State and metrics of one source.
#[derive(Clone, Debug)]
pub struct SourceSnapshot {
    pub name: String,
    pub provider: String,
    pub kind: String,
    /// `None` without a readable state file.
    pub state: Option<SourceStateSnapshot>,
    /// `None` before anything was counted.
    pub metrics: Option<Box<SourceMetrics>>,
}

/// Content of the state file of a source. Counts of items are those of its session.
#[derive(Clone, Debug)]
pub struct SourceStateSnapshot {
    pub status: Status,
    pub state_since: Timestamp,
    pub until: Option<Timestamp>,
    pub last_progress: Timestamp,
    pub last_updated: Timestamp,
    pub is_running: bool,
    pub items: ItemTotals,
    pub waiting_for_retry: u64,
    pub items_per_second: Option<f64>,
    pub consecutive_errors: u32,
}

/// State of one circuit breaker.
#[derive(Clone, Debug)]
pub struct BreakerSnapshot {
    /// Name of the provider, or of what all sources share.
    pub name: String,
    pub state: BreakerState,
    /// Time at which an open breaker allows a probe; `None` also if it must be closed manually.
    pub until: Option<Timestamp>,
    pub statistics: BreakerStatistics,
}

/// State of one rate limiter.
#[derive(Clone, Debug)]
pub struct RateLimitSnapshot {
    /// Provider, and the host, account or route if that has its own limiter.
    pub scope: String,
    pub status: rate_limit::RateLimitStatus,
}

/// Number of firing alerts of one severity.
#[derive(Clone, Copy, Debug)]
pub struct AlertCount {
    pub severity: Severity,
    pub active: u64,
}

/// Status of a unit of workers, as reported by systemd.
#[derive(Clone, Debug)]
pub struct UnitSnapshot {
    pub name: String,
    /// True while the unit runs, or is between two runs.
    pub is_active: bool,
    /// Starts by systemd since the last manual start; `None` if they are not counted.
    pub restarts: Option<u64>,
}
