//! Private MailDev on loopback: an independent server that takes mail over SMTP and shows it over
//! an HTTP API of its own, for one test.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::free_ports::free_ports;
use crate::http::TestHttpClient;
use crate::prerequisites::{skip, unpacked_root};
use crate::server_process::ServerProcess;
use crate::wait::wait_until;

/// Name of the folder in `target/real` into which `make setup` installs it.
const SETUP_NAME: &str = "maildev";

/// Running server. Dropping it ends it.
pub(crate) struct MaildevServer {
    _process: ServerProcess,
    http: TestHttpClient,
    smtp_port: u16,
    web_port: u16,
}

impl MaildevServer {
    /// Starts a server without mail. Reports the test as skipped, and returns `None`, if something
    /// is missing.
    pub(crate) fn start() -> Option<Self> {
        let script = unpacked_root(SETUP_NAME).join("node_modules/.bin/maildev");
        if !script.exists() || Command::new("node").arg("--version").output().is_err() {
            return skip("MailDev (make setup, node and npm)");
        }
        let [smtp_port, web_port] = free_ports();
        let [smtp, web] = [smtp_port, web_port].map(|port| port.to_string());
        let folder = TempDir::new().expect("a temporary folder");
        let mail_folder = folder.path().join("mail");
        let options = ["--ip", "127.0.0.1", "--smtp", &smtp, "--web", &web, "--mail-directory"];
        let arguments = [script.as_os_str()]
            .into_iter()
            .chain(options.map(OsStr::new))
            .chain([mail_folder.as_os_str()]);
        let process = ServerProcess::start(Path::new("node"), arguments, web_port, folder);
        let connects = || TcpStream::connect((Ipv4Addr::LOCALHOST, smtp_port)).is_ok();
        wait_until("the server takes mail", connects);
        Some(Self { _process: process, http: TestHttpClient::new(), smtp_port, web_port })
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.web_port)
    }

    /// Sends mails, which have to end with a line break, and waits until the server shows them. Their
    /// bytes are kept.
    pub(crate) fn deliver(&self, mails: &[Vec<u8>]) {
        let count = self.rows().len() + mails.len();
        let mut session = SmtpSession::open(self.smtp_port);
        mails.iter().for_each(|mail| session.send(mail));
        wait_until("the server shows the mails", || self.rows().len() == count);
    }

    /// Returns the mails as the API lists them.
    pub(crate) fn rows(&self) -> Vec<Value> {
        let url = self.url() + "/email";
        let mut response = self.http.send(|client| client.get(url)).json();
        response.as_array_mut().map(std::mem::take).expect("the response is a list")
    }
}

/// Session of a client that sends mail (RFC 5321).
struct SmtpSession {
    stream: BufReader<TcpStream>,
}

impl SmtpSession {
    fn open(port: u16) -> Self {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("the server accepts");
        let mut session = Self { stream: BufReader::new(stream) };
        session.expect_reply("220");
        session.command(b"EHLO localhost\r\n", "250");
        session
    }

    /// Sends a mail. Its bytes need not be ASCII.
    fn send(&mut self, mail: &[u8]) {
        assert!(mail.ends_with(b"\r\n"), "a mail ends with a line break (RFC 5321 §4.1.1.4)");
        self.command(b"MAIL FROM:<a@example.com>\r\n", "250");
        self.command(b"RCPT TO:<b@example.com>\r\n", "250");
        self.command(b"DATA\r\n", "354");
        let mut content = Vec::with_capacity(mail.len());
        for line in mail.split_inclusive(|&byte| byte == b'\n') {
            // A dot at the start of a line is doubled (RFC 5321 §4.5.2).
            if line.starts_with(b".") {
                content.push(b'.');
            }
            content.extend_from_slice(line);
        }
        content.extend_from_slice(b".\r\n");
        self.command(&content, "250");
    }

    /// Sends a command and expects a reply with this code.
    fn command(&mut self, command: &[u8], code: &str) {
        self.stream.get_mut().write_all(command).expect("the server reads");
        self.expect_reply(code);
    }

    /// Reads a reply, of which only the last line has no dash behind its code.
    fn expect_reply(&mut self, code: &str) {
        loop {
            let mut line = String::new();
            let length = self.stream.read_line(&mut line).expect("the server replies in ASCII");
            assert!(length > 0, "the server closed the connection");
            assert!(line.starts_with(code), "the reply is {line}");
            if !line[code.len()..].starts_with('-') {
                return;
            }
        }
    }
}
