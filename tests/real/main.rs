//! Tests of the real binary against real servers, with real mail and real kills.
//!
//! A test that needs something missing on this machine prints `SKIPPED: ` and the reason, and
//! returns. libtest cannot report a test as skipped, so `tests/setup/tally.awk` counts these lines.
//! If `CYNOSURE_REQUIRE_REAL` is 1, such a test fails instead.

mod account;
#[expect(
    dead_code,
    clippy::unwrap_used,
    reason = "other tests use the rest of it, and a test helper panics on failure"
)]
#[path = "../it/oauth/server.rs"]
mod authorization_server;
mod certificate;
mod clock;
mod corpus;
mod cyrus;
mod disk_full;
mod dovecot;
mod emulate;
mod endpoint;
mod exim;
mod export;
mod free_ports;
mod gmail_emulate;
mod gmail_myworld;
mod hoodiecrow;
#[expect(
    dead_code,
    clippy::unwrap_used,
    reason = "other tests use the rest of it, and a test helper panics on failure"
)]
#[path = "../it/hostile_server.rs"]
mod hostile_server;
mod http;
mod imap;
mod imap_content_ids;
mod imap_extract;
mod imap_kill;
mod imap_latency;
mod imap_memory;
mod imap_oauth;
mod imap_security;
mod imap_server;
mod jmap;
mod kill;
mod large_messages;
mod mail;
mod maildev;
mod memory;
#[path = "../fixtures/metrics.rs"]
mod metrics;
mod mitmproxy;
mod myworld;
mod prerequisites;
mod process_sandbox;
mod prometheus;
mod proxy;
mod pymap;
mod recording_proxy;
mod rest_cyrus;
mod rest_maildev;
mod server_process;
mod session_capture;
mod sign_in;
mod sources;
mod storm;
mod systemd;
mod tcp_proxy;
mod test_program;
mod token_introspection;
mod wait;
