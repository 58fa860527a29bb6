//! One message on its way out, in pieces, so that neither side holds a large one.

use bytes::Bytes;

use crate::demo::base64::ALPHABET;

/// Bytes of a piece of a large message.
const CHUNK_BYTES: usize = 64 * 1024;
/// Letters in a line of an attachment (RFC 2045 §6.8), which are 57 octets without padding.
const LINE_LETTERS: usize = 76;
/// Bytes of such a line with its end.
pub(super) const LINE_BYTES: usize = LINE_LETTERS + 2;
/// Letters drawn from one 64-bit number.
const LETTERS_PER_DRAW: usize = 10;

/// The rest of a raw message (RFC 5322), as pieces of bounded length.
#[derive(Debug)]
pub(crate) struct RawMessage {
    /// All before the attachment.
    pub(super) head: Vec<u8>,
    /// Lines of the attachment.
    pub(super) lines: usize,
    /// Where the attachment's letters come from.
    pub(super) letter_rng: fastrand::Rng,
    /// All behind the attachment.
    pub(super) tail: Vec<u8>,
}

impl Iterator for RawMessage {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let mut piece = std::mem::take(&mut self.head);
        if self.lines != 0 {
            let room = CHUNK_BYTES.saturating_sub(piece.len()) / LINE_BYTES;
            let lines = self.lines.min(room.max(1));
            piece.reserve_exact(lines * LINE_BYTES + self.tail.len());
            for _ in 0..lines {
                push_line(&mut piece, &mut self.letter_rng);
            }
            self.lines -= lines;
        }
        if self.lines == 0 {
            piece.append(&mut self.tail);
        }
        (!piece.is_empty()).then(|| piece.into())
    }
}

fn push_line(piece: &mut Vec<u8>, letters: &mut fastrand::Rng) {
    let mut line = [b'\n'; LINE_BYTES];
    line[LINE_LETTERS] = b'\r';
    for group in line[..LINE_LETTERS].chunks_mut(LETTERS_PER_DRAW) {
        let mut bits = letters.u64(..);
        for letter in group {
            *letter = ALPHABET[(bits & 0x3f) as usize];
            bits >>= 6;
        }
    }
    piece.extend_from_slice(&line);
}
