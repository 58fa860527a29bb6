//! Tests that need sockets, files or processes, in one binary.
#![expect(clippy::panic, clippy::unwrap_used, reason = "helpers of tests fail as loudly as tests")]

mod bus;
mod commands;
mod demo;
mod endpoint;
mod export;
mod hostile;
mod http;
mod jmap;
mod mailbox;
mod measure;
#[path = "../fixtures/metrics.rs"]
mod metrics;
mod outlet;
mod receiver;
mod shapes;
mod telemetry;
