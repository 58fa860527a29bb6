//! Inputs of a health evaluation: observations of one moment, thresholds and limits.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::breaker::{BreakerState, OpenPeriod};
use crate::health::finding::STARTING;
use crate::health::watch::WorkerStatus;
use crate::health::{CheckKind, Finding};

/// Observed value, or the reason why it could not be collected.
pub type CollectResult<T> = Result<T, String>;

/// All observations of one moment.
#[derive(Clone, Debug)]
pub struct HealthInputs {
    /// Name of the main unit.
    pub unit: String,
    /// Findings about units and sources, each unit before its sources.
    pub findings: Vec<Finding>,
    /// Configured sources.
    pub sources: Vec<SourceObservation>,
    /// Reason why the workers' files could not be collected at all; `None` if they were.
    pub uncollected_reason: Option<String>,
    pub breakers: CollectResult<Vec<BreakerObservation>>,
    /// Crash loops according to the restart budget: name of a source or unit, and consecutive
    /// restarts.
    pub crash_loops: CollectResult<Vec<(String, u32)>>,
    /// Pool with the fewest healthy proxies among the running workers. `Some(Ok(None))` if no
    /// worker runs; `None` if no source uses a pool.
    pub proxy_pool: Option<CollectResult<Option<ProxyPoolStatus>>>,
    pub system: CollectResult<HostMetrics>,
    /// Folders whose disk could not be measured, with the reason.
    pub unmeasured_folders: Vec<(String, String)>,
    /// Sources whose archive is missing or belongs to another ledger, with the reason.
    pub archive_mismatches: Vec<(String, String)>,
    /// Journal errors of each unit; `None` without a unit.
    pub journal_errors: Option<CollectResult<Vec<JournalErrors>>>,
}

/// Returns each finding with the unit that it is about, or that runs its source: the last unit
/// before it, or `unit` if there is none.
pub fn findings_by_unit<'a>(
    unit: &'a str,
    findings: &'a [Finding],
) -> impl Iterator<Item = (&'a str, &'a Finding)> {
    findings.iter().scan(unit, |unit, finding| {
        if finding.check == CheckKind::Service {
            *unit = &finding.subject;
        }
        Some((*unit, finding))
    })
}

impl HealthInputs {
    /// Returns each finding with the unit that it is about, or that runs its source.
    pub fn findings_by_unit(&self) -> impl Iterator<Item = (&str, &Finding)> {
        findings_by_unit(&self.unit, &self.findings)
    }

    /// Returns the unit that runs a source.
    #[must_use]
    pub fn unit_of_source(&self, source: &str) -> &str {
        self.find_source_finding(source).map_or(&self.unit, |(unit, _)| unit)
    }

    /// Returns true if the unit of a source is starting it, or has just started it.
    #[must_use]
    pub fn is_starting(&self, source: &str) -> bool {
        self.find_source_finding(source).is_some_and(|(_, finding)| finding.kind == STARTING)
    }

    fn find_source_finding(&self, source: &str) -> Option<(&str, &Finding)> {
        let is_of_source =
            |finding: &Finding| finding.check == CheckKind::Execution && finding.subject == source;
        self.findings_by_unit().find(|(_, finding)| is_of_source(finding))
    }
}

/// Observation of one source.
#[derive(Clone, Debug)]
pub struct SourceObservation {
    pub name: String,
    pub provider: String,
    /// State that its worker last wrote; `None` if there is none.
    pub state: Option<WorkerStatus>,
    /// Counters of its worker; `None` before anything was counted.
    pub counters: CollectResult<Option<CounterObservation>>,
}

/// Counts of a source.
#[derive(Clone, Copy, Debug, Default)]
pub struct CounterObservation {
    /// Number of recent attempts known.
    pub attempts: u32,
    /// Share of these attempts that succeeded, from 0 to 1.
    pub success_rate: Option<f64>,
    /// Consecutive requests without a response.
    pub connection_failures: u32,
    /// Times that its HTTP client was recreated.
    pub reconnects: u64,
    /// 95th percentile of the latency of requests to its provider in the last minutes.
    pub p95_latency: Option<Duration>,
    pub sessions_completed: u64,
}

