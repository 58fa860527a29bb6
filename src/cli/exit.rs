//! Every exit code, and what it tells systemd, scripts and people.

use std::process::ExitCode;

/// How the program ended. The numbers above 63 are those of `sysexits.h` where one fits.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Exit {
    /// Every listed item is stored or gone.
    Done,
    /// Likewise, but some items are quarantined.
    SomeQuarantined,
    /// Start me again: completed, a restart is due, or SIGTERM under systemd.
    StartAgain,
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

impl Exit {
    #[must_use]
    pub(super) fn number(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Other => 1,
            Self::SomeQuarantined => 3,
            Self::Storage => 74,
            Self::StartAgain => 75,
            Self::Authentication => 77,
            Self::Configuration => 78,
            Self::Interrupted => 130,
            Self::Terminated => 143,
        }
    }

    /// Of several sources' ends, the one a person must know about first.
    #[must_use]
    pub(super) fn worst(exits: impl IntoIterator<Item = Self>) -> Self {
        exits.into_iter().max().unwrap_or(Self::Done)
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.number())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_that_needs_a_person_decides_the_code() {
        let exits = [Exit::Done, Exit::Authentication, Exit::SomeQuarantined];

        assert_eq!(Exit::worst(exits).number(), 77);
        assert_eq!(Exit::worst([]).number(), 0);
    }
}
