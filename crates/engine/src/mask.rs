//! Masking of secrets in text, in every form in which a server may echo a request.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

/// Replacement text for a secret.
const MASK: &str = "[secret]";

/// Shortest secret, in bytes, that is searched for in base64 and hex. Five bytes make six
/// characters of base64 at any alignment, and ten of hex: text has those by chance once in two
/// billion places. The four characters of a shorter secret would mask unrelated words.
const ENCODED_SECRET_BYTES_MIN: usize = 5;

/// Shortest beginning of a secret, in characters, that is masked at the end of a truncated text.
const TRUNCATED_SECRET_CHARS_MIN: usize = 6;

/// Bytes in a group that base64 encodes together.
const BASE64_GROUP_BYTES: usize = 3;
const BASE64_CHAR_BITS: usize = 6;

/// Secrets of a request, prepared for the search in server responses.
#[derive(Clone, Default)]
pub struct Secrets {
    forms: Vec<SecretForm>,
}

/// Form in which a secret may appear in a text.
#[derive(Clone, Eq, PartialEq)]
struct SecretForm {
    text: String,
    encoding: Encoding,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Encoding {
    /// Not encoded. Each character may be escaped as in URLs, JSON and HTML.
    Plain,
    /// Characters that do not depend on text next to the secret, in either alphabet and any case.
    Base64,
    Hex,
}

impl Secrets {
    /// Prepares the search for these secrets. Empty ones are left out.
    pub fn new<'s>(secrets: impl IntoIterator<Item = &'s str>) -> Self {
        let mut forms = Vec::new();
        for secret in secrets.into_iter().filter(|secret| !secret.is_empty()) {
            let mut add = |text: &str, encoding| {
                let form = SecretForm { text: text.to_owned(), encoding };
                if !forms.contains(&form) {
                    forms.push(form);
                }
            };
            add(secret, Encoding::Plain);
            if secret.len() >= ENCODED_SECRET_BYTES_MIN {
                (0..BASE64_GROUP_BYTES)
                    .for_each(|offset| add(&base64_core(secret, offset), Encoding::Base64));
                let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
                add(&hex, Encoding::Hex);
            }
        }
        Self { forms }
    }

    /// Returns the text with a mask in place of each secret.
    ///
    /// A run of base64 is masked as a whole, because its other characters hold a part of the
    /// secret's first and last byte.
    #[must_use]
    pub fn mask(&self, text: &str) -> String {
        let mut masked = String::with_capacity(text.len());
        let (mut copied, mut at) = (0, 0);
        while at < text.len() {
            if let Some((start, end)) = self.find_at(text, at) {
                masked.push_str(&text[copied..start.max(copied)]);
                masked.push_str(MASK);
                (copied, at) = (end, end);
            } else {
                at += text[at..].chars().next().map_or(1, char::len_utf8);
            }
        }
        masked.push_str(&text[copied..]);
        masked
    }

    /// Returns the range of the longest form that begins at `at`; base64 is extended to its run.
    fn find_at(&self, text: &str, at: usize) -> Option<(usize, usize)> {
        let ranges = self.forms.iter().filter_map(|form| {
            let end = at + form.match_length(&text[at..])?;
            Some(match form.encoding {
                Encoding::Plain | Encoding::Hex => (at, end),
                Encoding::Base64 => (base64_run_start(text, at), base64_run_end(text, end)),
            })
        });
        ranges.max_by_key(|(start, end)| end - start)
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secrets").field("forms", &self.forms.len()).finish_non_exhaustive()
    }
}

impl SecretForm {
    /// Returns the number of bytes of this form at the start of the text, if the text begins with
    /// it.
    fn match_length(&self, text: &str) -> Option<usize> {
        // A secret may contain something that looks like an escape.
        if text.starts_with(&self.text) {
            return Some(self.text.len());
        }
        let mut rest = text;
        for (index, wanted) in self.text.chars().enumerate() {
            if rest.is_empty() && index >= TRUNCATED_SECRET_CHARS_MIN {
                break;
            }
            let length = self.char_length(rest, wanted).or_else(|| {
                let separator = self.separator_length(rest).filter(|_| index > 0)?;
                Some(separator + self.char_length(&rest[separator..], wanted)?)
            })?;
            rest = &rest[length..];
        }
        Some(text.len() - rest.len())
    }

    /// Returns the number of bytes of the first character of the text, if it is the wanted one.
    fn char_length(&self, text: &str, wanted: char) -> Option<usize> {
        let is_wanted = |found: char| match self.encoding {
            Encoding::Plain => found == wanted,
            Encoding::Hex => found.eq_ignore_ascii_case(&wanted),
            Encoding::Base64 => match wanted {
                '+' => matches!(found, '+' | '-'),
                '/' => matches!(found, '/' | '_'),
                letter => found.eq_ignore_ascii_case(&letter),
            },
        };
        first_char_candidates(text).find_map(|(found, length)| is_wanted(found).then_some(length))
    }

