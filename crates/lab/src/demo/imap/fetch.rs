//! UID FETCH: the rows and the bodies of messages, with the planned faults of each.

use std::io;
use std::ops::ControlFlow;

use chrono::{DateTime, Utc};
use tokio::io::{AsyncWriteExt, BufStream};
use tokio::net::TcpStream;
use tokio::time::sleep;

use super::command::DemoArgument;
use super::faults::DemoRefusal;
use super::server::{DemoImapServer, DemoLogin};
use super::uid_set::{positions, uid};
use crate::demo::faults::{DownloadFault, ResponseFault, SLOW_BODY_PARTS, SLOW_BODY_PAUSE};
use crate::demo::kind::DemoKind;
use crate::demo::mailbox::{MessageNumber, RawMessage};
use crate::demo::service::RequestSlot;

/// Attribute of a message that a client may ask for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum MessageAttribute {
    Uid,
    Flags,
    InternalDate,
    Size,
    EmailId,
    ThreadId,
    Body,
}

/// Arguments of UID FETCH.
#[derive(Debug)]
pub(super) struct DemoFetchRequest {
    uids: String,
    attributes: Vec<MessageAttribute>,
}

/// One UID FETCH that is being answered.
pub(super) struct MessageSender<'a> {
    pub(super) stream: &'a mut BufStream<TcpStream>,
    pub(super) server: &'a DemoImapServer,
    pub(super) login: Option<&'a DemoLogin>,
    pub(super) slot: RequestSlot,
    pub(super) request: &'a DemoFetchRequest,
}

/// Result for one message of a set.
enum MessageResult {
    /// Sent, or no longer there.
    Answered,
    /// Answered with `NIL`, because it has just been destroyed.
    Expunged,
    /// Left out, because it cannot be read.
    Failed,
    /// The command ends before this message.
    Refused(DemoRefusal),
}

impl DemoFetchRequest {
    /// Parses a set of UIDs and the attributes. Returns `None` if one is not supported.
    pub(super) fn parse(arguments: &[DemoArgument], kind: DemoKind) -> Option<Self> {
        let [DemoArgument::Word(uids), attributes] = arguments else { return None };
        let names = attributes.words()?.into_iter();
        let attributes = names.map(|name| MessageAttribute::from_name(name, kind));
        Some(Self { uids: uids.clone(), attributes: attributes.collect::<Option<_>>()? })
    }

    pub(super) fn has_body(&self) -> bool {
        self.attributes.contains(&MessageAttribute::Body)
    }
}

impl MessageAttribute {
    fn from_name(name: &str, kind: DemoKind) -> Option<Self> {
        Some(match name.to_ascii_uppercase().as_str() {
            "UID" => Self::Uid,
            "FLAGS" => Self::Flags,
            "INTERNALDATE" => Self::InternalDate,
            "RFC822.SIZE" => Self::Size,
            "EMAILID" if kind.has_object_ids() => Self::EmailId,
            "THREADID" if kind.has_object_ids() => Self::ThreadId,
            "BODY[]" | "BODY.PEEK[]" => Self::Body,
            _ => return None,
        })
    }
}

