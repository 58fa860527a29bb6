//! Tests of an archive on a real disk, and of each kind of damage to a file.

use super::*;

#[test]
fn a_real_archive_stores_verifies_and_refuses_a_link() {
    let home = tempfile::tempdir().unwrap();
    let root = home.path().join("downloads");
    let open = || {
        let (marker, owner) =
            write_marker(Arc::new(RealDisk), root.to_str().unwrap(), root.exists()).unwrap();
        FileArchive::open(marker, owner, DocumentFormat::default(), |_, _, _| Ok(false)).unwrap()
    };
    let (archive, _) = open();
    let folder = archive.create_session_folder(STARTED, ACCOUNT).unwrap();
    let session = root.join(folder.as_str());
    let outside = home.path().join("outside");
    RealDisk.create_dir(&outside).unwrap();
    symlink(&outside, session.join(layout::encode_id("T1-0"))).unwrap();

    let mut batch = WriteBatch::new(folder.clone());
    for (item, document) in documents_of_batch(1) {
        let mut spooled = archive.spool_document();
        spooled.append(&document_bytes(&document)).unwrap();
        batch.push(batch_entry(&item, &document, FIRST_VERSION, spooled));
    }
    let (results, intent) = archive.publish(archive.stage(batch).unwrap()).unwrap();
    archive.clear_intent(intent);

    let (published, failed): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
    assert_eq!((published.len(), failed.len()), (11, 1), "the others are kept");
    assert_eq!(RealDisk.list_dir(&outside).unwrap().len(), 0, "nothing went through the link");
    for published in published.into_iter().flatten() {
        let path = session.join(&published.file);
        assert_eq!(
            check_file(&RealDisk, &path, published.length, &published.sha256),
            FileCheck::Intact
        );
    }
    let no_lines = RecordedLines::default();
    let orphans =
        list_orphans(&RealDisk, &root, &folder, &no_lines, 100, |item, document, location| {
            let extension = FileExtension::default();
            let file = layout::document_path(item, document, FIRST_VERSION, &extension);
            Ok(*location == ArchiveLocation { folder: folder.as_str().into(), file })
        });
    assert_eq!(orphans.unwrap(), [session.join("+t1-0")], "only the link is unknown");
    assert_eq!(open().1, RecoveryReport::default());
}

#[test]
fn each_kind_of_damage_has_a_name() {
    let home = tempfile::tempdir().unwrap();
    let path = |name| home.path().join(name);
    for (name, text) in [("intact", "mail"), ("cut", "mai"), ("flipped", "nail")] {
        RealDisk.create_file(&path(name)).unwrap().append(text.as_bytes()).unwrap();
    }
    symlink(path("intact"), path("link")).unwrap();
    let sha256 = sha2::Digest::finalize(<sha2::Sha256 as sha2::Digest>::new_with_prefix("mail"));

    let found = ["intact", "cut", "flipped", "link", "absent"]
        .map(|name| check_file(&RealDisk, &path(name), 4, &sha256.into()).name());

    assert_eq!(found, ["intact", "wrong_length", "wrong_bytes", "not_a_file", "missing"]);
}
