//! Embedded mailbox service: server on loopback with generated mail and planned faults, over JMAP,
//! over IMAP, or over the REST API of a provider.
//!
//! ```text
//! faults ──▶ service ◀── mailbox
//!              ▲ ▲
//!           imap rest
//! ```
//!
//! `service` speaks JMAP, and holds what all protocols share. `cynosure demo` extracts the mailbox,
//! users can try commands on it by hand, and tests and benchmarks run against it. Mail is generated
//! when it is requested and never stored.

mod accept;
mod base64;
mod bitmap;
mod config;
mod credential;
mod faults;
mod imap;
mod kind;
mod mailbox;
mod rest;
mod rng;
mod service;
mod web_session;

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::{Arc, MutexGuard};
use std::thread::JoinHandle;

use tokio::runtime::{self, Runtime};
use tokio::sync::oneshot;

use self::credential::{CredentialFile, CredentialFormat, DemoCredential};
use self::faults::FaultPlan;
use self::service::DemoService;

pub use self::config::demo_config;
pub use self::faults::FaultLevel;
pub use self::kind::DemoKind;
pub use self::mailbox::{GeneratedMailbox, ITEMS_MAX};
pub use self::service::DemoCounters;

/// Options of the demo service: protocol, mailbox, faults, address and credentials.
#[derive(Clone, Debug)]
pub struct DemoOptions {
    pub kind: DemoKind,
    /// Number of threads; at most [`ITEMS_MAX`].
    pub items: u32,
    /// Seed. The same seed and `items` give the same mail and the same faults.
    pub seed: u64,
    pub faults: FaultLevel,
    /// Address to listen on. Port 0 selects a free port.
    pub listen: SocketAddr,
    /// File that receives the bearer token and each renewed one, for mail.ru the session. Without a
    /// file, no client knows the token.
    pub token_file: Option<PathBuf>,
    /// User name for HTTP Basic and for IMAP. Its password is always accepted besides the token,
    /// and never expires. For Gmail and Graph it is a token, for mail.ru the token and each cookie.
    pub username: String,
    pub password: String,
}

impl Default for DemoOptions {
    fn default() -> Self {
        Self {
            kind: DemoKind::Jmap,
            items: 2_000,
            seed: 1,
            faults: FaultLevel::None,
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            token_file: None,
            username: "demo@example.com".to_owned(),
            password: "demo".to_owned(),
        }
    }
}

/// Running demo service. It stops when this value is dropped.
#[derive(Debug)]
pub struct DemoServer {
    kind: DemoKind,
    address: SocketAddr,
    token_file: Option<PathBuf>,
    username: String,
    service: Arc<DemoService>,
    /// Shutdown signal, given by dropping it.
    shutdown: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Starts the service on a separate thread and runtime, so that it does not slow the caller's.
///
/// # Errors
///
/// If `items` exceeds [`ITEMS_MAX`], the address cannot be bound, or the token file cannot be
/// written.
pub fn start(options: DemoOptions) -> io::Result<DemoServer> {
    let DemoOptions { kind, items, seed, faults, listen, token_file, username, password } = options;
    if ITEMS_MAX < items {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("a mailbox of {items} threads is too large; the maximum is {ITEMS_MAX}"),
        ));
    }
    let listener = TcpListener::bind(listen).map_err(|error| {
        io::Error::new(error.kind(), format!("cannot listen on {listen}: {error}"))
    })?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;

    let mailbox = GeneratedMailbox::new(seed, items);
    let mut plan = FaultPlan::new(faults, seed, mailbox.message_count());
    if kind == DemoKind::Mailru && faults != FaultLevel::None {
        // A session at a website ends now and then, and only its user can renew it.
        plan.plan_token_expiry(mailbox.message_count());
    }
    let format = match kind {
        DemoKind::Mailru => {
            CredentialFormat::Session { host: address.ip().to_string(), email: username.clone() }
        }
        DemoKind::Jmap
        | DemoKind::Imap
        | DemoKind::PlainImap
        | DemoKind::Gmail
        | DemoKind::Graph => CredentialFormat::Token,
    };
    let file = token_file.clone().map(|path| CredentialFile { path, format });
    let credential = DemoCredential::issue(seed, file)?;
    let service = DemoService::new(kind, mailbox, plan, credential, &username, &password);
    let service = Arc::new(service);

    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let (shutdown_sender, shutdown_receiver) = oneshot::channel();
    let thread = std::thread::Builder::new().name("demo".to_owned()).spawn({
        let service = Arc::clone(&service);
        move || run(&runtime, kind, service, listener, shutdown_receiver)
    })?;
    Ok(DemoServer {
        kind,
        address,
        token_file,
        username,
        service,
        shutdown: Some(shutdown_sender),
        thread: Some(thread),
    })
}

impl DemoServer {
    /// Returns the address it listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Locks the mailbox. The service waits as long as the guard lives.
    pub fn lock_mailbox(&self) -> MutexGuard<'_, GeneratedMailbox> {
        self.service.lock_mailbox()
    }

    #[must_use]
    pub fn counters(&self) -> DemoCounters {
        self.service.counters()
    }

    /// Closes all connections and waits for the service's thread.
    pub fn shut_down(self) {
        drop(self);
    }

    fn kind(&self) -> DemoKind {
        self.kind
    }

    fn token_file(&self) -> Option<&Path> {
        self.token_file.as_deref()
    }

    fn username(&self) -> &str {
        &self.username
    }
}

impl Drop for DemoServer {
    fn drop(&mut self) {
        drop(self.shutdown.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("demo service thread panicked");
        }
    }
}

fn run(
    runtime: &Runtime,
    kind: DemoKind,
    service: Arc<DemoService>,
    listener: TcpListener,
    shutdown_receiver: oneshot::Receiver<()>,
) {
    runtime.block_on(async {
        match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => tokio::select! {
                // Resolves when the sender is dropped; nothing is ever sent.
                _ = shutdown_receiver => {}
                never = serve(kind, service, listener) => match never {},
            },
            Err(error) => tracing::error!(%error, "demo service cannot listen"),
        }
    });
}

async fn serve(
    kind: DemoKind,
    service: Arc<DemoService>,
    listener: tokio::net::TcpListener,
) -> Infallible {
    match kind {
        DemoKind::Jmap => service.serve(listener).await,
        DemoKind::Imap | DemoKind::PlainImap => imap::serve(service, kind, listener).await,
        DemoKind::Gmail => rest::serve_gmail(service, listener).await,
        DemoKind::Graph => rest::serve_graph(service, listener).await,
        DemoKind::Mailru => rest::serve_mailru(service, listener).await,
    }
}
