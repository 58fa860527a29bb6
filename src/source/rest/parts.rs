//! Parts of an account, such as folders.

use std::collections::BTreeSet;

use cynosure_engine::rest::{PartsTable, RestRow, RowError, TableName};
use cynosure_engine::{Failure, FolderCount};

use crate::source::rest::call::profile_mismatch;
use crate::source::rest::folder_names::FolderNames;
use crate::source::rest::listing::pages::{PagePlace, PageRequest, whole_number};
use crate::source::rest::listing::progress::ListProgress;
use crate::source::rest::source::RestSource;

/// Maximum number of parts. A page token has their ids.
pub(super) const PARTS_MAX: usize = 100_000;

/// Returns the parts with their numbers of documents, for people; without parts, the account as
/// one.
pub(super) async fn folders(source: &RestSource) -> Result<Vec<FolderCount>, Failure> {
    let Some(parts) = &source.profile().tables.parts else {
        return Ok(vec![count_account(source).await?]);
    };
    let (mut names, mut counts) = (FolderNames::default(), Vec::new());
    read_parts(source, parts, |row| {
        let messages = parts.count.as_ref().and_then(|path| whole_number(path.first(row.value)?));
        names.add(&parts.names, row);
        counts.push((row.id.clone(), messages));
    })
    .await?;
    let folders = counts.into_iter().map(|(id, messages)| {
        let name = names.full_name(&id).unwrap_or(id);
        FolderCount { name, messages, is_extracted: true }
    });
    Ok(folders.collect())
}

/// Calls `use_part` with the row of each part.
pub(super) async fn read_parts(
    source: &RestSource,
    parts: &PartsTable,
    mut use_part: impl FnMut(&RestRow<'_>),
) -> Result<(), Failure> {
    let request = PageRequest::new(TableName::Parts, &parts.listing);
    let (mut progress, mut known) = (ListProgress::default(), BTreeSet::new());
    while !progress.has_ended {
        let response = source.call(request.call_at(&progress.place)).await?;
        let page = progress.read_page(TableName::Parts, &parts.listing, &response);
        let page = page.map_err(|error| error.into_failure(source))?;
        for row in page.iter().flat_map(|page| &page.rows) {
            if known.insert(row.id.clone()) {
                use_part(row);
            }
        }
        if PARTS_MAX < known.len() {
            return Err(profile_mismatch(source, too_many_parts()));
        }
    }
    if known.is_empty() {
        return Err(profile_mismatch(source, no_part()));
    }
    Ok(())
}

/// Returns the error of an empty list of parts. Without it, a wrong response would be taken for an
/// empty account.
pub(super) fn no_part() -> RowError {
    RowError("`[parts]` lists no part".to_owned())
}

/// Returns the error of a list of parts that does not end.
pub(super) fn too_many_parts() -> RowError {
    RowError(format!("`[parts]` lists more than {PARTS_MAX} parts"))
}

/// Returns the account as one folder, with the number of documents if the first page of the list
/// reports it.
async fn count_account(source: &RestSource) -> Result<FolderCount, Failure> {
    let list = &source.profile().tables.list;
    let messages = match &list.total {
        Some(total) => {
            let request = PageRequest::new(TableName::List, &list.listing);
            let response = source.call(request.call_at(&PagePlace::First)).await?;
            total.first(&response.body).and_then(whole_number)
        }
        None => None,
    };
    let name = source.options.account_name.clone();
    Ok(FolderCount { name, messages, is_extracted: true })
}

#[cfg(test)]
mod tests {
    use cynosure_engine::rest::{FolderNameRules, JsonPath, RestProfile};

    use super::*;
    use crate::source::rest::test_server::{
        ScriptedHttpServer, bytes_table, json_response, listing, open_source, profile,
    };

    async fn folders_of(
        profile: RestProfile,
        body: &'static str,
    ) -> (Vec<(String, Option<u64>)>, usize) {
        let server = ScriptedHttpServer::start(move |_| json_response("200 OK", body)).await;
        let folders = folders(&open_source(&server, profile)).await.unwrap().into_iter();
        let folders = folders.map(|folder| (folder.name, folder.messages)).collect();
        (folders, server.requests().len())
    }

    fn path(text: &str) -> JsonPath {
        JsonPath::parse(text).unwrap()
    }

    fn profile_of_list() -> RestProfile {
        profile(bytes_table("/raw/{document.id}"))
    }

    #[tokio::test]
    async fn parts_have_names_and_numbers_of_documents() {
        let mut profile = profile_of_list();
        let count = Some(path("/count"));
        let names = FolderNameRules { name: Some(path("/name")), parent: Some(path("/in")) };
        profile.tables.parts = Some(PartsTable { listing: listing("/parts"), names, count });

        let body = r#"{"items": [{"id": 1, "name": "Inbox", "count": 7}, {"id": 2, "in": 1}]}"#;
        let (folders, _) = folders_of(profile, body).await;

        assert_eq!(folders, [("Inbox".to_owned(), Some(7)), ("Inbox/2".to_owned(), None)]);
    }

    #[tokio::test]
    async fn without_parts_the_account_is_one_folder() {
        let account = |total| ("me@mail.example".to_owned(), total);
        assert_eq!(folders_of(profile_of_list(), "{}").await, (vec![account(None)], 0));

        let mut profile = profile_of_list();
        profile.tables.list.total = Some(path("/total"));
        let counted = folders_of(profile, r#"{"items": [], "total": 812}"#).await;

        assert_eq!(counted, (vec![account(Some(812))], 1));
    }
}
