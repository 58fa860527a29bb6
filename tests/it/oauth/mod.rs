//! OAuth 2.0 in the real program: `auth` signs in, `run` renews the tokens, and an application gets
//! its tokens without a sign-in.

mod api;
mod application;
mod renewal;
#[expect(dead_code, reason = "tests with a real browser use the rest of it")]
mod server;
mod sign_in;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use rustix::fs::{Mode, chmod};
use url::{Position, Url};

use self::server::{AuthorizationServer, CLIENT_ID, refresh_token_of};
use crate::commands::test_home::{ProgramOutput, RunningProgram, TestHome};
use crate::imap::server::{Answer, ReceivedCommand, ScriptedServer, ServedFolder};

const ACCOUNT: &str = "me@example.com";
const TOKEN_FILE: &str = "state/work/token.json";
const CAPABILITIES: &str = "IMAP4rev1 SASL-IR AUTH=XOAUTH2";

/// Number of messages in the mailbox.
const MESSAGES: usize = 3;

/// Error challenge of Gmail for a wrong token: `{"status":"400","schemes":"Bearer"}`.
const TOKEN_CHALLENGE: &str = "+ eyJzdGF0dXMiOiI0MDAiLCJzY2hlbWVzIjoiQmVhcmVyIn0=";

/// Maximum wait for a response to the browser, because a busy machine is slow.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Account at a provider with an authorization server and an IMAP server, and a home with the
/// source `work` for it.
struct SignInRig {
    home: TestHome,
    authorization: AuthorizationServer,
    mailbox: ScriptedServer,
    logins: Arc<Mutex<Vec<TokenLogin>>>,
}

/// Login with an access token at the IMAP server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct TokenLogin {
    is_accepted: bool,
    /// True if the token file had the refresh token of the same grant when the login arrived.
    is_stored: bool,
}

/// Response to the browser.
#[derive(Debug)]
struct BrowserResponse {
    head: String,
    body: String,
}

impl SignInRig {
    async fn start() -> Self {
        Self::start_with("").await
    }

    /// Starts the servers. `auth_keys` is added to `auth` of the source.
    async fn start_with(auth_keys: &str) -> Self {
        Self::start_with_auth(|authorization| sign_in_auth(authorization, auth_keys)).await
    }

    /// Starts the servers. `auth` returns `auth` of the source.
    async fn start_with_auth(auth: impl FnOnce(&AuthorizationServer) -> String) -> Self {
        let authorization = AuthorizationServer::start().await;
        let uids = 1..=u32::try_from(MESSAGES).unwrap();
        let mailbox = ScriptedServer::start_with(CAPABILITIES, [ServedFolder::inbox(uids)]).await;
        let home = TestHome::with_source(&source_config(mailbox.port, &auth(&authorization)));
        let logins = Arc::default();
        take_access_tokens(&mailbox, &authorization, home.path(TOKEN_FILE), &logins);
        Self { home, authorization, mailbox, logins }
    }

    /// Signs in through a browser.
    fn sign_in(&self) {
        let mut running = self.home.start(&["auth", "work"]);
        let redirect = open(&printed_url(&mut running)).location();
        open(&redirect);
        let output = finish(running);
        assert_eq!(output.code, Some(0), "{output:?}");
    }

    /// Signs in with `--paste`, and pastes what `paste` makes of the address of the last page.
    fn sign_in_by_paste(&self, paste: impl FnOnce(Url) -> String) -> ProgramOutput {
        let mut command = self.home.command(&["auth", "work", "--paste"]);
        let mut running = RunningProgram(command.stdin(Stdio::piped()).spawn().unwrap());
        let redirect = open(&printed_url(&mut running)).location();
        let mut stdin = running.0.stdin.take().unwrap();
        stdin.write_all(format!("{}\n", paste(redirect)).as_bytes()).unwrap();
        drop(stdin);
        finish(running)
    }

    fn run_once(&self) -> ProgramOutput {
        self.home.cynosure(&["run", "--once"])
    }

    /// Ends the life of the access token in the token file.
    fn expire_access_token(&self) {
        let mut token: serde_json::Value =
            serde_json::from_str(&self.home.read(TOKEN_FILE)).unwrap();
        token["expires_at"] = token["issued_at"].clone();
        self.home.write(TOKEN_FILE, &token.to_string());
    }

    /// Returns the logins since the last call.
    fn take_logins(&self) -> Vec<TokenLogin> {
        std::mem::take(&mut *self.logins.lock().unwrap())
    }

    fn has_token_file(&self) -> bool {
        self.home.path(TOKEN_FILE).exists()
    }

