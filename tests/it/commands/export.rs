//! `export` into each format, after interruptions, and with bad input.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use cynosure::disk::FileLock;
use rustix::process::Signal;

use crate::commands::test_home::{ProgramOutput, TestHome};
use crate::endpoint::wait_until;

const STATE_FILE: &str = "out/.cynosure-export/state.json";

fn export(home: &TestHome, format: &str) -> ProgramOutput {
    home.cynosure(&["export", "--format", format, "out"])
}

/// Returns all files below a folder by their relative paths, without those of the export itself.
fn files_below(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs_err::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.ends_with(".cynosure-export") {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else {
                let bytes = fs_err::read(&path).unwrap();
                found.insert(path.strip_prefix(folder).unwrap().to_owned(), bytes);
            }
        }
    }
    found
}

/// Returns the exported files that are not the text file.
fn exported(home: &TestHome, dir: &str) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = files_below(&home.path(dir));
    assert!(files.remove(Path::new("README.txt")).is_some(), "{:?}", files.keys());
    files
}

fn archived_messages(home: &TestHome) -> BTreeSet<Vec<u8>> {
    home.messages().iter().map(|path| fs_err::read(path).unwrap()).collect()
}

/// Returns the value of a row of the summary.
fn summary_row<'a>(output: &'a ProgramOutput, label: &str) -> &'a str {
    let rows = output.stdout.lines().filter_map(|line| line.strip_prefix(label));
    rows.map(str::trim).next().unwrap_or_else(|| panic!("no row {label}: {output:?}"))
}

#[test]
fn a_maildir_has_the_archived_bytes_of_every_message() {
    let home = TestHome::after_demo();

    let output = export(&home, "maildir");

    assert_eq!((output.code, output.stderr.as_str()), (Some(0), ""), "{output:?}");
    assert_eq!(summary_row(&output, "messages "), "96, 862.7 kB");
    assert_eq!(summary_row(&output, "folder "), "HOME/out");
    let files = exported(&home, "out");
    let is_message = |path: &PathBuf| path.parent().unwrap().ends_with("cur");
    assert!(files.keys().all(is_message), "{:?}", files.keys());
    let bytes: BTreeSet<Vec<u8>> = files.into_values().collect();
    assert_eq!(bytes, archived_messages(&home));
}

#[test]
fn mbox_files_have_a_separator_for_each_message() {
    let home = TestHome::after_demo();

    let output = export(&home, "mbox");

    assert_eq!(output.code, Some(0), "{output:?}");
    let mut separators = 0;
    for (path, bytes) in exported(&home, "out") {
        assert_eq!(path.extension().unwrap(), "mbox");
        let text = String::from_utf8_lossy(&bytes);
        separators += text.lines().filter(|line| line.starts_with("From ")).count();
        assert!(!text.contains("\r\n"), "{path:?}");
    }
    let copies = match output.stdout.contains("copies") {
        true => summary_row(&output, "copies ").split_once(' ').unwrap().0.parse().unwrap(),
        false => 0,
    };
    assert_eq!(separators, 96 + copies);
}

#[test]
fn a_zip_file_contains_every_message_as_it_is() {
    let home = TestHome::after_demo();

    let output = export(&home, "zip");

    assert_eq!(output.code, Some(0), "{output:?}");
    let files = exported(&home, "out");
    let zip = &files[Path::new("mail.zip")];
    assert_eq!((files.len(), &zip[..4]), (1, b"PK\x03\x04".as_slice()));
    assert_eq!(zip[zip.len() - 22..][..4], *b"PK\x05\x06");
    for message in archived_messages(&home).into_iter().take(10) {
        assert!(zip.windows(message.len()).any(|window| window == message.as_slice()));
    }
}

#[test]
fn a_complete_export_says_so_and_changes_nothing() {
    let home = TestHome::after_demo();
    assert_eq!(export(&home, "maildir").code, Some(0));
    let before = files_below(&home.path("out"));
    let state = home.read(STATE_FILE);

    let again = export(&home, "maildir");
    let other = export(&home, "zip");

    assert_eq!((again.code, again.stderr.as_str()), (Some(0), ""));
    assert!(again.stdout.starts_with("The export into HOME/out is complete since "), "{again:?}");
    assert!(again.stdout.contains(": 96 messages. Nothing was changed."), "{again:?}");
    assert_eq!(other.code, Some(1));
    assert!(other.stderr.contains("began with other options"), "{other:?}");
    assert_eq!((files_below(&home.path("out")), home.read(STATE_FILE)), (before, state));
}

