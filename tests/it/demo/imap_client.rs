//! Minimal IMAP client for the tests of the demo.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;

use cynosure_lab::demo::DemoOptions;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufStream};
use tokio::net::TcpStream;

/// Status of a command that gets no tagged reply, because the connection ends.
pub(super) const CLOSED: &str = "closed";
/// Status of a command whose connection ends in the middle of a literal.
pub(super) const TRUNCATED: &str = "truncated";

pub(super) struct ImapTestClient {
    stream: BufStream<TcpStream>,
    commands: u32,
}

/// Replies to a command.
#[derive(Debug, Default)]
pub(super) struct ImapTestReply {
    /// Untagged replies, each with its literals.
    pub(super) untagged: Vec<Vec<u8>>,
    /// Tagged reply without its tag, or [`CLOSED`] or [`TRUNCATED`].
    pub(super) status: String,
}

impl ImapTestClient {
    /// Connects, and returns the client and the greeting.
    pub(super) async fn connect(address: SocketAddr) -> (Self, String) {
        let stream = BufStream::new(TcpStream::connect(address).await.unwrap());
        let mut client = Self { stream, commands: 0 };
        let greeting = client.read_line().await;
        (client, greeting)
    }

    /// Connects and logs in with the password.
    pub(super) async fn log_in(address: SocketAddr) -> Self {
        let (mut client, _) = Self::connect(address).await;
        let DemoOptions { username, password, .. } = DemoOptions::default();
        client.succeed(&format!("LOGIN {username} {password}")).await;
        client
    }

    /// Sends a command, and returns the replies to it.
    pub(super) async fn command(&mut self, command: &str) -> ImapTestReply {
        self.commands += 1;
        let tag = format!("T{} ", self.commands);
        // The server may have closed the connection already; the missing reply tells it.
        self.send(&format!("{tag}{command}\r\n")).await.ok();
        let mut reply = ImapTestReply::default();
        loop {
            let status = match self.read_reply().await {
                Ok(Some(bytes)) => match bytes.strip_prefix(tag.as_bytes()) {
                    Some(status) => String::from_utf8_lossy(status).trim_end().to_owned(),
                    None => {
                        reply.untagged.push(bytes);
                        continue;
                    }
                },
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => TRUNCATED.to_owned(),
                Ok(None) | Err(_) => CLOSED.to_owned(),
            };
            reply.status = status;
            return reply;
        }
    }

    /// Sends a command that must succeed, and returns its untagged replies as text.
    pub(super) async fn succeed(&mut self, command: &str) -> String {
        let reply = self.command(command).await;
        assert!(reply.status.starts_with("OK "), "{command}: {reply:?}");
        reply.text()
    }

    pub(super) async fn send(&mut self, text: &str) -> io::Result<()> {
        self.stream.write_all(text.as_bytes()).await?;
        self.stream.flush().await
    }

    /// Reads one reply without literals; empty at the end of the connection.
    pub(super) async fn read_line(&mut self) -> String {
        let bytes = self.read_reply().await.unwrap().unwrap_or_default();
        String::from_utf8_lossy(&bytes).trim_end().to_owned()
    }

    /// Reads one reply with its literals; `None` at the end of the connection.
    async fn read_reply(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut bytes = Vec::new();
        loop {
            let line_start = bytes.len();
            if self.stream.read_until(b'\n', &mut bytes).await? == 0 {
                let is_complete = line_start == 0;
                let error = io::ErrorKind::UnexpectedEof;
                return if is_complete { Ok(None) } else { Err(error.into()) };
            }
            let Some(length) = literal_length(&bytes[line_start..]) else { return Ok(Some(bytes)) };
            let literal_start = bytes.len();
            bytes.resize(literal_start + length, 0);
            self.stream.read_exact(&mut bytes[literal_start..]).await?;
        }
    }
}

impl ImapTestReply {
    pub(super) fn text(&self) -> String {
        self.untagged.iter().map(|bytes| String::from_utf8_lossy(bytes)).collect()
    }

    pub(super) fn has_bye(&self) -> bool {
        self.untagged.iter().any(|bytes| bytes.starts_with(b"* BYE "))
    }

    /// Returns the bodies by UID; `None` for a message without a body, or whose body is `NIL`.
    pub(super) fn bodies(&self) -> BTreeMap<u32, Option<Vec<u8>>> {
        let fetched = self.untagged.iter().filter_map(|bytes| {
            let line_end = bytes.iter().position(|byte| *byte == b'\n')? + 1;
            let line = String::from_utf8_lossy(&bytes[..line_end]);
            let (_, rest) = line.split_once(" FETCH (UID ")?;
            let (uid, _) = rest.split_once([' ', ')'])?;
            let length = literal_length(&bytes[..line_end]);
            let body = length.map(|length| bytes[line_end..line_end + length].to_vec());
            Some((uid.parse().unwrap(), body))
        });
        fetched.collect()
    }
}

/// Returns the length of the literal that a line announces.
fn literal_length(line: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(line).ok()?.trim_end().strip_suffix('}')?;
    text.rsplit_once('{')?.1.parse().ok()
}
