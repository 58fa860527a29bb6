//! Folders of documents: their names in place of their ids.

use std::collections::BTreeSet;

use cynosure_engine::rest::{FolderNameRules, RowError, RowListing, TableName};
use cynosure_engine::{Cause, Failure, ListedDocument};
use tokio::sync::MutexGuard;
use tracing::warn;

use crate::source::rest::call::profile_mismatch;
use crate::source::rest::folder_names::FolderNames;
use crate::source::rest::listing::pages::PageRequest;
use crate::source::rest::listing::progress::ListProgress;
use crate::source::rest::parts::PARTS_MAX;
use crate::source::rest::source::RestSource;

/// Lets the names be read again before they are used: folders are renamed and moved.
pub(super) async fn expire_names(source: &RestSource) {
    source.folder_names.lock().await.expire();
}

/// Reads the names if they are not known.
///
/// # Errors
/// The failure of the request.
pub(super) async fn prepare_names(source: &RestSource) -> Result<(), Failure> {
    current_names(source, &BTreeSet::new()).await.map(drop)
}

/// Replaces the ids of the folders of documents by their names.
///
/// # Errors
/// The failure of the request for the names.
pub(super) async fn name_folders(
    source: &RestSource,
    documents: &mut [ListedDocument],
) -> Result<(), Failure> {
    let ids: BTreeSet<String> =
        documents.iter().flat_map(|document| document.folders.iter().cloned()).collect();
    if ids.is_empty() {
        return Ok(());
    }
    let names = current_names(source, &ids).await?;
    for document in documents.iter_mut().filter(|document| !document.folders.is_empty()) {
        document.folders = names.resolve(&document.folders, name_of_none(source));
    }
    Ok(())
}

/// Returns the names of the folders with these ids, which are all folders of a document.
///
/// # Errors
/// The failure of the request for the names.
pub(super) async fn names_of(source: &RestSource, ids: &[String]) -> Result<Vec<String>, Failure> {
    let names = current_names(source, &ids.iter().cloned().collect()).await?;
    Ok(names.resolve(ids, name_of_none(source)))
}

/// Returns the names. They are read before, if they are not current or do not have one of the ids.
/// Only one request at a time asks for them. If the server refuses to list them, ids are names:
/// they are for people and exports, and must not keep documents from being stored.
async fn current_names<'s>(
    source: &'s RestSource,
    ids: &BTreeSet<String>,
) -> Result<MutexGuard<'s, FolderNames>, Failure> {
    let mut names = source.folder_names.lock().await;
    let Some((table, listing, rules)) = source.profile().folder_names() else { return Ok(names) };
    if !names.has_current(ids) {
        // Its failure is one of the whole account, and no refusal of the names.
        source.account_id().await?;
        match request_folders(source, table, listing, rules).await {
            Ok(listed) => names.update(listed, ids),
            Err(failure) if is_refusal(failure.cause) => {
                if names.refuse() {
                    warn!(
                        source = source.options.name,
                        table = table.name(),
                        error = %failure,
                        "folders are named by their ids, because the server does not list them as \
                         the profile expects"
                    );
                }
            }
            Err(failure) => return Err(failure),
        }
    }
    Ok(names)
}

/// True if the same request will fail in the same way. An expired cursor counts too: the request
/// has none, and would cause one full listing after the other.
fn is_refusal(cause: Cause) -> bool {
    let is_refused = matches!(cause, Cause::Forbidden | Cause::NotFound | Cause::TooLarge);
    is_refused || matches!(cause, Cause::CursorExpired | Cause::Unknown)
}

