//! Conformance of the sources on servers that need no other program.

mod embedded_service;
mod fake_mailbox;
mod imap_embedded;
pub(crate) mod suite;
