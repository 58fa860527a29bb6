//! Lists that are addressed by positions, and that change before any request.

use std::cell::Cell;
use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;

use super::documents::profile_with_documents;
use super::*;

/// Listings that may begin again before the test has failed.
const LISTINGS_MAX: usize = 50;

/// Change of the list, by a number that selects a row.
#[derive(Clone, Copy, Debug)]
enum ListChange {
    Nothing,
    Arrive,
    Insert(usize),
    Remove(usize),
    /// Moves a row to the top, at most once.
    Rise(usize),
}

/// List that changes before each request, as long as there are changes.
struct MovingList {
    rows: RefCell<Vec<u32>>,
    risen: RefCell<BTreeSet<u32>>,
    changes: RefCell<Vec<ListChange>>,
    next_id: Cell<u32>,
}

impl MovingList {
    fn new(count: u32, mut changes: Vec<ListChange>) -> Self {
        changes.reverse();
        Self {
            rows: RefCell::new((0..count).collect()),
            risen: RefCell::default(),
            changes: RefCell::new(changes),
            next_id: Cell::new(1_000),
        }
    }

    fn change(&self) {
        let mut rows = self.rows.borrow_mut();
        let select = |number: usize, count: usize| number.checked_rem(count);
        match self.changes.borrow_mut().pop() {
            None | Some(ListChange::Nothing) => {}
            Some(ListChange::Arrive) => rows.insert(0, self.new_id()),
            Some(ListChange::Insert(number)) => {
                let at = select(number, rows.len() + 1).unwrap_or(0);
                rows.insert(at, self.new_id());
            }
            Some(ListChange::Remove(number)) => {
                if let Some(at) = select(number, rows.len()) {
                    rows.remove(at);
                }
            }
            Some(ListChange::Rise(number)) => {
                if let Some(at) = select(number, rows.len())
                    && self.risen.borrow_mut().insert(rows[at])
                {
                    let id = rows.remove(at);
                    rows.insert(0, id);
                }
            }
        }
    }

    fn new_id(&self) -> u32 {
        self.next_id.replace(self.next_id.get() + 1)
    }

    /// Answers a request for a page of items, or for the documents of one.
    fn respond(&self, call: &RestCall<'_>, size: usize) -> Result<Value, Failure> {
        self.change();
        let rows_now = self.rows.borrow();
        match call.values.item {
            None => Ok(offset_page(&rows_now, call, size)),
            Some(item) if rows_now.iter().any(|id| id.to_string() == item) => Ok(rows([item])),
            Some(_) => Err(failure(Cause::NotFound)),
        }
    }
}

fn changes() -> impl Strategy<Value = Vec<ListChange>> {
    let change = prop_oneof![
        2 => Just(ListChange::Nothing),
        2 => Just(ListChange::Arrive),
        1 => any::<usize>().prop_map(ListChange::Insert),
        4 => any::<usize>().prop_map(ListChange::Remove),
        3 => any::<usize>().prop_map(ListChange::Rise),
    ];
    vec(change, 0..120)
}

/// Lists as the worker does: an unverified end is tried once more, and then the listing begins
/// again. `drops` says which pages are lost before they are recorded. Returns the ids of all
/// recorded documents.
fn list_all(run: &ListingRun, list: &MovingList, size: usize, drops: &[bool]) -> BTreeSet<String> {
    let mut recorded = BTreeSet::new();
    let mut drops = drops.iter().copied();
    let mut listings = 0;
    let (mut token, mut is_second_try): (Option<PageToken>, bool) = (None, false);
    for _ in 0..PAGES_MAX {
        let result = run.page(token.as_ref(), |call| list.respond(call, size));
        if drops.next().unwrap_or(false) {
            continue;
        }
        let next = match result {
            Ok(page) => {
                let ids = page.entries.iter().map(|entry| entry.document.as_str().to_owned());
                recorded.extend(ids);
                page.next
            }
            // The list changes too fast. Everything is listed again.
            Err(ListError::Unstable | ListError::Failed(_)) => {
                token = None;
                continue;
            }
            Err(ListError::Mismatch(error)) => panic!("{error:?}"),
        };
        match next {
            Ok(NextPage::Done(_)) => return recorded,
            Ok(NextPage::More(next)) => (token, is_second_try) = (Some(next), false),
            Err(end) if !is_second_try => (token, is_second_try) = (Some(end.resume_from), true),
            Err(_) => {
                listings += 1;
                assert!(listings < LISTINGS_MAX, "no listing ends");
                (token, is_second_try) = (None, false);
            }
        }
    }
    panic!("the listing has more than {PAGES_MAX} pages");
}

proptest! {
    /// FAULTS 81: whatever arrives, is removed, or moves once: two passes that agree have listed all that was
    /// there the whole time, although any page may be lost before it is recorded.
    #[test]
    fn every_item_that_stays_is_listed(
        count in 0_u32..60,
        changes in changes(),
        drops in vec(any::<bool>(), 0..60),
        size in 2_usize..12,
        overlap in 1_usize..4,
        has_documents in any::<bool>(),
    ) {
        let overlap = overlap.min(size - 1);
        let as_u32 = |number: usize| u32::try_from(number).unwrap();
        let paging = offset_paging(as_u32(size), as_u32(overlap), true);
        let profile =
            if has_documents { profile_with_documents(paging) } else { profile_with(paging) };
        let list = MovingList::new(count, changes);

        let recorded = list_all(&ListingRun::of_everything(profile), &list, size, &drops);

        let lost: Vec<u32> = list
            .rows
            .take()
            .into_iter()
            .filter(|id| *id < count && !recorded.contains(&id.to_string()))
            .collect();
        prop_assert!(lost.is_empty(), "{lost:?}");
    }

    /// Without moves, an overlap loses nothing even in one pass.
    #[test]
    fn one_pass_with_an_overlap_skips_no_row(
        count in 0_u32..60,
        removals in vec(any::<usize>(), 0..40),
        size in 2_usize..12,
    ) {
        let paging = offset_paging(u32::try_from(size).unwrap(), 1, false);
        let removals = removals.into_iter().map(ListChange::Remove).collect();
        let list = MovingList::new(count, removals);
        let run = ListingRun::of_everything(profile_with(paging));

        let recorded = list_all(&run, &list, size, &[]);

        let left = list.rows.take();
        prop_assert!(left.iter().all(|id| recorded.contains(&id.to_string())), "{left:?}");
    }
}
