//! Cursor of an account: the place from which changes are known, by the way in which the profile
//! finds them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cynosure_engine::rest::{
    AccountTable, PinTable, RequestTemplate, RestTables, RowError, TableName, scalar_text,
};
use cynosure_engine::{Cause, Cursor, Failure, Timestamp};
use serde::{Deserialize, Serialize};

use crate::source::rest::call::{CallValues, RestCall, profile_mismatch};
use crate::source::rest::listing::pages::{PagePlace, PageRequest};
use crate::source::rest::listing::passes::RowHashes;
use crate::source::rest::source::RestSource;

/// Version of the format. A cursor of another version leads to a full listing.
const VERSION: u32 = 1;

/// Age after which a cursor is moved although nothing has changed. Servers forget a position after
/// a week or a month.
const AGE_MAX: Duration = Duration::from_secs(24 * 3600);

/// Way in which a profile finds changes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ChangeMethod {
    /// `[changes]` since one position, which `[pin]` reads.
    Stream,
    /// `[changes]` since the position of each part, which is on the last page of its list.
    Parts,
    /// The newest rows of each part, compared with those of before: `[again]`.
    Newest,
    /// All rows, compared with those of before.
    Rows,
}

/// Place from which changes are known.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ChangePosition {
    /// Position in the stream of changes.
    Stream(String),
    /// Position in the stream of changes of each part. Without parts, the id is empty.
    Parts(BTreeMap<String, String>),
    /// Newest rows of each part. Without parts, the id is empty.
    Newest(BTreeMap<String, RowHashes>),
    /// Sum of the hashes of all rows.
    Rows(u64),
}

/// Cursor of an account.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct RestCursor {
    #[serde(rename = "v")]
    version: u32,
    pub(super) position: ChangePosition,
    /// Parts that the server refused to list.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(super) refused: BTreeSet<String>,
    /// Time of the cursor, in milliseconds.
    at: i64,
    /// Time of the last sweep, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    swept_at: Option<i64>,
}

impl ChangeMethod {
    /// Returns the method of a profile.
    pub(super) fn of(tables: &RestTables) -> Self {
        match (&tables.changes, &tables.again) {
            (Some(_), _) if tables.pin.is_some() => Self::Stream,
            (Some(_), _) if tables.list.cursor.is_some() => Self::Parts,
            (_, Some(_)) => Self::Newest,
            (_, None) => Self::Rows,
        }
    }

    /// Returns the position from which nothing is known.
    pub(super) fn start(self) -> ChangePosition {
        match self {
            Self::Stream => ChangePosition::Stream(String::new()),
            Self::Parts => ChangePosition::Parts(BTreeMap::new()),
            Self::Newest => ChangePosition::Newest(BTreeMap::new()),
            Self::Rows => ChangePosition::Rows(0),
        }
    }
}

impl ChangePosition {
    /// Returns the method that finds changes since the position.
    fn method(&self) -> ChangeMethod {
        match self {
            Self::Stream(_) => ChangeMethod::Stream,
            Self::Parts(_) => ChangeMethod::Parts,
            Self::Newest(_) => ChangeMethod::Newest,
            Self::Rows(_) => ChangeMethod::Rows,
        }
    }

    /// Returns the position in the stream of changes of a part; `None` if it is not known, and if
    /// the profile has no such stream.
    pub(super) fn stream_position(&self, part: Option<&str>) -> Option<&str> {
        match self {
            Self::Stream(position) => Some(position),
            Self::Parts(positions) => positions.get(part_key(part)).map(String::as_str),
            Self::Newest(_) | Self::Rows(_) => None,
        }
    }

    /// Returns the newest rows of a part; `None` if it is not known, and if the profile does not
    /// compare them.
    pub(super) fn newest_rows(&self, part: Option<&str>) -> Option<&RowHashes> {
        match self {
            Self::Newest(newest) => newest.get(part_key(part)),
            Self::Stream(_) | Self::Parts(_) | Self::Rows(_) => None,
        }
    }

    /// Takes over what an earlier position knows of a part, which could not be listed.
    pub(super) fn keep_from(&mut self, earlier: &Self, part: &str) {
        match (self, earlier) {
            (Self::Parts(positions), Self::Parts(known)) => {
                let known = known.get(part).map(|position| (part.to_owned(), position.clone()));
                positions.extend(known);
            }
            (Self::Newest(newest), Self::Newest(known)) => {
                newest.extend(known.get(part).map(|rows| (part.to_owned(), rows.clone())));
            }
            (Self::Stream(_) | Self::Parts(_) | Self::Newest(_) | Self::Rows(_), _) => {}
        }
    }
}

impl RestCursor {
    pub(super) fn new(
        position: ChangePosition,
        at: Timestamp,
        swept_at: Option<Timestamp>,
    ) -> Self {
        let swept_at = swept_at.map(|time| time.0);
        Self { version: VERSION, position, refused: BTreeSet::new(), at: at.0, swept_at }
    }

