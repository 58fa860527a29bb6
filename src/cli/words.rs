//! Numbers and times in words, as everywhere.

pub(super) use crate::words::*;