    fn set_token_file_mode(&self, mode: u32) {
        chmod(self.home.path(TOKEN_FILE), Mode::from_raw_mode(mode)).unwrap();
    }
}

impl BrowserResponse {
    fn status(&self) -> u16 {
        self.head.split(' ').nth(1).unwrap().parse().unwrap()
    }

    /// Returns the address of the page to which the browser is sent.
    fn location(&self) -> Url {
        let mut lines = self.head.lines();
        let found = lines.find_map(|line| line.strip_prefix("Location: "));
        found.unwrap_or_else(|| panic!("no redirect: {self:?}")).parse().unwrap()
    }
}

/// Returns the table of the source.
fn source_config(port: u16, auth: &str) -> String {
    format!(
        "[source.work]\nkind = \"imap\"\naccount = \"{ACCOUNT}\"\nhost = \"127.0.0.1\"\n\
         port = {port}\nsecurity = \"none\"\nauth = {auth}\n"
    )
}

/// Returns `auth` of a source whose user signs in. `auth_keys` is added to it.
fn sign_in_auth(authorization: &AuthorizationServer, auth_keys: &str) -> String {
    let url = |name: &str| authorization.endpoint(name);
    format!(
        "{{ type = \"oauth2\", client_id = \"{CLIENT_ID}\", authorize_url = \"{}\", \
         token_url = \"{}\", device_url = \"{}\", scopes = [\"mail\", \"offline\"]{auth_keys} }}",
        url("authorize"),
        url("token"),
        url("device")
    )
}

/// Lets the IMAP server accept the valid access tokens and no others.
fn take_access_tokens(
    mailbox: &ScriptedServer,
    authorization: &AuthorizationServer,
    token_file: PathBuf,
    logins: &Arc<Mutex<Vec<TokenLogin>>>,
) {
    let (authorization, logins) = (authorization.clone(), Arc::clone(logins));
    mailbox.answer_with("AUTHENTICATE XOAUTH2 ", move |command| {
        let access_token = access_token(command);
        let is_accepted = authorization.accepts(&access_token);
        let stored = fs_err::read_to_string(&token_file).unwrap_or_default();
        let is_stored = stored.contains(&refresh_token_of(&access_token));
        logins.lock().unwrap().push(TokenLogin { is_accepted, is_stored });
        let refusal = "NO [AUTHENTICATIONFAILED] Invalid credentials.";
        let answer = || Answer::new().line(TOKEN_CHALLENGE).read_line().tagged(refusal);
        (!is_accepted).then(answer)
    });
}

/// Returns the access token of a login by XOAUTH2.
fn access_token(command: &ReceivedCommand) -> String {
    let message = String::from_utf8(BASE64.decode(&command.arguments[1]).unwrap()).unwrap();
    let token = message.strip_prefix(&format!("user={ACCOUNT}\x01auth=Bearer "));
    let token = token.and_then(|rest| rest.strip_suffix("\x01\x01"));
    token.unwrap_or_else(|| panic!("{message:?}")).to_owned()
}

/// Reads the output up to the address of the page where the user consents, and returns it.
fn printed_url(running: &mut RunningProgram) -> Url {
    let output = running.output_until("/authorize?");
    let is_url = |word: &&str| word.starts_with("http://") && word.contains("/authorize?");
    let url = output.split_whitespace().find(is_url);
    url.unwrap_or_else(|| panic!("no address: {output}")).parse().unwrap()
}

/// Opens a page as a browser does, without following a redirect.
fn open(url: &Url) -> BrowserResponse {
    let address = url.socket_addrs(|| None).unwrap()[0];
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    let target = &url[Position::BeforePath..Position::AfterQuery];
    let request = format!("GET {target} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    (&stream).write_all(request.as_bytes()).unwrap();
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(reader.read_line(&mut head).unwrap(), 0, "{head:?} is no response");
    }
    let length = head
        .lines()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = String::new();
    reader.take(length.unwrap_or(u64::MAX)).read_to_string(&mut body).unwrap();
    BrowserResponse { head, body }
}

/// Waits for the end of the program. Returns its exit code, and the output that was not read yet.
fn finish(mut running: RunningProgram) -> ProgramOutput {
    let (mut stdout, mut stderr) = (String::new(), String::new());
    running.0.stdout.as_mut().unwrap().read_to_string(&mut stdout).unwrap();
    running.0.stderr.as_mut().unwrap().read_to_string(&mut stderr).unwrap();
    ProgramOutput { code: running.0.wait().unwrap().code(), stdout, stderr }
}
