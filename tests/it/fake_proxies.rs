//! Tiny proxies that do as they are told, and remember what they were asked.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cynosure::engine::ProxyPolicy;
use cynosure::source::http::{Proxy, ProxyMode, ProxyPoolHealth};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use url::Url;

/// What a proxy adds to each request that it can read.
pub(crate) const VIA_HEADER: &str = "via: 1.1 tiny";

/// What a proxy does when it is asked.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ProxyBehaviour {
    /// Leads to the one server it knows, whatever that is called.
    Forward(SocketAddr),
    /// Answers by itself: HTTP with these bytes, SOCKS with this code.
    Reply(&'static [u8]),
}

/// A proxy. It listens until the test's runtime ends.
pub(crate) struct FakeProxy {
    pub(crate) url: Url,
    received: Arc<Mutex<Vec<String>>>,
}

impl FakeProxy {
    pub(crate) async fn http(manner: ProxyBehaviour) -> Self {
        Self::start("http", move |stream, log| serve_http(stream, manner, log)).await
    }

    pub(crate) async fn socks(manner: ProxyBehaviour) -> Self {
        Self::start("socks5", move |stream, log| serve_socks(stream, manner, log)).await
    }

    async fn start<F: Future<Output = Option<()>> + Send + 'static>(
        scheme: &str,
        serve: impl Fn(TcpStream, Arc<Mutex<Vec<String>>>) -> F + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("{scheme}://{}", listener.local_addr().unwrap()).parse().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&log)));
            }
        });
        Self { url, received: asked }
    }

    /// The head of each request, or the host and port of each SOCKS connection.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.received.lock().unwrap().clone()
    }
}

/// A URL at which nobody listens.
pub(crate) async fn unreachable_url(scheme: &str) -> Url {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("{scheme}://{}", listener.local_addr().unwrap()).parse().unwrap()
}

/// The pool of these proxies, and its health.
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

/// How often each proxy was blamed.
pub(crate) fn failure_counts(health: &ProxyPoolHealth) -> Vec<u64> {
    health.snapshot().into_iter().map(|(_, proxy)| proxy.total_failures).collect()
}

async fn serve_http(
    mut stream: TcpStream,
    manner: ProxyBehaviour,
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
    let address = match manner {
        ProxyBehaviour::Forward(address) => address,
        ProxyBehaviour::Reply(answer) => return stream.write_all(answer).await.ok(),
    };
    let mut server = TcpStream::connect(address).await.ok()?;
    if head.starts_with("CONNECT ") {
        stream.write_all(b"HTTP/1.1 200 Go on\r\n\r\n").await.ok()?;
        copy_bidirectional(&mut stream, &mut server).await.ok()?;
        return Some(());
    }
    // From the absolute form to the one of origins (RFC 9112 §3.2).
    let (method, url) = head.split_once(' ').unwrap();
    let path = url.splitn(4, '/').nth(3).unwrap();
    let head = format!("{method} /{path}").replacen("\r\n", &format!("\r\n{VIA_HEADER}\r\n"), 1);
    server.write_all(head.as_bytes()).await.ok()?;
    server.write_all(&rest).await.ok()?;

    let ((mut asking, mut answering), (mut from, mut to)) = (stream.split(), server.split());
    let (_asked, answered) = tokio::join!(
        async {
            copy(&mut asking, &mut to).await.ok();
            to.shutdown().await.ok()
        },
        async {
            // One request per connection: the next one has another absolute form to be read.
            let mut head = vec![0; "HTTP/1.1 200".len()];
            from.read_exact(&mut head).await.ok()?;
            let mut reason = Vec::new();
            while !reason.ends_with(b"\r\n") {
                reason.push(from.read_u8().await.ok()?);
            }
            let head = [&head[..], &reason, b"Connection: close\r\n"].concat();
            answering.write_all(&head).await.ok()?;
            copy(&mut from, &mut answering).await.ok()
        }
    );
    answered.map(drop)
}

/// SOCKS5 without a login, to a name (RFC 1928).
async fn serve_socks(
    mut stream: TcpStream,
    manner: ProxyBehaviour,
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
    match manner {
        ProxyBehaviour::Reply(answer) => stream.write_all(&reply(answer[0])).await.ok(),
        ProxyBehaviour::Forward(address) => {
            let mut server = TcpStream::connect(address).await.ok()?;
            stream.write_all(&reply(0)).await.ok()?;
            copy_bidirectional(&mut stream, &mut server).await.ok()?;
            Some(())
        }
    }
}
