//! Authorization of requests: by the token, or, if none is configured, by a loopback `Host`.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cynosure_engine::is_loopback_host;
use hyper::header::{self, HeaderMap};
use hyper::http::uri::Authority;
use hyper::{Uri, Version};
use percent_encoding::percent_decode_str;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// Secret that authorizes requests.
///
/// Only its hash is stored, so that no memory dump contains the secret. Hashes are compared in
/// constant time.
#[derive(Clone)]
pub struct Token([u8; 32]);

/// Reason that a request is rejected.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum AuthError {
    /// The token is missing or wrong.
    InvalidToken,
    /// A page of another site caused the request, other than by a link.
    CrossSite,
    /// The host is not this machine. A page of another site may have resolved its own name to this
    /// address (DNS rebinding).
    ForeignHost,
    /// `Host` is missing, repeated or malformed.
    InvalidHost,
}

impl Token {
    #[must_use]
    pub fn new(secret: &str) -> Self {
        Self(Sha256::digest(secret).into())
    }

    fn matches(&self, given: &[u8]) -> bool {
        let given: [u8; 32] = Sha256::digest(given).into();
        self.0.ct_eq(&given).into()
    }
}

impl PartialEq for Token {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

/// Checks whether a request is allowed, by its target and its headers.
pub(super) fn authorize(
    token: Option<&Token>,
    version: Version,
    target: &Uri,
    headers: &HeaderMap,
) -> Result<(), AuthError> {
    if is_cross_site(headers) {
        return Err(AuthError::CrossSite);
    }
    let Some(token) = token else { return check_host(version, target, headers) };
    let credentials = headers.get(header::AUTHORIZATION).map(|value| value.as_bytes());
    if credentials.is_some_and(|credentials| has_token(token, credentials)) {
        Ok(())
    } else {
        Err(AuthError::InvalidToken)
    }
}

/// True if a page of another site caused the request, other than by a link (Fetch Metadata Request
/// Headers). Such a page cannot read the response, but would use up the rate limit of its visitor.
fn is_cross_site(headers: &HeaderMap) -> bool {
    let header_is = |name: &str, value: &str| headers.get(name).is_some_and(|given| given == value);
    let is_navigation =
        header_is("sec-fetch-mode", "navigate") && header_is("sec-fetch-dest", "document");
    header_is("sec-fetch-site", "cross-site") && !is_navigation
}

/// True if the credentials contain the token: as a bearer token (RFC 6750 §2.1), or as the password
/// of any user (RFC 7617), because browsers prompt for that.
fn has_token(token: &Token, credentials: &[u8]) -> bool {
    let Some(space) = credentials.iter().position(|byte| *byte == b' ') else { return false };
    let (scheme, rest) = credentials.split_at(space);
    let rest = rest.trim_ascii();
    if scheme.eq_ignore_ascii_case(b"bearer") {
        return token.matches(rest);
    }
    if !scheme.eq_ignore_ascii_case(b"basic") {
        return false;
    }
    let Some(login) = STANDARD.decode(rest).ok() else { return false };
    let Some(colon) = login.iter().position(|byte| *byte == b':') else { return false };
    token.matches(&login[colon + 1..])
}

fn check_host(version: Version, target: &Uri, headers: &HeaderMap) -> Result<(), AuthError> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => {
            let host = host.to_str().ok().and_then(|host| host.parse::<Authority>().ok());
            host.ok_or(AuthError::InvalidHost)?
        }
        // HTTP/1.0 does not require `Host`. Browsers use 1.1, which does (RFC 9112 §3.2).
        (None, _) if version == Version::HTTP_10 => return Ok(()),
        (None, _) | (Some(_), Some(_)) => return Err(AuthError::InvalidHost),
    };
    let target_authority = target.authority();
    if is_loopback(&host) && target_authority.is_none_or(is_loopback) {
        Ok(())
    } else {
        Err(AuthError::ForeignHost)
    }
}

