//! Mail of the tests: 6,046 messages that were really sent, and crafted ones that careless parsers
//! handle wrongly.

use std::path::Path;

use fs_err as fs;

use crate::prerequisites::skip;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/corpus");

/// Number of messages in the corpus; fewer are a broken download.
pub(crate) const MAILS: usize = 6_046;

/// Length of a line far over the 998 octets that RFC 5322 §2.1.1 allows.
const LONG_LINE_BYTES: usize = 200 << 10;

/// Sizes of large mails: over the ten million octets at which some clients truncate, and over usual
/// limits.
const LARGE_BYTES: [usize; 2] = [12 << 20, 30 << 20];

/// Returns the first `count` real mails; `None` without the corpus.
pub(crate) fn real_mails(count: usize) -> Option<Vec<Vec<u8>>> {
    let Ok(groups) = fs::read_dir(FOLDER) else {
        return skip("the mail corpus (make setup, npm)");
    };
    let mut paths = Vec::new();
    for group in groups {
        let group = group.expect("the corpus can be listed").path();
        paths.extend(
            fs::read_dir(group)
                .expect("a group is a folder")
                .map(|mail| mail.expect("a group can be listed").path()),
        );
    }
    assert_eq!(paths.len(), MAILS, "the corpus in {FOLDER} is incomplete");
    paths.sort();

    Some(paths.iter().take(count).map(|path| read_normalized_mail(path)).collect())
}

/// Reads a mail in the form in which a server stores it: without the mbox `From ` line, and with
/// CRLF line ends.
fn read_normalized_mail(path: &Path) -> Vec<u8> {
    let file = fs::read(path).expect("the corpus can be read");
    assert!(!file.contains(&0), "IMAP cannot transfer NUL bytes, and {} has one", path.display());
    let mut lines = file.split_inclusive(|&byte| byte == b'\n').peekable();
    lines.next_if(|line| line.starts_with(b"From "));

    let mut mail = Vec::with_capacity(file.len() + file.len() / 20);
    for line in lines {
        match line.strip_suffix(b"\n") {
            Some(text) => {
                mail.extend_from_slice(text.strip_suffix(b"\r").unwrap_or(text));
                mail.extend_from_slice(b"\r\n");
            }
            None => mail.extend_from_slice(line),
        }
    }
    mail
}

/// Returns mails whose content careless parsers handle wrongly.
pub(crate) fn crafted_mails() -> Vec<Vec<u8>> {
    let mut mails = vec![
        mail("empty body", b""),
        mail("bare LF", b"one\ntwo\n\nthree\r\n"),
        mail("bare CR", b"one\rtwo\r\rthree\r\n"),
        mail("no final newline", b"the end"),
        mail("dots", b".\r\n..\r\n.\r\nFrom here\r\n"),
        mail("caf\u{e9} \u{1f4ec}", "na\u{ef}ve\r\n".as_bytes()),
        [b"Subject: 8 bits \xe9\xfc\xff\r\nX-\xe4: \x80\r\n\r\n".as_slice(), b"\xa0\xfe\r\n"]
            .concat(),
        mail("a long line", &[b"x".repeat(LONG_LINE_BYTES), b"\r\n".to_vec()].concat()),
    ];
    mails.extend(LARGE_BYTES.map(|size| {
        let lines = (0..size / 64).flat_map(|number| format!("{number:062}\r\n").into_bytes());
        mail("large", &lines.collect::<Vec<_>>())
    }));
    mails
}

fn mail(subject: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("From: a@example.com\r\nTo: b@example.com\r\nSubject: {subject}\r\n\r\n");
    [head.as_bytes(), body].concat()
}
