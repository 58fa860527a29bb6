//! Page tokens: positions in a listing, as short JSON text that may be read by a later version of
//! the program.

use cynosure_engine::{Cause, Failure, PageToken};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Maximum number of consecutive pages without an entry, where such pages are normal. Changes of a
/// million flags come as this many pages of the smallest size; a server that sends more is faulty
/// or malicious.
pub(in crate::source) const EMPTY_PAGES_MAX: u64 = 10_000;

/// Parses a page token. Returns `None` for text of another version; the listing then restarts.
pub(in crate::source) fn decode<T: DeserializeOwned>(token: Option<&PageToken>) -> Option<T> {
    serde_json::from_str(token?.as_str()).ok()
}

/// Serializes a position to a page token.
pub(in crate::source) fn encode(position: &impl Serialize) -> PageToken {
    // Strings and numbers always serialize. An empty token would restart the listing and lose
    // nothing.
    PageToken::new(serde_json::to_string(position).unwrap_or_default())
}

/// Detector of cycles of any length in a listing, with one stored position: Brent's algorithm ("An
/// improved Monte Carlo factorization algorithm", 1980, §2).
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub(in crate::source) struct CycleDetector {
    #[serde(rename = "mark")]
    checkpoint: Option<String>,
    steps: u64,
    #[serde(rename = "lap")]
    lap_length: u64,
    #[serde(rename = "empty")]
    empty_pages: u64,
}

impl CycleDetector {
    /// Advances to `position`, on a page with `entries` entries.
    ///
    /// # Errors
    /// Returns an error if the position was visited before, or after more than `empty_pages_max`
    /// pages in a row without entries.
    pub(in crate::source) fn step(
        &mut self,
        position: &str,
        entries: usize,
        empty_pages_max: u64,
    ) -> Result<(), Failure> {
        if self.checkpoint.as_deref() == Some(position) {
            return Err(listing_failure("the server's list contains a cycle"));
        }
        self.empty_pages = if entries == 0 { self.empty_pages + 1 } else { 0 };
        if empty_pages_max < self.empty_pages {
            return Err(listing_failure("the server's list has too many pages without an entry"));
        }
        if self.steps == self.lap_length {
            self.checkpoint = Some(position.to_owned());
            self.lap_length = (self.lap_length * 2).max(1);
            self.steps = 0;
        }
        self.steps += 1;
        Ok(())
    }
}

fn listing_failure(message: &str) -> Failure {
    Failure::new(Cause::Unknown, message)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn step(detector: &mut CycleDetector, position: usize, entries: usize) -> Result<(), Failure> {
        detector.step(&position.to_string(), entries, EMPTY_PAGES_MAX)
    }

    proptest! {
        #[test]
        fn every_cycle_is_detected_soon(lead in 0_usize..50, cycle in 1_usize..50) {
            let mut detector = CycleDetector::default();
            let positions = (0..lead + cycle).chain((lead..lead + cycle).cycle());

            let is_new = |position: &usize| step(&mut detector, *position, 1).is_ok();
            let steps = positions.take_while(is_new).count();

            prop_assert!(steps <= 3 * (lead + cycle) + 2, "{steps}");
        }
    }

    #[test]
    fn a_list_without_repeats_is_no_cycle() {
        let mut detector = CycleDetector::default();

        assert!((0..1_000).all(|position| step(&mut detector, position, 1).is_ok()));
    }

    #[test]
    fn endless_empty_pages_are_detected() {
        let mut detector = CycleDetector::default();

        let steps = (0..).take_while(|position| step(&mut detector, *position, 0).is_ok()).count();

        assert_eq!(u64::try_from(steps), Ok(EMPTY_PAGES_MAX));
    }

    #[test]
    fn a_page_token_of_another_version_is_ignored() {
        for text in ["", "[]", "{\"other\": 1}", "{\"steps\": \"x\"}"] {
            assert_eq!(decode::<CycleDetector>(Some(&PageToken::new(text))), None, "{text}");
        }
        let detector = CycleDetector {
            checkpoint: Some("m".to_owned()),
            steps: 1,
            lap_length: 2,
            empty_pages: 3,
        };
        assert_eq!(decode(Some(&encode(&detector))), Some(detector));
    }
}
