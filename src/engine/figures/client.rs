//! Whether the client of a source reaches anyone, and when it is better made anew.

use serde::{Deserialize, Serialize};

use crate::engine::figures::grow;

/// So many requests in a row without any reply, and the client is made anew: its connections may
/// lead to where nobody is any more.
pub const CONNECTION_FAILURES_MAX: u32 = 3;

/// What is known of the client.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct ClientFigures {
    /// Requests in a row that got no reply, over as many clients as it takes.
    pub failures_in_a_row: u32,
    /// How often it was made anew.
    pub rebuilt: u64,
    /// Those of the present client alone.
    #[serde(skip)]
    failures_of_client: u32,
}

/// What a failed request means for its client.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Renew {
    No,
    /// It is to be made anew, for the first time since a reply came.
    First,
    /// Again.
    Again,
}

impl ClientFigures {
    pub(super) fn reached(&mut self) {
        (self.failures_in_a_row, self.failures_of_client) = (0, 0);
    }

    /// Notes a request that the client `made` as the so-manieth sent in vain. What older clients
    /// still bring back is no reason to replace the present one.
    pub(super) fn failed(&mut self, made: u64) -> Renew {
        self.failures_in_a_row = self.failures_in_a_row.saturating_add(1);
        if made != self.rebuilt {
            return Renew::No;
        }
        self.failures_of_client += 1;
        if self.failures_of_client < CONNECTION_FAILURES_MAX {
            return Renew::No;
        }
        self.failures_of_client = 0;
        grow(&mut self.rebuilt, 1);
        if self.failures_in_a_row == CONNECTION_FAILURES_MAX { Renew::First } else { Renew::Again }
    }
}
