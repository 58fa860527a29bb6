//! Tests of documents that are lines, with crashes and faults at every operation.

use super::*;

const ROOT: &str = "/downloads";

/// Returns the record with this id. Most records are one line, some with a line break at their end;
/// most of the second batch are several lines, which become files.
pub(super) fn record_bytes(document: &DocumentId) -> Vec<u8> {
    let id = document.as_str();
    let text = if id == LONG_DOCUMENT { "x".repeat(SPOOL_MEMORY_BYTES_MAX) } else { String::new() };
    let record = format!("{{\"id\":\"{id}\",\"text\":\"{text}\"}}");
    let record = match id {
        "m-1-0" => record,
        _ if id.starts_with("m-1-") => record.replace(',', ",\n"),
        _ if id.ends_with('1') => record + "\n",
        _ => record,
    };
    record.into_bytes()
}

impl TestWorker {
    fn with_lines() -> Self {
        Self::with_layout(BatchOrder::Sequential, RecordLayout::Lines)
    }

    /// Creates the folder of the session.
    fn create_session(&mut self, archive: &FileArchive) -> FolderName {
        let folder = archive.create_session_folder(STARTED, ACCOUNT).unwrap();
        self.ledger.folder = Some(folder.clone());
        folder
    }

    fn stage(&self, archive: &FileArchive, folder: &FolderName, batch: usize) -> StagedDocuments {
        let documents: Vec<_> = documents_of_batch(batch).collect();
        let staged = self.stage_batch(archive, folder, &documents).unwrap();
        (documents, staged)
    }

    /// Asserts that the file of lines has those of the ledger and no others.
    pub(super) fn assert_no_other_lines(&self, context: &str) {
        let Some(folder) = &self.ledger.folder else { return };
        let stored = self.ledger.stored.iter().filter_map(|((_, document), (location, _))| {
            parse_line_place(&location.file).map(|offset| (offset, document))
        });
        let mut expected = Vec::new();
        for (offset, document) in stored.collect::<BTreeMap<_, _>>() {
            assert_eq!(offset, expected.len() as u64, "{context}: {document}");
            expected.extend(record_bytes(document));
            if !expected.ends_with(b"\n") {
                expected.push(b'\n');
            }
        }
        let path = Path::new(ROOT).join(folder.as_str()).join(LINES_FILE);
        let found = self.disk.files().remove(&path).unwrap_or_default();
        assert!(found == expected, "{context}: {} of {} bytes", found.len(), expected.len());
    }
}

#[test]
fn a_power_cut_at_any_operation_loses_no_line() {
    assert_power_cuts_lose_nothing(RecordLayout::Lines);
}

#[test]
fn a_power_cut_during_recovery_loses_no_line() {
    assert_cut_recoveries_lose_nothing(RecordLayout::Lines);
}

#[test]
fn a_failed_operation_leaves_no_wrong_line() {
    assert_recovery_from_faults(RecordLayout::Lines);
}

#[test]
fn a_record_that_is_one_line_is_stored_as_a_line() {
    let mut worker = TestWorker::with_lines();

    worker.run_to_end().unwrap();

    worker.assert_complete("undisturbed");
    let stored = worker.ledger.stored.iter();
    let files = stored.filter(|(_, (location, _))| parse_line_place(&location.file).is_none());
    let files: Vec<_> = files.map(|((_, document), _)| document.as_str()).collect();
    assert_eq!(files.len(), BATCHES[1].1 - 1, "{files:?}");
    assert!(files.iter().all(|document| document.starts_with("m-1-")), "{files:?}");
}

#[test]
fn a_full_disk_leaves_the_file_of_lines_as_it_was() {
    for at in 0.. {
        let mut worker = TestWorker::with_lines();
        let (archive, _) = worker.open_archive().unwrap();
        let folder = worker.create_session(&archive);
        let first = worker.stage(&archive, &folder, 0);
        worker.publish_and_commit(&archive, &folder, first).unwrap();
        let second = worker.stage(&archive, &folder, 2);
        worker.disk.set_fault(DiskFault {
            at_operation: worker.disk.operation_count() + at,
            duration: FaultDuration::Once,
            errno: Errno::NOSPC,
        });

        if archive.publish(second.1).is_ok() {
            assert!(at > 10, "{at} operations");
            return;
        }

        worker.assert_no_other_lines(&format!("operation {at}"));
        assert!(!archive.has_abandoned_lines(), "operation {at}");
        worker.store_batches(&archive).unwrap();
        worker.assert_complete(&format!("operation {at}"));
    }
}

