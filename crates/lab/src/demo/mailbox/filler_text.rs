//! Filler text of an exact number of bytes, made from lists of words.

/// Words and line format of a filler text.
#[derive(Clone, Copy, Debug)]
pub(super) struct FillerStyle {
    words: &'static [&'static str],
    /// Written before each line.
    prefix: &'static str,
    /// Written after each line.
    end: &'static str,
}

/// Bytes of a line, without its ending, at which it is broken (RFC 5322 §2.1.1: at most 78).
const LINE_BYTES: usize = 72;
/// Minimum number of bytes to fill, enough for the longest prefix and the longest line ending.
pub(super) const FILL_BYTES_MIN: usize = 8;

pub(super) const TEXT: FillerStyle = FillerStyle { words: WORDS, prefix: "", end: "\r\n" };
pub(super) const QUOTED_REPLY: FillerStyle = FillerStyle { prefix: "> ", ..TEXT };
pub(super) const FOLDED: FillerStyle = FillerStyle { prefix: "\t", ..TEXT };
pub(super) const BARE_LINE_FEEDS: FillerStyle = FillerStyle { end: "\n", ..TEXT };
pub(super) const EIGHT_BIT: FillerStyle = FillerStyle { words: NON_ASCII_WORDS, ..TEXT };
pub(super) const QUOTED_PRINTABLE: FillerStyle =
    FillerStyle { words: QUOTED_PRINTABLE_WORDS, prefix: "", end: "=\r\n" };
pub(super) const MARKUP: FillerStyle =
    FillerStyle { words: MARKUP_WORDS, prefix: "", end: "=\r\n" };

/// Appends exactly `bytes` bytes of lines; at least [`FILL_BYTES_MIN`].
pub(super) fn fill(out: &mut Vec<u8>, bytes: usize, style: FillerStyle, rng: &mut fastrand::Rng) {
    let target_len = out.len() + bytes;
    loop {
        let remaining = target_len - out.len();
        let is_last = remaining <= LINE_BYTES + FILL_BYTES_MIN;
        let line_bytes = if is_last { remaining - style.end.len() } else { LINE_BYTES };
        let line_end = out.len() + line_bytes;

        out.extend_from_slice(style.prefix.as_bytes());
        loop {
            let word = pick(style.words, rng).as_bytes();
            if line_end < out.len() + word.len() + 1 {
                break;
            }
            out.extend_from_slice(word);
            out.push(b' ');
        }
        if is_last {
            out.resize(line_end, b'.');
        }
        out.extend_from_slice(style.end.as_bytes());
        if is_last {
            return;
        }
    }
}

/// Returns a few words in plain ASCII.
pub(super) fn phrase(words: usize, rng: &mut fastrand::Rng) -> String {
    (0..words).map(|_| pick(WORDS, rng)).collect::<Vec<_>>().join(" ")
}

/// Returns a few words that need an encoding in a header.
pub(super) fn non_ascii_phrase(words: usize, rng: &mut fastrand::Rng) -> String {
    (0..words).map(|_| pick(NON_ASCII_WORDS, rng)).collect::<Vec<_>>().join(" ")
}

pub(super) fn pick<'a>(list: &[&'a str], rng: &mut fastrand::Rng) -> &'a str {
    list[rng.usize(..list.len())]
}

const WORDS: &[&str] = &[
    "harbour",
    "ledger",
    "lantern",
    "of",
    "the",
    "and",
    "copper",
    "meadow",
    "window",
    "to",
    "in",
    "for",
    "slowly",
    "north",
    "paper",
    "anchor",
    "with",
    "seven",
    "kettle",
    "about",
    "rain",
    "schedule",
    "under",
    "gravel",
    "orchard",
    "please",
    "invoice",
    "twice",
    "morning",
    "engine",
    "is",
    "was",
    "will",
    "be",
    "quiet",
    "signal",
    "bridge",
    "valley",
    "from",
    "until",
    "thread",
    "basket",
    "green",
    "wire",
    "stone",
    "again",
    "every",
    "letter",
    "on",
    "at",
    "a",
    "an",
    "we",
    "they",
    "market",
    "ticket",
    "yesterday",
    "tomorrow",
    "delivery",
    "garden",
    "minutes",
    "river",
    "attached",
    "version",
    "draft",
    "number",
    "plain",
    "almost",
    "never",
    "island",
    "winter",
    "barrel",
    "needle",
    "after",
    "before",
    "between",
    "carpet",
    "report",
    "station",
    "platform",
    "without",
    "reading",
    "question",
    "answer",
    "however",
    "candle",
    "forty-two",
    "saddle",
];

const NON_ASCII_WORDS: &[&str] = &[
    "мост",
    "письмо",
    "утром",
    "река",
    "станция",
    "и",
    "на",
    "вчера",
    "café",
    "brücke",
    "straße",
    "año",
    "señal",
    "été",
    "øy",
    "łódka",
    "žluť",
    "γέφυρα",
    "橋",
    "手紙",
    "🚲",
    "über",
    "naïve",
    "smörgås",
];

const QUOTED_PRINTABLE_WORDS: &[&str] = &[
    "=D0=BC=D0=BE=D1=81=D1=82",
    "=D0=B8",
    "=D0=BD=D0=B0",
    "caf=C3=A9",
    "br=C3=BCcke",
    "stra=C3=9Fe",
    "a=C3=B1o",
    "=C3=A9t=C3=A9",
    "1+1=3D2",
    "plain",
    "letter",
    "=F0=9F=9A=B2",
];

const MARKUP_WORDS: &[&str] = &[
    "<b>bridge</b>",
    "<i>letter</i>",
    "<br>",
    "&amp;",
    "&nbsp;",
    "caf=C3=A9",
    "<u>north</u>",
    "copper",
    "meadow",
    "the",
    "of",
    "and",
    "station",
    "<p class=3D\"t\">",
    "</p>",
    "window",
    "invoice",
    "tomorrow",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_fills_the_exact_size_with_bounded_lines() {
        let mut rng = fastrand::Rng::with_seed(5);
        for style in
            [TEXT, QUOTED_REPLY, FOLDED, BARE_LINE_FEEDS, EIGHT_BIT, QUOTED_PRINTABLE, MARKUP]
        {
            for bytes in (FILL_BYTES_MIN..400).chain([10_000]) {
                let mut out = b"before".to_vec();

                fill(&mut out, bytes, style, &mut rng);

                assert_eq!(out.len(), "before".len() + bytes);
                assert!(out.ends_with(style.end.as_bytes()));
                let longest = out[6..].split(|byte| *byte == b'\n').map(<[u8]>::len).max();
                assert!(longest <= Some(LINE_BYTES + FILL_BYTES_MIN), "{style:?} {bytes}");
            }
        }
    }
}
