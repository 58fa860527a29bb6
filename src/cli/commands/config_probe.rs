//! `config check --probe`: logs in to each source, lists its folders and fetches one message. Of a
//! REST source it also shows what was understood of the profile.
//!
//! Nothing is stored but the state of the rate limiters, which running workers share. So a probe
//! obeys their blocks, and they obey a block that it causes.

use cynosure_engine::{
    AccountId, Cause, ErrorAction, Failure, FolderCount, RequestScope, Timestamp, format_count,
    sanitize_line,
};
use tokio::task::LocalSet;

use crate::app::context::AppContext;
use crate::app::error::ProgramError;
use crate::app::exit::ProgramExit;
use crate::app::log;
use crate::app::progress::{ProgressBars, ShowProgress};
use crate::app::runtime::new_runtime;
use crate::app::source_selection::SourceSelection;
use crate::cli::args::CommonArgs;
use crate::cli::commands::profile_text::profile_summary;
use crate::cli::commands::run_summary;
use crate::cli::error::report_error;
use crate::cli::key_values::KeyValueTable;
use crate::cli::print::print_best_effort;
use crate::cli::table::table;
use crate::config::{Settings, SourceName, SourceSettings};
use crate::env::{Env, RealEnv};
use crate::human::{EMPTY_CELL, format_deadline, pluralize};
use crate::ledger::{LedgerReader, SqliteLedger};
use crate::worker::{MessageProbe, ProbeContext, ProbedDocument, ProbedMailbox};

const HEADER: [&str; 3] = ["FOLDER", "MESSAGES", "EXTRACTED"];

/// Maximum number of folders shown. Accounts with thousands of them exist.
const FOLDERS_SHOWN_MAX: usize = 20;

/// Maximum length of the first line of a document, in characters.
const FIRST_LINE_CHARS_MAX: usize = 80;

/// Step of a probe.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum ProbeStep {
    Login,
    Folders,
    Message,
}

/// Probes the named sources one after the other, or all enabled ones if none is named.
pub(super) fn probe_sources(
    common: &CommonArgs,
    context: &AppContext,
    named: &[String],
) -> Result<ProgramExit, ProgramError> {
    let settings = &context.loaded.settings;
    let selection = SourceSelection::new(settings, named)
        .map_err(|message| ProgramError::new(ProgramExit::Configuration, message))?;
    log::start(common.log_options(), &context.environment, &ProgressBars::new(ShowProgress::No));
    let runtime = new_runtime()?;
    let probe_context = probe_context(context);
    let selected = selection.names().iter().filter_map(|name| settings.sources.get_key_value(name));
    let exits: Vec<ProgramExit> = selected
        .map(|source| {
            let account = bound_account(context, source.0);
            let remedy = run_summary::refused_credential_remedy(source.0, Some(&source.1.auth));
            let probe = probe_source(settings, &probe_context, source, account, &remedy);
            report_error(LocalSet::new().block_on(&runtime, probe))
        })
        .collect();
    runtime.block_on(probe_context.wait_for_refreshes());
    // A credential command that hangs must not delay the end of the program.
    runtime.shutdown_background();
    Ok(ProgramExit::most_severe(exits))
}

/// Probes one source, for a command that has started the log. `refused_remedy` is the one for a
/// credential that is refused.
///
/// # Errors
/// If the client cannot be built, or the failure of the probe with a remedy.
pub(super) fn probe_once(
    context: &AppContext,
    source: (&SourceName, &SourceSettings),
    refused_remedy: &str,
) -> Result<ProgramExit, ProgramError> {
    let runtime = new_runtime()?;
    let probe_context = probe_context(context);
    let account = bound_account(context, source.0);
    let settings = &context.loaded.settings;
    let probe = probe_source(settings, &probe_context, source, account, refused_remedy);
    let result = LocalSet::new().block_on(&runtime, probe);
    runtime.block_on(probe_context.wait_for_refreshes());
    runtime.shutdown_background();
    result
}