    /// Parses the text of a cursor.
    ///
    /// # Errors
    /// [`Cause::CursorExpired`] if it is not one of this version, or if the profile finds changes
    /// in another way now.
    pub(super) fn parse(cursor: &Cursor, method: ChangeMethod) -> Result<Self, Failure> {
        let parsed: Option<Self> = serde_json::from_str(cursor.as_str()).ok();
        let is_valid =
            |cursor: &Self| cursor.version == VERSION && cursor.position.method() == method;
        parsed.filter(is_valid).ok_or_else(|| {
            let message = "the cursor was written by another version of the program or profile";
            Failure::new(Cause::CursorExpired, message)
        })
    }

    /// Returns the text of the cursor.
    pub(super) fn to_cursor(&self) -> Cursor {
        // Strings and numbers always serialize. An empty cursor would lead to a full listing.
        Cursor::new(serde_json::to_string(self).unwrap_or_default())
    }

    /// Returns the time of the last sweep, if there was one.
    pub(super) fn swept_at(&self) -> Option<Timestamp> {
        self.swept_at.map(Timestamp)
    }

    /// True if the server refused to list a part.
    pub(super) fn was_refused(&self, part: Option<&str>) -> bool {
        part.is_some_and(|part| self.refused.contains(part))
    }

    /// True if the profile has a sweep, and its interval has passed.
    pub(super) fn is_sweep_due(&self, tables: &RestTables, now: Timestamp) -> bool {
        let is_over = |every| self.swept_at().is_none_or(|swept_at| every <= now.since(swept_at));
        tables.sweep.as_ref().is_some_and(|sweep| is_over(sweep.every))
    }

    /// True if the server may soon forget the position.
    pub(super) fn is_old(&self, now: Timestamp) -> bool {
        match self.position {
            ChangePosition::Stream(_) | ChangePosition::Parts(_) => {
                AGE_MAX <= now.since(Timestamp(self.at))
            }
            ChangePosition::Newest(_) | ChangePosition::Rows(_) => false,
        }
    }
}

/// Returns the current cursor: the position in the stream of changes of the account.
///
/// Without such a stream it is empty, and a full listing returns the cursor. A request is sent all
/// the same: the caller asks for the cursor also to learn whether the server answers.
pub(super) async fn current_cursor(source: &RestSource) -> Result<Cursor, Failure> {
    let tables = &source.profile().tables;
    let pin = tables.pin.as_ref().filter(|_| ChangeMethod::of(tables) == ChangeMethod::Stream);
    let Some(PinTable { request, cursor }) = pin else {
        check_access(source).await?;
        return Ok(Cursor::new(""));
    };
    let response = source.call(plain_call(TableName::Pin, request)).await?;
    let position = cursor.first(&response.body).and_then(scalar_text);
    let position = position.filter(|position| !position.is_empty()).ok_or_else(|| {
        let message = format!(
            "`[pin] cursor` = {:?} selects no text and no whole number in the response",
            cursor.as_str()
        );
        profile_mismatch(source, RowError(message))
    })?;
    let now = source.now();
    // A sweep follows every full listing.
    let swept_at = tables.sweep.as_ref().map(|_| now);
    Ok(RestCursor::new(ChangePosition::Stream(position), now, swept_at).to_cursor())
}

/// Sends the cheapest request that shows that the server answers and accepts the credential.
async fn check_access(source: &RestSource) -> Result<(), Failure> {
    let tables = &source.profile().tables;
    let response = if let Some(AccountTable { request, .. }) = &tables.account {
        source.send(plain_call(TableName::Account, request)).await
    } else if let Some(parts) = &tables.parts {
        let request = PageRequest::new(TableName::Parts, &parts.listing);
        source.call(request.call_at(&PagePlace::First)).await
    } else {
        let request = PageRequest::new(TableName::List, &tables.list.listing);
        source.call(request.call_at(&PagePlace::First)).await
    };
    response.map(drop)
}

/// Returns a call without values.
fn plain_call(table: TableName, request: &RequestTemplate) -> RestCall<'_> {
    let (values, arguments) = (CallValues::default(), Vec::new());
    RestCall { table, request, values, arguments, url: None }
}

