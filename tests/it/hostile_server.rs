//! HTTP server that sends exactly the bytes of a test, and records each request.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use url::Url;

/// One action on a connection.
#[derive(Clone, Debug)]
pub(crate) enum ConnectionAction {
    Send(Vec<u8>),
    /// Sends the bytes one by one, with a pause before each.
    SendSlowly(Vec<u8>, Duration),
    /// Sends the bytes repeatedly, without end.
    SendRepeatedly(Vec<u8>),
    /// Sends the request to another server, and its response back until it closes the connection.
    Forward(SocketAddr),
    /// Does the same with another request in its place.
    ForwardAs(SocketAddr, ReceivedRequest),
    /// Waits until the test sends `true`.
    Wait(watch::Receiver<bool>),
    /// Sends nothing more and keeps the connection open.
    StopResponding,
    /// Closes the connection.
    Close,
    /// Resets the connection, as a crashed process does.
    Reset,
}

/// Received request.
#[derive(Clone, Debug)]
pub(crate) struct ReceivedRequest {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl ReceivedRequest {
    pub(crate) fn path(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }
}

/// Hostile server. It listens until the test's runtime ends.
pub(crate) struct HostileServer {
    pub(crate) url: Url,
    received: Arc<Mutex<Vec<ReceivedRequest>>>,
}

impl HostileServer {
    /// Starts a server that performs the actions of `respond` for each request. Its first argument
    /// is the number of requests received before.
    pub(crate) async fn start(
        respond: impl Fn(usize, &ReceivedRequest) -> Vec<ConnectionAction> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
        let received = Arc::new(Mutex::new(Vec::new()));
        let (respond, log) = (Arc::new(respond), Arc::clone(&received));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (respond, log) = (Arc::clone(&respond), Arc::clone(&log));
                tokio::spawn(async move { serve(stream, &*respond, &log).await });
            }
        });
        Self { url, received }
    }

    /// Starts a server that responds to each request with the same bytes, and closes.
    pub(crate) async fn always_sending(bytes: impl Into<Vec<u8>>) -> Self {
        let actions = vec![ConnectionAction::Send(bytes.into()), ConnectionAction::Close];
        Self::start(move |_, _| actions.clone()).await
    }

    /// Starts a server that sends these bytes before it has a request, and closes.
    pub(crate) async fn sending_before_request(bytes: &'static [u8]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}/", listener.local_addr().unwrap()).parse().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                stream.write_all(bytes).await.unwrap();
                // Closing with unread data would reset the connection.
                let mut hello = [0; 4096];
                let _length = stream.read(&mut hello).await.unwrap();
            }
        });
        Self { url, received: Arc::default() }
    }

    pub(crate) fn requests(&self) -> Vec<ReceivedRequest> {
        self.received.lock().unwrap().clone()
    }
}

/// Returns a valid response with a Content-Length.
pub(crate) fn plain_response(status: &str, headers: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let mut bytes = format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n", body.len())
        .into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

async fn serve(
    mut stream: TcpStream,
    respond: &(impl Fn(usize, &ReceivedRequest) -> Vec<ConnectionAction> + Send + Sync),
    log: &Mutex<Vec<ReceivedRequest>>,
) {
    while let Some(request) = read_request(&mut stream).await {
        let requests_before = {
            let mut log = log.lock().unwrap();
            log.push(request.clone());
            log.len() - 1
        };
        for action in respond(requests_before, &request) {
            let result = match action {
                ConnectionAction::Send(bytes) => stream.write_all(&bytes).await,
                ConnectionAction::SendSlowly(bytes, pause) => {
                    send_slowly(&mut stream, &bytes, pause).await
                }
                ConnectionAction::SendRepeatedly(bytes) => {
                    send_repeatedly(&mut stream, &bytes).await
                }
                ConnectionAction::Forward(server) => forward(&mut stream, server, &request).await,
                ConnectionAction::ForwardAs(server, replacing) => {
                    forward(&mut stream, server, &replacing).await
                }
                ConnectionAction::Wait(mut resume) => {
                    resume.wait_for(|is_resumed| *is_resumed).await.unwrap();
                    Ok(())
                }
                ConnectionAction::StopResponding => std::future::pending().await,
                ConnectionAction::Close => return,
                ConnectionAction::Reset => {
                    stream.set_zero_linger().unwrap();
                    return;
                }
            };
            if result.is_err() {
                return;
            }
        }
    }
}

async fn send_slowly(stream: &mut TcpStream, bytes: &[u8], pause: Duration) -> std::io::Result<()> {
    for byte in bytes {
        tokio::time::sleep(pause).await;
        stream.write_all(&[*byte]).await?;
    }
    Ok(())
}

async fn send_repeatedly(stream: &mut TcpStream, bytes: &[u8]) -> std::io::Result<()> {
    loop {
        stream.write_all(bytes).await?;
    }
}

/// Asks the other server to close the connection after its response, which ends it in any framing.
async fn forward(
    client: &mut TcpStream,
    server: SocketAddr,
    request: &ReceivedRequest,
) -> std::io::Result<()> {
    let (request_line, headers) = request.head.split_once("\r\n").unwrap();
    let head = format!("{request_line}\r\nConnection: close\r\n{headers}");
    let mut server = TcpStream::connect(server).await?;
    server.write_all(&[head.as_bytes(), request.body.as_slice()].concat()).await?;
    tokio::io::copy(&mut server, client).await?;
    Ok(())
}

async fn read_request(stream: &mut TcpStream) -> Option<ReceivedRequest> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let mut body = bytes.split_off(end);
    let head = String::from_utf8(bytes).unwrap();
    let length = head
        .lines()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok())
        .unwrap_or(0);
    while body.len() < length {
        if stream.read_buf(&mut body).await.ok()? == 0 {
            return None;
        }
    }
    Some(ReceivedRequest { head, body })
}
