//! Documents of items, each by a request of its own.

use std::collections::BTreeSet;

use cynosure_engine::rest::FetchBody;

use super::*;
use crate::source::rest::folder_names::NO_FOLDER_ID;

/// Returns the profile of items that have documents.
pub(super) fn profile_with_documents(paging: Paging) -> RestProfile {
    let mut profile = profile_with(paging);
    profile.tables.documents = Some(test_server::listing("/items/{item.id}"));
    profile
}

#[test]
fn documents_are_requested_eight_requests_at_a_time() {
    let run = ListingRun::of_everything(profile_with_documents(Paging::Single));

    let (requests, result) = run.run_logged(|call| {
        Ok(match call.values.item {
            None => rows(0..20),
            Some(item) => rows([format!("{item}-1"), format!("{item}-2")]),
        })
    });

    let result = result.unwrap();
    assert_eq!(result.page_sizes, [14, 16, 10]);
    assert_eq!(requests[..2], ["list", "documents item=0"]);
    assert_eq!(requests.len(), 21);
    let entry = &result.entries[1];
    assert_eq!((entry.item.as_str(), entry.document.as_str()), ("0", "0-2"));
}

#[test]
fn labels_and_kept_values_of_item_and_document_are_joined() {
    let mut profile = profile_with_documents(Paging::Single);
    profile.tables.fetch = test_server::bytes_table("/raw/{document.id}/{document.folder}");
    profile.tables.list.listing.rows.labels =
        vec![("thread".to_owned(), path("/subject")), ("subject".to_owned(), path("/subject"))];
    profile.tables.list.listing.rows.keep = vec![("folder".to_owned(), path("/folder"))];
    let documents = profile.tables.documents.as_mut().unwrap();
    documents.rows.labels = vec![("subject".to_owned(), path("/subject"))];
    let run = ListingRun::of_everything(profile);

    let result = run.run(|call| {
        Ok(match call.values.item {
            None => json!({"items": [{"id": "t", "subject": "Hi", "folder": 5}]}),
            Some(_) => json!({"items": [{"id": "m", "subject": "Re: Hi"}]}),
        })
    });

    let entry = &result.unwrap().entries[0];
    let label = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(entry.labels, [label("subject", "Re: Hi"), label("thread", "Hi")]);
    assert_eq!(entry.blob.as_str(), r#"["m",null,null,[["folder","5"]]]"#);
}

#[test]
fn a_document_is_in_the_folders_of_its_row_or_of_its_item() {
    let mut profile = profile_with_documents(Paging::Single);
    profile.tables.list.listing.rows.folder = vec![path("/in")];
    profile.tables.documents.as_mut().unwrap().rows.folder = vec![path("/folder")];
    let run = ListingRun::of_everything(profile);

    let result = run.run(|call| {
        Ok(match call.values.item {
            None => json!({"items": [{"id": "t", "in": ["x", "y"]}, {"id": "u"}]}),
            Some("t") => json!({"items": [{"id": "a", "folder": 5}, {"id": "b"}]}),
            Some(_) => json!({"items": [{"id": "c"}]}),
        })
    });

    let entries = result.unwrap().entries;
    let folders: Vec<&[String]> = entries.iter().map(|entry| entry.folders.as_slice()).collect();
    assert_eq!(folders, [&["5"][..], &["x", "y"], &[NO_FOLDER_ID]]);
}

#[test]
fn the_documents_of_an_item_have_pages() {
    let mut profile = profile_with_documents(Paging::Single);
    profile.tables.documents.as_mut().unwrap().page.paging = offset_paging(2, 0, false);
    let run = ListingRun::of_everything(profile);

    let (requests, result) = run.run_logged(|call| {
        Ok(match call.values.item {
            None => rows(["t"]),
            Some(_) => offset_page(&[1, 2, 3], call, 2),
        })
    });

    assert_eq!(result.unwrap().ids(), ["1", "2", "3"]);
    let expected = ["list", "documents item=t offset=0", "documents item=t offset=2"];
    assert_eq!(requests, expected);
}

#[test]
fn a_second_pass_requests_the_documents_of_new_items_only() {
    let run = ListingRun::of_everything(profile_with_documents(offset_paging(10, 2, true)));
    let mut lists = 0;

    let (requests, result) = run.run_logged(|call| {
        Ok(match call.values.item {
            None => {
                lists += 1;
                if lists == 1 { rows(["a", "b"]) } else { rows(["a", "new", "b"]) }
            }
            Some(item) => rows([format!("{item}-1")]),
        })
    });

    assert_eq!(result.unwrap().ids(), ["a-1", "b-1", "new-1"]);
    let requested = requests.iter().filter(|request| request.starts_with("documents"));
    assert_eq!(requested.count(), 3);
}

#[test]
fn an_item_with_another_compared_value_is_listed_again() {
    let mut profile = profile_with_documents(offset_paging(10, 2, true));
    profile.tables.again = Some(cynosure_engine::rest::AgainTable { compare: path("/last") });
    let run = ListingRun::of_everything(profile);
    let mut lists = 0;

    let (requests, result) = run.run_logged(|call| {
        Ok(match call.values.item {
            None => {
                lists += 1;
                json!({"items": [{"id": "a", "last": lists.min(2), "unread": lists}]})
            }
            Some(_) => rows(["m"]),
        })
    });

    assert_eq!(result.unwrap().ids(), ["m", "m"]);
    assert_eq!(requests.len(), 4);
}

#[test]
fn an_item_that_vanished_is_left_out() {
    let run = ListingRun::of_everything(profile_with_documents(Paging::Single));

    let result = run.run(|call| match call.values.item {
        None => Ok(rows(["a", "b", "c"])),
        Some("b") => Err(failure(Cause::NotFound)),
        Some(item) => Ok(rows([item])),
    });

    assert_eq!(result.unwrap().ids(), ["a", "c"]);
}

#[test]
fn an_item_that_fails_is_tried_again_at_the_end_of_the_list() {
    for cause in [Cause::Server, Cause::Forbidden, Cause::Unknown] {
        let run = ListingRun::of_everything(profile_with_documents(token_paging()));
        let mut fails = true;

        let (requests, result) = run.run_logged(|call| match (call.values.item, argument(call)) {
            (None, None) => Ok(json!({"items": [{"id": "a"}, {"id": "b"}], "next": "t"})),
            (None, Some(_)) => Ok(rows(["c"])),
            (Some("a"), _) if std::mem::take(&mut fails) => Err(failure(cause)),
            (Some(item), _) => Ok(rows([item])),
        });

        assert_eq!(result.unwrap().ids(), ["b", "c", "a"], "{cause:?}");
        assert_eq!(requests.len(), 6);
    }
}

#[test]
fn an_item_that_is_refused_is_left_out_and_not_known() {
    let mut profile = profile_with_documents(Paging::Single);
    profile.tables.again = Some(cynosure_engine::rest::AgainTable { compare: path("/id") });
    let list = |refused: &str| {
        let run = ListingRun::of_everything(profile.clone());
        let result = run.run(|call| match call.values.item {
            None => Ok(rows(["a", "b"])),
            Some(item) if item == refused => Err(failure(Cause::Forbidden)),
            Some(item) => Ok(rows([item])),
        });
        let result = result.unwrap();
        let cursor = result.cursor.as_ref().unwrap();
        let rows = RestCursor::parse(cursor, ChangeMethod::Newest).unwrap().position;
        let known = rows.newest_rows(None).unwrap().as_slice().len();
        let ids: Vec<String> = result.ids().into_iter().map(str::to_owned).collect();
        (ids, known)
    };

    assert_eq!(list("none"), (vec!["a".to_owned(), "b".to_owned()], 2));
    assert_eq!(list("a"), (vec!["b".to_owned()], 1));
}

#[test]
fn a_refusal_of_all_items_is_a_failure() {
    let run = ListingRun::of_everything(profile_with_documents(Paging::Single));

    let result = run.run(|call| match call.values.item {
        None => Ok(rows(["a", "b"])),
        Some(_) => Err(failure(Cause::Forbidden)),
    });

    assert_eq!(cause_of(result.unwrap_err()), Cause::Forbidden);
}

#[test]
fn an_item_that_always_fails_is_named_after_all_else_is_listed() {
    let mut profile = profile_with_documents(Paging::Single);
    profile.tables.parts = Some(parts::parts_table());
    let run = ListingRun::of_everything(profile);

    let (requests, result) = run.run_logged(|call| match (call.values.part, call.values.item) {
        (None, _) => Ok(rows(["first", "second"])),
        (Some(part), None) => Ok(rows([format!("{part}-a"), format!("{part}-b")])),
        (Some(_), Some("first-a")) => Err(failure(Cause::Server)),
        (Some(_), Some(item)) => Ok(rows([item])),
    });

    let Err(ListError::Failed(failure)) = result else { panic!("the listing ends") };
    assert_eq!(failure.cause, Cause::Server);
    assert!(failure.message.starts_with("documents of item \"first-a\": "), "{failure}");
    for item in ["first-b", "second-a", "second-b"] {
        let end = format!(" item={item}");
        assert_eq!(requests.iter().filter(|request| request.ends_with(&end)).count(), 1, "{item}");
    }
}

#[test]
fn many_items_that_are_not_found_are_a_failure() {
    let run = ListingRun::of_everything(profile_with_documents(token_paging()));

    // The items of each page are few, and none is found.
    let (requests, result) = run.run_logged(|call| match (call.values.item, argument(call)) {
        (None, page) => {
            let page: u32 = page.map_or(0, |page| page.parse().unwrap());
            Ok(json!({"items": [{"id": page}], "next": page + 1}))
        }
        (Some(_), _) => Err(failure(Cause::NotFound)),
    });

    assert_eq!(cause_of(result.unwrap_err()), Cause::NotFound);
    assert_eq!(requests.iter().filter(|request| *request == "list").count(), 4);
}

#[test]
fn many_deleted_items_are_gone_after_the_list_begins_again() {
    let run = ListingRun::of_everything(profile_with_documents(Paging::Single));
    let mut lists = 0;

    let result = run.run(|call| match call.values.item {
        None => {
            lists += 1;
            Ok(if lists == 1 { rows(0..50) } else { rows(40..50) })
        }
        Some(item) if item.parse::<u32>().unwrap() < 40 => Err(failure(Cause::NotFound)),
        Some(item) => Ok(rows([item])),
    });

    let result = result.unwrap();
    let ids: BTreeSet<&str> = result.ids().into_iter().collect();
    assert_eq!(ids.len(), 10);
}

#[test]
fn a_row_may_be_the_document_itself() {
    let mut profile = profile();
    profile.tables.fetch.body = FetchBody::Row;
    profile.tables.fetch.request = None;
    let run = ListingRun::of_everything(profile);
    let list = |value: u32| {
        let result = run.run(|_| Ok(json!({"items": [{"value": value, "id": "a"}]})));
        result.unwrap().entries.remove(0)
    };

    let entry = list(1);

    assert_eq!(entry.content.as_deref(), Some(r#"{"id":"a","value":1}"#));
    assert_eq!((entry.size, entry.size_estimate), (None, Some(20)));
    assert_eq!(entry.blob.as_str().len(), "sha256:".len() + 64);
    assert!(entry.blob.as_str().starts_with("sha256:"), "{}", entry.blob);
    assert_eq!(list(1).blob, entry.blob);
    assert_ne!(list(2).blob, entry.blob);
}
