//! Capabilities that a server advertises (RFC 3501 §7.2.1).

use std::collections::BTreeSet;

/// Names of capabilities, in upper case.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(in crate::source::imap) struct CapabilitySet(BTreeSet<String>);

impl CapabilitySet {
    /// Returns true if the server advertises the capability with this upper-case name.
    pub(in crate::source::imap) fn contains(&self, name: &str) -> bool {
        self.0.contains(name)
    }

    /// True if the server has not been asked yet, because it advertises at least `IMAP4rev1`.
    pub(in crate::source::imap) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<T: AsRef<str>> FromIterator<T> for CapabilitySet {
    fn from_iter<I: IntoIterator<Item = T>>(names: I) -> Self {
        Self(names.into_iter().map(|name| name.as_ref().to_ascii_uppercase()).collect())
    }
}
