//! Tests of the reader with what servers send, and should not send.

mod proptests;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use cynosure_engine::{Failure, ImapReply};
use futures_util::FutureExt as _;
use tokio::io::{AsyncRead, AsyncWriteExt as _, ReadBuf, duplex};
use tokio::time::sleep;

use crate::source::imap::wire::value::WireValue;
use crate::source::imap::wire::{BodySink, NoBodies, Response, WireError, WireReader};

const MINUTE: Duration = Duration::from_secs(60);

/// Body as the sink received it.
#[derive(Clone, Debug, Eq, PartialEq)]
struct WireBody {
    values_before: Vec<WireValue>,
    length: u64,
    bytes: Vec<u8>,
    is_ended: bool,
}

/// Sink that keeps all bodies.
#[derive(Debug, Default)]
struct WireBodies {
    bodies: Vec<WireBody>,
    longest_chunk: usize,
}

impl BodySink for WireBodies {
    async fn begin(&mut self, values: &[WireValue], length: u64) -> Result<(), Failure> {
        assert!(self.bodies.last().is_none_or(|body| body.is_ended), "bodies do not overlap");
        let values_before = values.to_vec();
        self.bodies.push(WireBody { values_before, length, bytes: Vec::new(), is_ended: false });
        Ok(())
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.longest_chunk = self.longest_chunk.max(bytes.len());
        let body = self.bodies.last_mut().expect("a body was begun");
        assert!(!body.is_ended && !bytes.is_empty());
        body.bytes.extend_from_slice(bytes);
        Ok(())
    }

    async fn end(&mut self) -> Result<(), Failure> {
        let body = self.bodies.last_mut().expect("a body was begun");
        assert!(!body.is_ended);
        assert_eq!(u64::try_from(body.bytes.len()), Ok(body.length));
        body.is_ended = true;
        Ok(())
    }
}

/// Stream whose reads return at most `chunk_bytes`.
struct ByteChunks {
    bytes: Vec<u8>,
    position: usize,
    chunk_bytes: usize,
}

impl AsyncRead for ByteChunks {
    fn poll_read(
        self: Pin<&mut Self>,
        _context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let rest = &this.bytes[this.position..];
        let length = rest.len().min(this.chunk_bytes).min(buffer.remaining());
        buffer.put_slice(&rest[..length]);
        this.position += length;
        Poll::Ready(Ok(()))
    }
}

/// All that is read from a stream.
#[derive(Debug)]
struct WireTranscript {
    responses: Vec<Response>,
    error: WireError,
    bodies: Vec<WireBody>,
    longest_chunk: usize,
}

fn read_chunks(bytes: &[u8], chunk_bytes: usize) -> WireTranscript {
    let stream = ByteChunks { bytes: bytes.to_vec(), position: 0, chunk_bytes };
    let mut reader = WireReader::new(stream);
    let mut sink = WireBodies::default();
    let mut responses = Vec::new();
    loop {
        let result = reader.read_response(&mut sink).now_or_never();
        match result.expect("a stream that is always ready needs no wait") {
            Ok(response) => responses.push(response),
            Err(error) => {
                let WireBodies { bodies, longest_chunk } = sink;
                return WireTranscript { responses, error, bodies, longest_chunk };
            }
        }
    }
}

fn read_all(text: &str) -> WireTranscript {
    read_chunks(text.as_bytes(), usize::MAX)
}

/// Returns the values of a `FETCH` list, and the bodies.
fn read_fetch(list: &str) -> (Vec<WireValue>, Vec<WireBody>) {
    let transcript = read_all(&format!("* 1 FETCH {list}\r\n"));
    assert!(matches!(transcript.error, WireError::Closed), "{transcript:?}");
    let Some(Response::Data { number: Some(1), name, values }) = transcript.responses.first()
    else {
        panic!("{transcript:?}");
    };
    assert_eq!(name, "FETCH");
    let [WireValue::List(values)] = values.as_slice() else { panic!("{values:?}") };
    (values.clone(), transcript.bodies)
}

fn atom(text: &str) -> WireValue {
    WireValue::Atom(text.to_owned())
}

fn text(text: &str) -> WireValue {
    WireValue::Text(text.as_bytes().to_vec())
}

