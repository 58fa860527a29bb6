//! The embedded mailbox service: a JMAP server on loopback with generated mail and planned faults.
//!
//! ```text
//! faults ──▶ service ◀── mailbox
//! ```
//!
//! It is what `cynosure demo` extracts, what people play with by hand, and what tests and benchmarks run
//! against. Mail is generated when it is asked for and never held.

mod base64;
mod bitmap;
mod chance;
mod configuration;
mod credential;
mod faults;
mod mailbox;
mod service;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::{Arc, MutexGuard};
use std::thread::JoinHandle;

use tokio::runtime::{self, Runtime};
use tokio::sync::oneshot;

use self::credential::Credential;
use self::faults::Plan;
use self::service::Service;

pub use self::configuration::configuration;
pub use self::faults::Faults;
pub use self::mailbox::{ITEMS_MAX, Mailbox};
pub use self::service::Counters;

/// What to serve, where, and to whom.
#[derive(Clone, Debug)]
pub struct Options {
    /// Threads; at most [`ITEMS_MAX`].
    pub items: u32,
    /// The same seed and items give the same mail and the same faults.
    pub seed: u64,
    pub faults: Faults,
    /// Port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where the bearer token is put, and each one that follows. Without a file nobody knows the token.
    pub token_file: Option<PathBuf>,
    /// For HTTP Basic, which is always accepted beside the token and never expires.
    pub username: String,
    pub password: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            items: 2_000,
            seed: 1,
            faults: Faults::None,
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            token_file: None,
            username: "demo@example.com".to_owned(),
            password: "demo".to_owned(),
        }
    }
}

/// A running service; it ends when this is dropped.
#[derive(Debug)]
pub struct Demo {
    address: SocketAddr,
    token_file: Option<PathBuf>,
    username: String,
    service: Arc<Service>,
    /// Dropping it is the signal to end.
    running: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Starts the service on a thread and a runtime of its own, so that it slows nobody else's.
///
/// # Errors
///
/// If the address can't be listened on, or the token file can't be written.
pub fn start(options: Options) -> io::Result<Demo> {
    let Options { items, seed, faults, listen, token_file, username, password } = options;
    if ITEMS_MAX < items {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("a mailbox of {items} threads is too large; {ITEMS_MAX} is the most"),
        ));
    }
    let listener = TcpListener::bind(listen).map_err(|error| {
        io::Error::new(error.kind(), format!("cannot listen on {listen}: {error}"))
    })?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;

    let mailbox = Mailbox::new(seed, items);
    let plan = Plan::new(faults, seed, mailbox.messages());
    let credential = Credential::issue(seed, token_file.clone())?;
    let service = Arc::new(Service::new(mailbox, plan, credential, &username, &password));

    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let (running, stopped) = oneshot::channel();
    let thread = std::thread::Builder::new().name("demo".to_owned()).spawn({
        let service = Arc::clone(&service);
        move || run(&runtime, service, listener, stopped)
    })?;
    Ok(Demo {
        address,
        token_file,
        username,
        service,
        running: Some(running),
        thread: Some(thread),
    })
}

impl Demo {
    /// Returns the address it listens on.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// Locks the mailbox; the service waits for as long as the guard lives.
    pub fn mailbox(&self) -> MutexGuard<'_, Mailbox> {
        self.service.mailbox()
    }

    #[must_use]
    pub fn counters(&self) -> Counters {
        self.service.counters()
    }

    /// Ends all connections and waits for the service's thread.
    pub fn stop(self) {
        drop(self);
    }

    fn token_file(&self) -> Option<&Path> {
        self.token_file.as_deref()
    }

    fn username(&self) -> &str {
        &self.username
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        drop(self.running.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the demo service panicked");
        }
    }
}

fn run(
    runtime: &Runtime,
    service: Arc<Service>,
    listener: TcpListener,
    stopped: oneshot::Receiver<()>,
) {
    runtime.block_on(async {
        match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => tokio::select! {
                // Either way it ends: nothing is ever sent.
                _ = stopped => {}
                never = service.serve(listener) => match never {},
            },
            Err(error) => tracing::error!(%error, "cannot listen"),
        }
    });
}
