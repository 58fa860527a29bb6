//! Policies of the event loop, which never change during a run.

use cynosure_engine::MachineConfig;

use crate::retry::RetryPolicy;

/// Condition on which the worker ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RunMode {
    /// Runs until it is stopped.
    Continuous,
    /// Runs one session, however long its waits are.
    UntilComplete,
    /// Runs one session now. Waits that the worker itself chose are skipped, and the run ends if
    /// manual intervention is required.
    Once,
}

/// Mode in which a run starts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum StartMode {
    /// Continues in the state in which the last run ended.
    Resume,
    /// The wait of the last run is over, because the user has changed what it waited for.
    RunNow,
}

/// Policies of the event loop.
#[derive(Debug)]
pub struct LoopPolicy {
    pub machine_config: MachineConfig,
    /// Retry policy for a page of the listing, before its failure becomes one of the session.
    pub listing_retry: RetryPolicy,
    /// Maximum number of concurrent fetches.
    pub concurrency: usize,
    pub mode: RunMode,
    pub start_mode: StartMode,
}
