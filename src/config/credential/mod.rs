//! Where a secret is, and how it is read from there.

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

use super::environment::Environment;

/// A password or a token. It is wiped when dropped, and its debug form hides it.
pub use secrecy::SecretString as Secret;

/// The largest secret, in bytes: tokens have some kilobytes at most, a wrong path does not fill the memory.
const SECRET_BYTES_MAX: usize = 64 << 10;

/// The variable in which systemd names the folder of a service's credentials (systemd.exec(5), `LoadCredential=`).
const CREDENTIALS_DIRECTORY: &str = "CREDENTIALS_DIRECTORY";

/// The permission bits that let others than the owner read or change a file.
const OTHERS_MODE: u32 = 0o066;

/// Where a secret is. It names the place and never holds the secret, so it may be shown.
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
    /// Reads the secret. It blocks, up to half a minute where a command is run.
    ///
    /// # Errors
    ///
    /// When there is no usable secret there. The error says what, where and what to do, and holds nothing of the secret.
    pub fn read(&self, environment: &Environment) -> Result<Secret, CredentialError> {
        self.read_bytes(environment)
            .and_then(secret)
            .map_err(|problem| CredentialError { credential: self.clone(), problem })
    }

    fn read_bytes(&self, environment: &Environment) -> Result<Vec<u8>, Problem> {
        match self {
            Self::File(path) => read_file(path, Readers::OwnerOnly),
            Self::Env(name) => {
                let value = environment.get(name).ok_or(Problem::NotSet)?;
                Ok(value.as_encoded_bytes().to_vec())
            }
            Self::Command(words) => command::run(words),
            Self::Systemd(name) => {
                let folder = environment.get(CREDENTIALS_DIRECTORY).unwrap_or_default();
                if folder == OsStr::new("") {
                    return Err(Problem::NotUnderSystemd);
                }
                read_file(&Path::new(folder).join(name), Readers::AsSystemdSays)
            }
        }
    }
}

impl fmt::Display for CredentialRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "credential file {}", path.display()),
            Self::Env(name) => write!(f, "credential variable {name}"),
            // Arguments are left out: people put secrets there.
            Self::Command(words) => {
                write!(f, "credential command {}", words.first().map_or("", String::as_str))
            }
            Self::Systemd(name) => write!(f, "systemd credential {name}"),
        }
    }
}

/// Whether two readings of a credential gave the same secret.
#[must_use]
pub fn same(one: &Secret, other: &Secret) -> bool {
    one.expose_secret() == other.expose_secret()
}

/// A credential that gives no usable secret.
#[derive(Debug)]
pub struct CredentialError {
    pub credential: CredentialRef,
    pub problem: Problem,
}

/// Why a credential gives no usable secret.
#[derive(Debug)]
pub enum Problem {
    Unreadable(io::Error),
    NotAFile,
    /// Others than the owner can read or change the file, whose permission bits these are.
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
    SeveralLines,
}

impl CredentialError {
    /// Whether only a person can mend it, and not what a command gives the next time.
    #[must_use]
    pub fn is_lasting(&self) -> bool {
        match &self.problem {
            Problem::CommandTimedOut | Problem::CommandFailed(_) => false,
            Problem::Unreadable(_)
            | Problem::NotAFile
            | Problem::OpenToOthers { .. }
            | Problem::NotSet
            | Problem::NotUnderSystemd
            | Problem::CommandNotStarted(_)
            | Problem::TooLarge
            | Problem::Empty
            | Problem::NotText
            | Problem::SeveralLines => true,
        }
    }
}

