//! Reads responses from a stream, within limits of memory and time.

use std::time::Duration;
use std::{fmt, io};

use cynosure_engine::{Failure, format_duration};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::time::timeout;

use crate::source::imap::wire::bodies::BodySink;
use crate::source::imap::wire::response::{FirstLine, Response, kind_of_data};
use crate::source::imap::wire::tokens::{ParserRequest, ValueParser};
use crate::source::imap::wire::value::WireValue;

/// Size of the buffer, in bytes, and so of the largest chunk of a body.
const BUFFER_BYTES: usize = 64 * 1024;

/// Maximum bytes of a response that are held in memory: all but bodies. The longest responses name
/// a folder or list the labels of a message.
const RESPONSE_BYTES_MAX: u64 = 1024 * 1024;

/// Maximum length of a body, in bytes: the largest number of the protocol (RFC 3501 §9).
const BODY_BYTES_MAX: u64 = 0xffff_ffff;

/// Error while a response is read. The stream is unusable after it.
#[derive(Debug)]
pub(in crate::source::imap) enum WireError {
    /// The server closed the connection between responses.
    Closed,
    /// The connection ended inside a response or a literal.
    ClosedInside,
    Io(io::Error),
    /// Violation of the protocol, as a sentence.
    Protocol(String),
    /// Response beyond a limit, as a sentence.
    TooLarge(String),
    /// Failure of the sink.
    Sink(Failure),
    /// No data arrived for this long.
    Idle(Duration),
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("the server closed the connection"),
            Self::ClosedInside => f.write_str("the connection ended in the middle of a response"),
            Self::Io(error) => error.fmt(f),
            Self::Protocol(reason) | Self::TooLarge(reason) => f.write_str(reason),
            Self::Sink(failure) => f.write_str(&failure.message),
            Self::Idle(duration) => write!(f, "no data for {}", format_duration(*duration)),
        }
    }
}

/// Reader of the responses of one connection.
pub(in crate::source::imap) struct WireReader<R> {
    stream: BufReader<R>,
    /// Maximum wait for each read of the stream. Time spent in the sink does not count.
    idle_timeout: Option<Duration>,
    /// Bytes of the current response, without bodies.
    response_bytes: u64,
}

impl<R: AsyncRead + Unpin> WireReader<R> {
    /// Creates a reader that waits without a limit.
    pub(in crate::source::imap) fn new(stream: R) -> Self {
        let stream = BufReader::with_capacity(BUFFER_BYTES, stream);
        Self { stream, idle_timeout: None, response_bytes: 0 }
    }

    /// Sets the maximum wait for each read of the stream.
    pub(in crate::source::imap) fn set_idle_timeout(&mut self, idle_timeout: Option<Duration>) {
        self.idle_timeout = idle_timeout;
    }

    /// Returns the stream and drops bytes that are read but not parsed, so that bytes sent before a
    /// TLS handshake are never taken for protected ones.
    pub(in crate::source::imap) fn into_inner(self) -> R {
        self.stream.into_inner()
    }

    /// True if bytes were read that are not parsed yet.
    pub(in crate::source::imap) fn has_buffered(&self) -> bool {
        !self.stream.buffer().is_empty()
    }

    /// Returns the stream, to write to it.
    pub(in crate::source::imap) fn get_mut(&mut self) -> &mut R {
        self.stream.get_mut()
    }

    /// Reads the next response, and gives the bodies in it to `bodies`.
    ///
    /// A future that is dropped before its end loses what it has read: the stream is unusable then.
    ///
    /// # Errors
    /// Returns an error if the response is not complete, breaks the protocol or a limit, or if
    /// `bodies` fails.
    pub(in crate::source::imap) async fn read_response(
        &mut self,
        bodies: &mut impl BodySink,
    ) -> Result<Response, WireError> {
        self.response_bytes = 0;
        loop {
            let line = self.read_line().await?;
            match FirstLine::parse(&line).map_err(WireError::Protocol)? {
                FirstLine::Blank => {}
                FirstLine::Complete(response) => return Ok(response),
                FirstLine::Data { number, name, position } => {
                    let parser = ValueParser::new(kind_of_data(&name), line, position);
                    let values = self.read_values(parser, bodies).await?;
                    return Ok(Response::Data { number, name, values });
                }
            }
        }
    }

