//! Summary of the last session of a source, and the growth of its archive.

use std::path::Path;

use cynosure_engine::Timestamp;

use crate::app::error::ProgramError;
use crate::app::session_summary::{SummaryLine, session_summary};
use crate::app::sources::SourceRef;
use crate::endpoint::view::{ArchiveDay, GROWTH_STEP, SourceSummary, SummaryEntry};
use crate::ledger::{ArchiveTotals, SessionTotals};

/// Days of growth, with today.
const GROWTH_DAYS: u32 = 30;

/// Reads the ledger of a source. The summary is empty if the source has never run.
///
/// # Errors
/// If the ledger exists and cannot be read.
pub(super) fn read_source_summary(
    source: &SourceRef,
    archive_dir: &Path,
    now: Timestamp,
) -> Result<SourceSummary, ProgramError> {
    let Some(ledger) = source.open_ledger()? else { return Ok(SourceSummary::default()) };
    let totals = ledger.archive_totals()?;
    let sessions = ledger.session_totals_since(first_day(now))?;
    let lines = session_summary(source, archive_dir, now)?;
    Ok(SourceSummary {
        entries: lines.into_iter().map(summary_entry).collect(),
        growth: archive_growth(totals, &sessions, now),
    })
}

fn summary_entry(line: SummaryLine) -> SummaryEntry {
    SummaryEntry { label: line.label.to_owned(), text: line.text }
}

/// Returns the size of the archive at the end of each day until today. `sessions` are those since
/// the first of these days, oldest first; the archive had the rest of the totals before them.
fn archive_growth(
    totals: ArchiveTotals,
    sessions: &[SessionTotals],
    now: Timestamp,
) -> Vec<ArchiveDay> {
    let (first, today) = (first_day(now), day_start(now));
    let mut size = size_before(totals, sessions);
    let mut has_session = size != ArchiveTotals::default();
    let mut sessions = sessions.iter().peekable();
    let days = (0..GROWTH_DAYS).map(|index| {
        let starts_at = first.after(GROWTH_STEP * index);
        // A clock that was set back leaves sessions in the future.
        let is_over = |session: &&SessionTotals| {
            starts_at == today || session.started_at < starts_at.after(GROWTH_STEP)
        };
        while let Some(session) = sessions.next_if(is_over) {
            size = add_session(size, session);
            has_session = true;
        }
        let known = has_session.then_some(size);
        ArchiveDay {
            starts_at,
            documents: known.map(|size| size.documents),
            bytes: known.map(|size| size.bytes),
        }
    });
    days.collect()
}

/// Returns what the archive had before these sessions.
fn size_before(totals: ArchiveTotals, sessions: &[SessionTotals]) -> ArchiveTotals {
    let stored = sessions.iter().fold(ArchiveTotals::default(), add_session);
    ArchiveTotals {
        documents: totals.documents.saturating_sub(stored.documents),
        bytes: totals.bytes.saturating_sub(stored.bytes),
    }
}

fn add_session(size: ArchiveTotals, session: &SessionTotals) -> ArchiveTotals {
    ArchiveTotals {
        documents: size.documents.saturating_add(session.documents),
        bytes: size.bytes.saturating_add(session.bytes),
    }
}

fn first_day(now: Timestamp) -> Timestamp {
    day_start(now).before(GROWTH_STEP * (GROWTH_DAYS - 1))
}

/// Returns the start of the day in UTC, as the steps of a time series have it.
fn day_start(now: Timestamp) -> Timestamp {
    let step = i64::try_from(GROWTH_STEP.as_millis()).unwrap_or(i64::MAX);
    Timestamp(now.0.saturating_sub(now.0.rem_euclid(step)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-03-07 14:05:03 UTC.
    const NOW: Timestamp = Timestamp(1_772_892_303_000);

    fn session(days_ago: u32, documents: u64) -> SessionTotals {
        let started_at = NOW.before(GROWTH_STEP * days_ago);
        SessionTotals { started_at, documents, bytes: documents * 100 }
    }

    fn totals(documents: u64) -> ArchiveTotals {
        ArchiveTotals { documents, bytes: documents * 100 }
    }

    /// Returns the documents of the last days, the newest last.
    fn last_documents(growth: &[ArchiveDay], days: usize) -> Vec<Option<u64>> {
        growth[growth.len() - days..].iter().map(|day| day.documents).collect()
    }

    #[test]
    fn each_day_has_the_size_at_its_end() {
        let sessions = [session(3, 4), session(3, 1), session(1, 2)];
        let growth = archive_growth(totals(17), &sessions, NOW);

        assert_eq!(growth.len(), 30);
        assert_eq!(last_documents(&growth, 5), [10, 15, 15, 17, 17].map(Some));
        assert_eq!((growth[0].documents, growth[0].bytes), (Some(10), Some(1000)));
        assert_eq!(growth[29].bytes, Some(1700));
        let dates = [growth[0], growth[29]].map(|day| day.starts_at.to_string());
        assert_eq!(dates, ["2026-02-06T00:00:00.000Z", "2026-03-07T00:00:00.000Z"]);
    }

    #[test]
    fn days_before_the_first_session_are_empty() {
        let growth = archive_growth(totals(6), &[session(2, 0), session(0, 6)], NOW);

        assert_eq!(last_documents(&growth, 4), [None, Some(0), Some(0), Some(6)]);
        assert!(growth[..27].iter().all(|day| day.documents.is_none() && day.bytes.is_none()));

        let never = archive_growth(totals(0), &[], NOW);
        assert!(never.iter().all(|day| day.documents.is_none()), "{never:?}");
    }

    #[test]
    fn sessions_in_the_future_count_today() {
        let future = SessionTotals { started_at: NOW.after(GROWTH_STEP * 400), ..session(0, 5) };

        let growth = archive_growth(totals(9), &[session(1, 4), future, session(0, 0)], NOW);

        assert_eq!(last_documents(&growth, 3), [None, Some(4), Some(9)]);
    }

    #[test]
    fn inconsistent_totals_and_extreme_times_give_thirty_days() {
        // The worker may commit between the two reads.
        let growth = archive_growth(totals(3), &[session(1, 5)], NOW);
        assert_eq!(last_documents(&growth, 2), [Some(5), Some(5)]);

        let huge = SessionTotals { documents: u64::MAX, bytes: u64::MAX, ..session(0, 0) };
        for now in [NOW, Timestamp(i64::MIN), Timestamp(i64::MAX), Timestamp(0)] {
            let growth = archive_growth(totals(u64::MAX / 100), &[huge, huge], now);
            assert_eq!((growth.len(), growth[29].documents), (30, Some(u64::MAX)), "{now:?}");
        }
    }
}
