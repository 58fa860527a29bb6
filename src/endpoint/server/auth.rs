//! Who may ask: whoever knows the token, or, without one, this machine under its own name.

use std::fmt;
use std::net::IpAddr;

use hyper::header::{self, HeaderMap};
use hyper::http::uri::Authority;
use hyper::{Uri, Version};
use percent_encoding::percent_decode_str;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// What whoever asks must know.
///
/// Only its hash is kept, so that it is in no dump, and hashes are compared in a time that tells nothing.
#[derive(Clone)]
pub struct Token([u8; 32]);

/// Why a request is not answered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum AuthError {
    /// It does not show the token.
    InvalidToken,
    /// A page from elsewhere wants to load it, unseen.
    CrossSite,
    /// It is meant for another name: a page from elsewhere whose name leads here (DNS rebinding).
    ForeignHost,
    /// It has no `Host`, or more than one, or one that cannot be.
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

/// Judges a request by its target and its headers.
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
    let proof = headers.get(header::AUTHORIZATION).map(|value| value.as_bytes());
    if proof.is_some_and(|proof| has_token(token, proof)) {
        Ok(())
    } else {
        Err(AuthError::InvalidToken)
    }
}

/// Whether a browser asks for a page of another site, other than to go here (Fetch Metadata Request Headers).
/// That page could not read the answer, and would use up the requests of whoever looks at it.
fn is_cross_site(headers: &HeaderMap) -> bool {
    let is = |name: &str, value: &str| headers.get(name).is_some_and(|given| given == value);
    let is_visit = is("sec-fetch-mode", "navigate") && is("sec-fetch-dest", "document");
    is("sec-fetch-site", "cross-site") && !is_visit
}

/// As a bearer token (RFC 6750 §2.1), or as the password of anybody (RFC 7617), for which browsers ask.
fn has_token(token: &Token, proof: &[u8]) -> bool {
    let Some(space) = proof.iter().position(|byte| *byte == b' ') else { return false };
    let (scheme, rest) = proof.split_at(space);
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
    let mut named = headers.get_all(header::HOST).iter();
    let host = match (named.next(), named.next()) {
        (Some(host), None) => {
            let host = host.to_str().ok().and_then(|host| host.parse::<Authority>().ok());
            host.ok_or(AuthError::InvalidHost)?
        }
        // Browsers speak 1.1, in which it must be there (RFC 9112 §3.2).
        (None, _) if version == Version::HTTP_10 => return Ok(()),
        (None, _) | (Some(_), Some(_)) => return Err(AuthError::InvalidHost),
    };
    let in_target = target.authority();
    if is_loopback(&host) && in_target.is_none_or(is_loopback) {
        Ok(())
    } else {
        Err(AuthError::ForeignHost)
    }
}

/// With any port: a tunnel may have another.
fn is_loopback(authority: &Authority) -> bool {
    let host = percent_decode_str(authority.host()).decode_utf8_lossy().to_ascii_lowercase();
    let host = host.strip_suffix('.').unwrap_or(&host);
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host == "localhost"
        || host.ends_with(".localhost")
        || bare.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
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

    fn authorize_token(proof: &[&str]) -> Result<(), AuthError> {
        let headers = headers(&header::AUTHORIZATION, proof);
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
        let nothing = HeaderMap::new();
        assert_eq!(authorize(None, Version::HTTP_10, &Uri::from_static("/"), &nothing), Ok(()));
    }

    #[test]
    fn cross_site_pages_may_link_here_but_not_load() {
        let fetched = |site: &str, mode: &str, destination: &str| {
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
                fetched("cross-site", mode, destination),
                Err(AuthError::CrossSite),
                "{mode}"
            );
            assert_eq!(fetched("same-origin", mode, destination), Ok(()), "{mode}");
        }
        assert_eq!(fetched("cross-site", "navigate", "document"), Ok(()));
        assert_eq!(fetched("none", "navigate", "document"), Ok(()));
    }

    #[test]
    fn a_valid_token_is_accepted_under_any_host() {
        // The last is the user "me" with that password.
        for proof in ["Bearer s3cret", "bearer  s3cret", "Basic bWU6czNjcmV0"] {
            assert_eq!(authorize_token(&[proof]), Ok(()), "{proof}");
        }
        for proof in [
            "Bearer s3cre",
            "Bearer s3crett",
            "Bearer",
            "s3cret",
            "Basic !!",
            "Basic czNjcmV0",
            "Digest s3cret",
            "",
        ] {
            assert_eq!(authorize_token(&[proof]), Err(AuthError::InvalidToken), "{proof}");
        }
        assert_eq!(authorize_token(&[]), Err(AuthError::InvalidToken));
        assert_eq!(format!("{:?}", Token::new("s3cret")), "Token");
    }
}
