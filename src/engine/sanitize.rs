//! Sanitizing of untrusted text for logs, files and terminals.

/// Longest sanitized line, in characters, since it is shown in one table cell or log line.
const LINE_CHARS_MAX: usize = 300;

/// Returns untrusted text as one printable line of bounded length.
#[must_use]
pub fn sanitize_line(text: &str) -> String {
    let mut line = String::new();
    for (count, c) in text.chars().enumerate() {
        if count == LINE_CHARS_MAX {
            line.push('…');
            break;
        }
        push_escaped(&mut line, c);
    }
    line
}

/// Returns untrusted text as printable lines without truncation, to show a whole response.
#[must_use]
pub fn sanitize_lines(text: &str) -> Vec<String> {
    let escaped = |line: &str| {
        let mut escaped = String::new();
        line.chars().for_each(|c| push_escaped(&mut escaped, c));
        escaped
    };
    text.lines().map(escaped).collect()
}

fn push_escaped(line: &mut String, c: char) {
    if is_unsafe_for_terminal(c) {
        line.extend(c.escape_unicode());
    } else {
        line.push(c);
    }
}

/// True for control characters, which can forge log lines and colours, and for bidirectional
/// ones, which reorder the displayed text.
#[must_use]
pub fn is_unsafe_for_terminal(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}' | '\u{2029}')
        || ('\u{202a}'..='\u{202e}').contains(&c)
        || ('\u{2066}'..='\u{2069}').contains(&c)
}

#[cfg(test)]
mod proptests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn sanitized_text_is_safe_for_terminals_and_logs(text: String) {
            let line = sanitize_line(&text);
            let lines = sanitize_lines(&text);

            prop_assert!(!line.chars().any(is_unsafe_for_terminal), "{line:?}");
            prop_assert!(!lines.iter().flat_map(|line| line.chars()).any(is_unsafe_for_terminal));
            prop_assert_eq!(lines.len(), text.lines().count(), "nothing is left out");
        }
    }
}
