//! State of a folder when it was opened (RFC 3501 §6.3.2).

use cynosure_engine::ImapReply;

use crate::source::imap::wire::Response;

/// State of a folder when it was opened.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::source::imap) struct OpenFolder {
    pub(in crate::source::imap) uid_validity: u32,
    /// UID that the next message gets, at least.
    pub(in crate::source::imap) uid_next: Option<u32>,
    /// Number of messages.
    pub(in crate::source::imap) exists: u32,
}

impl OpenFolder {
    /// Reads the responses to `EXAMINE`. Returns `None` without a UIDVALIDITY, because the UIDs of
    /// such a folder mean nothing later.
    pub(super) fn parse(responses: &[Response]) -> Option<Self> {
        let (mut uid_validity, mut uid_next, mut exists) = (None, None, 0);
        for response in responses {
            match response {
                Response::Status(reply) => {
                    uid_validity = number_of(reply, "UIDVALIDITY").or(uid_validity);
                    uid_next = number_of(reply, "UIDNEXT").or(uid_next);
                }
                Response::Data { number: Some(number), name, .. } if name == "EXISTS" => {
                    exists = *number;
                }
                Response::Data { .. } | Response::Tagged { .. } | Response::Continuation(_) => {}
            }
        }
        Some(Self { uid_validity: uid_validity?, uid_next, exists })
    }
}

/// Returns the argument of a response code with this name.
fn number_of(reply: &ImapReply, name: &str) -> Option<u32> {
    let code = reply.code.as_ref().filter(|code| code.name == name)?;
    code.arguments.parse().ok()
}
