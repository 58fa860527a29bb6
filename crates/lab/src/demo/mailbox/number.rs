//! Numbers of messages and threads, from which their contents are generated.

/// Number of a message, in the order of receipt.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct MessageNumber(pub(crate) u32);

/// Number of a thread, in the order in which threads began.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct ThreadNumber(pub(crate) u32);
