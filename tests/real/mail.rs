//! Alerts in a real mailbox: one for a storm of failures and one for its end, and never without TLS.

use std::process::{Output, Stdio};
use std::time::Duration;

use cynosure::disk::RealDisk;
use cynosure::engine::breaker::{Breaker, BreakerPolicy, Subject};
use cynosure::engine::{Cause, Failure, Moment, Status};
use cynosure::state::{BreakersFile, ExecutionState, save};
use fs_err as fs;

use crate::binary::{Running, Workplace};
use crate::exim::{Exim, PASSWORD, USER};
use crate::patience::wait_until;

const PROVIDER: &str = "api.example.com";

/// A source that is watched, and whoever is told of it.
fn config(port: u16, protection: &str) -> String {
    format!(
        "[restart]\nhealth_check_interval = \"50ms\"\n\
         [monitor]\ninterval = \"50ms\"\n\
         [health]\ncpu = 1.0\nmemory = 1.0\ndisk_warning = 1.0\ndisk_critical = 1.0\ndisk_free = 0\n\
         [source.work]\nkind = \"jmap\"\nurl = \"https://{PROVIDER}/\"\naccount = \"me\"\n\
         auth = {{ type = \"bearer\", token = {{ file = \"token\" }} }}\n\
         [alert.mail]\nserver = \"127.0.0.1\"\nport = {port}\nprotection = \"{protection}\"\n\
         from = \"cynosure@example.com\"\nto = [\"me@example.com\"]\nusername = \"{USER}\"\n\
         password = {{ file = \"mail-password\" }}\n"
    )
}

fn workplace(port: u16, protection: &str) -> Workplace {
    let workplace = Workplace::new(&config(port, protection));
    workplace.put_secret("token", "secret");
    workplace.put_secret("mail-password", PASSWORD);
    workplace
}

fn alert_test(workplace: &Workplace, exim: &Exim) -> (Option<i32>, String) {
    let mut command = workplace.command(&["alert", "test"]);
    let Output { status, stdout, stderr } =
        command.env("SSL_CERT_FILE", exim.certificate()).output().expect("the program starts");
    let said = String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned();
    assert!(!said.contains(PASSWORD), "the password is in what it says");
    (status.code(), said)
}

#[test]
fn a_test_arrives_by_tls_and_by_starttls() {
    let Some(exim) = Exim::start() else { return };

    for (port, protection) in [(exim.tls_port, "tls"), (exim.starttls_port, "starttls")] {
        let (code, said) = alert_test(&workplace(port, protection), &exim);
        assert_eq!(code, Some(0), "{said}{}", exim.log());
    }

    wait_until("both are delivered", || exim.mailbox().len() == 2);
    for mail in exim.mailbox() {
        assert!(mail.contains("Subject: cynosure on "), "{mail}");
        assert!(mail.contains("Auto-Submitted: auto-generated"), "{mail}");
        assert!(mail.contains("with esmtpsa"), "TLS and a login: {mail}");
    }
}

#[test]
fn a_server_that_proves_nothing_or_wants_another_password_gets_nothing() {
    let Some(exim) = Exim::start() else { return };
    let workplace = workplace(exim.tls_port, "tls");

    let mut command = workplace.command(&["alert", "test"]);
    let untrusted = command.output().expect("the program starts");
    workplace.put_secret("mail-password", "another");
    let (code, refused) = alert_test(&workplace, &exim);

    let untrusted = String::from_utf8_lossy(&untrusted.stdout).into_owned();
    assert!(untrusted.contains("mail     failed"), "{untrusted}");
    assert!(untrusted.contains("certificate"), "{untrusted}");
    assert_eq!(code, Some(1), "{refused}");
    assert!(refused.contains("the server refused it with 535"), "{refused}");
    assert!(exim.mailbox().is_empty());
    assert!(!exim.log().contains("<="), "{}", exim.log());
}

