//! Storm of failures for a real worker with a real monitor, which sends one mail when the alert
//! fires, and one when it is resolved.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use cynosure_lab::demo::{self, DemoOptions, DemoServer};
use fs_err as fs;
use serde_json::Value;
use tempfile::TempDir;

use crate::account::JmapAccount;
use crate::exim::{EximServer, PASSWORD, alert_mail_config};
use crate::http::TestHttpClient;
use crate::test_program::{RunningProgram, TestFolder};
use crate::wait::wait_until;

/// Minimum number of requests that the server rejects.
const FAILURES: u64 = 1_000;

/// Number of sources. They share one provider, and here one mailbox.
const SOURCES: usize = 2;

/// Items of the mailbox at the start, and messages that arrive just before the storm.
const ITEMS: u32 = 100;
const NEW_MESSAGES: u32 = 2_000;

/// Filesystem in memory, so that a worker that restarts a thousand times does not wait for a disk.
const TMPFS: &str = "/dev/shm";

/// Evaluations of the monitor after which no further mail is expected.
const EVALUATIONS: u32 = 20;

/// Log message of a completed session.
const COMPLETED_MESSAGE: &str = "execution completed";

/// Configuration with short waits. All limits have their defaults, except those of the host's
/// resources.
const SHORT_WAITS_CONFIG: &str = r#"
[restart]
health_check_interval = "50ms"
retry_delay_base = "5ms"
max_retry_delay = "10ms"
restart_delay_errors = "10ms"
[backoff.base]
transient = "5ms"
[request]
delay = "5ms"
max_delay = "10ms"
[item]
retry_delay = "5ms"
max_retry_delay = "10ms"
[breaker]
recovery_timeout = "5ms"
max_recovery_timeout = "10ms"
[monitor]
interval = "50ms"
[health]
cpu = 1.0
memory = 1.0
disk_warning = 1.0
disk_critical = 1.0
disk_free = 0
"#;

#[test]
fn a_thousand_failures_send_one_mail_and_their_end_another() {
    let Some(exim) = EximServer::start() else { return };
    let storm = StormTest::prepare(&exim);
    let worker = storm.start("run");
    wait_until("the first messages are stored", || storm.completed_sessions() == SOURCES);
    let monitor = storm.start("monitor");
    wait_until("the monitor has evaluated once", || storm.last_evaluation().is_some());
    let served = storm.demo.counters().messages_served;

    storm.send_command(&format!("deliver?n={NEW_MESSAGES}"));
    wait_until("new mail is fetched", || storm.demo.counters().messages_served > served);
    storm.send_command(&format!("fail?n={}", u32::MAX));
    wait_until("the alert is sent", || !exim.mailbox_messages().is_empty());
    wait_until("a thousand requests failed", || storm.demo.counters().unavailable >= FAILURES);
    let during = exim.mailbox_messages().len();
    storm.send_command("fail?n=0");
    wait_until("the resolution is sent", || exim.mailbox_messages().len() > during);
    wait_until("all is stored", || storm.completed_sessions() == 2 * SOURCES);
    for _ in 0..EVALUATIONS {
        let last = storm.last_evaluation();
        wait_until("the monitor evaluates again", || storm.last_evaluation() != last);
    }
    drop((monitor, worker));

    let mailbox = exim.mailbox_messages();
    assert_eq!((during, mailbox.len()), (1, 2), "{mailbox:#?}");
    assert!(mailbox[0].contains("\nCRITICAL: 127.0.0.1: "), "{}", mailbox[0]);
    assert!(mailbox[1].contains("\nRESOLVED: 127.0.0.1: "), "{}", mailbox[1]);
    let saved_alerts = &storm.state_file("alerts.json")["alerts"];
    let alerts: Vec<_> = saved_alerts.as_array().into_iter().flatten().collect();
    assert_eq!(alerts.len(), 1, "{saved_alerts:#}");
    assert_eq!(alerts[0]["key"], "provider.degraded", "{saved_alerts:#}");
    assert_eq!(alerts[0]["occurrences"], 1, "{saved_alerts:#}");
    storm.assert_all_stored();
    storm.assert_no_secrets();
}

/// JMAP server and mail server, and the folder of a worker and a monitor that use both.
struct StormTest<'a> {
    demo: DemoServer,
    exim: &'a EximServer,
    folder: TestFolder,
    /// Folder of the token for the mailbox.
    token_folder: TempDir,
}

