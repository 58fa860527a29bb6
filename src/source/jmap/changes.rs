//! Lists what has come since a cursor: Email/changes (RFC 8621 §4.3).
//!
//! Not Email/queryChanges: servers forget what it needs without saying so.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::engine::{Cause, Cursor, Failure, PageToken};
use crate::source::jmap::Jmap;
use crate::source::jmap::api::{Refused, call_within, room_for_ids};
use crate::source::jmap::filter::{self, Filter};
use crate::source::jmap::mail::{self, Email};
use crate::source::jmap::missing::{Asking, Missing};
use crate::source::jmap::place::{self, Trail};
use crate::source::jmap::session::Session;
use crate::source::{News, Next, Page};

/// How many changes a look asks for. Enough to see past a few read marks; more are listed.
const LOOK_CHANGES: u32 = 50;

/// Ids in one list of a reply beyond which a server does not keep to `maxChanges`: twenty times what it is asked
/// for at most. They cannot be cut, as the new state is behind all of them.
const CHANGES_MAX: usize = 10_000;

/// How far a listing of changes has come.
#[derive(Debug, Deserialize, Serialize)]
struct Stop {
    state: String,
    trail: Trail,
    #[serde(default)]
    missing: Missing,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Changes {
    pub(super) new_state: String,
    pub(super) has_more_changes: bool,
    pub(super) created: Vec<String>,
    pub(super) updated: Option<Vec<String>>,
    pub(super) destroyed: Option<Vec<String>>,
}

/// Asks whether a listing would have anything to list.
///
/// Flags and deletions are no news. The cursor stays where it is for them, and
/// is moved by the listing that many of them cause.
pub(super) async fn look(jmap: &Jmap, cursor: &Cursor) -> Result<News, Failure> {
    let session = jmap.session().await?;
    let filter = filter::resolved(jmap, &session).await?;
    let changes = changes(jmap, &session, cursor.as_str(), LOOK_CHANGES).await?;
    let more = changes.has_more_changes;
    Ok(if more || !changes.candidates(filter).is_empty() { News::Something } else { News::Nothing })
}

/// Returns the page behind `place`, the first one begins at `cursor`.
pub(super) async fn page(
    jmap: &Jmap,
    cursor: &Cursor,
    place: Option<&PageToken>,
) -> Result<Page, Failure> {
    let session = jmap.session().await?;
    let filter = filter::resolved(jmap, &session).await?;
    let mut stop: Stop = place::read(place).unwrap_or_else(|| Stop {
        state: cursor.as_str().to_owned(),
        trail: Trail::default(),
        missing: Missing::default(),
    });

    let page_size = session.page_size(jmap.options.page_size_max);
    let changes = changes(jmap, &session, &stop.state, page_size).await?;
    let candidates = changes.candidates(filter);
    let found = mail::find(jmap, &session, &candidates, filter.properties()).await?;
    let asking = if changes.has_more_changes { Asking::Later } else { Asking::Now };
    let properties = filter.properties();
    let (late, missing) =
        stop.missing.settle(jmap, &session, found.missing, properties, asking).await?;
    let next = if changes.has_more_changes {
        stop.trail.step(&changes.new_state, candidates.len())?;
        if stop.state == changes.new_state {
            return Err(Failure::new(Cause::Unknown, "the server's changes do not move forward"));
        }
        stop.state = changes.new_state;
        Next::More(place::write(&stop))
    } else {
        Next::Done(Some(Cursor::new(changes.new_state)))
    };

    let wanted = found.emails.into_iter().chain(late).filter(|email| filter.wants(email));
    Ok(Page { entries: wanted.map(Email::into_entry).collect(), missing, total: None, next })
}

/// Asks what has changed since a state, and for no more than so much of it.
pub(super) async fn changes(
    jmap: &Jmap,
    session: &Arc<Session>,
    since: &str,
    max: u32,
) -> Result<Changes, Failure> {
    let arguments = json!({"sinceState": since, "maxChanges": max});
    let room = Some(room_for_ids(CHANGES_MAX));
    let changes = call_within(jmap, session, "Email/changes", arguments, room).await;
    let changes: Changes = changes.map_err(|refused: Refused| {
        // A cursor that the server cannot even read: one garbled by an upgrade, or of another server.
        let is_unreadable = matches!(&*refused.word, "invalidArguments" | "notRequest");
        let cause = if is_unreadable { Cause::CursorExpired } else { refused.failure.cause };
        Failure { cause, ..refused.failure }
    })?;
    if changes.is_cut() {
        // A listing of everything goes page by page.
        let why =
            format!("the server names {CHANGES_MAX} changes or more where {max} were asked for");
        return Err(Failure::new(Cause::CursorExpired, why));
    }
    Ok(changes)
}

impl Changes {
    /// Whether a list is as long as any that is kept: there may have been more.
    fn is_cut(&self) -> bool {
        let lists = [Some(&self.created), self.updated.as_ref(), self.destroyed.as_ref()];
        lists.into_iter().flatten().any(|ids| CHANGES_MAX <= ids.len())
    }

    /// The mails that may be new to us. One moved into a wanted mailbox counts as
    /// updated; one that we have already is recognised by the ledger.
    fn candidates(&self, filter: &Filter) -> Vec<String> {
        let moved = self.updated.iter().flatten().filter(|_| filter.may_gain_by_moves());
        let mut ids: BTreeSet<&String> = self.created.iter().chain(moved).collect();
        for gone in self.destroyed.iter().flatten() {
            ids.remove(gone);
        }
        ids.into_iter().cloned().collect()
    }
}
