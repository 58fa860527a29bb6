//! Detection of new items by listing the first pages again: `[again]`.
//!
//! The newest items come first, so that only rows of before follow a page with nothing else. A
//! cursor keeps the hashes of the newest rows.

use crate::source::rest::listing::passes::{RowHash, RowHashes};

/// Maximum number of rows of a part that a cursor keeps: some pages of the usual size, so that a
/// page is recognized although rows above it were removed.
pub(super) const KNOWN_ROWS_MAX: usize = 200;

/// Part of the known rows, from the end, that shows that a page reaches behind them: a tenth.
const LAST_KNOWN_FRACTION: usize = 10;

/// True if no new row can follow a page: all its rows are known, or those up to one of the last
/// known ones are, and older rows follow. A page may have more rows than a cursor keeps. A page
/// without rows shows nothing.
pub(super) fn has_only_known_rows(page: &[RowHash], known: &RowHashes) -> bool {
    let known = known.as_slice();
    let rank = |row: &RowHash| known.iter().position(|other| other == row);
    let Some(last) = page.iter().rposition(|row| rank(row).is_some()) else { return false };
    let (up_to_last, older) = page.split_at(last + 1);
    if up_to_last.iter().any(|row| rank(row).is_none()) {
        return false;
    }
    let last_known = known.len() - known.len().div_ceil(LAST_KNOWN_FRACTION);
    older.is_empty() || up_to_last.last().and_then(rank).is_some_and(|rank| last_known <= rank)
}

/// Returns the newest rows after a listing that read `rows`, in the order of the list, until it
/// reached the `known` ones.
pub(super) fn newest_rows(rows: &RowHashes, known: &RowHashes) -> RowHashes {
    let mut newest = rows.clone();
    for row in known.as_slice().iter().filter(|row| !rows.contains(**row)) {
        newest.push(*row, KNOWN_ROWS_MAX);
    }
    newest
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hashes(rows: impl IntoIterator<Item = usize>) -> Vec<RowHash> {
        rows.into_iter().map(|row| RowHash::of(&[&row.to_string()])).collect()
    }

    fn known(rows: impl IntoIterator<Item = usize>) -> RowHashes {
        RowHashes::first(&hashes(rows), KNOWN_ROWS_MAX)
    }

    #[test]
    fn a_page_with_a_new_row_is_not_the_last() {
        let known = known(0..50);

        assert!(has_only_known_rows(&hashes(0..50), &known));
        assert!(has_only_known_rows(&hashes([0, 1, 7, 9]), &known), "some were removed");
        assert!(!has_only_known_rows(&[], &known));
        assert!(!has_only_known_rows(&hashes([900, 0, 1, 2]), &known));
        assert!(!has_only_known_rows(&hashes([0, 1, 900, 2]), &known));
        assert!(!has_only_known_rows(&hashes([0, 1, 2, 900]), &known), "one was moved there");
        assert!(!has_only_known_rows(&hashes([900, 901]), &known));
        assert!(!has_only_known_rows(&hashes([900]), &RowHashes::default()));
    }

    #[test]
    fn older_rows_behind_the_known_ones_are_not_new() {
        let known = known(0..KNOWN_ROWS_MAX);

        assert!(has_only_known_rows(&hashes(0..500), &known));
        assert!(has_only_known_rows(&hashes((0..190).chain(200..500)), &known));
        assert!(!has_only_known_rows(&hashes((0..100).chain(200..500)), &known));
        assert!(!has_only_known_rows(&hashes((900..901).chain(0..499)), &known));
    }

    #[test]
    fn new_rows_come_before_the_known_ones() {
        let newest = newest_rows(&known([900, 0, 1]), &known(0..4));

        assert_eq!(newest, known([900, 0, 1, 2, 3]));
        assert_eq!(newest_rows(&known([]), &known(0..KNOWN_ROWS_MAX)), known(0..KNOWN_ROWS_MAX));
        assert_eq!(newest_rows(&known([900]), &known(0..KNOWN_ROWS_MAX)).as_slice().len(), 200);
    }

    proptest! {
        /// Rows that arrive at the top are read, whatever was removed and however long a page is.
        #[test]
        fn every_new_row_is_read(
            count in 0_usize..600,
            arrivals in 0_usize..300,
            removed in proptest::collection::btree_set(0_usize..600, 0..30),
            page_size in 1_usize..400,
        ) {
            let known = known(0..count);
            let old = (0..count).filter(|row| !removed.contains(row));
            let list = hashes((1_000..1_000 + arrivals).chain(old));
            let mut read = 0;

            for page in list.chunks(page_size) {
                read += page.len();
                if has_only_known_rows(page, &known) {
                    break;
                }
            }

            prop_assert!(arrivals <= read, "{read} of {arrivals} rows");
        }
    }
}
