//! IMAP4rev1 server (RFC 3501) for reading a mailbox.
//!
//! ```text
//! session ──▶ folders, fetch ──▶ server ──▶ faults
//! ```
//!
//! The UID of a message is its number plus one, the same in each of its folders. A session sees
//! changes of its folder at the end of a command, as with Dovecot. Of CONDSTORE (RFC 7162) only
//! HIGHESTMODSEQ exists. `XDEMO deliver 10` is a control command, as `/demo/deliver?n=10` is over
//! HTTP.

mod command;
mod faults;
mod fetch;
mod folders;
mod server;
mod session;
mod uid_set;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};

use self::server::DemoImapServer;
use self::session::DemoImapSession;
use super::accept::accept_connections;
use super::kind::DemoKind;
use super::service::DemoService;

/// Serves connections until it is cancelled.
pub(super) async fn serve(
    service: Arc<DemoService>,
    kind: DemoKind,
    listener: TcpListener,
) -> Infallible {
    let server = Arc::new(DemoImapServer::new(service, kind));
    accept_connections(listener, |stream, peer| serve_connection(Arc::clone(&server), stream, peer))
        .await
}

async fn serve_connection(server: Arc<DemoImapServer>, stream: TcpStream, peer: SocketAddr) {
    if let Err(error) = DemoImapSession::new(server, stream).run().await {
        tracing::debug!(%error, %peer, "connection ended early");
    }
}
