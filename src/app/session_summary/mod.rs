//! Summary of the last completed session of a source, for people: what is in the archive, what is
//! new, what is missing, and what comes next.

use std::path::Path;
use std::time::Duration;

use cynosure_engine::{
    Cause, Timestamp, format_bytes, format_count, format_duration, sanitize_line,
};
use tokio::sync::watch;

use crate::app::error::ProgramError;
use crate::app::sources::SourceRef;
use crate::config::{KindSettings, SourceSettings};
use crate::human::{format_date_time, format_rate, humanize, pluralize};
use crate::ledger::{ArchiveTotals, LastSession, SessionRow};
use crate::state::{ExecutionState, SourceState};
use crate::worker::SourceProgress;

/// Documents from which on a session tells how fast its source is. Fewer say little about more.
const RATE_DOCUMENTS_MIN: u64 = 10;

/// Number of new documents for which the summary estimates the time.
const ESTIMATE_DOCUMENTS: u64 = 100;

/// Built-in profiles of REST sources whose documents are messages.
const MAIL_PROFILES: [&str; 3] = ["gmail", "graph", "mailru"];

/// Kinds whose documents are messages, as the state file names them.
const MAIL_PROTOCOLS: [&str; 2] = ["jmap", "imap"];

/// Line of a summary: a label and its text. Texts are safe for a terminal.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct SummaryLine {
    pub label: &'static str,
    pub text: String,
}

/// Facts of a summary.
#[derive(Debug)]
struct SummaryFacts<'a> {
    source: &'a str,
    account: Option<String>,
    noun: DocumentNoun,
    folders: u64,
    archive: ArchiveTotals,
    /// Newest session that stored a document.
    transfer: Option<SessionTransfer>,
    /// That is the last completed session, which is summarized.
    has_new: bool,
    gone: u64,
    /// Quarantined items by cause, the most frequent first.
    quarantined: Vec<(Option<Cause>, u64)>,
    archive_dir: &'a Path,
    complete_until: Option<Timestamp>,
    poll_interval: Option<Duration>,
}

/// Documents and bytes that a session stored, and its duration.
#[derive(Clone, Copy, Debug)]
struct SessionTransfer {
    started_at: Timestamp,
    documents: u64,
    bytes: u64,
    duration: Duration,
}

/// Word for the documents of a source.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum DocumentNoun {
    Message,
    Document,
}

/// Returns the summary of the last completed session of a source; empty if there was none.
///
/// # Errors
/// If the ledger exists and cannot be read.
pub(crate) fn session_summary(
    source: &SourceRef,
    archive_dir: &Path,
    now: Timestamp,
) -> Result<Vec<SummaryLine>, ProgramError> {
    let Some(ledger) = source.open_ledger()? else { return Ok(Vec::new()) };
    let state = match source.folder.read_state() {
        SourceState::Read(state, _) => Some(state),
        SourceState::NeverRun | SourceState::Unreadable(_) => None,
    };
    let Some(last) = ledger.last_session()? else { return Ok(Vec::new()) };
    let LastSession { session, transfer, archive, folders, gone_items, quarantined_items } = last;
    let settings = source.settings.as_ref();
    Ok(summary_lines(&SummaryFacts {
        source: source.name.as_str(),
        account: account_text(settings, state.as_deref()),
        noun: document_noun(settings, state.as_deref()),
        folders,
        archive,
        has_new: transfer.as_ref().is_some_and(|transfer| transfer.id == session.id),
        transfer: transfer.as_ref().map(SessionTransfer::of),
        gone: gone_items,
        quarantined: quarantined_items,
        archive_dir,
        // A clock that was set back must not promise the future.
        complete_until: state.as_ref().and_then(|state| state.complete_until).min(Some(now)),
        poll_interval: settings.map(|settings| settings.poll_interval),
    }))
}

