//! Drives: wait, decide, perform.
