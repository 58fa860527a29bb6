//! Capture of a browser's session by the addon for mitmproxy, in front of the demo service of
//! mail.ru, and a worker that continues with the captured session.

use std::ffi::OsStr;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use cynosure_lab::demo::{self, DemoKind, DemoOptions, DemoServer};
use fs_err as fs;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use url::Url;

use crate::certificate::{can_create_certificate, create_certificate};
use crate::free_ports::free_ports;
use crate::hostile_server::{ConnectionAction, HostileServer, plain_response};
use crate::http::TestHttpClient;
use crate::mitmproxy::{CAPTURED_HOST, CaptureProxy, output_of_failed_start};
use crate::prerequisites::skip;
use crate::server_process::ServerProcess;
use crate::test_program::{Hash, RunningProgram, TestFolder, assert_same_mails};
use crate::wait::wait_until;

const ACCOUNT: &str = "demo@example.com";
const ITEMS: u32 = 20;

/// A part of every secret here.
const SECRET_MARK: &str = "s3cret";

/// Secret that the service accepts as the token and as each cookie, and one that it refuses.
const PASSWORD: &str = "s3cret-of-today";
const OLD_PASSWORD: &str = "s3cret-of-last-week";

/// Cookie and parameter that do not belong to the session.
const OTHER_SECRET: &str = "s3cret-of-a-visitor";

const USER_AGENT: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";

/// Session file of the source. Its folder has no other files.
const SESSION_FILE: &str = "session/mailru.session";

/// Depth of JSON that overflows the stack of a careless reader.
const JSON_DEPTH: usize = 200_000;

#[test]
fn a_refused_session_writes_nothing() {
    let Some(test) = CaptureTest::prepare() else { return };
    let server = AnsweringServer::start();
    let accepted = session_with(PASSWORD);

    let refusal = test.open_mailbox(&session_with(OLD_PASSWORD));
    assert_eq!(refusal["status"], 403, "{refusal}");
    assert!(test.stored_names().is_empty());
    for path in ["page", "redirect", "other-status", "cut", "deep"] {
        test.browse(&server.url(path), &accepted);
        assert!(test.stored_names().is_empty(), "{path}");
    }

    test.browse(&server.url("accepted"), &accepted);
    assert_eq!(test.stored_session(), accepted, "the requests were complete");
    let log = test.proxy.log();
    assert!(!log.contains("Traceback"), "{log}");
}

#[test]
fn an_incomplete_session_writes_nothing() {
    let Some(test) = CaptureTest::prepare() else { return };
    let server = AnsweringServer::start();
    let accepted = session_with(PASSWORD);
    let without = |pointer: &str| {
        let mut session = accepted.clone();
        *session.pointer_mut(pointer).expect("the session has it") = Value::Null;
        session
    };

    for part in ["/email", "/token", "/user_agent", "/cookies/Mpop", "/cookies/ssdc"] {
        test.browse(&server.url("accepted"), &without(part));
        assert!(test.stored_names().is_empty(), "without {part}");
    }
}

#[test]
fn an_accepted_session_is_written_and_nothing_else() {
    let Some(test) = CaptureTest::prepare() else { return };
    let session = session_with(PASSWORD);

    let response = test.open_mailbox(&session);

    assert_eq!(response["status"], 200, "{response}");
    assert_eq!(test.stored_session(), session);
    assert_eq!(test.stored_names(), ["mailru.session"]);
    let metadata = fs::metadata(test.session_file()).expect("it is written");
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    let log = test.proxy.log();
    assert!(log.contains("session of 127.0.0.1 written to "), "{log}");
    assert!(!log.contains(SECRET_MARK), "{log}");
}

#[test]
fn a_changed_session_replaces_the_file_and_the_same_does_not() {
    let Some(test) = CaptureTest::prepare() else { return };
    let inode = || fs::metadata(test.session_file()).expect("it is written").ino();
    test.open_mailbox(&session_with(PASSWORD));
    let first = inode();

    test.open_mailbox(&session_with(PASSWORD));
    assert_eq!(inode(), first, "the same session");
    test.open_mailbox(&session_with(OLD_PASSWORD));
    assert_eq!(inode(), first, "a refused session");
    test.open_mailbox(&test.issued_session);

    assert_ne!(inode(), first, "a changed session");
    assert_eq!(test.stored_session(), test.issued_session);
    assert_eq!(test.stored_names(), ["mailru.session"]);
}

#[test]
fn a_session_that_cannot_be_written_is_reported_and_tried_again() {
    let Some(test) = CaptureTest::prepare() else { return };
    test.open_mailbox(&session_with(PASSWORD));
    let session_file = test.session_file();
    let folder = parent(&session_file);
    let elsewhere = folder.with_extension("elsewhere");

    // Root may write into any folder that exists.
    fs::rename(folder, &elsewhere).expect("the folder is ours");
    test.open_mailbox(&test.issued_session);
    let log = test.proxy.log();
    fs::rename(&elsewhere, folder).expect("the folder is ours");
    let kept = test.stored_session();
    test.open_mailbox(&test.issued_session);

    assert!(log.contains("the session cannot be written to "), "{log}");
    assert!(!log.contains(SECRET_MARK) && !log.contains("Traceback"), "{log}");
    assert_eq!(kept, session_with(PASSWORD));
    assert_eq!(test.stored_session(), test.issued_session);
    assert_eq!(test.stored_names(), ["mailru.session"]);
}

