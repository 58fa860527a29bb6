//! Credential of a source: a secret that its user keeps, or tokens that the program keeps after a
//! sign-in with OAuth 2.0.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use cynosure_engine::{Cause, Failure};
use tokio::sync::OnceCell;

use crate::config::{CredentialRef, EnvVars, OAuthSettings, Secret, SourceAuth};
use crate::env::{Env, RealEnv};
use crate::oauth::{
    AccessTokens, OAuthClient, OAuthEndpoints, OAuthError, TokenFile, TokenFileError,
};
use crate::source::credential::Credential;
use crate::worker::last_credential::LastCredential;

/// Name of the token file in the state folder of a source.
const TOKEN_FILE: &str = "token.json";

/// Place of the secrets of a source, and the last one that was used.
#[derive(Clone, Debug)]
pub(super) struct CredentialContext {
    pub(super) environment: EnvVars,
    pub(super) last_credential: LastCredential,
    /// Folder with the state of the source, which has the token file by default.
    pub(super) source_state_dir: PathBuf,
}

/// Access tokens of a source. The client is built at the first use, which reads its secret.
struct SourceTokens {
    settings: OAuthSettings,
    context: CredentialContext,
    tokens: OnceCell<AccessTokens>,
}

/// Returns the file with the tokens of a source. `source_state_dir` is the state folder of the
/// source.
#[must_use]
pub fn token_file(settings: &OAuthSettings, source_state_dir: &Path) -> TokenFile {
    let default = || source_state_dir.join(TOKEN_FILE);
    TokenFile::new(settings.token_file.clone().unwrap_or_else(default))
}

/// Builds the client with which a source signs in, and which refreshes its tokens. Reads the secret
/// of the client, and sends nothing. Blocks.
///
/// # Errors
/// Returns [`OAuthError::Misconfigured`] if there is no usable secret, and the error of the client.
pub fn oauth_client(
    settings: &OAuthSettings,
    environment: &EnvVars,
) -> Result<OAuthClient, OAuthError> {
    let secret_ref = settings.client_secret.as_ref();
    let secret = secret_ref.map(|secret_ref| secret_ref.read(environment)).transpose();
    let secret =
        secret.map_err(|error| OAuthError::Misconfigured(format!("client secret: {error}")))?;
    let endpoints = OAuthEndpoints {
        authorize_url: settings.authorize_url.clone(),
        token_url: settings.token_url.clone(),
        device_url: settings.device_url.clone(),
    };
    OAuthClient::new(settings.client_id.clone(), secret, endpoints, settings.scopes.clone())
}

/// Returns the credential of a source. Nothing is read before its first use, and then on a blocking
/// thread.
pub(super) fn source_credential(auth: &SourceAuth, context: CredentialContext) -> Credential {
    match auth {
        SourceAuth::Basic { password: secret, .. }
        | SourceAuth::Password { password: secret, .. }
        | SourceAuth::Bearer { token: secret }
        | SourceAuth::OAuth2 { token: secret, .. } => stored_credential(secret.clone(), context),
        SourceAuth::SignIn { client, .. } => signed_in_credential(client.clone(), context),
    }
}

/// Checks that the credential of a source is usable, as far as that shows without a request. A
/// missing token file is no error: the source waits for the sign-in. Blocks.
///
/// # Errors
/// Returns one sentence for an error that lasts until the user corrects it.
pub(super) fn check_source_credential(
    auth: &SourceAuth,
    context: &CredentialContext,
) -> Result<(), String> {
    let secret_ref = match auth {
        SourceAuth::SignIn { client, .. } => {
            match token_file(client, &context.source_state_dir).load() {
                Err(error @ TokenFileError::Unusable(_)) => return Err(error.to_string()),
                // The client reads it again, and reports any other error.
                Ok(_) | Err(TokenFileError::Storage(_)) => {}
            }
            client.client_secret.as_ref()
        }
        SourceAuth::Basic { .. }
        | SourceAuth::Bearer { .. }
        | SourceAuth::Password { .. }
        | SourceAuth::OAuth2 { .. } => auth.credential_ref(),
    };
    match secret_ref.map(|secret_ref| secret_ref.read(&context.environment)) {
        Some(Err(error)) if error.is_permanent() => Err(error.to_string()),
        // The client reads it again, and reports any other error.
        Some(Ok(_) | Err(_)) | None => Ok(()),
    }
}

/// Returns true if a credential is stored that differs from the one last used. Blocks.
pub(super) fn is_credential_replaced(auth: &SourceAuth, context: &CredentialContext) -> bool {
    let last = &context.last_credential;
    match auth {
        SourceAuth::Basic { password: secret, .. }
        | SourceAuth::Password { password: secret, .. }
        | SourceAuth::Bearer { token: secret }
        | SourceAuth::OAuth2 { token: secret, .. } => {
            last.is_replaced(secret, &context.environment)
        }
        SourceAuth::SignIn { client, .. } => {
            let stored = token_file(client, &context.source_state_dir).load();
            stored.ok().flatten().is_some_and(|stored| last.differs_from(&stored.access_token))
        }
    }
}

/// Returns the credential at `credential_ref`.
fn stored_credential(credential_ref: CredentialRef, context: CredentialContext) -> Credential {
    Credential::new(move || {
        let (credential_ref, context) = (credential_ref.clone(), context.clone());
        Box::pin(async move {
            let read = move || {
                context
                    .last_credential
                    .read(&credential_ref, &context.environment)
                    .map_err(|error| Failure::new(Cause::Unauthorized, error.to_string()))
            };
            RealEnv.spawn_blocking(read).await
        })
    })
}

