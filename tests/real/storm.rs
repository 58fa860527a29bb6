//! A storm of failures at a real worker beside a real monitor: one mail for its cause, one for its end.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use cynosure::demo::{self, DemoOptions, DemoServer};
use fs_err as fs;
use serde_json::Value;
use tempfile::TempDir;

use crate::account::Account;
use crate::binary::{Running, Workplace};
use crate::exim::{Exim, PASSWORD, alert_mail};
use crate::http::Http;
use crate::patience::wait_until;

/// Requests that the server refuses at least.
const FAILURES: u64 = 1_000;

/// They share one provider, and here one mailbox.
const SOURCES: usize = 2;

/// The mailbox: what is there before, and what comes just before the storm.
const ITEMS: u32 = 100;
const NEW_MESSAGES: u32 = 2_000;

/// Where a worker that starts anew a thousand times waits for no disk.
const IN_MEMORY: &str = "/dev/shm";

/// Looks of the monitor after which nothing more is expected.
const LOOKS: u32 = 20;

/// What the log says of a session that came to its end.
const COMPLETED: &str = "execution completed";

/// Every limit is the usual one; only the waits are short.
const IMPATIENT: &str = r#"
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
    let Some(exim) = Exim::start() else { return };
    let storm = Storm::prepare(&exim);
    let worker = storm.start("run");
    wait_until("what there was is stored", || storm.completed() == SOURCES);
    let monitor = storm.start("monitor");
    wait_until("all is well", || storm.looked_at().is_some());
    let served = storm.demo.counters().messages_served;

    storm.tell(&format!("deliver?n={NEW_MESSAGES}"));
    wait_until("new mail is fetched", || storm.demo.counters().messages_served > served);
    storm.tell(&format!("fail?n={}", u32::MAX));
    wait_until("it is told", || !exim.mailbox().is_empty());
    wait_until("a thousand requests failed", || storm.demo.counters().unavailable >= FAILURES);
    let during = exim.mailbox().len();
    storm.tell("fail?n=0");
    wait_until("its end is told", || exim.mailbox().len() > during);
    wait_until("all is stored", || storm.completed() == 2 * SOURCES);
    for _ in 0..LOOKS {
        let last = storm.looked_at();
        wait_until("the monitor looks again", || storm.looked_at() != last);
    }
    drop((monitor, worker));

    let mailbox = exim.mailbox();
    assert_eq!((during, mailbox.len()), (1, 2), "{mailbox:#?}");
    assert!(mailbox[0].contains("\nCRITICAL: 127.0.0.1: "), "{}", mailbox[0]);
    assert!(mailbox[1].contains("\nOVER: 127.0.0.1: "), "{}", mailbox[1]);
    let book = &storm.json("alerts.json")["alerts"];
    let alerts: Vec<_> = book.as_array().into_iter().flatten().collect();
    assert_eq!(alerts.len(), 1, "{book:#}");
    assert_eq!((&alerts[0]["cause"], &alerts[0]["times"]), (&"provider.unwell".into(), &1.into()));
    storm.has_stored_all();
    storm.keeps_its_secrets();
}

/// A server, and a worker and a monitor who speak to it and to a mail server.
struct Storm<'a> {
    demo: DemoServer,
    exim: &'a Exim,
    workplace: Workplace,
    /// The folder of the token that opens the mailbox.
    token: TempDir,
}

impl<'a> Storm<'a> {
    fn prepare(exim: &'a Exim) -> Self {
        let token = TempDir::new().expect("a temporary folder");
        let token_file = Some(token.path().join("token"));
        let demo = demo::start(DemoOptions { items: ITEMS, token_file, ..DemoOptions::default() });
        let demo = demo.expect("the service starts");
        let config = demo::demo_config(&demo, Path::new("downloads"));
        let twin = config.replace("[source.demo]", "[source.twin]");
        let (twin, _rest) = twin.split_once("[archive]").expect("the source stands first");
        let workplace = Workplace::under(Path::new(IN_MEMORY), &config);
        workplace.put_secret("mail-password", PASSWORD);
        let mail = alert_mail(exim.starttls_port, "starttls", "../mail-password");
        let folder = workplace.path().join("config.d");
        fs::create_dir(&folder).expect("the folder is ours");
        let overrides = format!("{twin}{IMPATIENT}{mail}");
        fs::write(folder.join("storm.toml"), overrides).expect("the folder is ours");
        Self { demo, exim, workplace, token }
    }

    fn start(&self, name: &str) -> Running {
        let log = fs::File::create(self.log(name)).expect("the folder is ours").into_file();
        let mut command = self.workplace.command(&[name]);
        command
            .env("SSL_CERT_FILE", self.exim.certificate())
            .env("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nowhere/bus");
        Running::start(command.stdout(Stdio::null()).stderr(log))
    }

    fn log(&self, name: &str) -> PathBuf {
        self.workplace.path().join(format!("{name}.log"))
    }

    /// What both said.
    fn said(&self) -> String {
        let read = |name| fs::read_to_string(self.log(name)).unwrap_or_default();
        ["run", "monitor"].map(read).concat()
    }

    /// Sessions that came to their end.
    fn completed(&self) -> usize {
        self.said().matches(COMPLETED).count()
    }

    /// When the monitor last looked.
    fn looked_at(&self) -> Option<String> {
        self.json("health.json")["report"]["looked_at"].as_str().map(str::to_owned)
    }

    fn json(&self, name: &str) -> Value {
        let text = fs::read_to_string(self.workplace.path().join("state").join(name));
        text.ok().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
    }

    /// Each session adds up, and each source holds every message of the mailbox.
    fn has_stored_all(&self) {
        for line in self.said().lines().filter(|line| line.contains(COMPLETED)) {
            let figure = |name: &str| line.split(name).nth(1)?.split_whitespace().next();
            let [listed, stored] = ["listed=", "stored="].map(figure);
            assert_eq!(listed, stored, "{line}");
            assert!(line.contains(" gone=0 quarantined=0"), "{line}");
        }
        let DemoOptions { username, password, .. } = DemoOptions::default();
        let url = format!("http://{}/.well-known/jmap", self.demo.address());
        let emails = Account::open(&url, &username, &password).emails();
        assert_eq!(self.workplace.files().len(), SOURCES * emails.len());
        self.workplace.succeed(&["verify"]);
    }

    /// Neither the token nor the password is in what was said, or in what is kept.
    fn keeps_its_secrets(&self) {
        let token = fs::read_to_string(self.token.path().join("token")).expect("it was put there");
        let kept = ["alerts.json", "health.json"].map(|name| self.json(name).to_string()).concat();
        let all = self.said() + &kept;
        assert!(![PASSWORD, token.trim_end()].iter().any(|secret| all.contains(secret)));
    }

    /// Has the server do something.
    fn tell(&self, command: &str) {
        let url = format!("http://{}/demo/{command}", self.demo.address());
        Http::new().send(|client| client.post(url));
    }
}