async fn request_folders(
    source: &RestSource,
    table: TableName,
    listing: &RowListing,
    rules: &FolderNameRules,
) -> Result<FolderNames, Failure> {
    let request = PageRequest::new(table, listing);
    let (mut progress, mut found) = (ListProgress::default(), FolderNames::default());
    while !progress.has_ended {
        let response = source.call(request.call_at(&progress.place)).await?;
        let page = progress.read_page(table, listing, &response);
        let Some(page) = page.map_err(|error| error.into_failure(source))? else { continue };
        for id in listing.rows.skipped_ids(&response.body) {
            found.add_skipped(id);
        }
        for row in &page.rows {
            found.add(rules, row);
        }
        if PARTS_MAX < found.count() {
            let sentence = format!("`[{}]` lists more than {PARTS_MAX} rows", table.name());
            return Err(profile_mismatch(source, RowError(sentence)));
        }
    }
    Ok(found)
}

fn name_of_none(source: &RestSource) -> Option<&str> {
    source.profile().tables.folders.as_ref()?.none.as_deref()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use cynosure_engine::rest::{
        FetchBody, FetchTable, FoldersTable, JsonPath, PartsTable, RestProfile, SkipRule,
        TextEncoding,
    };
    use cynosure_engine::{BlobId, DocumentId, ItemId};
    use serde_json::json;

    use super::*;
    use crate::source::FetchOutcome;
    use crate::source::rest::fetch::fetch;
    use crate::source::rest::folder_names::NO_FOLDER_ID;
    use crate::source::rest::test_server::{
        MemoryDocument, ScriptedHttpServer, bytes_table, document, json_response, listing,
        open_source, profile,
    };

    /// Id that the server does not list.
    const OWN: &str = "own";

    fn path(text: &str) -> JsonPath {
        JsonPath::parse(text).unwrap()
    }

    fn rules() -> FolderNameRules {
        FolderNameRules { name: Some(path("/name")), parent: Some(path("/in")) }
    }

    /// Returns a profile that reads the names of folders at `/folders`.
    fn profile_with_folders() -> RestProfile {
        let mut listing = listing("/folders");
        listing.rows.skip = Some(SkipRule { at: path("/hidden"), is: Vec::new() });
        let mut profile = profile(bytes_table("/raw/{document.id}"));
        let none = Some("All".to_owned());
        profile.tables.folders = Some(FoldersTable { listing, names: rules(), none });
        profile
    }

    fn ids(ids: &[&str]) -> Vec<String> {
        ids.iter().map(|&id| id.to_owned()).collect()
    }

    async fn server_of(body: &'static str) -> ScriptedHttpServer {
        ScriptedHttpServer::start(move |_| json_response("200 OK", body)).await
    }

    fn listed(folders: &[&str]) -> ListedDocument {
        let entry = ListedDocument::new(ItemId::new("i"), DocumentId::new("d"), BlobId::new("b"));
        ListedDocument { folders: ids(folders), ..entry }
    }

    #[tokio::test]
    async fn names_are_read_once_and_again_for_an_unknown_id() {
        let body = r#"{"items": [{"id": 1, "name": "Inbox"}, {"id": 2, "name": "Old", "in": 1}]}"#;
        let server = server_of(body).await;
        let source = open_source(&server, profile_with_folders());

        for (folder_ids, expected) in [
            (&["2", "1"][..], &["Inbox", "Inbox/Old"][..]),
            (&["1", "1"], &["Inbox"]),
            (&[OWN], &[OWN]),
            (&["other"], &["other"]),
            (&[OWN, "other", "2"], &["Inbox/Old", "other", OWN]),
        ] {
            assert_eq!(names_of(&source, &ids(folder_ids)).await.unwrap(), expected);
        }
        assert_eq!(server.requests().len(), 3, "once, and for each of two unknown ids");

        expire_names(&source).await;
        assert_eq!(names_of(&source, &ids(&[OWN])).await.unwrap(), [OWN]);
        prepare_names(&source).await.unwrap();
        assert_eq!(server.requests().len(), 4);
    }

    #[tokio::test]
    async fn a_renamed_folder_has_its_new_name_in_the_next_listing() {
        let requests = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&requests);
        let server = ScriptedHttpServer::start(move |_| {
            let name = format!("name {}", counted.fetch_add(1, Ordering::Relaxed));
            json_response("200 OK", &json!({"items": [{"id": "a", "name": name}]}).to_string())
        })
        .await;
        let source = open_source(&server, profile_with_folders());

        assert_eq!(names_of(&source, &ids(&["a"])).await.unwrap(), ["name 0"]);
        assert_eq!(names_of(&source, &ids(&["a"])).await.unwrap(), ["name 0"]);
        expire_names(&source).await;
        assert_eq!(names_of(&source, &ids(&["a"])).await.unwrap(), ["name 1"]);
    }

    #[tokio::test]
    async fn a_row_that_is_left_out_names_no_folder() {
        let body = r#"{"items": [{"id": "a", "name": "A"}, {"id": "unread", "hidden": true}]}"#;
        let server = server_of(body).await;
        let source = open_source(&server, profile_with_folders());
        let mut documents = [&["unread", "a"][..], &["unread"], &[NO_FOLDER_ID], &[]].map(listed);

        name_folders(&source, &mut documents).await.unwrap();

        let folders = documents.map(|document| document.folders.join(","));
        assert_eq!(folders, ["A", "All", "All", ""]);
        assert_eq!(names_of(&source, &[]).await.unwrap(), ["All"]);
        assert_eq!(server.requests().len(), 1);
    }

    #[tokio::test]
    async fn the_parts_are_the_folders_unless_there_is_a_table() {
        let server = server_of(r#"{"items": [{"id": 1, "name": "Inbox"}]}"#).await;
        let mut profile = profile_with_folders();
        let parts = PartsTable { listing: listing("/parts"), names: rules(), count: None };
        profile.tables.parts = Some(parts);
        let with_both = open_source(&server, profile.clone());
        assert_eq!(names_of(&with_both, &ids(&["1"])).await.unwrap(), ["Inbox"]);
        profile.tables.folders = None;
        let with_parts = open_source(&server, profile.clone());
        assert_eq!(names_of(&with_parts, &ids(&["1"])).await.unwrap(), ["Inbox"]);
        assert_eq!(server.targets(), ["GET /api/folders", "GET /api/parts"]);

        profile.tables.parts = None;
        let without = open_source(&server, profile);
        assert_eq!(names_of(&without, &ids(&["1"])).await.unwrap(), ["1"]);
        assert_eq!(names_of(&without, &ids(&[NO_FOLDER_ID])).await.unwrap(), [""; 0]);
        assert_eq!(server.requests().len(), 2, "an id is its own name");
    }

    #[tokio::test]
    async fn a_passing_failure_of_the_names_is_returned() {
        for (status, cause) in [
            ("500 Internal Server Error", Cause::Server),
            ("401 Unauthorized", Cause::Unauthorized),
        ] {
            let server = ScriptedHttpServer::start(move |_| json_response(status, "{}")).await;
            let source = open_source(&server, profile_with_folders());

            let failure = name_folders(&source, &mut [listed(&["a"])]).await.unwrap_err();
            assert_eq!(failure.cause, cause);
            name_folders(&source, &mut [listed(&[])]).await.unwrap();
        }
    }

    #[tokio::test]
    async fn ids_are_names_if_the_server_does_not_list_the_folders() {
        for (status, body) in [
            ("404 Not Found", "{}"),
            ("403 Forbidden", "{}"),
            ("400 Bad Request", "{}"),
            ("200 OK", r#"{"labels": []}"#),
        ] {
            let server = ScriptedHttpServer::start(move |_| json_response(status, body)).await;
            let source = open_source(&server, profile_with_folders());
            let mut documents = [&["a", "b"][..], &[NO_FOLDER_ID]].map(listed);

            name_folders(&source, &mut documents).await.unwrap();

            let folders = documents.map(|document| document.folders.join(","));
            assert_eq!(folders, ["a,b", "All"], "{status}");
            assert_eq!(names_of(&source, &ids(&["c"])).await.unwrap(), ["c"]);
            let requests = server.requests().len();
            prepare_names(&source).await.unwrap();
            assert_eq!(server.requests().len(), requests, "they are asked for once in a listing");
            expire_names(&source).await;
            prepare_names(&source).await.unwrap();
            assert!(server.requests().len() > requests, "the next listing asks again");
        }
    }

    #[tokio::test]
    async fn names_that_are_known_outlive_a_refusal() {
        let requests = AtomicUsize::new(0);
        let server = ScriptedHttpServer::start(move |_| {
            if 0 < requests.fetch_add(1, Ordering::Relaxed) {
                return json_response("403 Forbidden", "{}");
            }
            json_response("200 OK", r#"{"items": [{"id": "a", "name": "A"}]}"#)
        })
        .await;
        let source = open_source(&server, profile_with_folders());

        assert_eq!(names_of(&source, &ids(&["a"])).await.unwrap(), ["A"]);
        expire_names(&source).await;
        assert_eq!(names_of(&source, &ids(&["a", "b"])).await.unwrap(), ["A", "b"]);
    }

    /// Returns a source whose documents are in JSON, with the ids of their folders.
    fn source_of_body(server: &ScriptedHttpServer, body: FetchBody) -> RestSource {
        let folder = vec![path("/in")];
        let mut profile = profile_with_folders();
        profile.tables.fetch = FetchTable { body, folder, ..bytes_table("/raw/{document.id}") };
        open_source(server, profile)
    }

    fn text_body() -> FetchBody {
        FetchBody::Text { at: path("/raw"), encoding: TextEncoding::Plain }
    }

    /// Fetches a document. Returns the names of its folders.
    async fn fetch_folders(source: &RestSource) -> Result<Vec<String>, Failure> {
        match fetch(source, &document("m1"), &mut MemoryDocument::default()).await? {
            FetchOutcome::Complete { folders, .. } => Ok(folders),
            FetchOutcome::Moved { .. } => panic!("the document is where it was"),
        }
    }

    #[tokio::test]
    async fn the_folders_of_a_document_have_names() {
        for (ids, expected) in [
            (r#"["b", "a"]"#, &["A", "B"][..]),
            (r#""new""#, &["new"]),
            ("[]", &["All"]),
            ("null", &["All"]),
        ] {
            let body = format!(r#"{{"in": {ids}, "raw": "text"}}"#);
            let server = ScriptedHttpServer::start(move |request| {
                if request.starts_with("GET /api/folders ") {
                    let rows = r#"{"items": [{"id": "a", "name": "A"}, {"id": "b", "name": "B"}]}"#;
                    return json_response("200 OK", rows);
                }
                json_response("200 OK", &body)
            })
            .await;
            for body in [text_body(), FetchBody::Json] {
                let folders = fetch_folders(&source_of_body(&server, body)).await.unwrap();
                assert_eq!(folders, expected, "{ids}");
            }
            assert_eq!(server.targets()[..2], ["GET /api/folders", "GET /api/raw/m1"]);
        }
    }

    #[tokio::test]
    async fn refused_names_keep_no_document_from_being_stored() {
        let server = ScriptedHttpServer::start(|request| {
            if request.starts_with("GET /api/folders ") {
                return json_response("404 Not Found", "{}");
            }
            json_response("200 OK", r#"{"in": ["b", "a"], "raw": "text"}"#)
        })
        .await;

        let source = source_of_body(&server, text_body());

        assert_eq!(fetch_folders(&source).await.unwrap(), ["a", "b"]);
        assert_eq!(server.targets(), ["GET /api/folders", "GET /api/raw/m1"]);
    }

    #[tokio::test]
    async fn nothing_is_downloaded_while_the_names_fail() {
        let server = ScriptedHttpServer::start(|_| json_response("503 No", "{}")).await;

        let failure = fetch_folders(&source_of_body(&server, text_body())).await.unwrap_err();

        assert_eq!(failure.cause, Cause::Server);
        assert!(server.targets().iter().all(|target| target == "GET /api/folders"));
    }
}
