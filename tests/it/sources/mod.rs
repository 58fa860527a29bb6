//! Conformance of the sources on servers that need no other program.

mod embedded_service;
mod fake_mailbox;
pub(crate) mod suite;
