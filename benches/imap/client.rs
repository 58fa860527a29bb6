//! Programs that extract a mailbox: the one under test, and its peers.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use fs_err as fs;

use crate::cyrus::PASSWORD;
use crate::measure::measure;
use crate::process::{ResourceUsage, clean_command, cynosure_command};
use crate::wait::timed;

/// Mailbox of a user.
pub(crate) struct Account {
    pub(crate) user: &'static str,
    pub(crate) port: u16,
}

/// Result of one extraction.
#[derive(Clone, Copy)]
pub(crate) struct Run {
    pub(crate) messages: usize,
    pub(crate) seconds: f64,
    pub(crate) usage: ResourceUsage,
}

/// Program that extracts a mailbox.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Client {
    Cynosure,
    /// `mbsync` with or without a sync of each file.
    Mbsync {
        has_fsync: bool,
    },
    OfflineImap,
}

impl Client {
    /// All programs, the one under test first.
    pub(crate) const ALL: [Self; 4] = [
        Self::Cynosure,
        Self::Mbsync { has_fsync: true },
        Self::Mbsync { has_fsync: false },
        Self::OfflineImap,
    ];

    /// Returns name and version; `None` if it is not installed.
    pub(crate) fn version(self) -> Option<String> {
        let (program, name) = match self {
            Self::Cynosure => return Some("cynosure".to_owned()),
            Self::Mbsync { has_fsync: true } => ("mbsync", "mbsync {}, FSync yes (its default)"),
            Self::Mbsync { has_fsync: false } => ("mbsync", "mbsync {}, FSync no"),
            Self::OfflineImap => ("offlineimap", "OfflineIMAP {}, fsync = true"),
        };
        let output = Command::new(program).arg("--version").output().ok()?;
        let version = String::from_utf8_lossy(&output.stdout).into_owned();
        let number = version.split_whitespace().last()?;
        Some(name.replace("{}", number))
    }

    /// Extracts a mailbox into a folder, in a new process.
    pub(crate) fn extract(self, account: &Account, folder: &Path) -> Run {
        let mut command = match self {
            Self::Cynosure => cynosure(account, folder),
            Self::Mbsync { has_fsync } => mbsync(account, has_fsync, folder),
            Self::OfflineImap => offlineimap(account, folder),
        };
        command.current_dir(folder).stdout(Stdio::null());
        let ((_, usage), duration) = timed(|| measure(&mut command));
        Run { messages: count_messages(folder), seconds: duration.as_secs_f64(), usage }
    }
}

fn cynosure(account: &Account, folder: &Path) -> Command {
    let Account { user, port } = account;
    let config = format!(
        r#"[source.work]
kind = "imap"
account = "{user}@example.com"
host = "127.0.0.1"
port = {port}
security = "none"
folders = ["INBOX"]
auth = {{ type = "password", username = "{user}", password = {{ file = "password" }} }}
"#
    );
    fs::write(folder.join("config.toml"), config).expect("the folder is ours");
    let password = folder.join("password");
    fs::write(&password, PASSWORD).expect("the folder is ours");
    fs::set_permissions(password, Permissions::from_mode(0o600)).expect("the file is ours");
    let mut command = cynosure_command();
    command.args(["--config", "config.toml", "run", "--once"]);
    command
}

fn mbsync(account: &Account, has_fsync: bool, folder: &Path) -> Command {
    let Account { user, port } = account;
    let fsync = if has_fsync { "yes" } else { "no" };
    let config = format!(
        "FSync {fsync}

IMAPAccount account
Host 127.0.0.1
Port {port}
User {user}
Pass {PASSWORD}
SSLType None
AuthMechs LOGIN

IMAPStore server
Account account

MaildirStore local
Path ./
Inbox ./INBOX

Channel extract
Far :server:
Near :local:
Patterns INBOX
Create Near
Sync Pull
SyncState *
"
    );
    fs::write(folder.join("mbsyncrc"), config).expect("the folder is ours");
    let mut command = clean_command(Path::new("/usr/bin/mbsync"));
    command.env("HOME", folder).args(["-c", "mbsyncrc", "extract"]);
    command
}

fn offlineimap(account: &Account, folder: &Path) -> Command {
    let Account { user, port } = account;
    let folder_name = folder.display();
    let config = format!(
        "[general]
accounts = account
metadata = {folder_name}/metadata
fsync = true
ui = quiet

[Account account]
localrepository = local
remoterepository = server

[Repository local]
type = Maildir
localfolders = {folder_name}/mail

[Repository server]
type = IMAP
remotehost = 127.0.0.1
remoteport = {port}
remoteuser = {user}
remotepass = {PASSWORD}
ssl = no
starttls = no
readonly = true
maxconnections = 3
folderfilter = lambda folder: folder == 'INBOX'
"
    );
    fs::write(folder.join("offlineimaprc"), config).expect("the folder is ours");
    let mut command = clean_command(Path::new("/usr/bin/offlineimap"));
    command.env("HOME", folder).args(["-c", "offlineimaprc", "-o"]);
    command
}

/// Returns the number of messages below a folder, in the archive or in a Maildir.
fn count_messages(folder: &Path) -> usize {
    let mut count = 0;
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let is_maildir = folder.ends_with("new") || folder.ends_with("cur");
        for entry in fs::read_dir(&folder).expect("it can be read") {
            let path = entry.expect("it can be listed").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let is_mail = path.extension().is_some_and(|extension| extension == "eml");
                count += usize::from(is_maildir || is_mail);
            }
        }
    }
    count
}
