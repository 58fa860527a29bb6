//! What the state file says, key by key.

use serde::{Deserialize, Serialize};

use crate::engine::{SessionId, Status, Timestamp};
use crate::state::serde_with;

/// The version of the format that is read and written.
pub const SCHEMA: u32 = 1;

/// Everything about one source that others may want to know.
///
/// Times are RFC 3339 in UTC; what does not apply is null. Readers ignore keys that
/// they do not know; a key that is added has a default, or the schema another number.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[expect(clippy::struct_excessive_bools, reason = "each is a key of a file that others read")]
pub struct ExecutionState {
    pub schema: u32,
    pub source: String,
    pub account: String,
    pub provider: String,
    /// How the source is spoken to: `jmap` and so on.
    pub kind: String,

    #[serde(with = "serde_with::status")]
    pub status: Status,
    #[serde(with = "serde_with::timestamp")]
    pub state_since: Timestamp,
    /// When the present state ends, or is looked into at the latest.
    #[serde(with = "serde_with::optional_timestamp")]
    #[serde(rename = "until")]
    pub state_until: Option<Timestamp>,
    /// Why the source is in this state, for a person.
    pub reason: String,
    /// The state that a wait goes back to.
    #[serde(with = "serde_with::optional_status")]
    #[serde(rename = "resume_to")]
    pub resume_state: Option<Status>,
    /// The wait ends with a restart, since the retries are used up.
    #[serde(rename = "restart_when_due")]
    pub should_restart_when_due: bool,

    #[serde(with = "serde_with::optional_session_id")]
    pub session_id: Option<SessionId>,
    #[serde(with = "serde_with::optional_timestamp")]
    pub start_time: Option<Timestamp>,
    #[serde(with = "serde_with::optional_timestamp")]
    pub completion_time: Option<Timestamp>,
    /// When the source was last asked for something new.
    #[serde(with = "serde_with::optional_timestamp")]
    #[serde(rename = "last_look")]
    pub last_poll: Option<Timestamp>,
    /// Everything is being listed, since the source had forgotten our place in its changes.
    #[serde(rename = "listing_everything")]
    pub is_full_listing: bool,
    /// News was found beside a download, and is being listed in the same session.
    #[serde(default)]
    #[serde(rename = "listing_news")]
    pub is_listing_changes: bool,

    /// Items, of this session.
    pub total_threads: u64,
    pub downloaded_threads: u64,
    pub gone: u64,
    pub quarantined: u64,
    /// Documents of the session with another content than is stored of them, which is kept.
    #[serde(default)]
    pub versions: u64,
    /// Documents of the session whose bytes were in the archive already.
    #[serde(default)]
    pub copies: u64,
    pub waiting_for_retry: u64,
    /// Documents there are in all, as the server said when the listing began.
    pub expected_documents: Option<u64>,
    /// Items, over the last half minute.
    pub rate_per_second: Option<f64>,
    #[serde(with = "serde_with::timestamp")]
    pub last_progress: Timestamp,
    /// When the newest request for an item that succeeded was sent.
    #[serde(default, with = "serde_with::optional_timestamp")]
    pub last_success: Option<Timestamp>,

    /// Errors of the session, not of items: in all, and since the last progress.
    pub error_count: u32,
    pub consecutive_errors: u32,
    /// The retry that is being waited for or made.
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

    #[serde(with = "serde_with::timestamp")]
    pub last_updated: Timestamp,
    /// The worker's process; null when it has left.
    pub pid: Option<u32>,
    /// The version of its program.
    pub version: String,
}

impl ExecutionState {
    /// Writes the state as the one JSON text that the file and the ledger keep.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Nothing in it can fail to be written: its keys are texts, its numbers finite.
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// Reads such a text back; `None` for another version or damage.
    #[must_use]
    pub fn from_json(text: &str) -> Option<Self> {
        let state: Self = serde_json::from_str(text).ok()?;
        (state.schema <= SCHEMA).then_some(state)
    }
}

/// What went wrong last.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct RecordedError {
    /// The family of the cause: `TEMPORARY` and so on.
    #[serde(rename = "type")]
    pub cause_family: String,
    pub cause: String,
    pub message: String,
    #[serde(with = "serde_with::timestamp")]
    pub at: Timestamp,
}

/// The last time that the worker was started anew by its own wish.
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
            last_updated: NOW,
            pid: Some(4711),
            version: "0.1.0".to_owned(),
        }
    }

    #[test]
    fn a_file_without_newer_keys_is_read() {
        let mut old = serde_json::to_value(example_state()).unwrap();
        old.as_object_mut().unwrap().remove("last_restart");

        let read = ExecutionState::from_json(&old.to_string()).unwrap();

        assert_eq!(read, ExecutionState { last_restart: None, ..example_state() });
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
          "last_updated": "2026-03-07T09:05:03.456Z",
          "pid": 4711,
          "version": "0.1.0"
        }
        "#);
    }
}
