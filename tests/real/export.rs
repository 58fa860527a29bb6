//! Exports of real mail: read by other programs, resumed after a kill, and brought back to a
//! server.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use fs_err as fs;

use crate::corpus::{self, MAILS};
use crate::cyrus::PASSWORD;
use crate::dovecot::DovecotServer;
use crate::imap::ImapSession;
use crate::imap_server::{ImapServer as _, imap_source_config, imap_test_folder};
use crate::prerequisites::skip;
use crate::test_program::{RunningProgram, TestFolder, hash};
use crate::wait::wait_until;

/// Folders of the mailbox, as the protocol names them and as people read them.
const FOLDERS: [(&str, &str); 4] = [
    ("INBOX", "INBOX"),
    ("Archive", "Archive"),
    ("Projects/2024 Q1", "Projects/2024 Q1"),
    ("Entw&APw-rfe", "Entwürfe"),
];

/// Programs that read mail, and one that sends it back to a server.
const PROGRAMS: [&str; 6] = ["mutt", "notmuch", "mbsync", "unzip", "script", "python3"];

/// User of the server to which mail is brought back.
const OTHER_USER: &str = "bob";

const RESTORE_GUIDE: &str = include_str!("../../docs/restore.md");

/// Hashes of the messages of each folder, in hexadecimal and sorted.
type FolderHashes = BTreeMap<String, Vec<String>>;

/// Extracted mailbox, and its messages as the server sends them.
struct ExtractedMailbox {
    server: DovecotServer,
    test_folder: TestFolder,
    /// Messages by the name of their folder.
    served: BTreeMap<String, Vec<Vec<u8>>>,
}

impl ExtractedMailbox {
    /// Fills a server with the corpus, and extracts it. Returns `None` if something is missing.
    fn prepare() -> Option<Self> {
        let is_missing = |program: &&&str| {
            !["/usr/bin", "/bin"].iter().any(|dir| Path::new(dir).join(program).exists())
        };
        if let Some(program) = PROGRAMS.iter().find(is_missing) {
            return skip(&format!("{program} (make setup as root, on Debian)"));
        }
        let server = DovecotServer::start()?;
        let mails = corpus::real_mails(MAILS)?;
        let mut imap = server.session();
        imap.create(FOLDERS[2].0);
        imap.create(FOLDERS[3].0);
        for ((folder, _), part) in FOLDERS.iter().zip(mails.chunks(MAILS.div_ceil(FOLDERS.len()))) {
            imap.append(folder, part);
        }
        let served = read_folders(&mut imap);
        let test_folder = imap_test_folder(&imap_source_config(server.imap_port(), "none"));
        assert_eq!(test_folder.extract_all().len(), MAILS);
        Some(Self { server, test_folder, served })
    }

    /// Returns the hashes that an export has to have, after a change of each message.
    fn expected(&self, change: impl Fn(&[u8]) -> Vec<u8>) -> FolderHashes {
        let hashes = |mails: &Vec<Vec<u8>>| {
            sorted(mails.iter().map(|mail| to_hex(&hash(&change(mail)))).collect())
        };
        self.served.iter().map(|(folder, mails)| (folder.clone(), hashes(mails))).collect()
    }

    /// Exports into a folder of this name. The export is killed when its output has each of these
    /// sizes, in bytes, and continued. A fast machine may complete it before the later ones.
    fn export_with_kills(&self, format: &str, name: &str, kill_at: &[u64]) {
        let dir = self.test_folder.path().join(name);
        let arguments = ["export", "--format", format, name];
        for (number, bytes) in kill_at.iter().enumerate() {
            let mut command = self.test_folder.command(&arguments);
            command.stdout(Stdio::null()).stderr(Stdio::null());
            let mut export = RunningProgram::start(&mut command);
            wait_until("the export has written that much", || {
                let has_ended = export.try_wait().is_some();
                assert!(!has_ended || number > 0, "it was complete before the first kill");
                has_ended || *bytes <= size_of_folder(&dir)
            });
            drop(export);
        }
        let output = self.test_folder.run_successfully(&arguments);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.contains("6,046"), "{text}");
    }
}

