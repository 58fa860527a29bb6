//! Decision logic of Cynosure, free of side effects.
//!
//! Nothing in this crate reads a clock, a file, a socket, the environment or a
//! random number, and nothing is logged. Inputs arrive as arguments; actions to
//! perform are returned as values. `tests/tidy` checks this.

pub mod alert;
mod backoff;
pub mod breaker;
mod classification;
mod classify;
mod clock_step;
mod concurrency;
mod error_rules;
mod failure;
mod failure_escalation;
pub mod health;
mod heartbeat;
mod ids;
mod imap_reply;
mod item_policy;
mod listing;
mod loopback;
mod machine;
mod mask;
pub mod metrics;
mod modified_utf7;
mod proxy_pool;
pub mod rate_limit;
mod recent_successes;
mod recorded_response;
pub mod rest;
mod restart_budget;
pub mod retry_after;
mod retry_budget;
mod text;
mod throttle_strikes;
pub mod time_series;
mod timestamp;
pub mod user_input;

pub use self::backoff::{
    Backoff, RETRY_AFTER_JITTER, RETRY_AFTER_MARGIN, doubled_delay, exponential_seconds,
};
pub use self::classification::{Classification, MatchedRule, classify_response};
pub use self::classify::{BodyHint, BuiltinRule, ResponseFacts};
pub use self::clock_step::{ClockReading, ClockStep};
pub use self::concurrency::{ConcurrencyLimiter, ConcurrencyState, LatencySample, LoadSignal};
pub use self::error_rules::{
    BodyCondition, ErrorRule, HeaderCondition, HeaderTest, RULE_CAUSES, RuleScope, Scalar,
    StatusRange,
};
pub use self::failure::{Cause, ErrorAction, ErrorCategory, Failure, RequestScope};
pub use self::failure_escalation::ItemFailureEscalation;
pub use self::heartbeat::{
    DualTimestamp, HeartbeatDeadline, MissedHeartbeat, WatchdogAction, WatchdogState,
    find_missed_heartbeat,
};
pub use self::ids::{
    AccountId, BlobId, Cursor, DocumentId, ItemId, LedgerId, PageToken, SessionId,
};
pub use self::imap_reply::{
    ImapCode, ImapPhase, ImapReply, ImapRule, ImapStatus, ImapVerdict, classify_imap_reply,
};
pub use self::item_policy::{ItemDecision, ItemFailureCounts, ItemRetryPolicy, RecheckPolicy};
pub use self::listing::{
    DocumentLocation, FolderCount, ListedDocument, NextPage, VanishedMessages,
};
pub use self::loopback::is_loopback_host;
pub use self::machine::{
    AfterWait, CredentialState, Effect, ErrorHistory, Event, LastError, LastRestart, ListingMode,
    MachineConfig, ProgressTracker, RestartCause, RestartHistory, Session, State, StateMachine,
    Status, Step, SyncHistory, SyncPhase, SyncScope,
};
pub use self::mask::Secrets;
pub use self::modified_utf7::{decode_modified_utf7, encode_modified_utf7};
pub use self::proxy_pool::{
    ProxyChange, ProxyHealth, ProxyIndex, ProxyPolicy, ProxyPool, ProxyState,
};
pub use self::recent_successes::RecentSuccesses;
pub use self::recorded_response::{
    RECORDED_BODY_BYTES_MAX, RecordedResponse, ResponseView, is_secret_header,
};
pub use self::restart_budget::{CrashLoop, RestartBudget, RestartPermit};
pub use self::retry_budget::{RetryBudget, RetryBudgetPolicy, RetryBudgetState};
pub use self::text::{
    format_bytes, format_count, format_duration, format_utc_date_time, is_unsafe_for_terminal,
    number_with_noun, plural_form, sanitize_line, sanitize_lines, truncate_to_bytes,
};
pub use self::throttle_strikes::ThrottleStrikes;
pub use self::timestamp::{RandomSample, Timestamp};
