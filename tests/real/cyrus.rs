//! Private Cyrus on loopback: an independent JMAP and IMAP server, with one user, for one test.

use std::ffi::OsString;
use std::fs::Permissions;
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use fs_err as fs;
use rustix::process::{Pid, Signal, geteuid, kill_process, kill_process_group};
use tempfile::TempDir;

use crate::free_ports::free_ports;
use crate::imap::ImapSession;
use crate::imap_server::ImapServer;
use crate::prerequisites::{copy_unpacked, skip, unpacked_root};
use crate::wait::wait_until;

pub(crate) const USER: &str = "alice";
pub(crate) const PASSWORD: &str = "secret";

/// User that may create mailboxes.
const ADMIN: &str = "cyrus";

/// Name of the server, and the realm of its users.
const SERVER_NAME: &str = "mail.example.com";

/// Name of the folder in `target/real` into which `make setup` unpacks it.
const SETUP_NAME: &str = "cyrus";

/// Paths of the programs and of Cyrus's private libraries in the unpacked package.
const PROGRAMS: &str = "usr/lib/cyrus/bin";
const LIBRARIES: &str = "usr/lib";

const SASLPASSWD: &str = "/usr/sbin/saslpasswd2";

/// Folders of the user, each with its role.
const FOLDERS: [(&str, &str); 5] = [
    ("Archive", r"\Archive"),
    ("Drafts", r"\Drafts"),
    ("Junk", r"\Junk"),
    ("Sent", r"\Sent"),
    ("Trash", r"\Trash"),
];

/// Running server. Dropping it stops it and removes its mail.
pub(crate) struct CyrusServer {
    folder: TempDir,
    master: Child,
    imap_port: u16,
    http_port: u16,
}

/// Guard that keeps every process of a server stopped until it is dropped.
pub(crate) struct FrozenProcesses<'server>(&'server CyrusServer);

impl CyrusServer {
    /// Starts a server whose user has an empty mailbox. Reports the test as skipped, and returns
    /// `None`, if something is missing.
    pub(crate) fn start() -> Option<Self> {
        let unpacked = unpacked_root(SETUP_NAME);
        let programs =
            ["master", "imapd", "httpd", "cyr_expire"].map(|name| program(&unpacked, name));
        if !programs.iter().all(|program| program.exists()) || !Path::new(SASLPASSWD).exists() {
            return skip("Cyrus (make setup as root, on Debian)");
        }
        if !geteuid().is_root() {
            return skip("root, to run Cyrus as its own user");
        }
        if !user_exists() {
            return skip("user cyrus (make setup as root)");
        }

        // Not in the temporary folder of the environment, because user cyrus must have access.
        let folder = tempfile::Builder::new()
            .prefix("cynosure-cyrus-")
            .permissions(Permissions::from_mode(0o755))
            .tempdir_in("/tmp")
            .expect("root may write to /tmp");
        copy_unpacked(SETUP_NAME, folder.path());
        let [imap_port, http_port] = free_ports();
        write_config(folder.path(), imap_port, http_port);
        let master = start_master(folder.path());
        let server = Self { folder, master, imap_port, http_port };

        for port in [imap_port, http_port] {
            wait_until("Cyrus listens", || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok());
        }
        server.create_mailbox();
        Some(server)
    }

    /// Returns the URL at which JMAP clients start (RFC 8620 §2.2).
    pub(crate) fn url(&self) -> String {
        self.base_url() + "/.well-known/jmap"
    }

    /// Returns the URL to which the paths of HTTP requests are appended.
    pub(crate) fn base_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.http_port)
    }

    /// Opens an IMAP session of the user.
    pub(crate) fn imap(&self) -> ImapSession {
        ImapSession::login(self.imap_port, USER, PASSWORD)
    }

    /// Deletes the records of expunged messages. The server can then no longer calculate the
    /// changes since an earlier state.
    pub(crate) fn expire_history(&self) {
        let folder = self.folder.path();
        let status = cyrus_command(folder, "cyr_expire")
            .arg("-C")
            .arg(folder.join("imapd.conf"))
            .args(["-E", "1", "-X", "0", "-D", "0"])
            .status();
        assert!(status.expect("cyr_expire starts").success(), "cyr_expire failed");
    }

    /// Stops every process of the server with SIGSTOP: connections stay open, and nothing responds.
    pub(crate) fn freeze(&self) -> FrozenProcesses<'_> {
        kill_process_group(self.pid(), Signal::STOP).expect("the server runs");
        FrozenProcesses(self)
    }

    fn create_mailbox(&self) {
        let mut admin = ImapSession::login(self.imap_port, ADMIN, PASSWORD);
        admin.create(&format!("user/{USER}"));
        let mut user = self.imap();
        for (folder, role) in FOLDERS {
            user.create(folder);
            user.set_role(folder, role);
        }
    }

    /// Returns the pid of the master, which leads the process group of the server.
    fn pid(&self) -> Pid {
        Pid::from_child(&self.master)
    }
}

impl ImapServer for CyrusServer {
    const RIG_NAME: &'static str = "imap, Cyrus";
    // EMAILID and THREADID (RFC 8474).
    const HAS_CONTENT_IDS: bool = true;
    const SERVES_EXPUNGED: bool = true;

    fn start() -> Option<Self> {
        Self::start()
    }

    fn imap_port(&self) -> u16 {
        self.imap_port
    }
}

impl Drop for FrozenProcesses<'_> {
    fn drop(&mut self) {
        kill_process_group(self.0.pid(), Signal::CONT).expect("the server is still there");
    }
}

