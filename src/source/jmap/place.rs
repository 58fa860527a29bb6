//! A place in a listing, as small JSON text that may outlive the program which wrote it.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::engine::{Cause, Failure, PageToken};

/// The most pages in a row without one entry. Changes of a million flags come
/// as this many pages of the smallest size; more is a server that plays with us.
const EMPTY_PAGES_MAX: u64 = 10_000;

/// A place of ours. A text that another version wrote is no place, and the listing begins anew.
pub(super) fn read<T: DeserializeOwned>(place: Option<&PageToken>) -> Option<T> {
    serde_json::from_str(place?.as_str()).ok()
}

/// Writes a place down.
pub(super) fn write(place: &impl Serialize) -> PageToken {
    // Strings and numbers always serialize; an empty place would begin anew, and lose nothing.
    PageToken::new(serde_json::to_string(place).unwrap_or_default())
}

/// Notices a listing that goes round in a circle, however long, with one remembered stop:
/// Brent's algorithm ("An improved Monte Carlo factorization algorithm", 1980, §2).
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct Trail {
    mark: Option<String>,
    steps: u64,
    lap: u64,
    empty: u64,
}

impl Trail {
    /// Takes one step to `stop`, with `entries` found on the way.
    ///
    /// # Errors
    /// We have been here before, or there has been nothing for too long.
    pub(super) fn step(&mut self, stop: &str, entries: usize) -> Result<(), Failure> {
        if self.mark.as_deref() == Some(stop) {
            return Err(lost("the server's list goes round in a circle"));
        }
        self.empty = if entries == 0 { self.empty + 1 } else { 0 };
        if EMPTY_PAGES_MAX < self.empty {
            return Err(lost("the server's list goes on without an entry"));
        }
        if self.steps == self.lap {
            self.mark = Some(stop.to_owned());
            self.lap = (self.lap * 2).max(1);
            self.steps = 0;
        }
        self.steps += 1;
        Ok(())
    }
}

fn lost(why: &str) -> Failure {
    Failure::new(Cause::Unknown, why)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_circle_is_noticed_soon(lead in 0_usize..50, circle in 1_usize..50) {
            let mut trail = Trail::default();
            let stops = (0..lead + circle).chain((lead..lead + circle).cycle());

            let steps = stops.take_while(|stop| trail.step(&stop.to_string(), 1).is_ok()).count();

            prop_assert!(steps <= 3 * (lead + circle) + 2, "{steps}");
        }
    }

    #[test]
    fn a_straight_line_is_no_circle() {
        let mut trail = Trail::default();

        assert!((0..1_000).all(|stop| trail.step(&stop.to_string(), 1).is_ok()));
    }

    #[test]
    fn nothing_for_ever_is_noticed() {
        let mut trail = Trail::default();

        let steps = (0..).take_while(|stop| trail.step(&stop.to_string(), 0).is_ok()).count();

        assert_eq!(u64::try_from(steps), Ok(EMPTY_PAGES_MAX));
    }

    #[test]
    fn a_place_of_another_make_is_no_place() {
        for text in ["", "[]", "{\"other\": 1}", "{\"steps\": \"x\"}"] {
            assert_eq!(read::<Trail>(Some(&PageToken::new(text))), None, "{text}");
        }
        let trail = Trail { mark: Some("m".to_owned()), steps: 1, lap: 2, empty: 3 };
        assert_eq!(read(Some(&write(&trail))), Some(trail));
    }
}
