//! Finds the known word that a mistyped word most likely means.

/// Shortest prefix that matches a word, in characters.
const PREFIX_LEN_MIN: usize = 3;

/// Returns the known word that `word` is most likely meant to be: `word` has typos, or is a prefix.
///
/// At most a third of the characters, rounded up, may be typos, so that `max_retrys` finds
/// `max_retries` and `colour` finds nothing.
#[must_use]
pub fn closest_match<'k>(
    word: &str,
    known: impl IntoIterator<Item = &'k str, IntoIter: Clone>,
) -> Option<&'k str> {
    let known = known.into_iter();
    let length = word.chars().count();
    let distances =
        known.clone().map(|candidate| (strsim::levenshtein(word, candidate), candidate));
    let nearest = distances.filter(|(edits, _)| *edits <= length.div_ceil(3)).min();
    let by_prefix = || known.clone().find(|candidate| candidate.starts_with(word));
    let nearest = nearest.map(|(_, candidate)| candidate);
    nearest.or_else(|| by_prefix().filter(|_| length >= PREFIX_LEN_MIN))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [&str; 3] = ["max_retries", "max_retry_delay", "stuck_threshold"];

    #[test]
    fn a_typo_finds_the_intended_word() {
        assert_eq!(closest_match("max_retrys", KNOWN), Some("max_retries"));
        assert_eq!(closest_match("stuck_treshold", KNOWN), Some("stuck_threshold"));
    }

    #[test]
    fn a_prefix_finds_the_word() {
        assert_eq!(closest_match("stuck", KNOWN), Some("stuck_threshold"));
        assert_eq!(closest_match("st", KNOWN), None);
    }

    #[test]
    fn a_dissimilar_word_finds_nothing() {
        assert_eq!(closest_match("colour", KNOWN), None);
        assert_eq!(closest_match("", KNOWN), None);
    }
}
