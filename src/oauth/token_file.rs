//! File with the tokens of a signed-in account: readable by its owner only, and durable.

use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use cynosure_engine::{Failure, Timestamp, sanitize_line};
use rustix::fs::OFlags;
use rustix::io::Errno;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

use super::client::OAuthClient;
use super::grant::TokenGrant;
use super::token_life::TokenLife;
use crate::disk::{RealDisk, storage_failure, write_durable};

/// Largest token file that is read, in bytes. Tokens have some kilobytes at most.
const FILE_BYTES_MAX: u64 = 256 << 10;

/// End of the name of the lock file.
const LOCK_SUFFIX: &str = ".lock";

/// Schema number that is written. A newer file is refused.
const SCHEMA: u64 = 1;

/// Permission bits that let users other than the owner read or change a file.
const OTHERS_MODE_BITS: u32 = 0o066;

/// Tokens of a signed-in account, and the client that they were issued to.
#[derive(Clone, Debug)]
pub struct StoredToken {
    pub client_id: String,
    /// Token endpoint that issued the tokens. They are sent to no other one.
    pub token_url: String,
    /// Granted scopes, separated by spaces, if the server named them.
    pub scope: Option<String>,
    pub access_token: SecretString,
    /// `None` if the server gave none: the account must sign in again after `expires_at`.
    pub refresh_token: Option<SecretString>,
    /// `None` if the server named no lifetime.
    pub expires_at: Option<Timestamp>,
    pub issued_at: Timestamp,
}

/// File of a [`StoredToken`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TokenFile {
    path: PathBuf,
}

/// Error of a token file that exists and gives no token.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum TokenFileError {
    /// The file cannot be read.
    Storage(Failure),
    /// The file must be corrected by its user: one sentence with path, problem and remedy.
    Unusable(String),
}

/// JSON in the file.
#[derive(Deserialize, Serialize)]
struct TokenFileContent {
    schema: u64,
    client_id: String,
    token_url: String,
    scope: Option<String>,
    access_token: String,
    refresh_token: Option<String>,
    expires_at: Option<Timestamp>,
    issued_at: Timestamp,
}

/// Header of the file: the one key that every version has.
#[derive(Deserialize)]
struct TokenFileHeader {
    schema: u64,
}

impl StoredToken {
    /// Returns the first token of a client, from the answer to a sign-in at `now`.
    #[must_use]
    pub fn from_grant(client: &OAuthClient, grant: TokenGrant, now: Timestamp) -> Self {
        let default_scope = (!client.scopes.is_empty()).then(|| client.scopes.join(" "));
        Self {
            client_id: client.client_id.clone(),
            token_url: client.endpoints.token_url.to_string(),
            scope: grant.scope.or(default_scope),
            access_token: grant.access_token,
            refresh_token: grant.refresh_token,
            expires_at: grant.expires_in.map(|lifetime| now.after(lifetime)),
            issued_at: now,
        }
    }

    /// Returns the token after a refresh at `now`. A server that does not rotate the refresh token
    /// leaves it out of its answer (RFC 6749 §6), as it does an unchanged scope.
    #[must_use]
    pub(super) fn renewed(&self, grant: TokenGrant, now: Timestamp) -> Self {
        Self {
            client_id: self.client_id.clone(),
            token_url: self.token_url.clone(),
            scope: grant.scope.or_else(|| self.scope.clone()),
            access_token: grant.access_token,
            refresh_token: grant.refresh_token.or_else(|| self.refresh_token.clone()),
            expires_at: grant.expires_in.map(|lifetime| now.after(lifetime)),
            issued_at: now,
        }
    }

    /// Returns the life of the access token.
    pub(super) fn life(&self) -> TokenLife {
        TokenLife { issued_at: self.issued_at, expires_at: self.expires_at }
    }

    /// True if the tokens were issued to this client by this token endpoint.
    #[must_use]
    pub fn is_of(&self, client: &OAuthClient) -> bool {
        self.client_id == client.client_id && self.token_url == client.endpoints.token_url.as_str()
    }
}

