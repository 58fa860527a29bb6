//! User-defined rules for a provider's errors, which precede the built-in ones.

#[cfg(test)]
pub(crate) mod proptests;
#[cfg(test)]
mod tests;

use std::time::Duration;

use serde_json::Value;

use crate::{Cause, RequestScope, ResponseView};

/// Causes that a rule may assign: those that a response can have. A failure on this machine, or
/// before there is a response, cannot be read from one.
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

/// User-defined rule, which matches if all its conditions hold.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ErrorRule {
    /// Matching statuses; any status if empty.
    pub statuses: Vec<StatusRange>,
    pub header: Option<HeaderCondition>,
    pub body: Option<BodyCondition>,
    pub scope: RuleScope,
    /// Cause that the rule assigns.
    pub cause: Cause,
    /// Wait before the next request, unless the server asks for a longer one.
    pub wait: Option<Duration>,
    /// Note of the rule's author.
    pub note: Option<String>,
    /// Location of the rule in the configuration, for messages.
    pub location: String,
}

/// Range of statuses, both ends included.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct StatusRange {
    pub first: u16,
    pub last: u16,
}

/// Condition on a header; if it occurs several times, on one of them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HeaderCondition {
    /// Header name in lower case.
    pub name: String,
    pub test: HeaderTest,
}

/// Test of a header value. Text is compared without regard to case.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum HeaderTest {
    Exists,
    Equals(String),
    Contains(String),
}

/// Condition on a body.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum BodyCondition {
    /// The body contains this text, without regard to case.
    Contains(String),
    /// The body is JSON with this value at the JSON pointer (RFC 6901).
    JsonPointerEquals { pointer: String, value: Scalar },
}

/// JSON value that contains no other values.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Scalar {
    Text(String),
    Integer(i64),
    Flag(bool),
}

/// Requests to which a rule applies.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RuleScope {
    Any,
    /// Requests for a document.
    Item,
    /// All others: pages of the listing, and service discovery.
    Listing,
}

impl ErrorRule {
    /// Returns true if all conditions hold.
    #[must_use]
    pub fn matches(&self, response: &ResponseView<'_>, scope: RequestScope) -> bool {
        self.scope.covers(scope)
            && (self.statuses.is_empty()
                || self.statuses.iter().any(|range| range.contains(response.status)))
            && self.header.as_ref().is_none_or(|header| header.matches(response.headers))
            && self.body.as_ref().is_none_or(|body| body.matches(response.body))
    }

    /// Returns true if the rule has no condition on the response.
    #[must_use]
    pub fn has_no_conditions(&self) -> bool {
        self.statuses.is_empty() && self.header.is_none() && self.body.is_none()
    }

    /// Returns true if this rule, placed first, leaves nothing for `later` to match.
    ///
    /// Returns false if the conditions alone do not prove this.
    #[must_use]
    pub fn shadows(&self, later: &Self) -> bool {
        let covers_scope = self.scope == RuleScope::Any || self.scope == later.scope;
        let covers_statuses = self.statuses.is_empty()
            || (!later.statuses.is_empty()
                && later
                    .statuses
                    .iter()
                    .flat_map(StatusRange::statuses)
                    .all(|status| self.statuses.iter().any(|range| range.contains(status))));
        let covers_header = match (&self.header, &later.header) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(first), Some(later)) => first.is_implied_by(later),
        };
        let covers_body = match (&self.body, &later.body) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(first), Some(later)) => first.is_implied_by(later),
        };
        covers_scope && covers_statuses && covers_header && covers_body
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
    pub(crate) fn contains(&self, status: u16) -> bool {
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

    /// Returns true if this condition holds wherever `other` does.
    fn is_implied_by(&self, other: &Self) -> bool {
        let is_test_implied = match (&self.test, &other.test) {
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
        self.name == other.name && is_test_implied
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
                // Invalid or truncated JSON has no value at the pointer.
                let json: Result<Value, _> = serde_json::from_str(body);
                json.is_ok_and(|json| {
                    json.pointer(pointer).is_some_and(|found| value.matches(found))
                })
            }
        }
    }

    /// Returns true if this condition holds wherever `other` does.
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
    /// Returns true for a value of the same type that is equal.
    pub(crate) fn matches(&self, found: &Value) -> bool {
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
