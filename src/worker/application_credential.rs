//! Credential of a source whose application gets access tokens without a user who signs in: by the
//! key of a service account, or by the secret of a client. The tokens are kept in memory only.

use std::sync::Arc;

use cynosure_engine::Timestamp;
use url::Url;

use crate::config::{
    ApplicationGrantSettings, ApplicationSettings, CredentialError, CredentialRef, EnvVars, Secret,
};
use crate::env::{Env, RealEnv};
use crate::oauth::{
    ApplicationTokens, GrantFuture, OAuthClient, OAuthEndpoints, OAuthError, ServiceAccountKey,
};
use crate::source::credential::Credential;
use crate::worker::credential_context::{CredentialContext, client_secret_error};

/// Application of a source, and its access tokens.
struct SourceApplication {
    settings: ApplicationSettings,
    context: CredentialContext,
    tokens: ApplicationTokens,
}

/// Request for an access token that is ready to be sent.
struct PreparedGrant {
    client: OAuthClient,
    /// Assertion of a service account; `None` for a client with a secret.
    assertion: Option<Secret>,
}

/// Returns the credential of a source whose application needs no sign-in. Nothing is read before
/// its first use.
pub(super) fn application_credential(
    client: ApplicationSettings,
    context: CredentialContext,
) -> Credential {
    let application = Arc::new(SourceApplication::new(client, context));
    let (current, renew) = (Arc::clone(&application), Arc::clone(&application));
    Credential::from_tokens(
        move || {
            let application = Arc::clone(&current);
            Box::pin(async move {
                let token = application.tokens.current().await;
                application.context.record_grant(token)
            })
        },
        move || {
            let application = Arc::clone(&renew);
            Box::pin(async move {
                let token = application.tokens.renew().await;
                application.context.record_grant(token)
            })
        },
        // None is stored.
        || Box::pin(async { Ok(None) }),
        move || {
            let application = Arc::clone(&application);
            Box::pin(async move {
                let read = move || {
                    let SourceApplication { settings, context, .. } = &*application;
                    let secret = read_secret(settings, &context.environment).ok();
                    context.client_secret_change(secret)
                };
                RealEnv.spawn_blocking(read).await
            })
        },
    )
}

/// Checks that the key or the secret of an application is usable, as far as that shows without a
/// request. Blocks.
///
/// # Errors
/// Returns one sentence for an error that lasts until the user corrects it.
pub(super) fn check_application(
    settings: &ApplicationSettings,
    environment: &EnvVars,
) -> Result<(), String> {
    let secret = match read_secret(settings, environment) {
        Ok(secret) => secret,
        Err(error) if error.is_permanent() => return Err(error.to_string()),
        // The request reads it again, and reports the error.
        Err(_) => return Ok(()),
    };
    match &settings.grant {
        ApplicationGrantSettings::ServiceAccount { key, .. } => parse_key(key, &secret).map(drop),
        ApplicationGrantSettings::ClientCredentials { .. } => Ok(()),
    }
}

/// Returns true if the key or the secret differs from the one last used. Blocks.
pub(super) fn is_application_replaced(
    settings: &ApplicationSettings,
    context: &CredentialContext,
) -> bool {
    read_secret(settings, &context.environment)
        .is_ok_and(|secret| context.last_credential.is_client_secret_replaced(&secret))
}

impl SourceApplication {
    fn new(settings: ApplicationSettings, context: CredentialContext) -> Self {
        let (request_settings, request_context) = (settings.clone(), context.clone());
        let request = move || -> GrantFuture {
            let (settings, context) = (request_settings.clone(), request_context.clone());
            Box::pin(async move {
                let prepare = move || prepare_grant(&settings, &context, RealEnv.now());
                let PreparedGrant { client, assertion } = RealEnv.spawn_blocking(prepare).await?;
                match &assertion {
                    Some(assertion) => client.request_by_assertion(assertion).await,
                    None => client.request_by_client_credentials().await,
                }
            })
        };
        let tokens = ApplicationTokens::new(request, || RealEnv.now());
        Self { settings, context, tokens }
    }
}

/// Reads the key or the secret of an application, and builds its request. Blocks.
fn prepare_grant(
    settings: &ApplicationSettings,
    context: &CredentialContext,
    now: Timestamp,
) -> Result<PreparedGrant, OAuthError> {
    let secret = read_secret(settings, &context.environment)
        .map_err(|error| client_secret_error(secret_name(settings), &error))?;
    context.last_credential.replace_client_secret(secret.clone());
    let build_client = |client_id: &str, client_secret: Option<Secret>, token_url: &Url| {
        let endpoints =
            OAuthEndpoints { authorize_url: None, token_url: token_url.clone(), device_url: None };
        let scopes = settings.scopes.clone();
        OAuthClient::new(&context.source, client_id.to_owned(), client_secret, endpoints, scopes)
    };
    match &settings.grant {
        ApplicationGrantSettings::ServiceAccount { key, subject } => {
            let account = parse_key(key, &secret).map_err(OAuthError::Misconfigured)?;
            let token_url = settings.token_url.as_ref().unwrap_or_else(|| account.token_url());
            let assertion = account.sign(subject, &settings.scopes, token_url, now)?;
            let client = build_client("", None, token_url)?;
            Ok(PreparedGrant { client, assertion: Some(assertion) })
        }
        ApplicationGrantSettings::ClientCredentials { client_id, .. } => {
            let token_url = settings.token_url.as_ref().ok_or_else(|| {
                OAuthError::Misconfigured("there is no `token_url`: set it in `auth`".to_owned())
            })?;
            let client = build_client(client_id, Some(secret), token_url)?;
            Ok(PreparedGrant { client, assertion: None })
        }
    }
}

