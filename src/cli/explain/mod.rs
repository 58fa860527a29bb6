//! `explain`: how a reply of a server is judged, why, and what follows.
//!
//! Nothing is decided here: the reply goes through the same rules, waits and quotas as in the
//! worker, with chance at both its ends, and what they return is put into words.

mod consequence;
mod input;
mod limits;
#[cfg(test)]
mod proptests;
mod text;

use serde_json::{Value, json};

use crate::cli::args::{CommonArgs, ExplainArgs};
use crate::cli::error::CliError;
use crate::cli::exit::ProgramExit;
use crate::cli::print::{print_result, terminal_safe_json};
use crate::engine::rate_limit::RateLimitHeaders;
use crate::engine::{
    Cause, Classification, ErrorRule, MatchedRule, RequestScope, ResponseView, Timestamp,
    classify_response,
};
use crate::human::format_utc;
use crate::worker::{Env, RealEnv};

use self::consequence::{Consequence, DelayRange, block_delay, consequence};
use self::input::{ExplainInput, ExplainPolicies};

/// A judgement, and what it means for each of the scopes it holds for.
#[derive(Debug)]
struct ExplainedReply<'r> {
    classification: Classification<'r>,
    consequences: Vec<Consequence>,
    /// How long the gate stays closed, where that does not follow from the verdict.
    block: Option<DelayRange>,
}

pub(super) fn explain(common: &CommonArgs, args: &ExplainArgs) -> Result<ProgramExit, CliError> {
    let now = RealEnv.now();
    let (asked, basis) = input::collect_input(common, args, now)?;
    let signals = asked.rate_limit_headers(&basis);
    let judged = explain_reply(&asked, &basis, &signals);
    if args.json {
        print_result(terminal_safe_json(&explain_json(&asked, &basis, &signals, &judged)))?;
    } else {
        print_result(text::explain_text(&asked, &basis, &signals, &judged, now))?;
    }
    Ok(ProgramExit::Success)
}

/// Judges the reply for each scope; scopes that are judged alike stand together.
fn explain_reply<'r>(
    asked: &ExplainInput,
    basis: &'r ExplainPolicies,
    signals: &RateLimitHeaders,
) -> Vec<ExplainedReply<'r>> {
    let headers = asked.header_pairs();
    let reply = ResponseView { status: asked.status, headers: &headers, body: &asked.body };
    let mut all: Vec<ExplainedReply<'r>> = Vec::new();
    for scope in &asked.scopes {
        let judgement = classify_response(&reply, signals, *scope, &basis.rules);
        let outlook = consequence(&judgement, *scope, asked, basis, signals);
        match all.iter_mut().find(|judged| judged.classification == judgement) {
            Some(judged) => judged.add_consequence(outlook),
            None => {
                let is_told = judgement.cause == Cause::RateLimit;
                let gate =
                    if is_told { None } else { block_delay(&judgement, asked, basis, signals) };
                all.push(ExplainedReply {
                    classification: judgement,
                    consequences: vec![outlook],
                    block: gate,
                });
            }
        }
    }
    all
}

impl ExplainedReply<'_> {
    fn add_consequence(&mut self, outlook: Consequence) {
        match self.consequences.iter_mut().find(|known| known.has_same_effect(&outlook)) {
            Some(known) => known.scopes.extend(outlook.scopes),
            None => self.consequences.push(outlook),
        }
    }

    fn scopes(&self) -> Vec<RequestScope> {
        self.consequences.iter().flat_map(|outlook| outlook.scopes.iter().copied()).collect()
    }
}

/// What a rule is called: a word for a built-in one, its place for a user's.
fn rule_json(matched: &MatchedRule<'_>) -> Value {
    match matched {
        MatchedRule::BuiltIn(rule) => {
            json!({ "built_in": true, "name": rule.name(), "condition": rule.condition() })
        }
        MatchedRule::UserDefined(ErrorRule { location: place, note, wait, .. }) => json!({
            "built_in": false,
            "place": place,
            "note": note,
            "wait_seconds": wait.map(|wait| wait.as_secs_f64()),
        }),
    }
}

fn explain_json(
    asked: &ExplainInput,
    basis: &ExplainPolicies,
    signals: &RateLimitHeaders,
    judged: &[ExplainedReply<'_>],
) -> Value {
    let names =
        |scopes: &[RequestScope]| scopes.iter().map(|scope| scope.name()).collect::<Vec<_>>();
    let judged = judged.iter().map(|judged| {
        let cause = judged.classification.cause;
        json!({
            "scopes": names(&judged.scopes()),
            "rule": rule_json(&judged.classification.matched_rule),
            "cause": cause.name(),
            "type": cause.category().name(),
            "gate": judged.block.as_ref().map(DelayRange::to_json),
            "outlooks": judged.consequences.iter().map(|outlook| json!({
                "scopes": names(&outlook.scopes),
                "verdict": outlook.verdict.name(),
                "means": outlook.description,
                "delay": outlook.delay.as_ref().map(DelayRange::to_json),
            })).collect::<Vec<_>>(),
        })
    });
    json!({
        "status": asked.status,
        "headers": asked.headers.len(),
        "body_bytes": asked.body.len(),
        "recorded": asked.origin.as_ref().map(|recorded| json!({
            "source": recorded.source,
            "item": recorded.item,
            "at": format_utc(asked.at),
            "cause": recorded.cause.map(Cause::name),
        })),
        "provider": basis.provider,
        "user_rules": basis.rules.len(),
        "judged": judged.collect::<Vec<_>>(),
        "retry_after_seconds": signals.retry_after.map(|told| told.as_secs_f64()),
        "limits": signals.limits.iter().map(|limit| limits::limit_json(limit, asked.at)).collect::<Vec<_>>(),
    })
}

/// A moment as a person and a program read it: in UTC, and here where that differs.
fn format_timestamp(at: Timestamp) -> String {
    let utc = format_utc(at);
    let utc = utc.get(..19).unwrap_or(&utc).replace('T', " ");
    let here = crate::human::format_date_time(at);
    if utc == here { format!("{utc} UTC") } else { format!("{utc} UTC, {here} here") }
}
