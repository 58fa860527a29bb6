//! `config check --probe`: logs in, lists the folders, fetches one message, and stores nothing.

use std::path::Path;

use cynosure_lab::demo::{DemoKind, DemoOptions, demo_config, start};

use crate::commands::test_home::{ProgramOutput, TestHome};
use crate::fake_mailbox::FakeMailbox;
use crate::hostile_server::{ConnectionAction, HostileServer, plain_response};

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
        assert!(lines[11].starts_with("would be stored as "), "{cells}");
        assert!(lines[11].ends_with(".eml in the session folder"), "{cells}");
        assert_eq!(lines.len(), 12, "{cells}");
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
    assert!(both.stdout.ends_with(".eml in the session folder\n"), "{}", both.stdout);
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

/// Starts an API with two rows, and the document of the first one.
async fn start_api() -> HostileServer {
    HostileServer::start(|_, request| {
        let (status, media_type, body) = match request.path() {
            "/email" => {
                ("200 OK", "application/json", r#"[{"id": 7, "from": "\u001bme"}, {"id": 8}]"#)
            }
            "/email/7/download" => {
                ("200 OK", "message/rfc822", "Subject: \u{9b}hi\r\n\r\nHello\r\n")
            }
            _ => ("404 Not Found", "text/plain", "no such page"),
        };
        let headers = format!("Content-Type: {media_type}\r\n");
        vec![ConnectionAction::Send(plain_response(status, &headers, body))]
    })
    .await
}

/// Probes a source with tables of its own at a server, while that keeps serving.
async fn probe_api(server: &HostileServer, tables: &str) -> (TestHome, ProgramOutput) {
    let home = TestHome::with_source(&format!(
        "[source.work]\nkind = \"rest\"\naccount = \"me@example.com\"\nbase_url = \"{}\"\n{tables}",
        server.url
    ));
    let probe = move || {
        let output = home.cynosure(&PROBE);
        (home, output)
    };
    tokio::task::spawn_blocking(probe).await.unwrap()
}

const FETCH_TABLE: &str = "fetch = { get = \"/email/{item.id}/download\" }\n";

#[tokio::test]
async fn a_profile_is_shown_with_what_would_be_stored() {
    let list =
        "list = { get = \"/email\", items = \"\", id = \"/id\", labels = { from = \"/from\" } }\n";
    let quota = "quota = { per_minute = 600, weights = { fetch = 5 } }\n";
    let server = start_api().await;

    let (home, output) = probe_api(&server, &format!("{list}{FETCH_TABLE}{quota}")).await;

    assert_eq!((output.code, output.stderr.as_str()), (Some(0), ""), "{output:?}");
    let time = output.stdout.split("bytes in ").nth(1).unwrap().split(',').next().unwrap();
    let text = output.stdout.replace(server.url.as_str(), "URL").replace(time, "TIME");
    insta::assert_snapshot!(text, @r#"
    config.toml is valid: 1 source

    work: rest at 127.0.0.1
    profile   tables of the source
    base_url  URL
    list      GET /email, rows at "", item at "/id", labels from, one page
    fetch     GET /email/{item.id}/download, the bytes, stored as .eml
    changes   by listing everything again
    quota     at most 10/s; at most 8 requests at once
              units of a request: fetch 5, any other 1
    errors    0 rules, then the built-in rules
    account me@example.com, as configured
    FOLDER          MESSAGES  EXTRACTED
    me@example.com  –         yes
    to extract: an unknown number of messages in 1 of 1 folder
    fetched one message: 24 bytes in TIME, not stored
    would be stored as 7/7.eml in the session folder
    listed      2 documents
    labels      from: \u{1b}me
    first line  Subject: \u{9b}hi
    "#);
    assert_nothing_stored(&home);
}

#[tokio::test]
async fn a_table_that_the_server_does_not_agree_with_is_quoted() {
    let server = start_api().await;
    for (list, problem) in [
        (
            "list = { get = \"/email\", items = \"/messages\", id = \"/id\" }\n",
            "`[list] items` = \"/messages\" selects nothing in the response, ",
        ),
        (
            "list = { get = \"/email\", items = \"\", id = \"/uid\" }\n",
            "`[list] id` = \"/uid\" selects nothing in row 1, which has the keys ",
        ),
    ] {
        let (home, output) = probe_api(&server, &format!("{list}{FETCH_TABLE}")).await;

        assert_eq!(output.code, Some(78), "{output:?}");
        assert!(output.stderr.starts_with("cynosure: work: "), "{output:?}");
        assert!(output.stderr.contains(problem), "{output:?}");
        let remedy = "; correct the table of the profile, or replace it in the source\n";
        assert!(output.stderr.ends_with(remedy), "{output:?}");
        assert_nothing_stored(&home);
    }
}
