//! Credential of a source: a secret that its user keeps, tokens that the program keeps after a
//! sign-in with OAuth 2.0, or tokens of an application.

use std::path::Path;
use std::sync::Arc;

use cynosure_engine::{Cause, Failure};
use tokio::sync::OnceCell;

use crate::config::{CredentialError, CredentialRef, EnvVars, OAuthSettings, Secret, SourceAuth};
use crate::env::{Env, RealEnv};
use crate::oauth::{
    AccessTokens, ClientSecretFuture, OAuthClient, OAuthEndpoints, OAuthError, TokenFile,
    TokenFileError,
};
use crate::source::CredentialChange;
use crate::source::credential::Credential;
use crate::worker::application_credential::{
    application_credential, check_application, is_application_replaced,
};
use crate::worker::credential_context::{CredentialContext, client_secret_error};

/// Name of the token file in the state folder of a source.
const TOKEN_FILE: &str = "token.json";

/// Access tokens of a source. The client is built at the first use.
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

/// Builds the client with which the source of this name signs in. Reads the secret of the client,
/// and sends nothing. Blocks.
///
/// # Errors
/// Returns [`OAuthError::Misconfigured`] if there is no usable secret, [`OAuthError::Transient`] if
/// a command that prints it fails, and the error of the client.
pub fn oauth_client(
    settings: &OAuthSettings,
    source: &str,
    environment: &EnvVars,
) -> Result<OAuthClient, OAuthError> {
    let secret = read_client_secret(settings.client_secret.as_ref(), environment)?;
    build_client(settings, source, secret)
}

fn read_client_secret(
    secret_ref: Option<&CredentialRef>,
    environment: &EnvVars,
) -> Result<Option<Secret>, OAuthError> {
    let secret = secret_ref.map(|secret_ref| secret_ref.read(environment)).transpose();
    secret.map_err(|error| client_secret_error("client secret", &error))
}

fn build_client(
    settings: &OAuthSettings,
    source: &str,
    secret: Option<Secret>,
) -> Result<OAuthClient, OAuthError> {
    let endpoints = OAuthEndpoints {
        authorize_url: settings.authorize_url.clone(),
        token_url: settings.token_url.clone(),
        device_url: settings.device_url.clone(),
    };
    let (client_id, scopes) = (settings.client_id.clone(), settings.scopes.clone());
    OAuthClient::new(source, client_id, secret, endpoints, scopes)
}

/// Returns the credential of a source. Nothing is read before its first use, and then on a blocking
/// thread.
pub(super) fn source_credential(auth: &SourceAuth, context: CredentialContext) -> Credential {
    match auth {
        SourceAuth::None => Credential::new(|| Box::pin(async { Ok(Secret::default()) })),
        SourceAuth::SignIn { client, .. } => signed_in_credential(client.clone(), context),
        SourceAuth::Application { client, .. } => application_credential(client.clone(), context),
        SourceAuth::Basic { .. }
        | SourceAuth::Bearer { .. }
        | SourceAuth::Password { .. }
        | SourceAuth::OAuth2 { .. }
        | SourceAuth::Header { .. }
        | SourceAuth::Query { .. }
        | SourceAuth::Session { .. } => stored_credential(auth.clone(), context),
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
    let secret = match auth {
        SourceAuth::SignIn { client, .. } => {
            match token_file(client, &context.source_state_dir).load() {
                Err(error @ TokenFileError::Unusable(_)) => return Err(error.to_string()),
                // The client reads it again, and reports any other error.
                Ok(_) | Err(TokenFileError::Storage(_)) => {}
            }
            client.client_secret.as_ref().map(|secret_ref| secret_ref.read(&context.environment))
        }
        SourceAuth::Application { client, .. } => {
            return check_application(client, &context.environment);
        }
        SourceAuth::None
        | SourceAuth::Basic { .. }
        | SourceAuth::Bearer { .. }
        | SourceAuth::Password { .. }
        | SourceAuth::OAuth2 { .. }
        | SourceAuth::Header { .. }
        | SourceAuth::Query { .. }
        | SourceAuth::Session { .. } => read_stored(auth, &context.environment),
    };
    match secret {
        Some(Err(error)) if error.is_permanent() => Err(error.to_string()),
        // The client reads it again, and reports any other error.
        Some(Ok(_) | Err(_)) | None => Ok(()),
    }
}

/// Returns true if a credential is stored that differs from the one last used. Blocks.
pub(super) fn is_credential_replaced(auth: &SourceAuth, context: &CredentialContext) -> bool {
    let last = &context.last_credential;
    match auth {
        SourceAuth::SignIn { client, .. } => {
            let stored = token_file(client, &context.source_state_dir).load().ok().flatten();
            let secret = read_client_secret(client.client_secret.as_ref(), &context.environment);
            let secret = secret.ok().flatten();
            stored.is_some_and(|stored| last.differs_from(&stored.access_token))
                || secret.is_some_and(|secret| last.is_client_secret_replaced(&secret))
        }
        SourceAuth::Application { client, .. } => is_application_replaced(client, context),
        SourceAuth::None
        | SourceAuth::Basic { .. }
        | SourceAuth::Bearer { .. }
        | SourceAuth::Password { .. }
        | SourceAuth::OAuth2 { .. }
        | SourceAuth::Header { .. }
        | SourceAuth::Query { .. }
        | SourceAuth::Session { .. } => {
            let secret = read_stored(auth, &context.environment).and_then(Result::ok);
            secret.is_some_and(|secret| last.differs_from(&secret))
        }
    }
}

/// Reads the secret that the user of a source keeps. `None` if it has none. Blocks.
fn read_stored(
    auth: &SourceAuth,
    environment: &EnvVars,
) -> Option<Result<Secret, CredentialError>> {
    let credential_ref = auth.credential_ref()?;
    let is_multiline = matches!(auth, SourceAuth::Session { .. });
    Some(if is_multiline {
        credential_ref.read_multiline(environment)
    } else {
        credential_ref.read(environment)
    })
}

/// Returns the credential of a source whose user keeps a secret.
fn stored_credential(auth: SourceAuth, context: CredentialContext) -> Credential {
    Credential::new(move || {
        let (auth, context) = (auth.clone(), context.clone());
        Box::pin(async move {
            let read = move || -> Result<Secret, Failure> {
                let secret = read_stored(&auth, &context.environment).transpose();
                let secret =
                    secret.map_err(|error| Failure::new(Cause::Unauthorized, error.to_string()))?;
                let secret = secret.unwrap_or_default();
                context.last_credential.set(secret.clone());
                Ok(secret)
            };
            RealEnv.spawn_blocking(read).await
        })
    })
}

/// Returns the credential of a source whose user signs in.
fn signed_in_credential(settings: OAuthSettings, context: CredentialContext) -> Credential {
    let tokens = Arc::new(SourceTokens { settings, context, tokens: OnceCell::new() });
    let [current, renew, stored] = [(); 3].map(|()| Arc::clone(&tokens));
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
        move || {
            let tokens = Arc::clone(&tokens);
            Box::pin(async move { RealEnv.spawn_blocking(move || tokens.secret_change()).await })
        },
    )
}

