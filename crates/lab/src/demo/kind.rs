//! Protocols of the service.

/// Protocol by which the mailbox is served.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum DemoKind {
    /// JMAP (RFC 8620, RFC 8621).
    #[default]
    Jmap,
    /// IMAP4rev1 (RFC 3501) with OBJECTID (RFC 8474): messages and threads have ids.
    Imap,
    /// IMAP4rev1 without OBJECTID, as most servers are.
    PlainImap,
    /// REST API of Gmail, version 1. Items are threads.
    Gmail,
    /// Microsoft Graph, version 1.0. Items are messages, each in one folder only.
    Graph,
    /// API of the website of mail.ru. Items are threads, and each message is in one folder only.
    Mailru,
}

impl DemoKind {
    pub(super) fn has_object_ids(self) -> bool {
        self == Self::Imap
    }
}
