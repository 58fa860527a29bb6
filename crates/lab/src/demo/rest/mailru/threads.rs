//! Folders, and threads as a folder has them.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::error::MailruError;
use super::ids::{find_folder, find_thread, folder_id, message_id, thread_id};
use crate::demo::mailbox::{Folder, GeneratedMailbox, MessageNumber, ThreadNumber};
use crate::demo::rest::request::DemoRequest;

/// Rows on a page, unless a request says otherwise.
const LIMIT_DEFAULT: usize = 50;
const LIMIT_MAX: usize = 1000;

/// Id of a folder with a password of its own, whose content is not shown.
const LOCKED_FOLDER_ID: u32 = 7;

/// Returns all folders, the locked one included.
pub(super) fn folders(mailbox: &mut GeneratedMailbox) -> Value {
    let locked = json!({
        "id": LOCKED_FOLDER_ID,
        "name": "Private",
        "type": "user",
        "system": false,
        "security": "locked",
        "messages_total": 0,
        "threads_total": 0,
    });
    let rows = Folder::ALL.into_iter().map(|folder| folder_row(mailbox, folder));
    rows.chain([locked]).collect()
}

/// Lists the threads of a folder by offset and limit, newest first.
pub(super) fn list(
    mailbox: &mut GeneratedMailbox,
    request: &DemoRequest,
) -> Result<Value, MailruError> {
    let folder = requested_folder(request)?;
    let folder = folder.ok_or_else(|| MailruError::field("folder", "required", ""))?;
    check_sort(request)?;
    let (offset, limit) = offset_and_limit(request)?;

    let messages = mailbox.home_messages(folder);
    let mut seen = BTreeSet::new();
    let threads: Vec<ThreadNumber> = messages
        .iter()
        .map(|message| mailbox.thread_of(*message))
        .filter(|thread| seen.insert(*thread))
        .collect();
    let page = threads.iter().skip(offset).take(limit);
    let rows: Vec<Value> = page.map(|thread| thread_row(mailbox, *thread, folder)).collect();
    Ok(json!({
        "messages_total": messages.len(),
        "messages_unread": 0,
        "threads_total": threads.len(),
        "folders": folders(mailbox),
        "threads": rows,
    }))
}

/// Lists the messages of a thread by offset and limit, newest first: those in the folder, or all if
/// none is named.
pub(super) fn thread(
    mailbox: &GeneratedMailbox,
    request: &DemoRequest,
) -> Result<Value, MailruError> {
    let id = request.query("id").unwrap_or_default();
    let thread =
        find_thread(mailbox, id).ok_or_else(|| MailruError::field("id", "not_exist", id))?;
    let folder = requested_folder(request)?;
    let (offset, limit) = offset_and_limit(request)?;

    let mut messages = mailbox.messages_of(thread);
    messages.retain(|message| folder.is_none_or(|folder| mailbox.home_folder(*message) == folder));
    let page = messages.iter().rev().skip(offset).take(limit);
    let rows: Vec<Value> = page.map(|message| message_row(mailbox, *message)).collect();
    Ok(json!({
        "id": id,
        "thread_id": thread_id(mailbox, thread, Folder::Inbox),
        "length": messages.len(),
        "messages": rows,
    }))
}

fn folder_row(mailbox: &mut GeneratedMailbox, folder: Folder) -> Value {
    let messages = mailbox.home_messages(folder);
    let threads: BTreeSet<ThreadNumber> =
        messages.iter().map(|message| mailbox.thread_of(*message)).collect();
    json!({
        "id": folder_id(folder),
        "name": folder.name(),
        "parent": "-1",
        "type": folder.role(),
        "system": folder != Folder::Archive,
        "archive": folder == Folder::Archive,
        "security": null,
        "messages_total": messages.len(),
        "messages_unread": 0,
        "threads_total": threads.len(),
        "threads_unread": 0,
    })
}