/// Returns the account that the server names after one login to a source.
///
/// # Errors
/// If the client cannot be built, or the failure of the login with a remedy. `refused_remedy` is
/// that for a credential that is refused.
pub(super) fn log_in_once(
    context: &AppContext,
    (name, source): (&SourceName, &SourceSettings),
    refused_remedy: &str,
) -> Result<AccountId, ProgramError> {
    let runtime = new_runtime()?;
    let probe_context = probe_context(context);
    let account = bound_account(context, name);
    let login = async {
        let mailbox = open_mailbox(&probe_context, (name, source), account)?;
        mailbox.log_in().await.map_err(|failure| {
            if mailbox.is_client_refused() {
                return client_refused_error(name, &failure);
            }
            if failure.cause == Cause::Unauthorized {
                let message = format!("{name}: {failure}; {refused_remedy}");
                return ProgramError::new(ProgramExit::Authentication, message);
            }
            let (exit, sentence) =
                describe_failure(ProbeStep::Login, &failure, RealEnv.now(), refused_remedy);
            ProgramError::new(exit, format!("{name}: {sentence}"))
        })
    };
    let account = LocalSet::new().block_on(&runtime, login);
    runtime.block_on(probe_context.wait_for_refreshes());
    runtime.shutdown_background();
    account
}

/// Returns the error of a client that the sign-in server refuses. The failure names the remedy.
fn client_refused_error(name: &SourceName, failure: &Failure) -> ProgramError {
    ProgramError::new(ProgramExit::Configuration, format!("{name}: {failure}"))
}

fn probe_context(context: &AppContext) -> ProbeContext<'_> {
    ProbeContext::new(&context.loaded.settings, &context.environment, context.state_folder())
}

fn open_mailbox(
    probe_context: &ProbeContext<'_>,
    (name, source): (&SourceName, &SourceSettings),
    account: Option<AccountId>,
) -> Result<ProbedMailbox, ProgramError> {
    probe_context.open((name, source), account).map_err(|error| {
        let (exit, sentence) = run_summary::start_error_exit(&error);
        ProgramError::new(exit, format!("{name}: {sentence}"))
    })
}

/// Returns the account that the ledger belongs to, if there is one. A damaged ledger is reported by
/// `run`, and does not affect a probe.
fn bound_account(context: &AppContext, name: &SourceName) -> Option<AccountId> {
    let ledger_file = context.state_folder().source(name.as_str()).ledger_file();
    SqliteLedger::open_read_only(&ledger_file).ok().flatten()?.bound_account().ok().flatten()
}

async fn probe_source(
    settings: &Settings,
    probe_context: &ProbeContext<'_>,
    (name, source): (&SourceName, &SourceSettings),
    account: Option<AccountId>,
    refused_remedy: &str,
) -> Result<ProgramExit, ProgramError> {
    print_best_effort(format!("\n{name}: {} at {}", source.kind.name(), source.kind.host()));
    let rest = source.kind.rest();
    if let Some(rest) = rest {
        let provider = settings.provider_or_default(&source.provider);
        print_best_effort(profile_summary(rest, &provider));
    }
    let mailbox = open_mailbox(probe_context, (name, source), account)?;
    let to_error = |step: ProbeStep, failure: &Failure| {
        if mailbox.is_client_refused() {
            return client_refused_error(name, failure);
        }
        if let Some(remedy) = rest.and_then(|_| profile_remedy(step, failure.cause)) {
            let message = format!("{name}: {failure}; {remedy}");
            return ProgramError::new(ProgramExit::Configuration, message);
        }
        let (exit, sentence) = describe_failure(step, failure, RealEnv.now(), refused_remedy);
        ProgramError::new(exit, format!("{name}: {sentence}"))
    };

    let account = mailbox.log_in().await.map_err(|failure| to_error(ProbeStep::Login, &failure))?;
    let account = sanitize_line(account.as_str());
    print_best_effort(match rest {
        Some(rest) if rest.profile.tables.account.is_none() => {
            format!("account {account}, as configured")
        }
        Some(_) | None => format!("login ok, account {account}"),
    });
    let folders =
        mailbox.folders().await.map_err(|failure| to_error(ProbeStep::Folders, &failure))?;
    print_best_effort(folders_text(folders));
    let message =
        mailbox.fetch_message().await.map_err(|failure| to_error(ProbeStep::Message, &failure))?;
    print_best_effort(message_text(&message));
    if let (Some(_), MessageProbe::Fetched(document)) = (rest, &message) {
        print_best_effort(document_details(document));
    }
    Ok(ProgramExit::Success)
}

