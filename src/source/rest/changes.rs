//! Polls for changes since a cursor. They are listed by `listing`.

use std::time::Duration;

use cynosure_engine::rest::{RestTables, TableName};
use cynosure_engine::{Cause, Cursor, Failure, Timestamp};

use crate::source::PollResult;
use crate::source::rest::again::has_only_known_rows;
use crate::source::rest::call::RestResponse;
use crate::source::rest::cursor::{ChangeMethod, ChangePosition, RestCursor};
use crate::source::rest::listing::hash_row;
use crate::source::rest::listing::pages::{ListPage, PagePlace, PageRequest};
use crate::source::rest::listing::passes::{RowHash, RowHashes};
use crate::source::rest::listing::progress::ListProgress;
use crate::source::rest::parts::read_parts;
use crate::source::rest::source::RestSource;

/// Longest poll. What takes longer counts as a change: the listing that follows does the same page
/// by page, and a restart repeats little of it.
const POLL_DURATION_MAX: Duration = Duration::from_secs(600);

/// Maximum number of requests of a poll, for the same reason.
const POLL_REQUESTS_MAX: u32 = 5_000;

/// Maximum number of parts that fail in a poll before it does. One must not hide the changes of the
/// others; more look as if the server failed.
const FAILED_PARTS_MAX: u32 = 3;

/// Poll in progress.
struct ChangePoll<'a> {
    source: &'a RestSource,
    started_at: Timestamp,
    requests: u32,
}

/// Checks whether a listing would find anything new.
///
/// A sweep that is due counts as a change, and so does a position that the server may soon forget:
/// the listing moves it.
pub(super) async fn poll_changes(
    source: &RestSource,
    cursor: &Cursor,
) -> Result<PollResult, Failure> {
    let tables = &source.profile().tables;
    let cursor = RestCursor::parse(cursor, ChangeMethod::of(tables))?;
    let started_at = source.now();
    if cursor.is_sweep_due(tables, started_at) || cursor.is_old(started_at) {
        return Ok(PollResult::Changed);
    }
    let mut poll = ChangePoll { source, started_at, requests: 0 };
    let has_changes = match &cursor.position {
        ChangePosition::Stream(position) => poll.has_stream_changes(None, position).await?,
        ChangePosition::Parts(_) | ChangePosition::Newest(_) => {
            poll.has_part_changes(&cursor).await?
        }
        ChangePosition::Rows(sum) => poll.has_other_rows(*sum, &cursor).await?,
    };
    Ok(if has_changes { PollResult::Changed } else { PollResult::Unchanged })
}

impl<'a> ChangePoll<'a> {
    /// True if a part is new, or has changes. A part that is gone is no change, and neither is one
    /// that is still refused.
    async fn has_part_changes(&mut self, cursor: &RestCursor) -> Result<bool, Failure> {
        let since = &cursor.position;
        let parts = self.part_ids().await?;
        let is_known = |part: &Option<String>| {
            let part = part.as_deref();
            since.stream_position(part).is_some()
                || since.newest_rows(part).is_some()
                || cursor.was_refused(part)
        };
        let requests = u32::try_from(parts.len()).unwrap_or(u32::MAX);
        if POLL_REQUESTS_MAX <= requests || !parts.iter().all(is_known) {
            return Ok(true);
        }
        let (mut failed_parts, mut first_failure) = (0, None);
        for part in &parts {
            let part = part.as_deref();
            let has_changes = match (since.stream_position(part), since.newest_rows(part)) {
                (Some(position), _) => self.has_stream_changes(part, position).await,
                (None, Some(known)) => self.has_new_rows(part, known).await,
                (None, None) => self.is_listed(part).await,
            };
            match has_changes {
                Err(failure) if failure.cause == Cause::Forbidden && part.is_some() => {
                    // The listing finds out whether the server refuses this part alone.
                    if !cursor.was_refused(part) {
                        return Ok(true);
                    }
                }
                Err(failure)
                    if matches!(failure.cause, Cause::Server | Cause::Unknown)
                        && failed_parts < FAILED_PARTS_MAX =>
                {
                    failed_parts += 1;
                    first_failure.get_or_insert(failure);
                }
                has_changes => {
                    if self.has_ended_early(part, has_changes)? {
                        return Ok(true);
                    }
                }
            }
        }
        first_failure.map_or(Ok(false), Err)
    }

    /// True if the server lists a part that it refused to list before.
    async fn is_listed(&mut self, part: Option<&str>) -> Result<bool, Failure> {
        let list = &self.tables().list.listing;
        let request = PageRequest { part, ..PageRequest::new(TableName::List, list) };
        self.request(&request, &PagePlace::First).await?;
        Ok(true)
    }

