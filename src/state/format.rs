//! Format of the state file, key by key.

use cynosure_engine::{SessionId, Status, Timestamp};
use serde::{Deserialize, Serialize};

use crate::state::serde_with;

/// Schema version that is read and written.
pub const SCHEMA: u32 = 1;

/// Published state of one source.
///
/// Times are RFC 3339 in UTC; a value that does not apply is null. Readers ignore keys that they do
/// not know. A key that is added has a default, or else the schema number changes.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[expect(clippy::struct_excessive_bools, reason = "each is a key of a file that others read")]
pub struct ExecutionState {
    pub schema: u32,
    pub source: String,
    pub account: String,
    pub provider: String,
    /// Protocol of the source, such as `jmap`.
    pub kind: String,

    #[serde(with = "serde_with::status")]
    pub status: Status,
    #[serde(with = "serde_with::timestamp")]
    pub state_since: Timestamp,
    /// End of the current state, or the latest time at which it is checked.
    #[serde(with = "serde_with::optional_timestamp")]
    #[serde(rename = "until")]
    pub state_until: Option<Timestamp>,
    /// Reason for the current state, as text for the operator.
    pub reason: String,
    /// State that follows the current wait.
    #[serde(with = "serde_with::optional_status")]
    #[serde(rename = "resume_to")]
    pub resume_state: Option<Status>,
    /// True if the wait ends with a restart, because the retries are used up.
    #[serde(rename = "restart_when_due")]
    pub should_restart_when_due: bool,

    #[serde(with = "serde_with::optional_session_id")]
    pub session_id: Option<SessionId>,
    #[serde(with = "serde_with::optional_timestamp")]
    pub start_time: Option<Timestamp>,
    #[serde(with = "serde_with::optional_timestamp")]
    pub completion_time: Option<Timestamp>,
    /// Time when the source was last polled for changes.
    #[serde(with = "serde_with::optional_timestamp")]
    #[serde(rename = "last_look")]
    pub last_poll: Option<Timestamp>,
    /// True while everything is listed, because the source no longer accepts the cursor.
    #[serde(rename = "listing_everything")]
    pub is_full_listing: bool,
    /// True while changes found during a download are listed in the same session.
    #[serde(default)]
    #[serde(rename = "listing_news")]
    pub is_listing_changes: bool,

    /// Items of this session.
    pub total_threads: u64,
    pub downloaded_threads: u64,
    pub gone: u64,
    pub quarantined: u64,
    /// Documents of the session with new content; the stored version is kept.
    #[serde(default)]
    pub versions: u64,
    /// Documents of the session whose bytes were in the archive already, and are stored once.
    #[serde(default)]
    pub copies: u64,
    /// Bytes of the documents that the session has fetched.
    #[serde(default)]
    pub fetched_bytes: u64,
    /// Estimated bytes of all documents that the session is to fetch; null if no size is known.
    #[serde(default)]
    pub expected_bytes: Option<u64>,
    pub waiting_for_retry: u64,
    /// Total number of documents, as the server reported it when the listing began.
    pub expected_documents: Option<u64>,
    /// Items per second, over the last half minute.
    pub rate_per_second: Option<f64>,
    #[serde(with = "serde_with::timestamp")]
    pub last_progress: Timestamp,
    /// Time when the newest successful request for an item was sent.
    #[serde(default, with = "serde_with::optional_timestamp")]
    pub last_success: Option<Timestamp>,

    /// Errors of the session, not of items: in total, and since the last progress.
    pub error_count: u32,
    pub consecutive_errors: u32,
    /// Number of the retry that is waited for or running.
    pub retry_count: u32,
    pub restart_count: u32,
    #[serde(default)]
    pub last_restart: Option<RecordedRestart>,
    pub last_error: Option<RecordedError>,
    #[serde(rename = "rate_limited")]
    pub is_rate_limited: bool,
    #[serde(with = "serde_with::optional_timestamp")]
    pub rate_limit_until: Option<Timestamp>,
    pub rate_limits_in_a_row: u32,
    /// Listings in a row that ended before the server's own total.
    #[serde(default)]
    pub incomplete_listings_in_a_row: u32,

    /// Documents that the sessions have stored in the archive, earlier versions included; null if
    /// they are not counted yet. Copies share a file, and are not counted.
    #[serde(default)]
    pub archive_documents: Option<u64>,
    /// Bytes of these documents.
    #[serde(default)]
    pub archive_bytes: Option<u64>,
    /// Time up to which the archive is complete: everything that the server had then is stored,
    /// gone or quarantined.
    #[serde(default, with = "serde_with::optional_timestamp")]
    pub complete_until: Option<Timestamp>,
    /// Time up to which everything is listed, once the open session's listing is complete. It
    /// becomes `complete_until` when all of that is settled.
    #[serde(default, with = "serde_with::optional_timestamp")]
    pub listed_until: Option<Timestamp>,

    #[serde(with = "serde_with::timestamp")]
    pub last_updated: Timestamp,
    /// Process id of the worker; null when it has exited.
    pub pid: Option<u32>,
    /// Version of the worker's program.
    pub version: String,
}

impl ExecutionState {
    /// Returns the state as the JSON text that the file and the ledger store.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Serialization cannot fail: all keys are strings, and the numbers are finite.
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// Parses the text that [`to_json`](Self::to_json) returned; `None` if it is damaged or
    /// of a newer version.
    #[must_use]
    pub fn from_json(text: &str) -> Option<Self> {
        let state: Self = serde_json::from_str(text).ok()?;
        (state.schema <= SCHEMA).then_some(state)
    }
}