/// Calls `on_completed` for each session that a source completes after `now`, until the sender of
/// its progress is dropped.
pub(crate) async fn watch_sessions(
    mut progress: watch::Receiver<SourceProgress>,
    now: Timestamp,
    on_completed: impl Fn(),
) {
    let mut last_completed_at = now;
    while progress.changed().await.is_ok() {
        let completed_at = progress.borrow_and_update().completed_at;
        if let Some(at) = completed_at.filter(|at| *at > last_completed_at) {
            last_completed_at = at;
            on_completed();
        }
    }
}

/// Formats the duration of a transfer, with a decimal if it is short.
#[must_use]
pub(crate) fn transfer_time(duration: Duration) -> String {
    match duration.as_secs() {
        ..10 => format!("{:.1} s", duration.as_secs_f64()),
        10.. => format_duration(duration),
    }
}

fn summary_lines(facts: &SummaryFacts<'_>) -> Vec<SummaryLine> {
    let archive = facts.archive;
    let size = format!("{} in {}", format_count(archive.documents), format_bytes(archive.bytes));
    let folders = (facts.folders > 0).then(|| format_count(facts.folders));
    let lines = [
        ("account", facts.account.clone()),
        ("folders", folders),
        (facts.noun.label(), Some(size)),
        ("new", Some(new_text(facts))),
        ("missing", missing_text(facts)),
        ("archive", Some(archive_text(facts))),
        ("next", next_text(facts)),
    ];
    let lines = lines.into_iter().filter_map(|(label, text)| Some((label, text?)));
    lines.map(|(label, text)| SummaryLine { label, text }).collect()
}

fn account_text(
    settings: Option<&SourceSettings>,
    state: Option<&ExecutionState>,
) -> Option<String> {
    match (settings, state) {
        (Some(settings), _) => {
            let (account, host) = (sanitize_line(&settings.account), settings.kind.host());
            let kind = mail_profile(&settings.kind).unwrap_or_else(|| settings.kind.name());
            Some(format!("{account} at {} ({kind})", sanitize_line(host)))
        }
        (None, Some(state)) => {
            Some(format!("{} ({})", sanitize_line(&state.account), sanitize_line(&state.kind)))
        }
        (None, None) => None,
    }
}

fn document_noun(
    settings: Option<&SourceSettings>,
    state: Option<&ExecutionState>,
) -> DocumentNoun {
    let is_mail = match (settings.map(|settings| &settings.kind), state) {
        // A kind without a profile is a protocol for mail.
        (Some(kind), _) => kind.rest().is_none() || mail_profile(kind).is_some(),
        (None, Some(state)) => MAIL_PROTOCOLS.contains(&state.kind.as_str()),
        (None, None) => false,
    };
    if is_mail { DocumentNoun::Message } else { DocumentNoun::Document }
}

/// Returns the built-in profile of a source, if its documents are messages.
fn mail_profile(kind: &KindSettings) -> Option<&str> {
    kind.profile().filter(|profile| MAIL_PROFILES.contains(profile))
}

/// Returns what the session stored. If that is nothing, also what the last one before it stored.
fn new_text(facts: &SummaryFacts<'_>) -> String {
    let Some(transfer) = facts.transfer else { return "none".to_owned() };
    let text = transfer_text(transfer, facts.noun);
    if facts.has_new {
        return text;
    }
    format!("none; last on {}: {text}", format_date_and_minute(transfer.started_at))
}

/// Returns what a session stored, with its time and rate; without them if it took no time, as one
/// that was adopted from the archive.
fn transfer_text(transfer: SessionTransfer, noun: DocumentNoun) -> String {
    let documents = pluralize(transfer.documents, noun.singular());
    let text = format!("{documents}, {}", format_bytes(transfer.bytes));
    match transfer.per_second() {
        Some(rate) => {
            format!("{text}, in {}, {}", transfer_time(transfer.duration), format_rate(rate))
        }
        None => text,
    }
}

