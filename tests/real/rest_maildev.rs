//! Extraction from an independent server with an API of its own, described by a few lines of the
//! configuration: its messages, and the rows of its list.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;

use fs_err as fs;
use serde_json::Value;

use crate::corpus;
use crate::maildev::MaildevServer;
use crate::test_program::{Hash, RunningProgram, TestFolder, assert_same_mails};
use crate::wait::{wait_for_the_next_second, wait_until};

/// Messages before the first session, and those that arrive later.
const OLD_MAILS: usize = 560;
const NEW_MAILS: usize = 40;

/// File with the rows of a session.
const RECORDS: &str = "records.jsonl";

/// Documentation of the sources, which has the source of this server, and the URL in it.
const DOCUMENTATION: &str = include_str!("../../docs/sources.md");
const DOCUMENTED_URL: &str = "http://localhost:1080";

#[test]
fn the_lines_of_the_documentation_extract_the_mail() {
    let Some((server, mails)) = prepare() else { return };
    let (old, new) = mails.split_at(mails.len() - NEW_MAILS);
    server.deliver(old);
    let test_folder = TestFolder::new(&config(&server));

    assert_same_mails(test_folder.extract_all(), old);
    server.deliver(new);
    assert_same_mails(test_folder.extract_all(), new);
    assert_eq!(test_folder.extract_all().len(), 0, "a session without new mail stored some");
    test_folder.run_successfully(&["verify"]);
}

#[test]
fn a_running_worker_finds_new_mail_by_its_next_poll() {
    let Some((server, mails)) = prepare() else { return };
    let (old, new) = mails.split_at(20);
    let new = &new[..20];
    server.deliver(old);
    let test_folder = TestFolder::new(&(config(&server) + "poll_interval = \"1s\"\n"));
    let mut command = test_folder.command(&["run"]);
    let mut worker = RunningProgram::start(command.stdout(Stdio::null()).stderr(Stdio::null()));
    let mut wait_for_mails = |count| {
        wait_until("the mails are stored", || {
            assert_eq!(worker.try_wait(), None, "the worker ended");
            let files = test_folder.archive_files();
            let is_mail = |file: &PathBuf| file.extension().is_some_and(|name| name == "eml");
            // The list of a batch in progress is a file as well, until its rows are recorded.
            files.len() == count && files.iter().all(is_mail)
        });
    };

    wait_for_mails(old.len());
    server.deliver(new);
    wait_for_mails(old.len() + new.len());

    drop(worker);
    let stored: Vec<Hash> = test_folder.sessions().into_values().flatten().collect();
    assert_same_mails(stored, &[old, new].concat());
}

#[test]
fn a_probe_shows_the_first_message_and_stores_nothing() {
    let Some((server, mails)) = prepare() else { return };
    server.deliver(&mails[..3]);
    let test_folder = TestFolder::new(&config(&server));

    let output = test_folder.run_successfully(&["config", "check", "--probe"]);

    let output = String::from_utf8(output.stdout).expect("the output is UTF-8");
    let lines: Vec<String> = output.lines().map(with_single_spaces).collect();
    let rows = server.rows();
    let first = &rows[0];
    let subject = with_single_spaces(first["subject"].as_str().expect("the mail has a subject"));
    for expected in [
        "maildev: rest at 127.0.0.1",
        "changes by listing everything again",
        "account me@example.com, as configured",
        "to extract: an unknown number of messages in 1 of 1 folder",
        "listed 3 documents",
        &format!("labels subject: {subject}"),
    ] {
        assert!(lines.iter().any(|line| line == expected), "{expected} is not in: {output}");
    }
    let fetched = format!("fetched one message: {} bytes in ", first["size"]);
    assert!(output.replace(',', "").contains(&fetched), "{fetched} is not in: {output}");
    assert!(test_folder.archive_files().is_empty());
}

#[test]
fn without_fetch_the_rows_are_the_documents() {
    let Some((server, mails)) = prepare() else { return };
    let (old, new) = mails.split_at(mails.len() - NEW_MAILS);
    server.deliver(old);
    let config = config(&server);
    let lines = config.lines().filter(|line| !line.starts_with("fetch = "));
    let config = lines.collect::<Vec<_>>().join("\n") + "\nrecords = \"lines\"\n";
    let test_folder = TestFolder::new(&config);

    test_folder.run_successfully(&["run", "--once"]);
    assert_eq!(stored_rows(&test_folder), by_id(server.rows()));

    wait_for_the_next_second();
    server.deliver(new);
    test_folder.run_successfully(&["run", "--once"]);
    assert_eq!(stored_rows(&test_folder), by_id(server.rows()));
    let files = test_folder.archive_files();
    assert!(files.iter().all(|file| file.ends_with(RECORDS)), "{files:?}");
    assert_eq!(files.len(), 2, "a file for each session: {files:?}");
    test_folder.run_successfully(&["verify"]);
}

/// Starts a server without mail, and reads the mail to deliver.
fn prepare() -> Option<(MaildevServer, Vec<Vec<u8>>)> {
    let server = MaildevServer::start()?;
    let mut mails = corpus::real_mails(OLD_MAILS + NEW_MAILS)?;
    for mail in &mut mails {
        // SMTP transfers lines only.
        if !mail.ends_with(b"\r\n") {
            mail.extend_from_slice(b"\r\n");
        }
    }
    Some((server, mails))
}

/// Returns the lines of the documentation, with the URL of this server.
fn config(server: &MaildevServer) -> String {
    let start = DOCUMENTATION.find("[source.maildev]").expect("the documentation has the source");
    let (source, _) = DOCUMENTATION[start..].split_once("```").expect("it stands in a block");
    assert!(source.contains(DOCUMENTED_URL), "{source}");
    source.replace(DOCUMENTED_URL, &server.url())
}

fn with_single_spaces(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Returns the rows in all sessions, by their ids. Each is stored once.
fn stored_rows(test_folder: &TestFolder) -> BTreeMap<String, Value> {
    let files = test_folder.archive_files();
    let texts = files.iter().map(|file| fs::read_to_string(file).expect("rows are UTF-8"));
    let rows = texts.flat_map(|text| {
        let parse = |line: &str| serde_json::from_str(line).expect("each line is JSON");
        text.lines().map(parse).collect::<Vec<Value>>()
    });
    by_id(rows.collect())
}

fn by_id(rows: Vec<Value>) -> BTreeMap<String, Value> {
    let count = rows.len();
    let id = |row: &Value| row["id"].as_str().expect("a row has an id").to_owned();
    let rows: BTreeMap<_, _> = rows.into_iter().map(|row| (id(&row), row)).collect();
    assert_eq!(rows.len(), count, "a row is there twice");
    rows
}
