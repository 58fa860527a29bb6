//! Raw message, generated in chunks, so that a large message is never in memory as a whole.

use bytes::Bytes;

use crate::demo::base64::ALPHABET;

/// Bytes of a chunk of a large message.
const CHUNK_BYTES: usize = 64 * 1024;
/// Characters in a line of an attachment (RFC 2045 §6.8), which are 57 octets without padding.
const LINE_CHARACTERS: usize = 76;
/// Bytes of such a line with its CRLF.
pub(super) const LINE_BYTES: usize = LINE_CHARACTERS + 2;
/// Characters taken from one random 64-bit number.
const CHARACTERS_PER_RANDOM_NUMBER: usize = 10;

/// Iterator over the rest of a raw message (RFC 5322), in chunks of bounded length.
#[derive(Debug)]
pub(crate) struct RawMessage {
    /// Bytes before the attachment.
    pub(super) head: Vec<u8>,
    /// Remaining lines of the attachment.
    pub(super) lines: usize,
    /// Source of the attachment's characters.
    pub(super) attachment_rng: fastrand::Rng,
    /// Bytes after the attachment.
    pub(super) tail: Vec<u8>,
}

impl Iterator for RawMessage {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let mut chunk = std::mem::take(&mut self.head);
        if self.lines != 0 {
            let room = CHUNK_BYTES.saturating_sub(chunk.len()) / LINE_BYTES;
            let lines = self.lines.min(room.max(1));
            chunk.reserve_exact(lines * LINE_BYTES + self.tail.len());
            for _ in 0..lines {
                push_line(&mut chunk, &mut self.attachment_rng);
            }
            self.lines -= lines;
        }
        if self.lines == 0 {
            chunk.append(&mut self.tail);
        }
        (!chunk.is_empty()).then(|| chunk.into())
    }
}

fn push_line(chunk: &mut Vec<u8>, rng: &mut fastrand::Rng) {
    let mut line = [b'\n'; LINE_BYTES];
    line[LINE_CHARACTERS] = b'\r';
    for group in line[..LINE_CHARACTERS].chunks_mut(CHARACTERS_PER_RANDOM_NUMBER) {
        let mut bits = rng.u64(..);
        for character in group {
            *character = ALPHABET[(bits & 0x3f) as usize];
            bits >>= 6;
        }
    }
    chunk.extend_from_slice(&line);
}
