//! Conformance of the sources on servers that need no other program.

pub(crate) mod embedded_service;
mod fake_mailbox;
pub(crate) mod gmail;
pub(crate) mod graph;
mod imap_embedded;
pub(crate) mod mailru;
pub(crate) mod rest_embedded;
mod rest_offset;
pub(crate) mod suite;
