//! Listings since a cursor, and the cursors after full listings.

use std::time::Duration;

use cynosure_engine::rest::{AgainTable, ChangesTable, PinTable, SweepTable};

use super::documents::profile_with_documents;
use super::*;

/// Returns the profile of one stream of changes.
fn stream_profile() -> RestProfile {
    let mut profile = profile();
    let request = test_server::get("/pin");
    profile.tables.pin = Some(PinTable { request, cursor: path("/position") });
    profile.tables.changes = Some(changes_table());
    profile
}

/// Returns the profile of parts with a stream of changes each.
fn parts_profile() -> RestProfile {
    let mut profile = profile();
    profile.tables.parts = Some(parts::parts_table());
    profile.tables.list.cursor = Some(path("/position"));
    profile.tables.changes = Some(changes_table());
    profile
}

fn changes_table() -> ChangesTable {
    let mut listing = test_server::listing("/changes");
    listing.page.paging = token_paging();
    ChangesTable { listing, cursor: path("/position") }
}

/// Returns the profile of a list with the newest rows first.
fn newest_profile() -> RestProfile {
    let mut profile = profile_with(token_paging());
    profile.tables.again = Some(AgainTable { compare: path("/last") });
    profile
}

fn sweep_table() -> SweepTable {
    SweepTable { listing: test_server::listing("/all"), every: Duration::from_secs(3600) }
}

