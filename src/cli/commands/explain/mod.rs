//! `explain`: the classification of a response, the rule that matched, and the consequences.
//!
//! No decision is made here. HTTP responses and the replies of IMAP servers pass the same rules,
//! retry policies and rate limiter as in the worker, with the smallest and the largest jitter, and
//! the results are printed.

pub(in crate::cli) mod args;
mod consequence;
mod explained_failure;
mod imap_json;
mod imap_reply;
mod imap_text;
mod input;
mod json;
mod limits;
mod profile;
#[cfg(test)]
mod proptests;
mod text;

use cynosure_engine::rate_limit::ReportedLimits;
use cynosure_engine::{
    Cause, Classification, MatchedRule, RequestScope, ResponseView, Timestamp, classify_response,
    format_utc_date_time,
};

use self::args::ExplainArgs;
use self::consequence::{
    Consequence, DelayRange, add_consequence, block_delay, consequence, scopes_of,
};
use self::explained_failure::ExplainedFailure;
use self::input::{ExplainInput, ExplainPolicies};
use crate::app::error::ProgramError;
use crate::app::exit::ProgramExit;
use crate::cli::args::CommonArgs;
use crate::cli::print::{print_result, terminal_safe_json};
use crate::env::{Env, RealEnv};
use crate::human::format_date_time;

/// Classification of a response, and its consequence for each scope with this classification.
#[derive(Debug)]
struct Explanation<'r> {
    classification: Classification<'r>,
    consequences: Vec<Consequence>,
    /// Block of all requests by the rate limiter. `None` for a rate limit: its delay is the block.
    block: Option<DelayRange>,
}

pub(super) fn explain(
    common: &CommonArgs,
    args: &ExplainArgs,
) -> Result<ProgramExit, ProgramError> {
    let now = RealEnv.now();
    if let Some(line) = &args.imap {
        return explain_imap(common, args, line, now);
    }
    let (input, policies) = input::collect_input(common, args, now)?;
    let limit_headers = input.rate_limit_headers(&policies);
    let explanations = explain_response(&input, &policies, &limit_headers);
    if args.json {
        print_result(terminal_safe_json(&json::explain_json(
            &input,
            &policies,
            &limit_headers,
            &explanations,
        )))?;
    } else {
        print_result(text::explain_text(&input, &policies, &limit_headers, &explanations, now))?;
    }
    Ok(ProgramExit::Success)
}

/// Explains a reply of an IMAP server.
fn explain_imap(
    common: &CommonArgs,
    args: &ExplainArgs,
    line: &str,
    now: Timestamp,
) -> Result<ProgramExit, ProgramError> {
    let reply = imap_reply::parse_reply(line)?;
    let policies = input::collect_policies(common, args)?;
    let phases = imap_reply::phases_of(args.phase);
    let explanations = imap_reply::explain_reply(&reply, phases, &policies, now);
    if args.json {
        let json = imap_json::imap_explain_json(&reply, &policies, &explanations);
        print_result(terminal_safe_json(&json))?;
    } else {
        print_result(imap_text::imap_explain_text(&reply, &explanations))?;
    }
    Ok(ProgramExit::Success)
}

/// Classifies the response for each scope. Scopes with the same classification share an entry.
fn explain_response<'r>(
    input: &ExplainInput,
    policies: &'r ExplainPolicies,
    limit_headers: &ReportedLimits,
) -> Vec<Explanation<'r>> {
    let headers = input.header_pairs();
    let response = ResponseView { status: input.status, headers: &headers, body: &input.body };
    let mut explanations: Vec<Explanation<'r>> = Vec::new();
    for scope in &input.scopes {
        let table = input.table_for(*scope);
        let profile = policies.profile.as_ref().map(|profile| profile.rules_for(table));
        let rules = &policies.rules;
        let classification =
            classify_response(&response, limit_headers, *scope, rules, profile, input.at);
        let failure = ExplainedFailure::from_response(&classification, input);
        let scope_consequence = consequence(&failure, *scope, policies, limit_headers);
        match explanations
            .iter_mut()
            .find(|explanation| explanation.classification == classification)
        {
            Some(explanation) => add_consequence(&mut explanation.consequences, scope_consequence),
            None => {
                // The consequence of a rate limit is already this block.
                let is_rate_limit = classification.cause == Cause::RateLimit;
                let block = if is_rate_limit {
                    None
                } else {
                    block_delay(&failure, policies, limit_headers)
                };
                explanations.push(Explanation {
                    classification,
                    consequences: vec![scope_consequence],
                    block,
                });
            }
        }
    }
    explanations
}

impl<'r> Explanation<'r> {
    fn scopes(&self) -> Vec<RequestScope> {
        scopes_of(&self.consequences)
    }

    /// Returns the advice of the profile's rule to the user, which is not sanitized.
    fn advice(&self) -> Option<&'r str> {
        match self.classification.matched_rule {
            MatchedRule::Profile(rule) => rule.message.as_deref(),
            MatchedRule::BuiltIn(_) | MatchedRule::UserDefined(_) => None,
        }
    }
}

/// Formats a timestamp in UTC, followed by the local time if that differs.
fn format_timestamp(at: Timestamp) -> String {
    let (utc, local) = (format_utc_date_time(at), format_date_time(at));
    if utc == local { format!("{utc} UTC") } else { format!("{utc} UTC, {local} local time") }
}