#[test]
fn no_batch_follows_one_that_is_not_recorded() {
    let mut worker = TestWorker::with_lines();
    let (archive, _) = worker.open_archive().unwrap();
    let folder = worker.create_session(&archive);
    let (_, first) = worker.stage(&archive, &folder, 0);
    let second = [worker.stage(&archive, &folder, 2), worker.stage(&archive, &folder, 2)];

    let (_, intent) = archive.publish(first).unwrap();
    let [(_, while_in_progress), (_, while_abandoned)] = second;
    let failure = archive.publish(while_in_progress).unwrap_err();
    assert!(!archive.has_abandoned_lines());
    // The ledger fails to record the first batch.
    drop(intent);
    archive.publish(while_abandoned).unwrap_err();

    assert!(failure.message.contains("not in the ledger"), "{failure}");
    assert!(archive.has_abandoned_lines());
    worker.store_batches(&archive).unwrap();
    worker.assert_complete("settled");
}

#[test]
fn a_power_cut_after_a_failed_commit_loses_no_line() {
    for at in 0..operation_count(BatchOrder::Overlapping, RecordLayout::Lines) {
        for seed in 0..4 {
            let mut worker = TestWorker::with_layout(BatchOrder::Overlapping, RecordLayout::Lines);
            let (archive, _) = worker.open_archive().unwrap();
            let folder = worker.create_session(&archive);
            let (_, longest) = worker.stage(&archive, &folder, 2);
            drop(archive.publish(longest).unwrap());

            worker.disk.set_fault(DiskFault::stop_at(worker.disk.operation_count() + at));
            drop(worker.store_batches(&archive));
            worker.disk.power_cut(seed);

            let context = format!("operation {at}, seed {seed}");
            worker.assert_stored_intact(&context);
            drop(worker.open_archive().unwrap());
            worker.assert_no_orphans(&context);
            worker.assert_adoptable(true, &context);
            worker.run_to_end().unwrap();
            worker.assert_complete(&context);
        }
    }
}

#[test]
fn a_leftover_list_cuts_off_no_later_line() {
    let mut worker = TestWorker::with_lines();
    let (archive, _) = worker.open_archive().unwrap();
    let folder = worker.create_session(&archive);
    let (_, first) = worker.stage(&archive, &folder, 0);
    let (_, intent) = archive.publish(first).unwrap();
    worker.disk.set_fault(DiskFault {
        at_operation: worker.disk.operation_count(),
        duration: FaultDuration::Once,
        errno: Errno::IO,
    });
    archive.clear_intent(intent);

    // The ledger does not have the first lines any more: they are fetched again.
    worker.store_batches(&archive).unwrap();
    let (_, report) = worker.open_archive().unwrap();

    assert_eq!(report, RecoveryReport { removed_documents: 0, removed_staged_files: 1 });
    worker.assert_stored_intact("a list of lines that are not at the end");
}