impl<'a> StormTest<'a> {
    fn prepare(exim: &'a EximServer) -> Self {
        let token_folder = TempDir::new().expect("a temporary folder");
        let token_file = Some(token_folder.path().join("token"));
        let demo = demo::start(DemoOptions { items: ITEMS, token_file, ..DemoOptions::default() });
        let demo = demo.expect("the service starts");
        let config = demo::demo_config(&demo, Path::new("downloads"));
        let second_source = config.replace("[source.demo]", "[source.second]");
        let (second_source, _rest) =
            second_source.split_once("[archive]").expect("the source is the first table");
        let test_folder = TestFolder::in_folder(Path::new(TMPFS), &config);
        test_folder.put_secret("mail-password", PASSWORD);
        let mail = alert_mail_config(exim.starttls_port, "starttls", "../mail-password");
        let overrides_dir = test_folder.path().join("config.d");
        fs::create_dir(&overrides_dir).expect("the folder is ours");
        let overrides = format!("{second_source}{SHORT_WAITS_CONFIG}{mail}");
        fs::write(overrides_dir.join("storm.toml"), overrides).expect("the folder is ours");
        Self { demo, exim, folder: test_folder, token_folder }
    }

    fn start(&self, subcommand: &str) -> RunningProgram {
        let log =
            fs::File::create(self.log_path(subcommand)).expect("the folder is ours").into_file();
        let mut command = self.folder.command(&[subcommand]);
        command
            .env("SSL_CERT_FILE", self.exim.certificate())
            .env("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nowhere/bus");
        RunningProgram::start(command.stdout(Stdio::null()).stderr(log))
    }

    fn log_path(&self, subcommand: &str) -> PathBuf {
        self.folder.path().join(format!("{subcommand}.log"))
    }

    /// Returns the logs of both processes.
    fn combined_log(&self) -> String {
        let read = |subcommand| fs::read_to_string(self.log_path(subcommand)).unwrap_or_default();
        ["run", "monitor"].map(read).concat()
    }

    /// Returns the number of completed sessions.
    fn completed_sessions(&self) -> usize {
        self.combined_log().matches(COMPLETED_MESSAGE).count()
    }

    /// Returns the time of the last evaluation of the monitor.
    fn last_evaluation(&self) -> Option<String> {
        self.state_file("health.json")["report"]["looked_at"].as_str().map(str::to_owned)
    }

    /// Returns the content of a file of the state folder; null if it cannot be read.
    fn state_file(&self, name: &str) -> Value {
        let text = fs::read_to_string(self.folder.path().join("state").join(name));
        text.ok().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
    }

    /// Asserts that the counts of each session add up, and that each source has stored every
    /// message of the mailbox.
    fn assert_all_stored(&self) {
        for line in self.combined_log().lines().filter(|line| line.contains(COMPLETED_MESSAGE)) {
            let field = |name: &str| line.split(name).nth(1)?.split_whitespace().next();
            let [listed, stored] = ["listed=", "stored="].map(field);
            assert_eq!(listed, stored, "{line}");
            assert!(line.contains(" gone=0 quarantined=0"), "{line}");
        }
        let DemoOptions { username, password, .. } = DemoOptions::default();
        let url = format!("http://{}/.well-known/jmap", self.demo.address());
        let emails = JmapAccount::open(&url, &username, &password).emails();
        assert_eq!(self.folder.archive_files().len(), SOURCES * emails.len());
        self.folder.run_successfully(&["verify"]);
    }

    /// Asserts that neither the token nor the password is in the logs or in the saved state.
    fn assert_no_secrets(&self) {
        let token =
            fs::read_to_string(self.token_folder.path().join("token")).expect("the token exists");
        let saved =
            ["alerts.json", "health.json"].map(|name| self.state_file(name).to_string()).concat();
        let all = self.combined_log() + &saved;
        assert!(![PASSWORD, token.trim_end()].iter().any(|secret| all.contains(secret)));
    }

    /// Sends a command to the server.
    fn send_command(&self, command: &str) {
        let url = format!("http://{}/demo/{command}", self.demo.address());
        TestHttpClient::new().send(|client| client.post(url));
    }
}