/// Returns the key of a part. An id is never empty.
pub(super) fn part_key(part: Option<&str>) -> &str {
    part.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use cynosure_engine::rest::{ChangesTable, FolderNameRules, JsonPath, PartsTable};

    use super::*;
    use crate::source::rest::listing::passes::RowHash;
    use crate::source::rest::test_server::{
        ScriptedHttpServer, bytes_table, get, json_response, listing, open_source, profile,
    };

    const NOW: Timestamp = Timestamp(1_700_000_000_000);

    fn cursor(position: ChangePosition) -> RestCursor {
        RestCursor::new(position, NOW, None)
    }

    fn stream() -> RestCursor {
        cursor(ChangePosition::Stream("1".to_owned()))
    }

    #[test]
    fn the_text_is_short_and_is_read_back() {
        let swept = RestCursor::new(ChangePosition::Stream("77".to_owned()), NOW, Some(NOW));
        let text = swept.to_cursor();
        assert_eq!(
            text.as_str(),
            r#"{"v":1,"position":{"stream":"77"},"at":1700000000000,"swept_at":1700000000000}"#
        );
        assert_eq!(RestCursor::parse(&text, ChangeMethod::Stream), Ok(swept));

        let rows = RowHashes::first(&[RowHash::of(&["a"])], 1);
        let parts = BTreeMap::from([("inbox".to_owned(), "url".to_owned())]);
        let newest = BTreeMap::from([(String::new(), rows)]);
        for (method, position) in [
            (ChangeMethod::Parts, ChangePosition::Parts(parts)),
            (ChangeMethod::Newest, ChangePosition::Newest(newest)),
            (ChangeMethod::Rows, ChangePosition::Rows(u64::MAX)),
        ] {
            let original = cursor(position);
            assert_eq!(RestCursor::parse(&original.to_cursor(), method), Ok(original));
        }
    }

    #[test]
    fn a_cursor_that_cannot_be_read_has_expired() {
        let other = r#"{"v":2,"position":{"stream":"77"},"at":0}"#;
        for text in ["", "77", "{}", other, r#"{"v":1,"position":{"rows":7},"at":0}"#] {
            let failure = RestCursor::parse(&Cursor::new(text), ChangeMethod::Stream).unwrap_err();
            assert_eq!(failure.cause, Cause::CursorExpired, "{text}");
        }
    }

    #[test]
    fn a_position_belongs_to_its_part() {
        let parts = BTreeMap::from([("inbox".to_owned(), "1".to_owned())]);
        let parts = ChangePosition::Parts(parts);

        assert_eq!(parts.stream_position(Some("inbox")), Some("1"));
        assert_eq!(parts.stream_position(Some("sent")), None);
        assert_eq!(parts.newest_rows(Some("inbox")), None);
        let whole = BTreeMap::from([(String::new(), RowHashes::default())]);
        let whole = ChangePosition::Newest(whole);
        assert_eq!(whole.newest_rows(None), Some(&RowHashes::default()));
        assert_eq!(whole.stream_position(None), None);
    }

    #[test]
    fn a_position_of_a_server_grows_old() {
        let day = Duration::from_secs(24 * 3600);

        assert!(!stream().is_old(NOW.after(day / 2)));
        assert!(stream().is_old(NOW.after(day)));
        assert!(!cursor(ChangePosition::Rows(7)).is_old(NOW.after(day * 2)));
    }

    #[tokio::test]
    async fn the_current_cursor_is_the_pinned_position() {
        let server =
            ScriptedHttpServer::start(|_| json_response("200 OK", r#"{"position": 77}"#)).await;
        let position = JsonPath::parse("/position").unwrap();
        let mut pinned = profile(bytes_table("/raw/{document.id}"));
        pinned.tables.pin = Some(PinTable { request: get("/pin"), cursor: position.clone() });
        pinned.tables.changes =
            Some(ChangesTable { listing: listing("/changes"), cursor: position });

        let cursor = current_cursor(&open_source(&server, pinned)).await.unwrap();

        assert_eq!(cursor.as_str(), r#"{"v":1,"position":{"stream":"77"},"at":0}"#);
        assert_eq!(server.targets(), ["GET /api/pin"]);
    }

    #[tokio::test]
    async fn a_response_without_the_pinned_position_is_an_error() {
        let server = ScriptedHttpServer::start(|_| json_response("200 OK", "{}")).await;
        let position = JsonPath::parse("/position").unwrap();
        let mut pinned = profile(bytes_table("/raw/{document.id}"));
        pinned.tables.pin = Some(PinTable { request: get("/pin"), cursor: position.clone() });
        pinned.tables.changes =
            Some(ChangesTable { listing: listing("/changes"), cursor: position });

        let failure = current_cursor(&open_source(&server, pinned)).await.unwrap_err();

        let expected = "`[pin] cursor` = \"/position\" selects no text and no whole number";
        assert!(failure.message.contains(expected), "{failure}");
    }

    #[tokio::test]
    async fn without_a_position_a_request_shows_that_the_server_answers() {
        let mut with_parts = profile(bytes_table("/raw/{document.id}"));
        let names = FolderNameRules::default();
        with_parts.tables.parts =
            Some(PartsTable { listing: listing("/parts"), names, count: None });
        let without_parts = profile(bytes_table("/raw/{document.id}"));
        for (profile, target) in [(with_parts, "/parts"), (without_parts, "/list")] {
            let server = ScriptedHttpServer::start(move |request| {
                let is_expected = request.starts_with(&format!("GET /api{target} "));
                let status = if is_expected { "200 OK" } else { "500 Internal Server Error" };
                json_response(status, r#"{"items": []}"#)
            })
            .await;

            let cursor = current_cursor(&open_source(&server, profile)).await;

            assert_eq!(cursor, Ok(Cursor::new("")), "{target}");
        }
    }
}
