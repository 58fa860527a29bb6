//! Composition of a message: its size, its headers, its parts.
//!
//! The size is chosen first, and text is then added until the message has that size. So the size is
//! known without generating the message.

use chrono::{DateTime, Utc};

use super::filler_text::{self, FILL_BYTES_MIN, FillerStyle, fill, non_ascii_phrase, phrase, pick};
use super::message::{LINE_BYTES, RawMessage};
use super::number::{MessageNumber, ThreadNumber};
use crate::demo::base64;
use crate::demo::rng::{RngStream, random_below, random_u64, seeded_rng};

/// One message of this many is large, which is one per 2,000 threads.
const LARGE_MESSAGE_EVERY: u32 = 3_200;
const LARGE_BYTES: usize = 12 * 1024 * 1024;
/// One message of this many has an attachment of medium size.
const MEDIUM_MESSAGE_EVERY: u32 = 200;
const MEDIUM_BYTES_MIN: usize = 100 * 1024;
const MEDIUM_BYTES_SPREAD: u32 = 300 * 1024;
/// Minimum size of an ordinary message. Any headers and part delimiters fit into it.
const USUAL_BYTES_MIN: usize = 2_048;
const MINIMAL_BYTES_MIN: usize = 160;
const MINIMAL_BYTES_SPREAD: u32 = 700;
/// Minimum length of the text before an attachment.
const TEXT_BYTES_MIN: usize = 240;
/// Maximum number of ancestors named in References. RFC 5322 §3.6.4 sets no limit; this one ensures
/// that the headers fit into the size.
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

/// Inputs from which a message is composed.
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
    /// Almost no headers.
    MinimalHeaders,
    /// Only headers; the body is empty.
    EmptyBody,
}

/// Message under construction, which is filled up to its size.
struct MessageBuilder {
    size: usize,
    head: Vec<u8>,
    tail: Vec<u8>,
    rng: fastrand::Rng,
}

/// Returns the size of the message in octets.
pub(super) fn size(seed: u64, message: MessageNumber) -> usize {
    let number = u64::from(message.0);
    if is_large(seed, message) {
        return LARGE_BYTES;
    }
    if is_medium(seed, message) {
        let extra = random_below(seed, RngStream::Size, number, MEDIUM_BYTES_SPREAD);
        return MEDIUM_BYTES_MIN + extra as usize;
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
            // The cube makes small messages common: 2 KiB to 12 KiB, 4.5 KiB on average.
            let sample = random_below(seed, RngStream::Size, number, 1 << 10) as usize;
            USUAL_BYTES_MIN + 10 * sample * sample * sample / (1 << 20)
        }
    }
}

/// Composes the message. The lines of an attachment are generated later, when they are read.
pub(super) fn compose(spec: &MessageSpec) -> RawMessage {
    let size = size(spec.seed, spec.message);
    let mut builder = MessageBuilder {
        size,
        head: Vec::with_capacity(size.min(USUAL_BYTES_MIN * 6)),
        tail: Vec::new(),
        rng: seeded_rng(spec.seed, RngStream::Text, u64::from(spec.message.0)),
    };
    let mut lines = 0;
    match message_kind(spec.seed, spec.message) {
        MessageKind::Plain => write_plain(&mut builder, spec),
        MessageKind::Alternative => write_alternative(&mut builder, spec),
        MessageKind::Attachment => lines = write_attachment(&mut builder, spec),
        MessageKind::EightBit => write_eight_bit(&mut builder, spec),
        MessageKind::QuotedPrintable => write_quoted_printable(&mut builder, spec),
        MessageKind::OddHeaders => write_odd_headers(&mut builder, spec),
        MessageKind::MinimalHeaders => {
            builder.push("From: cron@example.com\r\n\r\n");
            builder.fill_rest(filler_text::TEXT);
        }
        MessageKind::EmptyBody => {
            builder
                .push("Date: Thu, 1 Jan 1970 00:00:00 +0000\r\nX-Note: all of this is header\r\n");
            builder.tail.extend_from_slice(b"\r\n");
            builder.fill_rest(filler_text::FOLDED);
        }
    }
    RawMessage { head: builder.head, lines, attachment_rng: builder.rng, tail: builder.tail }
}

fn write_plain(builder: &mut MessageBuilder, spec: &MessageSpec) {
    builder.write_headers(spec);
    builder.push("Content-Type: text/plain; charset=us-ascii; format=flowed\r\n\r\n");
    if !spec.ancestors.is_empty() {
        builder.push("On the day before, it was written:\r\n");
        builder.fill(builder.remaining() / 3, filler_text::QUOTED_REPLY);
        builder.push("\r\n");
    }
    builder.fill_rest(filler_text::TEXT);
}

fn write_alternative(builder: &mut MessageBuilder, spec: &MessageSpec) {
    builder.write_headers(spec);
    builder.begin_parts("alternative");
    builder.push("Content-Type: text/plain; charset=utf-8\r\n\r\n");
    builder.fill(builder.remaining() / 3, filler_text::TEXT);
    builder.push(&format!(
        "\r\n--{BOUNDARY}\r\nContent-Type: text/html; charset=\"utf-8\"\r\n\
         Content-Transfer-Encoding: quoted-printable\r\n\r\n<!DOCTYPE html><html><body>\r\n"
    ));
    builder.tail.extend_from_slice(b"</body></html>\r\n");
    builder.end_parts();
    builder.fill_rest(filler_text::MARKUP);
}

