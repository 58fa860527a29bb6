//! What commands print: results to standard output, trouble to standard error.

use std::fmt::Display;
use std::io::{self, Write};

use crate::cli::exit::Exit;
use crate::cli::trouble::Trouble;

/// Prints a result, for a command that has nothing left to do when nobody reads it.
///
/// # Errors
/// [`Trouble::Unread`], also where the reader has left, as `head` does.
pub(super) fn show(text: impl Display) -> Result<(), Trouble> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{text}").and_then(|()| stdout.flush()).map_err(Trouble::Unread)
}

/// Prints a result that is told by the way: the work counts, whoever reads.
pub(super) fn out(text: impl Display) {
    if let Err(Trouble::Unread(error)) = show(text)
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        note(format!("cynosure: cannot print: {error}"));
    }
}

/// Prints why something did not work, and returns how the program ends.
pub(super) fn fail(exit: Exit, why: impl Display) -> Exit {
    note(format!("cynosure: {why}"));
    exit
}

/// Tells something by the way.
pub(super) fn note(text: impl Display) {
    // Where standard error is closed there is nowhere to say so.
    drop(writeln!(io::stderr(), "{text}"));
}
