//! Exit codes of the program, for systemd, scripts and users.

use std::process::ExitCode;

/// Result of the program, with its exit code. Codes above 63 are those of `sysexits.h` where one
/// fits. Ordered by severity: of several sources, the most severe result counts.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum ProgramExit {
    /// Every listed item is stored or gone.
    Success,
    /// Every listed item is stored, gone or quarantined, and some are quarantined.
    SomeQuarantined,
    /// Request to start the program again: completed, a restart is due, or SIGTERM under systemd.
    Restart,
    /// Any error without another code.
    Other,
    /// The archive or the ledger cannot be written or read.
    Storage,
    /// The credential is refused.
    Authentication,
    /// The configuration is wrong, or names something that does not exist.
    Configuration,
    /// SIGTERM.
    Terminated,
    /// SIGINT: the user pressed Ctrl-C.
    Interrupted,
}

impl ProgramExit {
    #[must_use]
    pub(crate) fn code(self) -> u8 {
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

    /// Returns the most severe of the given results; `Success` if there are none.
    #[must_use]
    pub(crate) fn most_severe(exits: impl IntoIterator<Item = Self>) -> Self {
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
