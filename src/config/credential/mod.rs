//! References to secrets, and the reading of the secrets.

use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use rustix::fs::{Mode, OFlags};
use secrecy::ExposeSecret;

mod command;

use super::environment::EnvVars;

/// A password or a token. It is wiped when dropped, and its debug form hides it.
pub use secrecy::SecretString as Secret;

/// Largest secret, in bytes. Tokens have some kilobytes at most, and a wrong path does not fill the
/// memory.
const SECRET_BYTES_MAX: usize = 64 << 10;

/// Variable in which systemd names the folder of a service's credentials (systemd.exec(5),
/// `LoadCredential=`).
const CREDENTIALS_DIRECTORY_VAR: &str = "CREDENTIALS_DIRECTORY";

/// Permission bits that let users other than the owner read or change a file.
const OTHERS_MODE_BITS: u32 = 0o066;

/// Reference to a secret. It never holds the secret itself, so it may be shown.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum CredentialRef {
    /// A file that only its owner can read.
    File(PathBuf),
    /// An environment variable, by name.
    Env(String),
    /// A program and its arguments, run without a shell; it prints the secret.
    Command(Vec<String>),
    /// A credential that systemd hands to the service, by name.
    Systemd(String),
}

impl CredentialRef {
    /// Reads the secret. Blocks, for up to half a minute if a command is run.
    ///
    /// # Errors
    ///
    /// If there is no usable secret. The error names the credential, the problem and the remedy. It
    /// holds nothing of the secret.
    pub fn read(&self, environment: &EnvVars) -> Result<Secret, CredentialError> {
        self.read_with(environment, parse_secret)
    }

    /// Reads a secret that may have several lines, such as the JSON of a key. Blocks as
    /// [`read`](Self::read) does.
    ///
    /// # Errors
    ///
    /// As those of [`read`](Self::read).
    pub fn read_multiline(&self, environment: &EnvVars) -> Result<Secret, CredentialError> {
        self.read_with(environment, parse_multiline)
    }

    fn read_with(
        &self,
        environment: &EnvVars,
        parse: impl FnOnce(Vec<u8>) -> Result<Secret, CredentialErrorKind>,
    ) -> Result<Secret, CredentialError> {
        self.read_bytes(environment)
            .and_then(parse)
            .map_err(|kind| CredentialError { credential: self.clone(), kind })
    }

    fn read_bytes(&self, environment: &EnvVars) -> Result<Vec<u8>, CredentialErrorKind> {
        match self {
            Self::File(path) => read_file(path, FileModePolicy::OwnerOnly),
            Self::Env(name) => {
                let value = environment.get(name).ok_or(CredentialErrorKind::NotSet)?;
                Ok(value.as_encoded_bytes().to_vec())
            }
            Self::Command(argv) => command::run_command(argv),
            Self::Systemd(name) => {
                let folder = environment.get(CREDENTIALS_DIRECTORY_VAR).unwrap_or_default();
                if folder == OsStr::new("") {
                    return Err(CredentialErrorKind::NotUnderSystemd);
                }
                read_file(&Path::new(folder).join(name), FileModePolicy::SystemdManaged)
            }
        }
    }
}

impl fmt::Display for CredentialRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "credential file {}", path.display()),
            Self::Env(name) => write!(f, "credential variable {name}"),
            // Arguments are left out, because users put secrets there.
            Self::Command(argv) => {
                write!(f, "credential command {}", argv.first().map_or("", String::as_str))
            }
            Self::Systemd(name) => write!(f, "systemd credential {name}"),
        }
    }
}

/// True if two reads of a credential returned the same secret.
#[must_use]
pub fn secrets_equal(one: &Secret, other: &Secret) -> bool {
    one.expose_secret() == other.expose_secret()
}

/// Error of a credential that gives no usable secret.
#[derive(Debug)]
pub struct CredentialError {
    pub credential: CredentialRef,
    pub kind: CredentialErrorKind,
}

/// Reason that a credential gives no usable secret.
#[derive(Debug)]
pub enum CredentialErrorKind {
    Unreadable(io::Error),
    NotAFile,
    /// Users other than the owner can read or change the file. `mode` is its permission bits.
    OpenToOthers {
        mode: u32,
    },
    NotSet,
    NotUnderSystemd,
    CommandNotStarted(io::Error),
    CommandTimedOut,
    CommandFailed(ExitStatus),
    TooLarge,
    Empty,
    NotText,
    /// A line break or another control character inside.
    ControlCharacter,
}

impl CredentialError {
    /// True if the error lasts until the user corrects it. A command may succeed the next time.
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        match &self.kind {
            CredentialErrorKind::CommandTimedOut | CredentialErrorKind::CommandFailed(_) => false,
            CredentialErrorKind::Unreadable(_)
            | CredentialErrorKind::NotAFile
            | CredentialErrorKind::OpenToOthers { .. }
            | CredentialErrorKind::NotSet
            | CredentialErrorKind::NotUnderSystemd
            | CredentialErrorKind::CommandNotStarted(_)
            | CredentialErrorKind::TooLarge
            | CredentialErrorKind::Empty
            | CredentialErrorKind::NotText
            | CredentialErrorKind::ControlCharacter => true,
        }
    }
}

