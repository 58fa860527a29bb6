//! What the state file says, key by key.

use serde::{Deserialize, Serialize};

use crate::engine::{Moment, SessionId};
use crate::state::words;

/// The version of the format that is read and written.
pub const SCHEMA: u32 = 1;

/// Everything about one source that others may want to know.
///
/// Times are RFC 3339 in UTC; what does not apply is null. Readers ignore keys that
/// they do not know; a key that is added has a default, or the schema another number.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct ExecutionState {
    pub schema: u32,
    pub source: String,
    pub account: String,
    pub provider: String,
    /// How the source is spoken to: `jmap` and so on.
    pub kind: String,

    pub status: Status,
    #[serde(with = "words::moment")]
    pub state_since: Moment,
    /// When the present state ends, or is looked into at the latest.
    #[serde(with = "words::optional_moment")]
    pub until: Option<Moment>,
    /// Why the source is in this state, for a person.
    pub reason: String,
    /// The state that a wait goes back to.
    pub resume_to: Option<Status>,

    #[serde(with = "words::optional_session")]
    pub session_id: Option<SessionId>,
    #[serde(with = "words::optional_moment")]
    pub start_time: Option<Moment>,
    #[serde(with = "words::optional_moment")]
    pub completion_time: Option<Moment>,

    /// Items, of this session.
    pub total_threads: u64,
    pub downloaded_threads: u64,
    pub gone: u64,
    pub quarantined: u64,
    pub waiting_for_retry: u64,
    /// Items listed by a listing that is not complete, and how many there will be as
    /// the server said.
    pub listed_so_far: u64,
    pub expected_total: Option<u64>,
    /// Items, over the last minute or so.
    pub rate_per_second: Option<f64>,
    #[serde(with = "words::optional_moment")]
    pub last_progress: Option<Moment>,

    /// Errors of this session, and those since the last that went well.
    pub error_count: u64,
    pub consecutive_errors: u64,
    pub retry_count: u64,
    pub restart_count: u64,
    pub last_error: Option<LastError>,
    pub rate_limited: bool,
    #[serde(with = "words::optional_moment")]
    pub rate_limit_until: Option<Moment>,

    #[serde(with = "words::moment")]
    pub last_updated: Moment,
    /// The worker's process, and the version of its program.
    pub pid: u32,
    pub version: String,
}

/// The states of the machine, as everyone calls them.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Idle,
    Collecting,
    Downloading,
    Completed,
    Error,
    RateLimited,
    AuthFailed,
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
    pub at: Moment,
}

impl Status {
    pub const ALL: [Self; 7] = [
        Self::Idle,
        Self::Collecting,
        Self::Downloading,
        Self::Completed,
        Self::Error,
        Self::RateLimited,
        Self::AuthFailed,
    ];

    /// The word for it in the file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Collecting => "collecting",
            Self::Downloading => "downloading",
            Self::Completed => "completed",
            Self::Error => "error",
            Self::RateLimited => "rate_limited",
            Self::AuthFailed => "auth_failed",
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// 2026-03-07 09:05:03.456 UTC.
    const NOW: Moment = Moment(1_772_874_303_456);

    pub(crate) fn example() -> ExecutionState {
        ExecutionState {
            schema: SCHEMA,
            source: "work".to_owned(),
            account: "me@example.com".to_owned(),
            provider: "example".to_owned(),
            kind: "jmap".to_owned(),
            status: Status::RateLimited,
            state_since: NOW,
            until: Some(Moment(NOW.0 + 300_000)),
            reason: "the server said: retry after 300 s".to_owned(),
            resume_to: Some(Status::Downloading),
            session_id: Some(SessionId::new("session_1772874000")),
            start_time: Some(Moment(1_772_874_000_000)),
            completion_time: None,
            total_threads: 2000,
            downloaded_threads: 812,
            gone: 1,
            quarantined: 2,
            waiting_for_retry: 3,
            listed_so_far: 2000,
            expected_total: Some(2000),
            rate_per_second: Some(14.25),
            last_progress: Some(NOW),
            error_count: 4,
            consecutive_errors: 0,
            retry_count: 1,
            restart_count: 0,
            last_error: Some(LastError {
                kind: "TEMPORARY".to_owned(),
                cause: "server".to_owned(),
                message: "503 from api.example.com".to_owned(),
                at: NOW,
            }),
            rate_limited: true,
            rate_limit_until: Some(Moment(NOW.0 + 300_000)),
            last_updated: NOW,
            pid: 4711,
            version: "0.1.0".to_owned(),
        }
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
          "session_id": "session_1772874000",
          "start_time": "2026-03-07T09:00:00.000Z",
          "completion_time": null,
          "total_threads": 2000,
          "downloaded_threads": 812,
          "gone": 1,
          "quarantined": 2,
          "waiting_for_retry": 3,
          "listed_so_far": 2000,
          "expected_total": 2000,
          "rate_per_second": 14.25,
          "last_progress": "2026-03-07T09:05:03.456Z",
          "error_count": 4,
          "consecutive_errors": 0,
          "retry_count": 1,
          "restart_count": 0,
          "last_error": {
            "type": "TEMPORARY",
            "cause": "server",
            "message": "503 from api.example.com",
            "at": "2026-03-07T09:05:03.456Z"
          },
          "rate_limited": true,
          "rate_limit_until": "2026-03-07T09:10:03.456Z",
          "last_updated": "2026-03-07T09:05:03.456Z",
          "pid": 4711,
          "version": "0.1.0"
        }
        "#);
    }

    #[test]
    fn each_status_is_written_by_its_name() {
        for status in Status::ALL {
            assert_eq!(serde_json::to_value(status).unwrap(), status.name());
        }
    }
}
