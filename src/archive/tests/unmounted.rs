//! Test of an archive that is unmounted while it is open.

use super::*;

/// FAULTS 51: the archive is unmounted, or replaced by a folder without the marker, between two
/// batches.
#[test]
fn nothing_is_written_where_the_archive_was_unmounted() {
    let home = tempfile::tempdir().unwrap();
    let root = home.path().join("downloads");
    let (marker, owner) = write_marker(Arc::new(RealDisk), root.to_str().unwrap(), false).unwrap();
    let (archive, _) =
        FileArchive::open(marker, owner, DocumentFormat::default(), |_, _, _| Ok(false)).unwrap();
    let folder = archive.create_session_folder(STARTED, ACCOUNT).unwrap();
    let batch = || {
        let mut batch = WriteBatch::new(folder.clone());
        for (item, document) in documents_of_batch(0) {
            let mut spooled = archive.spool_document();
            spooled.append(&document_bytes(&document)).unwrap();
            batch.push(batch_entry(&item, &document, FIRST_VERSION, spooled));
        }
        batch
    };
    let staged = archive.stage(batch()).unwrap();
    let moved = home.path().join("away");
    RealDisk.rename(&root, &moved).unwrap();
    RealDisk.create_dir(&root).unwrap();
    // An earlier version may have left these below the mount point.
    RealDisk.create_dir(&root.join(".cynosure")).unwrap();
    RealDisk.create_dir(&root.join(".cynosure/work")).unwrap();

    let mut long_document = archive.spool_document();
    let failures = [
        archive.publish(staged).unwrap_err(),
        archive.stage(batch()).unwrap_err(),
        archive.create_session_folder(STARTED, ACCOUNT).unwrap_err(),
        long_document.append(&vec![b'x'; SPOOL_MEMORY_BYTES_MAX + 1]).unwrap_err(),
    ];

    for failure in failures {
        assert_eq!(failure.cause, Cause::Storage);
        assert!(failure.message.contains("is not the archive of work"), "{failure}");
    }
    assert_eq!(RealDisk.list_dir(&root).unwrap(), [PathBuf::from(".cynosure")]);
    assert!(RealDisk.list_dir(&root.join(".cynosure/work")).unwrap().is_empty());
    fs_err::remove_dir_all(&root).unwrap();
    RealDisk.rename(&moved, &root).unwrap();
    let (results, intent) = archive.publish(archive.stage(batch()).unwrap()).unwrap();
    archive.clear_intent(intent);
    assert!(results.iter().all(Result::is_ok));
}