/// Returns the remedy for a failure that shows a wrong profile; `None` for any other.
fn profile_remedy(step: ProbeStep, cause: Cause) -> Option<&'static str> {
    if cause == Cause::Unknown {
        return Some("correct the table of the profile, or replace it in the source");
    }
    // A document that is not found may have been deleted.
    (cause == Cause::NotFound && step != ProbeStep::Message)
        .then_some("correct `base_url`, or the path in the table of the profile")
}

/// Returns the exit and the sentence for a failure, with a remedy.
fn describe_failure(
    step: ProbeStep,
    failure: &Failure,
    now: Timestamp,
    refused_remedy: &str,
) -> (ProgramExit, String) {
    let (exit, remedy) = exit_and_remedy(step, failure.cause, refused_remedy);
    let mut sentence = failure.to_string();
    if let Some(until) = failure.blocked_until.filter(|until| now < *until) {
        let deadline = format_deadline(until, now);
        sentence.push_str(&format!("; the rate limiter is blocked until {deadline}"));
    }
    (exit, format!("{sentence}; {remedy}"))
}

fn exit_and_remedy(step: ProbeStep, cause: Cause, refused_remedy: &str) -> (ProgramExit, &str) {
    let scope = match step {
        ProbeStep::Login => RequestScope::Session,
        ProbeStep::Folders => RequestScope::Listing,
        ProbeStep::Message => RequestScope::Item,
    };
    let action = cause.action(scope);
    if action == ErrorAction::RefreshCredential {
        return run_summary::credential_remedy(Some(cause), refused_remedy);
    }
    if action == ErrorAction::WaitForRateLimit {
        return (ProgramExit::Other, "probe again later");
    }
    match step {
        ProbeStep::Login => run_summary::address_remedy(Some(cause)),
        ProbeStep::Folders if cause == Cause::NotFound => {
            (ProgramExit::Configuration, "correct the names of the folders to extract")
        }
        ProbeStep::Folders | ProbeStep::Message if cause == Cause::TooLarge => {
            (ProgramExit::Other, "the login works")
        }
        ProbeStep::Folders | ProbeStep::Message => {
            (ProgramExit::Other, "the login works; probe again later")
        }
    }
}

/// Returns the table of the largest folders, and the sums of the others and of those that are
/// extracted.
fn folders_text(mut folders: Vec<FolderCount>) -> String {
    folders.sort_by(|one, other| {
        other.messages.cmp(&one.messages).then_with(|| one.name.cmp(&other.name))
    });
    let (shown, hidden) = folders.split_at(folders.len().min(FOLDERS_SHOWN_MAX));
    let rows: Vec<Vec<String>> = shown.iter().map(folder_row).collect();
    let mut text = table(&HEADER, &rows);
    if !hidden.is_empty() {
        let count = pluralize(hidden.len() as u64, "more folder");
        text.push_str(&format!("and {count}, {}\n", messages_text(hidden.iter())));
    }
    let extracted = folders.iter().filter(|folder| folder.is_extracted);
    let count = format_count(extracted.clone().count() as u64);
    let all = pluralize(folders.len() as u64, "folder");
    text.push_str(&format!("to extract: {} in {count} of {all}", messages_text(extracted)));
    text
}

fn folder_row(folder: &FolderCount) -> Vec<String> {
    let messages = folder.messages.map_or_else(|| EMPTY_CELL.to_owned(), format_count);
    let extracted = if folder.is_extracted { "yes" } else { "no" };
    vec![sanitize_line(&folder.name), messages, extracted.to_owned()]
}

