//! Full listings: pages, passes, ends and page tokens.

use super::*;
use crate::source::Listing;
use crate::source::rest::listing::list_page;
use crate::source::rest::test_server::{ScriptedHttpServer, json_response, open_source};

#[test]
fn pages_follow_their_tokens_to_the_end() {
    let run = ListingRun::of_everything(profile_with(token_paging()));

    let (requests, result) = run.run_logged(|call| {
        Ok(match argument(call) {
            None => json!({"items": [{"id": 1}, {"id": "b"}], "next": "t"}),
            Some(_) => json!({"items": [{"id": "c"}], "next": ""}),
        })
    });

    let result = result.unwrap();
    assert_eq!(requests, ["list", "list page=t"]);
    assert_eq!(result.ids(), ["1", "b", "c"]);
    assert_eq!(result.entries[1].item.as_str(), "b");
    assert_eq!(result.entries[1].blob.as_str(), "b");
    assert!(result.cursor.unwrap().as_str().starts_with(r#"{"v":1,"position":{"rows":"#));
}

#[test]
fn a_row_may_be_a_document_of_an_item() {
    let mut profile = profile();
    let list = &mut profile.tables.list.listing.rows;
    list.document = vec![path("/mail")];
    list.labels = vec![("subject".to_owned(), path("/subject"))];
    list.size = Some(path("/size"));

    let result = ListingRun::of_everything(profile)
        .run(|_| Ok(json!({"items": [{"id": "t", "mail": "m", "subject": "Hi", "size": 7}]})));

    let entry = &result.unwrap().entries[0];
    assert_eq!((entry.item.as_str(), entry.document.as_str()), ("t", "m"));
    assert_eq!(entry.labels, [("subject".to_owned(), "Hi".to_owned())]);
    assert_eq!((entry.size, entry.location.is_none()), (Some(7), true));
}

#[test]
fn eight_pages_without_rows_take_one_call() {
    let run = ListingRun::of_everything(profile_with(token_paging()));

    let result = run.run(|call| {
        let page: u32 = argument(call).map_or(0, |page| page.parse().unwrap());
        Ok(match page {
            20 => json!({"items": [{"id": "a"}]}),
            _ => json!({"items": [], "next": page + 1}),
        })
    });

    let result = result.unwrap();
    assert_eq!(result.page_sizes, [0, 0, 1], "each call sends eight requests");
}

#[test]
fn a_list_begins_again_when_its_link_has_expired() {
    let run = ListingRun::of_everything(profile_with(token_paging()));
    let mut expired = 0;

    let (requests, result) = run.run_logged(|call| match argument(call) {
        None => Ok(json!({"items": [{"id": "a"}], "next": "t"})),
        Some(_) if expired < 2 => {
            expired += 1;
            Err(failure(Cause::CursorExpired))
        }
        Some(_) => Ok(rows(["b"])),
    });

    assert_eq!(result.unwrap().ids(), ["a", "a", "a", "b"]);
    assert_eq!(requests.len(), 6);
}

#[test]
fn any_refusal_of_a_token_begins_the_list_again() {
    for cause in [Cause::NotFound, Cause::Unknown] {
        let run = ListingRun::of_everything(profile_with(token_paging()));
        let mut is_forgotten = true;

        let result = run.run(|call| match argument(call) {
            None => Ok(json!({"items": [{"id": "a"}], "next": "t"})),
            Some(_) if std::mem::take(&mut is_forgotten) => Err(failure(cause)),
            Some(_) => Ok(rows(["b"])),
        });

        assert_eq!(result.unwrap().ids(), ["a", "a", "b"], "{cause}");
        let refused = run.run(|_| Err(failure(cause)));
        assert_eq!(cause_of(refused.unwrap_err()), cause, "the first page is refused");
    }
}

#[test]
fn a_list_whose_links_always_expire_fails() {
    let run = ListingRun::of_everything(profile_with(token_paging()));

    let (requests, result) = run.run_logged(|call| match argument(call) {
        None => Ok(json!({"items": [{"id": "a"}], "next": "t"})),
        Some(_) => Err(failure(Cause::CursorExpired)),
    });

    assert_eq!(cause_of(result.unwrap_err()), Cause::CursorExpired);
    assert_eq!(requests.iter().filter(|request| *request == "list").count(), 4);
}

#[test]
fn documents_before_a_failure_are_returned_first() {
    let mut profile = profile();
    profile.tables.parts = Some(parts::parts_table());
    let run = ListingRun::of_everything(profile);
    let mut respond = |call: &RestCall<'_>| match call.values.part {
        None => Ok(rows(["a", "b"])),
        Some("a") => Ok(rows::<&str>([])),
        Some(_) => Err(failure(Cause::RateLimit)),
    };

    let first = run.page(None, &mut respond).unwrap();

    let Ok(NextPage::More(token)) = first.next else { panic!("{:?}", first.next) };
    assert_eq!(cause_of(run.page(Some(&token), &mut respond).unwrap_err()), Cause::RateLimit);
}

#[test]
fn a_server_that_lowers_the_page_size_is_noticed_by_its_total() {
    let ids: Vec<u32> = (0..5).collect();
    for end_is_refused in [false, true] {
        let mut profile = profile_with(offset_paging(10, 0, false));
        profile.tables.list.total = Some(path("/total"));
        let run = ListingRun::of_everything(profile);

        let result = run.run(|call| {
            let mut page = offset_page(&ids, call, 2);
            page["total"] = json!("5");
            let is_past_end = page["items"].as_array().unwrap().is_empty();
            if is_past_end && end_is_refused { Err(failure(Cause::NotFound)) } else { Ok(page) }
        });

        let result = result.unwrap();
        assert_eq!(result.ids()[2..], ["0", "1", "2", "3", "4"], "{end_is_refused}");
    }
}

#[test]
fn a_total_that_no_pass_reaches_is_accepted() {
    let mut profile = profile_with(token_paging());
    profile.tables.list.total = Some(path("/total"));
    let run = ListingRun::of_everything(profile);

    let (requests, result) = run.run_logged(|_| {
        let mut page = rows(["a", "b"]);
        page["total"] = json!(3);
        Ok(page)
    });

    assert_eq!(result.unwrap().ids(), ["a", "b", "a", "b"]);
    assert_eq!(requests.len(), 2);
}

#[test]
fn a_list_with_other_rows_in_each_pass_ends_unverified() {
    let run = ListingRun::of_everything(profile_with(offset_paging(10, 2, true)));
    let mut requests = 0;
    let mut respond = |_: &RestCall<'_>| {
        requests += 1;
        Ok(rows([requests]))
    };
    let mut token: Option<PageToken> = None;
    let mut ends = Vec::new();

    for _ in 0..13 {
        let page = run.page(token.as_ref(), &mut respond).unwrap();
        token = Some(match page.next {
            Ok(NextPage::More(token)) => token,
            Ok(NextPage::Done(_)) => panic!("no two passes agree"),
            Err(end) => {
                assert!(page.entries.is_empty());
                ends.push(end.reason);
                end.resume_from
            }
        });
    }

    let reason = "the server's list has other rows in each of 5 passes";
    assert_eq!(ends, [reason, reason, reason], "the last end stays where it is");
    assert_eq!(requests, 10);
}

