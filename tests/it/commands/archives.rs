//! Archives that are missing, moved, or of another ledger; ledgers that are missing or damaged.

use std::os::unix::fs::symlink;
use std::path::PathBuf;

use rusqlite::Connection;

use crate::commands::test_home::{ProgramOutput, TestHome};
use crate::endpoint::wait_until;

const MARKER: &str = "downloads/.cynosure/demo/owner.json";

/// Home after one completed session of 30 items, whose archive has a marker.
fn home_after_extraction() -> TestHome {
    let home = TestHome::with_demo_server(30);
    let output = home.cynosure(&["run", "--once"]);
    assert_eq!(output.code, Some(0), "{output:?}");
    assert!(home.path(MARKER).exists());
    home
}

fn move_away(home: &TestHome) -> PathBuf {
    let away = home.path("away");
    fs_err::rename(home.path("downloads"), &away).unwrap();
    away
}

/// Asserts that the folder in place of the archive is empty, without hidden files.
fn assert_untouched(home: &TestHome) {
    let entry_count = fs_err::read_dir(home.path("downloads")).unwrap().count();
    assert_eq!(entry_count, 0, "a file was created in the folder that is not the archive");
}

fn execution_state(home: &TestHome) -> serde_json::Value {
    serde_json::from_str(&home.read("state/demo/execution_state.json")).unwrap()
}

fn assert_storage_error(home: &TestHome, output: &ProgramOutput) {
    assert_eq!(output.code, Some(74), "{output:?}");
    let state = execution_state(home);
    assert_eq!(
        (&state["status"], &state["last_error"]["cause"]),
        (&"error".into(), &"storage".into())
    );
}

fn ledger(home: &TestHome) -> Connection {
    Connection::open(home.path("state/demo/ledger.sqlite")).unwrap()
}

