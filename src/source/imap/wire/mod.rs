//! Bytes of the protocol: reads responses, encodes commands (RFC 3501, RFC 9051).
//!
//! Responses are split into values and nothing more: atoms, strings, lists. So an attribute that
//! is unknown or has an unusual value does not make a response unreadable. Bodies of messages go
//! to a [`BodySink`] while they arrive. Everything else of a response is held in memory, within a
//! limit.

mod bodies;
mod command;
mod folder_name;
mod reader;
mod response;
#[cfg(test)]
mod tests;
mod tokens;
mod uid_set;
mod value;

// Inside of this source, the short names can mean nothing else. In the whole program they could.
pub(in crate::source::imap) use self::bodies::{BodySink, NoBodies};
pub(in crate::source::imap) use self::command::WireCommand as Command;
pub(in crate::source::imap) use self::folder_name::ImapFolderName as FolderName;
pub(in crate::source::imap) use self::reader::{WireError, WireReader};
pub(in crate::source::imap) use self::response::Response;
pub(in crate::source::imap) use self::uid_set::UidSet;
pub(in crate::source::imap) use self::value::{WireValue as Value, attribute};
