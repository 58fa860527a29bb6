//! Private Dovecot on loopback: an independent IMAP server that names no contents, for one test.

use std::fs::Permissions;
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use fs_err as fs;
use rustix::process::{Pid, Signal, geteuid, kill_process, kill_process_group};
use tempfile::TempDir;

use crate::certificate::{can_create_certificate, create_certificate};
use crate::cyrus::PASSWORD;
use crate::free_ports::free_ports;
use crate::imap_server::ImapServer;
use crate::prerequisites::skip;
use crate::wait::wait_until;

/// Programs of its packages. They find each other by paths that were compiled in, so they run only
/// from where the packages are installed.
const PROGRAMS: [&str; 2] = ["/usr/sbin/dovecot", "/usr/lib/dovecot/imap"];

/// User and group id of the mail. They need no entry in the system's database.
const MAIL_ID: u32 = 5_000;

const START_LOG: &str = "start.log";

/// Settings for the logins with access tokens.
const OAUTH_FILE: &str = "oauth2.conf";

/// Settings of a server.
pub(crate) struct DovecotOptions {
    /// Maximum number of connections of one user.
    pub(crate) connections_max: u32,
    /// True if it offers the compression of connections.
    pub(crate) has_compression: bool,
    pub(crate) mail_format: MailFormat,
    /// Logins with access tokens, beside those with the password.
    pub(crate) token_login: Option<TokenLogin>,
}

/// Format in which a server stores its mail.
#[derive(Clone, Copy)]
pub(crate) enum MailFormat {
    /// A file for each message.
    Maildir,
    /// Files of many messages each, which are filled ten times as fast.
    Mdbox,
}

/// Login with an access token.
#[derive(Clone, Copy)]
pub(crate) struct TokenLogin {
    /// SASL mechanism, in lower case.
    pub(crate) mechanism: &'static str,
    /// Port of the server that knows the tokens.
    pub(crate) introspection_port: u16,
}

impl Default for DovecotOptions {
    fn default() -> Self {
        // More than any test has at once, together with those of killed processes, which the server
        // notices a little later.
        Self {
            connections_max: 100,
            has_compression: false,
            mail_format: MailFormat::Maildir,
            token_login: None,
        }
    }
}

impl MailFormat {
    /// Returns the place of the mail below a folder.
    fn location(self, folder: &Path) -> String {
        let user_folder = format!("{}/mail/%u", folder.display());
        match self {
            Self::Maildir => format!("maildir:{user_folder}/Maildir:INDEX={user_folder}/index"),
            Self::Mdbox => format!("mdbox:{user_folder}/mdbox"),
        }
    }
}

/// Running server, which takes every user name. Dropping it stops it and removes its mail.
pub(crate) struct DovecotServer {
    folder: TempDir,
    master: Child,
    imap_port: u16,
    /// Port with TLS from the first byte.
    pub(crate) tls_port: u16,
}

impl DovecotServer {
    /// Starts a server. Reports the test as skipped, and returns `None`, if something is missing.
    pub(crate) fn start_with(options: &DovecotOptions) -> Option<Self> {
        let is_installed = PROGRAMS.iter().all(|program| Path::new(program).exists());
        if !is_installed || !can_create_certificate() {
            return skip("Dovecot and openssl (make setup as root, on Debian)");
        }
        if !geteuid().is_root() {
            return skip("root, to run Dovecot as its own users");
        }

        // Not in the temporary folder of the environment, because its users must have access.
        let folder = tempfile::Builder::new()
            .prefix("cynosure-dovecot-")
            .permissions(Permissions::from_mode(0o755))
            .tempdir_in("/tmp")
            .expect("root may write to /tmp");
        create_certificate(folder.path());
        for name in ["run", "state", "mail"] {
            fs::create_dir(folder.path().join(name)).expect("the folder is ours");
        }
        chown(folder.path().join("mail"), Some(MAIL_ID), Some(MAIL_ID)).expect("root may do that");
        let [imap_port, tls_port] = free_ports();
        let config = dovecot_conf(folder.path(), [imap_port, tls_port], options);
        fs::write(folder.path().join("dovecot.conf"), config).expect("the folder is ours");
        if let Some(token_login) = &options.token_login {
            let oauth_conf = oauth_conf(token_login.introspection_port);
            fs::write(folder.path().join(OAUTH_FILE), oauth_conf).expect("the folder is ours");
        }
        let master = start_master(folder.path());
        let mut server = Self { folder, master, imap_port, tls_port };

        for port in [imap_port, tls_port] {
            wait_until("Dovecot listens", || {
                let exit_status = server.master.try_wait().expect("the master is our child");
                assert_eq!(exit_status, None, "{}", server.start_log());
                TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
            });
        }
        Some(server)
    }

    /// Returns the path of the server's certificate.
    pub(crate) fn certificate(&self) -> PathBuf {
        self.folder.path().join("cert.pem")
    }

