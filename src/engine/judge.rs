//! The one judgement of a reply: the user's rules first, then the built-in ones.

use std::time::Duration;

use crate::engine::quota::Signals;
use crate::engine::{Answer, Cause, ErrorRule, Rule, Said, Scope, ServerReply};

/// What a reply was judged to be, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement<'r> {
    pub matched: Matched<'r>,
    pub cause: Cause,
    /// How long the server, or the user for it, says to stay away.
    pub told: Option<Duration>,
    /// The facts that the built-in rules see.
    pub answer: Answer,
}

/// The rule that decided.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Matched<'r> {
    BuiltIn(Rule),
    Users(&'r ErrorRule),
}

/// Judges a reply that is not what was asked for. Some rule always matches.
///
/// `signals` is what its headers say about limits.
#[must_use]
pub fn judge<'r>(
    reply: &ServerReply<'_>,
    signals: &Signals,
    scope: Scope,
    rules: &'r [ErrorRule],
) -> Judgement<'r> {
    let answer = Answer {
        status: reply.status,
        retry_after: signals.told,
        is_exhausted: signals.is_exhausted(),
        said: Said::read(reply.status, reply.body),
    };
    let (matched, cause, wait) = match rules.iter().find(|rule| rule.matches(reply, scope)) {
        Some(rule) => (Matched::Users(rule), rule.class, rule.wait),
        None => (Matched::BuiltIn(answer.rule()), answer.cause(), None),
    };
    // The longer of the two: a server's word is never cut short.
    Judgement { matched, cause, told: signals.told.max(wait), answer }
}