/// Returns the sum of the messages of folders; at least that many if some are not counted.
fn messages_text<'a>(folders: impl Iterator<Item = &'a FolderCount> + Clone) -> String {
    let counts = folders.clone().filter_map(|folder| folder.messages);
    let messages = pluralize(counts.clone().fold(0, u64::saturating_add), "message");
    match (counts.count(), folders.count()) {
        (counted, all) if counted == all => messages,
        (0, _) => "an unknown number of messages".to_owned(),
        _ => format!("at least {messages}"),
    }
}

fn message_text(message: &MessageProbe) -> String {
    match message {
        MessageProbe::Fetched(ProbedDocument { bytes, duration, path, .. }) => {
            let (bytes, time) = (pluralize(*bytes, "byte"), run_summary::transfer_time(*duration));
            format!(
                "fetched one message: {bytes} in {time}, not stored\n\
                 would be stored as {path} in the session folder"
            )
        }
        MessageProbe::EmptyMailbox => {
            "fetched no message: the mailbox has none to extract".to_owned()
        }
        MessageProbe::EmptyPages => {
            "fetched no message: the first pages of the list have none to extract".to_owned()
        }
    }
}

/// Returns what a profile has found of a document: the size of its page, its labels and its first
/// line.
fn document_details(document: &ProbedDocument) -> String {
    let mut details = KeyValueTable::default();
    details.add("listed", pluralize(document.listed_documents as u64, "document"));
    let labels = document.labels.iter();
    let labels = labels.map(|(name, value)| sanitize_line(&format!("{name}: {value}")));
    details.add_all("labels", labels.collect());
    details.add("first line", shorten(&document.first_line));
    details.render()
}

