//! What the state file says, key by key.

use serde::{Deserialize, Serialize};

use crate::engine::{SessionId, Status, Timestamp};
use crate::state::words;

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

    #[serde(with = "words::status")]
    pub status: Status,
    #[serde(with = "words::moment")]
    pub state_since: Timestamp,
    /// When the present state ends, or is looked into at the latest.
    #[serde(with = "words::optional_moment")]
    pub until: Option<Timestamp>,
    /// Why the source is in this state, for a person.
    pub reason: String,
    /// The state that a wait goes back to.
    #[serde(with = "words::optional_status")]
    pub resume_to: Option<Status>,
    /// The wait ends with a restart, since the retries are used up.
    pub restart_when_due: bool,

    #[serde(with = "words::optional_session")]
    pub session_id: Option<SessionId>,
    #[serde(with = "words::optional_moment")]
    pub start_time: Option<Timestamp>,
    #[serde(with = "words::optional_moment")]
    pub completion_time: Option<Timestamp>,
    /// When the source was last asked for something new.
    #[serde(with = "words::optional_moment")]
    pub last_look: Option<Timestamp>,
    /// Everything is being listed, since the source had forgotten our place in its changes.
    pub listing_everything: bool,
    /// News was found beside a download, and is being listed in the same session.
    #[serde(default)]
    pub listing_news: bool,

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
    #[serde(with = "words::moment")]
    pub last_progress: Timestamp,
    /// When the newest request for an item that succeeded was sent.
    #[serde(default, with = "words::optional_moment")]
    pub last_success: Option<Timestamp>,

    /// Errors of the session, not of items: in all, and since the last progress.
    pub error_count: u32,
    pub consecutive_errors: u32,
    /// The retry that is being waited for or made.
    pub retry_count: u32,
    pub restart_count: u32,
    #[serde(default)]
    pub last_restart: Option<LastRestart>,
    pub last_error: Option<LastError>,
    pub rate_limited: bool,
    #[serde(with = "words::optional_moment")]
    pub rate_limit_until: Option<Timestamp>,
    pub rate_limits_in_a_row: u32,
    /// Listings in a row that ended before the server's own total.
    #[serde(default)]
    pub incomplete_listings_in_a_row: u32,

    #[serde(with = "words::moment")]
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
pub struct LastError {
    /// The family of the cause: `TEMPORARY` and so on.
    #[serde(rename = "type")]
    pub kind: String,
    pub cause: String,
    pub message: String,
    #[serde(with = "words::moment")]
    pub at: Timestamp,
}

/// The last time that the worker was started anew by its own wish.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct LastRestart {
    /// One of the words `completed`, `errors`, `authentication`, `stuck`, `execution_time`.
    pub cause: String,
    #[serde(with = "words::moment")]
    pub at: Timestamp,
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// 2026-03-07 09:05:03.456 UTC.
    const NOW: Timestamp = Timestamp(1_772_874_303_456);

    pub(crate) fn example() -> ExecutionState {
        ExecutionState {
            schema: SCHEMA,
            source: "work".to_owned(),
            account: "me@example.com".to_owned(),
            provider: "example".to_owned(),
            kind: "jmap".to_owned(),
            status: Status::RateLimited,
            state_since: NOW,
            until: Some(Timestamp(NOW.0 + 300_000)),
            reason: "the server said: retry after 300 s".to_owned(),
            resume_to: Some(Status::Downloading),
            restart_when_due: false,
            session_id: Some(SessionId::new("session_1772874000")),
            start_time: Some(Timestamp(1_772_874_000_000)),
            completion_time: None,
            last_look: Some(Timestamp(1_772_874_000_000)),
            listing_everything: false,
            listing_news: false,
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
            last_restart: Some(LastRestart { cause: "errors".to_owned(), at: NOW }),
            last_error: Some(LastError {
                kind: "TEMPORARY".to_owned(),
                cause: "server".to_owned(),
                message: "503 from api.example.com".to_owned(),
                at: NOW,
            }),
            rate_limited: true,
            rate_limit_until: Some(Timestamp(NOW.0 + 300_000)),
            rate_limits_in_a_row: 1,
            incomplete_listings_in_a_row: 0,
            last_updated: NOW,
            pid: Some(4711),
            version: "0.1.0".to_owned(),
        }
    }

    #[test]
    fn a_file_from_before_a_key_was_added_is_read() {
        let mut old = serde_json::to_value(example()).unwrap();
        old.as_object_mut().unwrap().remove("last_restart");

        let read = ExecutionState::from_json(&old.to_string()).unwrap();

        assert_eq!(read, ExecutionState { last_restart: None, ..example() });
    }

    #[test]
    fn the_file_reads_like_this() {
        let json = serde_json::to_string_pretty(&example()).unwrap();

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
