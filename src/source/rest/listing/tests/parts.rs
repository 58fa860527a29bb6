//! Parts: their lists, and parts that appear or vanish meanwhile.

use cynosure_engine::rest::{FolderNameRules, PartsTable};

use super::*;
use crate::source::Listing;
use crate::source::rest::folder_names::NO_FOLDER_ID;
use crate::source::rest::listing::list_page;
use crate::source::rest::test_server::{ScriptedHttpServer, json_response, open_source};

pub(super) fn parts_table() -> PartsTable {
    let names = FolderNameRules::default();
    PartsTable { listing: test_server::listing("/parts"), names, count: None }
}

fn profile_with_parts() -> RestProfile {
    let mut profile = profile_with(token_paging());
    profile.tables.parts = Some(parts_table());
    profile
}

#[test]
fn each_part_is_listed_to_its_end() {
    let mut profile = profile_with_parts();
    profile.tables.parts = Some(PartsTable { count: Some(path("/count")), ..parts_table() });
    let run = ListingRun::of_everything(profile);

    let mut total = None;
    let (mut requests, mut ids, mut token) = (Vec::new(), Vec::new(), None);
    loop {
        let page = run.page(token.as_ref(), |call| {
            requests.push(describe(call));
            Ok(match (call.values.part, argument(call)) {
                (None, _) => json!({"items": [
                    {"id": "a", "count": 2}, {"id": "empty", "count": 0}, {"id": "a", "count": 1},
                ]}),
                (Some("a"), None) => json!({"items": [{"id": 1}], "next": "t"}),
                (Some("a"), Some(_)) => rows([2]),
                (Some(_), _) => rows::<u32>([]),
            })
        });
        let page = page.unwrap();
        total = total.or(page.total_documents);
        ids.extend(page.entries.into_iter().map(|entry| entry.document.as_str().to_owned()));
        match page.next.unwrap() {
            NextPage::More(next) => token = Some(next),
            NextPage::Done(_) => break,
        }
    }

    assert_eq!(requests, ["parts", "list part=a", "list part=a page=t", "list part=empty"]);
    assert_eq!((ids, total), (vec!["1".to_owned(), "2".to_owned()], Some(3)));
}

#[test]
fn a_document_is_in_its_part_unless_its_row_has_folders() {
    let listing_of = |profile: RestProfile| {
        let result = ListingRun::of_everything(profile).run(|call| {
            Ok(match call.table.name() {
                "parts" => rows(["a"]),
                _ => json!({"items": [{"id": 1, "in": ["b", "a"]}, {"id": 2}]}),
            })
        });
        let folders = result.unwrap().entries.into_iter().map(|entry| entry.folders.join(","));
        folders.collect::<Vec<_>>()
    };
    let mut profile = profile_with_parts();

    assert_eq!(listing_of(profile.clone()), ["a", "a"]);
    profile.tables.list.listing.rows.folder = vec![path("/in")];
    assert_eq!(listing_of(profile.clone()), ["b,a", "a"]);
    profile.tables.parts = None;
    assert_eq!(listing_of(profile.clone()), ["b,a", NO_FOLDER_ID]);
    profile.tables.list.listing.rows.folder.clear();
    assert_eq!(listing_of(profile), ["", ""], "the source names no folders");
}

#[tokio::test]
async fn the_page_of_a_source_has_the_names_of_the_folders() {
    let server = ScriptedHttpServer::start(|request| {
        let body = if request.starts_with("GET /api/parts ") {
            r#"{"items": [{"id": 1, "name": "Inbox"}, {"id": 2, "name": "Old", "in": 1}]}"#
        } else {
            r#"{"items": [{"id": "m", "folder": 2}, {"id": "n"}, {"id": "o", "folder": 9}]}"#
        };
        json_response("200 OK", body)
    })
    .await;
    let mut profile = profile();
    let names = FolderNameRules { name: Some(path("/name")), parent: Some(path("/in")) };
    profile.tables.parts = Some(PartsTable { names, ..parts_table() });
    profile.tables.list.listing.rows.folder = vec![path("/folder")];
    let source = open_source(&server, profile);

    let page = list_page(&source, &Listing::Full, None).await.unwrap();

    let folders: Vec<String> = page.entries.iter().map(|entry| entry.folders.join(",")).collect();
    assert_eq!(folders[..3], ["Inbox/Old", "Inbox", "9"]);
    let reads = server.targets().iter().filter(|target| *target == "GET /api/parts").count();
    assert_eq!(reads, 2, "for the listing, and for the names");
}

#[test]
fn a_part_that_vanished_is_left_out() {
    let run = ListingRun::of_everything(profile_with_parts());
    let mut has_vanished = false;

    let (requests, result) = run.run_logged(|call| match call.values.part {
        None if has_vanished => Ok(rows(["a", "c", "new"])),
        None => Ok(rows(["a", "b", "c"])),
        Some("b") => {
            has_vanished = true;
            Err(failure(Cause::NotFound))
        }
        Some(part) => Ok(rows([format!("of-{part}")])),
    });

    assert_eq!(result.unwrap().ids(), ["of-a", "of-c"], "a new part is listed later");
    assert_eq!(requests, ["parts", "list part=a", "list part=b", "parts", "list part=c"]);
}