/// Returns a thread with the messages that it has in this folder. `thread_id` is the same in every
/// folder; `representations` has the ids in the others.
fn thread_row(mailbox: &GeneratedMailbox, thread: ThreadNumber, folder: Folder) -> Value {
    let (messages, elsewhere): (Vec<MessageNumber>, Vec<MessageNumber>) = mailbox
        .messages_of(thread)
        .into_iter()
        .partition(|message| mailbox.home_folder(*message) == folder);
    let last = messages.last().copied();
    let other_folders = Folder::ALL
        .into_iter()
        .filter(|other| elsewhere.iter().any(|message| mailbox.home_folder(*message) == *other));
    let representation =
        |other| json!({ "id": thread_id(mailbox, thread, other), "folder": folder_text(other) });
    let representations: Vec<Value> = other_folders.map(representation).collect();
    let size: usize = messages.iter().map(|message| mailbox.size(*message)).sum();
    json!({
        "id": thread_id(mailbox, thread, folder),
        "thread_id": thread_id(mailbox, thread, Folder::Inbox),
        "last": last.map(|last| message_id(mailbox, last)),
        "length": messages.len(),
        "length_unread": 0,
        "flags": {},
        "date": last.map(|last| mailbox.received_at(last)),
        "size": size,
        "folder": folder_text(folder),
        "representations": representations,
    })
}

fn message_row(mailbox: &GeneratedMailbox, message: MessageNumber) -> Value {
    json!({
        "id": message_id(mailbox, message),
        "thread_id": thread_id(mailbox, mailbox.thread_of(message), Folder::Inbox),
        "folder": folder_text(mailbox.home_folder(message)),
        "date": mailbox.received_at(message),
        "size": mailbox.size(message),
        "flags": {},
    })
}

/// Returns the id of a folder as rows have it, which is a text there.
fn folder_text(folder: Folder) -> String {
    folder_id(folder).to_string()
}

fn requested_folder(request: &DemoRequest) -> Result<Option<Folder>, MailruError> {
    let Some(id) = request.query("folder") else { return Ok(None) };
    if id == LOCKED_FOLDER_ID.to_string() {
        return Err(MailruError::field("folder", "locked", id));
    }
    find_folder(id).map(Some).ok_or_else(|| MailruError::field("folder", "not_exist", id))
}

/// Refuses an order of threads other than that by date, newest first.
fn check_sort(request: &DemoRequest) -> Result<(), MailruError> {
    let Some(text) = request.query("sort") else { return Ok(()) };
    let sort: Value = serde_json::from_str(text).unwrap_or_default();
    let is_supported = sort == json!({ "type": "date", "order": "desc" });
    if is_supported { Ok(()) } else { Err(MailruError::field("sort", "invalid", text)) }
}

