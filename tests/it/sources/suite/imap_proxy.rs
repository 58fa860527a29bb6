//! TCP proxy in front of an IMAP server, which replaces the responses to fetches by faults.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use super::fault::Fault;
use super::rig::Unsupported;

const BUFFER_BYTES: usize = 64 * 1024;

/// Client half of a connection, to which both the server and a fault write.
type ClientWriter = tokio::sync::Mutex<OwnedWriteHalf>;

/// Proxy of one server. It runs until the test's runtime ends.
pub(crate) struct ImapFaultProxy {
    pub(crate) address: SocketAddr,
    pub(crate) state: Arc<ImapProxyState>,
}

/// State that the connections share.
#[derive(Default)]
pub(crate) struct ImapProxyState {
    /// Its waiters are all connections, which end when they are notified.
    pub(crate) connections_end: Notify,
    faults: Mutex<VecDeque<ImapFault>>,
    fetch_count: AtomicUsize,
}

/// Response that replaces that of the server. A size is in bytes.
enum ImapFault {
    /// Reply without its tag.
    Refusal(String),
    /// Half of a body of this size. The connection ends.
    CutBody(u64),
    /// Half of a body of this size. The connection stays open and silent.
    StalledBody(u64),
}

/// Command that fetches bodies.
struct BodyFetch {
    tag: String,
    first_uid: String,
}

impl ImapFaultProxy {
    pub(crate) async fn start(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has free ports");
        let address = listener.local_addr().expect("a bound socket has an address");
        let state = Arc::<ImapProxyState>::default();
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let state = Arc::clone(&shared);
                tokio::spawn(async move { state.serve(client, server).await });
            }
        });
        Self { address, state }
    }

    /// Replaces the response to the next fetch of a body by a fault. The client must have no other
    /// command in flight on that connection.
    pub(crate) fn inject(&self, fault: Fault) -> Result<(), Unsupported> {
        let fault = ImapFault::new(fault)?;
        self.state.faults.lock().unwrap_or_else(PoisonError::into_inner).push_back(fault);
        Ok(())
    }

    /// Returns the number of commands that fetched bodies.
    pub(crate) fn fetch_count(&self) -> usize {
        self.state.fetch_count.load(Ordering::Relaxed)
    }
}

impl ImapProxyState {
    async fn serve(&self, client: TcpStream, server: SocketAddr) {
        let end = self.connections_end.notified();
        tokio::select! {
            biased;
            () = end => {}
            // A broken connection just ends, as on any network.
            _ = self.forward(client, server) => {}
        }
    }

    /// Forwards the bytes of both sides, until one of them closes the connection.
    async fn forward(&self, client: TcpStream, server: SocketAddr) -> io::Result<()> {
        let server = TcpStream::connect(server).await?;
        // The proxy must not delay small packets itself.
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        let to_client = ClientWriter::new(to_client);
        tokio::select! {
            result = self.forward_commands(from_client, to_server, &to_client) => result,
            result = forward_responses(from_server, &to_client) => result,
        }
    }

    async fn forward_commands(
        &self,
        from_client: OwnedReadHalf,
        mut to_server: OwnedWriteHalf,
        to_client: &ClientWriter,
    ) -> io::Result<()> {
        let mut from_client = BufReader::new(from_client);
        let mut line = Vec::new();
        while 0 < from_client.read_until(b'\n', &mut line).await? {
            match self.next_fault(&line) {
                None => to_server.write_all(&line).await?,
                Some((fetch, fault)) => {
                    to_client.lock().await.write_all(&fault.response(&fetch)).await?;
                    match fault {
                        ImapFault::Refusal(_) => {}
                        ImapFault::CutBody(_) => break,
                        ImapFault::StalledBody(_) => {
                            tokio::io::copy(&mut from_client, &mut tokio::io::sink()).await?;
                        }
                    }
                }
            }
            line.clear();
        }
        Ok(())
    }

    /// Counts a command that fetches bodies, and returns the fault that it gets, if one is due.
    fn next_fault(&self, line: &[u8]) -> Option<(BodyFetch, ImapFault)> {
        let fetch = BodyFetch::parse(line)?;
        self.fetch_count.fetch_add(1, Ordering::Relaxed);
        let fault = self.faults.lock().unwrap_or_else(PoisonError::into_inner).pop_front()?;
        Some((fetch, fault))
    }
}

impl ImapFault {
    fn new(fault: Fault) -> Result<Self, Unsupported> {
        match fault {
            // Microsoft 365 names the wait in its text; no code has one.
            Fault::RateLimited { retry_after: Some(wait) } => {
                let millis = wait.as_millis();
                let text = format!("Suggested Backoff Time: {millis} milliseconds");
                Ok(Self::Refusal(format!("BAD Request is throttled. {text}")))
            }
            Fault::RateLimited { retry_after: None } => {
                Ok(Self::Refusal("NO [THROTTLED] Slow down.".to_owned()))
            }
            Fault::Forbidden => Ok(Self::Refusal("NO [NOPERM] Access denied.".to_owned())),
            Fault::CutBody { size } => Ok(Self::CutBody(size)),
            Fault::StalledBody { size } => Ok(Self::StalledBody(size)),
            Fault::WrongLength { .. } => {
                Err(Unsupported("a literal has the length that it announces"))
            }
        }
    }

    /// Returns the bytes that are sent in place of the server's response.
    fn response(&self, fetch: &BodyFetch) -> Vec<u8> {
        let BodyFetch { tag, first_uid } = fetch;
        match self {
            Self::Refusal(reply) => format!("{tag} {reply}\r\n").into_bytes(),
            Self::CutBody(size) | Self::StalledBody(size) => {
                let half = usize::try_from(size / 2).expect("the document fits into memory");
                let head = format!("* 1 FETCH (UID {first_uid} BODY[] {{{size}}}\r\n");
                [head.into_bytes(), vec![b'x'; half]].concat()
            }
        }
    }
}

impl BodyFetch {
    /// Parses a line of a client: `TAG UID FETCH 7,9 (UID BODY.PEEK[])`. `None` for any other.
    fn parse(line: &[u8]) -> Option<Self> {
        let line = str::from_utf8(line).ok()?;
        let mut words = line.split_whitespace();
        let [tag, uid, fetch, set] = [(); 4].map(|()| words.next());
        let is_body_fetch = (uid, fetch) == (Some("UID"), Some("FETCH")) && line.contains("BODY");
        let first_uid = set?.split([',', ':']).next()?;
        is_body_fetch.then_some(Self { tag: tag?.to_owned(), first_uid: first_uid.to_owned() })
    }
}

async fn forward_responses(
    mut from_server: OwnedReadHalf,
    to_client: &ClientWriter,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let length = from_server.read(&mut buffer).await?;
        if length == 0 {
            return Ok(());
        }
        to_client.lock().await.write_all(&buffer[..length]).await?;
    }
}
