//! A storm of failures at a real worker beside a real monitor: one mail for its cause, one for its end.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use cynosure::demo::{self, DemoOptions, DemoServer};
use fs_err as fs;
use serde_json::Value;
use tempfile::TempDir;

use crate::account::JmapAccount;
use crate::exim::{EximServer, PASSWORD, alert_mail};
use crate::http::TestHttpClient;
use crate::test_program::{RunningProgram, TestFolder};
use crate::wait::wait_until;

/// Requests that the server refuses at least.
const FAILURES: u64 = 1_000;

/// They share one provider, and here one mailbox.
const SOURCES: usize = 2;

/// The mailbox: what is there before, and what comes just before the storm.
const ITEMS: u32 = 100;
const NEW_MESSAGES: u32 = 2_000;

/// Where a worker that starts anew a thousand times waits for no disk.
const TMPFS: &str = "/dev/shm";

/// Looks of the monitor after which nothing more is expected.
const EVALUATIONS: u32 = 20;

/// What the log says of a session that came to its end.
const COMPLETED_LOG_TEXT: &str = "execution completed";

/// Every limit is the usual one; only the waits are short.
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
fn a_storm_of_a_thousand_failures_is_one_mail_and_its_end_another() {
    let Some(exim) = EximServer::start() else { return };
    let storm = StormTest::prepare(&exim);
    let worker = storm.start("run");
    wait_until("what there was is stored", || storm.completed_sessions() == SOURCES);
    let monitor = storm.start("monitor");
    wait_until("all is well", || storm.last_evaluation().is_some());
    let served = storm.demo.counters().messages_served;

    storm.send_command(&format!("deliver?n={NEW_MESSAGES}"));
    wait_until("new mail is fetched", || storm.demo.counters().messages_served > served);
    storm.send_command(&format!("fail?n={}", u32::MAX));
    wait_until("it is told", || !exim.mailbox_messages().is_empty());
    wait_until("a thousand requests failed", || storm.demo.counters().unavailable >= FAILURES);
    let during = exim.mailbox_messages().len();
    storm.send_command("fail?n=0");
    wait_until("its end is told", || exim.mailbox_messages().len() > during);
    wait_until("all is stored", || storm.completed_sessions() == 2 * SOURCES);
    for _ in 0..EVALUATIONS {
        let last = storm.last_evaluation();
        wait_until("the monitor looks again", || storm.last_evaluation() != last);
    }
    drop((monitor, worker));

    let mailbox = exim.mailbox_messages();
    assert_eq!((during, mailbox.len()), (1, 2), "{mailbox:#?}");
    assert!(mailbox[0].contains("\nCRITICAL: 127.0.0.1: "), "{}", mailbox[0]);
    assert!(mailbox[1].contains("\nOVER: 127.0.0.1: "), "{}", mailbox[1]);
    let book = &storm.json("alerts.json")["alerts"];
    let alerts: Vec<_> = book.as_array().into_iter().flatten().collect();
    assert_eq!(alerts.len(), 1, "{book:#}");
    assert_eq!((&alerts[0]["cause"], &alerts[0]["times"]), (&"provider.unwell".into(), &1.into()));
    storm.assert_all_stored();
    storm.assert_no_secrets();
}

/// A server, and a worker and a monitor who speak to it and to a mail server.
struct StormTest<'a> {
    demo: DemoServer,
    exim: &'a EximServer,
    folder: TestFolder,
    /// The folder of the token that opens the mailbox.
    token: TempDir,
}

impl<'a> StormTest<'a> {
    fn prepare(exim: &'a EximServer) -> Self {
        let token = TempDir::new().expect("a temporary folder");
        let token_file = Some(token.path().join("token"));
        let demo = demo::start(DemoOptions { items: ITEMS, token_file, ..DemoOptions::default() });
        let demo = demo.expect("the service starts");
        let config = demo::demo_config(&demo, Path::new("downloads"));
        let twin = config.replace("[source.demo]", "[source.twin]");
        let (twin, _rest) = twin.split_once("[archive]").expect("the source stands first");
        let workplace = TestFolder::in_folder(Path::new(TMPFS), &config);
        workplace.put_secret("mail-password", PASSWORD);
        let mail = alert_mail(exim.starttls_port, "starttls", "../mail-password");
        let folder = workplace.path().join("config.d");
        fs::create_dir(&folder).expect("the folder is ours");
        let overrides = format!("{twin}{SHORT_WAITS_CONFIG}{mail}");
        fs::write(folder.join("storm.toml"), overrides).expect("the folder is ours");
        Self { demo, exim, folder: workplace, token }
    }

    fn start(&self, name: &str) -> RunningProgram {
        let log = fs::File::create(self.log(name)).expect("the folder is ours").into_file();
        let mut command = self.folder.command(&[name]);
        command
            .env("SSL_CERT_FILE", self.exim.certificate())
            .env("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nowhere/bus");
        RunningProgram::start(command.stdout(Stdio::null()).stderr(log))
    }

    fn log(&self, name: &str) -> PathBuf {
        self.folder.path().join(format!("{name}.log"))
    }

    /// What both said.
    fn combined_log(&self) -> String {
        let read = |name| fs::read_to_string(self.log(name)).unwrap_or_default();
        ["run", "monitor"].map(read).concat()
    }

    /// Sessions that came to their end.
    fn completed_sessions(&self) -> usize {
        self.combined_log().matches(COMPLETED_LOG_TEXT).count()
    }

    /// When the monitor last looked.
    fn last_evaluation(&self) -> Option<String> {
        self.json("health.json")["report"]["looked_at"].as_str().map(str::to_owned)
    }

    fn json(&self, name: &str) -> Value {
        let text = fs::read_to_string(self.folder.path().join("state").join(name));
        text.ok().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
    }

    /// Each session adds up, and each source holds every message of the mailbox.
    fn assert_all_stored(&self) {
        for line in self.combined_log().lines().filter(|line| line.contains(COMPLETED_LOG_TEXT)) {
            let figure = |name: &str| line.split(name).nth(1)?.split_whitespace().next();
            let [listed, stored] = ["listed=", "stored="].map(figure);
            assert_eq!(listed, stored, "{line}");
            assert!(line.contains(" gone=0 quarantined=0"), "{line}");
        }
        let DemoOptions { username, password, .. } = DemoOptions::default();
        let url = format!("http://{}/.well-known/jmap", self.demo.address());
        let emails = JmapAccount::open(&url, &username, &password).emails();
        assert_eq!(self.folder.archive_files().len(), SOURCES * emails.len());
        self.folder.run_successfully(&["verify"]);
    }

    /// Neither the token nor the password is in what was said, or in what is kept.
    fn assert_no_secrets(&self) {
        let token = fs::read_to_string(self.token.path().join("token")).expect("it was put there");
        let kept = ["alerts.json", "health.json"].map(|name| self.json(name).to_string()).concat();
        let all = self.combined_log() + &kept;
        assert!(![PASSWORD, token.trim_end()].iter().any(|secret| all.contains(secret)));
    }

    /// Has the server do something.
    fn send_command(&self, command: &str) {
        let url = format!("http://{}/demo/{command}", self.demo.address());
        TestHttpClient::new().send(|client| client.post(url));
    }
}
