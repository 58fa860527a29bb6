//! Invalid input: one clear error message, the right exit code, and no lost data.

use cynosure::demo::{DemoOptions, DemoServer};
use rusqlite::Connection;

use crate::commands::test_home::{ProgramOutput, TestHome, fixed_response_server, silent_server};

/// Returns the last line of standard error, which is the error message.
fn error_line(ran: &ProgramOutput) -> String {
    ran.stderr.lines().last().unwrap_or_default().to_owned()
}

#[test]
fn an_unknown_source_lists_the_known_ones() {
    let home = TestHome::with_source_work();
    for args in [
        &["run", "wrok"][..],
        &["history", "wrok"],
        &["failures", "wrok"],
        &["verify", "wrok"],
        &["reset", "wrok"],
        &["requeue", "--source", "wrok"],
    ] {
        let ran = home.cynosure(args);

        assert_eq!(ran.code, Some(78), "{args:?}");
        assert_eq!(
            ran.stderr,
            "cynosure: there is no source \"wrok\" in the configuration; did you mean work?\n"
        );
    }
    assert!(!home.path("state").exists());
}

#[test]
fn a_path_traversal_is_no_source_name() {
    let home = TestHome::with_source_work();
    home.write("elsewhere/ledger.sqlite", "x");

    let ran = home.cynosure(&["reset", "../elsewhere", "--yes"]);

    assert_eq!(ran.code, Some(78));
    assert!(home.path("elsewhere/ledger.sqlite").exists());
}

