//! Lenient parser of lists of parameterised items: structured fields (RFC 9651 §3.1), and older
//! headers of nearly the same form.

/// Numbers from here on are invalid: no limit is so large, and no time so late.
const COUNT_MAX: f64 = 1e15;

/// Returns the parts of `text` between separators outside quotes, trimmed.
pub(super) fn split(text: &str, separator: u8) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let (part, after) = match find_separator(text.as_bytes(), separator) {
            Some(at) => (&text[..at], Some(&text[at + 1..])),
            None => (text, None),
        };
        rest = after;
        Some(part.trim())
    })
}

/// Returns the value of a parameter of an item, without quotes.
pub(super) fn parameter<'a>(item: &'a str, key: &str) -> Option<&'a str> {
    split(item, b';').skip(1).find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        (name.trim() == key).then(|| unquote(value))
    })
}

/// Returns the value of an item, without parameters and quotes.
pub(super) fn item_value(item: &str) -> &str {
    unquote(split(item, b';').next().unwrap_or_default())
}

/// Parses a count: finite and not negative.
pub(super) fn parse_count(text: &str) -> Option<f64> {
    let count: f64 = text.trim().parse().ok()?;
    (0.0..COUNT_MAX).contains(&count).then_some(count)
}

fn unquote(text: &str) -> &str {
    let text = text.trim();
    text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text)
}

fn find_separator(text: &[u8], separator: u8) -> Option<usize> {
    let mut is_quoted = false;
    let mut is_escaped = false;
    text.iter().position(|&byte| {
        if is_escaped {
            is_escaped = false;
            return false;
        }
        match byte {
            b'\\' => is_escaped = is_quoted,
            b'"' => is_quoted = !is_quoted,
            _ => return !is_quoted && byte == separator,
        }
        false
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separators_in_quotes_do_not_split() {
        let text = r#""a,b";q=1;pk="x;\"y", c;q=2"#;
        let items: Vec<_> = split(text, b',').collect();

        assert_eq!(items, [r#""a,b";q=1;pk="x;\"y""#, "c;q=2"]);
        assert_eq!(item_value(items[0]), "a,b");
        assert_eq!(parameter(items[0], "q"), Some("1"));
        assert_eq!(parameter(items[0], "pk"), Some(r#"x;\"y"#));
        assert_eq!(parameter(items[1], "w"), None);
    }

    #[test]
    fn junk_is_not_parsed_as_a_count() {
        for junk in ["", "-1", "NaN", "inf", "1e300", "ten", "0x10"] {
            assert_eq!(parse_count(junk), None, "{junk:?}");
        }
        assert_eq!(parse_count(" 12.0 "), Some(12.0));
    }
}
