//! Diagnoses of units and sources: kind, sentence, value, threshold and advice of a finding.

use std::fmt;
use std::time::Duration;

use crate::health::finding::{
    CRASH_LOOP, NO_SYSTEMD, STARTING, UNIT_NOT_INSTALLED, UNIT_STATE_UNKNOWN,
};
use crate::health::watch::{ActiveState, LoadState, RecentStarts, StartLimit, WatchLimits};
use crate::health::{CheckKind, Finding, HealthLevel, Remedy};
use crate::{Status, format_duration, sanitize_line};

/// State of a unit, or of the worker of a source, with the values that decided.
#[derive(Clone, Debug, PartialEq)]
pub enum Diagnosis {
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

impl Diagnosis {
    /// Creates the finding about a subject. `unit` is the unit that runs the source, or the unit
    /// itself, if systemd has it.
    pub(in crate::health) fn into_finding(
        self,
        (check, subject): (CheckKind, &str),
        level: HealthLevel,
        remedy: Remedy,
        unit: Option<&str>,
        limits: &WatchLimits,
    ) -> Finding {
        Finding {
            check,
            kind: self.name().to_owned(),
            subject: subject.to_owned(),
            level,
            message: self.to_string(),
            value: self.value(),
            threshold: self.threshold(limits),
            advice: self.advice(subject, level, remedy, unit),
            remedy,
        }
    }

