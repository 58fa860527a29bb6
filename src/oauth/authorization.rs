//! Authorization request of a browser sign-in, and the redirect that answers it (RFC 6749 §4.1).

use std::fmt;

use cynosure_engine::Secrets;
use url::{Url, form_urlencoded};

use super::client::OAuthClient;
use super::error::{OAuthDenial, OAuthError};
use super::grant::{GrantType, TokenGrant};
use super::pkce::{PkcePair, new_state};

/// Request for an authorization code, which one redirect answers.
pub(super) struct AuthorizationRequest {
    url: Url,
    redirect_uri: String,
    state: String,
    pkce: PkcePair,
    /// Name of the source, for the command in an error message.
    source: String,
}

impl AuthorizationRequest {
    /// Creates a request whose answer the browser takes to `redirect_uri`.
    ///
    /// # Errors
    /// [`OAuthError::Misconfigured`] without an authorization endpoint.
    pub(super) fn new(
        client: &OAuthClient,
        account: &str,
        redirect_uri: String,
    ) -> Result<Self, OAuthError> {
        let Some(authorize_url) = &client.endpoints.authorize_url else {
            let message = "there is no `authorize_url`: set it in `auth`, or sign in with --device";
            return Err(OAuthError::Misconfigured(message.to_owned()));
        };
        let (pkce, state) = (PkcePair::new()?, new_state()?);
        let scope = client.scopes.join(" ");
        let parameters: [(&str, &str); 10] = [
            ("response_type", "code"),
            ("client_id", &client.client_id),
            ("redirect_uri", &redirect_uri),
            ("scope", &scope),
            ("state", &state),
            ("code_challenge", &pkce.challenge),
            ("code_challenge_method", "S256"),
            ("login_hint", account),
            // Google gives a refresh token only with both. Others ignore them.
            ("access_type", "offline"),
            ("prompt", "consent"),
        ];
        let mut url = authorize_url.clone();
        let given = parameters.iter().filter(|(_, value)| !value.is_empty());
        url.query_pairs_mut().extend_pairs(given);
        Ok(Self { url, redirect_uri, state, pkce, source: client.source.clone() })
    }

    /// Returns the address to open in a browser.
    pub(super) fn url(&self) -> &Url {
        &self.url
    }

    /// Exchanges the code in a redirect for tokens. `redirect` is its address, or a part of it that
    /// includes the query.
    ///
    /// # Errors
    /// The error in the redirect, or that of the token endpoint.
    pub(super) async fn exchange(
        &self,
        client: &OAuthClient,
        redirect: &str,
    ) -> Result<TokenGrant, OAuthError> {
        let code = self.parse_redirect(redirect)?;
        client.exchange_code(&code, &self.pkce.verifier, &self.redirect_uri).await
    }

    /// True if a redirect answers this request and no other one.
    pub(super) fn is_answered_by(&self, redirect: &str) -> bool {
        let query = redirect_query(redirect);
        let has_error = parameter(query, "error").is_some();
        match parameter(query, "state") {
            Some(state) => state == self.state && (has_error || parameter(query, "code").is_some()),
            // Some servers leave out the state of an error, which gives no access to anything.
            None => has_error,
        }
    }

    /// Returns the code in a redirect.
    fn parse_redirect(&self, redirect: &str) -> Result<String, OAuthError> {
        let query = redirect_query(redirect);
        let (code, error) = (parameter(query, "code"), parameter(query, "error"));
        if code.is_none() && error.is_none() {
            return Err(refused(
                "the address holds no `code`: give the whole address of the page that the browser \
                 ends on, from http:// on"
                    .to_owned(),
            ));
        }
        if !self.is_answered_by(redirect) {
            return Err(refused(format!(
                "the address belongs to another sign-in: its `state` differs; run \
                 `cynosure auth {}` and use the address that it prints",
                self.source
            )));
        }
        match (error, code) {
            (None, Some(code)) => Ok(code),
            (error, _) => {
                let secrets = Secrets::new([self.state.as_str(), self.pkce.verifier.as_str()]);
                let masked = |text: String| secrets.mask(&text);
                let description = parameter(query, "error_description").map(masked);
                let error = error.map(masked).unwrap_or_default();
                let description = description.as_deref();
                let grant_type = GrantType::AuthorizationCode;
                Err(OAuthError::from_code(&error, description, grant_type, &self.source))
            }
        }
    }
}

impl fmt::Debug for AuthorizationRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthorizationRequest")
            .field("redirect_uri", &self.redirect_uri)
            .finish_non_exhaustive()
    }
}