    async fn read_values(
        &mut self,
        mut parser: ValueParser,
        bodies: &mut impl BodySink,
    ) -> Result<Vec<WireValue>, WireError> {
        let mut has_open_body = false;
        loop {
            let (value, is_line_next) = match parser.advance().map_err(WireError::Protocol)? {
                ParserRequest::Literal(length) => {
                    (WireValue::Text(self.read_literal(length).await?), true)
                }
                ParserRequest::BodyLiteral(length) => {
                    end_body(has_open_body, bodies).await?;
                    self.stream_body(parser.list_values(), length, bodies).await?;
                    has_open_body = true;
                    (WireValue::Streamed(length), true)
                }
                ParserRequest::QuotedBody(bytes) => {
                    end_body(has_open_body, bodies).await?;
                    write_body(parser.list_values(), &bytes, bodies).await?;
                    has_open_body = true;
                    (WireValue::Streamed(to_u64(bytes.len())), false)
                }
                ParserRequest::Finish => {
                    end_body(has_open_body, bodies).await?;
                    return Ok(parser.into_values());
                }
            };
            parser.push(value).map_err(WireError::Protocol)?;
            if is_line_next {
                parser.push_line(self.read_line().await?).map_err(WireError::Protocol)?;
            }
        }
    }

    /// Reads a line and returns it without its end. A line feed alone ends it, too.
    async fn read_line(&mut self) -> Result<Vec<u8>, WireError> {
        let mut line = Vec::new();
        loop {
            let bytes = self.fill_buffer().await?;
            let end = bytes.iter().position(|byte| *byte == b'\n');
            let taken = end.map_or(bytes.len(), |at| at + 1);
            line.extend_from_slice(bytes.get(..taken).unwrap_or_default());
            self.stream.consume(taken);
            self.charge(to_u64(taken))?;
            if end.is_some() {
                line.pop();
                line.pop_if(|byte| *byte == b'\r');
                return Ok(line);
            }
        }
    }

    async fn read_literal(&mut self, length: u64) -> Result<Vec<u8>, WireError> {
        self.charge(length)?;
        let mut literal = Vec::new();
        let mut remaining = length;
        while remaining > 0 {
            let bytes = first_bytes(self.fill_buffer().await?, remaining);
            literal.extend_from_slice(bytes);
            let taken = bytes.len();
            self.stream.consume(taken);
            remaining = remaining.saturating_sub(to_u64(taken));
        }
        Ok(literal)
    }

    async fn stream_body(
        &mut self,
        values: &[WireValue],
        length: u64,
        bodies: &mut impl BodySink,
    ) -> Result<(), WireError> {
        if BODY_BYTES_MAX < length {
            let message = format!("a message has more than {BODY_BYTES_MAX} bytes");
            return Err(WireError::TooLarge(message));
        }
        bodies.begin(values, length).await.map_err(WireError::Sink)?;
        let mut remaining = length;
        while remaining > 0 {
            let bytes = first_bytes(self.fill_buffer().await?, remaining);
            bodies.write(bytes).await.map_err(WireError::Sink)?;
            let taken = bytes.len();
            self.stream.consume(taken);
            remaining = remaining.saturating_sub(to_u64(taken));
        }
        Ok(())
    }

    /// Returns the bytes in the buffer, at least one, after a read if there is none.
    async fn fill_buffer(&mut self) -> Result<&[u8], WireError> {
        // Bytes of this response that were read before.
        let is_inside = self.response_bytes > 0;
        let read = self.stream.fill_buf();
        let result = match self.idle_timeout {
            Some(max) => timeout(max, read).await.map_err(|_elapsed| WireError::Idle(max))?,
            None => read.await,
        };
        match result {
            Ok([]) if is_inside => Err(WireError::ClosedInside),
            Ok([]) => Err(WireError::Closed),
            Ok(bytes) => Ok(bytes),
            Err(error) => Err(WireError::Io(error)),
        }
    }

    /// Counts bytes that are held in memory.
    fn charge(&mut self, bytes: u64) -> Result<(), WireError> {
        self.response_bytes = self.response_bytes.saturating_add(bytes);
        if self.response_bytes <= RESPONSE_BYTES_MAX {
            return Ok(());
        }
        let max = RESPONSE_BYTES_MAX;
        let message = format!("a response has more than {max} bytes beside the messages in it");
        Err(WireError::TooLarge(message))
    }
}

/// Ends a body, if there is one, after the text behind it was found to be well-formed.
async fn end_body(is_open: bool, bodies: &mut impl BodySink) -> Result<(), WireError> {
    if is_open { bodies.end().await.map_err(WireError::Sink) } else { Ok(()) }
}

/// Gives a body that is held in memory to the sink.
async fn write_body(
    values: &[WireValue],
    body: &[u8],
    bodies: &mut impl BodySink,
) -> Result<(), WireError> {
    bodies.begin(values, to_u64(body.len())).await.map_err(WireError::Sink)?;
    for chunk in body.chunks(BUFFER_BYTES) {
        bodies.write(chunk).await.map_err(WireError::Sink)?;
    }
    Ok(())
}

/// Returns the first `max` bytes, or all if there are fewer.
fn first_bytes(bytes: &[u8], max: u64) -> &[u8] {
    usize::try_from(max).ok().and_then(|max| bytes.get(..max)).unwrap_or(bytes)
}

fn to_u64(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}