/// Returns the credential of a source whose user signs in.
fn signed_in_credential(settings: OAuthSettings, context: CredentialContext) -> Credential {
    let tokens = Arc::new(SourceTokens { settings, context, tokens: OnceCell::new() });
    let (current, renew, stored) = (Arc::clone(&tokens), Arc::clone(&tokens), tokens);
    Credential::from_tokens(
        move || {
            let tokens = Arc::clone(&current);
            Box::pin(async move { tokens.record(tokens.get().await?.current().await) })
        },
        move || {
            let tokens = Arc::clone(&renew);
            Box::pin(async move { tokens.record(tokens.get().await?.renew().await) })
        },
        move || {
            let tokens = Arc::clone(&stored);
            Box::pin(async move { RealEnv.spawn_blocking(move || tokens.stored()).await })
        },
    )
}

impl SourceTokens {
    /// Returns the tokens. Builds their client unless that has succeeded before.
    async fn get(&self) -> Result<&AccessTokens, Failure> {
        self.tokens.get_or_try_init(|| self.open()).await
    }

    async fn open(&self) -> Result<AccessTokens, Failure> {
        let (settings, environment) = (self.settings.clone(), self.context.environment.clone());
        let client = RealEnv.spawn_blocking(move || oauth_client(&settings, &environment)).await;
        let client = client.map_err(|error| error.to_failure())?;
        Ok(AccessTokens::new(client, self.file(), || RealEnv.now()))
    }

    /// Remembers the token that is used, so that a reload of the configuration detects a sign-in.
    fn record(&self, result: Result<Secret, OAuthError>) -> Result<Secret, Failure> {
        let token = result.map_err(|error| error.to_failure())?;
        self.context.last_credential.set(token.clone());
        Ok(token)
    }

    /// Returns the access token in the token file. Blocks.
    fn stored(&self) -> Result<Option<Secret>, Failure> {
        match self.file().load() {
            Ok(stored) => Ok(stored.map(|stored| stored.access_token)),
            Err(TokenFileError::Storage(failure)) => Err(failure),
            Err(error @ TokenFileError::Unusable(_)) => {
                Err(Failure::new(Cause::Unauthorized, error.to_string()))
            }
        }
    }

    fn file(&self) -> TokenFile {
        token_file(&self.settings, &self.context.source_state_dir)
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;
    use crate::disk::{Disk as _, RealDisk};
    use crate::source::CredentialChange;

    /// Content of a token file whose access token never expires.
    fn token_json(access_token: &str) -> String {
        format!(
            r#"{{"schema": 1, "client_id": "client", "token_url": "http://127.0.0.1:1/token",
            "scope": null, "access_token": "{access_token}", "refresh_token": null,
            "expires_at": null, "issued_at": "2026-01-01T00:00:00Z"}}"#
        )
    }

    fn sign_in(dir: &Path, json: &str) {
        let path = dir.join(TOKEN_FILE);
        // A new file, as a sign-in writes it.
        RealDisk.remove_file(&path).ok();
        RealDisk.create_file(&path).unwrap().append(json.as_bytes()).unwrap();
    }

    fn auth() -> SourceAuth {
        SourceAuth::SignIn {
            username: "me@example.com".to_owned(),
            client: OAuthSettings {
                client_id: "client".to_owned(),
                client_secret: None,
                token_file: None,
                authorize_url: None,
                // No server listens there, and no test sends a request.
                token_url: "http://127.0.0.1:1/token".parse().unwrap(),
                device_url: None,
                scopes: Vec::new(),
            },
        }
    }

    fn context(dir: &Path) -> CredentialContext {
        CredentialContext {
            environment: EnvVars::default(),
            last_credential: LastCredential::default(),
            source_state_dir: dir.to_owned(),
        }
    }

    #[tokio::test]
    async fn a_source_without_a_token_file_waits_for_a_sign_in() {
        let dir = tempfile::tempdir().unwrap();
        let context = context(dir.path());
        assert_eq!(check_source_credential(&auth(), &context), Ok(()));
        let credential = source_credential(&auth(), context);

        let failure = credential.current().await.unwrap_err();
        assert_eq!(failure.cause, Cause::Unauthorized);
        assert!(failure.message.contains("cynosure auth"), "{failure}");
        assert_eq!(credential.reload().await, Ok(CredentialChange::Unchanged));
        sign_in(dir.path(), &token_json("first"));

        assert_eq!(credential.reload().await, Ok(CredentialChange::Changed));
        assert_eq!(credential.current().await.unwrap().expose_secret(), "first");
    }

    #[tokio::test]
    async fn a_reload_of_the_configuration_detects_a_sign_in() {
        let dir = tempfile::tempdir().unwrap();
        sign_in(dir.path(), &token_json("first"));
        let context = context(dir.path());
        source_credential(&auth(), context.clone()).current().await.unwrap();
        assert!(!is_credential_replaced(&auth(), &context));

        sign_in(dir.path(), &token_json("second"));

        assert!(is_credential_replaced(&auth(), &context));
    }

    #[test]
    fn a_damaged_token_file_is_a_configuration_error() {
        let dir = tempfile::tempdir().unwrap();
        sign_in(dir.path(), "not JSON");

        let error = check_source_credential(&auth(), &context(dir.path())).unwrap_err();

        assert!(error.contains("token.json"), "{error}");
    }
}
