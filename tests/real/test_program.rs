//! Program under test, as a user runs it: a folder with a configuration, a command line, an exit
//! code and an archive.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Output, Stdio};

use fs_err as fs;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::wait::wait_for_the_next_second;

/// Permanent files of the archive that are not mail.
const NON_MAIL_FILES: &[&str] = &["owner.json", "lock", "manifest.jsonl"];

/// SHA-256 of a message.
pub(crate) type Hash = [u8; 32];

/// Folder with a `config.toml`, in which the program stores its state and its archive.
pub(crate) struct TestFolder {
    folder: TempDir,
    /// Certificate authority that the program trusts in place of those of the system.
    authority: Option<PathBuf>,
}

impl TestFolder {
    pub(crate) fn new(config: &str) -> Self {
        Self::in_folder(&std::env::temp_dir(), config)
    }

    pub(crate) fn in_folder(parent: &Path, config: &str) -> Self {
        let folder = TempDir::new_in(parent).expect("a temporary folder");
        fs::write(folder.path().join("config.toml"), config).expect("the folder is ours");
        Self { folder, authority: None }
    }

    /// Lets the program trust this certificate authority, in place of those of the system.
    pub(crate) fn trust(self, authority: &Path) -> Self {
        Self { authority: Some(authority.to_owned()), ..self }
    }

    /// Writes a credential next to the configuration, which only its owner may read.
    pub(crate) fn put_secret(&self, name: &str, secret: &str) {
        let path = self.folder.path().join(name);
        fs::write(&path, secret).expect("the folder is ours");
        fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("the file is ours");
    }

    /// Returns the command of the program with these arguments, without the environment of the
    /// tests.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = program();
        command
            .arg("--config")
            .arg(self.folder.path().join("config.toml"))
            .args(arguments)
            .current_dir(self.folder.path());
        if let Some(authority) = &self.authority {
            command.env("SSL_CERT_FILE", authority);
        }
        command
    }

    /// Runs the program, which must succeed, and returns its output.
    pub(crate) fn run_successfully(&self, arguments: &[&str]) -> Output {
        let output = self.command(arguments).output().expect("the program starts");
        let stderr = String::from_utf8_lossy(&output.stderr);
        let last_lines = stderr.lines().rev().take(20).collect::<Vec<_>>();
        assert!(
            output.status.success(),
            "{arguments:?}: {}; last lines, newest first: {last_lines:#?}",
            output.status
        );
        output
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Returns the state of the source `work`; null before it has one.
    pub(crate) fn source_status(&self) -> Value {
        let path = self.path().join("state/work/execution_state.json");
        let text = fs::read_to_string(path).ok();
        let state: Option<Value> = text.and_then(|text| serde_json::from_str(&text).ok());
        state.map_or(Value::Null, |mut state| state["status"].take())
    }

    /// Runs one session, and returns its result even if it failed.
    pub(crate) fn run_once(&self) -> RunResult {
        let output = self.command(&["run", "--once"]).output().expect("the program starts");
        let text = [output.stdout, output.stderr].concat();
        RunResult {
            code: output.status.code(),
            output: String::from_utf8_lossy(&text).trim_end().to_owned(),
        }
    }

    /// Runs one session, and returns its output and the hashes of the messages that it stored,
    /// sorted.
    pub(crate) fn extract(&self) -> (String, Vec<Hash>) {
        let before = self.sessions();
        let output = self.run_successfully(&["run", "--once"]);
        wait_for_the_next_second();
        let mut after = self.sessions();
        for (name, messages) in &before {
            assert_eq!(after.remove(name).as_ref(), Some(messages), "{name} changed afterwards");
        }
        assert!(after.len() <= 1, "one session made {} folders", after.len());

        let text = [output.stdout, output.stderr].concat();
        (String::from_utf8_lossy(&text).into_owned(), after.into_values().flatten().collect())
    }

    /// Runs one session, in which every listed item must be stored. Returns the hashes of the
    /// messages that it stored, sorted.
    pub(crate) fn extract_all(&self) -> Vec<Hash> {
        let (output, stored) = self.extract();
        let counts = output.lines().find_map(|line| {
            let (_, counts) = line.split_once("listed ")?;
            counts.contains(" = stored ").then_some(counts)
        });
        let counts = counts.expect("the run prints its counts");
        let (listed, _) = counts.split_once(" = ").expect("the line has it");
        let balance = format!("{listed} = stored {listed} + gone 0 + quarantined 0");
        assert!(counts.starts_with(&balance), "listed {counts}");
        stored
    }

    /// Returns the hashes of the messages in each session's folder, sorted.
    pub(crate) fn sessions(&self) -> BTreeMap<String, Vec<Hash>> {
        let mut sessions = BTreeMap::<String, Vec<Hash>>::new();
        for path in self.archive_files() {
            assert!(
                path.extension().is_some_and(|extension| extension == "eml"),
                "left behind: {}",
                path.display()
            );
            let session = path.ancestors().nth(2).and_then(|folder| folder.file_name());
            let session = session.expect("session/thread/message").to_string_lossy().into_owned();
            let message = fs::read(&path).expect("the archive can be read");
            sessions.entry(session).or_default().push(hash(&message));
        }
        sessions.values_mut().for_each(|messages| messages.sort_unstable());
        sessions
    }

    /// Returns every file of the archive, without marker, lock and manifests.
    pub(crate) fn archive_files(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        let mut folders = vec![self.folder.path().join("downloads")];
        while let Some(folder) = folders.pop() {
            let Ok(entries) = fs::read_dir(folder) else { continue };
            for path in entries.map(|entry| entry.expect("the archive can be listed").path()) {
                if path.is_dir() { folders.push(path) } else { files.push(path) }
            }
        }
        files.retain(|path| !NON_MAIL_FILES.iter().any(|name| path.ends_with(name)));
        files
    }
}

