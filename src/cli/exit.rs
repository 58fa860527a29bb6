//! Every exit code, and what it tells systemd, scripts and people.

use std::process::ExitCode;

/// How the program ended. The numbers above 63 are those of `sysexits.h` where one fits.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum ProgramExit {
    /// Every listed item is stored or gone.
    Success,
    /// Likewise, but some items are quarantined.
    SomeQuarantined,
    /// Start me again: completed, a restart is due, or SIGTERM under systemd.
    Restart,
    /// Anything without a code of its own.
    Other,
    /// The archive or the ledger cannot be written or read.
    Storage,
    /// The credential is refused.
    Authentication,
    /// The configuration is wrong, or what it names is not there.
    Configuration,
    /// SIGTERM.
    Terminated,
    /// SIGINT: a person pressed Ctrl-C.
    Interrupted,
}

impl ProgramExit {
    #[must_use]
    pub(super) fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Other => 1,
            Self::SomeQuarantined => 3,
            Self::Storage => 74,
            Self::Restart => 75,
            Self::Authentication => 77,
            Self::Configuration => 78,
            Self::Interrupted => 130,
            Self::Terminated => 143,
        }
    }

    /// Of several sources' ends, the one a person must know about first.
    #[must_use]
    pub(super) fn most_severe(exits: impl IntoIterator<Item = Self>) -> Self {
        exits.into_iter().max().unwrap_or(Self::Success)
    }
}

impl From<ProgramExit> for ExitCode {
    fn from(exit: ProgramExit) -> Self {
        Self::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_needing_manual_action_decides_the_code() {
        let exits =
            [ProgramExit::Success, ProgramExit::Authentication, ProgramExit::SomeQuarantined];

        assert_eq!(ProgramExit::most_severe(exits).code(), 77);
        assert_eq!(ProgramExit::most_severe([]).code(), 0);
    }
}