#[test]
fn a_proxy_that_could_write_nothing_does_not_start() {
    for (settings, problem) in [
        (vec![], "session_file is not set"),
        (vec!["session_file=/nowhere/mailru.session".to_owned()], "/nowhere does not exist"),
    ] {
        let Some(output) = output_of_failed_start(&settings) else { return };
        assert!(output.contains(problem), "{output}");
        assert!(!output.contains("Traceback"), "{output}");
    }
}

#[test]
fn connections_to_other_hosts_stay_encrypted() {
    let Some(test) = CaptureTest::prepare() else { return };
    let Some(server) = TlsServer::start() else { return };

    let other_host = server.connect("localhost", &test.proxy);
    let captured_host = server.connect(CAPTURED_HOST, &test.proxy);

    assert!(other_host.status.success(), "{other_host:?}");
    // The certificate is that of the proxy.
    assert!(!captured_host.status.success(), "{captured_host:?}");
}

#[test]
fn a_worker_continues_with_the_captured_session() {
    let Some(test) = CaptureTest::prepare() else { return };
    let old = session_with(OLD_PASSWORD).to_string();
    test.test_folder.put_secret(SESSION_FILE, &old);
    let log_path = test.test_folder.path().join("log");
    let log = fs::File::create(&log_path).expect("the folder is ours").into_file();
    let mut command = test.test_folder.command(&["run"]);
    let mut worker = RunningProgram::start(command.stdout(Stdio::null()).stderr(log));
    wait_until("the session is refused", || {
        assert_eq!(worker.try_wait(), None, "the worker ended");
        test.test_folder.source_status() == "auth_failed"
    });

    test.open_mailbox(&session_with(PASSWORD));

    wait_until("the mailbox is extracted", || {
        assert_eq!(worker.try_wait(), None, "the worker ended");
        let log = fs::read_to_string(&log_path).expect("the log is UTF-8");
        log.contains("execution completed")
    });
    drop(worker);
    let stored: Vec<Hash> = test.test_folder.sessions().into_values().flatten().collect();
    assert_same_mails(stored, &contents(&test.demo));
    let log = fs::read_to_string(&log_path).expect("the log is UTF-8");
    assert!(!log.contains(SECRET_MARK), "{log}");
}

/// Demo service of mail.ru, a source `work` for it, and a browser whose proxy captures its session.
struct CaptureTest {
    demo: DemoServer,
    /// Session that the service has issued, which it accepts like that with the password.
    issued_session: Value,
    test_folder: TestFolder,
    proxy: CaptureProxy,
    browser: TestHttpClient,
}

/// Server whose responses do not depend on the session. Dropping it stops it.
struct AnsweringServer {
    url: Url,
    _runtime: Runtime,
}

/// TLS server whose certificate is not one of the proxy.
struct TlsServer {
    _process: ServerProcess,
    certificate: PathBuf,
    port: u16,
}

impl CaptureTest {
    fn prepare() -> Option<Self> {
        let folder = TempDir::new().expect("a temporary folder");
        let issued = folder.path().join("issued");
        let demo = demo::start(DemoOptions {
            kind: DemoKind::Mailru,
            items: ITEMS,
            token_file: Some(issued.clone()),
            username: ACCOUNT.to_owned(),
            password: PASSWORD.to_owned(),
            ..DemoOptions::default()
        });
        let demo = demo.expect("loopback has ports");
        let test_folder = TestFolder::new(&config(&demo));
        let session_file = test_folder.path().join(SESSION_FILE);
        fs::create_dir(parent(&session_file)).expect("the folder is ours");
        let proxy = CaptureProxy::start(&session_file)?;
        let browser = TestHttpClient::with_proxy(proxy.port);
        Some(Self { demo, issued_session: read_json(&issued), test_folder, proxy, browser })
    }

    fn session_file(&self) -> PathBuf {
        self.test_folder.path().join(SESSION_FILE)
    }

    fn stored_session(&self) -> Value {
        read_json(&self.session_file())
    }

    /// Returns the names of all files in the folder of the session file, sorted.
    fn stored_names(&self) -> Vec<String> {
        let entries = fs::read_dir(parent(&self.session_file())).expect("the folder is ours");
        let names = entries.map(|entry| entry.expect("the folder can be listed").file_name());
        let mut names: Vec<String> = names.map(|name| name.to_string_lossy().into()).collect();
        names.sort();
        names
    }