#[derive(Clone, Debug)]
pub struct BreakerObservation {
    /// Name of a provider, or of storage that all sources share.
    pub name: String,
    pub state: BreakerState,
    /// Reason of the last transition.
    pub reason: String,
    /// Recorded open periods, newest last.
    pub open_periods: Vec<OpenPeriod>,
}

impl BreakerObservation {
    /// Returns true while an open period lasts. A breaker that is half-open only because a session
    /// failed is in none.
    #[must_use]
    pub(crate) fn is_in_open_period(&self) -> bool {
        let was_open = self.open_periods.last().is_some_and(|last| last.closed.is_none());
        self.state.is_in_open_period(was_open)
    }
}

/// Counts of the proxies in a pool.
#[derive(Clone, Copy, Debug)]
pub struct ProxyPoolStatus {
    pub total: u32,
    pub healthy: u32,
    /// Alive, but the last request failed.
    pub failing: u32,
    pub dead: u32,
    /// Dead proxies whose cooldown is not over.
    pub cooling_down: u32,
    pub mean_latency: Option<Duration>,
}

/// Resource usage of the host.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct HostMetrics {
    /// Share of the CPU time used, from 0 to 1; `None` if it could not be measured.
    #[serde(rename = "cpu")]
    pub cpu_ratio: Option<f64>,
    /// Share of memory that is not available, from 0 to 1.
    #[serde(rename = "memory")]
    pub memory_ratio: Option<f64>,
    /// Filesystems that are written to, each once.
    pub disks: Vec<DiskUsage>,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct DiskUsage {
    /// Folder that lies on this filesystem.
    pub path: String,
    /// Used share as `df` computes it, from 0 to 1.
    #[serde(rename = "used")]
    pub used_ratio: f64,
    /// Free bytes available for writing.
    #[serde(rename = "free")]
    pub free_bytes: u64,
    /// Used share of the inodes, from 0 to 1; `None` if the filesystem reports no number.
    #[serde(rename = "inodes")]
    pub inode_ratio: Option<f64>,
}

/// Recent errors of one unit in the journal.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct JournalErrors {
    pub unit: String,
    pub count: u32,
    pub newest: Option<String>,
}

/// Thresholds of the checks. Shares are from 0 to 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Thresholds {
    /// Maximum number of starts by systemd within ten minutes.
    pub restarts: u32,
    /// Longest time by which an update of the state may be overdue.
    pub heartbeat: Duration,
    /// Lowest share of attempts that succeed.
    pub success_rate: f64,
    /// Consecutive requests without a response from which a warning is raised.
    pub connection_failures: u32,
    /// Fewest healthy proxies in a pool.
    pub proxies: u32,
    pub cpu: f64,
    pub memory: f64,
    pub disk: DiskThresholds,
    /// Errors in the journal within `journal_window` from which a warning is raised.
    pub journal_errors: u32,
    pub journal_window: Duration,
}

/// Thresholds of the check of each disk. Shares are from 0 to 1.
#[derive(Clone, Debug, PartialEq)]
pub struct DiskThresholds {
    /// Used share from which a warning is raised; never larger than `critical`.
    pub warning: f64,
    pub critical: f64,
    /// Fewest free bytes.
    pub free_bytes: u64,
    /// Highest used share of the inodes.
    pub inodes: f64,
}

impl Thresholds {
    /// Default thresholds.
    pub const DEFAULT: Self = Self {
        restarts: 5,
        heartbeat: Duration::from_secs(300),
        success_rate: 0.3,
        connection_failures: 3,
        proxies: 3,
        cpu: 0.95,
        memory: 0.9,
        disk: DiskThresholds {
            warning: 0.8,
            critical: 0.9,
            free_bytes: 2_000_000_000,
            inodes: 0.9,
        },
        journal_errors: 10,
        journal_window: Duration::from_secs(900),
    };
}

/// Limits of the checks.
#[derive(Clone, Debug, PartialEq)]
pub struct HealthLimits {
    pub thresholds: Thresholds,
    /// Longest duration of a session.
    pub max_session_age: Duration,
    /// Time since the last clock step or suspend, as far as known.
    pub clock_stable_for: Duration,
}
