//! Bad input: one clear sentence, the right exit code, and nothing lost.

use cynosure::demo::{DemoOptions, DemoServer};
use rusqlite::Connection;

use crate::commands::home::{Home, Ran, answering, silent};

/// The last line of standard error, which is the sentence.
fn sentence(ran: &Ran) -> String {
    ran.err.lines().last().unwrap_or_default().to_owned()
}

#[test]
fn an_unknown_source_is_answered_with_the_known() {
    let home = Home::of_work();
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
            ran.err,
            "cynosure: there is no source \"wrok\" in the configuration; did you mean work?\n"
        );
    }
    assert!(!home.path("state").exists());
}

#[test]
fn a_name_that_leads_elsewhere_is_no_source() {
    let home = Home::of_work();
    home.write("elsewhere/ledger.sqlite", "x");

    let ran = home.cynosure(&["reset", "../elsewhere", "--yes"]);

    assert_eq!(ran.code, Some(78));
    assert!(home.path("elsewhere/ledger.sqlite").exists());
}

#[test]
fn without_a_configuration_every_command_says_what_to_do() {
    let home = Home::empty();
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
        insta::allow_duplicates! { insta::assert_snapshot!(ran.err, @r"
        cynosure: there is no configuration: neither ./config.toml nor /etc/cynosure/config.toml is there; name one with --config FILE, or run `cynosure demo` to see the job without one
        "); }
    }
    let named = home.cynosure(&["--config", "nowhere.toml", "run"]);
    assert_eq!(named.code, Some(78));
    assert!(named.err.contains("nowhere.toml"), "{}", named.err);
}

#[test]
fn a_state_folder_that_cannot_be_made_or_read_is_named() {
    let home = Home::of_work();
    home.write("file", "");
    for (dir, args) in [
        ("file", &["run", "--once"][..]),
        ("file/below", &["run", "--once"]),
        ("file", &["status"]),
        ("file", &["verify"]),
    ] {
        let ran = home.cynosure(&[&["--state-dir", dir], args].concat());

        assert_eq!(ran.code, Some(74), "{dir} {args:?} {ran:?}");
        assert!(sentence(&ran).contains(" file"), "{}", ran.err);
    }
}

#[test]
fn an_archive_that_cannot_be_made_is_named_and_loses_nothing() {
    let home = Home::served(30);
    home.write("file", "");
    for dir in ["file", "file/below"] {
        home.configure("dir = \"downloads\"", &format!("dir = \"{dir}\""));

        let ran = home.cynosure(&["run", "--once"]);

        assert_eq!(ran.code, Some(74), "{ran:?}");
        assert!(sentence(&ran).contains("HOME/file"), "{}", ran.err);
        home.configure(&format!("dir = \"{dir}\""), "dir = \"downloads\"");
    }
    assert_eq!(home.cynosure(&["run", "--once"]).code, Some(0));
}

#[test]
fn a_second_worker_is_refused_with_the_number_of_the_first() {
    let listener = silent();
    let home = Home::at(&format!("http://{}/", listener.local_addr().unwrap()));
    let first = home.start(&["run"]);
    drop(listener.accept().unwrap());

    let second = home.cynosure(&["run", "--once"]);

    assert_eq!(second.code, Some(1), "{second:?}");
    let pid = first.0.id();
    assert!(sentence(&second).contains(&format!("process {pid}")), "{}", second.err);
    let status = home.cynosure(&["status", "--json"]).out;
    assert!(status.contains("\"running\": true"), "{status}");
}

#[test]
fn a_state_that_is_broken_newer_or_gone_is_rebuilt_and_kept_aside() {
    let home = Home::served(30);
    assert_eq!(home.cynosure(&["run", "--once"]).code, Some(0));
    let (file, mut kept) = ("state/demo/execution_state.json", 0);
    let whole = home.read(file);
    for broken in [&whole[..whole.len() / 2], "", "{\"schema\": 99}"] {
        home.write(file, broken);
        kept += 1;

        let ran = home.cynosure(&["run", "--once"]);

        assert_eq!(ran.code, Some(0), "{ran:?}");
        let aside = format!("{file}.unreadable-{kept}");
        assert_eq!(home.read(&aside), broken);
        assert!(ran.err.contains(" WARN "), "{}", ran.err);
        assert!(ran.err.contains(&format!("kept as {aside}")), "{}", ran.err);
        assert!(ran.out.contains("listed 30 = stored 30 + gone 0 + quarantined 0"), "{}", ran.out);
    }
    fs_err::remove_file(home.path(file)).unwrap();

    let ran = home.cynosure(&["run", "--once"]);

    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.err.contains("is missing; rebuilt from the ledger"), "{}", ran.err);
    assert_eq!(home.sessions().len(), 1, "nothing was fetched again");
}

