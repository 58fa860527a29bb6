//! Answers of the scripted server: steps that a connection performs one after another.

use std::future::pending;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _};

use super::ClientStream;
use super::mailbox::{INBOX, message_bytes, message_response};

/// One step of an answer.
#[derive(Clone, Debug)]
enum AnswerStep {
    Send(Vec<u8>),
    /// Sends a line that begins with the tag of the command.
    SendTagged(String),
    /// Reads a line of the client, such as its answer to a challenge.
    ReadLine,
    /// Sends nothing more and keeps the connection open.
    StopResponding,
    Close,
}

/// Answer to a command, or a greeting. Each method adds a step.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answer(Vec<AnswerStep>);

impl Answer {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn bytes(self, bytes: impl Into<Vec<u8>>) -> Self {
        self.step(AnswerStep::Send(bytes.into()))
    }

    pub(crate) fn line(self, line: &str) -> Self {
        self.bytes(format!("{line}\r\n"))
    }

    /// Sends a message of the inbox.
    pub(crate) fn message(self, uid: u32) -> Self {
        self.bytes(message_response(uid, &message_bytes(INBOX, uid)))
    }

    pub(crate) fn tagged(self, text: &str) -> Self {
        self.step(AnswerStep::SendTagged(text.to_owned()))
    }

    pub(crate) fn read_line(self) -> Self {
        self.step(AnswerStep::ReadLine)
    }

    pub(crate) fn stop_responding(self) -> Self {
        self.step(AnswerStep::StopResponding)
    }

    pub(crate) fn close(self) -> Self {
        self.step(AnswerStep::Close)
    }

    /// Performs the steps. Returns false if the connection has ended.
    pub(super) async fn perform(self, tag: &str, stream: &mut ClientStream) -> bool {
        for step in self.0 {
            let result = match step {
                AnswerStep::Send(bytes) => stream.write_all(&bytes).await,
                AnswerStep::SendTagged(text) => {
                    stream.write_all(format!("{tag} {text}\r\n").as_bytes()).await
                }
                AnswerStep::ReadLine => {
                    stream.read_until(b'\n', &mut Vec::new()).await.map(|_length| ())
                }
                AnswerStep::StopResponding => pending().await,
                AnswerStep::Close => return false,
            };
            if result.is_err() {
                return false;
            }
        }
        true
    }

    fn step(mut self, step: AnswerStep) -> Self {
        self.0.push(step);
        self
    }
}