#[test]
fn each_kind_of_damage_to_a_line_has_a_name() {
    let home = tempfile::tempdir().unwrap();
    let sha256 = |text: &str| -> [u8; 32] {
        sha2::Digest::finalize(<sha2::Sha256 as sha2::Digest>::new_with_prefix(text)).into()
    };
    let lines = [(0, "{\"a\":1}"), (8, "{\"b\":2}\n"), (16, "{\"c\":3}")];
    let found = |content: &str| {
        fs_err::write(home.path().join(LINES_FILE), content).unwrap();
        lines.map(|(offset, line)| {
            let place = format!("{LINES_FILE}@{offset}");
            let length = line.len() as u64;
            check_document(&RealDisk, home.path(), &place, length, &sha256(line)).name()
        })
    };

    let (intact, missing) = ("intact", "missing");
    let (changed, cut) = ("wrong_bytes", "wrong_length");
    for (content, expected) in [
        ("{\"a\":1}\n{\"b\":2}\n{\"c\":3}\n", [intact, intact, intact]),
        ("{\"a\":1}\n{\"b\":2}\n{\"c\":3}", [intact, intact, intact]),
        ("{\"a\":1}\n{\"b\":0}\n{\"c\":3}\n", [intact, changed, intact]),
        ("{\"a\":10}\n{\"b\":2}\n{\"c\":3}\n", [changed, changed, changed]),
        ("{\"a\":1}\n{\"b\":2}\n{\"c\":3},\n", [intact, intact, changed]),
        ("{\"a\":1},{\"b\":2}\n{\"c\":3}\n", [changed, changed, intact]),
        ("{\"a\":1}\n{\"b\":2}\n{\"c\"", [intact, intact, cut]),
        ("{\"a\":1}\n", [intact, missing, missing]),
        ("", [missing, missing, missing]),
    ] {
        assert_eq!(found(content), expected, "{content}");
    }
}

#[test]
fn a_line_is_adopted_by_the_manifest_and_its_bytes() {
    let home = tempfile::tempdir().unwrap();
    let root = home.path().join("downloads");
    let (marker, owner) = write_marker(Arc::new(RealDisk), root.to_str().unwrap(), false).unwrap();
    let format = DocumentFormat { layout: RecordLayout::Lines, ..DocumentFormat::default() };
    let (archive, _) = FileArchive::open(marker, owner, format, |_, _, _| Ok(false)).unwrap();
    let folder = archive.create_session_folder(STARTED, ACCOUNT).unwrap();
    let store = |version, record: &str| {
        let mut spooled = archive.spool_document();
        spooled.append(record.as_bytes()).unwrap();
        let mut batch = WriteBatch::new(folder.clone());
        let ids = (ItemId::new("T1"), DocumentId::new("M1"));
        batch.push(batch_entry(&ids.0, &ids.1, version, spooled));
        let (results, intent) = archive.publish(archive.stage(batch).unwrap()).unwrap();
        archive.clear_intent(intent);
        results.into_iter().next().unwrap().unwrap().file
    };
    let read = || {
        let extension = FileExtension::default();
        let contents = FolderContents::read(&RealDisk, &root, &folder, &extension).unwrap();
        let found = contents.documents.iter().map(|found| found.file.clone());
        let skipped = contents.skipped.iter().map(|(path, reason)| {
            let name = path.file_name().unwrap().to_string_lossy();
            format!("{name}: {}", reason.text())
        });
        found.chain(skipped).collect::<Vec<_>>()
    };
    let path = root.join(folder.as_str()).join(LINES_FILE);

    // Each version is a line. Someone removes the last line break between the two batches.
    let first = store(FIRST_VERSION, "[1]");
    fs_err::write(&path, "[1]").unwrap();
    let second = store(2, "[2]\n");
    let lines = [first, second];

    assert_eq!(lines, ["records.jsonl@0", "records.jsonl@4"]);
    assert_eq!(fs_err::read_to_string(&path).unwrap(), "[1]\n[2]\n");
    assert_eq!(read(), lines);
    let mut recorded = RecordedLines::default();
    assert!(recorded.insert(4, 4));
    let is_stored = |_: &ItemId, _: &DocumentId, _: &ArchiveLocation| Ok(false);
    let orphans = list_orphans(&RealDisk, &root, &folder, &recorded, 9, is_stored).unwrap();
    assert_eq!(orphans, [root.join(folder.as_str()).join("records.jsonl@0")]);

    fs_err::write(&path, "[1]\n[3]\n[4]\n").unwrap();
    let unknown = SkipReason::UnknownLine.text();
    let skipped = [4, 8].map(|offset| format!("records.jsonl@{offset}: {unknown}"));
    assert_eq!(read(), [&lines[..1], &skipped[..]].concat());
}