impl Drop for CyrusServer {
    fn drop(&mut self) {
        // The master stops its services; a process that is left must not outlive the test.
        kill_process(self.pid(), Signal::TERM).expect("the master is not waited for yet");
        self.master.wait().expect("the master is our child");
        kill_process_group(self.pid(), Signal::KILL).ok();
    }
}

/// Returns the path of a program; `root` is laid out like `/`.
fn program(root: &Path, name: &str) -> PathBuf {
    root.join(PROGRAMS).join(name)
}

/// Returns the search path of Cyrus's private libraries: one folder per architecture.
fn library_path(root: &Path) -> OsString {
    let folders = fs::read_dir(root.join(LIBRARIES)).expect("Cyrus is unpacked");
    let paths = folders.map(|entry| entry.expect("the folder can be listed").path());
    std::env::join_paths(paths).expect("no path has a colon")
}

fn user_exists() -> bool {
    let status = Command::new("getent").args(["passwd", "cyrus"]).stdout(Stdio::null()).status();
    status.expect("getent is part of every Debian").success()
}

/// Returns the command of a program in the folder of a server. It runs as user cyrus, and ends with
/// the thread that started it, however that thread ends.
fn cyrus_command(folder: &Path, name: &str) -> Command {
    let root = folder.join(SETUP_NAME);
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "cyrus", "--regid", "mail", "--init-groups", "--pdeathsig", "TERM"]);
    command.arg(program(&root, name)).env("LD_LIBRARY_PATH", library_path(&root));
    command
}

fn start_master(folder: &Path) -> Child {
    let log = fs::File::create(folder.join("log")).expect("the folder is ours").into_file();
    cyrus_command(folder, "master")
        .arg("-D")
        .arg("-C")
        .arg(folder.join("imapd.conf"))
        .arg("-M")
        .arg(folder.join("cyrus.conf"))
        .arg("-p")
        .arg(folder.join("run/master.pid"))
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a descriptor is free"))
        .stderr(log)
        .spawn()
        .expect("setpriv is part of every Debian")
}

/// Writes the configuration, creates the mail users, and makes user cyrus the owner of the folder.
fn write_config(folder: &Path, imap_port: u16, http_port: u16) {
    // Without `conf/db` the server works, but at a fiftieth of its speed.
    for name in ["conf/db", "conf/log", "conf/msg", "conf/proc", "conf/socket", "run", "spool"] {
        fs::create_dir_all(folder.join(name)).expect("the folder is ours");
    }
    fs::write(folder.join("imapd.conf"), imapd_conf(folder)).expect("the folder is ours");
    fs::write(folder.join("cyrus.conf"), cyrus_conf(folder, imap_port, http_port))
        .expect("the folder is ours");
    for user in [ADMIN, USER] {
        add_user(folder, user);
    }
    let status = Command::new("chown").args(["-R", "cyrus:mail"]).arg(folder).status();
    assert!(status.expect("chown starts").success(), "user cyrus is missing");
}

fn add_user(folder: &Path, user: &str) {
    use std::io::Write as _;

    let mut child = Command::new(SASLPASSWD)
        .args(["-p", "-c", "-u", SERVER_NAME, "-f"])
        .arg(folder.join("sasldb2"))
        .arg(user)
        .stdin(Stdio::piped())
        .spawn()
        .expect("saslpasswd2 starts");
    let mut stdin = child.stdin.take().expect("its input is piped");
    stdin.write_all(PASSWORD.as_bytes()).expect("saslpasswd2 reads the password");
    drop(stdin);
    assert!(child.wait().expect("saslpasswd2 ends").success(), "cannot add the user {user}");
}

fn imapd_conf(folder: &Path) -> String {
    let folder = folder.display();
    format!(
        "servername: {SERVER_NAME}
configdirectory: {folder}/conf
proc_path: {folder}/run/proc
mboxname_lockpath: {folder}/run/lock
defaultpartition: default
partition-default: {folder}/spool
idlesocket: {folder}/run/idle
notifysocket: {folder}/run/notify
admins: {ADMIN}
altnamespace: yes
unixhierarchysep: yes
virtdomains: no
munge8bit: no
allowplaintext: yes
httpallowplaintext: yes
httpmodules: jmap
sasl_pwcheck_method: auxprop
sasl_auxprop_plugin: sasldb
sasl_sasldb_path: {folder}/sasldb2
sasl_mech_list: PLAIN LOGIN
conversations: yes
conversations_db: twoskip
conversations_expire_days: 3650
search_engine: none
"
    )
}

fn cyrus_conf(folder: &Path, imap_port: u16, http_port: u16) -> String {
    let config = folder.join("imapd.conf");
    let config = config.display();
    let [ctl_cyrusdb, imapd, httpd] =
        ["ctl_cyrusdb", "imapd", "httpd"].map(|name| program(&folder.join(SETUP_NAME), name));
    let (ctl_cyrusdb, imapd, httpd) = (ctl_cyrusdb.display(), imapd.display(), httpd.display());
    format!(
        r#"START {{
  recover cmd="{ctl_cyrusdb} -C {config} -r"
}}
SERVICES {{
  imap cmd="{imapd} -C {config} -U 30" listen="127.0.0.1:{imap_port}" prefork=0
  http cmd="{httpd} -C {config} -U 30" listen="127.0.0.1:{http_port}" prefork=0
}}
EVENTS {{
}}
"#
    )
}
