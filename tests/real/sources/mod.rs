//! Conformance of the sources on real servers: the cases of `tests/it/sources`.

#[expect(dead_code, reason = "other tests use what is for sources with a profile")]
#[path = "../../it/sources/suite/mod.rs"]
pub(crate) mod suite;

mod cyrus_jmap;
mod imap;
mod ordinary_message;
