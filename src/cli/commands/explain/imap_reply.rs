//! Explanation of a reply of an IMAP server, for each kind of command.

use cynosure_engine::rate_limit::ReportedLimits;
use cynosure_engine::{
    ImapPhase, ImapReply, ImapRule, ImapVerdict, RequestScope, Timestamp, classify_imap_reply,
    sanitize_line,
};

use super::args::ImapPhaseArg;
use super::consequence::{Consequence, add_consequence, consequence};
use super::explained_failure::ExplainedFailure;
use super::input::ExplainPolicies;
use crate::app::error::ProgramError;

/// Verdict on a reply, the commands that it applies to, and the consequences.
#[derive(Debug)]
pub(super) struct ImapExplanation {
    pub verdict: ImapVerdict,
    pub phases: Vec<ImapPhase>,
    /// Empty for a success.
    pub consequences: Vec<Consequence>,
}

/// Parses a reply, with or without its tag or `* `.
///
/// # Errors
/// A text that does not begin with the status of a reply.
pub(super) fn parse_reply(line: &str) -> Result<ImapReply, ProgramError> {
    let without_tag = || ImapReply::parse(line.trim_start().split_once(' ')?.1);
    ImapReply::parse(line).or_else(without_tag).ok_or_else(|| {
        ProgramError::Usage(format!(
            "--imap '{}' is no status reply of an IMAP server: it begins with OK, NO, BAD, BYE or \
             PREAUTH, such as 'NO [OVERQUOTA] Account exceeded bandwidth limits'",
            sanitize_line(line)
        ))
    })
}

/// Returns the kinds of commands of the argument, or all in which a failure may occur.
pub(super) fn phases_of(argument: Option<ImapPhaseArg>) -> &'static [ImapPhase] {
    match argument {
        None => &[
            ImapPhase::Login,
            ImapPhase::Listing,
            ImapPhase::Select,
            ImapPhase::Fetch { is_single: false },
            ImapPhase::Fetch { is_single: true },
        ],
        Some(ImapPhaseArg::Login) => &[ImapPhase::Login],
        Some(ImapPhaseArg::Listing) => &[ImapPhase::Listing],
        Some(ImapPhaseArg::Select) => &[ImapPhase::Select],
        Some(ImapPhaseArg::Fetch) => {
            &[ImapPhase::Fetch { is_single: false }, ImapPhase::Fetch { is_single: true }]
        }
    }
}

/// Classifies the reply for each kind of command. Those with the same verdict share an entry.
pub(super) fn explain_reply(
    reply: &ImapReply,
    phases: &[ImapPhase],
    policies: &ExplainPolicies,
    now: Timestamp,
) -> Vec<ImapExplanation> {
    let mut groups: Vec<(ImapVerdict, Vec<ImapPhase>)> = Vec::new();
    for phase in phases {
        let verdict = classify_imap_reply(reply, *phase);
        match groups.iter_mut().find(|(known, _)| *known == verdict) {
            Some((_, phases)) => phases.push(*phase),
            None => groups.push((verdict, vec![*phase])),
        }
    }
    let explanations = groups.into_iter().map(|(verdict, phases)| {
        let consequences = consequences_of(&verdict, &phases, policies, now);
        ImapExplanation { verdict, phases, consequences }
    });
    explanations.collect()
}

fn consequences_of(
    verdict: &ImapVerdict,
    phases: &[ImapPhase],
    policies: &ExplainPolicies,
    now: Timestamp,
) -> Vec<Consequence> {
    let Some(failure) = explained_failure(verdict, now) else { return Vec::new() };
    let mut scopes: Vec<RequestScope> =
        phases.iter().flat_map(|phase| phase.scopes().iter().copied()).collect();
    scopes.sort_unstable();
    scopes.dedup();
    let mut consequences = Vec::new();
    for scope in scopes {
        let new = special_consequence(verdict.rule, scope)
            .unwrap_or_else(|| consequence(&failure, scope, policies, &ReportedLimits::default()));
        add_consequence(&mut consequences, new);
    }
    consequences
}

/// Returns the failure that a reply stands for. `None` for a success.
fn explained_failure(verdict: &ImapVerdict, now: Timestamp) -> Option<ExplainedFailure> {
    let is_named = verdict.rule == ImapRule::SuggestedBackoff;
    Some(ExplainedFailure {
        cause: verdict.cause?,
        retry_after: verdict.retry_after,
        is_lock_out: verdict.is_lock_out,
        wait_origin: if is_named { "the server's backoff time" } else { "the wait of this rule" },
        refusal: "refusal",
        quickly_retried: &[RequestScope::Item],
        at: now,
        attempt: 1,
        quarantine_count: 0,
    })
}

/// Returns the consequence of a rule, if it is another one than that of its cause.
fn special_consequence(rule: ImapRule, scope: RequestScope) -> Option<Consequence> {
    let (action, description) = match (rule, scope) {
        (ImapRule::SetRefused, _) => (
            "fetch_singly",
            "the messages that were not sent are fetched one by one, so that one bad message \
             fails alone",
        ),
        (ImapRule::FolderMissing, RequestScope::Listing) => {
            ("skip_folder", "the folder was deleted or renamed: it is left out")
        }
        (ImapRule::FolderMissing, RequestScope::Item) => (
            "mark_gone",
            "the message is fetched from another folder that has it; without one it is marked as \
             gone",
        ),
        _ => return None,
    };
    Some(Consequence {
        scopes: vec![scope],
        action,
        description: description.to_owned(),
        delay: None,
    })
}