    /// True if the stream of changes has a row, or another page.
    async fn has_stream_changes(
        &mut self,
        part: Option<&str>,
        position: &str,
    ) -> Result<bool, Failure> {
        let Some(changes) = &self.tables().changes else { return Ok(true) };
        let request = PageRequest::new(TableName::Changes, &changes.listing);
        let request = PageRequest { part, cursor: Some(position), ..request };
        let mut progress = ListProgress::default();
        let response = self.request(&request, &progress.place).await?;
        let page = self.read_page(&request, &mut progress, &response)?;
        let has_rows = page.is_some_and(|page| !page.rows.is_empty());
        Ok(has_rows || !progress.has_ended)
    }

    /// True if the first page of a part has a row that the cursor does not know.
    async fn has_new_rows(
        &mut self,
        part: Option<&str>,
        known: &RowHashes,
    ) -> Result<bool, Failure> {
        let tables = self.tables();
        let request = PageRequest::new(TableName::List, &tables.list.listing);
        let request = PageRequest { part, ..request };
        let mut progress = ListProgress::default();
        let response = self.request(&request, &PagePlace::First).await?;
        let Some(page) = self.read_page(&request, &mut progress, &response)? else {
            return Ok(true);
        };
        let rows: Vec<RowHash> = page.rows.iter().map(|row| hash_row(tables, part, row)).collect();
        let is_empty = rows.is_empty() && progress.has_ended;
        Ok(!is_empty && !has_only_known_rows(&rows, known))
    }

    /// True if the rows of all parts differ from those of the cursor.
    async fn has_other_rows(&mut self, sum: u64, cursor: &RestCursor) -> Result<bool, Failure> {
        let mut current_sum = 0_u64;
        for part in self.part_ids().await? {
            let part = part.as_deref();
            match self.sum_rows(part).await {
                Ok(Some(sum)) => current_sum = current_sum.wrapping_add(sum),
                Ok(None) => return Ok(true),
                Err(failure) if failure.cause == Cause::Forbidden && part.is_some() => {
                    if !cursor.was_refused(part) {
                        return Ok(true);
                    }
                }
                Err(failure) => return self.has_ended_early(part, Err(failure)),
            }
        }
        Ok(current_sum != sum)
    }

    /// Returns the sum of the hashes of the rows of a part; `None` if the poll takes too long.
    async fn sum_rows(&mut self, part: Option<&str>) -> Result<Option<u64>, Failure> {
        let tables = self.tables();
        let request = PageRequest::new(TableName::List, &tables.list.listing);
        let request = PageRequest { part, ..request };
        let mut progress = ListProgress::default();
        while !progress.has_ended {
            if self.is_too_long() {
                return Ok(None);
            }
            let response = self.request(&request, &progress.place).await?;
            let Some(page) = self.read_page(&request, &mut progress, &response)? else { continue };
            for row in page.rows.iter().filter(|row| page.is_new(row)) {
                progress.found.record(hash_row(tables, part, row), false);
            }
        }
        Ok(Some(progress.found.sum))
    }

    /// True if the poll need not go on after a part. A part that the server does not find, or whose
    /// position it no longer accepts, is looked at by the listing.
    fn has_ended_early(
        &self,
        part: Option<&str>,
        has_changes: Result<bool, Failure>,
    ) -> Result<bool, Failure> {
        match has_changes {
            Ok(has_changes) => Ok(has_changes || self.is_too_long()),
            Err(failure)
                if part.is_some()
                    && matches!(failure.cause, Cause::NotFound | Cause::CursorExpired) =>
            {
                Ok(true)
            }
            Err(failure) => Err(failure),
        }
    }

    /// Returns the ids of the parts. Without parts, there is one without an id.
    async fn part_ids(&mut self) -> Result<Vec<Option<String>>, Failure> {
        let Some(parts) = &self.tables().parts else { return Ok(vec![None]) };
        let mut ids = Vec::new();
        read_parts(self.source, parts, |row| ids.push(Some(row.id.clone()))).await?;
        Ok(ids)
    }

