//! What a user knows of a provider's errors: rules that go before the built-in ones.

#[cfg(test)]
pub(crate) mod laws;
#[cfg(test)]
mod tests;

use std::time::Duration;

use serde_json::Value;

use crate::engine::{Cause, RequestScope};

/// The causes that a rule may name: those that a reply can have. What fails on this
/// machine, or before there is a reply, is no server's to say.
pub const CLASSES: [Cause; 10] = [
    Cause::RateLimit,
    Cause::Unauthorized,
    Cause::Forbidden,
    Cause::NotFound,
    Cause::Server,
    Cause::Challenge,
    Cause::Proxy,
    Cause::CursorExpired,
    Cause::TooLarge,
    Cause::Unknown,
];

/// A reply that is not what was asked for, as rules see it.
#[derive(Clone, Copy, Debug)]
pub struct ServerReply<'a> {
    pub status: u16,
    /// Names in lower case, one name perhaps several times.
    pub headers: &'a [(&'a str, &'a str)],
    /// The beginning of the body, as text.
    pub body: &'a str,
}

/// One rule: all its conditions must hold.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ErrorRule {
    /// Any status when empty.
    pub statuses: Vec<StatusRange>,
    pub header: Option<HeaderCondition>,
    pub body: Option<BodyCondition>,
    pub reach: Reach,
    /// The cause it names.
    pub class: Cause,
    /// How long to stay away, where the server does not ask for longer.
    pub wait: Option<Duration>,
    /// What its author wants to be reminded of.
    pub note: Option<String>,
    /// Where it is written, for a person.
    pub place: String,
}

/// Statuses from the first to the last.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct StatusRange {
    pub first: u16,
    pub last: u16,
}

/// What must be true of a header; of several of one name, of one of them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HeaderCondition {
    /// In lower case.
    pub name: String,
    pub test: HeaderTest,
}

/// Texts are compared without regard to case.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum HeaderTest {
    Exists,
    Equals(String),
    Contains(String),
}

/// What must be true of a body.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum BodyCondition {
    /// This text is somewhere in it, without regard to case.
    Contains(String),
    /// It is JSON, and has this value at the place that the pointer (RFC 6901) names.
    Holds { pointer: String, value: Scalar },
}

/// A value in JSON that is not made of others.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Scalar {
    Text(String),
    Integer(i64),
    Flag(bool),
}

/// To which requests a rule applies.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reach {
    Any,
    /// Requests for a document.
    Item,
    /// All others: pages of the listing, and finding the service.
    Listing,
}

impl ErrorRule {
    /// Whether all conditions hold.
    #[must_use]
    pub fn matches(&self, reply: &ServerReply<'_>, scope: RequestScope) -> bool {
        self.reach.covers(scope)
            && (self.statuses.is_empty() || self.statuses.iter().any(|one| one.has(reply.status)))
            && self.header.as_ref().is_none_or(|header| header.holds(reply.headers))
            && self.body.as_ref().is_none_or(|body| body.holds(reply.body))
    }

    /// Whether it asks for anything at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.statuses.is_empty() && self.header.is_none() && self.body.is_none()
    }

    /// Whether this rule, standing first, leaves nothing for `later` to match.
    ///
    /// It errs on the side of "something": what cannot be seen from the conditions alone counts as left.
    #[must_use]
    pub fn shadows(&self, later: &Self) -> bool {
        let reach = self.reach == Reach::Any || self.reach == later.reach;
        let statuses = self.statuses.is_empty()
            || (!later.statuses.is_empty()
                && later
                    .statuses
                    .iter()
                    .flat_map(StatusRange::all)
                    .all(|status| self.statuses.iter().any(|range| range.has(status))));
        let header = match (&self.header, &later.header) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(first), Some(later)) => first.follows_from(later),
        };
        let body = match (&self.body, &later.body) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(first), Some(later)) => first.follows_from(later),
        };
        reach && statuses && header && body
    }
}

impl Reach {
    pub const ALL: [Self; 3] = [Self::Any, Self::Item, Self::Listing];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::Item => "item",
            Self::Listing => "listing",
        }
    }

    fn covers(self, scope: RequestScope) -> bool {
        match (self, scope) {
            (Self::Any, RequestScope::Item | RequestScope::Listing | RequestScope::Session)
            | (Self::Item, RequestScope::Item)
            | (Self::Listing, RequestScope::Listing | RequestScope::Session) => true,
            (Self::Item, RequestScope::Listing | RequestScope::Session)
            | (Self::Listing, RequestScope::Item) => false,
        }
    }
}

impl StatusRange {
    fn has(&self, status: u16) -> bool {
        (self.first..=self.last).contains(&status)
    }

    fn all(&self) -> impl Iterator<Item = u16> {
        self.first..=self.last
    }
}

impl HeaderCondition {
    fn holds(&self, headers: &[(&str, &str)]) -> bool {
        headers.iter().any(|(name, value)| *name == self.name && self.test.holds(value))
    }

    /// Whether it holds wherever `other` does.
    fn follows_from(&self, other: &Self) -> bool {
        let follows = match (&self.test, &other.test) {
            (
                HeaderTest::Exists,
                HeaderTest::Exists | HeaderTest::Equals(_) | HeaderTest::Contains(_),
            ) => true,
            (HeaderTest::Equals(one), HeaderTest::Equals(other)) => folded(one) == folded(other),
            (
                HeaderTest::Contains(part),
                HeaderTest::Equals(whole) | HeaderTest::Contains(whole),
            ) => folded(whole).contains(&folded(part)),
            (HeaderTest::Equals(_), HeaderTest::Exists | HeaderTest::Contains(_))
            | (HeaderTest::Contains(_), HeaderTest::Exists) => false,
        };
        self.name == other.name && follows
    }
}

impl HeaderTest {
    fn holds(&self, value: &str) -> bool {
        match self {
            Self::Exists => true,
            Self::Equals(text) => folded(value.trim()) == folded(text),
            Self::Contains(text) => folded(value).contains(&folded(text)),
        }
    }
}

impl BodyCondition {
    fn holds(&self, body: &str) -> bool {
        match self {
            Self::Contains(text) => folded(body).contains(&folded(text)),
            Self::Holds { pointer, value } => {
                // Not JSON, or not all of it: then there is nothing at the place.
                let json: Result<Value, _> = serde_json::from_str(body);
                json.is_ok_and(|json| json.pointer(pointer).is_some_and(|found| value.is(found)))
            }
        }
    }

    /// Whether it holds wherever `other` does.
    fn follows_from(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Contains(part), Self::Contains(whole)) => folded(whole).contains(&folded(part)),
            (Self::Holds { .. }, Self::Holds { .. }) => self == other,
            (Self::Contains(_), Self::Holds { .. }) | (Self::Holds { .. }, Self::Contains(_)) => {
                false
            }
        }
    }
}

impl Scalar {
    fn is(&self, found: &Value) -> bool {
        match self {
            Self::Text(text) => found.as_str() == Some(text),
            Self::Integer(number) => found.as_i64() == Some(*number),
            Self::Flag(flag) => found.as_bool() == Some(*flag),
        }
    }
}

fn folded(text: &str) -> String {
    text.to_lowercase()
}
