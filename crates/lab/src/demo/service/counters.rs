//! Counters of the service's requests and responses.

use std::collections::BTreeMap;

use serde::Serialize;

/// Counts since the start. Requests under `/demo/` are not counted. Over IMAP, a request is a
/// command that the fault plan may refuse, and the next four counts are empty. Over the APIs of
/// Gmail, Graph and mail.ru, a request is one to the API unless it downloads a message.
#[derive(Clone, Debug, Default, Serialize)]
pub struct DemoCounters {
    pub requests: u64,
    pub session_requests: u64,
    pub api_requests: u64,
    pub download_requests: u64,
    /// Method calls, by name; names the service does not know are counted together as `unknown`.
    pub method_calls: BTreeMap<&'static str, u64>,
    /// Messages whose last byte was handed to the connection; each message once.
    pub messages_served: u32,
    /// Repeated downloads of messages that were served before.
    #[serde(rename = "messages_served_again")]
    pub messages_served_repeatedly: u64,
    pub bytes_served: u64,
    /// Requests, bodies included, in progress now.
    pub in_flight: u32,
    /// 429 by the fault plan, at Gmail also 403; over IMAP `NO [THROTTLED]` and `BAD` with a
    /// backoff time.
    pub rate_limited: u64,
    /// 429 because more requests ran at once than the session object allows; over IMAP `NO [LIMIT]`
    /// because of too many connections.
    #[serde(rename = "too_many_at_once")]
    pub concurrency_limited: u64,
    /// 401; over IMAP `NO [AUTHENTICATIONFAILED]`, at mail.ru the status 403 in the body.
    pub unauthorized: u64,
    pub token_expiries: u64,
    pub token_renewals: u64,
    /// 503, and 502 of a gateway; over IMAP `NO [UNAVAILABLE]`.
    pub unavailable: u64,
    /// Connections ended without a response.
    pub dropped: u64,
    /// Connections ended in the middle of a body.
    #[serde(rename = "cut")]
    pub truncated: u64,
    /// Login pages with status 200; over IMAP in place of a greeting.
    #[serde(rename = "html")]
    pub login_pages: u64,
    /// Messages destroyed just before their download.
    #[serde(rename = "vanished")]
    pub destroyed_before_download: u64,
    /// 500 for the one message that always fails; over IMAP `NO [SERVERBUG]`.
    #[serde(rename = "poisoned")]
    pub failing_message_requests: u64,
    /// Delayed responses and slow bodies.
    #[serde(rename = "slow")]
    pub slow_responses: u64,
    /// Listings that were disturbed between two pages: by 410 at Graph, by new mail at mail.ru.
    pub disturbed_listings: u64,
    /// Requests that mark mail as read at mail.ru: those without `mark_read=false`. A client that
    /// only reads sends none.
    pub mark_read_requests: u64,
}
