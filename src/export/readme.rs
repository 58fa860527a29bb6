//! Text file in an exported folder that explains it.

use cynosure_engine::{Timestamp, format_bytes, format_count, format_utc_date_time, sanitize_line};

use crate::export::options::{ExportFormat, ExportOptions, LineEnds, MaildirLayout};
use crate::export::state::{ExportState, ExportedSource};

/// Name of the file.
pub(super) const README_FILE: &str = "README.txt";

const MAILDIR_TEXT: &str = "\
Format: Maildir. Each message is a file in the subfolder `cur` of its folder. The name of the file
begins with the time of the message in seconds since 1970; the number after `.D` is that of its row
in the ledger, the one after `V` that of its version. All messages are marked as seen. The time of
each file is that of the message. A message in several folders is one file with several names (hard
links) where the filesystem has these.
";

const NESTED_TEXT: &str = "\
Folders are nested: `A/B/cur` (for mutt, notmuch, and mbsync with `SubFolders Verbatim`).
";

const PLUS_PLUS_TEXT: &str = "\
Folders are those of Maildir++: `.A.B/cur`, and the inbox at the root (for Dovecot and Courier).
Their names are in modified UTF-7, as in IMAP. A dot in the name of a folder became `_`, because a
dot separates the levels there.
";

const MBOX_TEXT: &str = "\
Format: mbox, in the variant mboxrd. Each folder is a file that ends in `.mbox`. Before each message
is a line `From MAILER-DAEMON` with its time in UTC, and after it an empty line. A line of a message
that is `From ` after any number of `>` has one more `>`: to get the original, remove one `>` from
each line that is `From ` after at least one `>`. A message in several folders is in each of their
files. A final line end is added to a message that has none.
";

const ZIP_TEXT: &str = "\
Format: ZIP without compression, in `mail.zip`. A message is `FOLDER/THREAD/MESSAGE.eml`, as it is
in the archive. A document that is no message has another extension. A message in several folders is
there several times. Times are in UTC.
";

const NOT_INCLUDED_TEXT: &str = "\
Not included: flags such as \"read\" or \"answered\", which the archive does not have; messages that
were not fetched yet, or that the server refused (`cynosure failures` lists these); messages that
arrived after the export began. Characters that a file name cannot have became `_` in the names of
folders.

Messages without a known folder are in `No folder`, and versions of messages that the server later
replaced in `Earlier versions`.

The folder `.cynosure-export` belongs to the export. It can be deleted.
";

/// Returns the text for an export that is complete.
#[must_use]
pub(super) fn readme_text(state: &ExportState, completed_at: Timestamp) -> String {
    let ExportOptions { format, line_ends, layout, since, .. } = &state.options;
    let mut text = format!(
        "This is mail that cynosure {} exported from its archive with\n\n    cynosure export {}\n\n\
         Begun {} UTC, complete {} UTC.\n\n",
        env!("CARGO_PKG_VERSION"),
        sanitize_line(&state.options.to_arguments()),
        format_utc_date_time(state.started_at),
        format_utc_date_time(completed_at),
    );
    for source in &state.sources {
        text.push_str(&source_text(source));
    }
    if state.sources.len() > 1 {
        text.push_str("Each source is in a folder of its name.\n\n");
    }
    if let Some(since) = since {
        let since = format_utc_date_time(since.at);
        text.push_str(&format!("Messages from before {since} UTC were left out.\n\n"));
    }
    text.push_str(match format {
        ExportFormat::Maildir => MAILDIR_TEXT,
        ExportFormat::Mbox => MBOX_TEXT,
        ExportFormat::Zip => ZIP_TEXT,
    });
    if *format == ExportFormat::Maildir {
        text.push_str(match layout {
            MaildirLayout::Folders => NESTED_TEXT,
            MaildirLayout::PlusPlus => PLUS_PLUS_TEXT,
        });
    }
    text.push_str(match line_ends {
        LineEnds::Keep => "Line ends of messages are as the server sent them.\n\n",
        LineEnds::Lf => "Line ends are LF: each CRLF became LF.\n\n",
        LineEnds::Crlf => "Line ends are CRLF: each LF alone became CRLF.\n\n",
    });
    text.push_str(NOT_INCLUDED_TEXT);
    text
}

fn source_text(source: &ExportedSource) -> String {
    let account = source
        .account
        .as_deref()
        .map_or_else(String::new, |account| format!(", account {}", sanitize_line(account)));
    let mut text = format!("Source {}{account}:\n", source.name);
    let counts = &source.counts;
    let lines = [
        ("messages", counts.messages),
        ("folders", counts.folders),
        ("further copies in other folders", counts.copies),
        ("earlier versions", counts.earlier_versions),
        ("documents that are no messages, left out", counts.skipped),
        ("messages from before the time, left out", counts.older),
        ("missing or damaged in the archive, left out", counts.damaged),
    ];
    for (label, number) in lines {
        text.push_str(&format!("{:>12}  {label}\n", format_count(number)));
    }
    text.push_str(&format!("{:>12}  in total\n\n", format_bytes(counts.bytes)));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::options::SinceLimit;
    use crate::export::state::{ExportCounts, ZipLengths};

    #[test]
    fn the_text_names_options_counts_and_untrusted_text_safely() {
        let since = SinceLimit { text: "\u{1b}[2J".to_owned(), at: Timestamp(0) };
        let options = ExportOptions {
            format: ExportFormat::Mbox,
            line_ends: LineEnds::Crlf,
            layout: MaildirLayout::Folders,
            source: None,
            since: Some(since),
        };
        let source = ExportedSource {
            name: "work".to_owned(),
            account: Some("me\n@example.com".to_owned()),
            ledger: None,
            newest_row: 1,
            last_row: 1,
            is_complete: true,
            counts: ExportCounts { messages: 1_234, older: 5, ..ExportCounts::default() },
            damaged: Vec::new(),
            folders: Vec::new(),
            zip: ZipLengths::default(),
        };

        let text =
            readme_text(&ExportState::new(options, Timestamp(0), vec![source]), Timestamp(0));

        for expected in [
            "cynosure export --format mbox --line-ends crlf --since \\u{1b}[2J\n",
            "Source work, account me\\u{a}@example.com:\n",
            "       1,234  messages\n",
            "           5  messages from before the time, left out\n",
            "Messages from before 1970-01-01 00:00:00 UTC were left out.\n",
            "Line ends are CRLF",
            "mboxrd",
        ] {
            assert!(text.contains(expected), "{expected:?}: {text}");
        }
        assert!(!text.contains('\u{1b}'));
        assert!(text.lines().all(|line| line.len() <= 140), "{text}");
    }
}
