//! What systemd says of a unit, as far as a judgement needs it.

use std::time::Duration;

use crate::engine::Timestamp;

/// A unit at one moment.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct UnitStatus {
    /// Its full name, with `.service`.
    pub name: String,
    pub load_state: LoadState,
    pub active_state: ActiveState,
    /// The finer state: `running`, `auto-restart`, `dead` and so on.
    pub sub_state: String,
    /// Why it last stopped: `success`, `exit-code`, `watchdog`, `start-limit-hit` and so on.
    pub result: String,
    pub main_pid: Option<u32>,
    /// Starts by systemd itself since it was last started by hand or over the bus.
    pub restarts: u32,
    /// How its last process ended: an exit code, or the number of a signal.
    pub exit_status: i32,
    /// When it last became active.
    pub active_since: Option<Timestamp>,
    /// When its state last changed.
    pub state_changed_at: Option<Timestamp>,
    /// What it told of itself.
    pub status_text: String,
    /// The silence after which systemd ends it; `None` when it is not watched.
    pub watchdog_timeout: Option<Duration>,
    pub start_limit: StartLimit,
    /// Whether it starts with the machine: `enabled`, `disabled`, `static` and so on.
    pub unit_file_state: String,
}

impl UnitStatus {
    /// Whether it is there, and anybody means it to run: it does, it should have, or it starts with
    /// the machine.
    #[must_use]
    pub fn is_in_use(&self) -> bool {
        let is_meant =
            self.active_state != ActiveState::Inactive || self.unit_file_state == "enabled";
        self.load_state == LoadState::Loaded && is_meant
    }
}

/// Whether systemd could read the unit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LoadState {
    Loaded,
    NotFound,
    Masked,
    /// Its file is wrong.
    Invalid,
}

/// What a unit is doing, as systemd names it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ActiveState {
    Active,
    Reloading,
    Inactive,
    Failed,
    Activating,
    Deactivating,
    /// A word that a later systemd uses.
    Other,
}

/// How many starts within a time make systemd give up; an interval of zero is no limit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct StartLimit {
    pub interval: Duration,
    pub burst: u32,
}

impl LoadState {
    /// Reads the word of the property `LoadState`.
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

    /// The word of the property `ActiveState`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Reloading => "reloading",
            Self::Inactive => "inactive",
            Self::Failed => "failed",
            Self::Activating => "activating",
            Self::Deactivating => "deactivating",
            Self::Other => "in a state of its own",
        }
    }

    #[must_use]
    pub fn from_name(name: &str) -> Self {
        Self::ALL.into_iter().find(|activity| activity.name() == name).unwrap_or(Self::Other)
    }
}
