//! Proof key of an authorization request (PKCE, RFC 7636), and its state: both random.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64_URL;
use rustls::crypto::ring::default_provider;
use sha2::{Digest as _, Sha256};

use super::error::OAuthError;

/// Random bytes of a verifier and of a state (RFC 7636 §4.1).
const RANDOM_BYTES: usize = 32;

/// Verifier, which is sent with the code only, and its challenge, which is sent before.
pub(super) struct PkcePair {
    pub(super) verifier: String,
    /// SHA-256 of the verifier (`S256`).
    pub(super) challenge: String,
}

impl PkcePair {
    /// Creates a random pair.
    ///
    /// # Errors
    /// If the system gives no random numbers.
    pub(super) fn new() -> Result<Self, OAuthError> {
        Ok(Self::from_verifier(random_text()?))
    }

    fn from_verifier(verifier: String) -> Self {
        let challenge = BASE64_URL.encode(Sha256::digest(&verifier));
        Self { verifier, challenge }
    }
}

impl fmt::Debug for PkcePair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PkcePair").field("challenge", &self.challenge).finish_non_exhaustive()
    }
}

/// Returns the random state of a request, which its redirect must repeat (RFC 6749 §10.12).
///
/// # Errors
/// If the system gives no random numbers.
pub(super) fn new_state() -> Result<String, OAuthError> {
    random_text()
}

fn random_text() -> Result<String, OAuthError> {
    let mut bytes = [0; RANDOM_BYTES];
    default_provider().secure_random.fill(&mut bytes).map_err(|_error| OAuthError::Transient {
        message: "the system gives no random numbers".to_owned(),
        retry_after: None,
    })?;
    Ok(BASE64_URL.encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_challenge_is_that_of_rfc_7636_appendix_b() {
        let pair =
            PkcePair::from_verifier("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk".to_owned());

        assert_eq!(pair.challenge, "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
    }

    #[test]
    fn each_pair_and_each_state_differs() {
        let (one, other) = (PkcePair::new().unwrap(), PkcePair::new().unwrap());

        // 32 bytes are 43 characters of base64.
        assert_eq!(one.verifier.len(), 43);
        assert_ne!(one.verifier, other.verifier);
        assert_ne!(new_state().unwrap(), new_state().unwrap());
    }

    #[test]
    fn the_debug_form_hides_the_verifier() {
        let pair = PkcePair::new().unwrap();

        assert!(!format!("{pair:?}").contains(&pair.verifier));
    }
}