    /// Requests a URL as a browser with this session does, with other cookies and parameters, too.
    /// Returns the JSON of the response; null if it is something else.
    fn browse(&self, url: &Url, session: &Value) -> Value {
        let mut url = url.clone();
        let sent = ["email", "token"].into_iter();
        let sent = sent.filter_map(|name| Some((name, session[name].as_str()?)));
        url.query_pairs_mut().extend_pairs(sent).append_pair("visitor", OTHER_SECRET);
        let cookies = session["cookies"].as_object().expect("a session has cookies").iter();
        let cookies = cookies
            .filter_map(|(name, value)| Some(format!("{name}={}", value.as_str()?)))
            .chain([format!("visitor={OTHER_SECRET}")]);
        let cookies = cookies.collect::<Vec<_>>().join("; ");
        let response = self.browser.send(|client| {
            let request = client.get(url).header("Cookie", cookies);
            match session["user_agent"].as_str() {
                Some(user_agent) => request.header("User-Agent", user_agent),
                None => request,
            }
        });
        serde_json::from_slice(&response.body).unwrap_or_default()
    }

    /// Requests the folders of the mailbox.
    fn open_mailbox(&self, session: &Value) -> Value {
        let url = format!("http://{}/api/v1/folders", self.demo.address());
        self.browse(&url.parse().expect("the address is valid"), session)
    }
}

impl AnsweringServer {
    fn start() -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let server = runtime.block_on(HostileServer::start(|_, request| {
            vec![ConnectionAction::Send(answer(request.path())), ConnectionAction::Close]
        }));
        Self { url: server.url, _runtime: runtime }
    }

    fn url(&self, path: &str) -> Url {
        self.url.join(path).expect("the path is valid")
    }
}

impl TlsServer {
    fn start() -> Option<Self> {
        if !can_create_certificate() {
            return skip("openssl");
        }
        let folder = TempDir::new().expect("a temporary folder");
        create_certificate(folder.path());
        let [certificate, key] = ["cert.pem", "key.pem"].map(|name| folder.path().join(name));
        let [port, _] = free_ports();
        let address = format!("127.0.0.1:{port}");
        let options = ["s_server", "-www", "-accept", &address, "-cert"].map(OsStr::new);
        let files = [certificate.as_os_str(), OsStr::new("-key"), key.as_os_str()];
        let arguments = options.into_iter().chain(files);
        let process = ServerProcess::start(Path::new("openssl"), arguments, port, folder);
        Some(Self { _process: process, certificate, port })
    }

    /// Opens a connection to the server, by this name and through the proxy. Fails if the
    /// certificate is another one.
    fn connect(&self, host: &str, proxy: &CaptureProxy) -> Output {
        Command::new("openssl")
            .args(["s_client", "-brief", "-verify_return_error", "-CAfile"])
            .arg(&self.certificate)
            .args(["-proxy", &format!("127.0.0.1:{}", proxy.port)])
            .args(["-connect", &format!("{host}:{}", self.port)])
            .stdin(Stdio::null())
            .output()
            .expect("openssl starts")
    }
}

fn config(demo: &DemoServer) -> String {
    format!(
        r#"[source.work]
kind = "mailru"
base_url = "http://{}/api/v1"
account = "{ACCOUNT}"
pace = {{ in_flight = 4 }}
auth = {{ type = "session", session = {{ file = "{SESSION_FILE}" }} }}
"#,
        demo.address()
    )
}

/// Returns a session whose token and cookies are all this secret, as the addon writes it.
fn session_with(secret: &str) -> Value {
    json!({
        "host": CAPTURED_HOST,
        "email": ACCOUNT,
        "token": secret,
        "cookies": { "Mpop": secret, "sdcs": secret, "ssdc": secret },
        "user_agent": USER_AGENT,
    })
}

/// Returns the response to a request for this path and query.
fn answer(target: &str) -> Vec<u8> {
    let json_head = "Content-Type: application/json; charset=utf-8\r\nConnection: close\r\n";
    let html_head = "Content-Type: text/html\r\nConnection: close\r\n";
    let redirect_head = format!("Location: /login\r\n{json_head}");
    let accepted = "{\"status\": 200}";
    match target.split('?').next().unwrap_or_default() {
        "/accepted" => plain_response("200 OK", json_head, accepted),
        "/page" => plain_response("200 OK", html_head, "<html>Log in</html>"),
        "/redirect" => plain_response("302 Found", &redirect_head, accepted),
        "/other-status" => plain_response("200 OK", json_head, "{\"status\": 401}"),
        "/cut" => plain_response("200 OK", json_head, "{\"status\": 200"),
        "/deep" => plain_response("200 OK", json_head, "[".repeat(JSON_DEPTH)),
        _ => plain_response("404 Not Found", html_head, ""),
    }
}

/// Returns the bytes of all messages of the service.
fn contents(demo: &DemoServer) -> Vec<Vec<u8>> {
    let mailbox = demo.lock_mailbox();
    let blobs = mailbox.blobs();
    blobs.map(|(blob, _)| mailbox.message_bytes(&blob).expect("the message exists")).collect()
}

fn read_json(path: &Path) -> Value {
    let text = fs::read_to_string(path).expect("the file is written");
    serde_json::from_str(&text).expect("the file is JSON")
}

fn parent(path: &Path) -> &Path {
    path.parent().expect("the file is in a folder")
}
