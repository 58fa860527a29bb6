//! Test of several versions of one document.

use super::*;

fn session_path(folder: &FolderName) -> PathBuf {
    Path::new("/downloads").join(folder.as_str())
}

/// FAULTS 44: a document has new content, as on a restored server.
#[test]
fn a_second_version_is_stored_beside_the_first() {
    let disk = Arc::new(MemoryDisk::default());
    let root = Path::new("/downloads");
    let is_first_version =
        |_: &ItemId, _: &DocumentId, location: &ArchiveLocation| Ok(location.file == "+t1/+m1.eml");
    let mut has_stored = false;
    let mut open = || {
        let (marker, owner) = write_marker(disk.clone(), "/downloads", has_stored).unwrap();
        has_stored = true;
        FileArchive::open(marker, owner, DocumentFormat::default(), is_first_version).unwrap()
    };
    let (archive, _) = open();
    let folder = archive.create_session_folder(STARTED, ACCOUNT).unwrap();
    let (item, document) = (ItemId::new("T1"), DocumentId::new("M1"));
    let store = |version, bytes: &[u8]| {
        let mut spooled = archive.spool_document();
        spooled.append(bytes).unwrap();
        let mut batch = WriteBatch::new(folder.clone());
        batch.push(batch_entry(&item, &document, version, spooled));
        let (results, intent) = archive.publish(archive.stage(batch).unwrap()).unwrap();
        (results.into_iter().next().unwrap().unwrap().file, intent)
    };

    let (first, intent) = store(FIRST_VERSION, b"old");
    archive.clear_intent(intent);
    let (second, _intent) = store(2, b"new");

    assert_eq!((first.as_str(), second.as_str()), ("+t1/+m1.eml", "+t1/+m1.2.eml"));
    let no_lines = RecordedLines::default();
    let found = list_orphans(&*disk, root, &folder, &no_lines, 9, is_first_version).unwrap();
    assert_eq!(found, [session_path(&folder).join(&second)]);
    let is_any = |_: &ItemId, _: &DocumentId, _: &ArchiveLocation| Ok(true);
    let found = list_orphans(&*disk, root, &folder, &no_lines, 9, is_any).unwrap();
    assert_eq!(found, Vec::<PathBuf>::new());

    // The ledger does not have the second version yet: only that is removed.
    let (_, report) = open();
    assert_eq!(report.removed_documents, 1);
    let files = disk.files().into_iter();
    let is_mail =
        |path: &Path| path.starts_with(session_path(&folder)) && !path.ends_with(MANIFEST_FILE);
    let files: Vec<_> = files.filter(|(path, _)| is_mail(path)).collect();
    assert_eq!(files, [(session_path(&folder).join(first), b"old".to_vec())]);
}
