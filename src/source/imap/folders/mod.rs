//! Folders of the account: asks the server which there are, selects those to extract, and reads
//! the status of each.
//!
//! With `LIST-STATUS` (RFC 5819) that is one request for all folders. No folder is opened, so a
//! poll costs the server little.

mod listed_folder;
mod selection;
mod status_requests;
pub(super) mod survey;
mod warning_log;

use std::collections::BTreeMap;

use cynosure_engine::{Cause, Failure, FolderCount, ImapPhase};
use tracing::{debug, warn};

use self::listed_folder::ListedFolder;
use self::selection::select_folders;
use self::status_requests::{request_statuses, status_attributes};
use crate::source::Listing;
use crate::source::imap::connection::Connection;
use crate::source::imap::source::ImapSource;
use crate::source::imap::wire::{Command, FolderName};

pub(in crate::source::imap) use self::listed_folder::FolderStatus;
pub(in crate::source::imap) use self::status_requests::StatusAnswer;
pub(in crate::source::imap) use self::survey::{FolderSurvey, SurveyedFolder};
pub(in crate::source::imap) use self::warning_log::{FolderWarning, WarningLog};

/// Capability of Gmail, whose folders are labels of the same messages.
pub(in crate::source::imap) const GMAIL_EXTENSION: &str = "X-GM-EXT-1";

/// Choices of Gmail's setting for the maximum number of messages in a folder. The oldest messages
/// beyond it are hidden from IMAP.
const GMAIL_SIZE_LIMITS: [u64; 4] = [1_000, 2_000, 5_000, 10_000];

/// Answer to the request for all folders.
struct FolderList {
    folders: Vec<ListedFolder>,
    /// Status of the folders for which the answer has one.
    statuses: BTreeMap<FolderName, FolderStatus>,
}

/// Asks for the folders of the account and their status.
///
/// A folder that the server refuses is left out: it must not keep the others from being extracted.
///
/// # Errors
/// Returns the failures of the requests and of the selection, and the refusal if the server
/// refuses every folder.
pub(in crate::source::imap) async fn survey_folders(
    source: &ImapSource,
    connection: &mut Connection,
) -> Result<FolderSurvey, Failure> {
    let mut list = list_folders(connection).await?;
    survey_listed(source, connection, &mut list).await
}

/// Returns the survey from which a listing starts. What arrives after it is new at the next poll.
pub(in crate::source::imap) async fn survey_for_listing(
    source: &ImapSource,
    connection: &mut Connection,
    listing: &Listing,
) -> Result<FolderSurvey, Failure> {
    match source.recent_survey.take(listing) {
        Some(survey) => Ok(survey),
        None => Box::pin(survey_folders(source, connection)).await,
    }
}

/// Asks for all folders of the account and their numbers of messages. That of a folder that is not
/// selected is known only if the list contains it.
///
/// # Errors
/// Returns the failures of [`survey_folders`].
pub(in crate::source::imap) async fn count_folders(
    source: &ImapSource,
) -> Result<Vec<FolderCount>, Failure> {
    let mut connection = source.connect().await?;
    let mut list = list_folders(&mut connection).await?;
    let survey = survey_listed(source, &mut connection, &mut list).await?;
    let surveyed = survey.folders.into_iter().map(|folder| (folder.name, folder.status.messages));
    let surveyed: BTreeMap<FolderName, u64> = surveyed.collect();
    let count = |folder: &ListedFolder| {
        let extracted = surveyed.get(&folder.name).copied();
        let listed = list.statuses.get(&folder.name).map(|status| status.messages);
        let (messages, is_extracted) = (extracted.or(listed), extracted.is_some());
        FolderCount { name: folder.path(), messages, is_extracted }
    };
    Ok(list.folders.iter().map(count).collect())
}

/// Asks for the names of all folders, and for their status if the list can contain it.
async fn list_folders(connection: &mut Connection) -> Result<FolderList, Failure> {
    connection.leave_folder().await?;
    let command = list_command(connection);
    let responses = connection.run(&command, ImapPhase::Listing).await?;
    let folders = ListedFolder::from_responses(&responses);
    if folders.is_empty() {
        let message = "the server listed no folder, although every account has INBOX";
        return Err(Failure::new(Cause::Server, message));
    }
    Ok(FolderList { folders, statuses: FolderStatus::read_all(&responses) })
}

