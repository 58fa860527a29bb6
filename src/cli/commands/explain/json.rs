//! JSON output of `explain`.

use std::time::Duration;

use cynosure_engine::rate_limit::ReportedLimits;
use cynosure_engine::{Cause, ErrorRule, MatchedRule, RequestScope, Timestamp};
use serde::Serialize;

use super::Explanation;
use super::consequence::{Consequence, DelayRange};
use super::input::{ExplainInput, ExplainPolicies, ResponseOrigin};
use super::limits::{LimitJson, limit_json};
use crate::cli::commands::profile_text::rule_condition;

/// Whole output of `explain --json`.
#[derive(Serialize)]
pub(super) struct ExplainJson<'a> {
    status: u16,
    #[serde(rename = "headers")]
    header_count: usize,
    body_bytes: usize,
    /// Null for a response from the command line.
    #[serde(rename = "recorded")]
    origin: Option<OriginJson<'a>>,
    provider: Option<&'a str>,
    #[serde(rename = "user_rules")]
    user_rule_count: usize,
    /// Name of the profile, or path of its file. Null if there is none, or the source declares the
    /// tables itself.
    profile: Option<&'a str>,
    #[serde(rename = "profile_rules")]
    profile_rule_count: usize,
    /// One per classification; most responses have the same one for every scope.
    #[serde(rename = "judged")]
    explanations: Vec<ExplanationJson<'a>>,
    retry_after_seconds: Option<f64>,
    limits: Vec<LimitJson<'a>>,
}

/// Origin of a recorded response.
#[derive(Serialize)]
struct OriginJson<'a> {
    source: &'a str,
    /// Null for a response to the listing or the session.
    item: Option<&'a str>,
    /// Time at which it arrived.
    at: Timestamp,
    /// Cause determined when it was recorded.
    cause: Option<&'static str>,
}

/// Classification of the response for some scopes.
#[derive(Serialize)]
struct ExplanationJson<'a> {
    scopes: Vec<&'static str>,
    /// Tables of the profile whose requests have these scopes; empty without a profile.
    tables: Vec<&'static str>,
    rule: RuleJson<'a>,
    cause: &'static str,
    /// Category of the cause.
    #[serde(rename = "type")]
    category: &'static str,
    /// Advice of the profile's rule, for the user.
    advice: Option<&'a str>,
    /// Block of all requests by the rate limiter. Null for a rate limit: its delay is the block.
    #[serde(rename = "gate")]
    block: Option<DelayJson<'a>>,
    #[serde(rename = "outlooks")]
    consequences: Vec<ConsequenceJson<'a>>,
}

/// Rule that matched.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum RuleJson<'a> {
    BuiltIn {
        /// Always true.
        #[serde(rename = "built_in")]
        is_built_in: bool,
        name: &'static str,
        condition: &'static str,
    },
    UserDefined {
        /// Always false.
        #[serde(rename = "built_in")]
        is_built_in: bool,
        /// Location of the rule in the configuration.
        #[serde(rename = "place")]
        location: &'a str,
        note: Option<&'a str>,
        wait_seconds: Option<f64>,
    },
    Profile {
        /// Always false.
        #[serde(rename = "built_in")]
        is_built_in: bool,
        /// Location of the rule in the profile.
        #[serde(rename = "place")]
        location: &'a str,
        condition: String,
        wait_seconds: Option<f64>,
    },
}

/// Consequence of the response for some of these scopes.
#[derive(Serialize)]
pub(super) struct ConsequenceJson<'a> {
    scopes: Vec<&'static str>,
    #[serde(rename = "verdict")]
    action: &'static str,
    /// Description of the action, as text.
    #[serde(rename = "means")]
    description: &'a str,
    delay: Option<DelayJson<'a>>,
}

/// Time until the next attempt, with the range of its jitter.
#[derive(Serialize)]
struct DelayJson<'a> {
    shortest_seconds: f64,
    longest_seconds: f64,
    /// Parts of the computation, as text.
    #[serde(rename = "because")]
    reasons: &'a [String],
    /// Each delay after it, if the attempts keep failing.
    #[serde(rename = "then")]
    next_delays: Vec<NextDelayJson>,
}