/// Exit code and output of a run.
#[derive(Debug)]
pub(crate) struct RunResult {
    pub(crate) code: Option<i32>,
    pub(crate) output: String,
}

/// Running program. Dropping it kills it.
pub(crate) struct RunningProgram(Child);

impl RunningProgram {
    pub(crate) fn start(command: &mut Command) -> Self {
        Self(command.spawn().expect("the program starts"))
    }

    /// Returns its pid.
    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    /// Returns its standard input and output, which have to be pipes.
    pub(crate) fn take_pipes(&mut self) -> (ChildStdin, ChildStdout) {
        let stdin = self.0.stdin.take().expect("it is piped");
        (stdin, self.0.stdout.take().expect("it is piped"))
    }

    /// Returns its exit status if it has ended by itself.
    pub(crate) fn try_wait(&mut self) -> Option<ExitStatus> {
        self.0.try_wait().expect("the program is our child")
    }

    pub(crate) fn wait(mut self) -> ExitStatus {
        self.0.wait().expect("the program is our child")
    }
}

impl Drop for RunningProgram {
    fn drop(&mut self) {
        // Both do nothing if the process was waited for.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Returns the command of the program under test.
pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cynosure"));
    // The environment of the tests or of a user's shell must not configure the program.
    command.env_clear().stdin(Stdio::null());
    command
}

pub(crate) fn hash(message: &[u8]) -> Hash {
    Sha256::digest(message).into()
}

/// Asserts that these are the hashes of exactly these mails, each once.
pub(crate) fn assert_same_mails(actual: Vec<Hash>, mails: &[Vec<u8>]) {
    let expected = hashes(mails);
    let total = actual.len();
    let distinct: BTreeSet<_> = actual.into_iter().collect();
    let missing = expected.difference(&distinct).count();
    let unexpected = distinct.difference(&expected).count();
    let repeated = total - distinct.len();
    assert_eq!(
        (missing, unexpected, repeated),
        (0, 0, 0),
        "(missing, unexpected, repeated) of {total}"
    );
}

/// Returns the distinct contents, because a server may show equal ones as one message.
pub(crate) fn hashes(mails: &[Vec<u8>]) -> BTreeSet<Hash> {
    mails.iter().map(|mail| hash(mail)).collect()
}
