//! Decisions, and nothing else.
