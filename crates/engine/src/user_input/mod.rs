//! Texts that users write: durations and sizes, misspelled words, and the errors in a file.
//!
//! The configuration, and the traces and scenarios of the simulator are read with it.

mod diagnostic;
mod location;
mod suggest;
mod units;

pub use self::diagnostic::Diagnostic;
pub use self::location::Location;
pub use self::suggest::closest_match;
pub use self::units::{duration_literal, parse_duration, parse_size, size_literal};
