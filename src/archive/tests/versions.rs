//! Test of several versions of one document.

use super::*;

fn store_session(folder: &FolderName) -> PathBuf {
    Path::new("/downloads").join(folder.as_str())
}

/// FAULTS 44.
#[test]
fn a_second_version_is_stored_beside_the_first() {
    let disk = Arc::new(MemoryDisk::default());
    let root = Path::new("/downloads");
    let known = |_: &ItemId, _: &DocumentId, at: &ArchiveLocation| Ok(at.file == "+t1/+m1.eml");
    let mut has_stored = false;
    let mut open = || {
        let (marker, owner) = write_marker(disk.clone(), "/downloads", has_stored).unwrap();
        has_stored = true;
        Archive::open(marker, owner, known).unwrap()
    };
    let (archive, _) = open();
    let folder = archive.create_session_folder(STARTED, ACCOUNT).unwrap();
    let (item, document) = (ItemId::new("T1"), DocumentId::new("M1"));
    let keep = |version, bytes: &[u8]| {
        let mut draft = archive.spool_document();
        draft.append(bytes).unwrap();
        let mut group = WriteBatch::new(folder.clone());
        group.push(batch_entry(&item, &document, version, draft));
        let (answers, intent) = archive.publish(archive.stage_batch(group).unwrap()).unwrap();
        (answers.into_iter().next().unwrap().unwrap().file, intent)
    };

    let (first, intent) = keep(FIRST_VERSION, b"old");
    archive.clear_intent(intent);
    let (second, _lost) = keep(2, b"new");

    assert_eq!((first.as_str(), second.as_str()), ("+t1/+m1.eml", "+t1/+m1.2.eml"));
    let found = list_orphans(&*disk, root, &folder, 9, known).unwrap();
    assert_eq!(found, [store_session(&folder).join(&second)]);
    let all = |_: &ItemId, _: &DocumentId, _: &ArchiveLocation| Ok(true);
    assert_eq!(list_orphans(&*disk, root, &folder, 9, all).unwrap(), Vec::<PathBuf>::new());

    // The ledger does not have the second version yet: only that is removed.
    let (_, recovered) = open();
    assert_eq!(recovered.removed_documents, 1);
    let files = disk.files().into_iter();
    let is_mail =
        |path: &Path| path.starts_with(store_session(&folder)) && !path.ends_with(MANIFEST_FILE);
    let files: Vec<_> = files.filter(|(path, _)| is_mail(path)).collect();
    assert_eq!(files, [(store_session(&folder).join(first), b"old".to_vec())]);
}
