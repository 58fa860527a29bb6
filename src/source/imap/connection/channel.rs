//! Commands to a server and responses from it, before and after the login.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::{fmt, io};

use cynosure_engine::{Cause, Failure, ImapStatus, format_duration};
use secrecy::{ExposeSecret as _, SecretSlice};
use tokio::io::AsyncWriteExt as _;
use tokio::time::{Instant, timeout};

use crate::source::imap::connect::{ImapStream, transport_failure};
use crate::source::imap::connection::account::ImapAccount;
use crate::source::imap::connection::capabilities::CapabilitySet;
use crate::source::imap::connection::response_timer::{ResponseTimer, is_progress, read_in_time};
use crate::source::imap::wire::{BodySink, Command, NoBodies, Response, WireError, WireReader};

/// Maximum number of responses that a server may send between the parts of one command. It has no
/// reason to send more than a few.
const RESPONSES_BETWEEN_PARTS_MAX: usize = 1_000;

/// Connection that sends tagged commands and reads responses, within the time limits.
pub(in crate::source::imap) struct CommandChannel {
    wire: WireReader<ImapStream>,
    timer: RefCell<ResponseTimer>,
    account: Rc<ImapAccount>,
    capabilities: CapabilitySet,
    /// Responses that came while a command waited for its continuation.
    held: VecDeque<Response>,
    tag_count: u64,
    /// Command whose reply does not matter.
    unawaited_tag: Option<String>,
}

impl CommandChannel {
    pub(in crate::source::imap) fn new(stream: ImapStream, account: Rc<ImapAccount>) -> Self {
        let mut wire = WireReader::new(stream);
        wire.set_idle_timeout(Some(account.options.limits.idle_timeout));
        Self {
            wire,
            timer: RefCell::new(ResponseTimer::new(Rc::clone(&account))),
            account,
            capabilities: CapabilitySet::default(),
            held: VecDeque::new(),
            tag_count: 0,
            unawaited_tag: None,
        }
    }

    /// Returns the stream. Bytes that were read and not parsed are dropped.
    pub(in crate::source::imap) fn into_stream(self) -> ImapStream {
        self.wire.into_inner()
    }

    pub(in crate::source::imap) fn is_encrypted(&mut self) -> bool {
        self.wire.get_mut().is_encrypted()
    }

    pub(in crate::source::imap) fn capabilities(&self) -> &CapabilitySet {
        &self.capabilities
    }

    /// Drops the capabilities, because a login changes them.
    pub(in crate::source::imap) fn forget_capabilities(&mut self) {
        self.capabilities = CapabilitySet::default();
    }

    /// Returns the tag of the next command.
    pub(in crate::source::imap) fn next_tag(&mut self) -> String {
        self.tag_count = self.tag_count.saturating_add(1);
        format!("A{}", self.tag_count)
    }