impl fmt::Display for CredentialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.credential)?;
        match &self.kind {
            CredentialErrorKind::Unreadable(error) => {
                write!(f, "cannot be read ({error}); create it, or correct its path or owner")
            }
            CredentialErrorKind::NotAFile => {
                write!(f, "is not a regular file; put the secret into one")
            }
            CredentialErrorKind::OpenToOthers { mode } => {
                write!(f, "users other than its owner can read or change it (mode {mode:04o}); ")?;
                match &self.credential {
                    CredentialRef::File(path) => write!(f, "run `chmod 600 {}`", path.display()),
                    CredentialRef::Env(_)
                    | CredentialRef::Command(_)
                    | CredentialRef::Systemd(_) => {
                        write!(f, "let only its owner read it")
                    }
                }
            }
            CredentialErrorKind::NotSet => {
                write!(f, "is not set; set it for this process, in a unit with EnvironmentFile=")
            }
            CredentialErrorKind::NotUnderSystemd => write!(
                f,
                "${CREDENTIALS_DIRECTORY_VAR} is not set; \
                 run under systemd with LoadCredential=, or name a file instead"
            ),
            CredentialErrorKind::CommandNotStarted(error) => {
                write!(f, "cannot be started ({error}); correct the program's path")
            }
            CredentialErrorKind::CommandTimedOut => write!(
                f,
                "did not finish within {} s and was killed; it must not prompt for input",
                command::COMMAND_TIMEOUT.as_secs()
            ),
            CredentialErrorKind::CommandFailed(status) => {
                write!(f, "failed ({status}); run it by hand as this user to see why")
            }
            CredentialErrorKind::TooLarge => {
                write!(f, "gives more than {SECRET_BYTES_MAX} bytes; is it the right one?")
            }
            CredentialErrorKind::Empty => write!(f, "is empty; put the password or token there"),
            CredentialErrorKind::NotText => {
                write!(f, "is not UTF-8 text; put only the password or token there")
            }
            CredentialErrorKind::ControlCharacter => write!(
                f,
                "holds a line break or another control character inside; \
                 put only the password or token there, on one line"
            ),
        }
    }
}

impl std::error::Error for CredentialError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.kind {
            CredentialErrorKind::Unreadable(error)
            | CredentialErrorKind::CommandNotStarted(error) => Some(error),
            CredentialErrorKind::NotAFile
            | CredentialErrorKind::OpenToOthers { .. }
            | CredentialErrorKind::NotSet
            | CredentialErrorKind::NotUnderSystemd
            | CredentialErrorKind::CommandTimedOut
            | CredentialErrorKind::CommandFailed(_)
            | CredentialErrorKind::TooLarge
            | CredentialErrorKind::Empty
            | CredentialErrorKind::NotText
            | CredentialErrorKind::ControlCharacter => None,
        }
    }
}

/// Check of the permission bits of a credential's file.
#[derive(Clone, Copy, Eq, PartialEq)]
enum FileModePolicy {
    OwnerOnly,
    /// No check. systemd protects its folder itself, in some versions with access lists that look
    /// like mode 0440.
    SystemdManaged,
}

/// Reads a regular file, also through a symlink. All checks are on the open file, which cannot be
/// replaced in between.
fn read_file(path: &Path, policy: FileModePolicy) -> Result<Vec<u8>, CredentialErrorKind> {
    // Without NONBLOCK, opening a pipe would wait for a writer.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let opened = rustix::fs::open(path, flags, Mode::empty());
    let mut file =
        File::from(opened.map_err(|errno| CredentialErrorKind::Unreadable(errno.into()))?);
    let metadata = file.metadata().map_err(CredentialErrorKind::Unreadable)?;
    if !metadata.is_file() {
        return Err(CredentialErrorKind::NotAFile);
    }
    let mode = metadata.permissions().mode() & 0o7777;
    if policy == FileModePolicy::OwnerOnly && mode & OTHERS_MODE_BITS != 0 {
        return Err(CredentialErrorKind::OpenToOthers { mode });
    }
    read_capped(&mut file).map_err(CredentialErrorKind::Unreadable)
}

/// Reads at most one byte more than a secret may have, which is enough to reject it.
fn read_capped(reader: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let cap = u64::try_from(SECRET_BYTES_MAX).unwrap_or(u64::MAX);
    reader.take(cap.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Parses a secret: one line of text, without its line break.
fn parse_secret(bytes: Vec<u8>) -> Result<Secret, CredentialErrorKind> {
    let text = parse_text(bytes)?;
    let line = text.strip_suffix('\n').unwrap_or(&text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    if line.is_empty() {
        return Err(CredentialErrorKind::Empty);
    }
    if line.chars().any(char::is_control) {
        return Err(CredentialErrorKind::ControlCharacter);
    }
    Ok(Secret::from(line))
}

/// Parses a secret of any number of lines.
fn parse_multiline(bytes: Vec<u8>) -> Result<Secret, CredentialErrorKind> {
    let text = parse_text(bytes)?;
    if text.trim().is_empty() {
        return Err(CredentialErrorKind::Empty);
    }
    Ok(Secret::from(text))
}

fn parse_text(bytes: Vec<u8>) -> Result<String, CredentialErrorKind> {
    if bytes.len() > SECRET_BYTES_MAX {
        return Err(CredentialErrorKind::TooLarge);
    }
    // The error of the conversion would hold the secret.
    String::from_utf8(bytes).ok().ok_or(CredentialErrorKind::NotText)
}

#[cfg(test)]
mod tests;
