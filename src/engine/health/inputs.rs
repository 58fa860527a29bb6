//! What is known at one moment, and from where on it is amiss.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::engine::breaker::{BreakerState, OpenPeriod};
use crate::engine::watch::{Finding, FindingKind, Subject};
use crate::engine::{Status, Timestamp};

/// Facts, or why there are none.
pub type CollectResult<T> = Result<T, String>;

/// Everything that was gathered at one moment.
#[derive(Clone, Debug)]
pub struct HealthInputs {
    /// The name of the unit.
    pub unit: String,
    /// What the watch over units and sources found, each unit before its sources.
    pub findings: Vec<Finding>,
    /// The sources of the configuration.
    pub sources: Vec<SourceObservation>,
    /// Why nothing of what the workers wrote was seen, where the look at all of it failed.
    pub uncollected_reason: Option<String>,
    pub breakers: CollectResult<Vec<BreakerObservation>>,
    /// What the restart budget calls a crash loop: names of sources or units, and restarts in a row.
    pub crash_loops: CollectResult<Vec<(String, u32)>>,
    /// Of the running workers' pools the one with the fewest healthy proxies, or none where no worker
    /// runs; absent where nothing goes out by a pool.
    pub proxy_pool: Option<CollectResult<Option<ProxyPoolStatus>>>,
    pub system: CollectResult<HostMetrics>,
    /// Folders whose disk could not be measured, and why.
    pub unmeasured_folders: Vec<(String, String)>,
    /// Sources whose archive is not there or belongs to another ledger, and why.
    pub archive_mismatches: Vec<(String, String)>,
    /// What each unit wrote; absent without a unit.
    pub journal_errors: Option<CollectResult<Vec<JournalErrors>>>,
}

/// Each finding with the unit in whose group it stands.
pub fn findings_by_unit<'a>(
    unit: &'a str,
    findings: &'a [Finding],
) -> impl Iterator<Item = (&'a str, &'a Finding)> {
    findings.iter().scan(unit, |unit, finding| {
        if let Subject::Unit(name) = &finding.subject {
            *unit = name;
        }
        Some((*unit, finding))
    })
}

impl HealthInputs {
    /// Each finding with the unit in whose group it stands.
    pub fn findings_by_unit(&self) -> impl Iterator<Item = (&str, &Finding)> {
        findings_by_unit(&self.unit, &self.findings)
    }

    /// The unit that runs a source.
    #[must_use]
    pub fn unit_of_source(&self, source: &str) -> &str {
        self.find_source_finding(source).map_or(&self.unit, |(unit, _)| unit)
    }

    /// Whether the unit of a source is starting it, or has only just done so.
    #[must_use]
    pub fn is_starting(&self, source: &str) -> bool {
        self.find_source_finding(source)
            .is_some_and(|(_, finding)| finding.kind == FindingKind::Starting)
    }

    fn find_source_finding(&self, source: &str) -> Option<(&str, &Finding)> {
        let is_it =
            |finding: &Finding| matches!(&finding.subject, Subject::Source(name) if name == source);
        self.findings_by_unit().find(|(_, finding)| is_it(finding))
    }
}

/// One source.
#[derive(Clone, Debug)]
pub struct SourceObservation {
    pub name: String,
    pub provider: String,
    /// What its worker last wrote; `None` where it has not.
    pub state: Option<StateObservation>,
    /// What its worker counts; `None` before it has counted anything.
    pub counters: CollectResult<Option<CounterObservation>>,
}

/// A state, as its worker last wrote it.
#[derive(Clone, Debug)]
pub struct StateObservation {
    pub status: Status,
    pub until: Option<Timestamp>,
    pub last_updated: Timestamp,
    /// When the session began that is under way.
    pub session_started_at: Option<Timestamp>,
    pub is_running: bool,
    pub quarantined: u64,
    /// What its last error was, where that was of this machine's storage and is waited for.
    pub storage_error: Option<String>,
}

