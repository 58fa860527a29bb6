//! What channels are like.

/// What a webhook understands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Shape {
    /// All there is to know, as JSON of our own.
    Json,
    /// `{"text": …}`, which other chats understand as well.
    Slack,
    /// Plain text, with a title and a priority in the headers.
    Ntfy,
}

/// How a mail server is spoken to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Protection {
    /// TLS from the first byte.
    Tls,
    /// TLS after a word in the clear; never without.
    StartTls,
    /// None, to this machine itself only.
    None,
}
