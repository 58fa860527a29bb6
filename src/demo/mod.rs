//! The embedded mailbox service.
