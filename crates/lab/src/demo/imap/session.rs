//! Connection of a client: its login, the folder that it has open, and the commands that it sends.

use std::borrow::Cow;
use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncWriteExt, BufStream};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::command::{CommandBytes, DemoArgument, DemoCommand, read_command};
use super::faults::{DemoRefusal, LOGIN_PAGE};
use super::fetch::{DemoFetchRequest, MessageSender};
use super::folders::{self, SelectedFolder};
use super::server::{DemoImapServer, DemoLogin, sasl_responses};
use crate::demo::base64;
use crate::demo::mailbox::GeneratedMailbox;
use crate::demo::service::RequestSlot;

/// Time for the client to close a connection that has ended. Longer waits would delay nobody, but
/// keep a dead connection in memory.
const LINGER: Duration = Duration::from_secs(1);

/// Challenge to a client whose XOAUTH2 token is refused, as Gmail sends it.
const REFUSED_TOKEN: &str = r#"{"status":"400","schemes":"bearer"}"#;

/// Connection of a client.
#[derive(Debug)]
pub(super) struct DemoImapSession {
    server: Arc<DemoImapServer>,
    stream: BufStream<TcpStream>,
    login: Option<DemoLogin>,
    folder: Option<SelectedFolder>,
}

/// Reply to a command that succeeds.
struct DemoReply {
    untagged: String,
    status: Cow<'static, str>,
}

type DemoResult = Result<DemoReply, DemoRefusal>;

impl DemoReply {
    fn ok(untagged: impl Into<String>) -> Self {
        Self { untagged: untagged.into(), status: "OK Completed.".into() }
    }
}

impl DemoImapSession {
    pub(super) fn new(server: Arc<DemoImapServer>, stream: TcpStream) -> Self {
        Self { server, stream: BufStream::new(stream), login: None, folder: None }
    }

    /// Serves the connection to its end.
    pub(super) async fn run(mut self) -> io::Result<()> {
        self.converse().await?;
        // The client may connect again before this connection is closed.
        self.login = None;
        close(self.stream).await
    }

    async fn converse(&mut self) -> io::Result<()> {
        if self.server.take_login_page() {
            return self.send(LOGIN_PAGE).await;
        }
        let greeting = format!("* OK [{}] Demo service ready.\r\n", self.server.capabilities());
        self.send(&greeting).await?;
        loop {
            self.stream.flush().await?;
            let bytes = match read_command(&mut self.stream).await? {
                CommandBytes::Complete(bytes) => bytes,
                CommandBytes::Closed => return Ok(()),
                CommandBytes::TooLong => return self.send("* BYE Command too long.\r\n").await,
            };
            let flow = match DemoCommand::parse(&bytes) {
                Ok(command) => self.execute(&command).await?,
                Err(malformed) => {
                    let refusal = DemoRefusal::with_status("BAD Malformed command.");
                    self.finish(&malformed.tag, Err(refusal)).await?
                }
            };
            if flow.is_break() {
                return Ok(());
            }
        }
    }

    /// Executes a command. Returns `Break` if the connection ends.
    async fn execute(&mut self, command: &DemoCommand) -> io::Result<ControlFlow<()>> {
        let arguments = command.arguments.as_slice();
        let result = match command.name.as_str() {
            "CAPABILITY" => Ok(DemoReply::ok(format!("* {}\r\n", self.server.capabilities()))),
            "NOOP" => Ok(DemoReply::ok("")),
            "ID" => Ok(DemoReply::ok("* ID (\"name\" \"cynosure demo\")\r\n")),
            "NAMESPACE" => Ok(DemoReply::ok("* NAMESPACE ((\"\" \"/\")) NIL NIL\r\n")),
            "LOGIN" => self.log_in(arguments),
            "AUTHENTICATE" => self.authenticate(arguments).await?,
            "LIST" => self.answer(folders::list, arguments),
            "STATUS" => self.answer(folders::status, arguments),
            "EXAMINE" | "SELECT" => self.examine(arguments),
            "CLOSE" | "UNSELECT" => {
                self.folder = None;
                Ok(DemoReply::ok(""))
            }
            "UID FETCH" => self.fetch(arguments).await?,
            "XDEMO" => self.control(arguments),
            "LOGOUT" => {
                self.send("* BYE Logging out.\r\n").await?;
                let _next = self.finish(&command.tag, Ok(DemoReply::ok(""))).await?;
                return Ok(ControlFlow::Break(()));
            }
            _ => Err(DemoRefusal::with_status("BAD Unknown command.")),
        };
        self.finish(&command.tag, result).await
    }

    fn log_in(&mut self, arguments: &[DemoArgument]) -> DemoResult {
        let _slot = self.server.admit(None)?;
        let [DemoArgument::Word(username), DemoArgument::Word(given)] = arguments else {
            return Err(DemoRefusal::INVALID_ARGUMENTS);
        };
        let is_user = username == self.server.service.username();
        self.accept_login(|secret| is_user && given == secret)
    }

    async fn authenticate(&mut self, arguments: &[DemoArgument]) -> io::Result<DemoResult> {
        if let Err(refusal) = self.server.admit(None) {
            return Ok(Err(refusal));
        }
        let word = |index: usize| arguments.get(index).and_then(DemoArgument::as_word);
        let mechanism = word(0).unwrap_or_default().to_ascii_uppercase();
        let response = match word(1) {
            Some(response) => response.to_owned(),
            None => self.ask("").await?,
        };
        let username = self.server.service.username().to_owned();
        let result = self.accept_login(|secret| {
            sasl_responses(&mechanism, &username, secret).contains(&response)
        });
        if mechanism == "XOAUTH2" && result.is_err() {
            self.ask(&base64::encode(REFUSED_TOKEN.as_bytes())).await?;
        }
        Ok(result)
    }

