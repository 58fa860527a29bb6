//! Mail addresses, as people write them.

use cynosure_engine::sanitize_line;

use super::host_name::parse_host_name;

/// Longest address, in bytes (RFC 5321, section 4.5.3.1.3, without the brackets).
const ADDRESS_BYTES_MAX: usize = 254;

/// Longest part before the `@`, in bytes (RFC 5321, section 4.5.3.1.1).
const LOCAL_PART_BYTES_MAX: usize = 64;

/// Characters of the part before the `@` beside letters and digits (RFC 5322, section 3.2.3).
const LOCAL_PART_SYMBOLS: &str = "!#$%&'*+-/=?^_`{|}~.";

const REMEDY: &str = "write the whole mail address, such as me@example.com";

/// Mail address of the form `local@domain`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MailAddress {
    text: String,
    local_part: String,
    domain: String,
}

impl MailAddress {
    /// Parses an address. Spaces around it are ignored.
    ///
    /// # Errors
    ///
    /// One sentence that says what is wrong and what to write.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.is_empty() {
            return Err(format!("the mail address is empty; {REMEDY}"));
        }
        let problem =
            |problem: &str| Err(format!("\"{}\" {problem}; {REMEDY}", sanitize_line(text)));
        let Some((local_part, domain_text)) = text.rsplit_once('@') else {
            return problem("has no @");
        };
        if local_part.is_empty() {
            return problem("has nothing before the @");
        }
        if domain_text.is_empty() {
            return problem("has nothing after the @");
        }
        if LOCAL_PART_BYTES_MAX < local_part.len() || ADDRESS_BYTES_MAX < text.len() {
            return problem("is too long for a mail address");
        }
        if !local_part.chars().all(is_local_part_char) {
            return problem("has a character before the @ that a mail address does not have");
        }
        let Some(domain) = parse_host_name(domain_text) else {
            return problem("has no valid domain after the @");
        };
        if !domain.contains('.') && domain != "localhost" {
            return problem("has a domain without a dot");
        }
        Ok(Self { text: text.to_owned(), local_part: local_part.to_owned(), domain })
    }

    /// Returns the address as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns the domain in lower case and in ASCII, international names as `xn--`.
    #[must_use]
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// Returns the part before the `@`.
    #[must_use]
    pub fn local_part(&self) -> &str {
        &self.local_part
    }
}

fn is_local_part_char(c: char) -> bool {
    c.is_alphanumeric() || LOCAL_PART_SYMBOLS.contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_local_part_and_a_domain() {
        for (text, local_part, domain) in [
            ("me@example.com", "me", "example.com"),
            ("  Me.Too+tag@Example.COM \n", "Me.Too+tag", "example.com"),
            ("o'brien@sub.example.com", "o'brien", "sub.example.com"),
            ("jürgen@müller.example", "jürgen", "xn--mller-kva.example"),
            ("me@localhost", "me", "localhost"),
        ] {
            let address = MailAddress::parse(text).expect("it is valid");

            assert_eq!(address.local_part(), local_part);
            assert_eq!(address.domain(), domain);
            assert_eq!(address.as_str(), text.trim());
        }
    }

    #[test]
    fn an_error_says_what_is_wrong_and_what_to_write() {
        let long = format!("{}@example.com", "a".repeat(65));
        for (text, expected) in [
            ("", "is empty"),
            ("  ", "is empty"),
            ("example.com", "has no @"),
            ("@example.com", "has nothing before the @"),
            ("me@", "has nothing after the @"),
            ("me@example", "has a domain without a dot"),
            ("me@you@example.com", "has a character before the @"),
            ("my name@example.com", "has a character before the @"),
            ("<me@example.com>", "has a character before the @"),
            ("mailto:me@example.com", "has a character before the @"),
            ("me@127.0.0.1", "has no valid domain"),
            ("me@[::1]", "has no valid domain"),
            ("me@exa mple.com", "has no valid domain"),
            ("me@example.com/path", "has no valid domain"),
            ("me@a..b", "has no valid domain"),
            (long.as_str(), "is too long"),
        ] {
            let error = MailAddress::parse(text).expect_err(text);

            assert!(error.contains(expected), "{text:?}: {error}");
            assert!(error.ends_with(REMEDY), "{error}");
        }
    }

    #[test]
    fn an_error_shows_no_control_characters() {
        let error = MailAddress::parse("me\u{1b}[2J@example.com").expect_err("it is invalid");

        assert!(!error.contains('\u{1b}'), "{error:?}");
    }
}