/// Writes a message with an attachment, and returns the number of lines of the attachment.
fn write_attachment(builder: &mut MessageBuilder, spec: &MessageSpec) -> usize {
    let header = format!(
        "\r\n--{BOUNDARY}\r\nContent-Type: application/octet-stream; name=\"table.bin\"\r\n\
         Content-Disposition: attachment; filename*=UTF-8''%E2%82%AC%20table.bin\r\n\
         Content-Transfer-Encoding: base64\r\n\r\n"
    );
    builder.write_headers(spec);
    builder.begin_parts("mixed");
    builder.push("Content-Type: text/plain; charset=us-ascii\r\n\r\n");
    builder.end_parts();
    let remaining = builder.remaining() - header.len();
    let lines = remaining.saturating_sub(TEXT_BYTES_MIN) / LINE_BYTES;
    builder.fill(remaining - lines * LINE_BYTES, filler_text::TEXT);
    builder.push(&header);
    lines
}

fn write_eight_bit(builder: &mut MessageBuilder, spec: &MessageSpec) {
    builder.write_headers(spec);
    let note = non_ascii_phrase(4, &mut builder.rng);
    builder.push(&format!("Comments: {note}\r\n"));
    builder.head.extend_from_slice(b"X-Latin: Stra\xdfe, \xe9t\xe9\r\n");
    builder
        .push("Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n");
    builder.fill_rest(filler_text::EIGHT_BIT);
}

fn write_quoted_printable(builder: &mut MessageBuilder, spec: &MessageSpec) {
    builder.write_headers(spec);
    let keywords = base64::encode(non_ascii_phrase(3, &mut builder.rng).as_bytes());
    builder.push(&format!(
        "Keywords: =?utf-8?B?{keywords}?=\r\n =?iso-8859-1?q?caf=E9_au_lait?=\r\n\
         Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
    ));
    builder.tail.extend_from_slice(b"end\r\n");
    builder.fill_rest(filler_text::QUOTED_PRINTABLE);
}

/// Writes unusual headers, valid or not, as they occur in old mailboxes.
fn write_odd_headers(builder: &mut MessageBuilder, spec: &MessageSpec) {
    builder.push("X-Loop:one\r\nX-LOOP:  two  \r\nX-Empty:\r\nX-Blank: \r\nX-Trace:\r\n");
    builder.fill(300, filler_text::FOLDED);
    builder.write_headers(spec);
    builder.push(
        "subject: a second one\r\nDate : (a comment) 1 Jan 99 0:00 GMT\r\nnot a header\r\n\r\n",
    );
    builder.tail.extend_from_slice(b"the last line has no end");
    builder.fill_rest(filler_text::BARE_LINE_FEEDS);
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

    /// Writes the headers that nearly every message has, those that link it to its thread included.
    fn write_headers(&mut self, spec: &MessageSpec) {
        let seed = spec.seed;
        let date = DateTime::<Utc>::from_timestamp(spec.received_at, 0).unwrap_or_default();
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
            message_id(seed, spec.message),
        ));
        self.write_references(spec);
        let mut subject_rng = seeded_rng(seed, RngStream::Subject, u64::from(spec.thread.0));
        let prefix = if spec.ancestors.is_empty() { "" } else { "Re: " };
        if subject_rng.u8(..8) == 0 {
            let words = non_ascii_phrase(3, &mut subject_rng);
            let words = base64::encode(words.as_bytes());
            self.push(&format!("Subject: {prefix}=?UTF-8?B?{words}?=\r\n"));
        } else {
            self.push(&format!("Subject: {prefix}{}\r\n", phrase(5, &mut subject_rng)));
        }
        self.push("MIME-Version: 1.0\r\n");
    }

    fn write_references(&mut self, spec: &MessageSpec) {
        let Some(parent) = spec.ancestors.last() else { return };
        let parent = message_id(spec.seed, *parent);
        self.push(&format!("In-Reply-To: {parent}\r\nReferences:"));
        let skipped = spec.ancestors.len().saturating_sub(REFERENCES_MAX);
        for ancestor in &spec.ancestors[skipped..] {
            self.push(&format!("\r\n {}", message_id(spec.seed, *ancestor)));
        }
        self.push("\r\n");
    }

    fn begin_parts(&mut self, kind: &str) {
        self.push(&format!(
            "Content-Type: multipart/{kind};\r\n\tboundary=\"{BOUNDARY}\"\r\n\r\n\
             This is a message in parts.\r\n--{BOUNDARY}\r\n"
        ));
    }

    fn end_parts(&mut self) {
        self.tail.extend_from_slice(format!("\r\n--{BOUNDARY}--\r\n").as_bytes());
    }
}

pub(super) fn message_id(seed: u64, message: MessageNumber) -> String {
    let random = random_u64(seed, RngStream::MessageId, u64::from(message.0));
    format!("<{random:016x}.{}@example.com>", message.0)
}

fn message_kind(seed: u64, message: MessageNumber) -> MessageKind {
    if is_large(seed, message) || is_medium(seed, message) {
        return MessageKind::Attachment;
    }
    match random_below(seed, RngStream::MessageKind, u64::from(message.0), 100) {
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
