//! Sign-in with OAuth 2.0 in a real browser: from the page on which a user allows the access to the
//! mail that is extracted with the token.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, ChildStdout, Command, ExitStatus, Stdio};

use fs_err as fs;
use rustix::process::{Pid, Signal, kill_process};
use tokio::runtime::{Builder, Runtime};
use url::Url;

use crate::authorization_server::{
    AuthorizationServer, CLIENT_ID, REFUSAL, SECRET_MARK, USER_CODE,
};
use crate::corpus;
use crate::cyrus::USER;
use crate::dovecot::{DovecotOptions, DovecotServer, TokenLogin};
use crate::endpoint::browser::ChromeBrowser;
use crate::imap_server::{ImapServer as _, imap_source_config_with};
use crate::test_program::{RunningProgram, TestFolder, assert_same_mails};

const MAILS: usize = 20;

const TOKEN_FILE: &str = "state/work/token.json";

/// Buttons and the field of the pages of the authorization server.
const ALLOW: &str = "button[value=allow]";
const DENY: &str = "button[value=deny]";
const CODE_FIELD: &str = "input[name=user_code]";

/// Pages that the program shows to the browser.
const SUCCESS_PAGE: &str = "The sign-in has been passed on to cynosure. You can close this window.";
const FAILURE_PAGE: &str = "The sign-in failed. The terminal shows the reason.";
const NOT_FOUND_PAGE: &str = "Nothing is here.";

/// Last line in the terminal before the browser returns.
const LAST_LINE: &str = "If it has no browser, press Ctrl-C and add --paste.\n";

#[test]
fn a_click_on_allow_signs_in() {
    let Some(mut test) = BrowserSignIn::prepare() else { return };
    let mut auth = test.start_auth(&[]);

    let last_page = test.decide(&auth.printed_url(), ALLOW);

    assert_eq!(last_page, SUCCESS_PAGE);
    assert!(!test.browser.text("body").contains(SECRET_MARK));
    test.take_picture("allowed");
    test.assert_signed_in(&auth.finish());
    assert_eq!(test.authorization.exchange_count(), 1);
}

#[test]
fn the_address_of_the_failed_page_signs_in() {
    let Some(mut test) = BrowserSignIn::prepare() else { return };
    let mut auth = test.start_auth(&["--paste"]);

    test.decide(&auth.printed_url(), ALLOW);
    let address = test.browser.address();
    auth.type_line(&address);

    assert!(address.starts_with("http://127.0.0.1:1/?"), "{address}");
    test.assert_signed_in(&auth.finish());
}

#[test]
fn a_code_entered_in_the_browser_signs_in() {
    let Some(mut test) = BrowserSignIn::prepare() else { return };
    let mut auth = test.start_auth(&["--device"]);
    let url = auth.printed_url();
    test.browser.navigate(url.as_str());

    let after_wrong_code = test.enter_code("AAAA-BBBB", ALLOW);
    let after_right_code = test.enter_code(auth.printed_code(), ALLOW);

    assert_eq!(after_wrong_code, "No device shows this code.");
    assert_eq!(after_right_code, "Continue on your device.");
    test.assert_signed_in(&auth.finish());
}

#[test]
fn a_click_on_deny_is_one_sentence_and_stores_nothing() {
    let Some(mut test) = BrowserSignIn::prepare() else { return };
    let mut auth = test.start_auth(&[]);
    let last_page = test.decide(&auth.printed_url(), DENY);
    assert_eq!(last_page, FAILURE_PAGE);
    test.take_picture("denied");
    test.assert_denied(&auth.finish(), REFUSAL);

    let mut auth = test.start_auth(&["--paste"]);
    test.decide(&auth.printed_url(), DENY);
    let address = test.browser.address();
    auth.type_line(&address);
    test.assert_denied(&auth.finish(), REFUSAL);
    assert_eq!(test.authorization.exchange_count(), 0);

    let mut auth = test.start_auth(&["--device"]);
    let url = auth.printed_url();
    test.browser.navigate(url.as_str());
    test.enter_code(USER_CODE, DENY);
    test.assert_denied(&auth.finish(), "access_denied");
}

