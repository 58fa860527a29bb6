//! Messages, as rows and in the list of the whole mailbox.

use chrono::{DateTime, SecondsFormat};
use serde_json::{Value, json};

use super::error::GraphError;
use super::ids::{IdType, folder_id};
use super::link::{PAGE_ROWS_MAX, link, preferred_page_rows, query_number};
use crate::demo::mailbox::{
    GeneratedMailbox, MessageFilter, MessageNumber, MessageQuery, SortOrder,
};
use crate::demo::rest::request::DemoRequest;

/// Lists a page of all messages, newest first. A position in this list moves with every change.
pub(super) fn page(
    mailbox: &mut GeneratedMailbox,
    request: &DemoRequest,
) -> Result<Value, GraphError> {
    let ids = IdType::requested(request);
    let rows_max = query_number(request, "$top", preferred_page_rows(request))?;
    let rows_max = rows_max.clamp(1, PAGE_ROWS_MAX);
    let list = mailbox.query(&MessageQuery {
        filter: MessageFilter::All(Vec::new()),
        order: SortOrder::NewestFirst,
        collapse_threads: false,
    });
    let start = query_number(request, "$skip", 0)?.min(list.len());
    let end = list.len().min(start + rows_max);

    let rows = list[start..end].iter().map(|message| row(mailbox, *message, ids));
    let mut body = json!({ "value": rows.collect::<Vec<_>>() });
    if end < list.len() {
        body["@odata.nextLink"] = link(request, &format!("$top={rows_max}&$skip={end}")).into();
    }
    Ok(body)
}

pub(super) fn row(mailbox: &GeneratedMailbox, message: MessageNumber, ids: IdType) -> Value {
    let folder = mailbox.home_folder(message);
    let received = DateTime::from_timestamp(mailbox.received_at(message), 0).unwrap_or_default();
    json!({
        "id": ids.message_id(mailbox, message, folder),
        "parentFolderId": folder_id(mailbox, folder),
        "conversationId": mailbox.thread_id(mailbox.thread_of(message)),
        "internetMessageId": mailbox.message_id(message),
        "receivedDateTime": received.to_rfc3339_opts(SecondsFormat::Secs, true),
    })
}

#[cfg(test)]
mod tests {
    use crate::demo::rest::graph::tests::{GraphTestClient, row_ids};
    use std::collections::BTreeSet;

    #[test]
    fn the_whole_mailbox_is_listed_in_pages_with_full_links() {
        let mut client = GraphTestClient::new(20);

        let (pages, link) = client.pages("/v1.0/me/messages?$top=15");

        assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [15, 15, 2]);
        assert_eq!(link, None);
        let next = client.get("/v1.0/me/messages?$top=15")["@odata.nextLink"].clone();
        assert_eq!(next, "http://127.0.0.1:80/v1.0/me/messages?$top=15&$skip=15");
        assert_eq!(row_ids(&pages).into_iter().collect::<BTreeSet<_>>().len(), 32);
        let conversations = pages.iter().flatten().map(|row| row["conversationId"].to_string());
        assert_eq!(conversations.collect::<BTreeSet<_>>().len(), 20);
        let folders = client.folders();
        let mut parents = pages.iter().flatten().map(|row| row["parentFolderId"].as_str().unwrap());
        assert!(parents.all(|parent| folders.iter().any(|folder| folder == parent)));
        client.answer("/v1.0/me/messages?$top=x").json(400);
    }
}
