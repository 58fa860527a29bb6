//! Remembers: a row per item, in SQLite.
