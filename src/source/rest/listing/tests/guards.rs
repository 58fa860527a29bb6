//! Guards against lists that do not end, and responses that do not agree with the profile.

use cynosure_engine::rest::LinkOrigin;

use super::*;

fn error_of(
    paging: Paging,
    respond: impl FnMut(&RestCall<'_>) -> Result<Value, Failure>,
) -> String {
    mismatch_of(ListingRun::of_everything(profile_with(paging)).run(respond).unwrap_err())
}

fn number_paging(size: Option<u32>) -> Paging {
    Paging::Number { first: 1, size, to: Some(query("page")) }
}

fn anchor_paging(size: Option<u32>) -> Paging {
    Paging::Anchor { from: path("/id"), size, to: query("after") }
}

#[test]
fn a_repeated_token_or_link_is_an_error() {
    let link = Paging::Link { from: LinkOrigin::Body(path("/next")) };
    for paging in [token_paging(), link] {
        let error = error_of(paging, |_| Ok(json!({"items": [{"id": 1}], "next": "same"})));
        assert_eq!(error, "`[list] page`: the server's list contains a cycle");
    }
}

#[test]
fn the_same_page_for_every_place_is_an_error() {
    let same = "`[list] page`: the server returns the same rows for every page, as if it did not \
                know the parameter";
    assert_eq!(error_of(offset_paging(2, 0, false), |_| Ok(rows([1, 2]))), same);
    assert_eq!(error_of(offset_paging(2, 1, true), |_| Ok(rows([1, 2]))), same);
    assert_eq!(error_of(number_paging(None), |_| Ok(rows([1, 2]))), same);
    let mut requests = 0;
    let in_another_order = |_: &RestCall<'_>| {
        requests += 1;
        Ok(if requests % 2 == 0 { rows([1, 2]) } else { rows([2, 1]) })
    };
    assert_eq!(error_of(offset_paging(2, 0, false), in_another_order), same);
    let cycle = "`[list] page`: the server's list contains a cycle";
    assert_eq!(error_of(anchor_paging(None), |_| Ok(rows([1, 2]))), cycle);
}

#[test]
fn one_repeated_page_is_no_error() {
    // A page of rows has arrived before the second request.
    let lists: [&[u32]; 3] = [&[1, 2, 3], &[8, 9, 1, 2, 3], &[8, 9, 1, 2, 3]];
    let run = ListingRun::of_everything(profile_with(offset_paging(2, 0, false)));
    let mut requests = 0;

    let result = run.run(|call| {
        requests += 1;
        Ok(offset_page(lists[(requests - 1).min(2)], call, 2))
    });

    assert_eq!(result.unwrap().ids(), ["1", "2", "1", "2", "3"]);
}

#[test]
fn endless_pages_without_rows_are_an_error() {
    let endless = |may_be_empty: bool| {
        let mut profile = profile_with(token_paging());
        profile.tables.list.listing.page.may_be_empty = may_be_empty;
        let mut requests = 0;
        let result = ListingRun::of_everything(profile).run(|_| {
            requests += 1;
            Ok(json!({"items": [], "next": requests}))
        });
        (mismatch_of(result.unwrap_err()), requests)
    };

    let message = "`[list] page`: the server's list has too many pages without an entry";
    assert_eq!(endless(false), (message.to_owned(), 101));
    assert_eq!(endless(true), (message.to_owned(), 10_001));
}

#[test]
fn a_list_with_page_numbers_ends_with_an_empty_or_a_short_page() {
    let ids: Vec<u32> = (0..4).collect();
    for (paging, expected) in [(number_paging(None), 3), (number_paging(Some(3)), 2)] {
        let size = if expected == 3 { 2 } else { 3 };
        let run = ListingRun::of_everything(profile_with(paging));
        let (requests, result) = run.run_logged(|call| {
            let number: usize = argument(call).unwrap().parse().unwrap();
            Ok(rows(ids.iter().skip((number - 1) * size).take(size)))
        });

        assert_eq!(result.unwrap().ids(), ["0", "1", "2", "3"]);
        assert_eq!(requests.len(), expected);
        assert_eq!(requests[0], "list page=1");
    }
}

#[test]
fn a_list_with_anchors_continues_after_the_last_row() {
    let mut profile = profile_with(anchor_paging(Some(2)));
    profile.tables.list.listing.rows.skip =
        Some(cynosure_engine::rest::SkipRule { at: path("/skip"), is: Vec::new() });
    let run = ListingRun::of_everything(profile);

    let (requests, result) = run.run_logged(|call| {
        Ok(match argument(call) {
            None => json!({"items": [{"id": "a"}, {"id": "b", "skip": true}]}),
            Some(_) => rows(["c"]),
        })
    });

    assert_eq!(result.unwrap().ids(), ["a", "c"]);
    assert_eq!(requests, ["list", "list after=b"], "a row that is left out is an anchor, too");
}

#[test]
fn a_link_is_the_url_of_the_next_page() {
    let paging = Paging::Link { from: LinkOrigin::Body(path("/next")) };
    let run = ListingRun::of_everything(profile_with(paging));

    let (requests, result) = run.run_logged(|call| {
        Ok(match call.url {
            None => json!({"items": [{"id": "a"}], "next": "https://api.example/list?skip=1"}),
            Some(_) => json!({"items": [{"id": "b"}], "next": false}),
        })
    });

    assert_eq!(result.unwrap().ids(), ["a", "b"]);
    assert_eq!(requests, ["list", "list url=https://api.example/list?skip=1"]);
}

#[test]
fn values_of_another_kind_are_errors_that_quote_the_rule() {
    let error = error_of(token_paging(), |_| Ok(json!({"items": [], "next": {"token": "t"}})));
    assert_eq!(
        error,
        "`[list] page.from` = \"/next\" selects a value that is neither a text nor a whole number"
    );
    let paging = Paging::Anchor { from: path("/date"), size: None, to: query("after") };
    assert_eq!(
        error_of(paging, |_| Ok(rows([1]))),
        "`[list] page.from` = \"/date\" selects nothing in the last row of a page"
    );
    let error = error_of(Paging::Single, |_| Ok(json!({"rows": []})));
    assert_eq!(
        error,
        "`[list] items` = \"/items\" selects nothing in the response, which has the key rows"
    );
}
