//! Mail folders.

/// Mail folder, which JMAP calls a Mailbox (RFC 8621 §2).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Folder {
    Inbox,
    Archive,
    Sent,
    Trash,
}

/// The folders a message is in; always at least one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Folders(u8);

impl Folder {
    pub(crate) const ALL: [Self; 4] = [Self::Inbox, Self::Archive, Self::Sent, Self::Trash];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Inbox => "Inbox",
            Self::Archive => "Archive",
            Self::Sent => "Sent",
            Self::Trash => "Trash",
        }
    }

    /// Returns the role (RFC 8621 §2, the IANA registry of mailbox attributes in lower case).
    pub(crate) fn role(self) -> &'static str {
        match self {
            Self::Inbox => "inbox",
            Self::Archive => "archive",
            Self::Sent => "sent",
            Self::Trash => "trash",
        }
    }
}

impl Folders {
    pub(super) fn of(folders: &[Folder]) -> Self {
        Self(folders.iter().fold(0, |bits, folder| bits | 1 << *folder as u8))
    }

    pub(crate) fn contains(self, folder: Folder) -> bool {
        self.0 & 1 << folder as u8 != 0
    }

    pub(crate) fn count(self) -> u32 {
        self.0.count_ones()
    }

    /// Returns the first folder, which is the only one for services that have one for each message.
    pub(super) fn first(self) -> Folder {
        Folder::ALL.into_iter().find(|folder| self.contains(*folder)).unwrap_or(Folder::Inbox)
    }
}
