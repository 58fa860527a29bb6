//! Folders, by a delta query.

use serde_json::{Value, json};

use super::error::GraphError;
use super::ids::{ROOT_FOLDER_ID, folder_id};
use super::link::{link, preferred_page_rows, query_number};
use crate::demo::mailbox::{Folder, GeneratedMailbox};
use crate::demo::rest::request::DemoRequest;

/// Maximum number of folders on a page, fewer than there are.
const PAGE_FOLDERS_MAX: usize = 3;

/// Lists a page of the folders. The folders never change, so a delta link leads to an empty page.
pub(super) fn page(
    mailbox: &mut GeneratedMailbox,
    request: &DemoRequest,
) -> Result<Value, GraphError> {
    let has_all = request.query("$deltatoken").is_some();
    let first = if has_all { Folder::ALL.len() } else { 0 };
    let start = query_number(request, "$skiptoken", first)?.min(Folder::ALL.len());
    let rows_max = preferred_page_rows(request).min(PAGE_FOLDERS_MAX);
    let end = Folder::ALL.len().min(start + rows_max);

    let rows: Vec<Value> =
        Folder::ALL[start..end].iter().map(|folder| row(mailbox, *folder)).collect();
    let mut body = json!({ "value": rows });
    if end < Folder::ALL.len() {
        body["@odata.nextLink"] = link(request, &format!("$skiptoken={end}")).into();
    } else {
        body["@odata.deltaLink"] = link(request, "$deltatoken=latest").into();
    }
    Ok(body)
}

fn row(mailbox: &mut GeneratedMailbox, folder: Folder) -> Value {
    json!({
        "id": folder_id(mailbox, folder),
        "displayName": folder.name(),
        "parentFolderId": ROOT_FOLDER_ID,
        "childFolderCount": 0,
        "isHidden": false,
        "totalItemCount": mailbox.home_messages(folder).len(),
        "unreadItemCount": 0,
    })
}

#[cfg(test)]
mod tests {
    use crate::demo::rest::graph::tests::{GraphTestClient, row_ids};

    #[test]
    fn folders_count_their_messages_and_fit_on_two_pages() {
        let mut client = GraphTestClient::new(20);

        let (pages, link) = client.pages("/v1.0/me/mailFolders/delta?$select=id");

        assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [3, 1]);
        let counts = pages.iter().flatten().map(|row| row["totalItemCount"].as_u64().unwrap());
        assert_eq!(counts.sum::<u64>(), 32);
        assert_eq!(pages[1][0]["displayName"], "Trash");
        let root = &pages[0][0]["parentFolderId"];
        assert!(pages.iter().flatten().all(|row| row["parentFolderId"] == *root));
        assert!(!row_ids(&pages).iter().any(|id| root == id), "the root is not listed");
        let link = link.unwrap();
        assert_eq!(link, "http://127.0.0.1:80/v1.0/me/mailFolders/delta?$deltatoken=latest");
        assert!(row_ids(&client.pages(&link).0).is_empty());
    }
}
