//! What a judgement finds: how bad, what, how much, and what to do.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::engine::watch::{Activity, Lately, Load, StartLimit};
use crate::engine::{Status, format_duration, sanitize_line};

/// One finding.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    pub level: Level,
    pub about: Subject,
    pub what: What,
    pub cure: Cure,
}

/// How bad it is, the worst last: what is not known may be bad, what is critical is.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Level {
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

/// Whether a restart of the unit is likely to help.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Cure {
    Restart,
    /// It goes on by itself, or a person is needed.
    None,
}

#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// At work, or at rest as it should be.
    InOrder {
        status: Status,
    },
    /// Waiting before its deadline.
    Waiting {
        status: Status,
        left: Duration,
        reason: String,
    },
    NeverRun,
    /// Its unit is about to start its worker, or has only just done so.
    Starting,
    /// The state file does not tell.
    Untold {
        why: String,
    },
    /// The deadline has passed, and nothing was decided.
    Overdue {
        status: Status,
        by: Duration,
        pid: u32,
    },
    /// Without progress, although its worker keeps its deadlines.
    Stalled {
        status: Status,
        still: Duration,
    },
    /// The worker is gone without a word.
    Died {
        pid: u32,
    },
    /// The worker was stopped in the middle.
    Stopped {
        status: Status,
    },
    CredentialRefused {
        since: Duration,
        reason: String,
    },
    /// Another account is behind the source than its ledger belongs to.
    AccountChanged {
        since: Duration,
        reason: String,
    },
    Failing {
        errors: u32,
        limit: u32,
        reason: String,
    },
    /// Written later than now.
    FromTheFuture {
        by: Duration,
    },

    /// The unit runs.
    UnitRuns {
        since: Option<Duration>,
        restarts: u32,
    },
    /// Between two runs, or just on its way up or down.
    UnitTurns,
    NotInstalled,
    CannotLoad {
        load: Load,
    },
    UnitFailed {
        result: String,
        exit_status: i32,
        /// Where systemd gives up after so many starts.
        limit: Option<StartLimit>,
    },
    NotRunning,
    /// It has been starting or stopping for too long.
    Turning {
        activity: Activity,
        since: Duration,
    },
    CrashLoop(Lately),
    NoSystemd {
        why: String,
    },
    UnitUntold {
        why: String,
        remedy: String,
    },
}

impl Level {
    pub const ALL: [Self; 4] = [Self::Healthy, Self::Warning, Self::Unknown, Self::Critical];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Healthy => "HEALTHY",
            Self::Warning => "WARNING",
            Self::Unknown => "UNKNOWN",
            Self::Critical => "CRITICAL",
        }
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

/// What a finding is called where a program reads it.
impl What {
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::InOrder { .. } => "in_order",
            Self::Waiting { .. } => "waiting",
            Self::NeverRun => "never_run",
            Self::Starting => "starting",
            Self::Untold { .. } => "state_untold",
            Self::Overdue { .. } => "overdue",
            Self::Stalled { .. } => "stalled",
            Self::Died { .. } => "died",
            Self::Stopped { .. } => "stopped",
            Self::CredentialRefused { .. } => "credential_refused",
            Self::AccountChanged { .. } => "account_changed",
            Self::Failing { .. } => "failing",
            Self::FromTheFuture { .. } => "from_the_future",
            Self::UnitRuns { .. } => "unit_runs",
            Self::UnitTurns => "unit_turns",
            Self::NotInstalled => "unit_not_installed",
            Self::CannotLoad { .. } => "unit_not_loaded",
            Self::UnitFailed { .. } => "unit_failed",
            Self::NotRunning => "unit_not_running",
            Self::Turning { .. } => "unit_turning",
            Self::CrashLoop(_) => "crash_loop",
            Self::NoSystemd { .. } => "no_systemd",
            Self::UnitUntold { .. } => "unit_untold",
        }
    }
}