impl SourceTokens {
    /// Returns the tokens. Builds their client unless that has succeeded before.
    async fn get(&self) -> Result<&AccessTokens, Failure> {
        self.tokens.get_or_try_init(|| self.open()).await
    }

    async fn open(&self) -> Result<AccessTokens, Failure> {
        let (settings, source) = (self.settings.clone(), self.context.source.clone());
        let client = RealEnv.spawn_blocking(move || build_client(&settings, &source, None)).await;
        let client = client.map_err(|error| error.to_failure())?;
        let (secret_ref, context) = (self.settings.client_secret.clone(), self.context.clone());
        let read_secret = move || -> ClientSecretFuture {
            let (secret_ref, context) = (secret_ref.clone(), context.clone());
            Box::pin(async move {
                let read = move || -> Result<Option<Secret>, OAuthError> {
                    let secret = read_client_secret(secret_ref.as_ref(), &context.environment)?;
                    context.client_secret_change(secret.clone());
                    Ok(secret)
                };
                RealEnv.spawn_blocking(read).await
            })
        };
        let refreshes = self.context.refreshes.clone();
        Ok(AccessTokens::new(client, read_secret, self.file(), refreshes, || RealEnv.now()))
    }

    /// Remembers the token that is used, so that a reload of the configuration detects a sign-in.
    fn record(&self, result: Result<Secret, OAuthError>) -> Result<Secret, Failure> {
        let token = self.context.record_grant(result)?;
        self.context.last_credential.set(token.clone());
        Ok(token)
    }

    /// Returns whether the secret of the client was replaced since it was last read. Blocks.
    fn secret_change(&self) -> CredentialChange {
        // Without tokens, none was read yet, and only a sign-in helps.
        if !self.file().load().is_ok_and(|stored| stored.is_some()) {
            return CredentialChange::Unchanged;
        }
        let (secret_ref, environment) = (&self.settings.client_secret, &self.context.environment);
        let secret = read_client_secret(secret_ref.as_ref(), environment).ok().flatten();
        self.context.client_secret_change(secret)
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
    use crate::oauth::RefreshesInFlight;
    use crate::worker::last_credential::LastCredential;

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
            source: "work".to_owned(),
            environment: EnvVars::default(),
            last_credential: LastCredential::default(),
            source_state_dir: dir.to_owned(),
            refreshes: RefreshesInFlight::default(),
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
        assert!(failure.message.contains("`cynosure auth work`"), "{failure}");
        assert_eq!(credential.reload().await, Ok(CredentialChange::Unchanged));
        sign_in(dir.path(), &token_json("first"));

        assert_eq!(credential.reload().await, Ok(CredentialChange::Changed));
        assert_eq!(credential.current().await.unwrap().expose_secret(), "first");
    }

    #[tokio::test]
    async fn a_client_secret_does_not_end_the_wait_for_a_sign_in() {
        let dir = tempfile::tempdir().unwrap();
        let secret = dir.path().join("client-secret");
        RealDisk.create_file(&secret).unwrap().append(b"cs").unwrap();
        let mut auth = auth();
        if let SourceAuth::SignIn { client, .. } = &mut auth {
            client.client_secret = Some(CredentialRef::File(secret));
        }
        let credential = source_credential(&auth, context(dir.path()));

        credential.current().await.unwrap_err();
        assert_eq!(credential.reload().await, Ok(CredentialChange::Unchanged));
        sign_in(dir.path(), &token_json("first"));

        assert_eq!(credential.reload().await, Ok(CredentialChange::Changed));
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