    /// Sends a command. If the server refuses one of its literals, the rest is not sent, and its
    /// reply is returned by the next [`read`](Self::read).
    ///
    /// # Errors
    /// Returns an error if the connection is broken. It is unusable after that.
    pub(in crate::source::imap) async fn send<'p>(
        &mut self,
        tag: &str,
        parts: impl Iterator<Item = &'p [u8]>,
    ) -> Result<(), Failure> {
        let mut parts = parts.peekable();
        let mut prefix = format!("{tag} ");
        while let Some(part) = parts.next() {
            let is_last = parts.peek().is_none();
            let end: &[u8] = if is_last { b"\r\n" } else { b"" };
            // In one packet, and wiped because it may be a password.
            let bytes = SecretSlice::from([prefix.as_bytes(), part, end].concat());
            prefix.clear();
            self.write(bytes.expose_secret()).await?;
            if !is_last && !self.wait_for_continuation(tag).await? {
                break;
            }
        }
        Ok(())
    }

    /// Sends a command whose reply does not matter, and does not wait for it.
    ///
    /// # Errors
    /// Returns an error if the connection is broken.
    pub(in crate::source::imap) async fn send_unawaited(
        &mut self,
        command: &Command,
    ) -> Result<(), Failure> {
        let tag = self.next_tag();
        self.send(&tag, command.parts()).await?;
        self.unawaited_tag = Some(tag);
        Ok(())
    }

    /// Returns true for the reply to the command that was sent last without waiting for its reply.
    pub(super) fn is_unawaited(&mut self, response: &Response) -> bool {
        let is_unawaited = matches!(
            response,
            Response::Tagged { tag, .. } if self.unawaited_tag.as_deref() == Some(tag)
        );
        if is_unawaited {
            self.unawaited_tag = None;
        }
        is_unawaited
    }

    /// Sends the answer to a continuation, without its end of line.
    ///
    /// # Errors
    /// Returns an error if the connection is broken.
    pub(in crate::source::imap) async fn send_line(&mut self, line: &str) -> Result<(), Failure> {
        let bytes = SecretSlice::from([line.as_bytes(), b"\r\n"].concat());
        self.write(bytes.expose_secret()).await
    }

    /// Reads the next response.
    ///
    /// # Errors
    /// Returns an error if the connection is broken or too slow, if the response cannot be read, or
    /// if `bodies` fails. The connection is unusable after that.
    pub(in crate::source::imap) async fn read(
        &mut self,
        bodies: &mut impl BodySink,
    ) -> Result<Response, Failure> {
        self.wire.get_mut().restart_clock();
        let response = match self.held.pop_front() {
            Some(response) => response,
            None => self.read_wire(bodies).await?,
        };
        if is_progress(&response) {
            self.record_progress();
        }
        Ok(response)
    }

    /// Records that the server has answered a part of a command, so that `total_timeout` begins
    /// again. Replies are recorded by [`read`](Self::read).
    pub(super) fn record_progress(&self) {
        self.timer.borrow_mut().restart();
    }

    /// Returns the arrival of the first data during the last [`read`](Self::read). `None` if its
    /// response had been received before, or if there were no data.
    pub(in crate::source::imap) fn first_data_at(&mut self) -> Option<Instant> {
        self.wire.get_mut().first_data_at()
    }

    /// True if data of the next response have arrived and are not parsed.
    pub(in crate::source::imap) fn has_unparsed_data(&self) -> bool {
        self.wire.has_buffered()
    }

    async fn read_wire(&mut self, bodies: &mut impl BodySink) -> Result<Response, Failure> {
        match read_in_time(&mut self.wire, bodies, &self.timer).await {
            Ok(response) => {
                self.observe(&response);
                Ok(response)
            }
            Err(error) => Err(self.wire_failure(error)),
        }
    }

    /// Waits until the server asks for the next part of a command. Returns false if it refuses the
    /// command instead.
    async fn wait_for_continuation(&mut self, command_tag: &str) -> Result<bool, Failure> {
        for _ in 0..RESPONSES_BETWEEN_PARTS_MAX {
            let response = self.read_wire(&mut NoBodies).await?;
            let is_refusal = match &response {
                Response::Continuation(_text) => return Ok(true),
                Response::Tagged { tag, .. } => tag == command_tag,
                Response::Status(reply) => reply.status == ImapStatus::Bye,
                Response::Data { .. } => false,
            };
            self.held.push_back(response);
            if is_refusal {
                return Ok(false);
            }
        }
        let message = format!("{} does not ask for the rest of a command", self.account.host());
        Err(Failure::new(Cause::Server, message))
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let max_wait = self.account.options.limits.idle_timeout;
        let stream = self.wire.get_mut();
        let written = async {
            stream.write_all(bytes).await?;
            stream.flush().await
        };
        match timeout(max_wait, written).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(self.io_failure(&error)),
            Err(_elapsed) => {
                let (host, wait) = (self.account.host(), format_duration(max_wait));
                let message = format!("{host} accepts no data for {wait}");
                Err(Failure::new(Cause::Timeout, message))
            }
        }
    }

    /// Notes capabilities and alerts, which may be part of any response.
    fn observe(&mut self, response: &Response) {
        match response {
            Response::Data { name, values, .. } => {
                if name == "CAPABILITY" {
                    let names = values.iter().filter_map(|value| value.as_text());
                    self.capabilities = names.collect();
                }
            }
            Response::Status(reply) | Response::Tagged { reply, .. } => {
                if let Some(code) = reply.code.as_ref().filter(|code| code.name == "CAPABILITY") {
                    self.capabilities = code.arguments.split_whitespace().collect();
                }
                self.account.log_alert(reply);
            }
            Response::Continuation(_text) => {}
        }
    }

    fn wire_failure(&self, error: WireError) -> Failure {
        let host = self.account.host();
        match error {
            WireError::Closed => {
                Failure::new(Cause::Connection, format!("{host} closed the connection"))
            }
            WireError::ClosedInside => {
                let message = format!("{host} closed the connection in the middle of a response");
                Failure::new(Cause::Truncated, message)
            }
            WireError::Io(error) => self.io_failure(&error),
            // Such as a message that is longer or shorter than announced.
            WireError::Protocol(reason) => Failure::new(
                Cause::Truncated,
                format!("{host} sent a response that cannot be read: {reason}"),
            ),
            WireError::TooLarge(reason) => {
                Failure::new(Cause::TooLarge, format!("{host} sent too much: {reason}"))
            }
            WireError::Sink(failure) => failure,
            WireError::Idle(duration) => {
                let message = format!("{host} sent nothing for {}", format_duration(duration));
                Failure::new(Cause::Timeout, message)
            }
        }
    }

    fn io_failure(&self, error: &io::Error) -> Failure {
        let host = self.account.host();
        // Many servers end a TLS session without saying so.
        if error.kind() == io::ErrorKind::UnexpectedEof {
            return Failure::new(Cause::Connection, format!("{host} closed the connection"));
        }
        let Failure { cause, .. } = transport_failure(error, host);
        Failure::new(cause, format!("the connection to {host} is broken: {error}"))
    }
}

impl fmt::Debug for CommandChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CommandChannel")
            .field("host", &self.account.host())
            .field("capabilities", &self.capabilities)
            .finish_non_exhaustive()
    }
}
