//! Composition of the program: everything that lives as long as the process. The commands start it
//! and print what it reports.

pub(crate) mod archive_check;
pub(crate) mod breaker_notes;
mod clock_step;
pub(crate) mod context;
mod dashboard_data;
pub(crate) mod error;
pub(crate) mod exit;
#[cfg(debug_assertions)]
mod failpoint;
mod health_task;
mod http_server;
pub(crate) mod log;
pub(crate) mod monitor;
pub(crate) mod monitoring;
pub(crate) mod progress;
pub(crate) mod quotas;
pub(crate) mod run;
pub(crate) mod runtime;
pub(crate) mod session_summary;
pub(crate) mod sign_in;
mod signals;
pub(crate) mod source_selection;
pub(crate) mod source_status;
pub(crate) mod sources;
mod status_line;
pub(crate) mod status_row;
mod systemd_status;
mod telemetry;
pub(crate) mod trace_writer;
mod watchdog;
