//! Text output of `explain --imap`: labelled lines.

use cynosure_engine::{ImapPhase, ImapReply, ImapRule, ImapStatus, ImapVerdict, sanitize_line};

use super::imap_reply::ImapExplanation;
use super::text::add_consequences;
use crate::cli::key_values::KeyValueTable;

pub(super) fn imap_explain_text(reply: &ImapReply, explanations: &[ImapExplanation]) -> String {
    let mut table = KeyValueTable::default();
    table.add_all("reply", reply_lines(reply));
    for explanation in explanations {
        let ImapExplanation { verdict, phases, consequences } = explanation;
        if explanations.len() > 1 {
            table.add("for", phases_text(phases));
        }
        let rule = verdict.rule;
        table.add("rule", format!("{} (built in): {}", rule.name(), rule.condition()));
        let cause = match verdict.cause {
            Some(cause) => format!("{cause} ({})", cause.category().name()),
            None => "none: the command succeeded".to_owned(),
        };
        table.add("cause", cause);
        add_consequences(&mut table, consequences);
        table.add_all("also", further_effects(verdict));
        table.add_all("advice", verdict.advice.map(str::to_owned).into_iter().collect());
    }
    table.render()
}

fn reply_lines(reply: &ImapReply) -> Vec<String> {
    let mut lines = vec![sanitize_line(&reply.to_string())];
    if reply.status == ImapStatus::Bye {
        lines.push("the server closes the connection; the next request opens another".to_owned());
    }
    lines
}

/// Describes the effects that do not depend on the cause.
fn further_effects(verdict: &ImapVerdict) -> Vec<String> {
    let mut effects = Vec::new();
    if verdict.should_slow_down {
        effects.push("the next requests are sent at a lower rate");
    }
    if verdict.should_use_fewer_connections {
        effects.push("one connection fewer is used for some minutes");
    }
    if verdict.rule == ImapRule::AuthenticatedNotConnected {
        effects.push("the fifth such reply in a row counts as a refused credential");
    }
    if verdict.rule == ImapRule::SessionExpired {
        effects.push("the third such reply within 10 minutes counts as a rate limit");
    }
    if verdict.rule == ImapRule::ExpungeIssued {
        effects.push("messages that are missing in the answer are requested once more");
    }
    if verdict.rule == ImapRule::Alert {
        effects.push("the text is logged, because it is meant for people");
    }
    effects.into_iter().map(str::to_owned).collect()
}

/// Joins kinds of commands, such as `a login, a listing`.
fn phases_text(phases: &[ImapPhase]) -> String {
    let names = phases.iter().map(|phase| match phase {
        ImapPhase::Greeting => "the greeting",
        ImapPhase::Login => "a login",
        ImapPhase::Listing => "a listing",
        ImapPhase::Select => "the opening of a folder",
        ImapPhase::Fetch { is_single: false } => "the fetch of several messages",
        ImapPhase::Fetch { is_single: true } => "the fetch of one message",
        ImapPhase::Idle => "no command",
    });
    names.collect::<Vec<_>>().join(", ")
}
