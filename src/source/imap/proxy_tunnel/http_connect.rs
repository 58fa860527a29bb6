//! Tunnels through HTTP proxies: CONNECT (RFC 9110 §9.3.6).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::error::{PROXY_AUTH_REQUIRED, TunnelError};

/// Maximum bytes of the proxy's response head. A few headers take less than 1 KiB.
const HEAD_BYTES_MAX: usize = 8 * 1024;

/// Opens a tunnel to `address`, a host and a port.
pub(super) async fn open_tunnel(
    stream: &mut TcpStream,
    address: &str,
    login: Option<&(String, SecretString)>,
) -> Result<(), TunnelError> {
    let mut head = format!("CONNECT {address} HTTP/1.1\r\nHost: {address}\r\n");
    if let Some((username, password)) = login {
        let credentials = BASE64.encode(format!("{username}:{}", password.expose_secret()));
        head.push_str(&format!("Proxy-Authorization: Basic {credentials}\r\n"));
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes()).await?;
    let head = read_head(stream).await?;
    match parse_status(&head) {
        Some(200..=299) => Ok(()),
        Some(407) => Err(TunnelError::ProxyFault(PROXY_AUTH_REQUIRED.to_owned())),
        // Such as a 502 for a server that is down.
        Some(status) => {
            Err(TunnelError::Unclear(format!("the proxy cannot reach {address}: status {status}")))
        }
        None => Err(TunnelError::ProxyFault("the proxy does not speak HTTP".to_owned())),
    }
}

/// Reads the head byte by byte, because the bytes after it come from the server.
async fn read_head(stream: &mut TcpStream) -> Result<Vec<u8>, TunnelError> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if HEAD_BYTES_MAX <= head.len() {
            let message = format!("the proxy's response is longer than {HEAD_BYTES_MAX} bytes");
            return Err(TunnelError::ProxyFault(message));
        }
        head.push(stream.read_u8().await?);
    }
    Ok(head)
}

/// Returns the status of a head such as `HTTP/1.1 200 OK`.
fn parse_status(head: &[u8]) -> Option<u16> {
    let text = str::from_utf8(head.split(|byte| *byte == b'\r').next()?).ok()?;
    let (version, rest) = text.split_once(' ')?;
    let status = rest.split(' ').next()?;
    version.starts_with("HTTP/").then(|| status.parse().ok())?
}
