//! Whether the client of a source reaches anyone, and when it is better made anew.

use serde::{Deserialize, Serialize};

use crate::engine::metrics::add_saturating;

/// So many requests in a row without any reply, and the client is made anew: its connections may
/// lead to where nobody is any more.
pub const CONNECTION_FAILURES_MAX: u32 = 3;

/// What is known of the client.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct ConnectionMetrics {
    /// Requests in a row that got no reply, over as many clients as it takes.
    #[serde(rename = "failures_in_a_row")]
    pub consecutive_failures: u32,
    /// How often it was made anew.
    #[serde(rename = "rebuilt")]
    pub reconnects: u64,
    /// Those of the present client alone.
    #[serde(skip)]
    current_client_failures: u32,
}

/// What a failed request means for its client.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ReconnectDecision {
    Keep,
    /// It is to be made anew, for the first time since a reply came.
    Reconnect,
    /// Again.
    ReconnectAgain,
}

impl ConnectionMetrics {
    pub(super) fn record_response(&mut self) {
        (self.consecutive_failures, self.current_client_failures) = (0, 0);
    }

    /// Notes a request that the client `made` as the so-manieth sent in vain. What older clients
    /// still bring back is no reason to replace the present one.
    pub(super) fn record_failure(&mut self, made: u64) -> ReconnectDecision {
        self.consecutive_failures = self.consecutive_failures.saturating_add(1);
        if made != self.reconnects {
            return ReconnectDecision::Keep;
        }
        self.current_client_failures += 1;
        if self.current_client_failures < CONNECTION_FAILURES_MAX {
            return ReconnectDecision::Keep;
        }
        self.current_client_failures = 0;
        add_saturating(&mut self.reconnects, 1);
        if self.consecutive_failures == CONNECTION_FAILURES_MAX {
            ReconnectDecision::Reconnect
        } else {
            ReconnectDecision::ReconnectAgain
        }
    }
}