/// FAULTS 51: not mounted.
#[test]
fn an_archive_that_is_not_mounted_is_left_alone() {
    let home = home_after_extraction();
    let away = move_away(&home);
    fs_err::create_dir(home.path("downloads")).unwrap();

    let refused = home.cynosure(&["run", "--once"]);

    assert_storage_error(&home, &refused);
    insta::assert_snapshot!(refused.stderr.lines().last().unwrap(), @r"
    cynosure: HOME/downloads is not the archive of demo: there is no HOME/downloads/.cynosure/demo/owner.json; mount the archive or put it back, and the work resumes by itself (to continue in a new place, move the folder `.cynosure` of the old archive there)
    ");
    assert_untouched(&home);
    fs_err::remove_dir(home.path("downloads")).unwrap();
    fs_err::rename(away, home.path("downloads")).unwrap();
    let output = home.cynosure(&["run", "--once"]);
    assert_eq!(output.code, Some(0), "{output:?}");
    assert_eq!(home.repeated_downloads(), 0);
}

/// FAULTS 51: moved away.
#[test]
fn a_missing_archive_folder_is_not_recreated() {
    let home = home_after_extraction();
    move_away(&home);

    let refused = home.cynosure(&["run", "--once"]);

    assert_storage_error(&home, &refused);
    assert!(!home.path("downloads").exists());
    let doctor = home.cynosure(&["doctor"]).stdout;
    assert!(doctor.contains("is not the archive of demo"), "{doctor}");
    assert!(!doctor.contains("the first start creates it"), "{doctor}");
}

/// FAULTS 51: replaced by a link.
#[test]
fn a_link_to_another_place_is_no_archive() {
    let home = home_after_extraction();
    move_away(&home);
    let elsewhere = home.path("elsewhere");
    fs_err::create_dir(&elsewhere).unwrap();
    symlink(&elsewhere, home.path("downloads")).unwrap();

    let refused = home.cynosure(&["run", "--once"]);

    assert_storage_error(&home, &refused);
    assert_untouched(&home);
}

/// FAULTS 51: moved away, and moved back.
#[test]
fn a_worker_resumes_when_the_archive_is_back() {
    let home = home_after_extraction();
    let away = move_away(&home);
    let mut worker = home.start(&["run"]);
    worker.log_until("is not the archive of demo");
    wait_until(|| execution_state(&home)["status"] == "error");
    assert!(home.cynosure(&["status"]).stdout.contains("error"));

    fs_err::rename(away, home.path("downloads")).unwrap();

    wait_until(|| execution_state(&home)["status"] == "idle");
    assert_eq!(worker.0.try_wait().unwrap(), None);
}

/// FAULTS 51: unmounted while documents are stored.
#[test]
fn an_archive_unmounted_during_a_session_is_detected() {
    let home = TestHome::with_demo_server(3000);
    let mut worker = home.start(&["run", "--once"]);
    wait_until(|| home.path("downloads").exists() && home.sessions().len() == 1);
    let away = move_away(&home);
    fs_err::create_dir(home.path("downloads")).unwrap();
    worker.log_until("is not the archive of demo");
    wait_until(|| execution_state(&home)["status"] == "error");
    assert_untouched(&home);

    fs_err::remove_dir(home.path("downloads")).unwrap();
    fs_err::rename(away, home.path("downloads")).unwrap();

    assert_eq!(
        worker.0.wait().unwrap().code(),
        Some(74),
        "`run --once` does not wait for the archive"
    );
    let output = home.cynosure(&["run", "--once"]);
    assert_eq!(output.code, Some(0), "{output:?}");
    assert!(output.stdout.contains("listed 3000 = stored 3000"), "{output:?}");
    let verified = home.cynosure(&["verify"]);
    assert!(verified.stdout.ends_with(": OK\n"), "{verified:?}");
}

/// FAULTS 51: the ledger is deleted, and the archive exists.
#[test]
fn a_missing_ledger_is_not_recreated() {
    let home = home_after_extraction();
    let before = home.messages();
    fs_err::remove_dir_all(home.path("state")).unwrap();

    let refused = home.cynosure(&["run", "--once"]);

    assert_storage_error(&home, &refused);
    insta::assert_snapshot!(refused.stderr.lines().last().unwrap(), @r"
    cynosure: HOME/downloads holds documents of demo that its ledger does not know: put a copy of the ledger back, or stop cynosure and run `cynosure adopt demo`, which rebuilds it from the archive; `cynosure reset demo --yes` lists and fetches everything again and keeps the files
    ");
    assert_eq!(home.messages(), before);
    assert_eq!(home.repeated_downloads(), 0);
}

/// FAULTS 51: without a ledger, and with the empty one that a refused run leaves.
#[test]
fn verify_and_requeue_report_a_missing_ledger() {
    let home = home_after_extraction();
    fs_err::remove_dir_all(home.path("state")).unwrap();
    let assert_refused = || {
        for args in [&["verify"][..], &["verify", "--json"], &["requeue"]] {
            let output = home.cynosure(args);
            assert_eq!((output.code, &*output.stdout), (Some(74), ""), "{args:?}: {output:?}");
            let reason = "holds documents of demo that its ledger does not know";
            assert!(output.stderr.contains(reason), "{args:?}: {output:?}");
        }
    };

    assert_refused();
    assert_storage_error(&home, &home.cynosure(&["run", "--once"]));
    assert!(home.path("state/demo/ledger.sqlite").exists());
    assert_refused();
}

/// FAULTS 51 and 17: the ledger is damaged, and the archive exists.
#[test]
fn a_run_with_a_damaged_ledger_is_refused() {
    let home = home_after_extraction();
    home.write("state/demo/ledger.sqlite", "rot");

    let refused = home.cynosure(&["run", "--once"]);

    assert_eq!(refused.code, Some(74), "{refused:?}");
    assert_eq!(execution_state(&home)["status"], "error");
    assert!(refused.stderr.contains("it is damaged"), "{}", refused.stderr);
    assert_eq!(home.repeated_downloads(), 0);
}

#[test]
fn an_archive_of_another_ledger_is_refused() {
    let home = home_after_extraction();
    let marker = home.read(MARKER);
    let id: String =
        ledger(&home).query_row("SELECT id FROM source", [], |row| row.get(0)).unwrap();
    home.write(MARKER, &marker.replace(&id, "another"));

    let refused = home.cynosure(&["run", "--once"]);

    assert_storage_error(&home, &refused);
    assert!(refused.stderr.contains("belongs to another ledger"), "{}", refused.stderr);
}

/// FAULTS 13: the same archive and source with another state folder.
#[test]
fn a_second_worker_on_an_archive_is_refused() {
    let home = TestHome::with_demo_server(30);
    let worker = home.start(&["run"]);
    wait_until(|| home.path(MARKER).exists());

    let refused = home.cynosure(&["--state-dir", "other", "run", "--once"]);

    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains(&format!("process {}", worker.0.id())), "{}", refused.stderr);
}

#[test]
fn an_archive_of_an_earlier_version_gets_a_marker() {
    let home = home_after_extraction();
    ledger(&home).execute("UPDATE source SET id = NULL", []).unwrap();
    fs_err::remove_file(home.path(MARKER)).unwrap();

    let output = home.cynosure(&["run", "--once"]);

    assert_eq!(output.code, Some(0), "{output:?}");
    let id: String =
        ledger(&home).query_row("SELECT id FROM source", [], |row| row.get(0)).unwrap();
    assert!(home.read(MARKER).contains(&id));
}

#[test]
fn an_archive_behind_a_link_and_without_old_folders_is_fine() {
    let home = home_after_extraction();
    let away = move_away(&home);
    symlink(&away, home.path("downloads")).unwrap();
    for session in home.sessions() {
        fs_err::rename(&session, home.path("kept-elsewhere")).unwrap();
    }

    let output = home.cynosure(&["run", "--once"]);

    assert_eq!(output.code, Some(0), "{output:?}");
}

#[test]
fn a_reset_makes_an_archive_without_ledger_usable() {
    let home = home_after_extraction();
    fs_err::remove_dir_all(home.path("state")).unwrap();
    assert_eq!(home.cynosure(&["run", "--once"]).code, Some(74));

    let reset = home.cynosure(&["reset", "demo", "--yes"]);
    let output = home.cynosure(&["run", "--once"]);

    assert_eq!((reset.code, output.code), (Some(0), Some(0)), "{reset:?} {output:?}");
    assert_eq!(home.sessions().len(), 2);
}

/// Returns the item, document, blob and length of each stored document in the ledger.
fn stored_rows(home: &TestHome) -> Vec<(String, String, String, i64)> {
    let ledger = ledger(home);
    let mut statement = ledger
        .prepare(
            "SELECT i.id, d.id, d.blob, d.length FROM documents d JOIN items i ON i.no = d.item
             WHERE d.status = 1 ORDER BY 1, 2",
        )
        .unwrap();
    let rows = statement
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))
        .unwrap();
    rows.map(Result::unwrap).collect()
}