/// Returns untrusted text as one line of at most [`FIRST_LINE_CHARS_MAX`] characters.
fn shorten(text: &str) -> String {
    let line = sanitize_line(text);
    if line.chars().count() <= FIRST_LINE_CHARS_MAX {
        return line;
    }
    line.chars().take(FIRST_LINE_CHARS_MAX - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NOW: Timestamp = Timestamp(1_700_000_000_000);

    fn folder(name: &str, messages: Option<u64>, is_extracted: bool) -> FolderCount {
        FolderCount { name: name.to_owned(), messages, is_extracted }
    }

    #[test]
    fn folders_are_shown_by_size_with_the_sum_of_those_to_extract() {
        let text = folders_text(vec![
            folder("Trash", None, false),
            folder("Sent\u{1b}[2J", Some(88), true),
            folder("INBOX", Some(1234), true),
            folder("Drafts", Some(88), false),
        ]);

        insta::assert_snapshot!(text, @r"
        FOLDER         MESSAGES  EXTRACTED
        INBOX          1,234     yes
        Drafts         88        no
        Sent\u{1b}[2J  88        yes
        Trash          –         no
        to extract: 1,322 messages in 2 of 4 folders
        ");
    }

    #[test]
    fn of_thousands_of_folders_the_largest_are_shown() {
        let folders = (1..=10_000).map(|size| folder(&format!("F{size}"), Some(size), true));

        let text = folders_text(folders.chain([folder("Old", None, false)]).collect());

        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 1 + FOLDERS_SHOWN_MAX + 2, "{text}");
        assert!(lines[1].starts_with("F10000  10,000 "), "{text}");
        assert!(lines[20].starts_with("F9981   9,981 "), "{text}");
        assert_eq!(lines[21], "and 9,981 more folders, at least 49,805,190 messages");
        assert_eq!(lines[22], "to extract: 50,005,000 messages in 10,000 of 10,001 folders");
    }

    #[test]
    fn folders_without_counts_have_no_sum() {
        let folders = (0..30).map(|number| folder(&format!("F{number}"), None, false));

        let text = folders_text(folders.chain([folder("INBOX", Some(7), true)]).collect());

        assert!(text.contains("\nand 11 more folders, an unknown number of messages\n"), "{text}");
        assert!(text.ends_with("\nto extract: 7 messages in 1 of 31 folders"), "{text}");
    }

    #[test]
    fn an_account_without_folders_has_nothing_to_extract() {
        let text = folders_text(Vec::new());

        assert!(text.ends_with("\nto extract: 0 messages in 0 of 0 folders"), "{text}");
    }

    fn document(labels: &[(&str, &str)], first_line: &str) -> ProbedDocument {
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        ProbedDocument {
            listed_documents: 500,
            bytes: 4321,
            duration: Duration::from_millis(210),
            path: "bf/+eb.eml".to_owned(),
            labels: labels.collect(),
            first_line: first_line.to_owned(),
        }
    }

    #[test]
    fn the_fetched_message_is_shown_with_size_time_and_path() {
        let text = message_text(&MessageProbe::Fetched(document(&[], "")));

        insta::assert_snapshot!(text, @r"
        fetched one message: 4,321 bytes in 0.2 s, not stored
        would be stored as bf/+eb.eml in the session folder
        ");
    }

    #[test]
    fn labels_and_first_line_of_a_document_are_sanitized() {
        let labels = [("thread", "T1"), ("subject", "\u{1b}[2Jhi")];

        insta::assert_snapshot!(document_details(&document(&labels, "From: \u{202e}me")), @r"
        listed      500 documents
        labels      thread: T1
                    subject: \u{1b}[2Jhi
        first line  From: \u{202e}me
        ");
        let long = document_details(&document(&[], &"ä".repeat(81)));
        assert!(long.ends_with(&format!("  {}…", "ä".repeat(79))), "{long}");
    }

    #[test]
    fn a_wrong_profile_is_a_wrong_configuration() {
        let has_remedy = |step, cause| profile_remedy(step, cause).is_some();

        assert!(has_remedy(ProbeStep::Folders, Cause::Unknown));
        assert!(has_remedy(ProbeStep::Message, Cause::Unknown));
        assert!(has_remedy(ProbeStep::Folders, Cause::NotFound));
        assert!(!has_remedy(ProbeStep::Message, Cause::NotFound), "the document may be gone");
        assert!(!has_remedy(ProbeStep::Folders, Cause::Server));
        assert!(has_remedy(ProbeStep::Login, Cause::Unknown), "[account] is wrong");
        assert!(has_remedy(ProbeStep::Login, Cause::NotFound));
        assert!(!has_remedy(ProbeStep::Login, Cause::Connection));
    }

    #[test]
    fn each_failure_has_the_exit_code_of_a_run() {
        for (step, cause, code) in [
            (ProbeStep::Login, Cause::Unauthorized, 77),
            (ProbeStep::Login, Cause::AccountChanged, 77),
            (ProbeStep::Login, Cause::Forbidden, 77),
            (ProbeStep::Login, Cause::NotFound, 78),
            (ProbeStep::Login, Cause::Challenge, 78),
            (ProbeStep::Login, Cause::Connection, 1),
            (ProbeStep::Login, Cause::RateLimit, 1),
            (ProbeStep::Folders, Cause::NotFound, 78),
            (ProbeStep::Folders, Cause::Server, 1),
            (ProbeStep::Message, Cause::Unauthorized, 77),
            (ProbeStep::Message, Cause::NotFound, 1),
            (ProbeStep::Message, Cause::Forbidden, 1),
            (ProbeStep::Message, Cause::TooLarge, 1),
        ] {
            let (exit, _) = exit_and_remedy(step, cause, "");
            assert_eq!(exit.code(), code, "{step:?} {cause:?}");
        }
    }

    #[test]
    fn a_block_is_reported_until_it_ends() {
        let until = NOW.after(Duration::from_secs(240));
        let failure = Failure::new(Cause::RateLimit, "the server said: retry after 240 s");
        let failure = failure.with_blocked_until(Some(until));

        let (_, sentence) = describe_failure(ProbeStep::Login, &failure, NOW, "");
        let (_, later) = describe_failure(ProbeStep::Login, &failure, until, "");

        assert!(sentence.contains("240 s; the rate limiter is blocked until "), "{sentence}");
        assert!(sentence.ends_with(" (in 4 min); probe again later"), "{sentence}");
        assert_eq!(later, "the server said: retry after 240 s; probe again later");
    }
}