fn list<const N: usize>(values: [WireValue; N]) -> WireValue {
    WireValue::List(Vec::from(values))
}

fn data<const N: usize>(number: Option<u32>, name: &str, values: [WireValue; N]) -> Response {
    Response::Data { number, name: name.to_owned(), values: Vec::from(values) }
}

fn reply(text: &str) -> ImapReply {
    ImapReply::parse(text).expect("the text is a reply")
}

#[test]
fn responses_are_told_apart() {
    let transcript = read_all(
        "* OK [ALERT] Look\r\n* BYE\r\n+ go on\r\n+\r\nA12 NO [THROTTLED] later\r\n\
         * 3 exists\r\n* LIST (\\HasNoChildren) \"/\" INBOX\r\n* OKAY\r\n",
    );

    let expected = [
        Response::Status(reply("OK [ALERT] Look")),
        Response::Status(reply("BYE")),
        Response::Continuation("go on".to_owned()),
        Response::Continuation(String::new()),
        Response::Tagged { tag: "A12".to_owned(), reply: reply("NO [THROTTLED] later") },
        data(Some(3), "EXISTS", []),
        data(None, "LIST", [list([atom("\\HasNoChildren")]), text("/"), atom("INBOX")]),
        data(None, "OKAY", []),
    ];
    assert_eq!(transcript.responses, expected);
    assert!(matches!(transcript.error, WireError::Closed), "{transcript:?}");
}

#[test]
fn a_line_that_is_no_response_is_a_refusal() {
    for line in ["Server Unavailable. 15", "HTTP/1.1 400 Bad Request", "+OK POP3", "A1B OK", "*"] {
        let transcript = read_all(&format!("{line}\r\n"));
        let expected = Response::Status(reply(&format!("NO {line}")));
        assert_eq!(transcript.responses, [expected]);
    }
}

#[test]
fn lines_may_end_without_a_carriage_return() {
    let transcript = read_all("\r\n\n* 1 EXISTS\n* LIST () \"/\" {2}\nab\n");

    let expected =
        [data(Some(1), "EXISTS", []), data(None, "LIST", [list([]), text("/"), text("ab")])];
    assert_eq!(transcript.responses, expected);
}

#[test]
fn lists_left_open_are_closed() {
    let transcript = read_all("* STATUS a (MESSAGES 1\r\n* STATUS b MESSAGES 1))\r\n");

    let expected = [
        data(None, "STATUS", [atom("a"), list([atom("MESSAGES"), atom("1")])]),
        data(None, "STATUS", [atom("b"), atom("MESSAGES"), atom("1")]),
    ];
    assert_eq!(transcript.responses, expected);
}

#[test]
fn unknown_attributes_are_kept() {
    let (values, bodies) = read_fetch(
        "(UID 5 RFC822.SIZE 9.3736e+06 X-NEW (\"a\\\"b\" NIL {3}\r\n(c) d) \
         BODY[HEADER.FIELDS (A B)] NIL FLAGS (\\Seen $x[1))",
    );

    let unknown = list([text("a\"b"), WireValue::Nil, text("(c)"), atom("d")]);
    let expected = [
        [atom("UID"), atom("5")],
        [atom("RFC822.SIZE"), atom("9.3736e+06")],
        [atom("X-NEW"), unknown],
        [atom("BODY[HEADER.FIELDS (A B)]"), WireValue::Nil],
        [atom("FLAGS"), list([atom("\\Seen"), atom("$x[1")])],
    ];
    assert_eq!(values, expected.concat());
    assert!(bodies.is_empty(), "{bodies:?}");
}

