//! Touches files: the only user of fsync, rename and locks.
