//! Options of an export, as the user gives them and the state file keeps them.

use cynosure_engine::Timestamp;
use serde::{Deserialize, Serialize};

/// Format of an export.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ExportFormat {
    /// A file for each message, in a folder for each folder of the mailbox.
    Maildir,
    /// A file in the format mboxrd for each folder of the mailbox.
    Mbox,
    /// One ZIP file for each source.
    Zip,
}

/// Line ends of the exported messages.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LineEnds {
    /// As the server sent them.
    Keep,
    /// Each CRLF becomes LF.
    Lf,
    /// Each LF without a CR becomes CRLF.
    Crlf,
}

/// Arrangement of the folders of a Maildir.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum MaildirLayout {
    /// Nested folders: `A/B/cur`.
    #[serde(rename = "folders")]
    Folders,
    /// Maildir++: `.A.B/cur`, and the inbox at the root.
    #[serde(rename = "maildir++")]
    PlusPlus,
}

/// Time from which on messages are exported.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct SinceLimit {
    /// As the user wrote it. An age such as `2h` counts from the beginning of the export.
    pub text: String,
    pub at: Timestamp,
}

/// Options of an export.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ExportOptions {
    pub format: ExportFormat,
    pub line_ends: LineEnds,
    /// Used by a Maildir only.
    pub layout: MaildirLayout,
    /// Name of the only source; `None` for all.
    pub source: Option<String>,
    pub since: Option<SinceLimit>,
}

impl ExportFormat {
    /// Returns the name, as in `--format`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Maildir => "maildir",
            Self::Mbox => "mbox",
            Self::Zip => "zip",
        }
    }

    /// True if only messages can be exported, and no documents of other formats.
    #[must_use]
    pub fn is_for_mail_only(self) -> bool {
        match self {
            Self::Maildir | Self::Mbox => true,
            Self::Zip => false,
        }
    }
}

impl LineEnds {
    /// Returns the name, as in `--line-ends`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Lf => "lf",
            Self::Crlf => "crlf",
        }
    }
}

impl MaildirLayout {
    /// Returns the name, as in `--layout`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Folders => "folders",
            Self::PlusPlus => "maildir++",
        }
    }
}

impl ExportOptions {
    /// Returns the options as arguments of the command, in a fixed order.
    #[must_use]
    pub fn to_arguments(&self) -> String {
        let mut text = format!("--format {}", self.format.name());
        text.push_str(&format!(" --line-ends {}", self.line_ends.name()));
        if self.format == ExportFormat::Maildir {
            text.push_str(&format!(" --layout {}", self.layout.name()));
        }
        if let Some(source) = &self.source {
            text.push_str(&format!(" --source {source}"));
        }
        if let Some(since) = &self.since {
            text.push_str(&format!(" --since {}", since.text));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_written_as_arguments() {
        let options = ExportOptions {
            format: ExportFormat::Mbox,
            line_ends: LineEnds::Lf,
            layout: MaildirLayout::Folders,
            source: None,
            since: None,
        };
        assert_eq!(options.to_arguments(), "--format mbox --line-ends lf");

        let since = SinceLimit { text: "2h".to_owned(), at: Timestamp(7) };
        let options = ExportOptions {
            format: ExportFormat::Maildir,
            layout: MaildirLayout::PlusPlus,
            source: Some("work".to_owned()),
            since: Some(since),
            ..options
        };
        assert_eq!(
            options.to_arguments(),
            "--format maildir --line-ends lf --layout maildir++ --source work --since 2h"
        );
    }
}
