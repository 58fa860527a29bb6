//! Status replies of IMAP servers: their parser, and their classification.

mod classify;
mod known_text;
mod phase;
mod reply;
mod rule;
#[cfg(test)]
mod tests;

pub use self::classify::{ImapVerdict, classify_imap_reply};
pub use self::phase::ImapPhase;
pub use self::reply::{ImapCode, ImapReply, ImapStatus};
pub use self::rule::ImapRule;
