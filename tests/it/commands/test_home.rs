//! Temporary folder with a configuration, and the program run in it.

use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use cynosure_lab::demo::{self, DemoKind, DemoOptions, DemoServer};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// Environment variables that must not affect a test.
const REMOVED_ENV_VARS: [&str; 13] = [
    "APPLICATIONINSIGHTS_CONNECTION_STRING",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_HEADERS",
    "CYNOSURE_LOG",
    "DBUS_SYSTEM_BUS_ADDRESS",
    "FAIL_CYNOSURE",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
    "INVOCATION_ID",
    "JOURNAL_STREAM",
    "NOTIFY_SOCKET",
    "STATE_DIRECTORY",
    "CREDENTIALS_DIRECTORY",
];

/// End of a configuration, with waits so short that no test is slow.
const SHORT_WAITS_CONFIG: &str = "
[restart]
retry_delay_base = \"1s\"
max_retries = 0
[backoff.base]
transient = \"1s\"
source_down = \"1s\"
challenge = \"1s\"
[request]
attempts = 1
";

/// End of a configuration whose checks accept any CPU, memory and disk usage of the machine.
pub(super) const NO_HOST_CHECKS_CONFIG: &str = "
[health]
timeout = \"1m\"
cpu = 1.0
memory = 1.0
disk_warning = 1.0
disk_critical = 1.0
disk_free = 0
inodes = 1.0
";

/// Temporary folder of one test: configuration, state, archive, and a demo server if the test needs
/// one.
pub(crate) struct TestHome {
    dir: TempDir,
    demo: Option<DemoServer>,
}

/// Exit code and output of the program, with `HOME` in place of the folder's path.
#[derive(Debug)]
pub(crate) struct ProgramOutput {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Running program, killed when dropped.
pub(crate) struct RunningProgram(pub(crate) Child);

impl TestHome {
    /// Creates a home with one source, `work`, whose port nothing listens on.
    pub(crate) fn with_source_work() -> Self {
        Self::with_source_at("http://127.0.0.1:9/.well-known/jmap")
    }

    /// Creates a home with one source, `work`, at `url`.
    pub(crate) fn with_source_at(url: &str) -> Self {
        let home = Self::with_source(&format!(
            "[source.work]\nkind = \"jmap\"\nurl = \"{url}\"\naccount = \"me@example.com\"\n\
             auth = {{ type = \"bearer\", token = {{ file = \"token\" }} }}\n"
        ));
        home.write("token", "secret\n");
        rustix::fs::chmod(home.path("token"), rustix::fs::Mode::RUSR).unwrap();
        home
    }

    /// Creates a home with one source, whose table is `source`.
    pub(crate) fn with_source(source: &str) -> Self {
        let home = Self::empty();
        home.write("config.toml", &format!("{source}{SHORT_WAITS_CONFIG}{NO_HOST_CHECKS_CONFIG}"));
        home
    }

    /// Creates a home with one source, `demo`, and starts its demo server.
    pub(crate) fn with_demo_server(items: u32) -> Self {
        Self::with_demo_server_of(DemoKind::Jmap, items)
    }

    /// Creates a home with one source, `demo`, and starts its demo server of this kind.
    pub(crate) fn with_demo_server_of(kind: DemoKind, items: u32) -> Self {
        let mut home = Self::empty();
        let token_file = Some(home.path("token"));
        let options = DemoOptions { kind, items, token_file, ..DemoOptions::default() };
        let demo = demo::start(options).unwrap();
        home.write("config.toml", &demo::demo_config(&demo, Path::new("downloads")));
        home.demo = Some(demo);
        home
    }

    /// Creates a home in which `demo` has run.
    pub(crate) fn after_demo() -> Self {
        let home = Self::empty();
        let dir = home.path("").display().to_string();
        let output = home.cynosure(&["demo", "--items", "60", "--faults", "none", "--dir", &dir]);
        assert_eq!(output.code, Some(0), "{output:?}");
        home
    }

    /// Creates a home in which `demo` has run with the faults of a storm, which leave one message
    /// quarantined. Also returns the output of the run.
    pub(crate) fn after_storm() -> (Self, ProgramOutput) {
        let home = Self::empty();
        let dir = home.path("").display().to_string();
        let output = home.cynosure(&["demo", "--items", "40", "--faults", "storm", "--dir", &dir]);
        assert_eq!(output.code, Some(3), "one message always fails: {output:?}");
        (home, output)
    }