    /// Makes the new messages of a user's INBOX that have this text unreadable for the server, which
    /// stores them with LF as line end.
    pub(crate) fn make_unreadable(&self, user: &str, text: &str) {
        let inbox = self.folder.path().join("mail").join(user).join("Maildir/new");
        for entry in fs::read_dir(inbox).expect("messages are delivered") {
            let path = entry.expect("they can be listed").path();
            let message = fs::read(&path).expect("root can read them");
            if String::from_utf8_lossy(&message).contains(text) {
                fs::set_permissions(&path, Permissions::from_mode(0o000)).expect("and change them");
            }
        }
    }

    /// Returns the messages from before the server writes its own log.
    fn start_log(&self) -> String {
        fs::read_to_string(self.folder.path().join(START_LOG)).unwrap_or_default()
    }

    /// Returns the pid of the master, which leads the process group of the server.
    fn pid(&self) -> Pid {
        Pid::from_child(&self.master)
    }
}

impl ImapServer for DovecotServer {
    const RIG_NAME: &'static str = "imap, Dovecot";
    const HAS_CONTENT_IDS: bool = false;
    const SERVES_EXPUNGED: bool = false;

    fn start() -> Option<Self> {
        Self::start_with(&DovecotOptions::default())
    }

    fn imap_port(&self) -> u16 {
        self.imap_port
    }
}

impl Drop for DovecotServer {
    fn drop(&mut self) {
        // Fails if the master could not start. It stops its services; a process that is left must
        // not outlive the test.
        kill_process(self.pid(), Signal::TERM).ok();
        self.master.wait().expect("the master is our child");
        kill_process_group(self.pid(), Signal::KILL).ok();
    }
}

/// Starts the server in the foreground. It ends with the thread that started it, however that
/// thread ends.
fn start_master(folder: &Path) -> Child {
    let log = fs::File::create(folder.join(START_LOG)).expect("the folder is ours").into_file();
    Command::new("setpriv")
        .args(["--pdeathsig", "TERM", PROGRAMS[0], "-F", "-c"])
        .arg(folder.join("dovecot.conf"))
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a descriptor is free"))
        .stderr(log)
        .spawn()
        .expect("setpriv is part of every Debian")
}

/// Returns a configuration that reads nothing of `/etc/dovecot`.
fn dovecot_conf(
    folder: &Path,
    [imap_port, tls_port]: [u16; 2],
    options: &DovecotOptions,
) -> String {
    let mail_location = options.mail_format.location(folder);
    let passdbs = passdbs(folder, options.token_login);
    let token_mechanism = options.token_login.map_or("", |token_login| token_login.mechanism);
    let folder = folder.display();
    let DovecotOptions { connections_max, has_compression, .. } = options;
    let plugins = if *has_compression { "zlib imap_zlib" } else { "" };
    format!(
        r"base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/log
protocols = imap
listen = 127.0.0.1
ssl = yes
ssl_cert = <{folder}/cert.pem
ssl_key = <{folder}/key.pem
disable_plaintext_auth = no
auth_mechanisms = plain login {token_mechanism}
auth_failure_delay = 0 secs
first_valid_uid = {MAIL_ID}
default_login_user = dovenull
default_internal_user = dovecot
mail_location = {mail_location}
mail_max_userip_connections = {connections_max}
mail_fsync = never
{passdbs}userdb {{
  driver = static
  args = uid={MAIL_ID} gid={MAIL_ID} home={folder}/mail/%u
}}
namespace inbox {{
  inbox = yes
  separator = /
  mailbox Archive {{
    auto = create
    special_use = \Archive
  }}
  mailbox Sent {{
    auto = create
    special_use = \Sent
  }}
}}
service imap-login {{
  service_count = 0
  inet_listener imap {{
    port = {imap_port}
  }}
  inet_listener imaps {{
    port = {tls_port}
    ssl = yes
  }}
}}
service anvil {{
  chroot =
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service stats {{
  chroot =
}}
protocol imap {{
  mail_plugins = {plugins}
}}
"
    )
}

/// Returns the databases of the secrets, each with the mechanisms that use it.
fn passdbs(folder: &Path, token_login: Option<TokenLogin>) -> String {
    let passdb = |driver: &str, mechanisms: &str, args: &str| {
        format!(
            "passdb {{\n  driver = {driver}\n  mechanisms = {mechanisms}\n  args = {args}\n}}\n"
        )
    };
    let passwords = passdb("static", "plain login", &format!("password={PASSWORD}"));
    let tokens = token_login.map(|token_login| {
        let file = folder.join(OAUTH_FILE).display().to_string();
        passdb("oauth2", token_login.mechanism, &file)
    });
    passwords + &tokens.unwrap_or_default()
}

/// Returns the settings with which the server asks for the user of a token (RFC 7662 §2.2).
fn oauth_conf(introspection_port: u16) -> String {
    format!(
        "introspection_url = http://127.0.0.1:{introspection_port}/introspect?token=
introspection_mode = get
username_attribute = username
active_attribute = active
active_value = true
"
    )
}