#[test]
fn without_a_configuration_every_command_says_what_to_do() {
    let home = TestHome::empty();
    for args in [
        &["run"][..],
        &["status"],
        &["history"],
        &["failures"],
        &["requeue"],
        &["verify"],
        &["reset", "x"],
        &["breaker", "list"],
    ] {
        let ran = home.cynosure(args);

        assert_eq!(ran.code, Some(78), "{args:?}");
        insta::allow_duplicates! { insta::assert_snapshot!(ran.stderr, @r"
        cynosure: no configuration found: neither ./config.toml nor /etc/cynosure/config.toml exists; set it with --config FILE, or run `cynosure demo`, which needs none
        "); }
    }
    let named = home.cynosure(&["--config", "nowhere.toml", "run"]);
    assert_eq!(named.code, Some(78));
    assert!(named.stderr.contains("nowhere.toml"), "{}", named.stderr);
}

#[test]
fn a_state_folder_that_cannot_be_made_or_read_is_named() {
    let home = TestHome::with_source_work();
    home.write("file", "");
    for (dir, args) in [
        ("file", &["run", "--once"][..]),
        ("file/below", &["run", "--once"]),
        ("file", &["status"]),
        ("file", &["verify"]),
    ] {
        let ran = home.cynosure(&[&["--state-dir", dir], args].concat());

        assert_eq!(ran.code, Some(74), "{dir} {args:?} {ran:?}");
        assert!(error_line(&ran).contains(" file"), "{}", ran.stderr);
    }
}

#[test]
fn an_archive_that_cannot_be_made_is_named_and_loses_nothing() {
    let home = TestHome::with_demo_server(30);
    home.write("file", "");
    for dir in ["file", "file/below"] {
        home.configure("dir = \"downloads\"", &format!("dir = \"{dir}\""));

        let ran = home.cynosure(&["run", "--once"]);

        assert_eq!(ran.code, Some(74), "{ran:?}");
        assert!(error_line(&ran).contains("HOME/file"), "{}", ran.stderr);
        home.configure(&format!("dir = \"{dir}\""), "dir = \"downloads\"");
    }
    assert_eq!(home.cynosure(&["run", "--once"]).code, Some(0));
}

#[test]
fn a_second_worker_is_rejected_with_the_pid_of_the_first() {
    let listener = silent_server();
    let home = TestHome::with_source_at(&format!("http://{}/", listener.local_addr().unwrap()));
    let first = home.start(&["run"]);
    drop(listener.accept().unwrap());

    let second = home.cynosure(&["run", "--once"]);

    assert_eq!(second.code, Some(1), "{second:?}");
    let pid = first.0.id();
    assert!(error_line(&second).contains(&format!("process {pid}")), "{}", second.stderr);
    let status = home.cynosure(&["status", "--json"]).stdout;
    assert!(status.contains("\"running\": true"), "{status}");
}

#[test]
fn an_unusable_state_file_is_quarantined_and_rebuilt() {
    let home = TestHome::with_demo_server(30);
    assert_eq!(home.cynosure(&["run", "--once"]).code, Some(0));
    let (file, mut kept) = ("state/demo/execution_state.json", 0);
    let whole = home.read(file);
    for broken in [&whole[..whole.len() / 2], "", "{\"schema\": 99}"] {
        home.write(file, broken);
        kept += 1;

        let ran = home.cynosure(&["run", "--once"]);

        assert_eq!(ran.code, Some(0), "{ran:?}");
        let quarantined = format!("{file}.unreadable-{kept}");
        assert_eq!(home.read(&quarantined), broken);
        assert!(ran.stderr.contains(" WARN "), "{}", ran.stderr);
        assert!(ran.stderr.contains(&format!("kept as {quarantined}")), "{}", ran.stderr);
        assert!(
            ran.stdout.contains("listed 30 = stored 30 + gone 0 + quarantined 0"),
            "{}",
            ran.stdout
        );
    }
    fs_err::remove_file(home.path(file)).unwrap();

    let ran = home.cynosure(&["run", "--once"]);

    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stderr.contains("is missing; rebuilt from the ledger"), "{}", ran.stderr);
    assert_eq!(home.sessions().len(), 1, "nothing was fetched again");
}

#[test]
fn a_ledger_of_a_newer_version_is_left_alone() {
    let home = TestHome::after_demo();
    let ledger = Connection::open(home.path("state/demo/ledger.sqlite")).unwrap();
    ledger.pragma_update(None, "user_version", 99).unwrap();
    drop(ledger);
    for args in [&["run", "--once"][..], &["history"], &["failures"], &["requeue"], &["verify"]] {
        let ran = home.cynosure(args);

        assert_eq!(ran.code, Some(78), "{args:?} {ran:?}");
        assert!(error_line(&ran).contains("was written by a newer cynosure"), "{}", ran.stderr);
    }
    assert_eq!(home.cynosure(&["status"]).code, Some(0));
}

#[test]
fn a_damaged_ledger_is_never_taken_for_an_empty_one() {
    let home = TestHome::after_demo();
    for junk in ["", "junk"] {
        home.write("state/demo/ledger.sqlite", junk);
        for args in [&["run", "--once"][..], &["history"], &["failures"], &["requeue"], &["verify"]]
        {
            let ran = home.cynosure(args);

            assert_eq!(ran.code, Some(74), "{args:?} {ran:?}");
            assert!(error_line(&ran).contains("it is damaged"), "{}", ran.stderr);
        }
        assert_eq!(home.read("state/demo/ledger.sqlite"), junk);
    }
}

/// Demo server, and a home whose configuration reads the password from `DEMO_PASSWORD`.
fn home_with_wrong_password() -> (DemoServer, TestHome) {
    let demo = cynosure::demo::start(DemoOptions { items: 5, ..DemoOptions::default() }).unwrap();
    let home = TestHome::empty();
    let text = cynosure::demo::demo_config(&demo, std::path::Path::new("downloads"));
    home.write("config.toml", &text);
    (demo, home)
}

#[test]
fn a_wrong_password_is_one_sentence_and_never_quoted() {
    let (_demo, home) = home_with_wrong_password();

    let ran = home.finish(home.command(&["run", "--once", "-q"]).env("DEMO_PASSWORD", "hunter2"));

    assert_eq!(ran.code, Some(77), "{ran:?}");
    assert!(error_line(&ran).contains("401"), "{}", ran.stderr);
    assert!(!format!("{ran:?}").contains("hunter2"));
}

#[test]
fn a_wrong_path_is_a_wrong_configuration() {
    let home = TestHome::with_demo_server(5);
    home.configure("/.well-known/jmap", "/nothing/here");

    let ran = home.cynosure(&["run", "--once"]);

    assert_eq!(ran.code, Some(78), "{ran:?}");
    assert!(error_line(&ran).contains("404"), "{}", ran.stderr);
    assert!(error_line(&ran).contains("url"), "{}", ran.stderr);
}

#[test]
fn a_server_that_does_not_speak_jmap_is_a_wrong_configuration() {
    let page = b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 22\r\n\
        connection: close\r\n\r\n<html>Welcome!</html>\n";
    let home = TestHome::with_source_at(&format!("http://{}/", fixed_response_server(page)));

    let ran = home.cynosure(&["run", "--once"]);

    assert_eq!(ran.code, Some(78), "{ran:?}");
    assert!(error_line(&ran).contains("url"), "{}", ran.stderr);
}

#[test]
fn a_server_that_is_not_there_is_neither_configuration_nor_storage() {
    let ran = TestHome::with_source_work().cynosure(&["run", "--once"]);

    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(error_line(&ran).contains("127.0.0.1"), "{}", ran.stderr);
}
