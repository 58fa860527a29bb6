//! `config check --probe`: logs in, lists the folders, fetches one message, and stores nothing.

use std::path::Path;

use cynosure_lab::demo::{DemoKind, DemoOptions, demo_config, start};

use crate::commands::test_home::TestHome;
use crate::fake_mailbox::FakeMailbox;
use crate::hostile_server::{ConnectionAction, plain_response};

const PROBE: [&str; 3] = ["config", "check", "--probe"];

/// Asserts that the folder has no archive, and no state but that of the rate limiters.
fn assert_nothing_stored(home: &TestHome) {
    assert!(!home.path("downloads").exists());
    for entry in fs_err::read_dir(home.path("state")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(name.starts_with("quota."), "{name}");
    }
}

#[test]
fn a_probe_counts_folders_and_stores_nothing() {
    for (kind, filter, heading, account) in [
        (DemoKind::Jmap, "mailboxes", "demo: jmap at 127.0.0.1", "u-Demo_1"),
        (DemoKind::Imap, "folders", "demo: imap at 127.0.0.1", "demo@example.com at 127.0.0.1"),
    ] {
        let home = TestHome::with_demo_server_of(kind, 40);
        let interval = "poll_interval = \"2s\"";
        home.configure(interval, &format!("{interval}\n{filter} = [\"inbox\"]"));

        let output = home.cynosure(&PROBE);

        assert_eq!((output.code, output.stderr.as_str()), (Some(0), ""), "{output:?}");
        let cells = output.cells();
        let lines: Vec<&str> = cells.lines().collect();
        let login = format!("login ok, account {account}");
        let table_header = "FOLDER | MESSAGES | EXTRACTED";
        let start = ["config.toml is valid: 1 source", "", heading, &login, table_header];
        assert_eq!(lines[..5], start, "{cells}");
        let is_inbox = |line: &&str| line.to_ascii_lowercase().starts_with("inbox | ");
        let (inbox, others): (Vec<&str>, Vec<&str>) =
            lines[5..9].iter().copied().partition(is_inbox);
        assert!(inbox[0].ends_with(" | yes"), "{cells}");
        assert!(others.len() == 3 && others.iter().all(|line| line.ends_with(" | no")), "{cells}");
        let messages = inbox[0].split(" | ").nth(1).unwrap();
        assert_eq!(lines[9], format!("to extract: {messages} messages in 1 of 4 folders"));
        assert!(lines[10].starts_with("fetched one message: "), "{cells}");
        assert!(lines[10].ends_with(" s, not stored"), "{cells}");
        assert_eq!(lines.len(), 11, "{cells}");
        assert_nothing_stored(&home);

        assert_eq!(home.cynosure(&["run", "--once"]).code, Some(0));
        assert_eq!(home.cynosure(&PROBE).code, Some(0), "the ledger belongs to the account");
    }
}

#[test]
fn an_empty_mailbox_is_no_failure() {
    for kind in [DemoKind::Jmap, DemoKind::Imap] {
        let home = TestHome::with_demo_server_of(kind, 0);

        let output = home.cynosure(&PROBE);

        assert_eq!(output.code, Some(0), "{output:?}");
        let end = "to extract: 0 messages in 4 of 4 folders\n\
                   fetched no message: the mailbox has none to extract\n";
        assert!(output.stdout.ends_with(end), "{}", output.stdout);
    }
}

#[test]
fn a_wrong_password_is_one_sentence_and_never_shown() {
    for kind in [DemoKind::Jmap, DemoKind::Imap] {
        let demo = start(DemoOptions { kind, items: 5, ..DemoOptions::default() }).unwrap();
        let home = TestHome::empty();
        home.write("config.toml", &demo_config(&demo, Path::new("downloads")));

        let output = home.run_to_end(home.command(&PROBE).env("DEMO_PASSWORD", "hunter2"));

        assert_eq!(output.code, Some(77), "{output:?}");
        assert!(!output.stdout.contains("login ok"), "{}", output.stdout);
        assert_eq!(output.stderr.lines().count(), 1, "{}", output.stderr);
        assert!(output.stderr.starts_with("cynosure: demo: "), "{}", output.stderr);
        let end = "; replace the credential and run again\n";
        assert!(output.stderr.ends_with(end), "{}", output.stderr);
        assert!(!format!("{output:?}").contains("hunter2"));
        assert_nothing_stored(&home);
    }
}

#[test]
fn a_missing_credential_is_a_wrong_configuration() {
    let home = TestHome::with_source_work();
    fs_err::remove_file(home.path("token")).unwrap();

    let output = home.cynosure(&PROBE);

    assert_eq!(output.code, Some(78), "{output:?}");
    let start = "cynosure: work: credential file HOME/token: cannot be read ";
    assert!(output.stderr.starts_with(start), "{}", output.stderr);
}

#[test]
fn a_folder_that_does_not_exist_is_a_wrong_configuration() {
    for (kind, filter) in [(DemoKind::Jmap, "mailboxes"), (DemoKind::Imap, "folders")] {
        let home = TestHome::with_demo_server_of(kind, 5);
        let interval = "poll_interval = \"2s\"";
        home.configure(interval, &format!("{interval}\n{filter} = [\"Archiv\"]"));

        let output = home.cynosure(&PROBE);

        assert_eq!(output.code, Some(78), "{output:?}");
        assert!(output.stdout.contains("\nlogin ok, account "), "{}", output.stdout);
        assert!(output.stderr.contains("\"Archiv\""), "{}", output.stderr);
    }
}

#[test]
fn a_source_that_fails_spares_the_others() {
    let home = TestHome::with_demo_server(5);
    let down = "[source.a-down]\nkind = \"jmap\"\nurl = \"http://127.0.0.1:9/\"\n\
        account = \"me@example.com\"\n\
        auth = { type = \"bearer\", token = { file = \"token\" } }\n\n[source.demo]";
    home.configure("[source.demo]", down);

    let both = home.cynosure(&PROBE);
    let one = home.cynosure(&[&PROBE[..], &["demo"]].concat());

    assert_eq!(both.code, Some(1), "{both:?}");
    assert!(both.stderr.contains("cynosure: a-down: "), "{}", both.stderr);
    assert!(both.stdout.contains("\na-down: jmap at 127.0.0.1\n"), "{}", both.stdout);
    assert!(both.stdout.ends_with(" s, not stored\n"), "{}", both.stdout);
    assert_eq!(one.code, Some(0), "{one:?}");
    assert!(!one.stdout.contains("a-down"), "{}", one.stdout);
}

#[test]
fn sources_are_only_named_for_a_probe() {
    let output = TestHome::with_source_work().cynosure(&["config", "check", "work"]);

    assert_eq!(output.code, Some(2), "{output:?}");
    assert!(output.stderr.contains("--probe"), "{}", output.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_is_reported_and_the_next_probe_sends_nothing() {
    let served = FakeMailbox::with_emails(3)
        .serve_with(|_| {
            let throttle = plain_response("429 Too Many Requests", "Retry-After: 3600\r\n", "");
            Some(vec![ConnectionAction::Send(throttle)])
        })
        .await;
    let home = TestHome::with_source_at(served.server.url.as_str());

    for _ in 0..2 {
        let output = home.cynosure(&PROBE);

        assert_eq!(output.code, Some(1), "{output:?}");
        let block = "the rate limiter is blocked until ";
        assert!(output.stderr.contains(block), "{}", output.stderr);
        assert_eq!(served.server.requests().len(), 1);
    }
}