fn assert_adopted_without_downloads(home: &TestHome, before: &[(String, String, String, i64)]) {
    let files = home.messages();
    let output = home.cynosure(&["run", "--once"]);
    assert_eq!(output.code, Some(0), "{output:?}");
    assert_eq!(home.repeated_downloads(), 0, "a document was fetched twice");
    assert_eq!(stored_rows(home), before);
    assert_eq!(home.messages(), files);
    let verified = home.cynosure(&["verify"]);
    assert_eq!(verified.code, Some(0), "{verified:?}");
    assert!(verified.stdout.ends_with(": OK\n"), "{verified:?}");
}

/// FAULTS 51: the ledger is deleted, and the archive exists.
#[test]
fn a_ledger_is_rebuilt_from_the_manifests() {
    let home = home_after_extraction();
    let before = stored_rows(&home);
    fs_err::remove_dir_all(home.path("state")).unwrap();

    let dry_run = home.cynosure(&["adopt", "demo", "--dry-run"]);
    let adopted = home.cynosure(&["adopt", "demo"]);

    assert_eq!((dry_run.code, adopted.code), (Some(0), Some(0)), "{dry_run:?} {adopted:?}");
    assert!(dry_run.stdout.contains("Nothing was changed"), "{dry_run:?}");
    assert!(adopted.stdout.contains(" documents adopted; the next run"), "{adopted:?}");
    assert_eq!(stored_rows(&home), before);
    assert_adopted_without_downloads(&home, &before);
}

