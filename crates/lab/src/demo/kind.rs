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
}

impl DemoKind {
    pub(super) fn has_object_ids(self) -> bool {
        self == Self::Imap
    }
}
