//! Profile and scope of a listing: which lists are read, and the cursor after them.

use std::cell::RefCell;

use cynosure_engine::rest::{JsonPath, RestProfile, RestTables, RowListing, TableName};
use cynosure_engine::{Cursor, Timestamp};

use crate::source::rest::cursor::{ChangeMethod, ChangePosition, RestCursor};
use crate::source::rest::listing::passes::SeenItems;
use crate::source::rest::listing::position::{QueuedPart, RestPosition, RestStage};

/// Scope of a listing.
#[derive(Debug)]
pub(super) enum ListingScope {
    Everything,
    /// Documents added since a cursor.
    Since(RestCursor),
}

/// Profile, scope and time of a listing.
pub(super) struct ListingContext<'a> {
    pub(super) profile: &'a RestProfile,
    /// Name of the source, for logs.
    pub(super) name: &'a str,
    pub(super) scope: ListingScope,
    pub(super) seen_items: &'a RefCell<SeenItems>,
    pub(super) now: Timestamp,
}

/// List in which the rows of a part are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum RowOrigin {
    /// All rows.
    Everything,
    /// The changes since the position of the cursor.
    Changes,
    /// The newest rows, down to those that the cursor knows.
    Newest,
}

impl<'a> ListingContext<'a> {
    pub(super) fn tables(&self) -> &'a RestTables {
        &self.profile.tables
    }

    pub(super) fn method(&self) -> ChangeMethod {
        ChangeMethod::of(self.tables())
    }

    /// Returns the place from which changes are listed; `None` if everything is listed.
    pub(super) fn since(&self) -> Option<&ChangePosition> {
        match &self.scope {
            ListingScope::Everything => None,
            ListingScope::Since(cursor) => Some(&cursor.position),
        }
    }

    /// True if the cursor says that the server refused to list a part.
    pub(super) fn was_refused(&self, part: &str) -> bool {
        matches!(&self.scope, ListingScope::Since(cursor) if cursor.was_refused(Some(part)))
    }

    /// Returns the start of the listing. The stream of changes of a whole account has no parts.
    pub(super) fn start(&self) -> RestPosition {
        let is_one_stream = self.since().is_some() && self.method() == ChangeMethod::Stream;
        let has_parts = self.tables().parts.is_some() && !is_one_stream;
        RestPosition::start(self.profile, self.method(), has_parts)
    }

    /// Returns the list in which the rows of a part are. A part that the cursor does not know is
    /// new, and all of it is listed.
    pub(super) fn row_origin(&self, part: &QueuedPart) -> RowOrigin {
        let Some(since) = self.since().filter(|_| !part.is_whole) else {
            return RowOrigin::Everything;
        };
        let id = part.id.as_deref();
        if since.stream_position(id).is_some() {
            RowOrigin::Changes
        } else if since.newest_rows(id).is_some() {
            RowOrigin::Newest
        } else {
            RowOrigin::Everything
        }
    }

    /// Returns the request of a list.
    pub(super) fn row_table(&self, origin: RowOrigin) -> (TableName, &'a RowListing) {
        let tables = self.tables();
        match (origin, &tables.changes) {
            (RowOrigin::Changes, Some(changes)) => (TableName::Changes, &changes.listing),
            (RowOrigin::Changes | RowOrigin::Everything | RowOrigin::Newest, _) => {
                (TableName::List, &tables.list.listing)
            }
        }
    }

    /// Returns the path of the position in the stream of changes that the last page of a list must
    /// contain.
    pub(super) fn stream_position_path(&self, origin: RowOrigin) -> Option<&'a JsonPath> {
        let tables = self.tables();
        match origin {
            RowOrigin::Changes => tables.changes.as_ref().map(|changes| &changes.cursor),
            RowOrigin::Everything if self.method() == ChangeMethod::Parts => {
                tables.list.cursor.as_ref()
            }
            RowOrigin::Everything | RowOrigin::Newest => None,
        }
    }

    /// True if the sweep follows the parts: always after everything was listed, or else if its
    /// interval has passed.
    pub(super) fn needs_sweep(&self) -> bool {
        match &self.scope {
            ListingScope::Everything => self.tables().sweep.is_some(),
            ListingScope::Since(cursor) => cursor.is_sweep_due(self.tables(), self.now),
        }
    }

    /// Returns the cursor after the listing; `None` if it is the one that was read before it.
    pub(super) fn end_cursor(&self, position: &RestPosition) -> Option<Cursor> {
        let last_sweep = match &self.scope {
            ListingScope::Everything if self.method() == ChangeMethod::Stream => return None,
            ListingScope::Everything => None,
            ListingScope::Since(cursor) => cursor.swept_at(),
        };
        let swept_at = if position.stage == RestStage::Swept { Some(self.now) } else { last_sweep };
        let mut cursor = RestCursor::new(position.changes.clone(), self.now, swept_at);
        cursor.refused.clone_from(&position.outcomes.refused);
        Some(cursor.to_cursor())
    }
}