fn read_secret(
    settings: &ApplicationSettings,
    environment: &EnvVars,
) -> Result<Secret, CredentialError> {
    match &settings.grant {
        ApplicationGrantSettings::ServiceAccount { key, .. } => key.read_multiline(environment),
        ApplicationGrantSettings::ClientCredentials { client_secret, .. } => {
            client_secret.read(environment)
        }
    }
}

fn secret_name(settings: &ApplicationSettings) -> &'static str {
    match &settings.grant {
        ApplicationGrantSettings::ServiceAccount { .. } => "key of the service account",
        ApplicationGrantSettings::ClientCredentials { .. } => "client secret",
    }
}

/// Reads the key of a service account. The error is one sentence.
fn parse_key(key: &CredentialRef, json: &Secret) -> Result<ServiceAccountKey, String> {
    ServiceAccountKey::parse(json).map_err(|problem| format!("{key} {problem}"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::{Path, PathBuf};

    use cynosure_engine::Cause;

    use super::*;
    use crate::oauth::RefreshesInFlight;
    use crate::source::CredentialChange;
    use crate::worker::last_credential::LastCredential;

    const KEY_FILE: &str = include_str!("../../tests/fixtures/service-account.key.json");

    fn key_path(dir: &Path) -> PathBuf {
        dir.join("key.json")
    }

    fn write_key(dir: &Path, json: &str) {
        fs_err::write(key_path(dir), json).unwrap();
        set_mode(dir, 0o600);
    }

    fn set_mode(dir: &Path, mode: u32) {
        fs_err::set_permissions(key_path(dir), std::fs::Permissions::from_mode(mode)).unwrap();
    }

    /// Returns a service account whose server does not exist.
    fn service_account(dir: &Path) -> ApplicationSettings {
        ApplicationSettings {
            grant: ApplicationGrantSettings::ServiceAccount {
                key: CredentialRef::File(key_path(dir)),
                subject: "me@example.com".to_owned(),
            },
            token_url: Some("http://127.0.0.1:1/token".parse().unwrap()),
            scopes: vec!["mail".to_owned()],
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

    #[test]
    fn an_unusable_key_is_a_configuration_error() {
        let dir = tempfile::tempdir().unwrap();
        let check = || check_application(&service_account(dir.path()), &EnvVars::default());

        assert!(check().unwrap_err().contains("cannot be read"));
        write_key(dir.path(), "{}");
        assert!(check().unwrap_err().contains("key.json is not of the type \"service_account\""));
        write_key(dir.path(), KEY_FILE);
        assert_eq!(check(), Ok(()));
        set_mode(dir.path(), 0o644);
        assert!(check().unwrap_err().contains("(mode 0644)"));
    }

    #[tokio::test]
    async fn a_key_that_is_put_there_ends_the_wait_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let context = context(dir.path());
        let credential = application_credential(service_account(dir.path()), context.clone());

        let failure = credential.current().await.unwrap_err();
        assert_eq!(failure.cause, Cause::Unauthorized);
        assert!(context.last_credential.is_client_refused());
        assert_eq!(credential.reload().await, Ok(CredentialChange::Unchanged));

        write_key(dir.path(), KEY_FILE);

        assert!(is_application_replaced(&service_account(dir.path()), &context));
        assert_eq!(credential.reload().await, Ok(CredentialChange::Changed));
        assert_eq!(credential.reload().await, Ok(CredentialChange::Unchanged));
        assert!(!is_application_replaced(&service_account(dir.path()), &context));
    }

    #[tokio::test]
    async fn a_server_that_cannot_be_reached_refuses_nobody() {
        let dir = tempfile::tempdir().unwrap();
        write_key(dir.path(), KEY_FILE);
        let context = context(dir.path());
        let credential = application_credential(service_account(dir.path()), context.clone());

        let failure = credential.current().await.unwrap_err();

        assert_eq!(failure.cause, Cause::Connection, "{failure}");
        assert!(!context.last_credential.is_client_refused());
    }

    #[test]
    fn the_endpoint_of_the_key_is_used_unless_another_one_is_set() {
        let dir = tempfile::tempdir().unwrap();
        write_key(dir.path(), KEY_FILE);
        let prepared = |settings: &ApplicationSettings| {
            let prepared = prepare_grant(settings, &context(dir.path()), Timestamp(0)).unwrap();
            assert!(prepared.assertion.is_some());
            prepared.client.endpoints.token_url.to_string()
        };
        let mut settings = service_account(dir.path());

        assert_eq!(prepared(&settings), "http://127.0.0.1:1/token");
        settings.token_url = None;
        assert_eq!(prepared(&settings), "https://oauth2.example.com/token");
    }
}