#[test]
fn an_export_is_read_by_other_programs_also_after_kills() {
    let Some(mailbox) = ExtractedMailbox::prepare() else { return };
    let path = mailbox.test_folder.path();
    let kill_at = [4 << 20, 12 << 20, 24 << 20];

    mailbox.export_with_kills("maildir", "maildir", &kill_at);
    assert_eq!(
        read_with_python("maildir", &path.join("maildir")),
        mailbox.expected(<[u8]>::to_vec)
    );
    for (folder, mails) in &mailbox.served {
        open_with_mutt(&path.join("maildir").join(folder), mails.len());
    }
    assert_eq!(index_with_notmuch(path, &path.join("maildir")), MAILS);

    mailbox.export_with_kills("mbox", "mbox", &kill_at);
    assert_eq!(read_with_python("mbox", &path.join("mbox")), mailbox.expected(to_mbox_lines));
    for (folder, mails) in &mailbox.served {
        open_with_mutt(&path.join("mbox").join(format!("{folder}.mbox")), mails.len());
    }

    mailbox.export_with_kills("zip", "zip", &kill_at);
    let file = path.join("zip/mail.zip");
    assert_eq!(read_with_python("zip", &file), mailbox.expected(<[u8]>::to_vec));
    let test = run(Command::new("unzip").arg("-tqq").arg(&file));
    assert_eq!(test, "", "unzip finds faults");
}

#[test]
fn an_exported_maildir_is_brought_back_to_a_server() {
    let Some(mailbox) = ExtractedMailbox::prepare() else { return };
    let arguments = ["export", "--format", "maildir", "--layout", "maildir++", "export"];
    mailbox.test_folder.run_successfully(&arguments);
    let home = mailbox.test_folder.path();
    mailbox.test_folder.put_secret("password", PASSWORD);
    fs::write(home.join("restore.rc"), mbsync_configuration(&mailbox, home))
        .expect("the folder is ours");

    run(Command::new("mbsync").args(["-c", "restore.rc", "restore"]).current_dir(home));

    let mut imap = ImapSession::login(mailbox.server.imap_port(), OTHER_USER, PASSWORD);
    let restored = read_folders(&mut imap);
    for (folder, mails) in &mailbox.served {
        let hashes =
            |mails: &[Vec<u8>]| sorted(mails.iter().map(|mail| to_hex(&hash(mail))).collect());
        assert_eq!(restored[folder].len(), mails.len(), "{folder}");
        let restored: Vec<_> =
            restored[folder].iter().map(|mail| without_cr(&without_sync_id(mail))).collect();
        let exported: Vec<_> = mails.iter().map(|mail| without_cr(mail)).collect();
        assert!(hashes(&restored) == hashes(&exported), "other messages in {folder}");
    }
}

/// Returns the configuration of the guide, with the server, the user and the folder of this test.
fn mbsync_configuration(mailbox: &ExtractedMailbox, home: &Path) -> String {
    let (_, rest) = RESTORE_GUIDE.split_once("```mbsync\n").expect("the guide has it");
    let (configuration, _) = rest.split_once("```").expect("it ends");
    let port = mailbox.server.imap_port();
    let replaced = [
        ("Host mail.example.com\n", format!("Host 127.0.0.1\nPort {port}\n")),
        ("SSLType IMAPS\n", "SSLType None\n".to_owned()),
        ("User me@example.com\n", format!("User {OTHER_USER}\n")),
        ("/srv/export/", format!("{}/export/", home.display())),
        ("/srv/restore/", format!("{}/restore/", home.display())),
        ("cat /srv/password", format!("cat {}/password", home.display())),
    ];
    replaced.into_iter().fold(configuration.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "the guide does not have {from:?}");
        text.replace(from, &to)
    })
}

/// Returns the messages of each folder of the mailbox, by the name that people read.
fn read_folders(imap: &mut ImapSession) -> BTreeMap<String, Vec<Vec<u8>>> {
    FOLDERS.iter().map(|(folder, name)| ((*name).to_owned(), imap.messages(folder))).collect()
}

/// Removes the line that mbsync adds to the header of a message, to find it on the server.
fn without_sync_id(mail: &[u8]) -> Vec<u8> {
    let mut lines: Vec<&[u8]> = mail.split_inclusive(|&byte| byte == b'\n').collect();
    let added = lines.iter().position(|line| line.starts_with(b"X-TUID: "));
    lines.remove(added.expect("mbsync adds it"));
    lines.concat()
}