    /// Logs in, if the client has the password or the token. `has_secret` compares it.
    fn accept_login(&mut self, has_secret: impl Fn(&str) -> bool) -> DemoResult {
        if self.login.is_some() {
            return Err(DemoRefusal::with_status("BAD Already logged in."));
        }
        self.login = Some(self.server.log_in(has_secret)?);
        let status = format!("OK [{}] Logged in.", self.server.capabilities());
        Ok(DemoReply { untagged: String::new(), status: status.into() })
    }

    /// Sends a challenge, and returns the response of the client.
    async fn ask(&mut self, challenge: &str) -> io::Result<String> {
        self.send(&format!("+ {challenge}\r\n")).await?;
        self.stream.flush().await?;
        match read_command(&mut self.stream).await? {
            CommandBytes::Complete(bytes) => Ok(String::from_utf8_lossy(&bytes).trim().to_owned()),
            CommandBytes::TooLong | CommandBytes::Closed => {
                Err(io::ErrorKind::UnexpectedEof.into())
            }
        }
    }

    /// Admits a command that needs a login.
    fn admit(&self) -> Result<RequestSlot, DemoRefusal> {
        if self.login.is_none() {
            return Err(DemoRefusal::with_status("BAD Log in first."));
        }
        self.server.admit(self.login.as_ref())
    }

    /// Admits a command that fetches no body.
    fn admit_listing(&self) -> Result<RequestSlot, DemoRefusal> {
        let slot = self.admit()?;
        let fault = self.server.service.lock_state().api_fault();
        match fault {
            Some(fault) => Err(DemoRefusal::from_fault(fault)),
            None => Ok(slot),
        }
    }

    /// Answers a command about folders.
    fn answer(
        &self,
        answer: fn(&mut GeneratedMailbox, &[DemoArgument]) -> Result<String, DemoRefusal>,
        arguments: &[DemoArgument],
    ) -> DemoResult {
        let _slot = self.admit_listing()?;
        answer(&mut self.server.service.lock_mailbox(), arguments).map(DemoReply::ok)
    }

    fn examine(&mut self, arguments: &[DemoArgument]) -> DemoResult {
        let _slot = self.admit_listing()?;
        // A failed attempt leaves no folder open (RFC 3501 §6.3.1).
        self.folder = None;
        let mut mailbox = self.server.service.lock_mailbox();
        let (folder, untagged) = SelectedFolder::open(&mut mailbox, arguments)?;
        self.folder = Some(folder);
        Ok(DemoReply { untagged, status: "OK [READ-ONLY] Completed.".into() })
    }

    async fn fetch(&mut self, arguments: &[DemoArgument]) -> io::Result<DemoResult> {
        let Some(request) = DemoFetchRequest::parse(arguments, self.server.kind) else {
            return Ok(Err(DemoRefusal::INVALID_ARGUMENTS));
        };
        let admitted = if request.has_body() { self.admit() } else { self.admit_listing() };
        let slot = match admitted {
            Ok(slot) => slot,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let Some(folder) = &self.folder else {
            return Ok(Err(DemoRefusal::with_status("BAD No folder is open.")));
        };
        let sender = MessageSender {
            stream: &mut self.stream,
            server: &self.server,
            login: self.login.as_ref(),
            slot,
            request: &request,
        };
        let result = sender.send_messages(folder.messages()).await?;
        Ok(result.map(|status| DemoReply { untagged: String::new(), status: status.into() }))
    }

    /// Executes a control command, such as `deliver 10`. These commands need no login.
    fn control(&self, arguments: &[DemoArgument]) -> DemoResult {
        let [DemoArgument::Word(command), DemoArgument::Word(count)] = arguments else {
            return Err(DemoRefusal::INVALID_ARGUMENTS);
        };
        let count = count.parse().ok().ok_or(DemoRefusal::INVALID_ARGUMENTS)?;
        let service = &self.server.service;
        match command.as_str() {
            "deliver" => service.lock_mailbox().deliver(count),
            "destroy" => service.lock_mailbox().destroy(count),
            "fail" => service.lock_state().inject_failures(count),
            _ => return Err(DemoRefusal::INVALID_ARGUMENTS),
        }
        Ok(DemoReply::ok(""))
    }

    /// Sends the end of a command, after the changes of the open folder. Returns `Break` if the
    /// connection ends.
    async fn finish(&mut self, tag: &str, result: DemoResult) -> io::Result<ControlFlow<()>> {
        let changes = match &mut self.folder {
            Some(folder) => folder.update(&mut self.server.service.lock_mailbox()),
            None => String::new(),
        };
        let (text, flow) = match result {
            Ok(DemoReply { untagged, status }) => {
                (format!("{untagged}{changes}{tag} {status}\r\n"), ControlFlow::Continue(()))
            }
            Err(refusal) if refusal.flow().is_break() => {
                (refusal.text(tag), ControlFlow::Break(()))
            }
            Err(refusal) => (format!("{changes}{}", refusal.text(tag)), ControlFlow::Continue(())),
        };
        self.send(&text).await?;
        Ok(flow)
    }

    async fn send(&mut self, text: &str) -> io::Result<()> {
        self.stream.write_all(text.as_bytes()).await
    }
}

/// Ends a connection, so that the client receives all that was sent. What the client still sends is
/// read, because the kernel resets a connection that is closed with unread bytes.
async fn close(mut stream: BufStream<TcpStream>) -> io::Result<()> {
    stream.shutdown().await?;
    let mut discard = tokio::io::sink();
    let rest = tokio::io::copy(&mut stream, &mut discard);
    timeout(LINGER, rest).await.unwrap_or(Ok(0)).map(|_bytes| ())
}
