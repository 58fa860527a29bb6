//! Recorded part of an error response, for diagnosis days later.

use crate::{Secrets, truncate_to_bytes};

/// Longest recorded part of a body, in bytes. The first kilobyte of a problem document or an error
/// page is mostly enough to understand it; the second is reserve.
pub const RECORDED_BODY_BYTES_MAX: usize = 2048;

/// Maximum number of recorded headers. A dozen is usual, but a server may send thousands.
const RECORDED_HEADERS_MAX: usize = 32;
/// Longest recorded part of a header value, in bytes.
const RECORDED_HEADER_BYTES_MAX: usize = 256;

/// Recorded headers: those that name the reason or the responding server. Others may hold cookies
/// and tokens.
const RECORDED_HEADERS: &[&str] = &[
    "retry-after",
    "content-type",
    "content-encoding",
    "content-length",
    "date",
    "age",
    "server",
    "via",
    "x-cache",
    "x-request-id",
    "location",
    "www-authenticate",
    "proxy-authenticate",
];

/// Prefixes of the names of rate limit headers.
const RATE_LIMIT_HEADER_PREFIXES: &[&str] = &["ratelimit", "x-ratelimit", "x-rate-limit"];

/// Headers that are never recorded, even if a user's rule names them.
const SECRET_HEADERS: &[&str] =
    &["set-cookie", "cookie", "authorization", "proxy-authorization", "authentication-info"];

/// Response other than the expected one, as rules see it.
#[derive(Clone, Copy, Debug)]
pub struct ResponseView<'a> {
    pub status: u16,
    /// Names in lower case; a name may occur several times.
    pub headers: &'a [(&'a str, &'a str)],
    /// Beginning of the body, as text.
    pub body: &'a str,
}

/// Recorded part of a response. Its text is untrusted and must be sanitized for printing.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RecordedResponse {
    pub status: u16,
    /// Names in lower case, in the order of the response.
    pub headers: Vec<(String, String)>,
    pub body: String,
    /// True if the body was longer.
    pub is_truncated: bool,
}

impl RecordedResponse {
    /// Records the permitted part of a response.
    ///
    /// `rule_headers` are further headers that rules test. The `secrets` are masked before
    /// truncation, so that no part of one remains.
    #[must_use]
    pub fn capture(response: &ResponseView<'_>, rule_headers: &[&str], secrets: &Secrets) -> Self {
        let may_record = |name: &str| {
            let is_known = RECORDED_HEADERS.contains(&name)
                || RATE_LIMIT_HEADER_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
                || rule_headers.contains(&name);
            is_known && !is_secret_header(name)
        };
        let recorded =
            response.headers.iter().filter(|(name, _)| may_record(name)).take(RECORDED_HEADERS_MAX);
        let headers = recorded.map(|(name, value)| {
            let value = secrets.mask(redact_header_value(name, value));
            ((*name).to_owned(), truncate_to_bytes(&value, RECORDED_HEADER_BYTES_MAX).to_owned())
        });
        let body = secrets.mask(response.body);
        let prefix = truncate_to_bytes(&body, RECORDED_BODY_BYTES_MAX);
        Self {
            status: response.status,
            headers: headers.collect(),
            is_truncated: prefix.len() < body.len(),
            body: prefix.to_owned(),
        }
    }
}

/// Returns true if a header, by its name in lower case, must never be recorded or shown.
#[must_use]
pub fn is_secret_header(name: &str) -> bool {
    SECRET_HEADERS.contains(&name)
}

/// Returns the recorded part of a header value: the scheme of a challenge and the host of a URL,
/// since the rest may hold tokens.
fn redact_header_value<'v>(name: &str, value: &'v str) -> &'v str {
    match name {
        "www-authenticate" | "proxy-authenticate" => value.split(' ').next().unwrap_or_default(),
        "location" => url_host(value),
        _ => value,
    }
}

/// Returns the host of a URL; empty for a path without a host.
fn url_host(url: &str) -> &str {
    let Some((_, rest)) = url.split_once("//") else { return "" };
    let authority = rest.split(['/', '?', '#', '\\']).next().unwrap_or_default();
    authority.rsplit('@').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn captured(headers: &[(&str, &str)], body: &str) -> RecordedResponse {
        let response = ResponseView { status: 403, headers, body };
        RecordedResponse::capture(&response, &["x-error", "set-cookie"], &Secrets::new(["hunter2"]))
    }

    #[test]
    fn useful_headers_are_recorded_and_secret_ones_are_not() {
        let response = captured(
            &[
                ("retry-after", "30"),
                ("x-ratelimit-remaining", "0"),
                ("set-cookie", "session=1"),
                ("authorization", "Bearer x"),
                ("x-internal", "1"),
                ("x-error", "quota of hunter2"),
                ("www-authenticate", "Bearer error_description=\"x\""),
                ("location", "https://me:pw@login.example.com/?token=x"),
            ],
            "no hunter2 here",
        );

        let headers: Vec<_> =
            response.headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        assert_eq!(
            headers,
            [
                "retry-after: 30",
                "x-ratelimit-remaining: 0",
                "x-error: quota of [secret]",
                "www-authenticate: Bearer",
                "location: login.example.com",
            ]
        );
        assert_eq!(response.body, "no [secret] here");
        assert!(!response.is_truncated);
    }

    #[test]
    fn a_recorded_response_has_a_size_limit() {
        let header = ("via", "é".repeat(1000));
        let headers: Vec<_> = (0..100).map(|_| (header.0, header.1.as_str())).collect();

        let response = captured(&headers, &"日".repeat(5000));

        assert_eq!((response.headers.len(), response.headers[0].1.len()), (32, 256));
        assert_eq!((response.body.len(), response.is_truncated), (2046, true));
    }
}

#[cfg(test)]
mod proptests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_secret_is_never_recorded_wherever_it_is(
            before in "\\PC{0,40}|x{1990,2100}", after in "\\PC{0,40}", name in "[a-z-]{1,20}|via|location"
        ) {
            let secret = "s3cr3t-t0k3n";
            let text = format!("{before}{secret}{after}");
            let headers = [(name.as_str(), text.as_str())];

            let response = ResponseView { status: 500, headers: &headers, body: &text };
            let recorded = RecordedResponse::capture(&response, &[&name], &Secrets::new([secret]));

            let printed = format!("{recorded:?}");
            // Not even a part of it, which truncation in its middle would leave.
            prop_assert!(!printed.contains("s3cr3t"), "{printed}");
            prop_assert!(recorded.body.len() <= RECORDED_BODY_BYTES_MAX);
        }
    }
}
