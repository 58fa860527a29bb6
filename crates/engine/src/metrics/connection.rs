//! Connection failures of a source's HTTP client, and the decision to recreate it.

use serde::{Deserialize, Serialize};

use crate::metrics::add_saturating;

/// Consecutive requests without a response after which the client is recreated, because its
/// connections may lead to an address that no longer responds.
pub const CONNECTION_FAILURES_MAX: u32 = 3;

/// Connection metrics of a source's client.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct ConnectionMetrics {
    /// Consecutive requests without a response, across recreated clients.
    #[serde(rename = "failures_in_a_row")]
    pub consecutive_failures: u32,
    /// Times that the client was recreated.
    #[serde(rename = "rebuilt")]
    pub reconnects: u64,
    /// Consecutive failures of the current client alone.
    #[serde(skip)]
    current_client_failures: u32,
}

/// Consequence of a failed request for its client.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ReconnectDecision {
    Keep,
    /// Recreate the client, for the first time since the last response.
    Reconnect,
    /// Recreate the client again.
    ReconnectAgain,
}

impl ConnectionMetrics {
    pub(super) fn record_response(&mut self) {
        (self.consecutive_failures, self.current_client_failures) = (0, 0);
    }

    /// Records a request without a response. `reconnects_before` is the number of reconnects when
    /// its client was created; failures of older clients are no reason to recreate the current one.
    pub(super) fn record_failure(&mut self, reconnects_before: u64) -> ReconnectDecision {
        self.consecutive_failures = self.consecutive_failures.saturating_add(1);
        if reconnects_before != self.reconnects {
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
