//! Messages and threads, as resources and in lists.

use serde_json::{Value, json};

use super::error::GmailError;
use super::field_mask::FieldMask;
use super::page::{GmailPageRequest, page_token};
use super::resource::{history_id, label_id, reference, resource, thread_id};
use crate::demo::mailbox::{
    Folder, GeneratedMailbox, MessageFilter, MessageNumber, MessageQuery, SortOrder,
};
use crate::demo::rest::api::{DemoAnswer, DemoApiResponse, DemoDownload, DownloadFormat};
use crate::demo::rest::hex_id::from_hex;
use crate::demo::rest::request::DemoRequest;

/// Largest estimate of the number of results. It ends no listing.
const SIZE_ESTIMATE_MAX: usize = 201;

/// Text after the encoded octets of a message.
const RAW_TAIL: &str = "\"\n}\n";

/// Resource that is listed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum GmailList {
    Messages,
    /// Each thread at the place of its newest message.
    Threads,
}

impl GmailList {
    /// Lists a page, newest first. A page without results does not have the list.
    pub(super) fn page(
        self,
        mailbox: &mut GeneratedMailbox,
        request: &DemoRequest,
    ) -> Result<Value, GmailError> {
        let page = GmailPageRequest::parse(request)?;
        let list = mailbox.query(&MessageQuery {
            filter: filter(request)?,
            order: SortOrder::NewestFirst,
            collapse_threads: self == Self::Threads,
        });
        let start = page
            .position
            .map_or(0, |last| list.partition_point(|message| last <= message.0 as usize));
        let end = list.len().min(start + page.results_max);
        let rows = &list[start..end];

        let mut body = json!({ "resultSizeEstimate": list.len().min(SIZE_ESTIMATE_MAX) });
        if let Some(last) = rows.last() {
            let rows = rows.iter().map(|message| self.row(mailbox, *message));
            body[self.name()] = rows.collect();
            if end < list.len() {
                body["nextPageToken"] = page_token(last.0 as usize).into();
            }
        }
        Ok(body)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Messages => "messages",
            Self::Threads => "threads",
        }
    }

    fn row(self, mailbox: &GeneratedMailbox, message: MessageNumber) -> Value {
        match self {
            Self::Messages => reference(mailbox, message),
            Self::Threads => {
                let id = thread_id(mailbox, mailbox.thread_of(message));
                json!({ "id": id, "snippet": "", "historyId": history_id(0) })
            }
        }
    }
}

/// Returns a message without its parts.
pub(super) fn message(mailbox: &GeneratedMailbox, id: &str) -> Result<Value, GmailError> {
    Ok(resource(mailbox, find_message(mailbox, id)?))
}

/// Returns the octets of a message in the field `raw`, behind the other fields.
pub(super) fn raw_message(
    mailbox: &GeneratedMailbox,
    id: &str,
    mask: &FieldMask,
) -> Result<DemoAnswer, GmailError> {
    let number = find_message(mailbox, id)?;
    let mut fields = resource(mailbox, number);
    mask.apply(&mut fields);
    if !mask.contains("raw") {
        return Ok(DemoAnswer::Response(DemoApiResponse::ok(fields)));
    }
    let format = DownloadFormat::Json { head: raw_head(&fields), tail: RAW_TAIL };
    Ok(DemoAnswer::Download(DemoDownload { number, format }))
}

/// Returns a thread with its messages, oldest first.
pub(super) fn thread(mailbox: &GeneratedMailbox, id: &str) -> Result<Value, GmailError> {
    let thread = from_hex(id)
        .and_then(|email_id| mailbox.find_thread_begun_by(&email_id))
        .ok_or_else(GmailError::not_found)?;
    let messages = mailbox.messages_of(thread).into_iter();
    let messages: Vec<Value> = messages.map(|message| resource(mailbox, message)).collect();
    Ok(json!({ "id": id, "historyId": history_id(0), "messages": messages }))
}

fn find_message(mailbox: &GeneratedMailbox, id: &str) -> Result<MessageNumber, GmailError> {
    from_hex(id)
        .and_then(|email_id| mailbox.find_email(&email_id))
        .ok_or_else(GmailError::not_found)
}

/// Returns the filter of a list. Without `includeSpamTrash` what is in Trash is left out.
fn filter(request: &DemoRequest) -> Result<MessageFilter, GmailError> {
    if request.query("q").is_some_and(|search| !search.is_empty()) {
        return Err(GmailError::invalid("This service has no search: leave 'q' out"));
    }
    let mut filters = Vec::new();
    for label in request.queries("labelIds") {
        let folder = Folder::ALL.into_iter().find(|folder| label_id(*folder) == Some(label));
        let folder =
            folder.ok_or_else(|| GmailError::invalid(format!("Invalid label: {label}")))?;
        filters.push(MessageFilter::InFolder(folder));
    }
    let includes_trash = request.query("includeSpamTrash").unwrap_or_default();
    if !includes_trash.eq_ignore_ascii_case("true") {
        filters.push(MessageFilter::None(vec![MessageFilter::InFolder(Folder::Trash)]));
    }
    Ok(MessageFilter::All(filters))
}