    pub(crate) fn empty() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), demo: None }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        // A program that reads the file meanwhile sees the old text or the new one.
        let new_path = self.path("new-file");
        fs_err::write(&new_path, text).unwrap();
        if let Ok(metadata) = fs_err::metadata(&path) {
            fs_err::set_permissions(&new_path, metadata.permissions()).unwrap();
        }
        fs_err::rename(new_path, path).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs_err::read_to_string(self.path(name)).unwrap()
    }

    /// Replaces `from` in the configuration, which must contain it, by `to`.
    pub(crate) fn configure(&self, from: &str, to: &str) {
        let text = self.read("config.toml");
        assert!(text.contains(from), "{text}");
        self.write("config.toml", &text.replace(from, to));
    }

    /// Returns the paths of the stored messages, sorted.
    pub(crate) fn messages(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for session in self.sessions() {
            for thread in entries(&session).iter().filter(|path| path.is_dir()) {
                found.extend(entries(thread));
            }
        }
        found
    }

    /// Returns the session folders of the archive.
    pub(crate) fn sessions(&self) -> Vec<PathBuf> {
        let mut found = entries(&self.path("downloads"));
        found.retain(|path| !path.ends_with(".cynosure"));
        found
    }

    /// Returns the number of downloads that repeated an earlier one from the demo server.
    pub(crate) fn repeated_downloads(&self) -> u64 {
        self.demo.as_ref().map_or(0, |demo| demo.counters().messages_served_repeatedly)
    }

    /// Returns the program with its arguments, to run in the folder without outside influence.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cynosure"));
        command.args(args).current_dir(self.dir.path()).env("TZ", "UTC");
        for name in REMOVED_ENV_VARS {
            command.env_remove(name);
        }
        // The systemd of this machine must not affect a test.
        command.env("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nowhere/bus");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs the program to its end.
    pub(crate) fn cynosure(&self, args: &[&str]) -> ProgramOutput {
        self.run_to_end(&mut self.command(args))
    }

    /// Runs a command to its end, such as one of [`Self::command`].
    pub(crate) fn run_to_end(&self, command: &mut Command) -> ProgramOutput {
        let output = command.output().unwrap();
        let text = |bytes: &[u8]| {
            let dir = self.dir.path().display().to_string();
            String::from_utf8_lossy(bytes).replace(&dir, "HOME")
        };
        ProgramOutput {
            code: output.status.code(),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        }
    }

    /// Starts the program and does not wait for its end.
    pub(crate) fn start(&self, args: &[&str]) -> RunningProgram {
        RunningProgram(self.command(args).spawn().unwrap())
    }
}

impl ProgramOutput {
    /// Returns the cells of the table, separated by ` | `, with masked times and session names.
    pub(crate) fn cells(&self) -> String {
        let lines = self.stdout.lines().map(|line| {
            let cells = line.split("  ").map(str::trim).filter(|cell| !cell.is_empty());
            mask_times(&cells.collect::<Vec<_>>().join(" | "))
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    /// Parses each line of the output as JSON.
    pub(crate) fn json_lines(&self) -> Vec<Value> {
        self.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl RunningProgram {
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.0.id().cast_signed()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Reads and returns the log up to and including a line with `text`, and nothing beyond it.
    pub(crate) fn log_until(&mut self, text: &str) -> String {
        read_until(self.0.stderr.as_mut().unwrap(), text)
    }

    /// Reads and returns standard output up to and including a line with `text`, and nothing beyond
    /// it.
    pub(crate) fn output_until(&mut self, text: &str) -> String {
        read_until(self.0.stdout.as_mut().unwrap(), text)
    }

    /// Reads the first line of standard output.
    pub(crate) fn first_line(&mut self) -> String {
        let mut line = String::new();
        BufReader::new(self.0.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        line
    }
}

impl Drop for RunningProgram {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Starts a server that sends the same bytes in response to every request.
pub(crate) fn fixed_response_server(response: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = BufReader::new(stream.try_clone().unwrap()).lines();
            while request.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
            std::io::Write::write_all(&mut stream, response).ok();
        }
    });
    addr
}

/// Returns a listener whose connections never get a response.
pub(crate) fn silent_server() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

/// Returns the id of a process that has exited.
pub(crate) fn dead_pid() -> u32 {
    let mut child = Command::new("true").spawn().unwrap();
    child.wait().unwrap();
    child.id()
}

/// Returns the writing end of a pipe whose reading end is closed.
pub(crate) fn closed_pipe() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

/// Reads up to and including a line with `text`.
fn read_until(stream: &mut impl Read, text: &str) -> String {
    let (mut bytes, mut byte) = (Vec::new(), [0]);
    while !(bytes.ends_with(b"\n") && String::from_utf8_lossy(&bytes).contains(text)) {
        let count = stream.read(&mut byte).unwrap();
        let output = String::from_utf8_lossy(&bytes);
        assert_eq!(count, 1, "{text:?} is not in the output: {output}");
        bytes.push(byte[0]);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let found = fs_err::read_dir(folder).unwrap();
    let mut paths: Vec<PathBuf> = found.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

/// Masks dates, times, waits and session names.
fn mask_times(line: &str) -> String {
    let words = line.split(' ').map(|word| {
        let inner = word.trim_matches(['(', ')']);
        let shape: String =
            inner.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
        let mask = match shape.as_str() {
            "0000-00-00" => "DATE",
            "00:00" | "00:00:00" => "TIME",
            "session_0000000000" => "SESSION",
            _ => inner,
        };
        word.replace(inner, mask)
    });
    let line = words.collect::<Vec<_>>().join(" ").replace("DATE TIME", "TIME");
    match line.split_once("(in ") {
        Some((before, after)) => {
            let rest = after.split_once(')').map_or("", |(_, rest)| rest);
            format!("{before}(in WAIT){rest}")
        }
        None => line,
    }
}