/// Each signal is sent when the state file exists, and when it counts messages, unless the export
/// has ended by then.
#[test]
fn a_killed_or_interrupted_export_is_continued() {
    let home = TestHome::empty();
    let dir = home.path("").display().to_string();
    let demo = home.cynosure(&["demo", "--items", "700", "--faults", "none", "--dir", &dir]);
    assert_eq!(demo.code, Some(0), "{demo:?}");
    for format in ["maildir", "mbox", "zip"] {
        let whole = format!("whole-{format}");
        let output = home.cynosure(&["export", "--format", format, &whole]);
        assert_eq!(output.code, Some(0), "{output:?}");
        let expected = exported(&home, &whole);
        let signals = [(Signal::KILL, None), (Signal::INT, Some(130)), (Signal::TERM, Some(143))];
        let rounds = signals.into_iter().flat_map(|signal| [(signal, false), (signal, true)]);
        for ((signal, code), is_later) in rounds {
            let mut running = home.start(&["export", "--format", format, "out"]);
            let state = home.path(STATE_FILE);
            wait_until(|| {
                // The state exists, or it counts messages.
                let text = fs_err::read_to_string(&state).unwrap_or_default();
                let has_messages = !text.contains("\"last_row\":0,");
                let is_due = !text.is_empty() && (has_messages || !is_later);
                is_due || running.0.try_wait().unwrap().is_some()
            });
            if running.0.try_wait().unwrap().is_none() {
                running.signal(signal);
            }
            let status = running.0.wait().unwrap();
            assert!([Some(0), code].contains(&status.code()), "{signal:?}: {status:?}");

            let output = export(&home, format);

            assert_eq!(output.code, Some(0), "{output:?}");
            let files = exported(&home, "out");
            assert_eq!(
                files.keys().collect::<Vec<_>>(),
                expected.keys().collect::<Vec<_>>(),
                "{format}"
            );
            assert!(files == expected, "{format}");
            fs_err::remove_dir_all(home.path("out")).unwrap();
        }
    }
}

#[test]
fn a_damaged_document_is_left_out_and_named() {
    let home = TestHome::after_demo();
    let messages = home.messages();
    fs_err::remove_file(&messages[0]).unwrap();
    let mut bytes = fs_err::read(&messages[1]).unwrap();
    bytes[10] ^= 1;
    fs_err::write(&messages[1], bytes).unwrap();

    let output = export(&home, "mbox");

    assert_eq!(output.code, Some(74));
    assert!(summary_row(&output, "messages ").starts_with("94, "), "{output:?}");
    assert_eq!(summary_row(&output, "damaged "), "2 left out");
    let lines: Vec<&str> = output.stderr.lines().collect();
    assert_eq!(lines.len(), 3, "{output:?}");
    assert!(lines.iter().any(|line| line.ends_with(": missing")), "{lines:?}");
    assert!(lines.iter().any(|line| line.ends_with(": wrong bytes")), "{lines:?}");
    assert_eq!(
        lines[2],
        "cynosure: 2 documents are missing or damaged in the archive, and not exported: fetch \
         them again with `cynosure requeue --damaged --source demo` and `cynosure run demo`, then \
         export into an empty folder"
    );
    assert_eq!(export(&home, "mbox").code, Some(74), "the export is complete, and damaged");
}

#[test]
fn a_folder_with_other_files_is_refused() {
    let home = TestHome::after_demo();
    home.write("out/mine.txt", "mine");

    let output = export(&home, "maildir");

    assert_eq!(output.code, Some(1), "{output:?}");
    assert!(output.stderr.contains("HOME/out is not empty"), "{output:?}");
    assert_eq!(files_below(&home.path("out")).len(), 1);
    assert!(!home.path("out/.cynosure-export").exists());
}

