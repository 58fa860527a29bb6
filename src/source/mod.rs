//! Fetches: how each kind of source is spoken to.
