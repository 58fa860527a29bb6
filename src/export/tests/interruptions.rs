//! Exports that are interrupted at any call on the disk, and continued.

use super::*;

/// Fault that begins at the `at`-th call of an export.
fn fault_at(disk: &MemoryDisk, at: u64, errno: Errno) {
    let at_operation = disk.operation_count() + at;
    disk.set_fault(DiskFault { at_operation, duration: FaultDuration::Permanent, errno });
}

/// Returns the files of an export without interruption, and the number of its calls.
fn uninterrupted(
    archive: &TestArchive,
    options: &ExportOptions,
) -> (BTreeMap<String, Vec<u8>>, u64) {
    let disk = archive.disk();
    let before = disk.operation_count();
    complete_state(archive.export(&disk, options).unwrap());
    (exported_files(&disk), disk.operation_count() - before)
}

/// Continues an export to its end, and asserts that it has these files.
fn assert_continues(
    archive: &TestArchive,
    disk: &MemoryDisk,
    options: &ExportOptions,
    expected: &BTreeMap<String, Vec<u8>>,
    case: &str,
) {
    let outcome = archive.export(disk, options).unwrap_or_else(|error| panic!("{case}: {error}"));
    let (ExportOutcome::Complete(state) | ExportOutcome::AlreadyComplete(state)) = outcome else {
        panic!("{case}: {outcome:?}")
    };
    let total = state.total();
    assert_eq!((total.messages, total.copies, total.damaged), (5, 1, 0), "{case}");
    let files = exported_files(disk);
    assert_eq!(names(&files), names(expected), "{case}");
    assert_eq!(files, *expected, "{case}");
}

#[test]
fn a_killed_export_continues_without_loss_and_without_duplicates() {
    let archive = TestArchive::of_mailbox();
    for options in all_options() {
        let (expected, calls) = uninterrupted(&archive, &options);
        assert!(calls > 40, "{calls}");
        for at in 0..calls {
            let disk = archive.disk();
            fault_at(&disk, at, Errno::IO);
            assert!(archive.export(&disk, &options).is_err());
            disk.clear_fault();

            let case = format!("{options:?}, killed at call {at} of {calls}");
            assert_continues(&archive, &disk, &options, &expected, &case);
        }
    }
}

#[test]
fn an_export_continues_after_a_power_cut() {
    let archive = TestArchive::of_mailbox();
    for options in all_options() {
        let (expected, calls) = uninterrupted(&archive, &options);
        for (at, seed) in (0..calls).flat_map(|at| [(at, 0), (at, at + 1)]) {
            let disk = archive.disk();
            fault_at(&disk, at, Errno::IO);
            assert!(archive.export(&disk, &options).is_err());
            disk.power_cut(seed);

            let case = format!("{options:?}, power cut at call {at} of {calls}, seed {seed}");
            assert_continues(&archive, &disk, &options, &expected, &case);
        }
    }
}

#[test]
fn a_complete_export_survives_a_power_cut() {
    let archive = TestArchive::of_mailbox();
    for options in all_options() {
        let (expected, _) = uninterrupted(&archive, &options);
        let (disk, _) = archive.exported(&options);
        disk.power_cut(0);
        assert_eq!(exported_files(&disk), expected, "{options:?}");
    }
}

#[test]
fn a_full_disk_names_the_remedy_and_nothing_is_lost() {
    let archive = TestArchive::of_mailbox();
    for options in all_options() {
        let (expected, calls) = uninterrupted(&archive, &options);
        let mut sentences = 0;
        for at in 0..calls {
            let disk = archive.disk();
            fault_at(&disk, at, Errno::NOSPC);
            let error = archive.export(&disk, &options).unwrap_err();
            let sentence = "the disk is full; free some space and run the same command again";
            sentences += u64::from(error.to_string().contains(sentence));
            disk.clear_fault();

            let case = format!("{options:?}, full at call {at}");
            assert_continues(&archive, &disk, &options, &expected, &case);
        }
        assert!(sentences > calls / 2, "{sentences} of {calls}");
    }
}

#[test]
fn a_stopped_export_continues() {
    let archive = TestArchive::of_mailbox();
    for options in all_options() {
        let (expected, _) = uninterrupted(&archive, &options);
        for documents in 0..4 {
            let disk = archive.disk();
            let control = TestControl { documents_left: Some(documents) };
            let outcome = run_export(&disk, vec![archive.source("work")], &options, control);

            let Ok(ExportOutcome::Stopped(state)) = outcome else { panic!("{outcome:?}") };
            assert_eq!(state.total().messages, documents, "what was exported counts");
            assert_continues(&archive, &disk, &options, &expected, &format!("{documents}"));
        }
    }
}

#[test]
fn a_version_that_arrives_meanwhile_leaves_no_duplicate() {
    for options in all_options() {
        let (_, calls) = uninterrupted(&TestArchive::of_mailbox(), &options);
        for at in (0..calls).step_by(3) {
            let mut archive = TestArchive::of_mailbox();
            let disk = archive.disk();
            fault_at(&disk, at, Errno::IO);
            assert!(archive.export(&disk, &options).is_err());
            disk.clear_fault();
            // The same row now has another file name and another folder.
            archive.adopt("three", &[("d.eml", "Subject: new\r\n\r\n", &["Moved"])]);
            for path in archive.files.keys().filter(|path| path.starts_with("/archive/three")) {
                let folder = Path::new("archive/three/t");
                writer::create_folders(&disk, Path::new("/"), folder).unwrap();
                disk.create_file(path).unwrap().append(&archive.files[path]).unwrap();
            }

            let outcome = archive.export(&disk, &options).unwrap();

            let case = format!("{options:?}, killed at call {at} of {calls}");
            let (ExportOutcome::Complete(state) | ExportOutcome::AlreadyComplete(state)) = outcome
            else {
                panic!("{case}")
            };
            let total = state.total();
            assert_eq!((total.messages, total.copies), (5, 1), "{case}");
            let files = exported_files(&disk);
            let messages = files.iter().map(|(name, bytes)| match name.rsplit_once('.') {
                Some((_, "mbox")) => read_mboxrd(bytes).len(),
                Some(_) | None => usize::from(name.contains(".cynosure,S=")),
            });
            if options.format != ExportFormat::Zip {
                let expected = total.messages + total.copies + total.earlier_versions;
                assert_eq!(messages.sum::<usize>() as u64, expected, "{case}");
            }
        }
    }
}