#[test]
fn a_ledger_of_a_newer_version_is_left_alone() {
    let home = Home::after_demo();
    let ledger = Connection::open(home.path("state/demo/ledger.sqlite")).unwrap();
    ledger.pragma_update(None, "user_version", 99).unwrap();
    drop(ledger);
    for args in [&["run", "--once"][..], &["history"], &["failures"], &["requeue"], &["verify"]] {
        let ran = home.cynosure(args);

        assert_eq!(ran.code, Some(78), "{args:?} {ran:?}");
        assert!(sentence(&ran).contains("was written by a newer cynosure"), "{}", ran.err);
    }
    assert_eq!(home.cynosure(&["status"]).code, Some(0));
}

#[test]
fn a_damaged_ledger_is_never_taken_for_an_empty_one() {
    let home = Home::after_demo();
    for junk in ["", "junk"] {
        home.write("state/demo/ledger.sqlite", junk);
        for args in [&["run", "--once"][..], &["history"], &["failures"], &["requeue"], &["verify"]]
        {
            let ran = home.cynosure(args);

            assert_eq!(ran.code, Some(74), "{args:?} {ran:?}");
            assert!(sentence(&ran).contains("it is damaged"), "{}", ran.err);
        }
        assert_eq!(home.read("state/demo/ledger.sqlite"), junk);
    }
}

/// A mailbox and a home whose password is asked for and wrong.
fn with_wrong_password() -> (DemoServer, Home) {
    let demo = cynosure::demo::start(DemoOptions { items: 5, ..DemoOptions::default() }).unwrap();
    let home = Home::empty();
    let text = cynosure::demo::demo_config(&demo, std::path::Path::new("downloads"));
    home.write("config.toml", &text);
    (demo, home)
}

#[test]
fn a_wrong_password_is_one_sentence_and_never_quoted() {
    let (_demo, home) = with_wrong_password();

    let ran = home.end(home.command(&["run", "--once", "-q"]).env("DEMO_PASSWORD", "hunter2"));

    assert_eq!(ran.code, Some(77), "{ran:?}");
    assert!(sentence(&ran).contains("401"), "{}", ran.err);
    assert!(!format!("{ran:?}").contains("hunter2"));
}

#[test]
fn a_wrong_path_is_a_wrong_configuration() {
    let home = Home::served(5);
    home.configure("/.well-known/jmap", "/nothing/here");

    let ran = home.cynosure(&["run", "--once"]);

    assert_eq!(ran.code, Some(78), "{ran:?}");
    assert!(sentence(&ran).contains("404"), "{}", ran.err);
    assert!(sentence(&ran).contains("url"), "{}", ran.err);
}

#[test]
fn a_server_that_does_not_speak_jmap_is_a_wrong_configuration() {
    let page = b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 22\r\n\
        connection: close\r\n\r\n<html>Welcome!</html>\n";
    let home = Home::at(&format!("http://{}/", answering(page)));

    let ran = home.cynosure(&["run", "--once"]);

    assert_eq!(ran.code, Some(78), "{ran:?}");
    assert!(sentence(&ran).contains("url"), "{}", ran.err);
}

#[test]
fn a_server_that_is_not_there_is_neither_configuration_nor_storage() {
    let ran = Home::of_work().cynosure(&["run", "--once"]);

    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(sentence(&ran).contains("127.0.0.1"), "{}", ran.err);
}
