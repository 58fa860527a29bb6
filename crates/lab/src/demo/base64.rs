//! Base64 encoder (RFC 4648 §4, §5).

pub(super) const ALPHABET: &[u8; 64] =
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Alphabet for URLs and names of files (RFC 4648 §5).
pub(super) const URL_ALPHABET: &[u8; 64] =
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

pub(super) fn encode(bytes: &[u8]) -> String {
    encode_with(ALPHABET, bytes)
}

/// Encodes with the alphabet for URLs and without padding, as `4 × bytes / 3` characters, rounded
/// up.
pub(super) fn encode_url(bytes: &[u8]) -> String {
    let mut text = encode_with(URL_ALPHABET, bytes);
    text.truncate(text.trim_end_matches('=').len());
    text
}

fn encode_with(alphabet: &[u8; 64], bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0, |bits, byte| bits << 8 | usize::from(*byte));
        let bits = bits << (8 * (3 - group.len()));
        for index in 0..4 {
            let character = alphabet[bits >> (18 - 6 * index) & 0x3f];
            text.push(if index <= group.len() { char::from(character) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rfc_4648_test_vectors_are_encoded() {
        let vectors = ["", "f", "fo", "foo", "foob", "fooba", "foobar"];

        assert_eq!(
            vectors.map(|text| encode(text.as_bytes())),
            ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"]
        );
    }

    #[test]
    fn the_alphabet_for_urls_has_no_padding() {
        assert_eq!(encode(&[0xfb, 0xef, 0xff, 0xfe]), "++///g==");
        assert_eq!(encode_url(&[0xfb, 0xef, 0xff, 0xfe]), "--___g");
        assert!((0..9).all(|n: usize| encode_url(&[0; 9][..n]).len() == (4 * n).div_ceil(3)));
    }
}