/// Removes every CR. mbsync removes those that are not part of a line end.
fn without_cr(mail: &[u8]) -> Vec<u8> {
    mail.iter().copied().filter(|&byte| byte != b'\r').collect()
}

fn read_with_python(format: &str, path: &Path) -> FolderHashes {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/read_export.py");
    let output = run(Command::new("python3").args([script, format]).arg(path));
    let folders: FolderHashes = serde_json::from_str(&output).expect("the script prints JSON");
    let folders = folders.into_iter().map(|(folder, hashes)| (folder, sorted(hashes)));
    folders.filter(|(_, hashes)| !hashes.is_empty()).collect()
}

/// Opens a folder with mutt and saves all its messages, which must be this many.
fn open_with_mutt(path: &Path, messages: usize) {
    let home = tempfile::tempdir().expect("a temporary folder");
    let copies = home.path().join("copies");
    let settings = "set folder=.\nset sleep_time=0\nset wait_key=no\nset move=no\nset mbox_type=Maildir\n\
                    set confirmappend=no\nset confirmcreate=no\nset sort=mailbox-order\n\
                    set quit=yes\nset read_inc=0\nset write_inc=0\n";
    fs::write(home.path().join("muttrc"), settings).expect("the folder is ours");
    let keys = "push <tag-pattern>~A<enter><tag-prefix><copy-message>copies<enter><exit>";
    let command = format!("mutt -n -F muttrc -R -f '{}' -e '{keys}'", path.display());
    let mut script = Command::new("script");
    script.args(["-qec", &command, "/dev/null"]).current_dir(home.path()).env("TERM", "xterm");

    script.env("HOME", home.path()).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut terminal = script.spawn().expect("script is part of every Debian");
    // The end of the input would be a key, which mutt reads between those above.
    let input = terminal.stdin.take();
    let output = terminal.wait_with_output().expect("it is our child");
    drop(input);
    let screen = String::from_utf8_lossy(&output.stdout);

    assert!(screen.contains(&format!("Msgs:{messages}")), "{screen}");
    let saved = ["cur", "new"]
        .map(|folder| fs::read_dir(copies.join(folder)).map_or(0, |entries| entries.count()));
    assert_eq!(saved[0] + saved[1], messages, "{screen}");
}

/// Indexes a Maildir with notmuch by the commands of the guide, and returns the number of its files.
fn index_with_notmuch(home: &Path, maildir: &Path) -> usize {
    let start = RESTORE_GUIDE.find("export NOTMUCH_CONFIG=").expect("the guide has it");
    let (commands, _) = RESTORE_GUIDE[start..].split_once("```").expect("they end");
    let script = format!("{commands}notmuch count --output=files --exclude=false\n");
    let script = script.replace("/srv/export", &maildir.display().to_string());
    let output = run(Command::new("sh").args(["-ec", &script]).env("HOME", home));
    let count = output.lines().last().expect("it prints a number");
    count.trim().parse().expect("it prints a number")
}

/// Runs a program, which must succeed, and returns its output.
fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().expect("the program starts");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}: {stderr}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Returns a message as an mbox file has it, without its quoting and the line ends at its end.
fn to_mbox_lines(mail: &[u8]) -> Vec<u8> {
    let mut lines = Vec::with_capacity(mail.len());
    for line in mail.split_inclusive(|&byte| byte == b'\n') {
        match line.strip_suffix(b"\r\n") {
            Some(text) => {
                lines.extend_from_slice(text);
                lines.push(b'\n');
            }
            None => lines.extend_from_slice(line),
        }
    }
    while lines.last() == Some(&b'\n') {
        lines.pop();
    }
    lines
}

/// Returns the bytes of all files below a folder.
fn size_of_folder(dir: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else { return 0 };
    let sizes = entries.filter_map(Result::ok).map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => size_of_folder(&entry.path()),
        Ok(metadata) => metadata.len(),
        // A temporary file that was renamed meanwhile.
        Err(_) => 0,
    });
    sizes.sum()
}

fn sorted(mut hashes: Vec<String>) -> Vec<String> {
    hashes.sort_unstable();
    hashes
}

fn to_hex(hash: &[u8]) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}
