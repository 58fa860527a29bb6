//! Findings: level, subject, kind, value and advice.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::engine::health::watch::{ActiveState, LoadState, RecentStarts, StartLimit};
use crate::engine::{Status, format_duration, sanitize_line};

/// Result of the evaluation of one unit or source.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    pub level: HealthLevel,
    pub subject: Subject,
    pub kind: FindingKind,
    pub remedy: Remedy,
}

/// Level of a finding or check, in ascending order. `Unknown` ranks between `Warning` and
/// `Critical`, because the unknown state may be critical.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum HealthLevel {
    /// Not checked, because the check does not apply here. Counts for nothing.
    Skipped,
    Healthy,
    Warning,
    Unknown,
    Critical,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Subject {
    Source(String),
    Unit(String),
}

/// Action that is likely to help.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Remedy {
    Restart,
    /// The worker recovers by itself, or manual intervention is required.
    None,
}

#[derive(Clone, Debug, PartialEq)]
pub enum FindingKind {
    /// Working, or idle as intended.
    Healthy {
        status: Status,
    },
    /// Waiting; the deadline has not passed.
    Waiting {
        status: Status,
        remaining: Duration,
        reason: String,
    },
    NeverRun,
    /// The unit is starting its worker, or has just started it.
    Starting,
    /// The state file cannot be read.
    StateUnreadable {
        reason: String,
    },
    /// The deadline has passed without an action of the worker.
    Overdue {
        status: Status,
        late_by: Duration,
        pid: u32,
    },
    /// No progress, although the worker meets its deadlines.
    Stalled {
        status: Status,
        stalled_for: Duration,
    },
    /// The worker is gone without recording its exit.
    Died {
        pid: u32,
    },
    /// The worker was stopped before its work was done.
    Stopped {
        status: Status,
    },
    CredentialRefused {
        duration: Duration,
        reason: String,
    },
    /// The source's account is not the one that its ledger belongs to.
    AccountChanged {
        duration: Duration,
        reason: String,
    },
    Failing {
        errors: u32,
        limit: u32,
        reason: String,
    },
    /// The state's timestamp lies in the future.
    ClockSkew {
        ahead_by: Duration,
    },

    /// The unit runs.
    UnitRunning {
        uptime: Option<Duration>,
        restarts: u32,
    },
    /// Between two runs, or starting or stopping for a short time.
    UnitTransitioning,
    UnitNotInstalled,
    UnitNotLoaded {
        load_state: LoadState,
    },
    UnitFailed {
        result: String,
        exit_status: i32,
        /// Start limit of systemd; `None` if the unit has none.
        start_limit: Option<StartLimit>,
    },
    UnitNotRunning,
    /// Starting or stopping for too long.
    UnitStuckTransitioning {
        active_state: ActiveState,
        duration: Duration,
    },
    CrashLoop(RecentStarts),
    NoSystemd {
        reason: String,
    },
    UnitStateUnknown {
        reason: String,
        advice: String,
    },
}

impl HealthLevel {
    pub const ALL: [Self; 5] =
        [Self::Skipped, Self::Healthy, Self::Warning, Self::Unknown, Self::Critical];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Skipped => "SKIPPED",
            Self::Healthy => "HEALTHY",
            Self::Warning => "WARNING",
            Self::Unknown => "UNKNOWN",
            Self::Critical => "CRITICAL",
        }
    }

    /// Returns the worst of the levels; unknown if no check could be made.
    #[must_use]
    pub fn worst(levels: impl Iterator<Item = Self>) -> Self {
        levels.filter(|level| *level != Self::Skipped).max().unwrap_or(Self::Unknown)
    }

    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.name() == name)
    }
}

impl Subject {
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Source(name) | Self::Unit(name) => name,
        }
    }
}

impl FindingKind {
    /// Returns the name in machine-readable output.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Healthy { .. } => "ok",
            Self::Waiting { .. } => "waiting",
            Self::NeverRun => "never_run",
            Self::Starting => "starting",
            Self::StateUnreadable { .. } => "state_unreadable",
            Self::Overdue { .. } => "overdue",
            Self::Stalled { .. } => "stalled",
            Self::Died { .. } => "died",
            Self::Stopped { .. } => "stopped",
            Self::CredentialRefused { .. } => "credential_refused",
            Self::AccountChanged { .. } => "account_changed",
            Self::Failing { .. } => "failing",
            Self::ClockSkew { .. } => "clock_skew",
            Self::UnitRunning { .. } => "unit_running",
            Self::UnitTransitioning => "unit_transitioning",
            Self::UnitNotInstalled => "unit_not_installed",
            Self::UnitNotLoaded { .. } => "unit_not_loaded",
            Self::UnitFailed { .. } => "unit_failed",
            Self::UnitNotRunning => "unit_not_running",
            Self::UnitStuckTransitioning { .. } => "unit_stuck_transitioning",
            Self::CrashLoop(_) => "crash_loop",
            Self::NoSystemd { .. } => "no_systemd",
            Self::UnitStateUnknown { .. } => "unit_state_unknown",
        }
    }
}

