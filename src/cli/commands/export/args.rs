//! Options of `export`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use cynosure_engine::Timestamp;

use crate::app::error::ProgramError;
use crate::cli::time_arg::parse_time_arg;
use crate::export::{ExportFormat, ExportOptions, LineEnds, MaildirLayout, SinceLimit};

#[derive(Debug, Args)]
pub(in crate::cli) struct ExportArgs {
    /// The folder to export into, new or empty; or with an export that was interrupted, which is
    /// continued
    pub dir: PathBuf,
    /// The format of the exported mail
    #[arg(long, value_enum)]
    pub format: ExportFormatArg,
    /// Only this source [default: all, each in a folder of its name]
    #[arg(long, value_name = "NAME")]
    pub source: Option<String>,
    /// Only messages since then: a date, an RFC 3339 time, or "2h" for two hours ago
    #[arg(long, value_name = "WHEN")]
    pub since: Option<String>,
    /// The line ends of messages [default: lf with mbox, otherwise keep]
    #[arg(long, value_enum)]
    pub line_ends: Option<LineEndsArg>,
    /// The arrangement of folders, with `--format maildir` [default: folders]
    #[arg(long, value_enum)]
    pub layout: Option<LayoutArg>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(in crate::cli) enum ExportFormatArg {
    /// A file for each message, in a folder for each folder of the mailbox
    Maildir,
    /// A file for each folder of the mailbox, in the variant mboxrd
    Mbox,
    /// One ZIP file for each source, also with documents that are no messages
    Zip,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(in crate::cli) enum LineEndsArg {
    /// As the server sent them
    Keep,
    /// LF
    Lf,
    /// CRLF
    Crlf,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(in crate::cli) enum LayoutArg {
    /// Nested folders, for mutt, notmuch and mbsync
    Folders,
    /// Maildir++, for Dovecot and Courier
    #[value(name = "maildir++")]
    PlusPlus,
}

impl ExportArgs {
    /// Returns the options of the export, with their defaults.
    ///
    /// # Errors
    /// [`ProgramError::Usage`] for an invalid time, and for a layout of another format.
    pub(super) fn to_options(&self, now: Timestamp) -> Result<ExportOptions, ProgramError> {
        let (format, default_line_ends) = match self.format {
            ExportFormatArg::Maildir => (ExportFormat::Maildir, LineEnds::Keep),
            ExportFormatArg::Mbox => (ExportFormat::Mbox, LineEnds::Lf),
            ExportFormatArg::Zip => (ExportFormat::Zip, LineEnds::Keep),
        };
        if self.layout.is_some() && format != ExportFormat::Maildir {
            let message = "--layout is possible with --format maildir only; leave it out";
            return Err(ProgramError::Usage(message.to_owned()));
        }
        let since = self.since.as_deref().map(|text| {
            let at = parse_time_arg(text, now)?;
            Ok::<_, ProgramError>(SinceLimit { text: text.to_owned(), at })
        });
        Ok(ExportOptions {
            format,
            line_ends: match self.line_ends {
                None => default_line_ends,
                Some(LineEndsArg::Keep) => LineEnds::Keep,
                Some(LineEndsArg::Lf) => LineEnds::Lf,
                Some(LineEndsArg::Crlf) => LineEnds::Crlf,
            },
            layout: match self.layout {
                None | Some(LayoutArg::Folders) => MaildirLayout::Folders,
                Some(LayoutArg::PlusPlus) => MaildirLayout::PlusPlus,
            },
            source: self.source.clone(),
            since: since.transpose()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_772_874_303_456);

    fn args(format: ExportFormatArg) -> ExportArgs {
        ExportArgs {
            dir: PathBuf::from("out"),
            format,
            source: None,
            since: None,
            line_ends: None,
            layout: None,
        }
    }

    #[test]
    fn the_default_line_ends_depend_on_the_format() {
        let line_ends = [ExportFormatArg::Maildir, ExportFormatArg::Mbox, ExportFormatArg::Zip]
            .map(|format| args(format).to_options(NOW).unwrap().line_ends);
        assert_eq!(line_ends, [LineEnds::Keep, LineEnds::Lf, LineEnds::Keep]);
    }

    #[test]
    fn a_layout_of_another_format_is_an_error() {
        let layout = Some(LayoutArg::PlusPlus);
        let maildir = ExportArgs { layout, ..args(ExportFormatArg::Maildir) };
        assert_eq!(maildir.to_options(NOW).unwrap().layout, MaildirLayout::PlusPlus);

        let mbox = ExportArgs { layout, ..args(ExportFormatArg::Mbox) };
        assert!(matches!(mbox.to_options(NOW), Err(ProgramError::Usage(_))));
    }

    #[test]
    fn an_age_counts_from_now() {
        let since = Some("2h".to_owned());
        let options = ExportArgs { since, ..args(ExportFormatArg::Zip) }.to_options(NOW).unwrap();
        let expected = SinceLimit { text: "2h".to_owned(), at: Timestamp(NOW.0 - 7_200_000) };
        assert_eq!(options.since, Some(expected));

        let since = Some("yesterday".to_owned());
        let wrong = ExportArgs { since, ..args(ExportFormatArg::Zip) };
        assert!(matches!(wrong.to_options(NOW), Err(ProgramError::Usage(_))));
    }
}
