//! How each message looks: its size, its headers, its parts.
//!
//! The size is drawn first, and text is then filled in until the message has it. So the size is known
//! without the message.

use chrono::{DateTime, Utc};

use super::filler_text::{self, FILL_BYTES_MIN, FillerStyle, fill, non_ascii_phrase, phrase, pick};
use super::message::{LINE_BYTES, RawMessage};
use super::{MessageNumber, ThreadNumber};
use crate::demo::base64;
use crate::demo::rng::{RngStream, random_below, random_u64, seeded_rng};

/// One message of so many is large: one per 2,000 threads.
const LARGE_MESSAGE_EVERY: u32 = 3_200;
const LARGE_BYTES: usize = 12 * 1024 * 1024;
/// One message of so many has an attachment of middling size.
const MEDIUM_MESSAGE_EVERY: u32 = 200;
const MEDIUM_BYTES_MIN: usize = 100 * 1024;
const MEDIUM_BYTES_SPREAD: u32 = 300 * 1024;
/// Headers and the ends of parts fit into this, whatever is drawn.
const USUAL_BYTES_MIN: usize = 2_048;
const MINIMAL_BYTES_MIN: usize = 160;
const MINIMAL_BYTES_SPREAD: u32 = 700;
/// Text before an attachment, at least.
const TEXT_BYTES_MIN: usize = 240;
/// Ancestors named in References; RFC 5322 §3.6.4 sets no limit, but ours keeps the size known.
const REFERENCES_MAX: usize = 8;

const BOUNDARY: &str = "=_part_7f3a";

const SENDERS: &[&str] = &[
    "Build Status <build@example.com>",
    "\"Orders, Returns\" <orders@shop.example.net>",
    "garden-club@lists.example.org",
    "Harbour Office <office@harbour.example>",
    "<timetable@rail.example>",
    "=?UTF-8?Q?B=C3=BCrgerb=C3=BCro?= <buero@stadt.example>",
];

/// What a message is made from.
#[derive(Debug)]
pub(super) struct MessageSpec {
    pub(super) seed: u64,
    pub(super) message: MessageNumber,
    pub(super) thread: ThreadNumber,
    /// Unix second.
    pub(super) received_at: i64,
    /// The earlier messages of the thread, oldest first.
    pub(super) ancestors: Vec<MessageNumber>,
}

#[derive(Clone, Copy, Debug)]
enum MessageKind {
    Plain,
    Alternative,
    Attachment,
    EightBit,
    QuotedPrintable,
    OddHeaders,
    /// Hardly a header.
    MinimalHeaders,
    /// All header: the body is empty.
    EmptyBody,
}

/// A message that is being filled up to its size.
struct MessageBuilder {
    size: usize,
    head: Vec<u8>,
    tail: Vec<u8>,
    rng: fastrand::Rng,
}

/// Returns the octets of the message.
pub(super) fn size(seed: u64, message: MessageNumber) -> usize {
    let number = u64::from(message.0);
    if is_large(seed, message) {
        return LARGE_BYTES;
    }
    if is_medium(seed, message) {
        let more = random_below(seed, RngStream::Size, number, MEDIUM_BYTES_SPREAD);
        return MEDIUM_BYTES_MIN + more as usize;
    }
    match message_kind(seed, message) {
        MessageKind::MinimalHeaders | MessageKind::EmptyBody => {
            MINIMAL_BYTES_MIN
                + random_below(seed, RngStream::Size, number, MINIMAL_BYTES_SPREAD) as usize
        }
        MessageKind::Plain
        | MessageKind::Alternative
        | MessageKind::Attachment
        | MessageKind::EightBit
        | MessageKind::QuotedPrintable
        | MessageKind::OddHeaders => {
            // The cube makes small ones common: 2 KiB to 12 KiB, 4.5 KiB in the mean.
            let draw = random_below(seed, RngStream::Size, number, 1 << 10) as usize;
            USUAL_BYTES_MIN + 10 * draw * draw * draw / (1 << 20)
        }
    }
}

