//! Windows of UIDs: each is listed by one command.
//!
//! The width follows the density of the UIDs, which is unknown: a mailbox of 2,000 messages may
//! have UIDs up to 150,000.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Width of the first window, in UIDs: a short answer, even if every UID is in use.
const WIDTH_START: u32 = 1_000;

/// Maximum width, in UIDs. After a gap in the UIDs a window may be full.
const WIDTH_MAX: u32 = 1 << 20;

/// Rows above which the next window is narrower: about 200 KB of text, which a server produces
/// within seconds.
const ROWS_MAX: usize = 5_000;

/// Rows up to which the next window is twice as wide. It has at most `ROWS_MAX` rows then, if the
/// density stays the same.
pub(super) const ROWS_MIN: usize = ROWS_MAX / 2;

/// Range of UIDs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct UidWindow {
    pub(super) first: u32,
    pub(super) last: u32,
}

/// Width of the next window, in UIDs.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(transparent)]
pub(super) struct WindowWidth(u32);

impl UidWindow {
    pub(super) fn contains(self, uid: u32) -> bool {
        (self.first..=self.last).contains(&uid)
    }
}

impl fmt::Display for UidWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.first, self.last)
    }
}

impl WindowWidth {
    pub(super) const START: Self = Self(WIDTH_START);

    /// Returns the width after a window with this number of rows.
    #[must_use]
    pub(super) fn after(self, rows: usize) -> Self {
        if ROWS_MAX < rows {
            Self((self.0 / 2).max(1))
        } else if rows <= ROWS_MIN {
            Self(self.0.saturating_mul(2).min(WIDTH_MAX))
        } else {
            self
        }
    }

    /// Returns the window that begins at `first`, up to `last` at most.
    pub(super) fn window(self, first: u32, last: u32) -> UidWindow {
        let end = first.saturating_add(self.0.max(1).saturating_sub(1));
        UidWindow { first, last: end.min(last) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn width_after(rows: &[usize]) -> u32 {
        rows.iter().fold(WindowWidth::START, |width, rows| width.after(*rows)).0
    }

    #[test]
    fn the_width_follows_the_density() {
        assert_eq!(width_after(&[]), 1_000);
        assert_eq!(width_after(&[1_000, 2_000]), 4_000);
        assert_eq!(width_after(&[1_000, 2_000, 4_000, 4_000]), 4_000);
        assert_eq!(width_after(&[1_000, 2_000, 5_001]), 2_000);
        assert_eq!(width_after(&[0; 30]), 1 << 20);
        assert_eq!(width_after(&[9_999; 30]), 1);
    }

    #[test]
    fn a_window_ends_with_the_folder() {
        assert_eq!(WindowWidth::START.window(1, 10_000).to_string(), "1:1000");
        assert_eq!(WindowWidth::START.window(9_500, 10_000).to_string(), "9500:10000");
        assert_eq!(WindowWidth(0).window(7, 9).to_string(), "7:7");
    }

    proptest! {
        #[test]
        fn every_window_advances_and_stays_in_the_folder(
            width in 0_u32..=WIDTH_MAX,
            first in 1_u32..=u32::MAX,
            more in 0_u32..=u32::MAX,
        ) {
            let last = first.saturating_add(more);
            let window = WindowWidth(width).window(first, last);

            prop_assert!(first <= window.last && window.last <= last);
            prop_assert!(window.contains(first) && window.contains(window.last));
        }
    }
}