impl TokenFile {
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the path of the lock file, which is never removed.
    pub(super) fn lock_path(&self) -> PathBuf {
        let mut path = OsString::from(&self.path);
        path.push(LOCK_SUFFIX);
        path.into()
    }

    /// Reads the tokens. `None` if there is no file. Blocks.
    ///
    /// # Errors
    /// [`TokenFileError::Unusable`] for a file that others can read or change, and for one without
    /// tokens. Nothing of the content is in the error.
    pub fn load(&self) -> Result<Option<StoredToken>, TokenFileError> {
        let to_error = |error| TokenFileError::Storage(storage_failure("read", &self.path, &error));
        // Without O_NONBLOCK, opening a named pipe in place of the file would block forever.
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
        let file = match File::options().read(true).custom_flags(flags).open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) if error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => {
                return Err(self.unusable("it is a link, which a refresh would replace; delete it"));
            }
            Err(error) => return Err(to_error(error)),
        };
        let metadata = file.metadata().map_err(to_error)?;
        if !metadata.is_file() {
            return Err(self.unusable("it is not a plain file; delete it and sign in again"));
        }
        let mode = metadata.permissions().mode() & 0o7777;
        if mode & OTHERS_MODE_BITS != 0 {
            return Err(self.unusable(&format!(
                "users other than its owner can read or change it (mode {mode:04o}); \
                 run `chmod 600 {}`",
                self.path.display()
            )));
        }
        let mut bytes = Vec::new();
        file.take(FILE_BYTES_MAX.saturating_add(1)).read_to_end(&mut bytes).map_err(to_error)?;
        self.parse(&bytes).map(Some)
    }

    /// Writes the tokens durably and atomically, readable by their owner only. The folder must
    /// exist, and the caller must hold the lock. If root writes, the file keeps its owner, and a new
    /// one gets that of its folder, whose worker must read it. Blocks.
    ///
    /// # Errors
    /// A storage failure; the old file is then intact, unless the last step failed.
    pub(super) fn save(&self, token: &StoredToken) -> Result<(), Failure> {
        let to_failure = |error: io::Error| storage_failure("write", &self.path, &error);
        let expose = |secret: &SecretString| secret.expose_secret().to_owned();
        let content = TokenFileContent {
            schema: SCHEMA,
            client_id: token.client_id.clone(),
            token_url: token.token_url.clone(),
            scope: token.scope.clone(),
            access_token: expose(&token.access_token),
            refresh_token: token.refresh_token.as_ref().map(expose),
            expires_at: token.expires_at,
            issued_at: token.issued_at,
        };
        let json = serde_json::to_vec_pretty(&content);
        let mut json = json.map_err(|error| to_failure(error.into()))?;
        json.push(b'\n');
        write_durable(&RealDisk, &self.path, &json).map_err(to_failure)
    }

    fn parse(&self, bytes: &[u8]) -> Result<StoredToken, TokenFileError> {
        // The position is enough: the text of the error may quote a token.
        let broken = |error: serde_json::Error| {
            self.unusable(&format!(
                "it is damaged at line {}, column {}; delete it and sign in again",
                error.line(),
                error.column()
            ))
        };
        let header: TokenFileHeader = serde_json::from_slice(bytes).map_err(broken)?;
        if header.schema > SCHEMA {
            return Err(self.unusable(&format!(
                "a newer cynosure wrote it (schema {}); run that version, or delete it and sign in \
                 again",
                header.schema
            )));
        }
        let content: TokenFileContent = serde_json::from_slice(bytes).map_err(broken)?;
        if content.access_token.is_empty() {
            return Err(self.unusable("it holds no access token; delete it and sign in again"));
        }
        Ok(StoredToken {
            client_id: content.client_id,
            token_url: content.token_url,
            scope: content.scope,
            access_token: content.access_token.into(),
            refresh_token: content.refresh_token.map(SecretString::from),
            expires_at: content.expires_at,
            issued_at: content.issued_at,
        })
    }

    fn unusable(&self, problem: &str) -> TokenFileError {
        TokenFileError::Unusable(format!("token file {}: {problem}", self.path.display()))
    }
}