    /// Returns the length of the separators at the start of the text that the encoding permits
    /// between characters: line breaks in base64, separators in hex.
    fn separator_length(&self, text: &str) -> Option<usize> {
        let is_separator = |found: char| match self.encoding {
            Encoding::Plain => false,
            Encoding::Base64 => matches!(found, '\r' | '\n' | ' ' | '\t'),
            Encoding::Hex => matches!(found, ':' | '-' | ' '),
        };
        let mut length = 0;
        while let Some((_, more)) =
            first_char_candidates(&text[length..]).find(|(found, _)| is_separator(*found))
        {
            length += more;
        }
        (length > 0).then_some(length)
    }
}

/// Returns the base64 of a secret that begins `offset` bytes after the beginning of a group: only
/// the characters that hold nothing but bits of the secret.
fn base64_core(secret: &str, offset: usize) -> String {
    let mut bytes = vec![0; offset];
    bytes.extend_from_slice(secret.as_bytes());
    let first = (offset * 8).div_ceil(BASE64_CHAR_BITS);
    let end = bytes.len() * 8 / BASE64_CHAR_BITS;
    STANDARD_NO_PAD.encode(&bytes)[first..end].to_owned()
}

/// Returns the start of the run of base64 that continues at `at`.
fn base64_run_start(text: &str, at: usize) -> usize {
    let run = text[..at].chars().rev().take_while(|c| is_base64_char(*c));
    at - run.map(char::len_utf8).sum::<usize>()
}

/// Returns the end of the run of base64 that reaches up to `at`, padding included.
fn base64_run_end(text: &str, mut at: usize) -> usize {
    let is_in_run = |found: char| is_base64_char(found) || found == '=';
    while let Some((_, length)) =
        first_char_candidates(&text[at..]).find(|(found, _)| is_in_run(*found))
    {
        at += length;
    }
    at
}

fn is_base64_char(found: char) -> bool {
    found.is_ascii_alphanumeric() || matches!(found, '+' | '/' | '-' | '_')
}

/// Returns the possible first characters of a text with their length in bytes: the literal one,
/// and the one whose URL, JSON or HTML escape begins there.
fn first_char_candidates(text: &str) -> impl Iterator<Item = (char, usize)> {
    let literal = text.chars().next().map(|c| (c, c.len_utf8()));
    let escaped = match text.as_bytes().first() {
        Some(b'%') => percent_encoded(text),
        Some(b'\\') => json_escaped(text),
        Some(b'&') => html_escaped(text),
        Some(_) | None => None,
    };
    // The escape first, since the character that it stands for takes all of its bytes.
    escaped.into_iter().chain(literal)
}

/// Decodes a character as escaped in a URL: each byte of its UTF-8 as `%` and two digits
/// (RFC 3986 §2.1).
fn percent_encoded(text: &str) -> Option<(char, usize)> {
    let mut bytes = Vec::new();
    let mut at = 0;
    while text.as_bytes().get(at) == Some(&b'%') && bytes.len() < 4 {
        bytes.push(u8::from_str_radix(text.get(at + 1..at + 3)?, 16).ok()?);
        at += 3;
        if let Ok(decoded) = std::str::from_utf8(&bytes) {
            return decoded.chars().next().map(|c| (c, at));
        }
    }
    None
}

/// Decodes a character as escaped in JSON (RFC 8259 §7).
fn json_escaped(text: &str) -> Option<(char, usize)> {
    let short = match text.as_bytes().get(1)? {
        b'u' => return json_unicode(text),
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        other @ (b'"' | b'\\' | b'/') => char::from(*other),
        _ => return None,
    };
    Some((short, 2))
}

fn json_unicode(text: &str) -> Option<(char, usize)> {
    let unit = |at: usize| {
        let digits = text.get(at..at + 6)?.strip_prefix("\\u")?;
        u16::from_str_radix(digits, 16).ok()
    };
    let first = unit(0)?;
    let units = [first, unit(6).unwrap_or_default()];
    let mut decoded = char::decode_utf16(units);
    let found = decoded.next()?.ok()?;
    Some((found, 6 * found.len_utf16()))
}

