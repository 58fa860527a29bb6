//! History of changes.

use serde_json::{Value, json};

use super::error::GmailError;
use super::page::{GmailPageRequest, page_token};
use super::resource::{FIRST_HISTORY_ID, history_id, label_ids, reference};
use crate::demo::mailbox::{ChangeKind, ChangeLogEntry, GeneratedMailbox};
use crate::demo::rest::request::DemoRequest;

/// Lists a page of the changes after `startHistoryId`, oldest first. A page without changes of the
/// requested types does not have the list, and may have a token.
pub(super) fn page(mailbox: &GeneratedMailbox, request: &DemoRequest) -> Result<Value, GmailError> {
    let invalid =
        |text| GmailError::invalid(format!("Invalid value at 'start_history_id': {text}"));
    let start: Option<usize> = request.query_number("startHistoryId").map_err(invalid)?;
    let start = start.ok_or_else(|| GmailError::invalid("Missing required 'start_history_id'"))?;
    let page = GmailPageRequest::parse(request)?;
    // An id that is too old is not found, and the client must list everything again.
    let position = page.position.or_else(|| start.checked_sub(FIRST_HISTORY_ID));
    let position = position.ok_or_else(GmailError::not_found)?;
    let changes = mailbox.changes_after(position, page.results_max);
    let changes = changes.ok_or_else(GmailError::not_found)?;

    let types: Vec<&str> = request.queries("historyTypes").collect();
    let records = changes
        .iter()
        .enumerate()
        .filter(|(_, change)| types.is_empty() || types.contains(&history_type(change)));
    let records: Vec<Value> =
        records.map(|(index, change)| record(mailbox, change, position + index + 1)).collect();
    let end = position + changes.len();
    let mut body = json!({ "historyId": history_id(mailbox.change_count()) });
    if !records.is_empty() {
        body["history"] = records.into();
    }
    if end < mailbox.change_count() {
        body["nextPageToken"] = page_token(end).into();
    }
    Ok(body)
}

fn history_type(change: &ChangeLogEntry) -> &'static str {
    match change.message_change {
        ChangeKind::Created => "messageAdded",
        ChangeKind::Updated => "labelAdded",
        ChangeKind::Destroyed => "messageDeleted",
    }
}

/// Returns the record of the change after which the mailbox had this number of changes.
fn record(mailbox: &GeneratedMailbox, change: &ChangeLogEntry, changes: usize) -> Value {
    let mut message = reference(mailbox, change.message);
    let mut record = json!({ "id": history_id(changes), "messages": [message] });
    let labels = label_ids(mailbox, change.message);
    message["labelIds"] = labels.clone().into();
    let (name, detail) = match change.message_change {
        ChangeKind::Created => ("messagesAdded", json!({ "message": message })),
        ChangeKind::Updated => ("labelsAdded", json!({ "message": message, "labelIds": labels })),
        ChangeKind::Destroyed => ("messagesDeleted", json!({ "message": message })),
    };
    record[name] = json!([detail]);
    record
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::rest::gmail::tests::answer;

    /// Requests a page of the history after the first id.
    fn history(mailbox: &mut GeneratedMailbox, query: &str, status: u16) -> Value {
        let start = history_id(0);
        answer(mailbox, &format!("/history?startHistoryId={start}{query}")).json(status)
    }

    #[test]
    fn added_moved_and_deleted_messages_have_different_records() {
        let mut mailbox = GeneratedMailbox::new(1, 20);
        mailbox.deliver(2);
        mailbox.move_to_trash(1);
        mailbox.destroy(1);

        let all = history(&mut mailbox, "", 200);
        let added = history(&mut mailbox, "&historyTypes=messageAdded", 200);

        let names = ["messagesAdded", "messagesAdded", "labelsAdded", "messagesDeleted"];
        let records = all["history"].as_array().unwrap();
        assert_eq!(records.len(), names.len());
        for (record, name) in records.iter().zip(names) {
            let id = &record[name][0]["message"]["id"];
            assert_eq!((id, &record["messages"][0]["id"]), (id, id), "{name}");
            assert!(id.is_string(), "{record}");
        }
        assert_eq!(records[2]["labelsAdded"][0]["labelIds"], json!(["TRASH"]));
        assert_eq!(all["historyId"], records[3]["id"]);
        assert_eq!(added["history"].as_array().unwrap().len(), 2);
        assert_eq!(added["historyId"], all["historyId"]);
    }

    #[test]
    fn a_page_may_have_a_token_and_no_history() {
        let mut mailbox = GeneratedMailbox::new(1, 20);
        mailbox.destroy(2);
        mailbox.deliver(1);

        let first = history(&mut mailbox, "&historyTypes=messageAdded&maxResults=2", 200);
        assert_eq!(first["history"], Value::Null);
        let token = first["nextPageToken"].as_str().unwrap().to_owned();
        let query = format!("&historyTypes=messageAdded&maxResults=2&pageToken={token}");
        let second = history(&mut mailbox, &query, 200);

        assert_eq!(second["history"].as_array().unwrap().len(), 1);
        assert_eq!(second["nextPageToken"], Value::Null);
        let (new, end) = (second["historyId"].as_str().unwrap(), history_id(3));
        assert_eq!(new, end);
        let nothing = answer(&mut mailbox, &format!("/history?startHistoryId={new}")).json(200);
        assert_eq!(nothing, json!({ "historyId": new }));
    }

    #[test]
    fn an_old_id_is_not_found_and_a_missing_one_is_an_error() {
        let mut mailbox = GeneratedMailbox::new(1, 20);
        mailbox.deliver(1);
        mailbox.expire_states();

        let old = history(&mut mailbox, "", 404);

        assert_eq!(old["error"]["errors"][0]["reason"], "notFound");
        answer(&mut mailbox, "/history?startHistoryId=1").json(404);
        answer(&mut mailbox, "/history").json(400);
        answer(&mut mailbox, "/history?startHistoryId=x").json(400);
    }
}
