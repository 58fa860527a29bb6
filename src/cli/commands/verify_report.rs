//! Results of `verify`, as text and as JSON.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;

use cynosure_engine::{ItemId, format_bytes, format_count, sanitize_line};
use serde::Serialize;

use crate::archive::verify::FileCheck;
use crate::config::SourceName;
use crate::human::pluralize;
use crate::ledger::{CounterCheck, StatusCounts};

/// Maximum number of orphan files reported per source, because a wrong folder may contain any
/// number.
pub(super) const ORPHANS_SHOWN_MAX: usize = 100;

/// Problem or orphan file found by `verify`.
#[derive(Debug)]
pub(super) enum VerifyProblem {
    /// A stored document is missing or its file has changed.
    Damaged { path: PathBuf, item: ItemId, check: FileCheck },
    /// A file is not in the ledger. Harmless.
    OrphanFile { path: PathBuf },
    /// SQLite reports that the ledger's file is damaged.
    LedgerDamaged { details: String },
    /// The ledger's counters do not match its rows.
    CounterMismatch(CounterCheck),
}

/// Counts of one source's verification.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct VerifySummary {
    pub items: u64,
    pub documents: u64,
    /// Documents with the bytes, and in the file, of another one.
    pub copies: u64,
    /// Bytes of the files.
    pub bytes: u64,
    /// Missing or damaged documents.
    pub damaged: u64,
    #[serde(rename = "ledger_findings")]
    pub ledger_problems: u64,
    /// Orphan files, at most [`ORPHANS_SHOWN_MAX`].
    #[serde(rename = "not_in_ledger")]
    pub orphans: usize,
}

/// Problem or orphan file in the output of `verify --json`.
#[derive(Serialize)]
pub(super) struct ArchiveProblemJson<'a> {
    source: &'a str,
    #[serde(rename = "finding")]
    kind: &'static str,
    /// File; absent for a problem of the ledger.
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<Cow<'a, str>>,
    /// Item of a missing or damaged document; absent for other problems.
    #[serde(skip_serializing_if = "Option::is_none")]
    item: Option<&'a str>,
    message: String,
}

/// Last line of one source in the output of `verify --json`.
#[derive(Serialize)]
pub(super) struct SourceSummaryJson<'a> {
    source: &'a str,
    summary: SummaryJson,
}

#[derive(Serialize)]
struct SummaryJson {
    #[serde(flatten)]
    counts: VerifySummary,
    #[serde(rename = "well")]
    is_ok: bool,
}

impl VerifyProblem {
    #[must_use]
    pub(super) fn to_json<'a>(&'a self, source: &'a SourceName) -> ArchiveProblemJson<'a> {
        let (kind, path, item) = match self {
            Self::Damaged { path, item, check } => (check.name(), Some(path), Some(item)),
            Self::OrphanFile { path } => ("not_in_ledger", Some(path), None),
            Self::LedgerDamaged { .. } => ("ledger_damaged", None, None),
            Self::CounterMismatch(_) => ("ledger_miscounted", None, None),
        };
        ArchiveProblemJson {
            source: source.as_str(),
            kind,
            path: path.map(|path| path.to_string_lossy()),
            item: item.map(ItemId::as_str),
            message: self.message(),
        }
    }

    fn message(&self) -> String {
        match self {
            Self::Damaged { check, .. } => damage_text(check),
            Self::OrphanFile { .. } => "not in the ledger".to_owned(),
            Self::LedgerDamaged { details } => {
                format!("the ledger is damaged: {}", sanitize_line(details))
            }
            Self::CounterMismatch(check) => format!(
                "the counters of the ledger are {}, but its rows are {}",
                counters_text(check.recorded),
                counters_text(check.counted)
            ),
        }
    }
}

impl fmt::Display for VerifyProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damaged { path, .. } | Self::OrphanFile { path } => {
                write!(f, "{}: {}", sanitize_line(&path.to_string_lossy()), self.message())
            }
            Self::LedgerDamaged { .. } | Self::CounterMismatch(_) => f.write_str(&self.message()),
        }
    }
}

fn damage_text(check: &FileCheck) -> String {
    match check {
        FileCheck::Intact => "intact".to_owned(),
        FileCheck::Missing => "missing".to_owned(),
        FileCheck::NotAFile => "not a regular file".to_owned(),
        FileCheck::WrongLength { expected, found } if found < expected => {
            format!("truncated: {} of {}", format_count(*found), pluralize(*expected, "byte"))
        }
        FileCheck::WrongLength { expected, found } => {
            format!(
                "too long: {} instead of {}",
                pluralize(*found, "byte"),
                format_count(*expected)
            )
        }
        FileCheck::WrongHash => "changed: its SHA-256 is not the recorded one".to_owned(),
        FileCheck::Unreadable { reason } => format!("cannot be read: {reason}"),
    }
}

fn counters_text(counts: StatusCounts) -> String {
    let StatusCounts { pending, stored, gone, quarantined } = counts;
    format!("{pending} pending, {stored} stored, {gone} gone, {quarantined} quarantined")
}

impl VerifySummary {
    #[must_use]
    pub(super) fn is_ok(&self) -> bool {
        self.problems() == 0
    }

    #[must_use]
    pub(super) fn problems(&self) -> u64 {
        self.damaged + self.ledger_problems
    }

    #[must_use]
    pub(super) fn to_json(self, source: &SourceName) -> SourceSummaryJson<'_> {
        SourceSummaryJson {
            source: source.as_str(),
            summary: SummaryJson { counts: self, is_ok: self.is_ok() },
        }
    }
}

/// Formats the summary as `96 documents of 60 items verified, 1.2 MB: OK`.
impl fmt::Display for VerifySummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} of {} verified, {}: ",
            pluralize(self.documents, "document"),
            pluralize(self.items, "item"),
            format_bytes(self.bytes)
        )?;
        let mut parts = Vec::new();
        if self.damaged > 0 {
            parts.push(format!("{} missing or damaged", format_count(self.damaged)));
        }
        if self.ledger_problems > 0 {
            parts.push("the ledger is damaged or inconsistent".to_owned());
        }
        if parts.is_empty() {
            parts.push("OK".to_owned());
        }
        if self.copies > 0 {
            parts.push(format!("{}, stored once", pluralize(self.copies, "copy")));
        }
        if self.orphans > 0 {
            let files = pluralize(self.orphans as u64, "file");
            let more = if self.orphans == ORPHANS_SHOWN_MAX { " or more" } else { "" };
            parts.push(format!("{files}{more} not in the ledger, left unchanged"));
        }
        f.write_str(&parts.join("; "))
    }
}
