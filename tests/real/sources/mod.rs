//! Conformance of the sources on real servers: the cases of `tests/it/sources`.

#[path = "../../it/sources/suite/mod.rs"]
pub(crate) mod suite;

mod cyrus_jmap;
mod imap;
mod ordinary_message;
