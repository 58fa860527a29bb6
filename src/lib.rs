//! Cynosure lists every message of a mailbox, stores each one durably, and works unattended for weeks.
//!
//! ```text
//! source ──results──▶ worker ──events──▶ engine ──effects──▶ worker ──▶ archive, ledger, state file ──▶ status
//! ```
//!
//! Data flows in one direction. The [`worker`] waits for a result, a deadline or a signal, passes it
//! to the [`engine`](cynosure_engine) as an event, and carries out the effects that the engine
//! returns. The engine is pure: time and random numbers are arguments, so that tests run the whole
//! behaviour in virtual time.
//!
//! Invariants:
//!
//! - An item is `stored` when its bytes, its name and its ledger row are on disk, in that order.
//! - Listed ids are in the ledger before the page token that follows them.
//! - `listed = stored + gone + quarantined` holds before a session is completed.
//! - Every state but `completed` has a deadline and a reason, and survives the process.
//! - A wait that a server demands is respected, and counts as no attempt.
//! - No secret is written to a log, a state file, a ledger, an error or a command line.
//!
//! A module may use only the modules listed above it; `tests/tidy` enforces this. Read them in
//! this order, after the engine. What only tries things out, such as the demo service and the
//! simulator of rate limits, is in [`cynosure_lab`].

// Retries: named retry policies, also usable by other programs.
pub mod retry;

// Clock, randomness, sleep and threads of the process, or of the simulation.
pub mod env;

// Durable file operations and locks, and an in-memory disk for tests.
pub mod disk;

// Numbers and times as text for users.
pub mod human;

// HTTP clients and their errors, for sources, sign-in, alerts and telemetry.
pub mod http_client;

// Sign-in with OAuth 2.0, and access tokens that are refreshed.
pub mod oauth;

// State files, which all processes share.
pub mod state;

// Rate limits of the providers: a permit for every request of a source.
pub mod limiter;

// Connection to the PostgreSQL database of a fleet.
#[cfg(feature = "fleet")]
pub mod database;

// One outside system each; independent of each other: config.toml and credentials (config), HTTP (source),
// SQLite and PostgreSQL (ledger), stored files (archive), systemd, metrics and traces (telemetry),
// alert channels (notify), the HTTP server (endpoint).
pub mod archive;
pub mod config;
pub mod endpoint;
pub mod ledger;
pub mod notify;
pub mod source;
pub mod systemd;
pub mod telemetry;

// Registry of the kinds of sources: configuration to client.
pub mod source_kinds;

// Copies of the archive in the formats of mail programs.
pub mod export;

// Mail providers and their servers, and new sources in a configuration.
pub mod onboarding;

// The event loop of a source, and all sources side by side.
pub mod worker;

// Observes the workers from outside, through their state files and units.
pub mod monitor;

// The processes of the worker and the monitor, composed of the modules above.
mod app;

// Commands: parse arguments, print, exit.
pub mod cli;
