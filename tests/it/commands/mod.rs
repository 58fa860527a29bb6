//! Commands of the real program: their output and exit codes.

mod alerts;
mod archives;
mod bad_messages;
mod breaker;
mod breaker_alerts;
mod broken_pipe;
mod check_and_monitor;
mod config_probe;
mod contents;
mod doctor;
mod endpoint;
mod explain;
mod history_and_failures;
mod json_output;
mod metrics;
mod rate_limit_waits;
mod readme;
mod requeue_and_reset;
mod shutdown;
mod simulate;
mod single_message;
mod start_errors;
mod status;
mod systemd;
pub(crate) mod test_home;
mod trace;
mod verify;