#[derive(Serialize)]
struct NextDelayJson {
    shortest_seconds: f64,
    longest_seconds: f64,
}

pub(super) fn explain_json<'a>(
    input: &'a ExplainInput,
    policies: &'a ExplainPolicies,
    limit_headers: &'a ReportedLimits,
    explanations: &'a [Explanation<'_>],
) -> ExplainJson<'a> {
    let limits = limit_headers.limits.iter();
    ExplainJson {
        status: input.status,
        header_count: input.headers.len(),
        body_bytes: input.body.len(),
        origin: input.origin.as_ref().map(|origin| origin_json(origin, input.at)),
        provider: policies.provider.as_deref(),
        user_rule_count: policies.rules.len(),
        profile: policies.profile.as_ref().and_then(|profile| profile.name.as_deref()),
        profile_rule_count: policies.profile.as_ref().map_or(0, |profile| profile.rules.len()),
        explanations: explanations
            .iter()
            .map(|explanation| explanation_json(explanation, input, policies))
            .collect(),
        retry_after_seconds: limit_headers.retry_after.map(|delay| delay.as_secs_f64()),
        limits: limits.map(|limit| limit_json(limit, input.at)).collect(),
    }
}

fn origin_json(origin: &ResponseOrigin, at: Timestamp) -> OriginJson<'_> {
    OriginJson {
        source: &origin.source,
        item: origin.item.as_deref(),
        at,
        cause: origin.cause.map(Cause::name),
    }
}

fn explanation_json<'a>(
    explanation: &'a Explanation<'_>,
    input: &ExplainInput,
    policies: &ExplainPolicies,
) -> ExplanationJson<'a> {
    let cause = explanation.classification.cause;
    let scopes = explanation.scopes();
    let tables = scopes.iter().filter(|_| policies.profile.is_some());
    ExplanationJson {
        tables: tables.map(|scope| input.table_for(*scope).name()).collect(),
        scopes: scope_names(&scopes),
        rule: rule_json(&explanation.classification.matched_rule),
        cause: cause.name(),
        category: cause.category().name(),
        advice: explanation.advice(),
        block: explanation.block.as_ref().map(delay_json),
        consequences: explanation.consequences.iter().map(consequence_json).collect(),
    }
}

fn rule_json<'a>(matched: &'a MatchedRule<'_>) -> RuleJson<'a> {
    match matched {
        MatchedRule::BuiltIn(rule) => {
            RuleJson::BuiltIn { is_built_in: true, name: rule.name(), condition: rule.condition() }
        }
        MatchedRule::UserDefined(ErrorRule { location, note, wait, .. }) => RuleJson::UserDefined {
            is_built_in: false,
            location,
            note: note.as_deref(),
            wait_seconds: wait.map(|wait| wait.as_secs_f64()),
        },
        MatchedRule::Profile(rule) => RuleJson::Profile {
            is_built_in: false,
            location: &rule.location,
            condition: rule_condition(rule),
            wait_seconds: rule.wait.map(|wait| wait.as_secs_f64()),
        },
    }
}

pub(super) fn consequence_json(consequence: &Consequence) -> ConsequenceJson<'_> {
    ConsequenceJson {
        scopes: scope_names(&consequence.scopes),
        action: consequence.action,
        description: &consequence.description,
        delay: consequence.delay.as_ref().map(delay_json),
    }
}

fn delay_json(delay: &DelayRange) -> DelayJson<'_> {
    let next_delay = |(shortest, longest): &(Duration, Duration)| NextDelayJson {
        shortest_seconds: shortest.as_secs_f64(),
        longest_seconds: longest.as_secs_f64(),
    };
    DelayJson {
        shortest_seconds: delay.shortest.as_secs_f64(),
        longest_seconds: delay.longest.as_secs_f64(),
        reasons: &delay.reasons,
        next_delays: delay.next_delays.iter().map(next_delay).collect(),
    }
}

pub(super) fn scope_names(scopes: &[RequestScope]) -> Vec<&'static str> {
    scopes.iter().map(|scope| scope.name()).collect()
}
