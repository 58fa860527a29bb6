//! Exports of several sources, of a part of one, and of damaged archives.

use super::*;

#[test]
fn each_of_several_sources_has_a_folder() {
    let (one, mut two) = (TestArchive::of_mailbox(), TestArchive::empty());
    two.adopt("session-of-two", &[("z.eml", "Subject: z\r\n\r\n", &["INBOX"])]);
    let disk = one.disk();
    writer::create_folders(&disk, Path::new("/"), Path::new("archive/session-of-two/t")).unwrap();
    for (path, bytes) in &two.files {
        disk.create_file(path).unwrap().append(bytes).unwrap();
    }
    let run = |documents_left| {
        let sources = vec![one.source("one"), two.source("two")];
        let options = options(ExportFormat::Mbox);
        run_export(&disk, sources, &options, TestControl { documents_left })
    };

    let stopped = run(Some(3)).unwrap();
    let state = complete_state(run(None).unwrap());

    assert!(matches!(stopped, ExportOutcome::Stopped(_)), "{stopped:?}");
    assert_eq!((state.total().messages, state.sources.len()), (6, 2));
    let files = exported_files(&disk);
    assert_eq!(
        names(&files),
        [
            "README.txt",
            "one/Earlier versions.mbox",
            "one/INBOX.mbox",
            "one/No folder.mbox",
            "one/Work/2026.mbox",
            "one/work/2026~2.mbox",
            "two/INBOX.mbox"
        ]
    );
    assert!(text(&files["README.txt"]).contains("Each source is in a folder of its name."));
}

#[test]
fn a_complete_export_is_not_changed() {
    let archive = TestArchive::of_mailbox();
    let options = options(ExportFormat::Zip);
    let (disk, _) = archive.exported(&options);
    let before = disk.files();

    let again = archive.export(&disk, &options).unwrap();

    let ExportOutcome::AlreadyComplete(state) = again else { panic!("{again:?}") };
    assert_eq!(state.completed_at, Some(NOW));
    assert_eq!(disk.files(), before);
}

#[test]
fn other_options_do_not_continue_an_export() {
    let archive = TestArchive::of_mailbox();
    let (disk, _) = archive.exported(&options(ExportFormat::Zip));

    let error = archive.export(&disk, &options(ExportFormat::Mbox)).unwrap_err();

    let ExportFailure::Refused(message) = error else { panic!("{error}") };
    assert!(message.contains("began with other options"), "{message}");
}

#[test]
fn only_newer_messages_are_exported() {
    let archive = TestArchive::of_mailbox();
    // 2026-03-06 00:00:00 UTC.
    let since = SinceLimit { text: "2026-03-06".to_owned(), at: Timestamp(1_772_755_200_000) };
    let since = ExportOptions { since: Some(since), ..options(ExportFormat::Mbox) };

    let (disk, counts) = archive.exported(&since);

    assert_eq!((counts.messages, counts.older), (4, 1));
    assert!(!exported_files(&disk).contains_key("work/2026~2.mbox"));
}

#[test]
fn damaged_documents_are_left_out_and_named() {
    for options in all_options() {
        let archive = TestArchive::of_mailbox();
        let disk = archive.disk();
        disk.remove_file(Path::new("/archive/two/t/b.eml")).unwrap();
        let mut file = disk.open_append(Path::new("/archive/two/t/d.eml")).unwrap();
        file.truncate(10).unwrap();
        file.append(b"longer than it was, so that its length is another").unwrap();

        let state = complete_state(archive.export(&disk, &options).unwrap());

        let total = state.total();
        assert_eq!((total.messages, total.damaged), (3, 2));
        let damaged: Vec<_> = state.sources[0]
            .damaged
            .iter()
            .map(|file| (file.path.as_str(), file.reason.as_str()))
            .collect();
        let expected =
            [("/archive/two/t/b.eml", "missing"), ("/archive/two/t/d.eml", "wrong length")];
        assert_eq!(damaged, expected);
        let files = exported_files(&disk);
        assert!(!files.keys().any(|name| name.contains("2026")), "{options:?}: {files:?}");
    }
}

#[test]
fn only_the_first_damaged_documents_are_named() {
    const FOLDERS: &[&str] = &["A"];
    let mut archive = TestArchive::empty();
    let names: Vec<String> = (0..30).map(|number| format!("m{number}.eml")).collect();
    let documents: Vec<TestDocument<'_>> =
        names.iter().map(|name| (name.as_str(), "x\n", FOLDERS)).collect();
    archive.adopt("one", &documents);
    archive.files.clear();

    let disk = archive.disk();
    let state = complete_state(archive.export(&disk, &options(ExportFormat::Mbox)).unwrap());

    assert_eq!((state.total().damaged, state.sources[0].damaged.len()), (30, 20));
}

#[test]
fn an_archive_that_disappears_ends_the_export() {
    let archive = TestArchive::of_mailbox();
    let disk = archive.disk();
    for path in archive.files.keys() {
        disk.remove_file(path).unwrap();
    }
    let mut source = archive.source("work");
    source.marker = Some(PathBuf::from("/archive/.cynosure/work/owner.json"));

    let control = TestControl { documents_left: None };
    let error = run_export(&disk, vec![source], &options(ExportFormat::Mbox), control).unwrap_err();

    let ExportFailure::Storage(failure) = error else { panic!("{error}") };
    assert!(failure.message.contains("/archive is no longer there; mount it"), "{failure}");
}

#[test]
fn a_source_without_messages_needs_another_format() {
    let mut archive = TestArchive::empty();
    archive.adopt("one", &[("j.json", "{}", &[])]);
    let disk = archive.disk();

    for format in [ExportFormat::Maildir, ExportFormat::Mbox] {
        let error = archive.export(&disk, &options(format)).unwrap_err().to_string();
        assert!(error.contains("are no messages"), "{error}");
        assert!(error.contains("export them with `--format zip`"), "{error}");
    }
    complete_state(archive.export(&disk, &options(ExportFormat::Zip)).unwrap());
}

#[test]
fn another_ledger_does_not_continue_an_export() {
    let mut archive = TestArchive::of_mailbox();
    let disk = archive.disk();
    let control = TestControl { documents_left: Some(2) };
    let options = options(ExportFormat::Maildir);
    run_export(&disk, vec![archive.source("work")], &options, control).unwrap();
    archive.ledger.init_id(&cynosure_engine::LedgerId::new("another")).unwrap();

    let error = archive.export(&disk, &options).unwrap_err().to_string();

    assert!(error.contains("work has another ledger since this export began"), "{error}");
}