/// Writes the message; of a large attachment, only its beginning is made yet.
pub(super) fn compose(outline: &MessageSpec) -> RawMessage {
    let size = size(outline.seed, outline.message);
    let mut draft = MessageBuilder {
        size,
        head: Vec::with_capacity(size.min(USUAL_BYTES_MIN * 6)),
        tail: Vec::new(),
        rng: seeded_rng(outline.seed, RngStream::Text, u64::from(outline.message.0)),
    };
    let mut lines = 0;
    match message_kind(outline.seed, outline.message) {
        MessageKind::Plain => plain(&mut draft, outline),
        MessageKind::Alternative => alternative(&mut draft, outline),
        MessageKind::Attachment => lines = attachment(&mut draft, outline),
        MessageKind::EightBit => eight_bit(&mut draft, outline),
        MessageKind::QuotedPrintable => quoted_printable(&mut draft, outline),
        MessageKind::OddHeaders => odd_headers(&mut draft, outline),
        MessageKind::MinimalHeaders => {
            draft.push("From: cron@example.com\r\n\r\n");
            draft.fill_rest(filler_text::TEXT);
        }
        MessageKind::EmptyBody => {
            draft.push("Date: Thu, 1 Jan 1970 00:00:00 +0000\r\nX-Note: all of this is header\r\n");
            draft.tail.extend_from_slice(b"\r\n");
            draft.fill_rest(filler_text::FOLDED);
        }
    }
    RawMessage { head: draft.head, lines, letter_rng: draft.rng, tail: draft.tail }
}

fn plain(draft: &mut MessageBuilder, outline: &MessageSpec) {
    draft.headers(outline);
    draft.push("Content-Type: text/plain; charset=us-ascii; format=flowed\r\n\r\n");
    if !outline.ancestors.is_empty() {
        draft.push("On the day before, it was written:\r\n");
        draft.fill(draft.remaining() / 3, filler_text::QUOTED);
        draft.push("\r\n");
    }
    draft.fill_rest(filler_text::TEXT);
}

fn alternative(draft: &mut MessageBuilder, outline: &MessageSpec) {
    draft.headers(outline);
    draft.multipart("alternative");
    draft.push("Content-Type: text/plain; charset=utf-8\r\n\r\n");
    draft.fill(draft.remaining() / 3, filler_text::TEXT);
    draft.push(&format!(
        "\r\n--{BOUNDARY}\r\nContent-Type: text/html; charset=\"utf-8\"\r\n\
         Content-Transfer-Encoding: quoted-printable\r\n\r\n<!DOCTYPE html><html><body>\r\n"
    ));
    draft.tail.extend_from_slice(b"</body></html>\r\n");
    draft.end_parts();
    draft.fill_rest(filler_text::MARKUP);
}

/// Returns how many lines the attachment has.
fn attachment(draft: &mut MessageBuilder, outline: &MessageSpec) -> usize {
    let header = format!(
        "\r\n--{BOUNDARY}\r\nContent-Type: application/octet-stream; name=\"table.bin\"\r\n\
         Content-Disposition: attachment; filename*=UTF-8''%E2%82%AC%20table.bin\r\n\
         Content-Transfer-Encoding: base64\r\n\r\n"
    );
    draft.headers(outline);
    draft.multipart("mixed");
    draft.push("Content-Type: text/plain; charset=us-ascii\r\n\r\n");
    draft.end_parts();
    let left = draft.remaining() - header.len();
    let lines = left.saturating_sub(TEXT_BYTES_MIN) / LINE_BYTES;
    draft.fill(left - lines * LINE_BYTES, filler_text::TEXT);
    draft.push(&header);
    lines
}

fn eight_bit(draft: &mut MessageBuilder, outline: &MessageSpec) {
    draft.headers(outline);
    let note = non_ascii_phrase(4, &mut draft.rng);
    draft.push(&format!("Comments: {note}\r\n"));
    draft.head.extend_from_slice(b"X-Latin: Stra\xdfe, \xe9t\xe9\r\n");
    draft
        .push("Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n");
    draft.fill_rest(filler_text::EIGHT_BIT);
}

fn quoted_printable(draft: &mut MessageBuilder, outline: &MessageSpec) {
    draft.headers(outline);
    let keywords = base64::encode(non_ascii_phrase(3, &mut draft.rng).as_bytes());
    draft.push(&format!(
        "Keywords: =?utf-8?B?{keywords}?=\r\n =?iso-8859-1?q?caf=E9_au_lait?=\r\n\
         Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
    ));
    draft.tail.extend_from_slice(b"end\r\n");
    draft.fill_rest(filler_text::PRINTABLE);
}

/// Legal or not, all of this is met in old mailboxes.
fn odd_headers(draft: &mut MessageBuilder, outline: &MessageSpec) {
    draft.push("X-Loop:one\r\nX-LOOP:  two  \r\nX-Empty:\r\nX-Blank: \r\nX-Trace:\r\n");
    draft.fill(300, filler_text::FOLDED);
    draft.headers(outline);
    draft.push(
        "subject: a second one\r\nDate : (a comment) 1 Jan 99 0:00 GMT\r\nnot a header\r\n\r\n",
    );
    draft.tail.extend_from_slice(b"the last line has no end");
    draft.fill_rest(filler_text::BARE_LINE_FEEDS);
}

