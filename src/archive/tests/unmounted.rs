//! Test of an archive that is unmounted while it is open.

use super::*;

/// FAULTS 51: the archive is unmounted, or replaced by a folder without the marker, between two
/// batches.
#[test]
fn nothing_is_written_where_the_archive_was_unmounted() {
    let home = tempfile::tempdir().unwrap();
    let root = home.path().join("downloads");
    let (marker, owner) = write_marker(Arc::new(RealDisk), root.to_str().unwrap(), false).unwrap();
    let (archive, _) = Archive::open(marker, owner, |_, _, _| Ok(false)).unwrap();
    let folder = archive.create_session_folder(STARTED, ACCOUNT).unwrap();
    let group = || {
        let mut group = WriteBatch::new(folder.clone());
        for (item, document) in documents_of_batch(0) {
            let mut draft = archive.spool_document();
            draft.append(&document_bytes(&document)).unwrap();
            group.push(batch_entry(&item, &document, FIRST_VERSION, draft));
        }
        group
    };
    let written = archive.stage_batch(group()).unwrap();
    let away = home.path().join("away");
    RealDisk.rename(&root, &away).unwrap();
    RealDisk.create_dir(&root).unwrap();
    // An earlier version may have left these below the mount point.
    RealDisk.create_dir(&root.join(".cynosure")).unwrap();
    RealDisk.create_dir(&root.join(".cynosure/work")).unwrap();

    let mut long = archive.spool_document();
    let refused = [
        archive.publish(written).unwrap_err(),
        archive.stage_batch(group()).unwrap_err(),
        archive.create_session_folder(STARTED, ACCOUNT).unwrap_err(),
        long.append(&vec![b'x'; SPOOL_MEMORY_BYTES_MAX + 1]).unwrap_err(),
    ];

    for failure in refused {
        assert_eq!(failure.cause, Cause::Storage);
        assert!(failure.message.contains("is not the archive of work"), "{failure}");
    }
    assert_eq!(RealDisk.list_dir(&root).unwrap(), [PathBuf::from(".cynosure")]);
    assert!(RealDisk.list_dir(&root.join(".cynosure/work")).unwrap().is_empty());
    fs_err::remove_dir_all(&root).unwrap();
    RealDisk.rename(&away, &root).unwrap();
    let (kept, intent) = archive.publish(archive.stage_batch(group()).unwrap()).unwrap();
    archive.clear_intent(intent);
    assert!(kept.iter().all(Result::is_ok));
}