impl fmt::Display for TokenFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Storage(failure) => write!(f, "{failure}"),
            Self::Unusable(message) => f.write_str(&sanitize_line(message)),
        }
    }
}

impl std::error::Error for TokenFileError {}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::disk::Disk as _;

    fn token() -> StoredToken {
        StoredToken {
            client_id: "client".to_owned(),
            token_url: "https://login.example.com/token".to_owned(),
            scope: Some("mail offline_access".to_owned()),
            access_token: "at-1".into(),
            refresh_token: Some("rt-1".into()),
            expires_at: Some(Timestamp(1_700_003_600_000)),
            issued_at: Timestamp(1_700_000_000_000),
        }
    }

    /// Writes a file with these bytes and permissions, and returns the error of its load.
    fn load_error(bytes: &[u8], mode: u32) -> String {
        let home = tempfile::tempdir().unwrap();
        let file = TokenFile::new(home.path().join("token.json"));
        RealDisk.create_file(file.path()).unwrap().append(bytes).unwrap();
        fs::set_permissions(file.path(), fs::Permissions::from_mode(mode)).unwrap();
        let error = file.load().unwrap_err();
        assert!(matches!(error, TokenFileError::Unusable(_)), "{error}");
        error.to_string()
    }

    #[test]
    fn saved_tokens_are_loaded_and_only_their_owner_reads_them() {
        let home = tempfile::tempdir().unwrap();
        let file = TokenFile::new(home.path().join("token.json"));
        assert!(file.load().unwrap().is_none());

        file.save(&token()).unwrap();
        let loaded = file.load().unwrap().unwrap();

        assert_eq!(fs::metadata(file.path()).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(loaded.client_id, "client");
        assert_eq!(loaded.token_url, token().token_url);
        assert_eq!(loaded.scope, token().scope);
        assert_eq!(loaded.access_token.expose_secret(), "at-1");
        assert_eq!(loaded.refresh_token.unwrap().expose_secret(), "rt-1");
        assert_eq!((loaded.expires_at, loaded.issued_at), (token().expires_at, token().issued_at));
    }

    #[test]
    fn a_file_open_to_others_is_refused_with_the_remedy() {
        let error = load_error(b"{}", 0o640);

        assert!(error.contains("(mode 0640); run `chmod 600 /"), "{error}");
    }

    #[test]
    fn a_damaged_file_is_refused_without_its_content() {
        let sparse = br#"{"schema":1,"access_token":"at-secret"}"#;
        for bytes in [&b""[..], b"at-secret", sparse, b"[]"] {
            let error = load_error(bytes, 0o600);

            assert!(error.contains("delete it and sign in again"), "{error}");
            assert!(!error.contains("at-secret"), "{error}");
        }
    }

    #[test]
    fn a_file_of_a_newer_version_is_refused() {
        let error = load_error(br#"{"schema": 2}"#, 0o600);

        assert!(error.contains("a newer cynosure wrote it (schema 2)"), "{error}");
    }

    #[test]
    fn a_link_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let (target, link) = (home.path().join("target"), home.path().join("token.json"));
        TokenFile::new(target.clone()).save(&token()).unwrap();
        symlink(target, &link).unwrap();

        let error = TokenFile::new(link).load().unwrap_err();

        assert!(error.to_string().contains("it is a link"), "{error}");
    }

    #[test]
    fn a_refresh_keeps_what_its_answer_leaves_out() {
        let grant = TokenGrant {
            access_token: "at-2".into(),
            refresh_token: None,
            expires_in: None,
            scope: None,
        };

        let renewed = token().renewed(grant, Timestamp(1_700_003_000_000));

        assert_eq!(renewed.access_token.expose_secret(), "at-2");
        assert_eq!(renewed.refresh_token.unwrap().expose_secret(), "rt-1");
        assert_eq!(renewed.scope, token().scope);
        assert_eq!((renewed.expires_at, renewed.issued_at), (None, Timestamp(1_700_003_000_000)));
    }
}