fn offset_and_limit(request: &DemoRequest) -> Result<(usize, usize), MailruError> {
    let number = |name: &str| {
        let number = request.query_number::<usize>(name);
        number.map_err(|text| MailruError::field(name, "invalid", &text))
    };
    let limit = number("limit")?.unwrap_or(LIMIT_DEFAULT);
    if LIMIT_MAX < limit {
        return Err(MailruError::field("limit", "invalid", &limit.to_string()));
    }
    Ok((number("offset")?.unwrap_or(0), limit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::rest::mailru::tests::answer;

    const LIST: &str = "/threads/status/smart?sort=%7B%22type%22%3A%22date%22%2C\
                        %22order%22%3A%22desc%22%7D";

    /// Returns the rows of a page of a folder.
    fn rows(mailbox: &mut GeneratedMailbox, query: &str) -> Vec<Value> {
        let response = answer(mailbox, &format!("{LIST}&{query}"));
        assert_eq!(response["status"], 200, "{response}");
        response["body"]["threads"].as_array().unwrap().clone()
    }

    #[test]
    fn every_folder_is_listed_and_one_is_locked() {
        let mut mailbox = GeneratedMailbox::new(1, 40);

        let response = answer(&mut mailbox, "/folders");

        assert_eq!(
            (&response["status"], &response["email"]),
            (&json!(200), &json!("demo@example.com"))
        );
        let folders = response["body"].as_array().unwrap();
        let ids: Vec<u64> = folders.iter().map(|folder| folder["id"].as_u64().unwrap()).collect();
        assert_eq!(ids, [0, 1, 500_000, 500_002, 7]);
        let counts = folders.iter().map(|folder| folder["messages_total"].as_u64().unwrap());
        assert_eq!(counts.sum::<u64>(), 64);
        assert_eq!(
            (&folders[0]["security"], &folders[4]["security"]),
            (&Value::Null, &json!("locked"))
        );
        let locked = answer(&mut mailbox, &format!("{LIST}&folder=7"));
        assert_eq!(locked["body"]["folder"]["error"], "locked");
    }

    #[test]
    fn offsets_move_with_a_thread_that_gets_a_new_message() {
        let mut mailbox = GeneratedMailbox::new(1, 200);
        let all = rows(&mut mailbox, "folder=0&limit=1000");
        let dates: Vec<u64> = all.iter().map(|row| row["date"].as_u64().unwrap()).collect();
        assert!(dates.is_sorted_by(|a, b| a >= b));
        assert_eq!(rows(&mut mailbox, "folder=0&limit=20&offset=20"), all[20..40]);
        assert_eq!(rows(&mut mailbox, "folder=0").len(), 50);
        assert!(rows(&mut mailbox, "folder=0&offset=1000").is_empty());

        mailbox.deliver(40);

        let later = rows(&mut mailbox, "folder=0&limit=1000");
        let moved = later
            .iter()
            .find(|row| all.iter().any(|old| old["id"] == row["id"] && old["last"] != row["last"]));
        assert!(moved.is_some(), "a reply belongs to a thread that is known");
        assert_ne!(later[20]["id"], all[20]["id"]);
    }

    #[test]
    fn a_thread_in_two_folders_has_different_messages_in_each() {
        let mut mailbox = GeneratedMailbox::new(1, 200);
        let split = rows(&mut mailbox, "folder=0&limit=1000")
            .into_iter()
            .find(|row| row["representations"].as_array().is_some_and(|others| !others.is_empty()));
        let split = split.unwrap();
        let other = &split["representations"][0];
        let other_folder = other["folder"].as_str().unwrap();
        let id = split["thread_id"].as_str().unwrap();
        let messages_in = |mailbox: &mut GeneratedMailbox, folder: &str| {
            let uri = format!("/threads/thread?id={id}&folder={folder}&mark_read=false&limit=100");
            answer(mailbox, &uri)["body"]["messages"].as_array().unwrap().clone()
        };

        let here = messages_in(&mut mailbox, "0");
        let there = messages_in(&mut mailbox, other_folder);
        let all = answer(&mut mailbox, &format!("/threads/thread?id={id}"));

        assert_eq!(here.len() as u64, split["length"].as_u64().unwrap());
        assert_eq!((&here[0]["id"], &here[0]["folder"]), (&split["last"], &json!("0")));
        assert!(there.iter().all(|message| message["folder"] == other_folder));
        assert!(!there.is_empty() && !here.contains(&there[0]));
        let total = all["body"]["messages"].as_array().unwrap().len();
        assert!(here.len() + there.len() <= total);
        let others = rows(&mut mailbox, &format!("folder={other_folder}&limit=1000"));
        let seen_there = others.iter().find(|row| row["id"] == other["id"]).unwrap();
        assert_eq!(seen_there["thread_id"], split["thread_id"]);
    }

    #[test]
    fn wrong_parameters_are_named_in_the_body_of_a_200() {
        let mut mailbox = GeneratedMailbox::new(1, 5);
        for (method, field, error, status) in [
            ("/threads/status/smart", "folder", "required", 400),
            ("/threads/status/smart?folder=9", "folder", "not_exist", 404),
            ("/threads/status/smart?folder=0&limit=1001", "limit", "invalid", 400),
            ("/threads/status/smart?folder=0&offset=-1", "offset", "invalid", 400),
            ("/threads/status/smart?folder=0&sort=id", "sort", "invalid", 400),
            ("/threads/thread?id=1:18c5000000000000:0", "id", "not_exist", 404),
            ("/threads/thread", "id", "not_exist", 404),
        ] {
            let response = answer(&mut mailbox, method);
            assert_eq!(response["status"], status, "{method}: {response}");
            assert_eq!(response["body"][field]["error"], error, "{method}: {response}");
        }
    }
}