impl Finding {
    /// Returns the value that decided, if there is one.
    #[must_use]
    pub fn value(&self) -> Option<String> {
        match &self.kind {
            FindingKind::Waiting { remaining, .. } => {
                Some(format!("{} left", format_duration(*remaining)))
            }
            FindingKind::Overdue { late_by, .. } => {
                Some(format!("{} late", format_duration(*late_by)))
            }
            FindingKind::Stalled { stalled_for, .. } => Some(format_duration(*stalled_for)),
            FindingKind::CredentialRefused { duration, .. }
            | FindingKind::AccountChanged { duration, .. }
            | FindingKind::UnitStuckTransitioning { duration, .. } => {
                Some(format!("for {}", format_duration(*duration)))
            }
            FindingKind::Failing { errors, limit, .. } => Some(format!("{errors} of {limit}")),
            FindingKind::ClockSkew { ahead_by } => {
                Some(format!("{} ahead", format_duration(*ahead_by)))
            }
            FindingKind::UnitRunning { uptime, .. } => {
                uptime.map(|uptime| format!("for {}", format_duration(uptime)))
            }
            FindingKind::UnitFailed { exit_status, .. } => Some(format!("status {exit_status}")),
            FindingKind::CrashLoop(RecentStarts { starts, window }) => {
                Some(format!("{starts} in {}", format_duration(*window)))
            }
            FindingKind::Healthy { .. }
            | FindingKind::NeverRun
            | FindingKind::Starting
            | FindingKind::StateUnreadable { .. }
            | FindingKind::Died { .. }
            | FindingKind::Stopped { .. }
            | FindingKind::UnitTransitioning
            | FindingKind::UnitNotInstalled
            | FindingKind::UnitNotLoaded { .. }
            | FindingKind::UnitNotRunning
            | FindingKind::NoSystemd { .. }
            | FindingKind::UnitStateUnknown { .. } => None,
        }
    }

    /// Returns the recommended action, if there is one. `unit` is the unit that runs the source, if
    /// a unit does.
    #[must_use]
    pub fn advice(&self, unit: Option<&str>) -> Option<String> {
        let name = self.subject.name();
        match &self.kind {
            FindingKind::Healthy { .. }
            | FindingKind::Waiting { .. }
            | FindingKind::Starting
            | FindingKind::UnitRunning { .. }
            | FindingKind::UnitTransitioning => None,
            FindingKind::NeverRun | FindingKind::Stopped { .. } | FindingKind::UnitNotRunning => {
                Some(match unit {
                    Some(unit) => {
                        format!("start it with `systemctl start {unit}` or `cynosure run`")
                    }
                    None => "start it with `cynosure run`".to_owned(),
                })
            }
            FindingKind::StateUnreadable { .. } => Some(
                "the next start rebuilds it from the ledger; if a newer cynosure wrote it, use \
                 that version: see `cynosure status`"
                    .to_owned(),
            ),
            FindingKind::Overdue { pid, .. } => {
                Some(match unit.filter(|_| self.remedy != Remedy::None) {
                    Some(unit) => format!("restart it with `systemctl restart {unit}`"),
                    None => format!("end process {pid} and start it again"),
                })
            }
            FindingKind::UnitStuckTransitioning { .. } => {
                Some(format!("restart it with `systemctl restart {name}`"))
            }
            FindingKind::Stalled { .. } if self.level < HealthLevel::Critical => {
                Some("wait: its worker restarts the phase, then itself".to_owned())
            }
            FindingKind::Stalled { .. } => Some(format!(
                "its worker restarted itself without success: {}, and `cynosure history {name}`",
                log_advice(unit)
            )),
            FindingKind::Died { .. } => Some(log_advice(unit)),
            FindingKind::CredentialRefused { .. } => {
                Some("replace the credential: `cynosure status` shows where it is".to_owned())
            }
            FindingKind::AccountChanged { .. } => Some(format!(
                "add the other account as a separate source, or restore a credential of the first \
                 account, or discard the first account's state with `cynosure reset {name}`"
            )),
            FindingKind::Failing { .. } => {
                Some(format!("see what fails with `cynosure history {name}`"))
            }
            FindingKind::ClockSkew { .. } => Some("set the clock: `timedatectl`".to_owned()),
            FindingKind::UnitNotInstalled => {
                Some("install the unit, or set service.service_name to its name".to_owned())
            }
            FindingKind::UnitNotLoaded { load_state: LoadState::Masked } => {
                Some(format!("unmask it with `systemctl unmask {name}`"))
            }
            FindingKind::UnitNotLoaded { .. } => {
                Some(format!("see `systemd-analyze verify {name}`"))
            }
            FindingKind::UnitFailed { exit_status, start_limit, .. } => {
                Some(failed_unit_advice(name, *exit_status, start_limit.as_ref()))
            }
            FindingKind::CrashLoop(_) => Some(log_advice(Some(name))),
            FindingKind::NoSystemd { .. } => {
                Some("nothing to do if the worker was started by other means".to_owned())
            }
            FindingKind::UnitStateUnknown { advice, .. } => Some(advice.clone()),
        }
    }
}

