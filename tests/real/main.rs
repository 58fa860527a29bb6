//! The real binary against real servers, with real mail and real kills.
//!
//! A test that needs what this machine lacks prints `SKIPPED: ` and the reason, and returns: libtest has no
//! verdict for that, so `tests/setup/tally.awk` gives it. Where `CYNOSURE_REQUIRE_REAL` is 1 such a test fails.

mod account;
mod binary;
mod clock;
mod corpus;
mod cyrus;
mod door;
mod endpoint;
mod exim;
mod full;
mod http;
mod imap;
mod jmap;
mod kill;
mod large;
mod mail;
mod memory;
#[path = "../fixtures/metrics.rs"]
mod metrics;
mod patience;
mod premises;
mod prometheus;
mod proxy;
mod requirement;
mod storm;
mod systemd;
