//! Output of the commands: results to standard output, errors and notes to standard error.

use std::fmt::Display;
use std::io::{self, Write};

use cynosure_engine::is_unsafe_for_terminal;
use serde::Serialize;
use serde_json::Value;

use crate::app::error::ProgramError;
use crate::app::exit::ProgramExit;

/// Prints a result, for a command that ends when its output is not read.
///
/// # Errors
/// [`ProgramError::StdoutFailed`], also if the reader of the pipe has exited, as `head` does.
pub(super) fn print_result(text: impl Display) -> Result<(), ProgramError> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{text}").and_then(|()| stdout.flush()).map_err(ProgramError::StdoutFailed)
}

/// Converts an output to JSON, with the keys of each object in alphabetical order.
#[must_use]
pub(super) fn sorted_json(output: &impl Serialize) -> Value {
    // Serialization cannot fail: all keys are strings.
    serde_json::to_value(output).unwrap_or_default()
}

/// Serialises an output as JSON without characters that a terminal would interpret: they are
/// written as `\u` escapes, which every JSON parser decodes.
#[must_use]
pub(super) fn terminal_safe_json(output: &impl Serialize) -> String {
    let mut text = String::new();
    // Outside of strings there is only printable ASCII, so escapes are only written in strings.
    for c in sorted_json(output).to_string().chars() {
        if is_unsafe_for_terminal(c) {
            let mut units = [0; 2];
            text.extend(c.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")));
        } else {
            text.push(c);
        }
    }
    text
}

/// Prints a result, for a command whose work must continue even if its output is not read.
pub(super) fn print_best_effort(text: impl Display) {
    if let Err(ProgramError::StdoutFailed(error)) = print_result(text)
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        print_note(format!("cynosure: cannot print: {error}"));
    }
}

/// Prints an error, and returns the given exit.
pub(super) fn print_error(exit: ProgramExit, message: impl Display) -> ProgramExit {
    print_note(format!("cynosure: {message}"));
    exit
}

/// Prints a line to standard error.
pub(super) fn print_note(text: impl Display) {
    // A failure to write to standard error cannot be reported anywhere.
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
            prop_assert_eq!(serde_json::from_str::<Value>(&escaped).unwrap(), value);
        }
    }
}