#[test]
fn a_request_for_an_icon_does_not_end_the_sign_in() {
    let Some(mut test) = BrowserSignIn::prepare() else { return };
    let mut auth = test.start_auth(&[]);
    let url = auth.printed_url();

    test.browser.navigate(redirect_uri(&url).join("/favicon.ico").expect("a path").as_str());
    let icon_page = test.browser.text("p");
    let last_page = test.decide(&url, ALLOW);

    assert_eq!((icon_page.as_str(), last_page.as_str()), (NOT_FOUND_PAGE, SUCCESS_PAGE));
    test.assert_signed_in(&auth.finish());
}

#[test]
fn an_interrupted_sign_in_stores_nothing() {
    let Some(mut test) = BrowserSignIn::prepare() else { return };
    let mut auth = test.start_auth(&[]);
    let url = auth.printed_url();
    test.browser.navigate(url.as_str());
    while !auth.output.ends_with(LAST_LINE) {
        auth.read_line();
    }

    auth.interrupt();
    let end = auth.finish();
    test.browser.follow(ALLOW);

    // A shell reports it as 130.
    assert_eq!(end.status.signal(), Some(Signal::INT.as_raw()), "{end:?}");
    assert!(end.output.ends_with(LAST_LINE), "{end:?}");
    assert_eq!(end.errors, "");
    assert!(test.browser.address().starts_with(redirect_uri(&url).as_str()));
    assert_eq!(test.authorization.exchange_count(), 0);
    assert!(!test.test_folder.path().join("state").exists());
}

/// Account at a provider with an authorization server and Dovecot, which asks that server about
/// tokens; the user's browser, and a folder with the source `work` for the account.
struct BrowserSignIn {
    browser: ChromeBrowser,
    authorization: AuthorizationServer,
    test_folder: TestFolder,
    mails: Vec<Vec<u8>>,
    _mailbox: DovecotServer,
    /// Runs the authorization server.
    _runtime: Runtime,
}

/// Running `cynosure auth`, as its user sees it in a terminal.
struct AuthTerminal {
    program: RunningProgram,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    /// Output so far.
    output: String,
    /// File with the standard error.
    error_file: PathBuf,
}

/// End of `cynosure auth`.
#[derive(Debug)]
struct AuthEnd {
    status: ExitStatus,
    output: String,
    errors: String,
}

impl BrowserSignIn {
    #[expect(clippy::unwrap_in_result, reason = "a helper of tests panics")]
    fn prepare() -> Option<Self> {
        let browser = ChromeBrowser::start()?;
        let mails = corpus::real_mails(MAILS)?;
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let authorization = runtime.block_on(AuthorizationServer::start());
        authorization.show_pages_to(USER);
        let introspection_port = authorization.endpoint("introspect").port();
        let introspection_port = introspection_port.expect("the server has a port of its own");
        let token_login = Some(TokenLogin { mechanism: "xoauth2", introspection_port });
        let options = DovecotOptions { token_login, ..DovecotOptions::default() };
        let mailbox = DovecotServer::start_with(&options)?;
        mailbox.session().append("INBOX", &mails);
        let config = config(mailbox.imap_port(), &authorization);
        let test_folder = TestFolder::new(&config);
        Some(Self {
            browser,
            authorization,
            test_folder,
            mails,
            _mailbox: mailbox,
            _runtime: runtime,
        })
    }

    fn start_auth(&self, options: &[&str]) -> AuthTerminal {
        AuthTerminal::start(&self.test_folder, options)
    }

    /// Opens the page of the authorization server, and decides there. Returns the text of the page
    /// that the browser ends on.
    fn decide(&mut self, url: &Url, button: &str) -> String {
        self.browser.navigate(url.as_str());
        self.browser.follow(button);
        self.browser.text("p")
    }

    /// Enters a code on the page that is open, and decides there. Returns the text of the page that
    /// follows.
    fn enter_code(&mut self, code: &str, button: &str) -> String {
        self.browser.enter(CODE_FIELD, code);
        self.browser.follow(button);
        self.browser.text("p")
    }

