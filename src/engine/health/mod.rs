//! Judges the health of everything, from facts that were gathered at one moment.
//!
//! ```text
//! facts, thresholds, now ──▶ one function per check ──▶ Check … ──▶ Report, as bad as the worst
//! ```
//!
//! What is well about many things alike is one check; what is amiss is one for each of them. A check
//! that could not be made is unknown, with the reason, and never healthy.

mod check;

pub use self::check::{Area, Check, Report};