impl fmt::Display for CredentialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.credential)?;
        match &self.problem {
            Problem::Unreadable(error) => {
                write!(f, "cannot be read ({error}); create it, or correct its path or owner")
            }
            Problem::NotAFile => write!(f, "is not a regular file; put the secret into one"),
            Problem::OpenToOthers { mode } => {
                write!(f, "others than its owner can read or change it (mode {mode:04o}); ")?;
                match &self.credential {
                    CredentialRef::File(path) => write!(f, "run `chmod 600 {}`", path.display()),
                    CredentialRef::Env(_)
                    | CredentialRef::Command(_)
                    | CredentialRef::Systemd(_) => {
                        write!(f, "let only its owner read it")
                    }
                }
            }
            Problem::NotSet => {
                write!(f, "is not set; set it for this process, in a unit with EnvironmentFile=")
            }
            Problem::NotUnderSystemd => write!(
                f,
                "${CREDENTIALS_DIRECTORY} is not set; run under systemd with LoadCredential=, or name a file instead"
            ),
            Problem::CommandNotStarted(error) => {
                write!(f, "cannot be started ({error}); correct the program's path")
            }
            Problem::CommandTimedOut => write!(
                f,
                "gave no answer within {} s and was ended; it must not ask a person",
                command::TIME_LIMIT.as_secs()
            ),
            Problem::CommandFailed(status) => {
                write!(f, "failed ({status}); run it by hand as this user to see why")
            }
            Problem::TooLarge => {
                write!(f, "gives more than {SECRET_BYTES_MAX} bytes; is it the right one?")
            }
            Problem::Empty => write!(f, "is empty; put the password or token there"),
            Problem::NotText => {
                write!(f, "is not UTF-8 text; put only the password or token there")
            }
            Problem::SeveralLines => write!(
                f,
                "holds a line break or another control character inside; put only the password or token there, on one line"
            ),
        }
    }
}

impl std::error::Error for CredentialError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.problem {
            Problem::Unreadable(error) | Problem::CommandNotStarted(error) => Some(error),
            Problem::NotAFile
            | Problem::OpenToOthers { .. }
            | Problem::NotSet
            | Problem::NotUnderSystemd
            | Problem::CommandTimedOut
            | Problem::CommandFailed(_)
            | Problem::TooLarge
            | Problem::Empty
            | Problem::NotText
            | Problem::SeveralLines => None,
        }
    }
}

/// Who may be able to read a credential's file.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Readers {
    OwnerOnly,
    /// systemd guards its folder itself, in some versions with access lists that look like mode 0440.
    AsSystemdSays,
}

/// Reads a regular file, or what a symlink to one leads to. All checks are on the open file, which nobody can swap.
fn read_file(path: &Path, readers: Readers) -> Result<Vec<u8>, Problem> {
    // Without NONBLOCK the opening of a pipe would wait for somebody to write to it.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let opened = rustix::fs::open(path, flags, Mode::empty());
    let mut file = File::from(opened.map_err(|errno| Problem::Unreadable(errno.into()))?);
    let metadata = file.metadata().map_err(Problem::Unreadable)?;
    if !metadata.is_file() {
        return Err(Problem::NotAFile);
    }
    let mode = metadata.permissions().mode() & 0o7777;
    if readers == Readers::OwnerOnly && mode & OTHERS_MODE != 0 {
        return Err(Problem::OpenToOthers { mode });
    }
    read_capped(&mut file).map_err(Problem::Unreadable)
}

/// Reads at most one byte more than a secret may have, which is enough to refuse it.
fn read_capped(from: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let cap = u64::try_from(SECRET_BYTES_MAX).unwrap_or(u64::MAX);
    from.take(cap.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Makes a secret of what was read: one line of text, whose line break is not part of it.
fn secret(bytes: Vec<u8>) -> Result<Secret, Problem> {
    if bytes.len() > SECRET_BYTES_MAX {
        return Err(Problem::TooLarge);
    }
    // The conversion's own error would hold the secret.
    let text = String::from_utf8(bytes).ok().ok_or(Problem::NotText)?;
    let line = text.strip_suffix('\n').unwrap_or(&text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    if line.is_empty() {
        return Err(Problem::Empty);
    }
    if line.chars().any(char::is_control) {
        return Err(Problem::SeveralLines);
    }
    Ok(Secret::from(line))
}

#[cfg(test)]
mod tests;