/// True for localhost and loopback addresses with any port, because a tunnel may use another one.
fn is_loopback(authority: &Authority) -> bool {
    is_loopback_host(&percent_decode_str(authority.host()).decode_utf8_lossy())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &header::HeaderName, values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(name.clone(), value.parse().unwrap());
        }
        headers
    }

    fn authorize_host(hosts: &[&str]) -> Result<(), AuthError> {
        let headers = headers(&header::HOST, hosts);
        authorize(None, Version::HTTP_11, &Uri::from_static("/health"), &headers)
    }

    fn authorize_token(credentials: &[&str]) -> Result<(), AuthError> {
        let headers = headers(&header::AUTHORIZATION, credentials);
        let token = Token::new("s3cret");
        authorize(Some(&token), Version::HTTP_11, &Uri::from_static("/"), &headers)
    }

    #[test]
    fn without_a_token_only_loopback_hosts_are_allowed() {
        for host in
            ["127.0.0.1:8080", "localhost", "LOCALHOST:1", "[::1]:8080", "127.9.9.9", "a.localhost"]
        {
            assert_eq!(authorize_host(&[host]), Ok(()), "{host}");
        }
        for host in
            ["evil.example", "127.0.0.1.evil.example:8080", "localhost.evil", "10.0.0.1", "0.0.0.0"]
        {
            assert_eq!(authorize_host(&[host]), Err(AuthError::ForeignHost), "{host}");
        }
        for hosts in [&[][..], &["localhost", "localhost"], &["a b"], &[""]] {
            assert_eq!(authorize_host(hosts), Err(AuthError::InvalidHost), "{hosts:?}");
        }
        let target = Uri::from_static("http://evil.example/health");
        let local = headers(&header::HOST, &["localhost"]);
        assert_eq!(authorize(None, Version::HTTP_11, &target, &local), Err(AuthError::ForeignHost));
        let empty = HeaderMap::new();
        assert_eq!(authorize(None, Version::HTTP_10, &Uri::from_static("/"), &empty), Ok(()));
    }

    #[test]
    fn cross_site_pages_may_link_here_but_not_load() {
        let authorize_fetch = |site: &str, mode: &str, destination: &str| {
            let mut headers = headers(&header::HOST, &["localhost"]);
            for (name, value) in [
                ("sec-fetch-site", site),
                ("sec-fetch-mode", mode),
                ("sec-fetch-dest", destination),
            ] {
                headers.insert(name.parse::<header::HeaderName>().unwrap(), value.parse().unwrap());
            }
            authorize(None, Version::HTTP_11, &Uri::from_static("/"), &headers)
        };
        for (mode, destination) in [("no-cors", "image"), ("cors", "empty"), ("navigate", "iframe")]
        {
            assert_eq!(
                authorize_fetch("cross-site", mode, destination),
                Err(AuthError::CrossSite),
                "{mode}"
            );
            assert_eq!(authorize_fetch("same-origin", mode, destination), Ok(()), "{mode}");
        }
        assert_eq!(authorize_fetch("cross-site", "navigate", "document"), Ok(()));
        assert_eq!(authorize_fetch("none", "navigate", "document"), Ok(()));
    }

    #[test]
    fn a_valid_token_is_accepted_under_any_host() {
        // The last one is user "me" with the token as the password.
        for credentials in ["Bearer s3cret", "bearer  s3cret", "Basic bWU6czNjcmV0"] {
            assert_eq!(authorize_token(&[credentials]), Ok(()), "{credentials}");
        }
        for credentials in [
            "Bearer s3cre",
            "Bearer s3crett",
            "Bearer",
            "s3cret",
            "Basic !!",
            "Basic czNjcmV0",
            "Digest s3cret",
            "",
        ] {
            assert_eq!(
                authorize_token(&[credentials]),
                Err(AuthError::InvalidToken),
                "{credentials}"
            );
        }
        assert_eq!(authorize_token(&[]), Err(AuthError::InvalidToken));
        assert_eq!(format!("{:?}", Token::new("s3cret")), "Token");
    }
}
