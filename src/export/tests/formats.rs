//! Files of each format.

use super::*;

fn u32_at(bytes: &[u8], at: usize) -> usize {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()).try_into().unwrap()
}

fn u16_at(bytes: &[u8], at: usize) -> usize {
    u16::from_le_bytes(bytes[at..at + 2].try_into().unwrap()).into()
}

/// Reads the entries of a small ZIP file through its central directory, and checks them.
fn read_zip(zip: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let end = zip.len() - 22;
    assert_eq!(u32_at(zip, end), 0x0605_4b50);
    let (count, mut at) = (u16_at(zip, end + 10), u32_at(zip, end + 16));
    assert_eq!(at + u32_at(zip, end + 12), end, "the directory is in front of the end");
    let mut entries = BTreeMap::new();
    for _ in 0..count {
        assert_eq!(u32_at(zip, at), 0x0201_4b50);
        let (name_length, extra_length) = (u16_at(zip, at + 28), u16_at(zip, at + 30));
        let name = text(&zip[at + 46..at + 46 + name_length]).to_owned();
        let (crc, size) = (u32_at(zip, at + 16), u32_at(zip, at + 24));
        let header = u32_at(zip, at + 42);
        assert_eq!(u32_at(zip, header), 0x0403_4b50);
        let start = header + 30 + u16_at(zip, header + 26) + u16_at(zip, header + 28);
        assert_eq!(&zip[header + 30..header + 30 + name_length], name.as_bytes());
        let bytes = zip[start..start + size].to_vec();
        assert_eq!(crc32fast::hash(&bytes) as usize, crc);
        assert_eq!(entries.insert(name, bytes), None);
        at += 46 + name_length + extra_length;
    }
    assert_eq!(at, end);
    entries
}

#[test]
fn a_maildir_has_each_message_in_all_its_folders() {
    let (disk, counts) = TestArchive::of_mailbox().exported(&options(ExportFormat::Maildir));
    let files = exported_files(&disk);

    let expected = ExportCounts {
        messages: 5,
        bytes: MAILBOX.iter().map(|(_, bytes, _)| bytes.len() as u64).sum::<u64>() + 18,
        folders: 5,
        copies: 1,
        earlier_versions: 1,
        ..ExportCounts::default()
    };
    assert_eq!(counts, expected);
    assert_eq!(
        names(&files),
        [
            "Earlier versions/cur/1772874303.D1V1.cynosure,S=18:2,S",
            "INBOX/cur/1772784000.D2V1.cynosure,S=41:2,S",
            "INBOX/cur/1772870400.D1V2.cynosure,S=55:2,S",
            "INBOX/cur/1772874303.D5V1.cynosure,S=0:2,S",
            "No folder/cur/1772874303.D3V1.cynosure,S=29:2,S",
            "README.txt",
            "Work/2026/cur/1772784000.D2V1.cynosure,S=41:2,S",
            "work/2026~2/cur/1772697600.D4V1.cynosure,S=47:2,S",
        ]
    );
    let message = &files["INBOX/cur/1772870400.D1V2.cynosure,S=55:2,S"];
    assert_eq!(text(message), MAILBOX[0].1, "its bytes are those of the archive");
    for folder in ["cur", "new", "tmp"] {
        assert!(disk.list_dir(&Path::new("/out/INBOX").join(folder)).is_ok(), "{folder}");
    }
}

#[test]
fn maildir_plus_plus_has_one_level_and_the_inbox_at_the_root() {
    let [_, plus_plus, ..] = all_options();
    let (disk, _) = TestArchive::of_mailbox().exported(&plus_plus);
    let files = exported_files(&disk);

    let messages = files.keys().filter_map(|name| name.split_once("/17"));
    let folders: Vec<&str> = messages.map(|(folder, _)| folder).collect();
    assert_eq!(
        folders,
        [
            ".Earlier versions/cur",
            ".No folder/cur",
            ".Work.2026/cur",
            ".work.2026~2/cur",
            "cur",
            "cur",
            "cur"
        ]
    );
    assert!(files.contains_key(".Work.2026/maildirfolder"));
}

#[test]
fn each_folder_is_a_file_of_mboxrd() {
    let lf = ExportOptions { line_ends: LineEnds::Lf, ..options(ExportFormat::Mbox) };
    let (disk, counts) = TestArchive::of_mailbox().exported(&lf);
    let files = exported_files(&disk);

    assert_eq!((counts.messages, counts.copies), (5, 1));
    assert_eq!(
        names(&files),
        [
            "Earlier versions.mbox",
            "INBOX.mbox",
            "No folder.mbox",
            "README.txt",
            "Work/2026.mbox",
            "work/2026~2.mbox"
        ]
    );
    let inbox = text(&files["INBOX.mbox"]);
    assert!(inbox.starts_with("From MAILER-DAEMON Sat Mar  7 08:00:00 2026\nDate: "), "{inbox}");
    assert!(inbox.contains("\n>From me\n>>From you\n\nFrom MAILER-DAEMON Fri Mar  6"), "{inbox}");
    let expected = [MAILBOX[0].1, "Date: 6 Mar 2026 08:00:00 +0000\r\n\r\nshared\n", ""]
        .map(|message| message.replace("\r\n", "\n").into_bytes());
    assert_eq!(read_mboxrd(&files["INBOX.mbox"]), expected);
}