impl MessageBuilder {
    fn push(&mut self, text: &str) {
        self.head.extend_from_slice(text.as_bytes());
    }

    fn fill(&mut self, bytes: usize, style: FillerStyle) {
        fill(&mut self.head, bytes.max(FILL_BYTES_MIN), style, &mut self.rng);
    }

    fn fill_rest(&mut self, style: FillerStyle) {
        self.fill(self.remaining(), style);
    }

    fn remaining(&self) -> usize {
        self.size - self.head.len() - self.tail.len()
    }

    /// Writes what nearly every message carries, its place in the thread included.
    fn headers(&mut self, outline: &MessageSpec) {
        let seed = outline.seed;
        let date = DateTime::<Utc>::from_timestamp(outline.received_at, 0).unwrap_or_default();
        let date = date.format("%a, %d %b %Y %H:%M:%S +0000");
        let sender = pick(SENDERS, &mut self.rng);
        let hop = self.rng.u32(..);
        self.push(&format!(
            "Return-Path: <bounce@example.net>\r\n\
             Received: from mx{}.example.net (mx.example.net [192.0.2.17])\r\n\
             \tby mail.example.com (Postfix) with ESMTPS id {hop:08X}\r\n\
             \tfor <demo@example.com>; {date}\r\n\
             Date: {date}\r\nFrom: {sender}\r\nTo: demo@example.com\r\nMessage-ID: {}\r\n",
            hop % 5,
            message_id(seed, outline.message),
        ));
        self.references(outline);
        let mut subject = seeded_rng(seed, RngStream::Subject, u64::from(outline.thread.0));
        let answer = if outline.ancestors.is_empty() { "" } else { "Re: " };
        if subject.u8(..8) == 0 {
            let words = non_ascii_phrase(3, &mut subject);
            let words = base64::encode(words.as_bytes());
            self.push(&format!("Subject: {answer}=?UTF-8?B?{words}?=\r\n"));
        } else {
            self.push(&format!("Subject: {answer}{}\r\n", phrase(5, &mut subject)));
        }
        self.push("MIME-Version: 1.0\r\n");
    }

    fn references(&mut self, outline: &MessageSpec) {
        let Some(parent) = outline.ancestors.last() else { return };
        let parent = message_id(outline.seed, *parent);
        self.push(&format!("In-Reply-To: {parent}\r\nReferences:"));
        let skipped = outline.ancestors.len().saturating_sub(REFERENCES_MAX);
        for ancestor in &outline.ancestors[skipped..] {
            self.push(&format!("\r\n {}", message_id(outline.seed, *ancestor)));
        }
        self.push("\r\n");
    }

    fn multipart(&mut self, kind: &str) {
        self.push(&format!(
            "Content-Type: multipart/{kind};\r\n\tboundary=\"{BOUNDARY}\"\r\n\r\n\
             This is a message in parts.\r\n--{BOUNDARY}\r\n"
        ));
    }

    fn end_parts(&mut self) {
        self.tail.extend_from_slice(format!("\r\n--{BOUNDARY}--\r\n").as_bytes());
    }
}

fn message_id(seed: u64, message: MessageNumber) -> String {
    let random = random_u64(seed, RngStream::MessageId, u64::from(message.0));
    format!("<{random:016x}.{}@example.com>", message.0)
}

fn message_kind(seed: u64, message: MessageNumber) -> MessageKind {
    if is_large(seed, message) || is_medium(seed, message) {
        return MessageKind::Attachment;
    }
    match random_below(seed, RngStream::Shape, u64::from(message.0), 100) {
        0..36 => MessageKind::Plain,
        36..66 => MessageKind::Alternative,
        66..75 => MessageKind::Attachment,
        75..83 => MessageKind::EightBit,
        83..91 => MessageKind::QuotedPrintable,
        91..97 => MessageKind::OddHeaders,
        97..99 => MessageKind::MinimalHeaders,
        _ => MessageKind::EmptyBody,
    }
}

fn is_large(seed: u64, message: MessageNumber) -> bool {
    message.0 % LARGE_MESSAGE_EVERY == random_below(seed, RngStream::Large, 0, LARGE_MESSAGE_EVERY)
}

fn is_medium(seed: u64, message: MessageNumber) -> bool {
    message.0 % MEDIUM_MESSAGE_EVERY
        == random_below(seed, RngStream::Large, 1, MEDIUM_MESSAGE_EVERY)
}