    /// Returns the kind of its finding.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Healthy { .. } => "ok",
            Self::Waiting { .. } => "waiting",
            Self::NeverRun => "never_run",
            Self::Starting => STARTING,
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
            Self::UnitNotInstalled => UNIT_NOT_INSTALLED,
            Self::UnitNotLoaded { .. } => "unit_not_loaded",
            Self::UnitFailed { .. } => "unit_failed",
            Self::UnitNotRunning => "unit_not_running",
            Self::UnitStuckTransitioning { .. } => "unit_stuck_transitioning",
            Self::CrashLoop(_) => CRASH_LOOP,
            Self::NoSystemd { .. } => NO_SYSTEMD,
            Self::UnitStateUnknown { .. } => UNIT_STATE_UNKNOWN,
        }
    }

    /// Returns the value that decided, if there is one.
    fn value(&self) -> Option<String> {
        match self {
            Self::Waiting { remaining, .. } => {
                Some(format!("{} left", format_duration(*remaining)))
            }
            Self::Overdue { late_by, .. } => Some(format!("{} late", format_duration(*late_by))),
            Self::Stalled { stalled_for, .. } => Some(format_duration(*stalled_for)),
            Self::CredentialRefused { duration, .. }
            | Self::AccountChanged { duration, .. }
            | Self::UnitStuckTransitioning { duration, .. } => {
                Some(format!("for {}", format_duration(*duration)))
            }
            Self::Failing { errors, limit, .. } => Some(format!("{errors} of {limit}")),
            Self::ClockSkew { ahead_by } => Some(format!("{} ahead", format_duration(*ahead_by))),
            Self::UnitRunning { uptime, .. } => {
                uptime.map(|uptime| format!("for {}", format_duration(uptime)))
            }
            Self::UnitFailed { exit_status, .. } => Some(format!("status {exit_status}")),
            Self::CrashLoop(RecentStarts { starts, window }) => {
                Some(format!("{starts} in {}", format_duration(*window)))
            }
            Self::Healthy { .. }
            | Self::NeverRun
            | Self::Starting
            | Self::StateUnreadable { .. }
            | Self::Died { .. }
            | Self::Stopped { .. }
            | Self::UnitTransitioning
            | Self::UnitNotInstalled
            | Self::UnitNotLoaded { .. }
            | Self::UnitNotRunning
            | Self::NoSystemd { .. }
            | Self::UnitStateUnknown { .. } => None,
        }
    }

    /// Returns the threshold of the value; `None` if the value has no limit.
    fn threshold(&self, limits: &WatchLimits) -> Option<String> {
        let more_than = |limit| Some(format!("more than {}", format_duration(limit)));
        match self {
            Self::Overdue { .. } | Self::ClockSkew { .. } => more_than(limits.grace),
            Self::Stalled { .. } => more_than(limits.stuck_threshold),
            Self::UnitStuckTransitioning { .. } => more_than(limits.max_transition),
            Self::Failing { limit, .. } => Some(format!("{limit} or more")),
            Self::CrashLoop(_) => Some(format!("more than {}", limits.max_starts)),
            Self::Healthy { .. }
            | Self::Waiting { .. }
            | Self::NeverRun
            | Self::Starting
            | Self::StateUnreadable { .. }
            | Self::Died { .. }
            | Self::Stopped { .. }
            | Self::CredentialRefused { .. }
            | Self::AccountChanged { .. }
            | Self::UnitRunning { .. }
            | Self::UnitTransitioning
            | Self::UnitNotInstalled
            | Self::UnitNotLoaded { .. }
            | Self::UnitFailed { .. }
            | Self::UnitNotRunning
            | Self::NoSystemd { .. }
            | Self::UnitStateUnknown { .. } => None,
        }
    }

    /// Returns the recommended action for the subject `name`, if there is one. `unit` is the unit
    /// that runs the source, if a unit does.
    fn advice(
        &self,
        name: &str,
        level: HealthLevel,
        remedy: Remedy,
        unit: Option<&str>,
    ) -> Option<String> {
        match self {
            Self::Healthy { .. }
            | Self::Waiting { .. }
            | Self::Starting
            | Self::UnitRunning { .. }
            | Self::UnitTransitioning => None,
            Self::NeverRun | Self::Stopped { .. } | Self::UnitNotRunning => Some(match unit {
                Some(unit) => {
                    format!("start it with `systemctl start {unit}` or `cynosure run`")
                }
                None => "start it with `cynosure run`".to_owned(),
            }),
            Self::StateUnreadable { .. } => Some(
                "the next start rebuilds it from the ledger; if a newer cynosure wrote it, use \
                 that version: see `cynosure status`"
                    .to_owned(),
            ),
            Self::Overdue { pid, .. } => Some(match unit.filter(|_| remedy != Remedy::None) {
                Some(unit) => format!("restart it with `systemctl restart {unit}`"),
                None => format!("end process {pid} and start it again"),
            }),
            Self::UnitStuckTransitioning { .. } => {
                Some(format!("restart it with `systemctl restart {name}`"))
            }
            Self::Stalled { .. } if level < HealthLevel::Critical => {
                Some("wait: its worker restarts the phase, then itself".to_owned())
            }
            Self::Stalled { .. } => Some(format!(
                "its worker restarted itself without success: {}, and `cynosure history {name}`",
                log_advice(unit)
            )),
            Self::Died { .. } => Some(log_advice(unit)),
            Self::CredentialRefused { .. } => {
                Some("replace the credential: `cynosure status` shows where it is".to_owned())
            }
            Self::AccountChanged { .. } => Some(format!(
                "add the other account as a separate source, or restore a credential of the first \
                 account, or discard the first account's state with `cynosure reset {name}`"
            )),
            Self::Failing { .. } => Some(format!("see what fails with `cynosure history {name}`")),
            Self::ClockSkew { .. } => Some("set the clock: `timedatectl`".to_owned()),
            Self::UnitNotInstalled => {
                Some("install the unit, or set service.service_name to its name".to_owned())
            }
            Self::UnitNotLoaded { load_state: LoadState::Masked } => {
                Some(format!("unmask it with `systemctl unmask {name}`"))
            }
            Self::UnitNotLoaded { .. } => Some(format!("see `systemd-analyze verify {name}`")),
            Self::UnitFailed { exit_status, start_limit, .. } => {
                Some(failed_unit_advice(name, *exit_status, start_limit.as_ref()))
            }
            Self::CrashLoop(_) => Some(log_advice(Some(name))),
            Self::NoSystemd { .. } => {
                Some("nothing to do if the worker was started by other means".to_owned())
            }
            Self::UnitStateUnknown { advice, .. } => Some(advice.clone()),
        }
    }
}

/// Returns the advice to read the worker's log.
pub(in crate::health) fn log_advice(unit: Option<&str>) -> String {
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

impl fmt::Display for Diagnosis {
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
