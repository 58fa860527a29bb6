//! Invalid input: one clear error message, the right exit code, and no lost data.

use cynosure_lab::demo::{DemoOptions, DemoServer};
use rusqlite::Connection;

use crate::commands::test_home::{ProgramOutput, TestHome, fixed_response_server, silent_server};

/// Returns the last line of standard error, which is the error message.
fn error_line(output: &ProgramOutput) -> String {
    output.stderr.lines().last().unwrap_or_default().to_owned()
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
        &["config", "check", "--probe", "wrok"],
    ] {
        let output = home.cynosure(args);

        assert_eq!(output.code, Some(78), "{args:?}");
        assert_eq!(
            output.stderr,
            "cynosure: there is no source \"wrok\" in the configuration; did you mean work?\n"
        );
    }
    assert!(!home.path("state").exists());
}

#[test]
fn a_path_traversal_is_no_source_name() {
    let home = TestHome::with_source_work();
    home.write("elsewhere/ledger.sqlite", "x");

    let output = home.cynosure(&["reset", "../elsewhere", "--yes"]);

    assert_eq!(output.code, Some(78));
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
        let output = home.cynosure(args);

        assert_eq!(output.code, Some(78), "{args:?}");
        insta::allow_duplicates! { insta::assert_snapshot!(output.stderr, @r"
        cynosure: no configuration found: neither ./config.toml nor /etc/cynosure/config.toml exists; run `cynosure init`, set it with --config FILE, or run `cynosure demo`, which needs none
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
        let output = home.cynosure(&[&["--state-dir", dir], args].concat());

        assert_eq!(output.code, Some(74), "{dir} {args:?} {output:?}");
        assert!(error_line(&output).contains(" file"), "{}", output.stderr);
    }
}

#[test]
fn an_archive_that_cannot_be_made_is_named_and_loses_nothing() {
    let home = TestHome::with_demo_server(30);
    home.write("file", "");
    for dir in ["file", "file/below"] {
        home.configure("dir = \"downloads\"", &format!("dir = \"{dir}\""));

        let output = home.cynosure(&["run", "--once"]);

        assert_eq!(output.code, Some(74), "{output:?}");
        assert!(error_line(&output).contains("HOME/file"), "{}", output.stderr);
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
    let (file, mut quarantined_count) = ("state/demo/execution_state.json", 0);
    let whole = home.read(file);
    for broken in [&whole[..whole.len() / 2], "", "{\"schema\": 99}"] {
        home.write(file, broken);
        quarantined_count += 1;

        let output = home.cynosure(&["run", "--once"]);

        assert_eq!(output.code, Some(0), "{output:?}");
        let quarantined = format!("{file}.unreadable-{quarantined_count}");
        assert_eq!(home.read(&quarantined), broken);
        assert!(output.stderr.contains(" WARN "), "{}", output.stderr);
        assert!(output.stderr.contains(&format!("kept as {quarantined}")), "{}", output.stderr);
        assert!(
            output.stdout.contains("listed 30 = stored 30 + gone 0 + quarantined 0"),
            "{}",
            output.stdout
        );
    }
    fs_err::remove_file(home.path(file)).unwrap();

    let output = home.cynosure(&["run", "--once"]);

    assert_eq!(output.code, Some(0), "{output:?}");
    assert!(output.stderr.contains("is missing; rebuilt from the ledger"), "{}", output.stderr);
    assert_eq!(home.sessions().len(), 1, "nothing was fetched again");
}

#[test]
fn a_ledger_of_a_newer_version_is_left_alone() {
    let home = TestHome::after_demo();
    let ledger = Connection::open(home.path("state/demo/ledger.sqlite")).unwrap();
    ledger.pragma_update(None, "user_version", 99).unwrap();
    drop(ledger);
    for args in [&["run", "--once"][..], &["history"], &["failures"], &["requeue"], &["verify"]] {
        let output = home.cynosure(args);

        assert_eq!(output.code, Some(78), "{args:?} {output:?}");
        assert!(
            error_line(&output).contains("was written by a newer cynosure"),
            "{}",
            output.stderr
        );
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
            let output = home.cynosure(args);

            assert_eq!(output.code, Some(74), "{args:?} {output:?}");
            assert!(error_line(&output).contains("it is damaged"), "{}", output.stderr);
        }
        assert_eq!(home.read("state/demo/ledger.sqlite"), junk);
    }
}

/// Demo server, and a home whose configuration reads the password from `DEMO_PASSWORD`.
fn home_with_password_variable() -> (DemoServer, TestHome) {
    let demo =
        cynosure_lab::demo::start(DemoOptions { items: 5, ..DemoOptions::default() }).unwrap();
    let home = TestHome::empty();
    let text = cynosure_lab::demo::demo_config(&demo, std::path::Path::new("downloads"));
    home.write("config.toml", &text);
    (demo, home)
}

#[test]
fn a_wrong_password_is_one_sentence_and_never_quoted() {
    let (_demo, home) = home_with_password_variable();

    let output =
        home.run_to_end(home.command(&["run", "--once", "-q"]).env("DEMO_PASSWORD", "hunter2"));

    assert_eq!(output.code, Some(77), "{output:?}");
    assert!(error_line(&output).contains("401"), "{}", output.stderr);
    assert!(!format!("{output:?}").contains("hunter2"));
}

#[test]
fn a_wrong_path_is_a_wrong_configuration() {
    let home = TestHome::with_demo_server(5);
    home.configure("/.well-known/jmap", "/nothing/here");

    let output = home.cynosure(&["run", "--once"]);

    assert_eq!(output.code, Some(78), "{output:?}");
    assert!(error_line(&output).contains("404"), "{}", output.stderr);
    assert!(error_line(&output).contains("url"), "{}", output.stderr);
}

#[test]
fn a_server_that_does_not_speak_jmap_is_a_wrong_configuration() {
    let page = b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 22\r\n\
        connection: close\r\n\r\n<html>Welcome!</html>\n";
    let home = TestHome::with_source_at(&format!("http://{}/", fixed_response_server(page)));

    let output = home.cynosure(&["run", "--once"]);

    assert_eq!(output.code, Some(78), "{output:?}");
    assert!(error_line(&output).contains("url"), "{}", output.stderr);
}

#[test]
fn an_unreachable_server_exits_with_1() {
    let output = TestHome::with_source_work().cynosure(&["run", "--once"]);

    assert_eq!(output.code, Some(1), "{output:?}");
    assert!(error_line(&output).contains("127.0.0.1"), "{}", output.stderr);
}