#[test]
fn a_storm_of_a_thousand_failures_is_one_mail_and_its_end_another() {
    let Some(exim) = Exim::start() else { return };
    let workplace = workplace(exim.starttls_port, "starttls");
    let mut source = Source::new(&workplace);
    source.is_well();
    let log = workplace.path().join("log");
    let mut command = workplace.command(&["monitor"]);
    command.env("SSL_CERT_FILE", exim.certificate());
    let log_file = fs::File::create(&log).expect("the folder is ours").into_file();
    let monitor = Running::start(command.stdout(Stdio::null()).stderr(log_file));
    let said = || fs::read_to_string(&log).expect("the log is UTF-8");
    wait_until("it has looked", || workplace.path().join("state/health.json").exists());

    for failure in 1..=500 {
        source.fails(failure);
    }
    wait_until("the alert is there", || exim.mailbox().len() == 1);
    for failure in 501..=1_000 {
        source.fails(failure);
    }
    source.is_well();
    wait_until("its end is there", || exim.mailbox().len() >= 2);
    drop(monitor);

    let mailbox = exim.mailbox();
    assert_eq!(mailbox.len(), 2, "{mailbox:#?}{}", said());
    let [raised, ended] = [&mailbox[0], &mailbox[1]].map(|mail| mail.replace("=\n", ""));
    assert!(raised.contains("CRITICAL: api.example.com: left alone by its breaker"), "{raised}");
    assert!(raised.contains("What to do: see `cynosure breaker list`"), "{raised}");
    assert!(ended.contains("OVER: api.example.com: left alone by its breaker"), "{ended}");
    assert!(!said().contains(PASSWORD), "the password is in the log");
}

/// What a worker writes of its source, and the breaker of its provider.
struct Source<'a> {
    workplace: &'a Workplace,
    breaker: Breaker,
    now: Moment,
}

impl<'a> Source<'a> {
    fn new(workplace: &'a Workplace) -> Self {
        let now = now();
        Self { workplace, breaker: Breaker::new(PROVIDER, BreakerPolicy::DEFAULT, now), now }
    }

    /// One more failure of many: the breaker opens, is tried again, and opens anew.
    fn fails(&mut self, number: u32) {
        self.now = self.now.after(Duration::from_secs(1));
        let (permit, _change) = self.breaker.unasked(self.now);
        let failure = Failure::new(Cause::Server, "503 from api.example.com");
        let item = Subject::Item(number.to_string());
        let _change = self.breaker.failed(permit, &item, &failure, self.now);
        let errors = number.min(3);
        self.write(Status::Error, errors);
    }

    fn is_well(&mut self) {
        self.breaker = Breaker::new(PROVIDER, BreakerPolicy::DEFAULT, self.now);
        self.write(Status::Downloading, 0);
    }

    fn write(&self, status: Status, errors: u32) {
        let state_dir = self.workplace.path().join("state");
        let memory = self.breaker.memory();
        let insert = |all: &mut cynosure::state::Memories| all.insert(PROVIDER.to_owned(), memory);
        BreakersFile::new(&state_dir).change(insert).expect("the folder is ours");
        let now = now();
        let state = serde_json::json!({
            "schema": 1, "source": "work", "account": "me", "provider": PROVIDER, "kind": "jmap",
            "status": status.name(), "state_since": now, "until": now.after(Duration::from_secs(600)),
            "reason": "503 from api.example.com", "resume_to": null, "restart_when_due": false,
            "session_id": "session_1772874303", "start_time": now, "completion_time": null,
            "last_look": null, "listing_everything": false, "total_threads": 10,
            "downloaded_threads": 1, "gone": 0, "quarantined": 0, "waiting_for_retry": 0,
            "expected_documents": null, "rate_per_second": null, "last_progress": now,
            "error_count": errors, "consecutive_errors": errors, "retry_count": 0,
            "restart_count": 0, "last_error": null, "rate_limited": false, "rate_limit_until": null,
            "rate_limits_in_a_row": 0, "last_updated": now, "pid": std::process::id(),
            "version": "0.0.0",
        });
        let state: ExecutionState = serde_json::from_value(state).expect("it is a state");
        let folder = state_dir.join("work");
        fs::create_dir_all(&folder).expect("the folder is ours");
        save(&RealDisk, &folder.join("execution_state.json"), &state).expect("it is written");
    }
}

fn now() -> Moment {
    use cynosure::worker::{RealWorld, World as _};
    RealWorld.now()
}
