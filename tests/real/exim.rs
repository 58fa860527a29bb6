//! Private Exim on loopback: a mail server that accepts alerts, with one mailbox, for one test.

use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use fs_err as fs;
use rustix::process::geteuid;

use crate::certificate::{can_create_certificate, create_certificate};
use crate::free_ports::free_ports;
use crate::prerequisites::{copy_unpacked, skip, unpacked_root};
use crate::process_sandbox::ProcessSandbox;
use crate::wait::wait_until;

const USER: &str = "me";
pub(crate) const PASSWORD: &str = "hunter2-of-the-mail";

/// Name of the folder in `target/real` into which `make setup` unpacks it.
const SETUP_NAME: &str = "exim";

/// Path of the program in the unpacked package.
const EXIM: &str = "usr/sbin/exim4";

/// User that it runs as, besides root.
const SERVER_USER: &str = "Debian-exim";

/// Running server. Dropping it stops it and removes its mail.
pub(crate) struct EximServer {
    folder: ProcessSandbox,
    daemon: Child,
    /// Port with TLS from the first byte.
    pub(crate) tls_port: u16,
    /// Port that starts in plain text, and accepts mail only after STARTTLS.
    pub(crate) starttls_port: u16,
}

impl EximServer {
    /// Starts a server with an empty mailbox. Reports the test as skipped, and returns `None`, if
    /// something is missing.
    pub(crate) fn start() -> Option<Self> {
        if !unpacked_root(SETUP_NAME).join(EXIM).exists() || !can_create_certificate() {
            return skip("Exim and openssl (make setup as root, on Debian)");
        }
        if !geteuid().is_root() {
            return skip("root, to run Exim as its own user");
        }
        let folder = ProcessSandbox::world_accessible();
        copy_unpacked(SETUP_NAME, folder.path());
        create_certificate(folder.path());
        chown_to_server(&folder.path().join("key.pem"));
        for name in ["spool", "mail", "log"] {
            fs::create_dir(folder.path().join(name)).expect("the folder is ours");
            chown_to_server(&folder.path().join(name));
        }
        let [tls_port, starttls_port] = free_ports();
        let config = exim_config(folder.path(), tls_port, starttls_port);
        fs::write(folder.path().join("exim.conf"), config).expect("the folder is ours");
        let daemon = start_daemon(folder.path());
        let server = Self { folder, daemon, tls_port, starttls_port };
        for port in [tls_port, starttls_port] {
            wait_until("Exim listens", || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok());
        }
        Some(server)
    }

    /// Returns the path of the server's certificate.
    pub(crate) fn certificate(&self) -> PathBuf {
        self.folder.path().join("cert.pem")
    }

    /// Returns every mail in the mailbox, with its headers, in the order of arrival.
    pub(crate) fn mailbox_messages(&self) -> Vec<String> {
        let new = self.folder.path().join("mail/new");
        let Ok(entries) = fs::read_dir(new) else { return Vec::new() };
        let mut paths: Vec<PathBuf> =
            entries.map(|entry| entry.expect("the mailbox can be listed").path()).collect();
        paths.sort();
        let read = |path: &PathBuf| fs::read_to_string(path).expect("mails of ours are UTF-8");
        paths.iter().map(read).collect()
    }

    /// Returns the log of the server, with every delivery and every rejection.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log/main")).unwrap_or_default()
    }
}

impl Drop for EximServer {
    fn drop(&mut self) {
        // An error means that it has ended by itself, which the test would have noticed.
        self.daemon.kill().ok();
        self.daemon.wait().ok();
    }
}

/// Returns the configuration table that sends alerts to the mailbox.
pub(crate) fn alert_mail_config(port: u16, protection: &str, password_file: &str) -> String {
    format!(
        "[alert.mail]\nserver = \"127.0.0.1\"\nport = {port}\nprotection = \"{protection}\"\n\
         from = \"cynosure@example.com\"\nto = [\"me@example.com\"]\nusername = \"{USER}\"\n\
         password = {{ file = \"{password_file}\" }}\n"
    )
}

/// Makes the server's user the owner.
fn chown_to_server(path: &Path) {
    let status =
        Command::new("chown").arg(format!("{SERVER_USER}:{SERVER_USER}")).arg(path).status();
    assert!(status.expect("chown starts").success(), "there is no user {SERVER_USER}");
}

fn exim_config(folder: &Path, tls_port: u16, starttls_port: u16) -> String {
    let exim = folder.join(SETUP_NAME).join(EXIM);
    let (folder, exim) = (folder.display(), exim.display());
    format!(
        "primary_hostname = mail.example.com
exim_path = {exim}
spool_directory = {folder}/spool
log_file_path = {folder}/log/%s
pid_file_path = {folder}/spool/exim.pid
local_interfaces = 127.0.0.1
daemon_smtp_ports = {tls_port} : {starttls_port}
tls_on_connect_ports = {tls_port}
tls_certificate = {folder}/cert.pem
tls_privatekey = {folder}/key.pem
tls_advertise_hosts = *
auth_advertise_hosts = ${{if eq{{$tls_in_cipher}}{{}}{{}}{{*}}}}
keep_environment =
host_lookup =
rfc1413_query_timeout = 0s
never_users = root
deliver_drop_privilege = true
log_selector = +smtp_protocol_error +smtp_syntax_error
acl_smtp_rcpt = check_recipient
acl_smtp_data = accept_all
begin acl
check_recipient:
  deny !authenticated = *
  accept domains = example.com
  deny
accept_all:
  accept
begin routers
local:
  driver = accept
  transport = mailbox
begin transports
mailbox:
  driver = appendfile
  directory = {folder}/mail
  maildir_format
  user = {SERVER_USER}
  group = {SERVER_USER}
begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  server_condition = ${{if and{{{{eq{{$auth2}}{{{USER}}}}}{{eq{{$auth3}}{{{PASSWORD}}}}}}}}}
  server_set_id = $auth2
"
    )
}

fn start_daemon(folder: &Path) -> Child {
    Command::new(folder.join(SETUP_NAME).join(EXIM))
        .arg("-C")
        .arg(folder.join("exim.conf"))
        .arg("-bdf")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("Exim starts")
}