fn stream_cursor(position: &str) -> Cursor {
    Cursor::new(format!(r#"{{"v":1,"position":{{"stream":"{position}"}},"at":{}}}"#, NOW.0))
}

/// Returns the cursor of parts with these positions, in the order of their ids.
fn parts_cursor(positions: &[(&str, &str)]) -> Cursor {
    let positions: Vec<String> =
        positions.iter().map(|(part, position)| format!(r#""{part}":"{position}""#)).collect();
    let positions = positions.join(",");
    Cursor::new(format!(r#"{{"v":1,"position":{{"parts":{{{positions}}}}},"at":{}}}"#, NOW.0))
}

/// Returns a page that ends a list with a position.
fn last_page<I: ToString>(ids: impl IntoIterator<Item = I>, position: &str) -> Value {
    let mut page = rows(ids);
    page["position"] = json!(position);
    page
}

#[test]
fn a_full_listing_keeps_the_position_that_was_read_before() {
    let result = ListingRun::of_everything(stream_profile()).run(|_| Ok(rows(["a"])));

    assert_eq!(result.unwrap().cursor, None);
}

#[test]
fn changes_of_the_account_end_with_its_position() {
    let mut profile = stream_profile();
    profile.tables.parts = Some(parts::parts_table());
    let run = ListingRun::since(profile, &stream_cursor("5"));

    let (requests, result) = run.run_logged(|call| {
        Ok(match argument(call) {
            None => json!({"items": [{"id": "a"}], "next": "t", "position": 6}),
            Some(_) => json!({"items": [{"id": "b"}], "position": 7}),
        })
    });

    let result = result.unwrap();
    assert_eq!(requests, ["changes cursor=5", "changes cursor=5 page=t"]);
    assert_eq!(result.ids(), ["a", "b"]);
    assert_eq!(result.cursor, Some(stream_cursor("7")));
}

#[test]
fn a_last_page_without_a_position_is_an_error() {
    let run = ListingRun::since(stream_profile(), &stream_cursor("5"));
    assert_eq!(
        mismatch_of(run.run(|_| Ok(rows(["a"]))).unwrap_err()),
        "`[changes] cursor` = \"/position\" selects no text and no whole number in the last page"
    );
    let run = ListingRun::of_everything(parts_profile());
    let respond = |call: &RestCall<'_>| Ok(rows([call.values.part.unwrap_or("p")]));
    assert_eq!(
        mismatch_of(run.run(respond).unwrap_err()),
        "`[list] cursor` = \"/position\" selects no text and no whole number in the last page"
    );
}

#[test]
fn an_expired_position_of_the_account_is_a_failure() {
    let run = ListingRun::since(stream_profile(), &stream_cursor("5"));

    let result = run.run(|_| Err(failure(Cause::CursorExpired)));

    assert_eq!(cause_of(result.unwrap_err()), Cause::CursorExpired);
}

#[test]
fn a_link_of_changes_that_expired_begins_the_changes_again() {
    let run = ListingRun::since(stream_profile(), &stream_cursor("5"));
    let mut is_expired = true;

    let result = run.run(|call| match argument(call) {
        None => Ok(json!({"items": [{"id": "a"}], "next": "t"})),
        Some(_) if std::mem::take(&mut is_expired) => Err(failure(Cause::CursorExpired)),
        Some(_) => Ok(last_page(["b"], "6")),
    });

    assert_eq!(result.unwrap().ids(), ["a", "a", "b"]);
}

#[test]
fn each_part_has_the_position_of_its_last_page() {
    let mut profile = parts_profile();
    profile.tables.list.listing.page.paging = token_paging();

    let result = ListingRun::of_everything(profile).run(|call| {
        Ok(match (call.values.part, argument(call)) {
            (None, _) => rows(["a", "b"]),
            (Some("a"), None) => json!({"items": [], "next": "t", "position": "early"}),
            (Some(part), _) => last_page([part], &format!("{part}-1")),
        })
    });

    assert_eq!(result.unwrap().cursor, Some(parts_cursor(&[("a", "a-1"), ("b", "b-1")])));
}

#[test]
fn new_parts_are_listed_as_a_whole_others_since_a_position() {
    let cursor = parts_cursor(&[("a", "a-1"), ("expired", "e-1"), ("gone", "g-1")]);
    let run = ListingRun::since(parts_profile(), &cursor);

    let (requests, result) = run.run_logged(|call| match (call.values.part, call.values.cursor) {
        (None, _) => Ok(rows(["a", "expired", "new"])),
        (Some("expired"), Some(_)) => Err(failure(Cause::CursorExpired)),
        (Some(part), since) => {
            let source = since.unwrap_or("all");
            Ok(last_page([format!("{part}-{source}")], &format!("{part}-2")))
        }
    });

    let result = result.unwrap();
    assert_eq!(
        requests,
        [
            "parts",
            "changes part=a cursor=a-1",
            "changes part=expired cursor=e-1",
            "list part=expired",
            "list part=new",
        ]
    );
    assert_eq!(result.ids(), ["a-a-1", "expired-all", "new-all"]);
    let expected = [("a", "a-2"), ("expired", "expired-2"), ("new", "new-2")];
    assert_eq!(result.cursor, Some(parts_cursor(&expected)));
}

#[test]
fn changes_look_at_an_item_once_for_each_page() {
    let mut profile = profile_with_documents(Paging::Single);
    profile.tables.changes = Some(changes_table());
    profile.tables.pin = stream_profile().tables.pin;
    let run = ListingRun::since(profile, &stream_cursor("5"));

    let (requests, result) = run.run_logged(|call| {
        Ok(match call.values.item {
            None => last_page(["t", "u", "t"], "6"),
            Some(item) => rows([format!("{item}-1")]),
        })
    });

    assert_eq!(result.unwrap().ids(), ["t-1", "u-1"]);
    assert_eq!(requests.len(), 3);
}

#[test]
fn a_sweep_follows_a_full_listing_and_is_due_again_later() {
    let mut profile = parts_profile();
    profile.tables.sweep = Some(sweep_table());
    let respond = |call: &RestCall<'_>| {
        Ok(match (call.values.part, call.table.name()) {
            (None, "sweep") => rows(["moved"]),
            (None, _) => rows(["a"]),
            (Some(part), table) => last_page([format!("{part}-{table}")], "1"),
        })
    };

    let full = ListingRun::of_everything(profile.clone()).run(respond).unwrap();
    let cursor = full.cursor.clone().unwrap();
    let changes_after = |duration| {
        let run = ListingRun::since(profile.clone(), &cursor);
        ListingRun { now: NOW.after(duration), ..run }.run(respond).unwrap()
    };
    let soon = changes_after(Duration::from_secs(3599));
    let later = changes_after(Duration::from_secs(3600));

    assert_eq!(full.ids(), ["a-list", "moved"]);
    assert_eq!(soon.ids(), ["a-changes"]);
    assert_eq!(later.ids(), ["a-changes", "moved"]);
    let swept_at = |result: &ListingResult| {
        let cursor = result.cursor.as_ref().unwrap();
        let value: Value = serde_json::from_str(cursor.as_str()).unwrap();
        value["swept_at"].as_i64()
    };
    assert_eq!(swept_at(&full), Some(NOW.0));
    assert_eq!(swept_at(&soon), Some(NOW.0));
    assert_eq!(swept_at(&later), Some(NOW.0 + 3_600_000));
}

/// Returns the page of a list of items with a compared value.
fn newest_page(items: &[(u32, u32)], call: &RestCall<'_>) -> Value {
    let offset: usize = argument(call).map_or(0, |offset| offset.parse().unwrap());
    let row = |(id, last): &(u32, u32)| json!({"id": id, "last": last});
    let page: Vec<Value> = items.iter().skip(offset).take(2).map(row).collect();
    let next = (offset + 2 < items.len()).then_some(offset + 2);
    json!({"items": page, "next": next})
}

#[test]
fn the_first_pages_are_listed_down_to_the_known_rows() {
    let before: Vec<(u32, u32)> = (0..10).map(|id| (id, 1)).collect();
    let full = ListingRun::of_everything(newest_profile());
    let full = full.run(|call| Ok(newest_page(&before, call))).unwrap();
    assert_eq!(full.ids().len(), 10);
    let list_since = |cursor: &Cursor, items: &[(u32, u32)]| {
        let run = ListingRun::since(newest_profile(), cursor);
        let (requests, result) = run.run_logged(|call| Ok(newest_page(items, call)));
        (requests.len(), result.unwrap())
    };

    // Two new items, and an old one that has changed.
    let after = [&[(100, 1), (101, 1), (7, 2)][..], &before[..7], &before[8..]].concat();
    let (requests, changes) = list_since(&full.cursor.unwrap(), &after);

    assert_eq!(changes.ids(), ["100", "101", "7", "0", "1", "2"]);
    assert_eq!(requests, 3);
    let (requests, unchanged) = list_since(&changes.cursor.unwrap(), &after);
    assert_eq!((requests, unchanged.ids()), (1, vec!["100", "101"]));
}

#[test]
fn without_changes_everything_is_listed_and_compared() {
    let list = |ids: &[u32]| {
        let full = ListingRun::of_everything(profile()).run(|_| Ok(rows(ids))).unwrap();
        let cursor = full.cursor.unwrap();
        let since = ListingRun::since(profile(), &cursor).run(|_| Ok(rows(ids))).unwrap();
        assert_eq!(since.ids().len(), ids.len());
        assert_eq!(since.cursor.as_ref(), Some(&cursor));
        cursor
    };

    assert_eq!(list(&[1, 2]), list(&[2, 1]));
    assert_ne!(list(&[1, 2]), list(&[1, 3]));
    assert_ne!(list(&[1, 2]), list(&[1]));
}
