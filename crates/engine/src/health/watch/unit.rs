//! Status of a systemd unit, as far as the evaluation needs it.

use std::time::Duration;

use crate::Timestamp;

/// Status of a unit at one moment.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct UnitStatus {
    /// Full name, with `.service`.
    pub name: String,
    pub load_state: LoadState,
    pub active_state: ActiveState,
    /// Detailed state: `running`, `auto-restart`, `dead` and so on.
    pub sub_state: String,
    /// Reason of the last stop: `success`, `exit-code`, `watchdog`, `start-limit-hit` and so on.
    pub result: String,
    pub main_pid: Option<u32>,
    /// Automatic restarts since it was last started by hand or over D-Bus.
    pub restarts: u32,
    /// Exit code, or signal number, of its last process.
    pub exit_status: i32,
    /// Time of the last change to active.
    pub active_since: Option<Timestamp>,
    /// Time of the last change of its state.
    pub state_changed_at: Option<Timestamp>,
    /// Status text that the service sent with `STATUS=`.
    pub status_text: String,
    /// Silence after which systemd ends the service; `None` without a watchdog.
    pub watchdog_timeout: Option<Duration>,
    pub start_limit: StartLimit,
    /// State of the unit file: `enabled` (starts at boot), `disabled`, `static` and so on.
    pub unit_file_state: String,
}

impl UnitStatus {
    /// Returns true if the unit is loaded and meant to run: it is active, has failed, or starts at
    /// boot.
    #[must_use]
    pub fn is_in_use(&self) -> bool {
        let is_meant =
            self.active_state != ActiveState::Inactive || self.unit_file_state == "enabled";
        self.load_state == LoadState::Loaded && is_meant
    }
}

/// Load state of a unit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LoadState {
    Loaded,
    NotFound,
    Masked,
    /// The unit file is invalid.
    Invalid,
}

/// Active state of a unit, as systemd names it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ActiveState {
    Active,
    Reloading,
    Inactive,
    Failed,
    Activating,
    Deactivating,
    /// A value that a later version of systemd may use.
    Other,
}

/// Starts within an interval after which systemd gives up; an interval of zero means no limit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct StartLimit {
    pub interval: Duration,
    pub burst: u32,
}

impl LoadState {
    /// Parses the value of the systemd property `LoadState`.
    #[must_use]
    pub fn from_name(name: &str) -> Self {
        match name {
            "loaded" | "stub" | "merged" => Self::Loaded,
            "not-found" => Self::NotFound,
            "masked" => Self::Masked,
            _ => Self::Invalid,
        }
    }
}

impl ActiveState {
    pub const ALL: [Self; 7] = [
        Self::Active,
        Self::Reloading,
        Self::Inactive,
        Self::Failed,
        Self::Activating,
        Self::Deactivating,
        Self::Other,
    ];

    /// Returns the value of the systemd property `ActiveState`, or a text for [`Self::Other`].
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Reloading => "reloading",
            Self::Inactive => "inactive",
            Self::Failed => "failed",
            Self::Activating => "activating",
            Self::Deactivating => "deactivating",
            Self::Other => "in an unknown state",
        }
    }

    #[must_use]
    pub fn from_name(name: &str) -> Self {
        Self::ALL
            .into_iter()
            .find(|active_state| active_state.name() == name)
            .unwrap_or(Self::Other)
    }
}
