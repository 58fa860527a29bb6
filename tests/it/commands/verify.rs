//! `verify` on intact and on damaged archives.

use std::collections::BTreeMap;

use rusqlite::Connection;

use crate::commands::test_home::TestHome;

/// Applies `damage` to a demo's archive or ledger. Returns the exit code and output of `verify`.
fn verify_after(damage: impl FnOnce(&TestHome)) -> (Option<i32>, String, String) {
    let home = TestHome::after_demo();
    let session = home.sessions().remove(0);
    damage(&home);
    let output = home.cynosure(&["verify"]);
    let name = session.file_name().unwrap_or_default().to_string_lossy();
    (output.code, output.stdout.replace(&*name, "SESSION"), output.stderr)
}

#[test]
fn an_intact_archive_is_ok() {
    let (code, out, err) = verify_after(|_| {});

    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert_eq!(out, "demo: 96 documents of 60 items verified, 862.7 kB: OK\n");
}

#[test]
fn each_damaged_document_is_named() {
    let (code, out, err) = verify_after(|home| {
        let messages = home.messages();
        let mut bytes = fs_err::read(&messages[0]).unwrap();
        bytes[10] ^= 1;
        fs_err::write(&messages[0], bytes).unwrap();
        fs_err::remove_file(&messages[1]).unwrap();
        fs_err::write(&messages[2], "short").unwrap();
        fs_err::remove_file(&messages[3]).unwrap();
        fs_err::create_dir(&messages[3]).unwrap();
    });

    assert_eq!(code, Some(74));
    let mut lines: Vec<&str> = out.lines().collect();
    let summary = lines.pop().unwrap();
    assert_eq!(summary, "demo: 96 documents of 60 items verified, 862.7 kB: 4 missing or damaged");
    let mut findings: BTreeMap<&str, usize> = BTreeMap::new();
    for (path, finding) in lines.iter().filter_map(|line| line.split_once(": ")) {
        assert!(path.starts_with("HOME/downloads/SESSION/"), "{path}");
        *findings.entry(finding).or_default() += 1;
    }
    insta::assert_debug_snapshot!(findings, @r#"
    {
        "changed: its SHA-256 is not the recorded one": 1,
        "missing": 1,
        "not a regular file": 1,
        "truncated: 5 of 433 bytes": 1,
    }
    "#);
    insta::assert_snapshot!(err, @r"
    cynosure: 4 findings in demo: restore the files from a backup, or fetch them again: `cynosure requeue --damaged --source demo`, then `cynosure run demo`
    ");
}

#[test]
fn an_orphan_file_is_reported_without_failure() {
    let (code, out, _) = verify_after(|home| {
        let extra = home.messages()[0].with_file_name("extra.eml");
        fs_err::write(extra, "mine").unwrap();
        fs_err::write(home.sessions()[0].join("notes.txt"), "mine").unwrap();
    });

    assert_eq!(code, Some(0));
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines.len(), 3, "{out}");
    assert!(lines[0].ends_with("/extra.eml: not in the ledger"), "{out}");
    assert_eq!(lines[1], "HOME/downloads/SESSION/notes.txt: not in the ledger");
    assert_eq!(
        lines[2],
        "demo: 96 documents of 60 items verified, 862.7 kB: OK; 2 files not in the ledger, \
         left unchanged"
    );
}

#[test]
fn a_missing_archive_is_reported_once() {
    let home = TestHome::after_demo();
    fs_err::rename(home.path("downloads"), home.path("elsewhere")).unwrap();

    let output = home.cynosure(&["verify"]);

    assert_eq!((output.code, output.stdout.as_str()), (Some(74), ""));
    insta::assert_snapshot!(output.stderr, @r"
    cynosure: demo: the archive HOME/downloads does not exist; mount it, or correct `dir` of [archive] in the configuration
    ");
}

#[test]
fn each_document_of_a_missing_session_folder_is_named() {
    let (code, out, _) = verify_after(|home| fs_err::remove_dir_all(&home.sessions()[0]).unwrap());

    assert_eq!(code, Some(74));
    assert_eq!(out.lines().filter(|line| line.ends_with(".eml: missing")).count(), 96);
}

#[test]
fn an_inconsistent_ledger_is_reported() {
    let (code, out, _) = verify_after(|home| {
        let ledger = Connection::open(home.path("state/demo/ledger.sqlite")).unwrap();
        ledger.execute("UPDATE sessions SET stored = stored - 1, gone = gone + 1", []).unwrap();
    });

    assert_eq!(code, Some(74));
    insta::assert_snapshot!(out, @r"
    the counters of the ledger are 0 pending, 59 stored, 1 gone, 0 quarantined, but its rows are 0 pending, 60 stored, 0 gone, 0 quarantined
    demo: 96 documents of 60 items verified, 862.7 kB: the ledger is damaged or inconsistent
    ");
}

#[test]
fn as_json_each_finding_is_a_line_and_the_summary_is_the_last() {
    let home = TestHome::after_demo();
    fs_err::remove_file(&home.messages()[0]).unwrap();

    let output = home.cynosure(&["verify", "--json"]);

    let lines = output.json_lines();
    assert_eq!((output.code, lines.len()), (Some(74), 2));
    assert_eq!(lines[0]["finding"], "missing");
    assert!(lines[0]["path"].as_str().unwrap().starts_with("HOME/downloads/"));
    assert_eq!(lines[1]["summary"]["damaged"], 1);
    assert_eq!(lines[1]["summary"]["well"], false);
}

#[test]
fn verify_beside_a_running_worker_finds_nothing() {
    let home = TestHome::with_demo_server(1500);
    let mut worker = home.start(&["run", "--once", "-q"]);
    let mut runs = 0;
    while worker.0.try_wait().unwrap().is_none() {
        let output = home.cynosure(&["verify"]);
        assert_eq!((output.code, output.stderr.as_str()), (Some(0), ""), "{output:?}");
        runs += 1;
    }

    assert!(runs > 1, "the worker finished before a second `verify`");
    let last = home.cynosure(&["verify"]).stdout;
    assert!(last.contains(" of 1,500 items verified, ") && last.ends_with(": OK\n"), "{last}");
}
