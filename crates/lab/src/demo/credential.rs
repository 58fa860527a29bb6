//! Secret that a client needs, and the file from which it reads it.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use fs_err::os::unix::fs::OpenOptionsExt;

use super::rng::{RngStream, random_u64};
use super::web_session::WebSession;

/// Mode of the token file: readable by the owner only. The worker refuses wider permissions.
const FILE_MODE: u32 = 0o600;

/// Bearer token that is accepted now, if any, or the secret behind a session of a website. Each
/// renewal creates another.
#[derive(Debug)]
pub(super) struct DemoCredential {
    seed: u64,
    renewals: u64,
    token: Option<String>,
    file: Option<CredentialFile>,
}

/// File with the credential.
#[derive(Debug)]
pub(super) struct CredentialFile {
    pub(super) path: PathBuf,
    pub(super) format: CredentialFormat,
}

/// Form of the credential in its file.
#[derive(Debug)]
pub(super) enum CredentialFormat {
    /// The bearer token.
    Token,
    /// The session of a website as JSON.
    Session { host: String, email: String },
}

impl DemoCredential {
    /// Creates the first token, and writes it to the file if there is one.
    pub(super) fn issue(seed: u64, file: Option<CredentialFile>) -> io::Result<Self> {
        let mut credential = Self { seed, renewals: 0, token: None, file };
        credential.renew()?;
        Ok(credential)
    }

    pub(super) fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    pub(super) fn accepts(&self, token: &str) -> bool {
        self.token.as_deref() == Some(token)
    }

    /// Refuses the token from now on. The file still contains it.
    pub(super) fn expire(&mut self) {
        self.token = None;
    }

    /// Creates a new token, accepts it, and only then writes it to the file.
    pub(super) fn renew(&mut self) -> io::Result<()> {
        self.renewals += 1;
        let token = format!("demo-{:016x}", random_u64(self.seed, RngStream::Token, self.renewals));
        self.token = Some(token.clone());
        self.file
            .as_ref()
            .map_or(Ok(()), |file| write_atomically(&file.path, &file.format.text(&token)))
    }
}

impl CredentialFormat {
    fn text(&self, token: &str) -> String {
        match self {
            Self::Token => token.to_owned(),
            Self::Session { host, email } => WebSession::from_secret(token, email).to_json(host),
        }
    }
}

/// Writes the text with an atomic rename: a reader sees the old one or the new, never a part.
fn write_atomically(file: &Path, text: &str) -> io::Result<()> {
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let temporary = file.with_file_name(name);
    let mut options = fs_err::File::options();
    let mut out =
        options.write(true).create(true).truncate(true).mode(FILE_MODE).open(&temporary)?;
    writeln!(out, "{text}")?;
    fs_err::rename(&temporary, file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn issue(path: PathBuf, format: CredentialFormat) -> io::Result<DemoCredential> {
        DemoCredential::issue(1, Some(CredentialFile { path, format }))
    }

    #[test]
    fn an_expired_token_stays_in_the_file_until_the_renewal() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        let read = || fs_err::read_to_string(&file).unwrap().trim_end().to_owned();

        let mut credential = issue(file.clone(), CredentialFormat::Token).unwrap();
        let first = read();
        assert!(credential.accepts(&first));

        credential.expire();
        assert!(!credential.accepts(&first));
        assert_eq!(read(), first);

        credential.renew().unwrap();
        assert_ne!(read(), first);
        assert!(credential.accepts(&read()) && !credential.accepts(&first));
    }

    #[test]
    fn a_session_in_a_file_belongs_to_the_token() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("mailru.session");
        let (host, email) = ("127.0.0.1".to_owned(), "me@example.com".to_owned());

        let format = CredentialFormat::Session { host, email };
        let credential = issue(file.clone(), format).unwrap();

        let session = WebSession::from_secret(credential.token().unwrap(), "me@example.com");
        let text = fs_err::read_to_string(&file).unwrap();
        assert_eq!(text.trim_end(), session.to_json("127.0.0.1"));
    }

    #[test]
    fn only_the_owner_may_read_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");

        issue(file.clone(), CredentialFormat::Token).unwrap();

        let mode = fs_err::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, FILE_MODE);
        assert_eq!(fs_err::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_cannot_be_written_is_named() {
        let error = issue("/nowhere/token".into(), CredentialFormat::Token).unwrap_err();

        assert!(error.to_string().contains("/nowhere/token"), "{error}");
    }
}
