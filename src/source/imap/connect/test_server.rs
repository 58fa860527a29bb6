//! Server on the loopback interface that plays a script, and an account on it, for tests.
//!
//! Client and server are local tasks. In paused time a task of the runtime does not keep the clock
//! from advancing while data are on their way.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::{ClientConfig, ServerConfig};
use secrecy::SecretString;
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader,
};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, LocalSet, spawn_local};
use tokio::time::{sleep, timeout};

use crate::limiter::{RequestLimiter, Unlimited};
use crate::retry::{BackoffConfig, RetryPolicy};
use crate::source::MetricsHandle;
use crate::source::credential::Credential;
use crate::source::http::{ProxyMode, RequestLimits};
use crate::source::imap::connect::TlsConfigProvider;
use crate::source::imap::connection::ImapAccount;
use crate::source::imap::options::{
    FolderFilter, ImapNetwork, ImapOptions, LoginMechanism, Security,
};

/// Password or access token of the account.
pub(in crate::source::imap) const SECRET: &str = "s3cret-word";

/// Time after which a script has failed: client and server wait for each other.
const SCRIPT_DURATION_MAX: Duration = Duration::from_secs(20);

/// Step of a script. Lines are written without CRLF.
#[derive(Clone, Copy, Debug)]
pub(in crate::source::imap) enum ScriptStep {
    /// Sends lines.
    Say(&'static str),
    SayBytes(&'static [u8]),
    /// Reads bytes, which must be these.
    ExpectBytes(&'static [u8]),
    /// Reads a line, which must be this one.
    Expect(&'static str),
    /// Reads a line, which must start so.
    ExpectStart(&'static str),
    Sleep(Duration),
    /// Waits until the client closes the connection.
    UntilClosed,
}

/// Server that runs one script for each connection, in turn. It fails if a script does.
pub(in crate::source::imap) struct ScriptServer {
    pub(in crate::source::imap) port: u16,
    task: JoinHandle<()>,
}

impl ScriptServer {
    /// Starts a server. At the end of a script it closes the connection.
    pub(in crate::source::imap) async fn start(scripts: Vec<Vec<ScriptStep>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let task = spawn_local(async move {
            let mut connections = Vec::new();
            for script in scripts {
                let (stream, _address) = listener.accept().await.unwrap();
                // A paused clock does not wait until the kernel sends what it holds back.
                stream.set_nodelay(true).unwrap();
                connections.push(spawn_local(async move { drop(play(stream, script).await) }));
            }
            drop(listener);
            for connection in connections {
                connection.await.unwrap();
            }
        });
        Self { port, task }
    }

    /// Waits until all scripts have been played.
    pub(in crate::source::imap) async fn finish(self) {
        let finished = timeout(SCRIPT_DURATION_MAX, self.task).await;
        finished.expect("all scripts end").expect("no script fails");
    }
}

/// Runs a test that starts local tasks.
pub(in crate::source::imap) async fn run_locally(test: impl Future<Output = ()>) {
    LocalSet::new().run_until(test).await;
}

/// Plays a script over a connection, and returns the connection.
pub(in crate::source::imap) async fn play<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    script: Vec<ScriptStep>,
) -> S {
    let mut stream = BufReader::new(stream);
    for step in script {
        let mut line = String::new();
        match step {
            ScriptStep::Say(lines) => {
                let lines = lines.split('\n').map(|line| format!("{line}\r\n"));
                send(&mut stream, lines.collect::<String>().as_bytes()).await;
            }
            ScriptStep::SayBytes(bytes) => send(&mut stream, bytes).await,
            ScriptStep::ExpectBytes(expected) => {
                let mut bytes = vec![0; expected.len()];
                stream.read_exact(&mut bytes).await.unwrap();
                assert_eq!(bytes, expected);
            }
            ScriptStep::Expect(expected) => {
                stream.read_line(&mut line).await.unwrap();
                assert_eq!(line, format!("{expected}\r\n"));
            }
            ScriptStep::ExpectStart(expected) => {
                stream.read_line(&mut line).await.unwrap();
                assert!(line.starts_with(expected), "{line:?} starts with {expected:?}");
            }
            ScriptStep::Sleep(duration) => sleep(duration).await,
            ScriptStep::UntilClosed => {
                // A client may reset the connection, too.
                let _closed = stream.read_line(&mut line).await;
                assert_eq!(line, "", "the client closes the connection");
            }
        }
    }
    stream.into_inner()
}

async fn send(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) {
    stream.write_all(bytes).await.unwrap();
    stream.flush().await.unwrap();
}

/// Returns the configuration of a server with a certificate that nobody trusts.
pub(in crate::source::imap) fn self_signed_config() -> Arc<ServerConfig> {
    let certificate =
        CertificateDer::from(&include_bytes!("../../../../tests/fixtures/self-signed.crt.der")[..]);
    let key = PrivatePkcs8KeyDer::from(
        &include_bytes!("../../../../tests/fixtures/self-signed.key.der")[..],
    );
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key.into())
        .unwrap();
    Arc::new(config)
}

/// Returns the options of an account on this host, without encryption.
pub(in crate::source::imap) fn plain_options(port: u16) -> ImapOptions {
    ImapOptions {
        name: "mail".to_owned(),
        account: None,
        username: "me@example.com".to_owned(),
        host: "127.0.0.1".to_owned(),
        port,
        security: Security::Plain,
        mechanism: LoginMechanism::Password,
        folders: FolderFilter::default(),
        since: None,
        connections: 2,
        limits: RequestLimits {
            retry_policy: RetryPolicy::new("request", BackoffConfig::FAST),
            connect_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(5),
            total_timeout: Duration::from_secs(60),
            min_rate: 0,
            max_response: 1 << 20,
            max_document: 1 << 20,
        },
        network: ImapNetwork { proxy_mode: ProxyMode::Direct, metrics: MetricsHandle::default() },
    }
}

/// Returns an account whose secret is [`SECRET`], without a rate limit.
pub(in crate::source::imap) fn account(options: ImapOptions) -> Rc<ImapAccount> {
    account_with(options, Rc::new(Unlimited), no_tls)
}

pub(in crate::source::imap) fn account_with(
    options: ImapOptions,
    limiter: Rc<dyn RequestLimiter>,
    tls_config: TlsConfigProvider,
) -> Rc<ImapAccount> {
    let credential = Credential::new(|| Box::pin(async { Ok(SecretString::from(SECRET)) }));
    Rc::new(ImapAccount::new(options, Rc::new(credential), limiter, tls_config))
}

pub(in crate::source::imap) fn no_tls() -> Result<Arc<ClientConfig>, String> {
    Err("this test needs no TLS".to_owned())
}
