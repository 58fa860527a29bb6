//! What metrics are made of: plain values, gathered by whoever can see them.

use crate::engine::alert::Severity;
use crate::engine::breaker::{BreakerState, BreakerStatistics};
use crate::engine::degradation::ProviderHealth;
use crate::engine::health::{HealthCheckReport, HostMetrics};
use crate::engine::metrics::SourceMetrics;
use crate::engine::{Status, Timestamp, rate_limit};

/// Everything at one moment.
#[derive(Clone, Debug)]
pub struct MetricsSnapshot {
    pub taken_at: Timestamp,
    /// The version of this program.
    pub version: &'static str,
    /// The sources of the configuration, and no others: what left it has no series any more.
    pub sources: Vec<SourceSnapshot>,
    pub providers: Vec<ProviderHealth>,
    pub breakers: Vec<BreakerSnapshot>,
    pub rate_limits: Vec<RateLimitSnapshot>,
    /// What the checks last found; `None` before the first time.
    pub report: Option<HealthCheckReport>,
    pub alerts: Vec<AlertCount>,
    /// `None` where the machine could not be looked at.
    pub system: Option<HostMetrics>,
    /// Those of which systemd tells: none without it.
    pub units: Vec<UnitSnapshot>,
}

/// One source.
#[derive(Clone, Debug)]
pub struct SourceSnapshot {
    pub name: String,
    pub provider: String,
    pub kind: String,
    /// `None` where its state file says nothing.
    pub state: Option<SourceStateSnapshot>,
    /// `None` where nothing was counted yet.
    pub metrics: Option<Box<SourceMetrics>>,
}

/// What the state file of a source says. Counts of items are of its session.
#[derive(Clone, Debug)]
pub struct SourceStateSnapshot {
    pub status: Status,
    pub state_since: Timestamp,
    pub until: Option<Timestamp>,
    pub last_progress: Timestamp,
    pub last_updated: Timestamp,
    pub is_running: bool,
    pub listed: u64,
    pub stored: u64,
    pub gone: u64,
    pub quarantined: u64,
    pub waiting_for_retry: u64,
    pub items_per_second: Option<f64>,
    pub consecutive_errors: u32,
}

/// One breaker.
#[derive(Clone, Debug)]
pub struct BreakerSnapshot {
    /// Its provider, or what every source shares.
    pub name: String,
    pub state: BreakerState,
    /// When an open one lets a call try; `None` also where a person must close it.
    pub until: Option<Timestamp>,
    pub statistics: BreakerStatistics,
}

/// What is known of one quota.
#[derive(Clone, Debug)]
pub struct RateLimitSnapshot {
    /// The provider, and the host, account or route where that has one of its own.
    pub scope: String,
    pub status: rate_limit::RateLimitStatus,
}

/// How many alerts of one severity last.
#[derive(Clone, Copy, Debug)]
pub struct AlertCount {
    pub severity: Severity,
    pub active: u64,
}

/// What systemd says of a unit of workers.
#[derive(Clone, Debug)]
pub struct UnitSnapshot {
    pub name: String,
    /// It runs, or is between two runs.
    pub is_active: bool,
    /// Starts by systemd since somebody last started it by hand; `None` where they are not counted.
    pub restarts: Option<u64>,
}
