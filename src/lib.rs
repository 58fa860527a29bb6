//! Cynosure lists every thread of a mailbox, stores each one durably, and keeps going for weeks
//! without a person.
//!
//! ```text
//! source ──answers──▶ worker ──events──▶ engine ──effects──▶ worker ──▶ archive, ledger, state file ──▶ status
//! ```
//!
//! Data moves one way. The [`worker`] waits for an answer, a deadline or a signal; has the [`engine`]
//! decide what it means; and performs what was decided. The engine is pure: time and chance come in
//! as arguments, so that the whole behaviour runs in virtual time in the tests.
//!
//! What holds, whatever happens:
//!
//! - An item is `stored` when its bytes, its name and its row are on disk, in that order.
//! - Listed ids are in the ledger before the place that follows them.
//! - `listed = stored + gone + quarantined`, and a session ends no sooner.
//! - Every state but `completed` has a deadline and a reason, and outlives the process.
//! - What a server asks for is obeyed, and costs no attempt.
//! - No secret is in a log, a state, a ledger, an error or a command line.
//!
//! A folder may use only what stands above its line here; `tests/tidy.rs` holds it to that. Read them
//! in this order.

// DECIDES: the state machine, what failures deserve, how fast a server may be asked, how long to wait.
pub mod engine;

// TRIES AGAIN: named policies for a failure that may be gone in a moment, also for programs other than this one.
pub mod retry;

// TOUCHES: durable file operations and locks, and a disk in memory to take their place.
pub mod disk;

// SAYS numbers and times in words, the same everywhere a person reads them.
pub mod human;

// Each speaks to one thing, and none to another of them.
// READS config.toml and credentials; FETCHES by HTTP; REMEMBERS in SQLite; KEEPS the files; PUBLISHES the state;
// SPEAKS to systemd; MEASURES for whoever collects metrics; SHOWS all of it over HTTP.
pub mod archive;
pub mod config;
pub mod endpoint;
pub mod ledger;
pub mod notify;
pub mod source;
pub mod state;
pub mod systemd;
pub mod telemetry;

// DRIVES: the loop of one source, and all sources side by side.
pub mod worker;

// WATCHES: the workers from outside, by their state files and their unit.
pub mod monitor;

// REHEARSES: a policy against a made-up server in virtual time, before it meets a real one. Reads its files as config does.
pub mod simulate;

// The embedded mailbox service, for trying it out and for tests. Uses nothing of the above.
pub mod demo;

// The commands.
pub mod cli;