impl Finding {
    /// The figure that decided, where there is one.
    #[must_use]
    pub fn figure(&self) -> Option<String> {
        match &self.what {
            What::Waiting { left, .. } => Some(format!("{} left", format_duration(*left))),
            What::Overdue { by, .. } => Some(format!("{} late", format_duration(*by))),
            What::Stalled { still, .. } => Some(format_duration(*still)),
            What::CredentialRefused { since, .. }
            | What::AccountChanged { since, .. }
            | What::Turning { since, .. } => Some(format!("for {}", format_duration(*since))),
            What::Failing { errors, limit, .. } => Some(format!("{errors} of {limit}")),
            What::FromTheFuture { by } => Some(format!("{} ahead", format_duration(*by))),
            What::UnitRuns { since, .. } => {
                since.map(|since| format!("for {}", format_duration(since)))
            }
            What::UnitFailed { exit_status, .. } => Some(format!("status {exit_status}")),
            What::CrashLoop(Lately { starts, within }) => {
                Some(format!("{starts} in {}", format_duration(*within)))
            }
            What::InOrder { .. }
            | What::NeverRun
            | What::Starting
            | What::Untold { .. }
            | What::Died { .. }
            | What::Stopped { .. }
            | What::UnitTurns
            | What::NotInstalled
            | What::CannotLoad { .. }
            | What::NotRunning
            | What::NoSystemd { .. }
            | What::UnitUntold { .. } => None,
        }
    }

    /// What to do, where there is anything. `unit` is the one that runs the source, where there is such.
    #[must_use]
    pub fn advice(&self, unit: Option<&str>) -> Option<String> {
        let name = self.about.name();
        match &self.what {
            What::InOrder { .. }
            | What::Waiting { .. }
            | What::Starting
            | What::UnitRuns { .. }
            | What::UnitTurns => None,
            What::NeverRun | What::Stopped { .. } | What::NotRunning => Some(match unit {
                Some(unit) => format!("start it with `systemctl start {unit}` or `cynosure run`"),
                None => "start it with `cynosure run`".to_owned(),
            }),
            What::Untold { .. } => Some(format!(
                "the next start rebuilds it from the ledger; a newer one needs its own version: \
                 `cynosure status` shows {name}"
            )),
            What::Overdue { pid, .. } => Some(match unit.filter(|_| self.cure != Cure::None) {
                Some(unit) => format!("restart it with `systemctl restart {unit}`"),
                None => format!("end process {pid} and start it anew"),
            }),
            What::Turning { .. } => Some(format!("restart it with `systemctl restart {name}`")),
            What::Stalled { .. } if self.level < Level::Critical => {
                Some("wait: its worker begins the stage anew, then restarts by itself".to_owned())
            }
            What::Stalled { .. } => Some(format!(
                "its worker has started anew by itself, in vain: {}, and `cynosure history {name}`",
                see_why(unit)
            )),
            What::Died { .. } => Some(see_why(unit)),
            What::CredentialRefused { .. } => {
                Some("put a fresh credential in its place: `cynosure status` names it".to_owned())
            }
            What::AccountChanged { .. } => Some(format!(
                "give the other account a source name of its own, put a credential of the first in \
                 place, or forget the first with `cynosure reset {name}`"
            )),
            What::Failing { .. } => Some(format!("see what fails with `cynosure history {name}`")),
            What::FromTheFuture { .. } => Some("set the clock: `timedatectl`".to_owned()),
            What::NotInstalled => {
                Some("install the unit, or set service.service_name to its name".to_owned())
            }
            What::CannotLoad { load: Load::Masked } => {
                Some(format!("unmask it with `systemctl unmask {name}`"))
            }
            What::CannotLoad { .. } => Some(format!("see `systemd-analyze verify {name}`")),
            What::UnitFailed { exit_status: 78, .. } => {
                Some("correct the configuration: `cynosure config check`".to_owned())
            }
            What::UnitFailed { exit_status: 77, .. } => {
                Some(format!("renew the credential, then `systemctl start {name}`"))
            }
            What::UnitFailed { limit: Some(limit), .. } => Some(format!(
                "{}; systemd gives up after {} starts in {}: \
                 `systemctl reset-failed {name}`, then `systemctl start {name}`, and \
                 StartLimitIntervalSec=0 for good",
                see_why(Some(name)),
                limit.burst,
                format_duration(limit.interval)
            )),
            What::UnitFailed { .. } | What::CrashLoop(_) => Some(see_why(Some(name))),
            What::NoSystemd { .. } => {
                Some("nothing, if you started the worker by other means".to_owned())
            }
            What::UnitUntold { remedy, .. } => Some(remedy.clone()),
        }
    }
}