#[test]
fn a_page_token_stays_small() {
    let ids: Vec<u32> = (0..3_000).collect();
    for paging in [token_paging(), offset_paging(10, 3, true)] {
        let run = ListingRun::of_everything(profile_with(paging));
        let mut token = None;
        loop {
            let page = run.page(token.as_ref(), |call| {
                let mut page = offset_page(&ids, call, 10);
                let offset: usize = argument(call).map_or(0, |offset| offset.parse().unwrap());
                page["next"] = if offset < 2_990 { json!(offset + 10) } else { json!(null) };
                Ok(page)
            });
            match page.unwrap().next.unwrap() {
                NextPage::More(next) => token = Some(next),
                NextPage::Done(_) => break,
            }
            let length = token.as_ref().map_or(0, |token| token.as_str().len());
            assert!(length < 1_500, "{token:?}");
        }
    }
}

#[test]
fn a_token_of_another_profile_begins_the_listing_again() {
    let respond = |call: &RestCall<'_>| {
        Ok(match argument(call) {
            None => json!({"items": [{"id": "a"}], "next": "t"}),
            Some(_) => rows(["b"]),
        })
    };
    let run = ListingRun::of_everything(profile_with(token_paging()));
    let Ok(NextPage::More(token)) = run.page(None, respond).unwrap().next else {
        panic!("the list has two pages")
    };
    let first_id = |run: &ListingRun, token: &PageToken| {
        let page = run.page(Some(token), respond).unwrap();
        page.entries[0].document.as_str().to_owned()
    };

    assert_eq!(first_id(&run, &token), "b");
    let mut other = profile_with(token_paging());
    other.tables.list.listing.rows.is_optional = true;
    assert_eq!(first_id(&ListingRun::of_everything(other), &token), "a");
    assert_eq!(first_id(&run, &PageToken::new("{\"v\":9}")), "a");
}

#[tokio::test]
async fn a_listing_over_http_continues_from_its_token() {
    let server = ScriptedHttpServer::start(|request| {
        let is_second = request.starts_with("GET /api/list?page=t ");
        let body =
            if is_second { r#"{"items": []}"# } else { r#"{"items": [{"id": 1}], "next": "t"}"# };
        json_response("200 OK", body)
    })
    .await;
    let source = open_source(&server, profile_with(token_paging()));

    let first = list_page(&source, &Listing::Full, None).await.unwrap();
    let Ok(NextPage::More(token)) = first.next else { panic!("{:?}", first.next) };
    let second = list_page(&source, &Listing::Full, Some(&token)).await.unwrap();

    assert_eq!(first.entries.len(), 1);
    assert!(matches!(second.next, Ok(NextPage::Done(Some(_)))), "{:?}", second.next);
    assert_eq!(server.targets(), ["GET /api/list", "GET /api/list?page=t"]);
}
