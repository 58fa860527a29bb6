//! What commands print: results to standard output, trouble to standard error.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the one place that prints; everything else returns text"
)]

use std::fmt::Display;

use crate::cli::exit::Exit;

/// Prints a result.
pub(super) fn out(text: impl Display) {
    println!("{text}");
}

/// Prints why something did not work, and returns how the program ends.
pub(super) fn fail(exit: Exit, why: impl Display) -> Exit {
    eprintln!("cynosure: {why}");
    exit
}

/// Tells something by the way.
pub(super) fn note(text: impl Display) {
    eprintln!("{text}");
}