/// Returns the numbers of items that are not in the archive, with the causes. `None` if nothing is
/// missing.
fn missing_text(facts: &SummaryFacts<'_>) -> Option<String> {
    let quarantined: u64 = facts.quarantined.iter().map(|(_, count)| *count).sum();
    let mut parts = Vec::new();
    if facts.gone > 0 {
        let pronoun = if facts.gone == 1 { "it was" } else { "they were" };
        parts.push(format!("{} gone before {pronoun} fetched", format_count(facts.gone)));
    }
    if quarantined > 0 {
        let cause_text = |(cause, count): &(Option<Cause>, u64)| {
            let cause = cause.map_or_else(|| "other".to_owned(), |cause| humanize(cause.name()));
            format!("{} {cause}", format_count(*count))
        };
        let causes: Vec<String> = facts.quarantined.iter().map(cause_text).collect();
        parts.push(format!("{} quarantined ({})", format_count(quarantined), causes.join(", ")));
    }
    let pronoun = if facts.gone + quarantined == 1 { "it" } else { "them" };
    let command = format!("`cynosure failures {}` shows {pronoun}", facts.source);
    (!parts.is_empty()).then(|| format!("{}: {command}", parts.join("; ")))
}

fn archive_text(facts: &SummaryFacts<'_>) -> String {
    let dir = sanitize_line(&facts.archive_dir.display().to_string());
    match facts.complete_until {
        Some(until) => format!("{dir}, complete until {}", format_date_and_minute(until)),
        None => dir,
    }
}

/// Returns how long new documents take, estimated from the session, and when they are looked for.
fn next_text(facts: &SummaryFacts<'_>) -> Option<String> {
    let estimate = facts.transfer.and_then(|transfer| transfer.estimate_time(ESTIMATE_DOCUMENTS));
    let estimate = estimate.map(|time| {
        let (noun, time) = (facts.noun.label(), format_duration(time));
        format!("{ESTIMATE_DOCUMENTS} new {noun} take about {time}")
    });
    let poll = facts
        .poll_interval
        .map(|interval| format!("`cynosure run` polls every {}", format_duration(interval)));
    let parts: Vec<String> = estimate.into_iter().chain(poll).collect();
    (!parts.is_empty()).then(|| parts.join("; "))
}

/// Formats a date and time in local time, to the minute: `2024-05-09 14:05`.
fn format_date_and_minute(at: Timestamp) -> String {
    let mut text = format_date_time(at);
    if text.matches(':').count() == 2 {
        text.truncate(text.len() - ":00".len());
    }
    text
}

impl SessionTransfer {
    fn of(session: &SessionRow) -> Self {
        let completed_at = session.completed_at.unwrap_or(session.started_at);
        Self {
            started_at: session.started_at,
            documents: session.counts.documents,
            bytes: session.counts.bytes,
            duration: completed_at.since(session.started_at),
        }
    }

    /// Returns the documents per second; `None` if the session took no time.
    #[expect(clippy::cast_precision_loss, reason = "a rate shown to users")]
    fn per_second(self) -> Option<f64> {
        (!self.duration.is_zero()).then(|| self.documents as f64 / self.duration.as_secs_f64())
    }

    /// Returns the time that `documents` more take at the same rate, in whole seconds, rounded up.
    /// `None` if the session stored too few for a rate, or took no time.
    fn estimate_time(self, documents: u64) -> Option<Duration> {
        if self.documents < RATE_DOCUMENTS_MIN || self.duration.is_zero() {
            return None;
        }
        let millis = self.duration.as_millis().saturating_mul(u128::from(documents));
        let millis = millis.checked_div(u128::from(self.documents))?;
        Some(Duration::from_secs(u64::try_from(millis.div_ceil(1000)).ok()?.max(1)))
    }
}

impl DocumentNoun {
    fn singular(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::Document => "document",
        }
    }

    /// Returns the label of the line with the number of documents.
    fn label(self) -> &'static str {
        match self {
            Self::Message => "messages",
            Self::Document => "documents",
        }
    }
}

#[cfg(test)]
mod tests;
