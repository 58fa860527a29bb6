//! Fake HTTP and SOCKS5 proxies that record each request.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cynosure::source::http::{Proxy, ProxyMode, ProxyPoolHealth};
use cynosure_engine::ProxyPolicy;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use url::Url;

/// Header added to each unencrypted request.
pub(crate) const VIA_HEADER: &str = "via: 1.1 tiny";

/// Behaviour of a proxy on each request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ProxyBehaviour {
    /// Forwards to this server, whatever host is requested.
    Forward(SocketAddr),
    /// Responds itself: over HTTP with these bytes, over SOCKS with the first byte as reply code.
    Respond(&'static [u8]),
}

/// Fake proxy. It listens until the test's runtime ends.
pub(crate) struct FakeProxy {
    pub(crate) url: Url,
    received: Arc<Mutex<Vec<String>>>,
}

impl FakeProxy {
    pub(crate) async fn http(behaviour: ProxyBehaviour) -> Self {
        Self::start("http", move |stream, log| serve_http(stream, behaviour, log)).await
    }

    pub(crate) async fn socks(behaviour: ProxyBehaviour) -> Self {
        Self::start("socks5", move |stream, log| serve_socks(stream, behaviour, log)).await
    }

    async fn start<F: Future<Output = Option<()>> + Send + 'static>(
        scheme: &str,
        serve: impl Fn(TcpStream, Arc<Mutex<Vec<String>>>) -> F + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("{scheme}://{}", listener.local_addr().unwrap()).parse().unwrap();
        let received = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&received);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&log)));
            }
        });
        Self { url, received }
    }

    /// Returns the head of each request, or the host and port of each SOCKS connection.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.received.lock().unwrap().clone()
    }
}

/// Returns a URL at which nothing listens.
pub(crate) async fn unreachable_url(scheme: &str) -> Url {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("{scheme}://{}", listener.local_addr().unwrap()).parse().unwrap()
}

/// Returns a pool of these proxies, and its health.
pub(crate) fn proxy_pool(urls: &[&Url]) -> (ProxyMode, Arc<ProxyPoolHealth>) {
    let policy = ProxyPolicy {
        failure_threshold: 2,
        cooldown: Duration::from_secs(3600),
        max_cooldown: Duration::from_secs(3600),
    };
    let urls: Vec<Url> = urls.iter().map(|url| (*url).clone()).collect();
    let health = Arc::new(ProxyPoolHealth::new(policy, &urls));
    let proxies = urls.into_iter().map(|url| Proxy { url, login: None }).collect();
    (ProxyMode::Pool { proxies, health: Arc::clone(&health) }, health)
}

/// Returns the number of failures of each proxy.
pub(crate) fn failure_counts(health: &ProxyPoolHealth) -> Vec<u64> {
    health.snapshot().into_iter().map(|(_, proxy)| proxy.total_failures).collect()
}

async fn serve_http(
    mut stream: TcpStream,
    behaviour: ProxyBehaviour,
    log: Arc<Mutex<Vec<String>>>,
) -> Option<()> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let rest = bytes.split_off(end);
    let head = String::from_utf8(bytes).unwrap();
    log.lock().unwrap().push(head.clone());
    let address = match behaviour {
        ProxyBehaviour::Forward(address) => address,
        ProxyBehaviour::Respond(response) => return stream.write_all(response).await.ok(),
    };
    let mut server = TcpStream::connect(address).await.ok()?;
    if head.starts_with("CONNECT ") {
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.ok()?;
        copy_bidirectional(&mut stream, &mut server).await.ok()?;
        return Some(());
    }
    // Converts the request target from absolute form to origin form (RFC 9112 §3.2).
    let (method, url) = head.split_once(' ').unwrap();
    let path = url.splitn(4, '/').nth(3).unwrap();
    let head = format!("{method} /{path}").replacen("\r\n", &format!("\r\n{VIA_HEADER}\r\n"), 1);
    server.write_all(head.as_bytes()).await.ok()?;
    server.write_all(&rest).await.ok()?;

    let (mut client_reader, mut client_writer) = stream.split();
    let (mut server_reader, mut server_writer) = server.split();
    let (_request, response) = tokio::join!(
        async {
            copy(&mut client_reader, &mut server_writer).await.ok();
            server_writer.shutdown().await.ok()
        },
        async {
            // Only one request per connection, because only the first request target is converted.
            let mut status = vec![0; "HTTP/1.1 200".len()];
            server_reader.read_exact(&mut status).await.ok()?;
            let mut reason = Vec::new();
            while !reason.ends_with(b"\r\n") {
                reason.push(server_reader.read_u8().await.ok()?);
            }
            let head = [&status[..], &reason, b"Connection: close\r\n"].concat();
            client_writer.write_all(&head).await.ok()?;
            copy(&mut server_reader, &mut client_writer).await.ok()
        }
    );
    response.map(drop)
}

/// Serves one SOCKS5 connection without a login, to a host name or an IPv4 address (RFC 1928).
async fn serve_socks(
    mut stream: TcpStream,
    behaviour: ProxyBehaviour,
    log: Arc<Mutex<Vec<String>>>,
) -> Option<()> {
    let mut greeting = [0; 2];
    stream.read_exact(&mut greeting).await.ok()?;
    let mut methods = vec![0; usize::from(greeting[1])];
    stream.read_exact(&mut methods).await.ok()?;
    stream.write_all(&[5, 0]).await.ok()?;

    let mut request = [0; 4];
    stream.read_exact(&mut request).await.ok()?;
    let host = match request[3] {
        1 => {
            let mut address = [0; 4];
            stream.read_exact(&mut address).await.ok()?;
            std::net::Ipv4Addr::from(address).to_string()
        }
        _ => {
            let length = stream.read_u8().await.ok()?;
            let mut name = vec![0; usize::from(length)];
            stream.read_exact(&mut name).await.ok()?;
            String::from_utf8(name).unwrap()
        }
    };
    let port = stream.read_u16().await.ok()?;
    log.lock().unwrap().push(format!("{host}:{port}"));

    let reply = |code: u8| [5, code, 0, 1, 0, 0, 0, 0, 0, 0];
    match behaviour {
        ProxyBehaviour::Respond(code) => stream.write_all(&reply(code[0])).await.ok(),
        ProxyBehaviour::Forward(address) => {
            let mut server = TcpStream::connect(address).await.ok()?;
            stream.write_all(&reply(0)).await.ok()?;
            copy_bidirectional(&mut stream, &mut server).await.ok()?;
            Some(())
        }
    }
}