/// Returns the unit if systemd has it. A worker started by other means has no journal, and
/// `systemctl` does not apply to it.
#[must_use]
pub fn installed_unit<'a>(unit: &'a str, findings: &[Finding]) -> Option<&'a str> {
    let is_missing = |finding: &Finding| {
        matches!(&finding.subject, Subject::Unit(name) if name == unit)
            && matches!(finding.kind, FindingKind::NoSystemd { .. } | FindingKind::UnitNotInstalled)
    };
    (!findings.iter().any(is_missing)).then_some(unit)
}

/// Returns the advice to read the worker's log.
pub(in crate::engine) fn log_advice(unit: Option<&str>) -> String {
    match unit {
        Some(unit) => format!("see why with `journalctl -u {unit} -n 50`"),
        None => "see why in its log".to_owned(),
    }
}

fn failed_unit_advice(unit: &str, exit_status: i32, start_limit: Option<&StartLimit>) -> String {
    match (exit_status, start_limit) {
        (78, _) => "correct the configuration: `cynosure config check`".to_owned(),
        (77, _) => format!("renew the credential, then `systemctl start {unit}`"),
        (_, Some(limit)) => format!(
            "{}; systemd gives up after {} starts in {}: `systemctl reset-failed {unit}`, then \
             `systemctl start {unit}`; StartLimitIntervalSec=0 removes this limit",
            log_advice(Some(unit)),
            limit.burst,
            format_duration(limit.interval)
        ),
        (_, None) => log_advice(Some(unit)),
    }
}

impl fmt::Display for FindingKind {
    /// Writes one sentence, without the subject.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Healthy { status } => f.write_str(status_label(*status)),
            Self::Waiting { status, reason, .. } => {
                write!(f, "{}: {}", status_label(*status), sanitize_line(reason))
            }
            Self::NeverRun => f.write_str("it has never run"),
            Self::Starting => f.write_str("its unit is starting it"),
            Self::StateUnreadable { reason } => f.write_str(&sanitize_line(reason)),
            Self::Overdue { status, pid, .. } => write!(
                f,
                "stuck while {}: process {pid} missed its deadline",
                status_label(*status)
            ),
            Self::Stalled { status, .. } => write!(f, "{} without progress", status_label(*status)),
            Self::Died { pid } => {
                write!(f, "its worker, process {pid}, died without recording its exit")
            }
            Self::Stopped { status } => {
                write!(f, "stopped while {}, and no worker is running", status_label(*status))
            }
            Self::CredentialRefused { reason, .. } => {
                write!(f, "its credential is refused: {}", sanitize_line(reason))
            }
            Self::AccountChanged { reason, .. } => {
                write!(f, "its credential belongs to another account: {}", sanitize_line(reason))
            }
            Self::Failing { reason, .. } => {
                write!(f, "consecutive errors without progress: {}", sanitize_line(reason))
            }
            Self::ClockSkew { .. } => {
                f.write_str("the timestamp of its state is in the future: the clock was set back")
            }
            Self::UnitRunning { restarts: 0, .. } => f.write_str("it runs"),
            Self::UnitRunning { restarts, .. } => {
                write!(f, "it runs, restarted {restarts} times by systemd")
            }
            Self::UnitTransitioning => f.write_str("it is starting or stopping"),
            Self::UnitNotInstalled => f.write_str("this unit is not installed"),
            Self::UnitNotLoaded { load_state: LoadState::Masked } => f.write_str("it is masked"),
            Self::UnitNotLoaded { .. } => f.write_str("systemd cannot read it"),
            Self::UnitFailed { result, .. } => {
                write!(f, "it has failed: {}", sanitize_line(result))
            }
            Self::UnitNotRunning => f.write_str("it was stopped, or never started"),
            Self::UnitStuckTransitioning { active_state, .. } => {
                write!(f, "it has been {} for too long", active_state.name())
            }
            Self::CrashLoop(_) => f.write_str("crash loop: it restarts repeatedly"),
            Self::NoSystemd { reason } => write!(
                f,
                "it cannot be observed or restarted: systemd is not running ({})",
                sanitize_line(reason)
            ),
            Self::UnitStateUnknown { reason, .. } => f.write_str(&sanitize_line(reason)),
        }
    }
}

fn status_label(status: Status) -> &'static str {
    match status {
        Status::Idle => "idle",
        Status::Collecting => "collecting",
        Status::Downloading => "downloading",
        Status::Completed => "completed",
        Status::Error => "waiting after an error",
        Status::RateLimited => "rate limited",
        Status::AuthFailed => "waiting for a credential",
    }
}
