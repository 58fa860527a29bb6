//! What a user knows of a provider's errors: rules that go before the built-in ones.

#[cfg(test)]
pub(crate) mod proptests;
#[cfg(test)]
mod tests;

use std::time::Duration;

use serde_json::Value;

use crate::engine::{Cause, RequestScope};

/// The causes that a rule may name: those that a reply can have. What fails on this
/// machine, or before there is a reply, is no server's to say.
pub const RULE_CAUSES: [Cause; 10] = [
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
pub struct ResponseView<'a> {
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
    pub scope: RuleScope,
    /// The cause it names.
    pub cause: Cause,
    /// How long to stay away, where the server does not ask for longer.
    pub wait: Option<Duration>,
    /// What its author wants to be reminded of.
    pub note: Option<String>,
    /// Where it is written, for a person.
    pub location: String,
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
    JsonPointerEquals { pointer: String, value: Scalar },
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
pub enum RuleScope {
    Any,
    /// Requests for a document.
    Item,
    /// All others: pages of the listing, and finding the service.
    Listing,
}

impl ErrorRule {
    /// Whether all conditions hold.
    #[must_use]
    pub fn matches(&self, reply: &ResponseView<'_>, scope: RequestScope) -> bool {
        self.scope.covers(scope)
            && (self.statuses.is_empty()
                || self.statuses.iter().any(|one| one.contains(reply.status)))
            && self.header.as_ref().is_none_or(|header| header.matches(reply.headers))
            && self.body.as_ref().is_none_or(|body| body.matches(reply.body))
    }

    /// Whether it asks for anything at all.
    #[must_use]
    pub fn has_no_conditions(&self) -> bool {
        self.statuses.is_empty() && self.header.is_none() && self.body.is_none()
    }

    /// Whether this rule, standing first, leaves nothing for `later` to match.
    ///
    /// It errs on the side of "something": what cannot be seen from the conditions alone counts as left.
    #[must_use]
    pub fn shadows(&self, later: &Self) -> bool {
        let reach = self.scope == RuleScope::Any || self.scope == later.scope;
        let statuses = self.statuses.is_empty()
            || (!later.statuses.is_empty()
                && later
                    .statuses
                    .iter()
                    .flat_map(StatusRange::statuses)
                    .all(|status| self.statuses.iter().any(|range| range.contains(status))));
        let header = match (&self.header, &later.header) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(first), Some(later)) => first.is_implied_by(later),
        };
        let body = match (&self.body, &later.body) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(first), Some(later)) => first.is_implied_by(later),
        };
        reach && statuses && header && body
    }
}

impl RuleScope {
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
    fn contains(&self, status: u16) -> bool {
        (self.first..=self.last).contains(&status)
    }

    fn statuses(&self) -> impl Iterator<Item = u16> {
        self.first..=self.last
    }
}

impl HeaderCondition {
    fn matches(&self, headers: &[(&str, &str)]) -> bool {
        headers.iter().any(|(name, value)| *name == self.name && self.test.matches(value))
    }

    /// Whether it holds wherever `other` does.
    fn is_implied_by(&self, other: &Self) -> bool {
        let follows = match (&self.test, &other.test) {
            (
                HeaderTest::Exists,
                HeaderTest::Exists | HeaderTest::Equals(_) | HeaderTest::Contains(_),
            ) => true,
            (HeaderTest::Equals(one), HeaderTest::Equals(other)) => {
                fold_case(one) == fold_case(other)
            }
            (
                HeaderTest::Contains(part),
                HeaderTest::Equals(whole) | HeaderTest::Contains(whole),
            ) => fold_case(whole).contains(&fold_case(part)),
            (HeaderTest::Equals(_), HeaderTest::Exists | HeaderTest::Contains(_))
            | (HeaderTest::Contains(_), HeaderTest::Exists) => false,
        };
        self.name == other.name && follows
    }
}

impl HeaderTest {
    fn matches(&self, value: &str) -> bool {
        match self {
            Self::Exists => true,
            Self::Equals(text) => fold_case(value.trim()) == fold_case(text),
            Self::Contains(text) => fold_case(value).contains(&fold_case(text)),
        }
    }
}

impl BodyCondition {
    fn matches(&self, body: &str) -> bool {
        match self {
            Self::Contains(text) => fold_case(body).contains(&fold_case(text)),
            Self::JsonPointerEquals { pointer, value } => {
                // Not JSON, or not all of it: then there is nothing at the place.
                let json: Result<Value, _> = serde_json::from_str(body);
                json.is_ok_and(|json| {
                    json.pointer(pointer).is_some_and(|found| value.matches(found))
                })
            }
        }
    }

    /// Whether it holds wherever `other` does.
    fn is_implied_by(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Contains(part), Self::Contains(whole)) => {
                fold_case(whole).contains(&fold_case(part))
            }
            (Self::JsonPointerEquals { .. }, Self::JsonPointerEquals { .. }) => self == other,
            (Self::Contains(_), Self::JsonPointerEquals { .. })
            | (Self::JsonPointerEquals { .. }, Self::Contains(_)) => false,
        }
    }
}

impl Scalar {
    fn matches(&self, found: &Value) -> bool {
        match self {
            Self::Text(text) => found.as_str() == Some(text),
            Self::Integer(number) => found.as_i64() == Some(*number),
            Self::Flag(flag) => found.as_bool() == Some(*flag),
        }
    }
}

fn fold_case(text: &str) -> String {
    text.to_lowercase()
}