#[test]
fn crlf_applies_to_separators_too() {
    let crlf = ExportOptions { line_ends: LineEnds::Crlf, ..options(ExportFormat::Mbox) };
    let mut archive = TestArchive::empty();
    archive.adopt("one", &[("a.eml", "Subject: x\n\nend", &["A"])]);
    let (disk, _) = archive.exported(&crlf);

    assert_eq!(
        text(&exported_files(&disk)["A.mbox"]),
        "From MAILER-DAEMON Sat Mar  7 09:05:03 2026\r\nSubject: x\r\n\r\nend\r\n\r\n"
    );
}

#[test]
fn a_zip_file_has_an_entry_for_each_message_and_folder() {
    let (disk, _) = TestArchive::of_mailbox().exported(&options(ExportFormat::Zip));
    let files = exported_files(&disk);

    assert_eq!(names(&files), ["README.txt", "mail.zip"]);
    let entries = read_zip(&files["mail.zip"]);
    assert_eq!(
        names(&entries),
        [
            "Earlier versions/t/a.eml",
            "INBOX/t/a.eml",
            "INBOX/t/b.eml",
            "INBOX/t/e.eml",
            "No folder/t/c.eml",
            "Work/2026/t/b.eml",
            "work/2026~2/t/d.eml"
        ]
    );
    assert_eq!(text(&entries["INBOX/t/a.eml"]), MAILBOX[0].1);
    assert_eq!(text(&entries["Earlier versions/t/a.eml"]), "Subject: draft\r\n\r\n");
}

#[test]
fn other_documents_are_exported_to_a_zip_file_only() {
    let mut archive = TestArchive::empty();
    archive.adopt("one", &[("j.json", "{\r\n}", &[]), ("m.eml", "x\r\n", &[])]);
    let lines = "{\"a\":1}\n{\"b\":2}\n";
    archive.files.insert(Path::new("/archive/two/records.jsonl").into(), lines.as_bytes().into());
    let mut line = to_adopted("t/line", "{\"b\":2}", &[]);
    line.file = "records.jsonl@8".to_owned();
    archive.ledger.adopt_folder("two", NOW, &[line]).unwrap();

    let lf = ExportOptions { line_ends: LineEnds::Lf, ..options(ExportFormat::Zip) };
    let (disk, counts) = archive.exported(&lf);
    assert_eq!((counts.messages, counts.skipped), (3, 0));
    let entries = read_zip(&exported_files(&disk)["mail.zip"]);
    let expected = ["No folder/t/j.json", "No folder/t/line.json", "No folder/t/m.eml"];
    assert_eq!(names(&entries), expected);
    assert_eq!(text(&entries["No folder/t/line.json"]), "{\"b\":2}");
    assert_eq!(text(&entries["No folder/t/j.json"]), "{\r\n}", "only messages are converted");
    assert_eq!(text(&entries["No folder/t/m.eml"]), "x\n");

    for format in [ExportFormat::Maildir, ExportFormat::Mbox] {
        let (_, counts) = archive.exported(&options(format));
        assert_eq!((counts.messages, counts.skipped), (1, 2));
    }
}

#[test]
fn more_folders_than_open_files_are_written() {
    let mut archive = TestArchive::empty();
    let folders: Vec<String> = (0..150).map(|number| format!("F{number}")).collect();
    let folders: Vec<&str> = folders.iter().map(String::as_str).collect();
    archive.adopt("one", &[("a.eml", "one\n", &folders), ("b.eml", "two\n", &folders)]);

    let (disk, counts) = archive.exported(&options(ExportFormat::Mbox));

    assert_eq!((counts.messages, counts.copies, counts.folders), (2, 298, 150));
    let files = exported_files(&disk);
    for folder in folders {
        let messages = read_mboxrd(&files[&format!("{folder}.mbox")]);
        assert_eq!(messages, [b"one\n", b"two\n"], "{folder}");
    }
}

#[test]
fn the_text_file_explains_the_export() {
    let formats = ["`A/B/cur`", "`.A.B/cur`", "mboxrd", "ZIP"];
    for (options, format) in all_options().into_iter().zip(formats) {
        let (disk, _) = TestArchive::of_mailbox().exported(&options);
        let files = exported_files(&disk);
        let readme = text(&files["README.txt"]);
        let counts = "Source work, account me@example.com:\n           5  messages\n";
        let end = "complete 2026-03-07 09:05:03 UTC";
        for expected in [counts, format, end, "Not included: flags"] {
            assert!(readme.contains(expected), "{expected}: {readme}");
        }
    }
}
