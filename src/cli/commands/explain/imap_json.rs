//! JSON output of `explain --imap`.

use cynosure_engine::{Cause, ImapReply};
use serde::Serialize;

use super::consequence::scopes_of;
use super::imap_reply::ImapExplanation;
use super::input::ExplainPolicies;
use super::json::{ConsequenceJson, RuleJson, consequence_json, scope_names};

/// Whole output of `explain --imap --json`. Keys are those of `explain --json`, where they mean
/// the same.
#[derive(Serialize)]
pub(super) struct ImapExplainJson<'a> {
    reply: ImapReplyJson<'a>,
    provider: Option<&'a str>,
    /// One per verdict.
    #[serde(rename = "judged")]
    explanations: Vec<ImapExplanationJson<'a>>,
}

/// Parts of the reply.
#[derive(Serialize)]
struct ImapReplyJson<'a> {
    status: &'static str,
    code: Option<&'a str>,
    /// Text after the name of the code; null without a code.
    arguments: Option<&'a str>,
    text: &'a str,
}

/// Verdict on the reply for some kinds of commands.
#[derive(Serialize)]
struct ImapExplanationJson<'a> {
    phases: Vec<&'static str>,
    scopes: Vec<&'static str>,
    rule: RuleJson<'a>,
    /// Null for a success.
    cause: Option<&'static str>,
    /// Category of the cause.
    #[serde(rename = "type")]
    category: Option<&'static str>,
    /// Wait that the server names, else that of the rule.
    retry_after_seconds: Option<f64>,
    advice: Option<&'static str>,
    #[serde(rename = "slow_down")]
    should_slow_down: bool,
    #[serde(rename = "fewer_connections")]
    should_use_fewer_connections: bool,
    #[serde(rename = "outlooks")]
    consequences: Vec<ConsequenceJson<'a>>,
}

pub(super) fn imap_explain_json<'a>(
    reply: &'a ImapReply,
    policies: &'a ExplainPolicies,
    explanations: &'a [ImapExplanation],
) -> ImapExplainJson<'a> {
    ImapExplainJson {
        reply: ImapReplyJson {
            status: reply.status.name(),
            code: reply.code_name(),
            arguments: reply.code.as_ref().map(|code| code.arguments.as_str()),
            text: &reply.text,
        },
        provider: policies.provider.as_deref(),
        explanations: explanations.iter().map(explanation_json).collect(),
    }
}

fn explanation_json(explanation: &ImapExplanation) -> ImapExplanationJson<'_> {
    let ImapExplanation { verdict, phases, consequences } = explanation;
    ImapExplanationJson {
        phases: phases.iter().map(|phase| phase.name()).collect(),
        scopes: scope_names(&scopes_of(consequences)),
        rule: RuleJson::BuiltIn {
            is_built_in: true,
            name: verdict.rule.name(),
            condition: verdict.rule.condition(),
        },
        cause: verdict.cause.map(Cause::name),
        category: verdict.cause.map(|cause| cause.category().name()),
        retry_after_seconds: verdict.retry_after.map(|wait| wait.as_secs_f64()),
        advice: verdict.advice,
        should_slow_down: verdict.should_slow_down,
        should_use_fewer_connections: verdict.should_use_fewer_connections,
        consequences: consequences.iter().map(consequence_json).collect(),
    }
}