#[test]
fn a_part_that_is_listed_and_never_found_is_a_failure() {
    let run = ListingRun::of_everything(profile_with_parts());

    let (requests, result) = run.run_logged(|call| match call.values.part {
        None => Ok(rows(["a", "b"])),
        Some("a") => Ok(rows(["1"])),
        Some(_) => Err(failure(Cause::NotFound)),
    });

    assert_eq!(cause_of(result.unwrap_err()), Cause::NotFound);
    assert_eq!(requests.iter().filter(|request| *request == "parts").count(), 2);
}

#[test]
fn a_link_of_a_part_that_is_not_found_begins_the_part_again() {
    let run = ListingRun::of_everything(profile_with_parts());
    let mut is_forgotten = true;

    let result = run.run(|call| match (call.values.part, argument(call)) {
        (None, _) => Ok(rows(["a"])),
        (Some(_), None) => Ok(json!({"items": [{"id": 1}], "next": "t"})),
        (Some(_), Some(_)) if std::mem::take(&mut is_forgotten) => Err(failure(Cause::NotFound)),
        (Some(_), Some(_)) => Ok(rows([2])),
    });

    assert_eq!(result.unwrap().ids(), ["1", "1", "2"]);
}

#[test]
fn a_part_that_fails_is_continued_after_the_others() {
    for cause in [Cause::Server, Cause::Forbidden] {
        let run = ListingRun::of_everything(profile_with_parts());
        let mut fails = true;

        let (requests, result) = run.run_logged(|call| match (call.values.part, argument(call)) {
            (None, _) => Ok(rows(["a", "b"])),
            (Some("a"), None) => Ok(json!({"items": [{"id": 1}], "next": "t"})),
            (Some("a"), Some(_)) if std::mem::take(&mut fails) => Err(failure(cause)),
            (Some("a"), Some(_)) => Ok(rows([2])),
            (Some(_), _) => Ok(rows([3])),
        });

        assert_eq!(result.unwrap().ids(), ["1", "3", "2"], "{cause:?}");
        let expected =
            ["parts", "list part=a", "list part=a page=t", "list part=b", "list part=a page=t"];
        assert_eq!(requests, expected);
    }
}

#[test]
fn a_part_that_always_fails_is_named_after_the_others_are_listed() {
    let run = ListingRun::of_everything(profile_with_parts());

    let (requests, result) = run.run_logged(|call| match call.values.part {
        None => Ok(rows(["a", "b", "c"])),
        Some("a") => Err(failure(Cause::Server)),
        Some(part) => Ok(rows([part])),
    });

    let Err(ListError::Failed(failure)) = result else { panic!("the listing ends") };
    assert_eq!(failure.cause, Cause::Server);
    assert!(failure.message.starts_with("part \"a\": refused; "), "{failure}");
    assert!(requests.contains(&"list part=c".to_owned()), "{requests:?}");
}

#[test]
fn a_refused_part_is_left_out_and_known_as_refused() {
    let mut profile = profile_with_parts();
    profile.tables.again = Some(cynosure_engine::rest::AgainTable { compare: path("/id") });
    let respond = |call: &RestCall<'_>| match call.values.part {
        None => Ok(rows(["a", "b"])),
        Some("a") => Err(failure(Cause::Forbidden)),
        Some(part) => Ok(rows([part])),
    };

    let full = ListingRun::of_everything(profile.clone()).run(respond).unwrap();

    assert_eq!(full.ids(), ["b"]);
    let cursor = full.cursor.unwrap();
    let parsed = RestCursor::parse(&cursor, ChangeMethod::Newest).unwrap();
    assert!(parsed.was_refused(Some("a")) && !parsed.was_refused(Some("b")));
    assert_eq!(parsed.position.newest_rows(Some("a")), None);
    // It is listed as a whole once it is not refused any more.
    let listed = ListingRun::since(profile.clone(), &cursor);
    let listed = listed.run(|call| Ok(rows([call.values.part.unwrap_or("a")]))).unwrap();
    assert!(listed.ids().contains(&"a"), "{:?}", listed.ids());
    let known = listed.cursor.unwrap();
    assert!(!RestCursor::parse(&known, ChangeMethod::Newest).unwrap().was_refused(Some("a")));
    // What is known of it stays known when it is refused later.
    let refused = ListingRun::since(profile, &known);
    let refused = refused.run(|call| match call.values.part {
        None => Ok(rows(["a", "b"])),
        Some("a") => Err(failure(Cause::Forbidden)),
        Some(part) => Ok(rows([part])),
    });
    let parsed =
        RestCursor::parse(&refused.unwrap().cursor.unwrap(), ChangeMethod::Newest).unwrap();
    assert!(parsed.was_refused(Some("a")) && parsed.position.newest_rows(Some("a")).is_some());
}

#[test]
fn a_refusal_of_all_parts_is_a_failure() {
    let run = ListingRun::of_everything(profile_with_parts());

    let (requests, result) = run.run_logged(|call| match call.values.part {
        None => Ok(rows(0..1_000)),
        Some(_) => Err(failure(Cause::Forbidden)),
    });

    assert_eq!(cause_of(result.unwrap_err()), Cause::Forbidden);
    assert_eq!(requests.len(), 1 + 32 + 2, "the first of a page and its repetition");
}

#[test]
fn no_part_and_too_many_parts_are_errors() {
    let run = ListingRun::of_everything(profile_with_parts());

    let result = run.run(|_| Ok(rows::<u32>([])));
    assert_eq!(mismatch_of(result.unwrap_err()), "`[parts]` lists no part");
    let result = run.run(|_| Ok(rows(0..100_001)));

    assert_eq!(mismatch_of(result.unwrap_err()), "`[parts]` lists more than 100000 parts");
}