/// Decodes an HTML escape: by name for the characters that must be escaped, else by number.
fn html_escaped(text: &str) -> Option<(char, usize)> {
    /// Length of `&#x10ffff;`, the longest valid escape.
    const LENGTH_MAX: usize = 10;
    let end = text.bytes().take(LENGTH_MAX).position(|byte| byte == b';')?;
    let decoded = match &text[1..end] {
        "amp" => '&',
        "lt" => '<',
        "gt" => '>',
        "quot" => '"',
        "apos" => '\'',
        name => {
            let number = name.strip_prefix('#')?;
            let code = match number.strip_prefix(['x', 'X']) {
                Some(hex) => u32::from_str_radix(hex, 16).ok()?,
                None => number.parse().ok()?,
            };
            char::from_u32(code)?
        }
    };
    Some((decoded, end + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(text: &str, secret: &str) -> String {
        Secrets::new([secret]).mask(text)
    }

    #[test]
    fn the_longest_of_several_secrets_is_masked() {
        let secrets = Secrets::new(["secret", "", "cret", "secretly"]);

        assert_eq!(secrets.mask("a secret, secretly"), "a [secret], [secret]");
    }

    #[test]
    fn a_secret_is_found_as_urls_json_and_html_write_it() {
        for text in [
            "p%26s%2bw%C3%B6rd",
            "p%26s%2Bw%c3%b6rd",
            "%70&s+w%C3%B6rd",
            "p&amp;s&#43;w&#xF6;rd",
            r"p\u0026s+w\u00f6rd",
            r"p&s\u002Bw\u00F6rd",
        ] {
            assert_eq!(masked(&format!("<{text}>"), "p&s+wörd"), "<[secret]>", "{text}");
        }
        assert_eq!(masked(r#"{"a":"x\"y\/z"}"#, "x\"y/z"), r#"{"a":"[secret]"}"#);
    }

    #[test]
    fn base64_is_found_though_it_is_broken_into_lines_or_escaped() {
        let encoded = "aHVudGVyMj9+";
        assert_eq!(STANDARD_NO_PAD.encode("hunter2?~"), encoded);
        for text in ["aHVudG\r\nVyMj9+", r"aHVu\ndGVyMj9\u002b", "aHVudGVyMj9%2B==", "ahvudgvymj9-"]
        {
            assert_eq!(masked(&format!("<{text}>"), "hunter2?~"), "<[secret]>", "{text}");
        }
    }

    #[test]
    fn hex_is_found_in_either_case_and_with_separators() {
        for text in ["68756e74657232", "68:75:6E:74:65:72:32", "68 75 6e 74 65 72 32"] {
            assert_eq!(masked(&format!("<{text}>"), "hunter2"), "<[secret]>", "{text}");
        }
    }

    #[test]
    fn a_short_secret_masks_nothing_but_itself() {
        let text = "dGVz dGVzdA== 74657374 is the base64 and hex of a test";

        assert_eq!(masked(text, "test"), text.replace("test", MASK));
    }

    #[test]
    fn a_secret_truncated_at_the_end_of_a_text_is_masked() {
        assert_eq!(masked("the token s3cr3t-t0", "s3cr3t-t0k3n"), "the token [secret]");
        assert_eq!(
            masked("no s3c", "s3cr3t-t0k3n"),
            "no s3c",
            "so short a part may belong to any word"
        );
    }
}

#[cfg(test)]
mod proptests {
    use super::*;
    use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE, BASE64_URL_SAFE_NO_PAD};
    use proptest::prelude::*;

    /// Decodes the runs of base64 in a text, in either alphabet and at any alignment.
    fn decode_base64_runs(text: &str) -> Vec<Vec<u8>> {
        let runs = text.split(|c: char| !is_base64_char(c));
        let aligned = runs.flat_map(|run| (0..4).filter_map(move |offset| run.get(offset..)));
        aligned
            .filter_map(|run| {
                let run = run.replace('-', "+").replace('_', "/");
                let whole = run.len() / 4 * 4;
                STANDARD_NO_PAD.decode(&run[..whole]).ok()
            })
            .collect()
    }

    fn contains_secret(text: &str, secret: &str) -> bool {
        let has_secret =
            |bytes: &[u8]| bytes.windows(secret.len()).any(|part| part == secret.as_bytes());
        let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
        has_secret(text.as_bytes())
            || text.to_ascii_lowercase().contains(&hex)
            || decode_base64_runs(text).iter().any(|bytes| has_secret(bytes))
    }

    proptest! {
        #[test]
        fn no_form_of_a_secret_survives_in_any_context(
            secret in "[!-~]{5,40}", before in "[ -~]{0,20}", after in "[ -~]{0,20}", form in 0..7_usize,
            around in ("\\PC{0,30}", "\\PC{0,30}"),
        ) {
            prop_assume!(!MASK.contains(&secret));
            let inner = format!("{before}{secret}{after}");
            let hex = |upper: bool| {
                let byte = |byte| if upper { format!("{byte:02X}") } else { format!("{byte:02x}") };
                inner.bytes().map(byte).collect::<String>()
            };
            let echo = match form {
                0 => BASE64_STANDARD.encode(&inner),
                1 => STANDARD_NO_PAD.encode(&inner),
                2 => BASE64_URL_SAFE.encode(&inner),
                3 => BASE64_URL_SAFE_NO_PAD.encode(&inner),
                4 => hex(true),
                5 => hex(false),
                _ => inner,
            };
            let text = format!("{}{echo}{}", around.0, around.1);

            let masked = Secrets::new([secret.as_str()]).mask(&text);

            prop_assert!(!contains_secret(&masked, &secret), "{text} became {masked}");
        }

        #[test]
        fn text_without_a_secret_stays_as_it_is(text in "\\PC{0,200}") {
            prop_assert_eq!(Secrets::new(["0123456789abcdef\u{1}"]).mask(&text), text);
        }
    }
}
