//! Accepting of connections, the same for every protocol.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

/// Pause after a failed accept, which means that file descriptors or memory have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// Serves each connection in a separate task until it is cancelled.
pub(super) async fn accept_connections<F>(
    listener: TcpListener,
    serve: impl Fn(TcpStream, SocketAddr) -> F,
) -> Infallible
where
    F: Future<Output = ()> + Send + 'static,
{
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                // Without it, the second part of a response waits for the acknowledgement of the
                // first.
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, %peer, "cannot set TCP_NODELAY");
                }
                tokio::spawn(serve(stream, peer));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
