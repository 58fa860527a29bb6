//! Assertion with which a service account gets access for one user (JWT bearer, RFC 7523), as
//! Google's domain-wide delegation requires it.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD as BASE64, URL_SAFE_NO_PAD as BASE64_URL};
use cynosure_engine::Timestamp;
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use secrecy::{ExposeSecret as _, SecretSlice, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};
use url::{Host, Url};

use super::error::OAuthError;

/// Seconds after which an assertion expires: the most that Google accepts.
const ASSERTION_LIFETIME_SECONDS: i64 = 3600;

/// Value of `type` in a key file.
const KEY_TYPE: &str = "service_account";

const PEM_BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const PEM_END: &str = "-----END PRIVATE KEY-----";

const KEY_HELP: &str = "put the JSON key of the service account there, as its provider gave it";

/// Key of a service account, and the identity that belongs to it. Its debug form shows nothing
/// secret.
#[derive(Debug)]
pub struct ServiceAccountKey {
    email: String,
    /// Identifier of the key, by which the server finds the public one.
    key_id: Option<String>,
    token_url: Url,
    key_pair: RsaKeyPair,
}

/// JSON of a key file, as Google gives it.
#[derive(Deserialize)]
struct KeyFileContent {
    #[serde(rename = "type")]
    key_type: Option<String>,
    client_email: Option<String>,
    private_key: Option<String>,
    private_key_id: Option<String>,
    token_uri: Option<String>,
}

impl ServiceAccountKey {
    /// Reads a key file.
    ///
    /// # Errors
    /// The problem and the remedy, as the rest of a sentence about the file. It holds nothing of
    /// the content.
    pub fn parse(json: &SecretString) -> Result<Self, String> {
        let content: KeyFileContent =
            serde_json::from_str(json.expose_secret()).map_err(|error| {
                let (line, column) = (error.line(), error.column());
                format!("is no JSON key (line {line}, column {column}); {KEY_HELP}")
            })?;
        if content.key_type.as_deref() != Some(KEY_TYPE) {
            return Err(format!("is not of the type \"{KEY_TYPE}\"; {KEY_HELP}"));
        }
        let given = |name: &str, value: Option<String>| {
            let value = value.filter(|value| !value.is_empty());
            value.ok_or_else(|| format!("has no `{name}`; {KEY_HELP}"))
        };
        let private_key = SecretString::from(given("private_key", content.private_key)?);
        let key_pair = parse_private_key(&private_key)
            .map_err(|problem| format!("has a `private_key` that {problem}; {KEY_HELP}"))?;
        let token_url = Url::parse(&given("token_uri", content.token_uri)?).ok();
        Ok(Self {
            email: given("client_email", content.client_email)?,
            key_id: content.private_key_id,
            token_url: token_url
                .filter(is_protected)
                .ok_or_else(|| format!("has a `token_uri` that is not https://; {KEY_HELP}"))?,
            key_pair,
        })
    }

    /// Returns the token endpoint of the provider.
    #[must_use]
    pub fn token_url(&self) -> &Url {
        &self.token_url
    }

    /// Returns an assertion for the mailbox of `subject`, which this token endpoint accepts from
    /// `now` on, for an hour.
    ///
    /// # Errors
    /// Returns [`OAuthError::Misconfigured`] if the key cannot sign.
    pub fn sign(
        &self,
        subject: &str,
        scopes: &[String],
        token_url: &Url,
        now: Timestamp,
    ) -> Result<SecretString, OAuthError> {
        let mut header = json!({ "alg": "RS256", "typ": "JWT" });
        if let Some(key_id) = &self.key_id {
            header["kid"] = json!(key_id);
        }
        let issued_at = now.unix_seconds();
        let claims = json!({
            "iss": self.email,
            "sub": subject,
            "scope": scopes.join(" "),
            "aud": token_url.as_str(),
            "iat": issued_at,
            "exp": issued_at.saturating_add(ASSERTION_LIFETIME_SECONDS),
        });
        let encode = |part: &Value| BASE64_URL.encode(part.to_string());
        let message = format!("{}.{}", encode(&header), encode(&claims));
        let mut signature = vec![0; self.key_pair.public().modulus_len()];
        self.key_pair
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message.as_bytes(), &mut signature)
            .map_err(|_error| {
                OAuthError::Misconfigured("the key of the service account cannot sign".to_owned())
            })?;
        Ok(SecretString::from(format!("{message}.{}", BASE64_URL.encode(signature))))
    }
}

/// Reads a private RSA key in PKCS#8, in its text form (RFC 7468 §10). The error is the rest of a
/// sentence about it.
fn parse_private_key(pem: &SecretString) -> Result<RsaKeyPair, String> {
    let body = pem.expose_secret().trim().strip_prefix(PEM_BEGIN);
    let body = body.and_then(|body| body.strip_suffix(PEM_END));
    let body = body.ok_or_else(|| format!("does not begin with {PEM_BEGIN}"))?;
    let base64 = SecretString::from(body.split_whitespace().collect::<String>());
    let der = BASE64.decode(base64.expose_secret()).map(SecretSlice::<u8>::from);
    let der = der.map_err(|_error| "is damaged".to_owned())?;
    RsaKeyPair::from_pkcs8(der.expose_secret())
        .map_err(|error| format!("is no usable RSA key ({error})"))
}

