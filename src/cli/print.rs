//! What commands print: results to standard output, trouble to standard error.

use std::fmt::Display;
use std::io::{self, Write};

use crate::cli::error::CliError;
use crate::cli::exit::ProgramExit;
use crate::engine::is_unsafe_for_terminal;

/// Prints a result, for a command that has nothing left to do when nobody reads it.
///
/// # Errors
/// [`CliError::Unread`], also where the reader has left, as `head` does.
pub(super) fn print_result(text: impl Display) -> Result<(), CliError> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{text}").and_then(|()| stdout.flush()).map_err(CliError::StdoutFailed)
}

/// Writes JSON so that a terminal takes nothing of it for a command: what would disturb one is
/// written as an escape, which every reader of JSON takes back.
#[must_use]
pub(super) fn terminal_safe_json(value: &serde_json::Value) -> String {
    let mut text = String::new();
    // Outside of strings there is only ASCII, and nothing of it that disturbs.
    for c in value.to_string().chars() {
        if is_unsafe_for_terminal(c) {
            let mut units = [0; 2];
            text.extend(c.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")));
        } else {
            text.push(c);
        }
    }
    text
}

/// Prints a result that is told by the way: the work counts, whoever reads.
pub(super) fn print_best_effort(text: impl Display) {
    if let Err(CliError::StdoutFailed(error)) = print_result(text)
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        print_note(format!("cynosure: cannot print: {error}"));
    }
}

/// Prints why something did not work, and returns how the program ends.
pub(super) fn print_error(exit: ProgramExit, why: impl Display) -> ProgramExit {
    print_note(format!("cynosure: {why}"));
    exit
}

/// Tells something by the way.
pub(super) fn print_note(text: impl Display) {
    // Where standard error is closed there is nowhere to say so.
    drop(writeln!(io::stderr(), "{text}"));
}

#[cfg(test)]
mod proptests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn terminal_safe_json_has_no_control_characters(text: String) {
            let value = serde_json::json!({ "body": text });

            let escaped = terminal_safe_json(&value);

            prop_assert!(!escaped.chars().any(is_unsafe_for_terminal), "{escaped:?}");
            prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&escaped).unwrap(), value);
        }
    }
}
