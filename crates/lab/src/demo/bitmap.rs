//! Set of small numbers, stored as one bit each.

#[derive(Debug, Default)]
pub(super) struct Bitmap {
    words: Vec<u64>,
}

impl Bitmap {
    /// Adds a number. Returns false if the set already contains it.
    pub(super) fn insert(&mut self, number: u32) -> bool {
        let (word, bit) = ((number / u64::BITS) as usize, 1 << (number % u64::BITS));
        if self.words.len() <= word {
            self.words.resize(word + 1, 0);
        }
        let is_new = self.words[word] & bit == 0;
        self.words[word] |= bit;
        is_new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_new_once() {
        let mut bitmap = Bitmap::default();

        let added = [0, 63, 64, 100_000, 63, 0, 65].map(|number| bitmap.insert(number));

        assert_eq!(added, [true, true, true, true, false, false, true]);
    }
}
