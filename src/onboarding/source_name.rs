//! Names for new sources.

use super::address::MailAddress;
use super::known_provider::find_by_address;

/// Longest suggestion, in bytes. A source's name has 64 at most, and a number may follow.
const NAME_BYTES_MAX: usize = 40;

/// Suggestion for a domain whose first label has no usable character.
const FALLBACK: &str = "mail";

/// Returns a name for a source that is none of `taken`: the provider of an address, or the first
/// label of its domain, with a number if that is taken.
#[must_use]
pub fn suggest_source_name(address: &MailAddress, taken: &[String]) -> String {
    let base = match find_by_address(address) {
        Some(mailbox) => mailbox.provider.short_name().to_owned(),
        None => first_label(address.domain()),
    };
    let is_free = |name: &String| !taken.contains(name);
    let numbered = (2..).map(|number: u32| format!("{base}-{number}"));
    let mut names = [base.clone()].into_iter().chain(numbered);
    names.find(is_free).unwrap_or(base)
}

fn first_label(domain: &str) -> String {
    let is_allowed = |c: &char| c.is_ascii_lowercase() || c.is_ascii_digit() || *c == '-';
    let label = domain.split('.').next().unwrap_or_default();
    let name: String = label.chars().filter(is_allowed).take(NAME_BYTES_MAX).collect();
    if name.is_empty() || name.starts_with('-') { FALLBACK.to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SourceName;

    fn suggest(address: &str, taken: &[&str]) -> String {
        let address = MailAddress::parse(address).expect("it is valid");
        let taken: Vec<String> = taken.iter().map(|name| (*name).to_owned()).collect();
        suggest_source_name(&address, &taken)
    }

    #[test]
    fn the_provider_or_the_domain_gives_the_name() {
        for (address, expected) in [
            ("me@gmail.com", "gmail"),
            ("me@hotmail.co.uk", "outlook"),
            ("me@web.de", "webde"),
            ("me@Example.com", "example"),
            ("me@mail.example.com", "mail"),
            ("me@müller.example", "xn--mller-kva"),
            ("me@localhost", "localhost"),
        ] {
            assert_eq!(suggest(address, &[]), expected, "{address}");
        }
    }

    #[test]
    fn a_taken_name_gets_the_first_free_number() {
        assert_eq!(suggest("me@gmail.com", &["gmail"]), "gmail-2");
        assert_eq!(suggest("me@gmail.com", &["gmail", "gmail-2", "gmail-4"]), "gmail-3");
        assert_eq!(suggest("me@gmail.com", &["work"]), "gmail");
    }

    #[test]
    fn every_suggestion_is_a_valid_name() {
        let long = format!("me@{}.example", "a".repeat(63));
        for address in ["me@example.com", "me@1.example", "me@yahoo.co.jp", &long] {
            for taken in [Vec::new(), vec!["example", "1", "yahoo-japan"]] {
                let name = suggest(address, &taken);
                assert!(name.parse::<SourceName>().is_ok(), "{name}");
            }
        }
    }
}
