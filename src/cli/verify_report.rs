//! What `verify` finds, for people and for programs.

use std::fmt;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::archive::verify::FileCheck;
use crate::config::SourceName;
use crate::engine::{ItemId, sanitize_line};
use crate::human::{format_bytes, format_count, pluralize};
use crate::ledger::{CounterCheck, StatusCounts};

/// Files unknown to the ledger that are named, per source; a wrong folder may hold any number.
pub(super) const ORPHANS_SHOWN_MAX: usize = 100;

/// One thing that is not as it should be, or not known.
#[derive(Debug)]
pub(super) enum VerifyProblem {
    /// A stored document is not what was stored.
    Damaged { path: PathBuf, item: ItemId, check: FileCheck },
    /// A file that the ledger does not know. No harm.
    OrphanFile { path: PathBuf },
    /// SQLite finds fault with the ledger's file.
    LedgerDamaged { details: String },
    /// The ledger's counters and its rows disagree.
    CounterMismatch(CounterCheck),
}

/// What was looked at in one source, and what came of it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct VerifySummary {
    pub items: u64,
    pub documents: u64,
    pub bytes: u64,
    /// Documents.
    pub damaged: u64,
    pub ledger_problems: u64,
    /// At most as many as are named.
    pub orphans: usize,
}

impl VerifyProblem {
    #[must_use]
    pub(super) fn to_json(&self, source: &SourceName) -> Value {
        let mut value = match self {
            Self::Damaged { path, item, check: finding } => json!({
                "finding": finding.name(),
                "path": path.to_string_lossy(),
                "item": item.as_str(),
            }),
            Self::OrphanFile { path } => {
                json!({ "finding": "not_in_ledger", "path": path.to_string_lossy() })
            }
            Self::LedgerDamaged { .. } => json!({ "finding": "ledger_damaged" }),
            Self::CounterMismatch(_) => json!({ "finding": "ledger_miscounted" }),
        };
        value["source"] = source.as_str().into();
        value["message"] = self.kind().into();
        value
    }

    fn kind(&self) -> String {
        match self {
            Self::Damaged { check: finding, .. } => damage_text(finding),
            Self::OrphanFile { .. } => "not in the ledger".to_owned(),
            Self::LedgerDamaged { details: what } => {
                format!("the ledger is damaged: {}", sanitize_line(what))
            }
            Self::CounterMismatch(recount) => format!(
                "the ledger says {}, and has {}",
                counters_text(recount.recorded),
                counters_text(recount.counted)
            ),
        }
    }
}

impl fmt::Display for VerifyProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damaged { path, .. } | Self::OrphanFile { path } => {
                write!(f, "{}: {}", sanitize_line(&path.to_string_lossy()), self.kind())
            }
            Self::LedgerDamaged { .. } | Self::CounterMismatch(_) => f.write_str(&self.kind()),
        }
    }
}

fn damage_text(finding: &FileCheck) -> String {
    match finding {
        FileCheck::Intact => "sound".to_owned(),
        FileCheck::Missing => "missing".to_owned(),
        FileCheck::NotAFile => "not a plain file".to_owned(),
        FileCheck::WrongLength { expected, found } if found < expected => {
            format!("cut short: {} of {}", format_count(*found), pluralize(*expected, "byte"))
        }
        FileCheck::WrongLength { expected, found } => {
            format!(
                "grown: {} where {} were stored",
                pluralize(*found, "byte"),
                format_count(*expected)
            )
        }
        FileCheck::WrongHash => "changed: its bytes are not those that were stored".to_owned(),
        FileCheck::Unreadable { reason: why } => format!("cannot be read: {why}"),
    }
}

fn counters_text(items: StatusCounts) -> String {
    let StatusCounts { pending, stored, gone, quarantined } = items;
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
    pub(super) fn to_json(self, source: &SourceName) -> Value {
        json!({
            "source": source.as_str(),
            "summary": {
                "items": self.items,
                "documents": self.documents,
                "bytes": self.bytes,
                "damaged": self.damaged,
                "ledger_findings": self.ledger_problems,
                "not_in_ledger": self.orphans,
                "well": self.is_ok(),
            },
        })
    }
}

/// `96 documents of 60 items verified, 1.2 MB: all well`.
impl fmt::Display for VerifySummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} of {} verified, {}: ",
            pluralize(self.documents, "document"),
            pluralize(self.items, "item"),
            format_bytes(self.bytes)
        )?;
        let mut told = Vec::new();
        if self.damaged > 0 {
            told.push(format!("{} missing or damaged", format_count(self.damaged)));
        }
        if self.ledger_problems > 0 {
            told.push("the ledger does not agree with itself".to_owned());
        }
        if told.is_empty() {
            told.push("all well".to_owned());
        }
        if self.orphans > 0 {
            let files = pluralize(self.orphans as u64, "file");
            let more = if self.orphans == ORPHANS_SHOWN_MAX { " or more" } else { "" };
            told.push(format!("{files}{more} not in the ledger, left alone"));
        }
        f.write_str(&told.join("; "))
    }
}