/// Last error of the source.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct RecordedError {
    /// Family of the cause, such as `TEMPORARY`.
    #[serde(rename = "type")]
    pub cause_family: String,
    pub cause: String,
    pub message: String,
    #[serde(with = "serde_with::timestamp")]
    pub at: Timestamp,
}

/// Last restart that the worker itself requested.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct RecordedRestart {
    /// One of the words `completed`, `errors`, `authentication`, `stuck`, `execution_time`.
    pub cause: String,
    #[serde(with = "serde_with::timestamp")]
    pub at: Timestamp,
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// 2026-03-07 09:05:03.456 UTC.
    const NOW: Timestamp = Timestamp(1_772_874_303_456);

    pub(crate) fn example_state() -> ExecutionState {
        ExecutionState {
            schema: SCHEMA,
            source: "work".to_owned(),
            account: "me@example.com".to_owned(),
            provider: "example".to_owned(),
            kind: "jmap".to_owned(),
            status: Status::RateLimited,
            state_since: NOW,
            state_until: Some(Timestamp(NOW.0 + 300_000)),
            reason: "the server said: retry after 300 s".to_owned(),
            resume_state: Some(Status::Downloading),
            should_restart_when_due: false,
            session_id: Some(SessionId::new("session_1772874000")),
            start_time: Some(Timestamp(1_772_874_000_000)),
            completion_time: None,
            last_poll: Some(Timestamp(1_772_874_000_000)),
            is_full_listing: false,
            is_listing_changes: false,
            total_threads: 2000,
            downloaded_threads: 812,
            gone: 1,
            quarantined: 2,
            versions: 0,
            copies: 0,
            fetched_bytes: 1_234_567_890,
            expected_bytes: Some(3_400_000_000),
            waiting_for_retry: 3,
            expected_documents: Some(3200),
            rate_per_second: Some(14.25),
            last_progress: NOW,
            last_success: Some(NOW),
            error_count: 4,
            consecutive_errors: 0,
            retry_count: 1,
            restart_count: 1,
            last_restart: Some(RecordedRestart { cause: "errors".to_owned(), at: NOW }),
            last_error: Some(RecordedError {
                cause_family: "TEMPORARY".to_owned(),
                cause: "server".to_owned(),
                message: "503 from api.example.com".to_owned(),
                at: NOW,
            }),
            is_rate_limited: true,
            rate_limit_until: Some(Timestamp(NOW.0 + 300_000)),
            rate_limits_in_a_row: 1,
            incomplete_listings_in_a_row: 0,
            archive_documents: Some(81_112),
            archive_bytes: Some(4_200_000_000),
            complete_until: Some(Timestamp(1_772_787_600_000)),
            listed_until: Some(Timestamp(1_772_874_000_000)),
            last_updated: NOW,
            pid: Some(4711),
            version: "0.1.0".to_owned(),
        }
    }

    #[test]
    fn a_file_without_newer_keys_is_read() {
        let mut old = serde_json::to_value(example_state()).unwrap();
        for key in ["last_restart", "archive_documents", "archive_bytes", "complete_until"] {
            old.as_object_mut().unwrap().remove(key).unwrap();
        }

        let read = ExecutionState::from_json(&old.to_string()).unwrap();

        let expected = ExecutionState {
            last_restart: None,
            archive_documents: None,
            archive_bytes: None,
            complete_until: None,
            ..example_state()
        };
        assert_eq!(read, expected);
    }

    #[test]
    fn the_file_format_is_unchanged() {
        let json = serde_json::to_string_pretty(&example_state()).unwrap();

        insta::assert_snapshot!(json, @r#"
        {
          "schema": 1,
          "source": "work",
          "account": "me@example.com",
          "provider": "example",
          "kind": "jmap",
          "status": "rate_limited",
          "state_since": "2026-03-07T09:05:03.456Z",
          "until": "2026-03-07T09:10:03.456Z",
          "reason": "the server said: retry after 300 s",
          "resume_to": "downloading",
          "restart_when_due": false,
          "session_id": "session_1772874000",
          "start_time": "2026-03-07T09:00:00.000Z",
          "completion_time": null,
          "last_look": "2026-03-07T09:00:00.000Z",
          "listing_everything": false,
          "listing_news": false,
          "total_threads": 2000,
          "downloaded_threads": 812,
          "gone": 1,
          "quarantined": 2,
          "versions": 0,
          "copies": 0,
          "fetched_bytes": 1234567890,
          "expected_bytes": 3400000000,
          "waiting_for_retry": 3,
          "expected_documents": 3200,
          "rate_per_second": 14.25,
          "last_progress": "2026-03-07T09:05:03.456Z",
          "last_success": "2026-03-07T09:05:03.456Z",
          "error_count": 4,
          "consecutive_errors": 0,
          "retry_count": 1,
          "restart_count": 1,
          "last_restart": {
            "cause": "errors",
            "at": "2026-03-07T09:05:03.456Z"
          },
          "last_error": {
            "type": "TEMPORARY",
            "cause": "server",
            "message": "503 from api.example.com",
            "at": "2026-03-07T09:05:03.456Z"
          },
          "rate_limited": true,
          "rate_limit_until": "2026-03-07T09:10:03.456Z",
          "rate_limits_in_a_row": 1,
          "incomplete_listings_in_a_row": 0,
          "archive_documents": 81112,
          "archive_bytes": 4200000000,
          "complete_until": "2026-03-06T09:00:00.000Z",
          "listed_until": "2026-03-07T09:00:00.000Z",
          "last_updated": "2026-03-07T09:05:03.456Z",
          "pid": 4711,
          "version": "0.1.0"
        }
        "#);
    }
}
