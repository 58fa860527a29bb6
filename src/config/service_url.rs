//! URL of a service, without credentials.

use cynosure_engine::is_loopback_host;
use url::Url;

use super::show::quote;

/// Parts of the names of query parameters that hold a secret.
const CREDENTIAL_NAME_PARTS: [&str; 9] =
    ["token", "key", "secret", "pass", "pwd", "auth", "cred", "sig", "jwt"];

/// Parses the URL of a service, such as `example`. An error states the problem and the remedy. It
/// never quotes the URL, because users paste URLs with passwords.
pub(super) fn parse_url(text: &str, example: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| {
        format!("is not a valid URL ({error}); write it in full, such as \"{example}\"")
    })?;
    if !matches!(url.scheme(), "https" | "http") {
        return Err("is neither https nor http; write a URL that starts with https://".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("holds a user name or a password; move them to `auth`".to_owned());
    }
    if url.query_pairs().any(|(name, _)| is_credential_name(&name)) {
        let message = "has a query parameter that looks like a credential; move it to `auth`";
        return Err(message.to_owned());
    }
    if url.fragment().is_some() {
        return Err("has a fragment (after #), which no server receives; remove it".to_owned());
    }
    Ok(url)
}

/// Checks the name or the address of a server, such as `example`. The error states the problem and
/// the remedy.
pub(super) fn check_host(host: &str, example: &str) -> Result<(), String> {
    // A scheme that the parser does not know, so that the host is left as it is written.
    let url = Url::parse(&format!("server://{host}/"));
    let is_host = url.is_ok_and(|url| url.host_str() == Some(host) && url.port().is_none());
    is_host.then_some(()).ok_or_else(|| {
        format!(
            "is {}, which is not a host name; write one such as {}",
            quote(host),
            quote(example)
        )
    })
}

/// Checks a host to which a server may refer requests. The error states the problem and the remedy.
pub(super) fn check_allowed_host(host: &str) -> Result<(), String> {
    let url = Url::parse(&format!("https://{host}/"));
    let is_host = url.is_ok_and(|url| url.host_str() == Some(host));
    is_host
        .then_some(())
        .ok_or_else(|| format!("{} is not a host name such as \"mail.example.com\"", quote(host)))
}

/// True if the name of a query parameter suggests that it holds a secret.
fn is_credential_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    CREDENTIAL_NAME_PARTS.iter().any(|part| name.contains(part))
}

/// Returns a URL with its query hidden, because a parameter of any name may be a secret.
pub(super) fn without_query(url: &Url) -> String {
    match url.query() {
        Some(query) => url.as_str().replacen(query, "[not shown]", 1),
        None => url.as_str().to_owned(),
    }
}

/// True if requests can be read on the way: plain http to another machine.
pub(super) fn is_plaintext_remote(url: &Url) -> bool {
    url.scheme() == "http" && !is_loopback(url)
}

/// True if the host of a URL is this machine.
pub(super) fn is_loopback(url: &Url) -> bool {
    url.host_str().is_some_and(is_loopback_host)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = "https://api.example.com/";

    #[test]
    fn only_http_beyond_loopback_is_plaintext_remote() {
        let cases = [
            ("https://mail.example.com/", false),
            ("http://mail.example.com/", true),
            ("http://localhost:8080/", false),
            ("http://mail.localhost/", false),
            ("http://127.9.9.9/", false),
            ("http://[::1]/", false),
            ("http://10.0.0.1/", true),
            ("http://localhost.example.com/", true),
            ("http://2130706433/", false),
        ];
        for (text, expected) in cases {
            let found = parse_url(text, EXAMPLE).map(|url| is_plaintext_remote(&url));
            assert_eq!(found, Ok(expected), "{text}");
        }
    }

    #[test]
    fn a_query_is_accepted_and_hidden() {
        let url = parse_url("https://a/jmap?user=hunter2", EXAMPLE).unwrap();

        assert_eq!(url.query(), Some("user=hunter2"));
        assert_eq!(without_query(&url), "https://a/jmap?[not shown]");
    }

    #[test]
    fn a_url_with_a_password_is_rejected_and_not_quoted() {
        for text in [
            "https://me:hunter2@example.com/",
            "https://hunter2@example.com/",
            "hunter2",
            "ftp://hunter2/",
            "https://a/#hunter2",
            "https://a/?token=hunter2",
            "https://a/?x=1&API_KEY=hunter2",
            "https://a/?access%5Ftoken=hunter2",
        ] {
            let error = parse_url(text, EXAMPLE).expect_err("refused");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