impl MessageSender<'_> {
    /// Sends what is requested of the messages of a folder. Returns the status of the tagged reply.
    pub(super) async fn send_messages(
        mut self,
        messages: &[MessageNumber],
    ) -> io::Result<Result<&'static str, DemoRefusal>> {
        let Some(ranges) = positions(&self.request.uids, messages) else {
            return Ok(Err(DemoRefusal::INVALID_ARGUMENTS));
        };
        let mut status = "OK Fetched.";
        let mut has_failed = false;
        for position in ranges.into_iter().flatten() {
            let Some(message) = messages.get(position) else { continue };
            match self.send_message(position + 1, *message).await? {
                MessageResult::Answered => {}
                MessageResult::Expunged => {
                    status = "OK [EXPUNGEISSUED] Some messages were already expunged.";
                }
                MessageResult::Failed => has_failed = true,
                MessageResult::Refused(refusal) => return Ok(Err(refusal)),
            }
        }
        let failure = DemoRefusal::from_fault(ResponseFault::ServerError);
        Ok(if has_failed { Err(failure) } else { Ok(status) })
    }

    async fn send_message(
        &mut self,
        sequence_number: usize,
        message: MessageNumber,
    ) -> io::Result<MessageResult> {
        let Some(attributes) = self.attributes_text(message) else {
            return Ok(MessageResult::Answered);
        };
        if !self.request.has_body() {
            self.send(&format!("* {sequence_number} FETCH ({attributes})\r\n")).await?;
            return Ok(MessageResult::Answered);
        }
        if let Err(refusal) = self.server.check(self.login) {
            return Ok(MessageResult::Refused(refusal));
        }
        let fault = self.server.message_fault(message);
        match fault {
            None | Some(DownloadFault::SlowBody | DownloadFault::TruncatedBody) => {}
            Some(DownloadFault::Response(fault)) => return Ok(self.refuse(fault)),
            Some(DownloadFault::DestroyMessage) => {
                return self.send_destroyed(sequence_number, message).await;
            }
            Some(DownloadFault::Delay(delay)) => {
                self.stream.flush().await?;
                sleep(delay).await;
            }
        }
        let (body, size) = {
            let mailbox = self.server.service.lock_mailbox();
            (mailbox.message(message), mailbox.size(message))
        };
        self.send(&format!("* {sequence_number} FETCH ({attributes} BODY[] {{{size}}}\r\n"))
            .await?;
        if self.send_body(body, fault).await?.is_break() {
            return Ok(MessageResult::Refused(DemoRefusal::Close));
        }
        self.send(")\r\n").await?;
        self.slot.record_served(message, size as u64);
        Ok(MessageResult::Answered)
    }

    /// Returns the result for a message whose download meets this fault.
    fn refuse(&self, fault: ResponseFault) -> MessageResult {
        match fault {
            ResponseFault::ServerError => MessageResult::Failed,
            ResponseFault::Html => {
                self.server.plan_login_page();
                MessageResult::Refused(DemoRefusal::Close)
            }
            ResponseFault::Drop => {
                MessageResult::Refused(DemoRefusal::Bye("The server is shutting down."))
            }
            ResponseFault::RateLimited { .. } | ResponseFault::Unavailable { .. } => {
                MessageResult::Refused(DemoRefusal::from_fault(fault))
            }
        }
    }

    /// Destroys the message. Servers differ in their answer then: `NIL` in place of the body, or
    /// nothing.
    async fn send_destroyed(
        &mut self,
        sequence_number: usize,
        message: MessageNumber,
    ) -> io::Result<MessageResult> {
        self.server.service.lock_mailbox().destroy_message(message);
        let uid = uid(message);
        if uid.is_multiple_of(2) {
            return Ok(MessageResult::Answered);
        }
        self.send(&format!("* {sequence_number} FETCH (UID {uid} BODY[] NIL)\r\n")).await?;
        Ok(MessageResult::Expunged)
    }

    /// Sends a body. Returns `Break` if the fault ends the connection in the middle of it.
    async fn send_body(
        &mut self,
        mut body: RawMessage,
        fault: Option<DownloadFault>,
    ) -> io::Result<ControlFlow<()>> {
        let first = body.next().unwrap_or_default();
        if fault == Some(DownloadFault::TruncatedBody) {
            self.stream.write_all(&first.slice(..first.len() / 2)).await?;
            return Ok(ControlFlow::Break(()));
        }
        let is_slow = fault == Some(DownloadFault::SlowBody);
        let parts = if is_slow { SLOW_BODY_PARTS as usize } else { 1 };
        for part in first.chunks(first.len().div_ceil(parts).max(1)) {
            self.stream.write_all(part).await?;
            if is_slow {
                self.stream.flush().await?;
                sleep(SLOW_BODY_PAUSE).await;
            }
        }
        for chunk in body {
            self.stream.write_all(&chunk).await?;
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Returns the requested attributes, the body excepted; `None` if the message was destroyed
    /// since the client learned of it.
    fn attributes_text(&self, message: MessageNumber) -> Option<String> {
        let mailbox = self.server.service.lock_mailbox();
        if !mailbox.exists(message) {
            return None;
        }
        let mut text = format!("UID {}", uid(message));
        for attribute in &self.request.attributes {
            let value = match attribute {
                MessageAttribute::Uid | MessageAttribute::Body => continue,
                MessageAttribute::Flags => "FLAGS (\\Seen)".to_owned(),
                MessageAttribute::InternalDate => {
                    let date = DateTime::<Utc>::from_timestamp(mailbox.received_at(message), 0);
                    let date = date.unwrap_or_default().format("%d-%b-%Y %H:%M:%S +0000");
                    format!("INTERNALDATE \"{date}\"")
                }
                MessageAttribute::Size => format!("RFC822.SIZE {}", mailbox.size(message)),
                MessageAttribute::EmailId => format!("EMAILID ({})", mailbox.email_id(message)),
                MessageAttribute::ThreadId => {
                    let thread = mailbox.thread_id(mailbox.thread_of(message));
                    format!("THREADID ({thread})")
                }
            };
            text.push(' ');
            text.push_str(&value);
        }
        Some(text)
    }

    async fn send(&mut self, text: &str) -> io::Result<()> {
        self.stream.write_all(text.as_bytes()).await
    }
}