#[test]
fn a_folder_in_the_archive_is_refused() {
    let home = TestHome::after_demo();
    for dir in ["downloads", "downloads/export", "./downloads/../downloads/x", "state/x"] {
        let output = home.cynosure(&["export", "--format", "zip", dir]);
        assert_eq!(output.code, Some(1), "{dir}: {output:?}");
        assert!(output.stderr.contains("choose a folder outside of it"), "{output:?}");
    }
    assert!(!home.path("downloads/export").exists());
}

#[test]
fn two_exports_into_one_folder_exclude_each_other() {
    let home = TestHome::after_demo();
    fs_err::create_dir_all(home.path("out/.cynosure-export")).unwrap();
    let lock = FileLock::acquire(&home.path("out/.cynosure-export/lock")).unwrap();

    let refused = export(&home, "zip");
    drop(lock);
    let accepted = export(&home, "zip");

    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("another export (process "), "{refused:?}");
    assert_eq!(accepted.code, Some(0), "{accepted:?}");
}

#[test]
fn a_source_that_cannot_be_exported_is_an_error() {
    let home = TestHome::with_source_work();

    let never_run = export(&home, "maildir");
    let unknown = home.cynosure(&["export", "--format", "zip", "--source", "wrk", "out"]);

    assert_eq!(never_run.code, Some(1));
    assert!(never_run.stderr.contains("work has never run: there is nothing"), "{never_run:?}");
    assert_eq!(unknown.code, Some(78));
    assert!(unknown.stderr.contains("work"), "it names the known one: {unknown:?}");
    assert!(!home.path("out").exists());
}

#[test]
fn an_archive_that_is_not_mounted_is_an_error() {
    let home = TestHome::after_demo();
    fs_err::rename(home.path("downloads"), home.path("away")).unwrap();

    let output = export(&home, "maildir");

    assert_eq!(output.code, Some(74), "{output:?}");
    assert!(output.stderr.contains("is not the archive of demo"), "{output:?}");
    assert!(!home.path("out").exists());
}

#[test]
fn only_sources_that_have_run_are_exported() {
    let home = TestHome::after_demo();
    home.configure(
        "[archive]",
        "[source.idle]\nkind = \"jmap\"\nurl = \"http://127.0.0.1:9/.well-known/jmap\"\n\
         account = \"idle@example.com\"\n\
         auth = { type = \"bearer\", token = { file = \"token\" } }\n\n[archive]",
    );

    let output = export(&home, "mbox");

    assert_eq!(output.code, Some(0), "{output:?}");
    let note = "cynosure: idle has never run, so nothing of it is exported\n";
    assert_eq!(output.stderr, note);
    assert_eq!(summary_row(&output, "messages "), "96, 862.7 kB");
}

#[test]
fn wrong_arguments_are_reported_with_a_remedy() {
    let home = TestHome::after_demo();
    for (args, reason) in [
        (&["--format", "mbox", "--layout", "maildir++"][..], "--layout is possible with"),
        (&["--format", "zip", "--since", "yesterday"], "is not a valid time: write '2h'"),
        (&["--format", "pst"], "[possible values: maildir, mbox, zip]"),
        (&[], "--format <FORMAT>"),
    ] {
        let mut all = vec!["export", "out"];
        all.extend(args);
        let output = home.cynosure(&all);
        assert_eq!(output.code, Some(2), "{output:?}");
        assert!(output.stderr.contains(reason), "{output:?}");
    }
    assert!(!home.path("out").exists());
}

#[test]
fn messages_before_the_time_are_left_out() {
    let home = TestHome::after_demo();

    let all = home.cynosure(&["export", "--format", "zip", "--since", "1970-01-01", "all"]);
    let new = home.cynosure(&["export", "--format", "zip", "--since", "1h", "new"]);

    assert_eq!(summary_row(&all, "messages "), "96, 862.7 kB");
    let number = |row: &str| row.split([' ', ',']).next().unwrap().parse::<u64>().unwrap();
    let (exported, older) = (summary_row(&new, "messages "), summary_row(&new, "left out "));
    assert!(older.ends_with(" from before `--since`"), "{new:?}");
    // Messages without a date have the time at which they were stored.
    assert!(number(older) > 48, "{new:?}");
    assert_eq!(number(exported) + number(older), 96);
}