/// Counts of a source.
#[derive(Clone, Copy, Debug, Default)]
pub struct CounterObservation {
    /// Attempts that are remembered.
    pub attempts: u32,
    /// The share of them that succeeded, from 0 to 1.
    pub success_rate: Option<f64>,
    /// Requests in a row that got no reply.
    pub connection_failures: u32,
    /// How often its client was made anew.
    pub client_rebuilds: u64,
    /// Of the requests to its provider in the last minutes, 95 of 100 took no longer.
    pub p95_latency: Option<Duration>,
    pub sessions_completed: u64,
}

#[derive(Clone, Debug)]
pub struct BreakerObservation {
    /// A provider, or what every source shares.
    pub name: String,
    pub state: BreakerState,
    /// Why it is so.
    pub reason: String,
    /// The times that it was not closed, as far as it remembers them, the newest last.
    pub openings: Vec<OpenPeriod>,
}

/// The proxies of the pool.
#[derive(Clone, Copy, Debug)]
pub struct ProxyPoolStatus {
    pub total: u32,
    pub healthy: u32,
    /// Alive, and failed the last time.
    pub suspect: u32,
    pub dead: u32,
    /// Of the dead, those that are left alone for a while.
    pub cooling_down: u32,
    pub mean_latency: Option<Duration>,
}

/// The machine.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct HostMetrics {
    /// The share of the processors' time that was spent, from 0 to 1; `None` where it could not be measured.
    #[serde(rename = "cpu")]
    pub cpu_ratio: Option<f64>,
    /// The share of memory that cannot be had, from 0 to 1.
    #[serde(rename = "memory")]
    pub memory_ratio: Option<f64>,
    /// The filesystems that we write to, each once.
    pub disks: Vec<DiskUsage>,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct DiskUsage {
    /// The folder of ours that is on it.
    pub path: String,
    /// As `df` has it, from 0 to 1.
    #[serde(rename = "used")]
    pub used_ratio: f64,
    /// Bytes that may still be written.
    #[serde(rename = "free")]
    pub free_bytes: u64,
    /// The share of inodes; `None` where there is no such number.
    #[serde(rename = "inodes")]
    pub inode_ratio: Option<f64>,
}

/// Errors that a unit wrote to the journal.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct JournalErrors {
    pub unit: String,
    pub count: u32,
    pub newest: Option<String>,
}

/// From where on something is amiss. Shares are from 0 to 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Thresholds {
    /// Starts by systemd, within ten minutes.
    pub restarts: u32,
    /// How long a state may stay as it is that should have changed.
    pub heartbeat: Duration,
    /// The least share of attempts that succeed.
    pub success_rate: f64,
    /// Requests in a row that get no reply.
    pub connection_failures: u32,
    /// The fewest proxies of a pool that are healthy.
    pub proxies: u32,
    pub cpu: f64,
    pub memory: f64,
    /// Never larger than `disk_critical`.
    pub disk_warning: f64,
    pub disk_critical: f64,
    /// Bytes.
    pub disk_free_bytes: u64,
    pub inodes: f64,
    /// Errors in the journal, within `journal_window`.
    pub journal_errors: u32,
    pub journal_window: Duration,
}

impl Thresholds {
    /// What is usual.
    pub const DEFAULT: Self = Self {
        restarts: 5,
        heartbeat: Duration::from_secs(300),
        success_rate: 0.3,
        connection_failures: 3,
        proxies: 3,
        cpu: 0.95,
        memory: 0.9,
        disk_warning: 0.8,
        disk_critical: 0.9,
        disk_free_bytes: 2_000_000_000,
        inodes: 0.9,
        journal_errors: 10,
        journal_window: Duration::from_secs(900),
    };
}

/// All that is judged against: the thresholds, and the limits that workers and units have anyway.
#[derive(Clone, Debug, PartialEq)]
pub struct HealthLimits {
    pub thresholds: Thresholds,
    /// How old a session may grow.
    pub max_session_age: Duration,
    /// How long after its deadline a worker may still be about to act.
    pub grace: Duration,
    /// For how long the clock was not set, and the machine not asleep, as far as is known.
    pub clock_stable_for: Duration,
    /// How long work may go on without progress.
    pub stuck_threshold: Duration,
    /// How long a start or a stop of a unit may take.
    pub max_transition: Duration,
}
