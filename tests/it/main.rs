//! Tests that need sockets, files or processes, in one binary.
#![expect(clippy::panic, clippy::unwrap_used, reason = "test helpers panic on failure")]

mod bus;
mod commands;
mod demo;
mod endpoint;
mod export;
mod fake_mailbox;
mod fake_proxies;
mod fake_receiver;
mod hostile_server;
mod http;
mod imap;
mod jmap;
mod json_shape;
#[path = "../fixtures/metrics.rs"]
mod metrics;
mod metrics_input;
mod oauth;
mod rest;
mod sources;
mod telemetry;
mod terminal;
