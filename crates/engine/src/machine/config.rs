//! Configuration of the state machine.

use std::time::Duration;

use crate::Backoff;

/// Configuration of sessions, waits and restarts.
#[derive(Clone, Debug, PartialEq)]
pub struct MachineConfig {
    pub backoff: Backoff,
    /// Session retries before the worker is restarted; 0 if retries are switched off.
    pub max_retries: u32,
    /// Errors without progress in between, across restarts, before the worker is restarted.
    pub max_consecutive_errors: u32,
    /// Wait after a rate limit without Retry-After.
    pub rate_limit_duration: Duration,
    /// Longest time without progress in a working state.
    pub stuck_threshold: Duration,
    /// Longest run time of the worker before it is restarted.
    pub max_execution_time: Duration,
    pub restart_delay_success: Duration,
    pub restart_delay_auth: Duration,
    pub restart_delay_errors: Duration,
    /// Shortest wait after item failures escalated to a session failure.
    pub recovery_timeout: Duration,
    pub poll_interval: Duration,
}
