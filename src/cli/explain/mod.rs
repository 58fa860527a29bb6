//! `explain`: how a reply of a server is judged, why, and what follows.
//!
//! Nothing is decided here: the reply goes through the same rules, waits and quotas as in the
//! worker, with chance at both its ends, and what they return is put into words.

mod asked;
#[cfg(test)]
mod laws;
mod outlook;
mod quota;
mod text;

use serde_json::{Value, json};

use crate::cli::args::{Common, ExplainArgs};
use crate::cli::exit::Exit;
use crate::cli::print::{escaped_json, show};
use crate::cli::trouble::Trouble;
use crate::engine::rate_limit::RateLimitHeaders;
use crate::engine::{
    Cause, Classification, ErrorRule, MatchedRule, RequestScope, ResponseView, Timestamp,
    classify_response,
};
use crate::human::format_utc;
use crate::worker::{Env, RealEnv};

use self::asked::{Asked, Basis};
use self::outlook::{Delay, Outlook, hold, outlook};

/// A judgement, and what it means for each of the scopes it holds for.
#[derive(Debug)]
struct Judged<'r> {
    judgement: Classification<'r>,
    outlooks: Vec<Outlook>,
    /// How long the gate stays closed, where that does not follow from the verdict.
    gate: Option<Delay>,
}

pub(super) fn explain(common: &Common, args: &ExplainArgs) -> Result<Exit, Trouble> {
    let now = RealEnv.now();
    let (asked, basis) = asked::gather(common, args, now)?;
    let signals = asked.signals(&basis);
    let judged = judged(&asked, &basis, &signals);
    if args.json {
        show(escaped_json(&as_json(&asked, &basis, &signals, &judged)))?;
    } else {
        show(text::text(&asked, &basis, &signals, &judged, now))?;
    }
    Ok(Exit::Done)
}

/// Judges the reply for each scope; scopes that are judged alike stand together.
fn judged<'r>(asked: &Asked, basis: &'r Basis, signals: &RateLimitHeaders) -> Vec<Judged<'r>> {
    let headers = asked.header_pairs();
    let reply = ResponseView { status: asked.status, headers: &headers, body: &asked.body };
    let mut all: Vec<Judged<'r>> = Vec::new();
    for scope in &asked.scopes {
        let judgement = classify_response(&reply, signals, *scope, &basis.rules);
        let outlook = outlook(&judgement, *scope, asked, basis, signals);
        match all.iter_mut().find(|judged| judged.judgement == judgement) {
            Some(judged) => judged.add(outlook),
            None => {
                let is_told = judgement.cause == Cause::RateLimit;
                let gate = if is_told { None } else { hold(&judgement, asked, basis, signals) };
                all.push(Judged { judgement, outlooks: vec![outlook], gate });
            }
        }
    }
    all
}

impl Judged<'_> {
    fn add(&mut self, outlook: Outlook) {
        match self.outlooks.iter_mut().find(|known| known.is_like(&outlook)) {
            Some(known) => known.scopes.extend(outlook.scopes),
            None => self.outlooks.push(outlook),
        }
    }

    fn scopes(&self) -> Vec<RequestScope> {
        self.outlooks.iter().flat_map(|outlook| outlook.scopes.iter().copied()).collect()
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

fn as_json(
    asked: &Asked,
    basis: &Basis,
    signals: &RateLimitHeaders,
    judged: &[Judged<'_>],
) -> Value {
    let names =
        |scopes: &[RequestScope]| scopes.iter().map(|scope| scope.name()).collect::<Vec<_>>();
    let judged = judged.iter().map(|judged| {
        let cause = judged.judgement.cause;
        json!({
            "scopes": names(&judged.scopes()),
            "rule": rule_json(&judged.judgement.matched_rule),
            "cause": cause.name(),
            "type": cause.category().name(),
            "gate": judged.gate.as_ref().map(Delay::json),
            "outlooks": judged.outlooks.iter().map(|outlook| json!({
                "scopes": names(&outlook.scopes),
                "verdict": outlook.verdict.name(),
                "means": outlook.means,
                "delay": outlook.delay.as_ref().map(Delay::json),
            })).collect::<Vec<_>>(),
        })
    });
    json!({
        "status": asked.status,
        "headers": asked.headers.len(),
        "body_bytes": asked.body.len(),
        "recorded": asked.recorded.as_ref().map(|recorded| json!({
            "source": recorded.source,
            "item": recorded.item,
            "at": format_utc(asked.at),
            "cause": recorded.cause.map(Cause::name),
        })),
        "provider": basis.provider,
        "user_rules": basis.rules.len(),
        "judged": judged.collect::<Vec<_>>(),
        "retry_after_seconds": signals.retry_after.map(|told| told.as_secs_f64()),
        "limits": signals.limits.iter().map(|limit| quota::json(limit, asked.at)).collect::<Vec<_>>(),
    })
}

/// A moment as a person and a program read it: in UTC, and here where that differs.
fn moment(at: Timestamp) -> String {
    let utc = format_utc(at);
    let utc = utc.get(..19).unwrap_or(&utc).replace('T', " ");
    let here = crate::human::format_date_time(at);
    if utc == here { format!("{utc} UTC") } else { format!("{utc} UTC, {here} here") }
}