/// Returns the text before the encoded octets of a message, with line breaks as Google writes them.
fn raw_head(fields: &Value) -> String {
    match format!("{fields:#}").strip_suffix("\n}") {
        Some(fields) => format!("{fields},\n  \"raw\": \""),
        None => "{\n  \"raw\": \"".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::rest::gmail::tests::answer;
    use crate::demo::rest::hex_id::to_hex;

    /// Lists all pages of a resource. Returns the rows.
    fn list(mailbox: &mut GeneratedMailbox, resource: &str, name: &str) -> Vec<Value> {
        let (mut rows, mut token) = (Vec::new(), String::new());
        loop {
            let page = answer(mailbox, &format!("{resource}{token}")).json(200);
            rows.extend(page[name].as_array().into_iter().flatten().cloned());
            match page["nextPageToken"].as_str() {
                Some(next) => token = format!("&pageToken={next}"),
                None => return rows,
            }
        }
    }

    #[test]
    fn every_message_is_listed_once_with_its_thread() {
        let mut mailbox = GeneratedMailbox::new(1, 200);
        let all = list(&mut mailbox, "/messages?maxResults=50&includeSpamTrash=true", "messages");
        let without_trash = list(&mut mailbox, "/messages?maxResults=500", "messages");

        assert_eq!(all.len(), 320);
        let trash = mailbox.home_messages(Folder::Trash).len();
        assert_eq!(without_trash.len(), 320 - trash);
        let threads = list(&mut mailbox, "/threads?includeSpamTrash=true", "threads");
        assert_eq!(threads.len(), 200);
        for row in &all {
            assert_eq!(row["id"].as_str().unwrap().len(), 16);
            assert!(threads.iter().any(|thread| thread["id"] == row["threadId"]));
        }
        let begun = all.iter().filter(|row| row["id"] == row["threadId"]).count();
        assert_eq!(begun, 200, "a thread has the id of its first message");
    }

    #[test]
    fn a_page_without_messages_has_no_list() {
        let mut mailbox = GeneratedMailbox::new(1, 0);

        let page = answer(&mut mailbox, "/messages?maxResults=500").json(200);

        assert_eq!(page, json!({ "resultSizeEstimate": 0 }));
    }

    #[test]
    fn pages_go_on_where_they_ended_despite_changes() {
        let mut mailbox = GeneratedMailbox::new(1, 20);
        let first = answer(&mut mailbox, "/messages?maxResults=5&includeSpamTrash=true").json(200);
        let last = first["messages"][4]["id"].as_str().unwrap().to_owned();
        mailbox.deliver(3);
        mailbox.destroy_message(find_message(&mailbox, &last).unwrap());

        let token = first["nextPageToken"].as_str().unwrap();
        let query = format!("/messages?maxResults=500&includeSpamTrash=true&pageToken={token}");
        let second = answer(&mut mailbox, &query).json(200);

        assert_eq!(second["messages"].as_array().unwrap().len(), 27);
        assert_eq!(second["nextPageToken"], Value::Null);
    }

    #[test]
    fn a_label_selects_and_a_search_is_refused() {
        let mut mailbox = GeneratedMailbox::new(1, 100);
        let sent = mailbox.home_messages(Folder::Sent).len();

        let page = answer(&mut mailbox, "/messages?labelIds=SENT&maxResults=500").json(200);

        assert_eq!(page["messages"].as_array().unwrap().len(), sent);
        answer(&mut mailbox, "/messages?labelIds=Receipts").json(400);
        answer(&mut mailbox, "/messages?q=has:attachment").json(400);
    }

    #[test]
    fn a_raw_message_is_json_around_its_octets() {
        let mut mailbox = GeneratedMailbox::new(1, 20);
        let id = to_hex(&mailbox.email_id(MessageNumber(3)));

        let whole = answer(&mut mailbox, &format!("/messages/{id}?format=raw")).download();
        let masked =
            answer(&mut mailbox, &format!("/messages/{id}?format=raw&fields=raw")).download();
        let without = answer(&mut mailbox, &format!("/messages/{id}?format=raw&fields=id"));

        assert_eq!((whole.number, masked.number), (MessageNumber(3), MessageNumber(3)));
        let json_of = |format| match format {
            DownloadFormat::Json { head, tail } => format!("{head}QQ{tail}"),
            DownloadFormat::Octets { .. } => panic!("it is JSON"),
        };
        let text = json_of(masked.format);
        assert_eq!(text, "{\n  \"raw\": \"QQ\"\n}\n");
        let value: Value = serde_json::from_str(&json_of(whole.format)).unwrap();
        assert_eq!((&value["raw"], &value["id"]), (&json!("QQ"), &json!(id)));
        assert_ne!(value["sizeEstimate"], mailbox.size(MessageNumber(3)));
        let query = format!("/messages/{id}?format=raw&fields=raw,labelIds");
        let labelled = answer(&mut mailbox, &query).download();
        let labelled: Value = serde_json::from_str(&json_of(labelled.format)).unwrap();
        assert_eq!(labelled["labelIds"], value["labelIds"]);
        assert_eq!(without.json(200), json!({ "id": id }));
    }

    #[test]
    fn a_thread_has_its_messages_and_a_destroyed_one_is_not_found() {
        let mut mailbox = GeneratedMailbox::new(1, 20);
        let reply = (0..32).map(MessageNumber).find(|message| {
            mailbox.first_message_of(mailbox.thread_of(*message)) != Some(*message)
        });
        let reply = reply.unwrap();
        let id = thread_id(&mailbox, mailbox.thread_of(reply));
        let reply_id = to_hex(&mailbox.email_id(reply));

        let thread = answer(&mut mailbox, &format!("/threads/{id}?format=minimal")).json(200);

        assert!(1 < thread["messages"].as_array().unwrap().len());
        assert_eq!(thread["messages"][0]["id"], thread["id"]);
        answer(&mut mailbox, &format!("/threads/{reply_id}")).json(404);
        mailbox.destroy_message(reply);
        let gone = answer(&mut mailbox, &format!("/messages/{reply_id}?format=raw")).json(404);
        assert_eq!(gone["error"]["status"], "NOT_FOUND");
    }
}