    /// Saves a picture of the page, for people to look at.
    fn take_picture(&mut self, name: &str) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/pictures");
        self.browser.screenshot(&folder.join(format!("sign-in-{name}.png")));
    }

    /// Asserts that the token is stored, that only its owner can read it, and that it extracts.
    fn assert_signed_in(&self, end: &AuthEnd) {
        assert!(end.status.success(), "{end:?}");
        let login = format!("login ok, account {USER} at 127.0.0.1");
        assert!(end.output.contains("signed in") && end.output.contains(&login), "{end:?}");
        assert!(!format!("{end:?}").contains(SECRET_MARK), "{end:?}");
        let metadata = fs::metadata(self.token_path()).expect("the token is stored");
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
        assert_same_mails(self.test_folder.extract_all(), &self.mails);
        assert_eq!(self.authorization.refresh_count(), 0, "the stored token is used");
    }

    /// Asserts that the sign-in ended with one sentence, which has this text, and stored nothing.
    fn assert_denied(&self, end: &AuthEnd, text: &str) {
        assert_eq!(end.status.code(), Some(77), "{end:?}");
        assert_eq!(end.errors.lines().count(), 1, "{end:?}");
        assert!(end.errors.starts_with("cynosure: the sign-in was denied"), "{end:?}");
        assert!(end.errors.contains(text), "{text}: {end:?}");
        assert!(!self.token_path().exists());
    }

    fn token_path(&self) -> PathBuf {
        self.test_folder.path().join(TOKEN_FILE)
    }
}

impl AuthTerminal {
    fn start(test_folder: &TestFolder, options: &[&str]) -> Self {
        let error_file = test_folder.path().join("errors");
        let errors = fs::File::create(&error_file).expect("the folder is ours").into_file();
        let auth = test_folder.command(&[&["auth", "work"][..], options].concat());
        let mut command = with_default_interrupt(&auth);
        command.env_clear().current_dir(test_folder.path());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(errors);
        let mut program = RunningProgram::start(&mut command);
        let (stdin, stdout) = program.take_pipes();
        let stdout = BufReader::new(stdout);
        Self { program, stdin, stdout, output: String::new(), error_file }
    }

    /// Reads the output up to the address to open in a browser, and returns the address.
    fn printed_url(&mut self) -> Url {
        loop {
            if let Ok(url) = Url::parse(&self.read_line()) {
                return url;
            }
        }
    }

    fn read_line(&mut self) -> String {
        let mut line = String::new();
        let length = self.stdout.read_line(&mut line).expect("the output is UTF-8");
        assert!(length > 0, "the output ends: {}{}", self.output, self.errors());
        self.output.push_str(&line);
        line
    }

    /// Returns the code for a device that was printed before the address.
    fn printed_code(&self) -> &str {
        let (_, after) = self.output.split_once("enter the code ").expect("a code is printed");
        after.split_whitespace().next().expect("there is a code")
    }

    fn type_line(&mut self, line: &str) {
        writeln!(self.stdin, "{line}").expect("the program reads");
    }

    /// Sends the signal of Ctrl-C.
    fn interrupt(&self) {
        let pid = Pid::from_raw(self.program.id().cast_signed()).expect("it has a pid");
        kill_process(pid, Signal::INT).expect("it runs");
    }

    /// Waits for the end of the program.
    fn finish(mut self) -> AuthEnd {
        self.stdout.read_to_string(&mut self.output).expect("the output is UTF-8");
        let errors = self.errors();
        AuthEnd { status: self.program.wait(), output: self.output, errors }
    }

    fn errors(&self) -> String {
        fs::read_to_string(&self.error_file).expect("the output is UTF-8")
    }
}

/// Returns the command with the default effect of SIGINT. A shell that starts the tests in the
/// background lets them ignore it, and a program that they start would do the same.
fn with_default_interrupt(command: &Command) -> Command {
    let mut with_default = Command::new("/usr/bin/env");
    with_default.arg("--default-signal=INT").arg(command.get_program()).args(command.get_args());
    with_default
}

fn config(imap_port: u16, authorization: &AuthorizationServer) -> String {
    let [authorize, token, device] =
        ["authorize", "token", "device"].map(|name| authorization.endpoint(name));
    let auth = format!(
        "type = \"oauth2\", client_id = \"{CLIENT_ID}\", authorize_url = \"{authorize}\", \
         token_url = \"{token}\", device_url = \"{device}\", scopes = [\"mail\"]"
    );
    imap_source_config_with(imap_port, "none", &auth)
}

/// Returns the address to which the authorization server sends the browser.
fn redirect_uri(authorize_url: &Url) -> Url {
    let mut parameters = authorize_url.query_pairs();
    let found = parameters.find(|(name, _)| name == "redirect_uri").expect("it is required");
    Url::parse(&found.1).expect("it is an address")
}
