//! What commands print: results to standard output, trouble to standard error.

use std::fmt::Display;
use std::io::{self, Write};

use crate::cli::exit::Exit;
use crate::cli::trouble::Trouble;
use crate::engine::is_unsafe_for_terminal;

/// Prints a result, for a command that has nothing left to do when nobody reads it.
///
/// # Errors
/// [`Trouble::Unread`], also where the reader has left, as `head` does.
pub(super) fn show(text: impl Display) -> Result<(), Trouble> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{text}").and_then(|()| stdout.flush()).map_err(Trouble::Unread)
}

/// Writes JSON so that a terminal takes nothing of it for a command: what would disturb one is
/// written as an escape, which every reader of JSON takes back.
#[must_use]
pub(super) fn escaped_json(value: &serde_json::Value) -> String {
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

#[cfg(test)]
mod laws {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn json_for_a_terminal_disturbs_none_and_reads_back(text: String) {
            let value = serde_json::json!({ "body": text });

            let escaped = escaped_json(&value);

            prop_assert!(!escaped.chars().any(is_unsafe_for_terminal), "{escaped:?}");
            prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&escaped).unwrap(), value);
        }
    }
}
