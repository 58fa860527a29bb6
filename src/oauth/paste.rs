//! Sign-in without a browser on this machine: its user opens the address elsewhere and pastes the
//! address of the page that fails to load.

use url::Url;

use super::authorization::AuthorizationRequest;
use super::client::OAuthClient;
use super::error::OAuthError;
use super::grant::TokenGrant;

/// Address that a browser on another machine is redirected to. Nothing listens there, so the page
/// fails to load, and its address holds the code. Servers accept any port of this host (RFC 8252
/// §7.3).
const REDIRECT_URI: &str = "http://127.0.0.1:1/";

/// Sign-in that waits for the address of the redirect.
#[derive(Debug)]
pub struct PastedSignIn<'a> {
    /// Address to open in a browser.
    pub url: Url,
    client: &'a OAuthClient,
    request: AuthorizationRequest,
}

impl<'a> PastedSignIn<'a> {
    /// Begins a sign-in of this account.
    ///
    /// # Errors
    /// [`OAuthError::Misconfigured`] without an authorization endpoint.
    pub fn new(client: &'a OAuthClient, account: &str) -> Result<Self, OAuthError> {
        let request = AuthorizationRequest::new(client, account, REDIRECT_URI.to_owned())?;
        Ok(Self { url: request.url().clone(), client, request })
    }

    /// Exchanges the code in the pasted address for tokens.
    ///
    /// # Errors
    /// The error in the address, or that of the token endpoint.
    pub async fn finish(self, pasted: &str) -> Result<TokenGrant, OAuthError> {
        self.request.exchange(self.client, pasted).await
    }
}