/// The unit, where systemd has it. What was started by other means has no journal and knows no `systemctl`.
#[must_use]
pub fn installed<'a>(unit: &'a str, findings: &[Finding]) -> Option<&'a str> {
    let is_missing = |finding: &Finding| {
        matches!(&finding.about, Subject::Unit(name) if name == unit)
            && matches!(finding.what, What::NoSystemd { .. } | What::NotInstalled)
    };
    (!findings.iter().any(is_missing)).then_some(unit)
}

/// Where a worker's last words are.
pub(in crate::engine) fn see_why(unit: Option<&str>) -> String {
    match unit {
        Some(unit) => format!("see why with `journalctl -u {unit} -n 50`"),
        None => "see why in its log".to_owned(),
    }
}

/// One sentence, without its subject.
impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InOrder { status } => f.write_str(word(*status)),
            Self::Waiting { status, reason, .. } => {
                write!(f, "{}: {}", word(*status), sanitize_line(reason))
            }
            Self::NeverRun => f.write_str("it has never run"),
            Self::Starting => f.write_str("its unit is starting it"),
            Self::Untold { why } => write!(f, "its state is not known: {}", sanitize_line(why)),
            Self::Overdue { status, pid, .. } => write!(
                f,
                "stuck: {}, its deadline has passed, and process {pid} decides nothing",
                word(*status)
            ),
            Self::Stalled { status, .. } => write!(f, "{} without progress", word(*status)),
            Self::Died { pid } => write!(f, "its worker, process {pid}, is gone without a word"),
            Self::Stopped { status } => {
                write!(f, "stopped while {}, and nothing goes on with it", word(*status))
            }
            Self::CredentialRefused { reason, .. } => {
                write!(f, "its credential is refused: {}", sanitize_line(reason))
            }
            Self::AccountChanged { reason, .. } => {
                write!(f, "another account is behind it: {}", sanitize_line(reason))
            }
            Self::Failing { reason, .. } => {
                write!(
                    f,
                    "errors in a row, without progress between them: {}",
                    sanitize_line(reason)
                )
            }
            Self::FromTheFuture { .. } => {
                f.write_str("its state was written later than now: the clock was set")
            }
            Self::UnitRuns { restarts: 0, .. } => f.write_str("it runs"),
            Self::UnitRuns { restarts, .. } => {
                write!(f, "it runs, started anew by systemd {restarts} times")
            }
            Self::UnitTurns => f.write_str("it is about to start again, or to stop"),
            Self::NotInstalled => f.write_str("there is no such unit here"),
            Self::CannotLoad { load: Load::Masked } => f.write_str("it is masked"),
            Self::CannotLoad { .. } => f.write_str("systemd cannot read it"),
            Self::UnitFailed { result, .. } => {
                write!(f, "it has failed and stays down ({})", sanitize_line(result))
            }
            Self::NotRunning => f.write_str("it was stopped, or never started"),
            Self::Turning { activity, .. } => write!(f, "it is {} too long", activity.name()),
            Self::CrashLoop(_) => f.write_str("it is started again and again: a crash loop"),
            Self::NoSystemd { why } => write!(
                f,
                "it can neither be seen nor restarted: systemd is not here ({})",
                sanitize_line(why)
            ),
            Self::UnitUntold { why, .. } => f.write_str(&sanitize_line(why)),
        }
    }
}

fn word(status: Status) -> &'static str {
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