/// True for a URL over which a token is sent: https, or http on this machine.
fn is_protected(url: &Url) -> bool {
    let is_loopback = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    url.scheme() == "https" || (url.scheme() == "http" && is_loopback)
}

#[cfg(test)]
mod tests {
    use ring::signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};

    use super::*;

    const KEY_FILE: &str = include_str!("../../tests/fixtures/service-account.key.json");
    const NOW: Timestamp = Timestamp(1_700_000_000_999);

    fn parse(json: &Value) -> Result<ServiceAccountKey, String> {
        ServiceAccountKey::parse(&json.to_string().into())
    }

    fn decode(part: &str) -> Value {
        serde_json::from_slice(&BASE64_URL.decode(part).unwrap()).unwrap()
    }

    #[test]
    fn an_assertion_has_the_claims_and_a_valid_signature() {
        let key = ServiceAccountKey::parse(&KEY_FILE.into()).unwrap();
        let scopes = ["mail".to_owned(), "openid".to_owned()];

        let assertion = key.sign("me@example.com", &scopes, key.token_url(), NOW).unwrap();

        let assertion = assertion.expose_secret();
        let (message, signature) = assertion.rsplit_once('.').unwrap();
        let (header, claims) = message.split_once('.').unwrap();
        let expected_header = json!({ "alg": "RS256", "typ": "JWT", "kid": "test-key-1" });
        assert_eq!(decode(header), expected_header);
        let expected_claims = json!({
            "iss": "cynosure@cynosure-test.iam.gserviceaccount.example",
            "sub": "me@example.com",
            "scope": "mail openid",
            "aud": "https://oauth2.example.com/token",
            "iat": 1_700_000_000,
            "exp": 1_700_003_600,
        });
        assert_eq!(decode(claims), expected_claims);
        let public_key: &[u8] = key.key_pair.public_key().as_ref();
        let public_key = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, public_key);
        let signature = BASE64_URL.decode(signature).unwrap();
        public_key.verify(message.as_bytes(), &signature).unwrap();
        assert!(public_key.verify(claims.as_bytes(), &signature).is_err());
    }

    #[test]
    fn an_unusable_key_file_is_refused_without_its_content() {
        let whole: Value = serde_json::from_str(KEY_FILE).unwrap();
        let with = |name: &str, value: Value| {
            let mut json = whole.clone();
            json[name] = value;
            parse(&json).unwrap_err()
        };
        let pem = |body: &str| json!(format!("{PEM_BEGIN}\n{body}\n{PEM_END}\n"));

        for (error, problem) in [
            (with("type", json!("authorized_user")), "is not of the type \"service_account\""),
            (with("type", Value::Null), "is not of the type \"service_account\""),
            (with("client_email", Value::Null), "has no `client_email`"),
            (with("private_key", json!("")), "has no `private_key`"),
            (with("private_key", json!("s3cret")), "does not begin with -----BEGIN PRIVATE KEY"),
            (with("private_key", pem("s3cret!")), "`private_key` that is damaged"),
            (with("private_key", pem("czNjcmV0")), "is no usable RSA key"),
            (with("token_uri", json!("s3cret")), "has a `token_uri` that is not https://"),
            (with("token_uri", json!("http://example.com/s3cret")), "is not https://"),
            (parse(&json!(["s3cret"])).unwrap_err(), "is no JSON key"),
        ] {
            assert!(error.contains(problem), "{problem:?} is not in {error:?}");
            assert!(error.ends_with(KEY_HELP), "{error}");
            assert!(!error.contains("s3cret"), "{error}");
        }
        let error = ServiceAccountKey::parse(&"{\"type\": s3cret".into()).unwrap_err();
        assert!(error.starts_with("is no JSON key (line 1, column "), "{error}");
    }

    #[test]
    fn a_key_may_name_an_endpoint_on_this_machine() {
        let mut json: Value = serde_json::from_str(KEY_FILE).unwrap();
        for url in ["http://127.0.0.1:4000/token", "http://[::1]/token", "http://localhost/token"] {
            json["token_uri"] = json!(url);
            assert_eq!(parse(&json).unwrap().token_url().as_str(), url);
        }
    }

    #[test]
    fn the_debug_form_hides_the_key() {
        let key = ServiceAccountKey::parse(&KEY_FILE.into()).unwrap();
        let whole: Value = serde_json::from_str(KEY_FILE).unwrap();
        let line = whole["private_key"].as_str().unwrap().lines().nth(1).unwrap();

        assert!(!format!("{key:?}").contains(line));
    }
}
