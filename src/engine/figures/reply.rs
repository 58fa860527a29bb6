//! How requests end, in few enough classes for a metric.

use serde::{Deserialize, Serialize};

use crate::engine::Cause;
use crate::engine::figures::grow;

/// How a request ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ReplyClass {
    /// It got what it asked for, whole.
    Ok,
    /// The server says that we ask too often.
    Throttled,
    /// The credential is refused.
    Unauthorized,
    /// There is no such thing, or not for us, or not from that point on.
    Refused,
    /// The server failed on its side.
    ServerError,
    /// A reply that is not what was asked for, or not all of it.
    Spoiled,
    /// No reply in time.
    Timeout,
    /// No connection: refused, reset, not safe, no name, no route, no proxy.
    Unreachable,
    /// Our own disk failed, or nothing that we know.
    Other,
}

/// Requests by how they ended.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct Replies {
    pub ok: u64,
    pub throttled: u64,
    pub unauthorized: u64,
    pub refused: u64,
    pub server_error: u64,
    pub spoiled: u64,
    pub timeout: u64,
    pub unreachable: u64,
    pub other: u64,
}

impl ReplyClass {
    pub const ALL: [Self; 9] = [
        Self::Ok,
        Self::Throttled,
        Self::Unauthorized,
        Self::Refused,
        Self::ServerError,
        Self::Spoiled,
        Self::Timeout,
        Self::Unreachable,
        Self::Other,
    ];

    /// The class of what went wrong, if anything did.
    #[must_use]
    pub fn of(end: Option<Cause>) -> Self {
        match end {
            None => Self::Ok,
            Some(Cause::RateLimit) => Self::Throttled,
            Some(Cause::Unauthorized | Cause::AccountChanged) => Self::Unauthorized,
            Some(Cause::Forbidden | Cause::NotFound | Cause::CursorExpired) => Self::Refused,
            Some(Cause::Server) => Self::ServerError,
            Some(
                Cause::Truncated | Cause::Challenge | Cause::TooLarge | Cause::ListingIncomplete,
            ) => Self::Spoiled,
            Some(Cause::Timeout) => Self::Timeout,
            Some(Cause::Connection | Cause::Tls | Cause::Proxy | Cause::LocalNetwork) => {
                Self::Unreachable
            }
            Some(Cause::Storage | Cause::Ledger | Cause::Unknown) => Self::Other,
        }
    }

    /// The word for it in the file and in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Throttled => "throttled",
            Self::Unauthorized => "unauthorized",
            Self::Refused => "refused",
            Self::ServerError => "server_error",
            Self::Spoiled => "spoiled",
            Self::Timeout => "timeout",
            Self::Unreachable => "unreachable",
            Self::Other => "other",
        }
    }
}

impl Replies {
    pub fn note(&mut self, class: ReplyClass) {
        let count = match class {
            ReplyClass::Ok => &mut self.ok,
            ReplyClass::Throttled => &mut self.throttled,
            ReplyClass::Unauthorized => &mut self.unauthorized,
            ReplyClass::Refused => &mut self.refused,
            ReplyClass::ServerError => &mut self.server_error,
            ReplyClass::Spoiled => &mut self.spoiled,
            ReplyClass::Timeout => &mut self.timeout,
            ReplyClass::Unreachable => &mut self.unreachable,
            ReplyClass::Other => &mut self.other,
        };
        grow(count, 1);
    }

    #[must_use]
    pub fn of(&self, class: ReplyClass) -> u64 {
        match class {
            ReplyClass::Ok => self.ok,
            ReplyClass::Throttled => self.throttled,
            ReplyClass::Unauthorized => self.unauthorized,
            ReplyClass::Refused => self.refused,
            ReplyClass::ServerError => self.server_error,
            ReplyClass::Spoiled => self.spoiled,
            ReplyClass::Timeout => self.timeout,
            ReplyClass::Unreachable => self.unreachable,
            ReplyClass::Other => self.other,
        }
    }
}