/// Returns the query of an address; the whole text if it has no question mark.
fn redirect_query(redirect: &str) -> &str {
    let redirect = redirect.trim();
    let query = redirect.split_once('?').map_or(redirect, |(_, query)| query);
    query.split_once('#').map_or(query, |(query, _)| query)
}

/// Returns the first parameter of this name that is not empty.
fn parameter(query: &str, name: &str) -> Option<String> {
    form_urlencoded::parse(query.as_bytes())
        .find(|(key, value)| key == name && !value.is_empty())
        .map(|(_, value)| value.into_owned())
}

fn refused(advice: String) -> OAuthError {
    OAuthError::Denied(OAuthDenial::without_answer(advice))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oauth::client::OAuthEndpoints;

    fn client() -> OAuthClient {
        let endpoints = OAuthEndpoints {
            authorize_url: Some(Url::parse("http://127.0.0.1:1/authorize?tenant=a").unwrap()),
            token_url: Url::parse("http://127.0.0.1:1/token").unwrap(),
            device_url: None,
        };
        let scopes = vec!["mail".to_owned(), "offline_access".to_owned()];
        OAuthClient::new("work", "client".to_owned(), None, endpoints, scopes).unwrap()
    }

    fn request() -> AuthorizationRequest {
        let redirect_uri = "http://127.0.0.1:4000/".to_owned();
        AuthorizationRequest::new(&client(), "me@example.com", redirect_uri).unwrap()
    }

    #[test]
    fn the_url_has_all_parameters() {
        let request = request();

        let pairs: Vec<(String, String)> = request.url().query_pairs().into_owned().collect();

        let expected: [(&str, &str); 11] = [
            ("tenant", "a"),
            ("response_type", "code"),
            ("client_id", "client"),
            ("redirect_uri", "http://127.0.0.1:4000/"),
            ("scope", "mail offline_access"),
            ("state", &request.state),
            ("code_challenge", &request.pkce.challenge),
            ("code_challenge_method", "S256"),
            ("login_hint", "me@example.com"),
            ("access_type", "offline"),
            ("prompt", "consent"),
        ];
        assert_eq!(pairs, expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
        assert!(!request.url().as_str().contains(&request.pkce.verifier));
    }

    #[test]
    fn the_code_is_read_from_an_address_a_path_and_a_query() {
        let request = request();
        let query = format!("state={}&code=a%2Fb&scope=mail", request.state);
        let address = format!("http://127.0.0.1:4000/?{query}#_=_");

        for redirect in [address.as_str(), &format!("  /?{query}\n"), &query] {
            assert_eq!(request.parse_redirect(redirect).unwrap(), "a/b", "{redirect}");
        }
    }

    #[test]
    fn a_redirect_of_another_request_is_refused() {
        let request = request();
        for redirect in
            ["/?code=c", "/?code=c&state=", "/?code=c&state=x", "/?error=access_denied&state=x"]
        {
            let error = request.parse_redirect(redirect).unwrap_err();
            assert!(matches!(error, OAuthError::Denied(_)), "{error}");
            assert!(!error.to_string().contains(&request.state), "{error}");
        }
        let error = request.parse_redirect("/?code=c&state=x").unwrap_err();
        assert!(error.to_string().contains("its `state` differs"), "{error}");
    }

    #[test]
    fn a_denied_consent_is_final_and_a_failing_server_is_not() {
        let request = request();
        let parse = |error: &str| {
            request.parse_redirect(&format!("/?error={error}&state={}", request.state)).unwrap_err()
        };

        let OAuthError::Denied(denial) = parse("access_denied&error_description=No+thanks") else {
            panic!("a denied consent is final");
        };
        assert_eq!(denial.error, "access_denied");
        assert_eq!(denial.description.as_deref(), Some("No thanks"));
        let error = parse("temporarily_unavailable");
        assert!(matches!(error, OAuthError::Transient { .. }), "{error}");
        let error = parse("invalid_scope");
        assert!(matches!(error, OAuthError::Misconfigured(_)), "{error}");
    }

    #[test]
    fn a_text_without_a_code_is_refused_with_the_remedy() {
        for pasted in ["", "4/0AbCd", "http://127.0.0.1:4000/", "http://127.0.0.1:4000/?state=x"] {
            let error = request().parse_redirect(pasted).unwrap_err().to_string();
            assert!(error.contains("holds no `code`"), "{error}");
        }
    }

    #[test]
    fn without_an_authorization_endpoint_there_is_no_request() {
        let mut client = client();
        client.endpoints.authorize_url = None;

        let error = AuthorizationRequest::new(&client, "me", String::new()).unwrap_err();

        assert!(matches!(error, OAuthError::Misconfigured(_)), "{error}");
    }
}