/// FAULTS 51 and 17: the ledger is damaged, and the archive is one of version 0.1.0.
#[test]
fn a_ledger_is_rebuilt_from_names_and_sizes() {
    let home = home_after_extraction();
    let before = stored_rows(&home);
    fs_err::remove_file(home.sessions()[0].join("manifest.jsonl")).unwrap();
    home.write("state/demo/ledger.sqlite", "rot");

    let adopted = home.cynosure(&["adopt", "demo"]);

    assert_eq!(adopted.code, Some(0), "{adopted:?}");
    assert!(adopted.stdout.contains("ledger.sqlite.unreadable-1"), "{adopted:?}");
    assert_adopted_without_downloads(&home, &before);
}

#[test]
fn two_copies_of_an_archive_are_adopted_once() {
    let home = home_after_extraction();
    let before = stored_rows(&home);
    home.cynosure(&["reset", "demo", "--yes"]);
    assert_eq!(home.cynosure(&["run", "--once"]).code, Some(0));
    fs_err::remove_dir_all(home.path("state")).unwrap();

    let adopted = home.cynosure(&["adopt", "demo"]);

    assert!(
        adopted.stdout.contains(&format!("{} files with the same bytes", before.len())),
        "{adopted:?}"
    );
    assert_eq!(stored_rows(&home), before);
    assert_eq!(home.cynosure(&["run", "--once"]).code, Some(0));
}

#[test]
fn a_ledger_with_documents_is_not_replaced() {
    let home = home_after_extraction();
    let before = home.read(MARKER);

    let refused = home.cynosure(&["adopt", "demo"]);

    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("contains documents"), "{}", refused.stderr);
    assert_eq!(home.read(MARKER), before);
}

#[test]
fn adopt_is_refused_while_a_worker_runs() {
    let home = TestHome::with_demo_server(30);
    let worker = home.start(&["run"]);
    wait_until(|| home.path(MARKER).exists());

    let refused = home.cynosure(&["adopt", "demo"]);

    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains(&format!("process {}", worker.0.id())), "{}", refused.stderr);
}

#[test]
fn only_missing_or_damaged_documents_are_refetched() {
    let home = home_after_extraction();
    let before = stored_rows(&home);
    let messages = home.messages();
    fs_err::remove_file(&messages[0]).unwrap();
    fs_err::write(&messages[1], "short").unwrap();

    let requeued = home.cynosure(&["requeue", "--damaged"]);
    let failures = home.cynosure(&["failures"]);
    let output = home.cynosure(&["run", "--once"]);

    assert_eq!(requeued.code, Some(0), "{requeued:?}");
    assert!(
        requeued.stdout.contains("2 documents of demo: fetched again by the next"),
        "{requeued:?}"
    );
    assert!(failures.stdout.contains("the file of a document is"), "{failures:?}");
    assert_eq!(output.code, Some(0), "{output:?}");
    assert_eq!(home.repeated_downloads(), 2);
    assert_eq!(stored_rows(&home), before);
    let verified = home.cynosure(&["verify"]);
    assert_eq!(verified.code, Some(0), "{verified:?}");
    let requeued = home.cynosure(&["requeue", "--damaged"]);
    assert_eq!(requeued.stdout, "demo: no document is missing or damaged\n");
}

/// FAULTS 51: the checks report the missing archive.
#[test]
fn check_and_doctor_report_a_missing_archive() {
    let home = home_after_extraction();
    move_away(&home);

    let check = home.cynosure(&["check"]);
    let doctor = home.cynosure(&["doctor"]);

    assert_eq!(check.code, Some(2), "{check:?}");
    assert!(check.stdout.contains("archive of demo"), "{check:?}");
    assert!(doctor.stdout.contains("demo: archive"), "{doctor:?}");
    assert!(home.cynosure(&["requeue", "--damaged"]).stderr.contains("is not the archive of demo"));
}