    fn tables(&self) -> &'a RestTables {
        &self.source.profile().tables
    }

    fn is_too_long(&self) -> bool {
        POLL_REQUESTS_MAX <= self.requests
            || POLL_DURATION_MAX <= self.source.now().since(self.started_at)
    }

    async fn request(
        &mut self,
        request: &PageRequest<'_>,
        place: &PagePlace,
    ) -> Result<RestResponse, Failure> {
        self.requests = self.requests.saturating_add(1);
        self.source.call(request.call_at(place)).await
    }

    fn read_page<'v>(
        &self,
        request: &PageRequest<'_>,
        progress: &mut ListProgress,
        response: &'v RestResponse,
    ) -> Result<Option<ListPage<'v>>, Failure> {
        let page = progress.read_page(request.table, request.listing, response);
        page.map_err(|error| error.into_failure(self.source))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use cynosure_engine::rest::{
        AgainTable, ChangesTable, FolderNameRules, JsonPath, PageTarget, PageTargetPlace, Paging,
        PartsTable, PinTable, RestProfile, SweepTable,
    };

    use super::*;
    use crate::source::rest::test_server::{
        ScriptedHttpServer, bytes_table, get, json_response, listing, named, open_source, profile,
    };

    fn path(text: &str) -> JsonPath {
        JsonPath::parse(text).unwrap()
    }

    /// Returns a profile with a stream of changes: one for the account, or one for each part.
    fn stream_profile(has_parts: bool) -> RestProfile {
        let mut changes = listing("/changes");
        changes.request.query = named(&[("since", "{cursor}")]);
        changes.page.paging = Paging::Token {
            from: path("/next"),
            to: PageTarget { place: PageTargetPlace::Query, name: "page".to_owned() },
        };
        let mut profile = profile(bytes_table("/raw/{document.id}"));
        let tables = &mut profile.tables;
        tables.changes = Some(ChangesTable { listing: changes, cursor: path("/position") });
        if has_parts {
            tables.parts = Some(parts_table());
            tables.list.cursor = Some(path("/position"));
        } else {
            tables.pin = Some(PinTable { request: get("/pin"), cursor: path("/position") });
        }
        profile
    }

    fn parts_table() -> PartsTable {
        let names = FolderNameRules::default();
        PartsTable { listing: listing("/parts"), names, count: None }
    }

    /// Returns a profile that compares rows of parts: the newest of each, or all.
    fn rows_profile(has_newest_first: bool) -> RestProfile {
        let mut profile = profile(bytes_table("/raw/{document.id}"));
        profile.tables.parts = Some(parts_table());
        profile.tables.list.listing.request = get("/list/{part.id}");
        profile.tables.again = has_newest_first.then(|| AgainTable { compare: path("/last") });
        profile
    }

    /// Polls a server that answers these targets, and no others.
    async fn poll(
        profile: RestProfile,
        position: ChangePosition,
        answers: &'static [(&'static str, &'static str)],
    ) -> Result<PollResult, Failure> {
        let cursor = RestCursor::new(position, Timestamp::default(), None).to_cursor();
        let server = ScriptedHttpServer::start(move |request| {
            let is_asked = |target: &str| request.starts_with(&format!("GET /api{target} "));
            match answers.iter().find(|(target, _)| is_asked(target)) {
                Some((_, body)) => json_response("200 OK", body),
                None => json_response("404 Not Found", "{}"),
            }
        })
        .await;
        poll_changes(&open_source(&server, profile), &cursor).await
    }

    fn stream(position: &str) -> ChangePosition {
        ChangePosition::Stream(position.to_owned())
    }

    fn parts(positions: &[(&str, &str)]) -> ChangePosition {
        let owned = |(part, position): &(&str, &str)| ((*part).to_owned(), (*position).to_owned());
        ChangePosition::Parts(positions.iter().map(owned).collect())
    }

    #[tokio::test]
    async fn a_stream_has_changes_if_it_has_rows_or_another_page() {
        let answers = &[
            ("/changes?since=1", r#"{"items": [], "position": 2}"#),
            ("/changes?since=2", r#"{"items": [{"id": "a"}], "position": 3}"#),
            ("/changes?since=3", r#"{"items": [], "next": "t", "position": 4}"#),
        ];
        for (position, expected) in
            [("1", PollResult::Unchanged), ("2", PollResult::Changed), ("3", PollResult::Changed)]
        {
            let result = poll(stream_profile(false), stream(position), answers).await;
            assert_eq!(result, Ok(expected), "{position}");
        }
        let failure = poll(stream_profile(false), stream("9"), answers).await.unwrap_err();
        assert_eq!(failure.cause, Cause::NotFound);
    }

    #[tokio::test]
    async fn parts_have_changes_if_one_is_new_or_has_some() {
        let answers = &[
            ("/parts", r#"{"items": [{"id": "a"}, {"id": "b"}]}"#),
            ("/changes?since=1", r#"{"items": []}"#),
            ("/changes?since=2", r#"{"items": [{"id": "x"}]}"#),
        ];
        for (positions, expected) in [
            (&[("a", "1"), ("b", "1"), ("gone", "2")][..], PollResult::Unchanged),
            (&[("a", "1"), ("b", "2")][..], PollResult::Changed),
            (&[("a", "1")][..], PollResult::Changed),
            (&[("a", "1"), ("b", "9")][..], PollResult::Changed),
        ] {
            let result = poll(stream_profile(true), parts(positions), answers).await;
            assert_eq!(result, Ok(expected), "{positions:?}");
        }
    }

    #[tokio::test]
    async fn a_part_that_fails_hides_no_changes_of_the_others() {
        for (changed, expected) in [(false, Err(Cause::Server)), (true, Ok(PollResult::Changed))] {
            let server = ScriptedHttpServer::start(move |request| {
                if request.starts_with("GET /api/parts ") {
                    return json_response("200 OK", r#"{"items": [{"id": "a"}, {"id": "b"}]}"#);
                }
                if request.starts_with("GET /api/changes?since=1 ") {
                    return json_response("500 Internal Server Error", "{}");
                }
                let rows = if changed { r#"{"items": [{"id": "x"}]}"# } else { r#"{"items": []}"# };
                json_response("200 OK", rows)
            })
            .await;
            let position = parts(&[("a", "1"), ("b", "2")]);
            let cursor = RestCursor::new(position, Timestamp::default(), None).to_cursor();

            let source = open_source(&server, stream_profile(true));
            let result = poll_changes(&source, &cursor).await;

            assert_eq!(result.map_err(|failure| failure.cause), expected);
        }
    }

    #[tokio::test]
    async fn a_part_that_stays_refused_is_no_change() {
        for (status, was_refused, expected) in [
            ("403 Forbidden", true, PollResult::Unchanged),
            ("403 Forbidden", false, PollResult::Changed),
            ("200 OK", true, PollResult::Changed),
        ] {
            let server = ScriptedHttpServer::start(move |request| {
                let is_asked = |target: &str| request.starts_with(&format!("GET /api{target} "));
                if is_asked("/parts") {
                    return json_response("200 OK", r#"{"items": [{"id": "a"}, {"id": "b"}]}"#);
                }
                let is_refused = is_asked("/list") || is_asked("/changes?since=1");
                json_response(if is_refused { status } else { "200 OK" }, r#"{"items": []}"#)
            })
            .await;
            // A part that was never listed has no position.
            let known: &[_] = if was_refused { &[("b", "2")] } else { &[("a", "1"), ("b", "2")] };
            let mut cursor = RestCursor::new(parts(known), Timestamp::default(), None);
            if was_refused {
                cursor.refused.insert("a".to_owned());
            }

            let source = open_source(&server, stream_profile(true));
            let result = poll_changes(&source, &cursor.to_cursor()).await;

            assert_eq!(result, Ok(expected), "{status} {was_refused}");
        }
    }

    #[tokio::test]
    async fn a_sweep_that_is_due_is_a_change() {
        let mut profile = stream_profile(false);
        let every = Duration::from_secs(60);
        profile.tables.sweep = Some(SweepTable { listing: listing("/all"), every });

        assert_eq!(poll(profile, stream("1"), &[]).await, Ok(PollResult::Changed));
    }

    #[tokio::test]
    async fn rows_are_compared_with_those_of_the_cursor() {
        let answers = &[
            ("/parts", r#"{"items": [{"id": "a"}, {"id": "b"}]}"#),
            ("/list/a", r#"{"items": [{"id": 1, "last": 5}, {"id": 2, "last": 4}]}"#),
            ("/list/b", r#"{"items": []}"#),
        ];
        for has_newest_first in [true, false] {
            let profile = rows_profile(has_newest_first);
            let tables = profile.tables.clone();
            let hash = |part: &str, row: &str| {
                let value = serde_json::from_str(&format!(r#"{{"items": [{row}]}}"#)).unwrap();
                let rows = tables.list.listing.rows.read(TableName::List, &value).unwrap();
                hash_row(&tables, Some(part), &rows[0])
            };
            let position = |hashes: &[RowHash]| {
                if has_newest_first {
                    let [a, b] = ["a", "b"].map(str::to_owned);
                    let newest = [(a, RowHashes::first(hashes, 9)), (b, RowHashes::default())];
                    ChangePosition::Newest(BTreeMap::from(newest))
                } else {
                    ChangePosition::Rows(hashes.iter().fold(0, |sum, row| row.add_to(sum)))
                }
            };
            let first = hash("a", r#"{"id": 1, "last": 5}"#);
            let second = hash("a", r#"{"id": 2, "last": 4}"#);
            let other = hash("a", r#"{"id": 2, "last": 3}"#);

            let same = poll(profile.clone(), position(&[first, second]), answers).await;
            let changed = poll(profile.clone(), position(&[first, other]), answers).await;

            assert_eq!(same, Ok(PollResult::Unchanged), "{has_newest_first}");
            assert_eq!(changed, Ok(PollResult::Changed), "{has_newest_first}");
        }
    }

    #[tokio::test]
    async fn a_cursor_of_another_method_has_expired() {
        let failure = poll(stream_profile(false), ChangePosition::Rows(1), &[]).await.unwrap_err();

        assert_eq!(failure.cause, Cause::CursorExpired);
    }
}