/// Selects folders, and asks for the status of those whose status is not known. Takes the known
/// ones out of the list.
async fn survey_listed(
    source: &ImapSource,
    connection: &mut Connection,
    list: &mut FolderList,
) -> Result<FolderSurvey, Failure> {
    let FolderList { folders, statuses } = list;
    let is_gmail = connection.has_capability(GMAIL_EXTENSION);
    let selection = select_folders(folders, &source.options.folders, is_gmail)?;
    if selection.is_all_mail_hidden && source.warnings.is_new(FolderWarning::AllMailHidden) {
        warn!(
            source = source.options.name,
            "Gmail hides All Mail from IMAP, listing every label instead: turn on \"Show in IMAP\" \
             for All Mail in the label settings of Gmail"
        );
    }
    let all_mail = selection.all_mail();
    let names: Vec<FolderName> = selection.folders.into_iter().map(|folder| folder.name).collect();
    let unknown = names.iter().filter(|name| !statuses.contains_key(*name)).cloned();
    let mut answers = request_statuses(connection, unknown).await?;
    let answers = names.into_iter().filter_map(|name| {
        let known = statuses.remove(&name).map(StatusAnswer::Known);
        let answer = known.or_else(|| answers.remove(&name))?;
        Some((name, answer))
    });
    let survey = collect_answers(source, answers)?;
    if is_gmail {
        warn_of_size_limits(source, &survey.folders);
    }
    Ok(FolderSurvey { all_mail, ..survey })
}

/// Asks for the current status of a folder.
///
/// # Errors
/// Returns failures that do not concern this folder alone.
pub(in crate::source::imap) async fn read_status(
    connection: &mut Connection,
    folder: &FolderName,
) -> Result<StatusAnswer, Failure> {
    let mut answers = request_statuses(connection, [folder.clone()]).await?;
    Ok(answers.remove(folder).unwrap_or(StatusAnswer::Missing))
}

/// Logs once that the server refuses access to a folder.
pub(in crate::source::imap) fn warn_of_refusal(
    source: &ImapSource,
    folder: &FolderName,
    failure: &Failure,
) {
    let name = folder.as_text();
    if source.warnings.is_new(FolderWarning::Refused(name.to_owned())) {
        warn!(
            source = source.options.name,
            folder = name,
            error = %failure,
            "folder skipped, because the server refuses access"
        );
    }
}

/// Returns the command that lists all folders, with their status if the server can report it.
///
/// `RETURN` and not a selection, because `LIST (SPECIAL-USE) …` lists the special folders only.
fn list_command(connection: &Connection) -> Command {
    let has = |name: &str| connection.has_capability(name);
    let mut options = Vec::new();
    if has("LIST-EXTENDED") && has("SPECIAL-USE") {
        options.push("SPECIAL-USE".to_owned());
    }
    if has("LIST-EXTENDED") && has("LIST-STATUS") {
        options.push(format!("STATUS {}", status_attributes(connection)));
    }
    let command = Command::new("LIST \"\" \"*\"");
    if options.is_empty() {
        return command;
    }
    command.text(&format!("RETURN ({})", options.join(" ")))
}

/// Sorts the answers into a survey.
fn collect_answers(
    source: &ImapSource,
    answers: impl Iterator<Item = (FolderName, StatusAnswer)>,
) -> Result<FolderSurvey, Failure> {
    let mut survey = FolderSurvey::default();
    let mut first_refusal = None;
    for (name, answer) in answers {
        match answer {
            StatusAnswer::Known(status) => survey.folders.push(SurveyedFolder { name, status }),
            StatusAnswer::Missing => {
                debug!(
                    source = source.options.name,
                    folder = name.as_text(),
                    "folder deleted while the folders were listed"
                );
            }
            StatusAnswer::Refused(failure) => {
                warn_of_refusal(source, &name, &failure);
                survey.refused.push(name);
                first_refusal.get_or_insert(failure);
            }
        }
    }
    if survey.folders.is_empty() {
        let message = "the server lists folders, and none of the selected ones exists";
        return Err(first_refusal.unwrap_or_else(|| Failure::new(Cause::Server, message)));
    }
    Ok(survey)
}

fn warn_of_size_limits(source: &ImapSource, folders: &[SurveyedFolder]) {
    let is_limited = |folder: &&SurveyedFolder| GMAIL_SIZE_LIMITS.contains(&folder.status.messages);
    for SurveyedFolder { name, status } in folders.iter().filter(is_limited) {
        let folder = name.as_text();
        if source.warnings.is_new(FolderWarning::AtSizeLimit(folder.to_owned())) {
            warn!(
                source = source.options.name,
                folder,
                messages = status.messages,
                "Gmail may hide older messages of this folder: set \"Folder size limits\" in its \
                 IMAP settings to no limit"
            );
        }
    }
}
