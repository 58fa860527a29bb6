//! REST APIs of providers, for reading a mailbox: Gmail, Microsoft Graph, and the website of
//! mail.ru.
//!
//! ```text
//! server ──▶ api ◀── gmail, graph, mailru
//!   │         │                 │
//!   └─────────┴──▶ request ◀────┘
//! ```
//!
//! An API turns a request into an answer, and each fault into the error that its clients know. The
//! server does what all of them have in common: faults, credentials, limits and bodies. The API of
//! mail.ru is not documented; its form here is that of public clients.

mod api;
mod gmail;
mod graph;
mod hex_id;
mod mailru;
mod request;
mod server;

use std::convert::Infallible;
use std::sync::Arc;

use tokio::net::TcpListener;

use self::gmail::GmailApi;
use self::graph::GraphApi;
use self::mailru::MailruApi;
use self::server::DemoRestServer;
use super::service::DemoService;

/// Serves connections until it is cancelled, with the API of Gmail.
pub(super) async fn serve_gmail(service: Arc<DemoService>, listener: TcpListener) -> Infallible {
    let api = GmailApi::new(service.username().to_owned());
    DemoRestServer::new(service, Box::new(api)).serve(listener).await
}

/// Serves connections until it is cancelled, with the API of Microsoft Graph.
pub(super) async fn serve_graph(service: Arc<DemoService>, listener: TcpListener) -> Infallible {
    let api = GraphApi::new(service.username().to_owned());
    DemoRestServer::new(service, Box::new(api)).serve(listener).await
}

/// Serves connections until it is cancelled, with the API of mail.ru.
pub(super) async fn serve_mailru(service: Arc<DemoService>, listener: TcpListener) -> Infallible {
    let api = MailruApi::new(service.username().to_owned());
    DemoRestServer::new(service, Box::new(api)).serve(listener).await
}