#[test]
fn a_delimiter_may_be_an_unescaped_backslash() {
    for (wire, delimiter, name) in [
        (r#""\" INBOX"#, r"\", atom("INBOX")),
        (r#""\" "a b""#, r"\", text("a b")),
        (r#""\" "\" c""#, r"\", text("\" c")),
        ("\"\\\" {3}\r\na\\b", r"\", text(r"a\b")),
        // The proper forms.
        (r#""\\" "a\\b""#, r"\", text(r"a\b")),
        (r#""\"" "a\"""#, "\"", text("a\"")),
        (r#""/" "\" b""#, "/", text("\" b")),
        // Longer than a delimiter can be.
        (r#""\"b" c"#, "\"b", atom("c")),
    ] {
        let transcript = read_all(&format!("* LIST (\\Marked) {wire}\r\n"));

        let values = [list([atom("\\Marked")]), text(delimiter), name];
        assert_eq!(transcript.responses, [data(None, "LIST", values)], "{wire}");
    }
}

#[test]
fn other_strings_may_begin_with_an_escaped_quote_and_a_space() {
    for wire in [r#"* STATUS (a) "\" b""#, r#"* LIST "\" b""#, r#"* LIST ("\" b")"#] {
        let transcript = read_all(&format!("{wire}\r\n"));

        let responses = format!("{:?}", transcript.responses);
        assert!(responses.contains(&format!("{:?}", text("\" b"))), "{wire}: {responses}");
    }
}

#[test]
fn bodies_go_to_the_sink() {
    for (form, bytes) in [
        ("{4}\r\na\r\nb", "a\r\nb"),
        ("~{3}\r\n)\0(", ")\0("),
        ("{1+}\r\n\"", "\""),
        ("{0}\r\n", ""),
        ("\"q\\\"uoted\"", "q\"uoted"),
        ("\"\"", ""),
    ] {
        let (values, bodies) = read_fetch(&format!("(UID 7 BODY[] {form} FLAGS ())"));

        let length = u64::try_from(bytes.len()).unwrap();
        let before = [atom("UID"), atom("7"), atom("BODY[]")];
        let after = [WireValue::Streamed(length), atom("FLAGS"), list([])];
        assert_eq!(values, [before.as_slice(), after.as_slice()].concat());
        let body = WireBody {
            values_before: before.to_vec(),
            length,
            bytes: bytes.as_bytes().to_vec(),
            is_ended: true,
        };
        assert_eq!(bodies, [body]);
    }
}

#[test]
fn the_uid_may_follow_the_body() {
    let (values, bodies) = read_fetch("(body[]<0>{1}\r\nx UID 7)");

    assert_eq!(values, [atom("body[]<0>"), WireValue::Streamed(1), atom("UID"), atom("7")]);
    assert_eq!(bodies[0].values_before, [atom("body[]<0>")]);
}

#[test]
fn an_absent_body_is_no_body() {
    let (values, bodies) = read_fetch("(UID 7 BODY[] NIL)");

    assert_eq!(values, [atom("UID"), atom("7"), atom("BODY[]"), WireValue::Nil]);
    assert!(bodies.is_empty(), "{bodies:?}");
}

#[test]
fn a_body_of_wrong_length_is_not_ended() {
    for wire in [
        "* 1 FETCH (BODY[] {2}\r\nabc)\r\n",
        "* 1 FETCH (BODY[] {1}\r\na b\r\nc)\r\n",
        "* 1 FETCH (BODY[] {1}\r\na) b)\r\n",
        "* 1 FETCH (BODY[] {4}\r\na)\r\n* 2 EXISTS\r\n",
    ] {
        let transcript = read_all(wire);
        assert!(matches!(transcript.error, WireError::Protocol(_)), "{transcript:?}");
        assert!(!transcript.bodies[0].is_ended, "{wire}");
        assert!(transcript.responses.is_empty(), "{wire}");
    }
}

#[test]
fn a_body_that_is_cut_is_not_ended() {
    for wire in ["* 1 FETCH (BODY[] {9}\r\nabc", "* 1 FETCH (BODY[] {3}\r\nabc"] {
        let transcript = read_all(wire);
        assert!(matches!(transcript.error, WireError::ClosedInside), "{transcript:?}");
        assert_eq!(transcript.bodies[0].bytes, b"abc");
        assert!(!transcript.bodies[0].is_ended);
    }
}

#[test]
fn a_long_body_comes_in_chunks() {
    let body = "0123456789abcdef".repeat(128 * 1024);

    let (_values, bodies) = read_fetch(&format!("(BODY[] {{{}}}\r\n{body})", body.len()));

    assert!(bodies[0].bytes == body.as_bytes());
    let wire = format!("* 1 FETCH (BODY[] {{{}}}\r\n{body})\r\n", body.len());
    assert_eq!(read_all(&wire).longest_chunk, 64 * 1024);
}

#[test]
fn memory_is_limited() {
    let long = "a".repeat(1024 * 1024 + 1);
    for wire in [
        long.clone(),
        "\r\n".repeat(1024 * 1024),
        format!("* LIST () \"/\" {long}\r\n"),
        format!("* LIST () \"/\" {{1048576}}\r\n{long}\r\n"),
        "* LIST () \"/\" {99999999999999999999}\r\n".to_owned(),
        "* 1 FETCH (UID 2 BODY[] {4294967296}\r\n".to_owned(),
    ] {
        let start: String = wire.chars().take(40).collect();
        let transcript = read_all(&wire);
        assert!(matches!(transcript.error, WireError::TooLarge(_)), "{start}");
        assert!(transcript.responses.is_empty() && transcript.bodies.is_empty(), "{start}");
    }
}

#[test]
fn violations_of_the_protocol_are_errors() {
    for wire in [
        format!("* X {}\r\n", "(".repeat(33)),
        format!("* X {}\r\n", "a ".repeat(65_537)),
        "* LIST () \"/ INBOX\r\n".to_owned(),
        "* 1 FETCH (UID 2 BODY[] \"a\r\nb\")\r\n".to_owned(),
        "* 1 FETCH (UID 2 BODY[] {x}\r\na)\r\n".to_owned(),
        "A1\r\n".to_owned(),
        "A1 FINE\r\n".to_owned(),
        "* \r\n".to_owned(),
        "* 5\r\n".to_owned(),
    ] {
        let start: String = wire.chars().take(40).collect();
        let transcript = read_all(&wire);
        assert!(matches!(transcript.error, WireError::Protocol(_)), "{start}");
        assert!(transcript.responses.is_empty(), "{start}");
    }
}

#[tokio::test]
async fn a_body_that_nobody_asked_for_is_an_error() {
    let mut reader = WireReader::new(&b"* 1 FETCH (BODY[] {1}\r\na)\r\n"[..]);

    let error = reader.read_response(&mut NoBodies).await.unwrap_err();

    assert!(matches!(error, WireError::Sink(_)), "{error:?}");
}

#[tokio::test]
async fn unread_bytes_are_dropped_with_the_reader() {
    let (mut server, client) = duplex(1024);
    let mut reader = WireReader::new(client);
    server.write_all(b"A1 OK begin TLS\r\n* OK injected\r\n").await.unwrap();
    let reply = reader.read_response(&mut NoBodies).await.unwrap();
    assert!(matches!(reply, Response::Tagged { .. }), "{reply:?}");

    let mut reader = WireReader::new(reader.into_inner());
    server.write_all(b"* 1 EXISTS\r\n").await.unwrap();

    let response = reader.read_response(&mut NoBodies).await.unwrap();
    assert_eq!(response, data(Some(1), "EXISTS", []));
}

#[tokio::test(start_paused = true)]
async fn a_silent_server_is_detected() {
    let (mut server, client) = duplex(1024);
    let mut reader = WireReader::new(client);
    reader.set_idle_timeout(Some(MINUTE));
    server.write_all(b"* 1 EX").await.unwrap();

    let error = reader.read_response(&mut NoBodies).await.unwrap_err();

    assert_eq!(error.to_string(), "no data for 1 min");
}

/// Sink whose disk is slow.
struct SlowBodies;

impl BodySink for SlowBodies {
    async fn begin(&mut self, _values: &[WireValue], _length: u64) -> Result<(), Failure> {
        sleep(2 * MINUTE).await;
        Ok(())
    }

    async fn write(&mut self, _bytes: &[u8]) -> Result<(), Failure> {
        sleep(2 * MINUTE).await;
        Ok(())
    }

    async fn end(&mut self) -> Result<(), Failure> {
        sleep(2 * MINUTE).await;
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn time_in_the_sink_does_not_count() {
    let mut reader = WireReader::new(&b"* 1 FETCH (BODY[] {1}\r\na)\r\n"[..]);
    reader.set_idle_timeout(Some(MINUTE));

    let response = reader.read_response(&mut SlowBodies).await.unwrap();

    let values = [atom("BODY[]"), WireValue::Streamed(1)];
    assert_eq!(response, data(Some(1), "FETCH", [list(values)]));
}
