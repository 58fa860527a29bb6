//! The server: a thread and a runtime of its own, so that nobody who asks holds up whoever watches.

mod auth;
mod limiter;
mod listen;
mod service;
mod write_timeout;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use futures_util::future::select_all;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tracing::{debug, warn};

pub use self::auth::Token;
pub use self::listen::{BindError, Listeners};

use self::service::BLOCKING_THREADS_MAX;
pub(super) use self::service::EndpointService;
use self::write_timeout::WriteTimeoutStream;
use crate::endpoint::view::DashboardData;

/// Connections at once; a newcomer beyond them pushes out the oldest, so that those who only hold
/// theirs keep nobody away. Half of the files that a process usually may open.
const CONNECTIONS_MAX: usize = 512;

/// The time for a request's head, and how long a connection may rest between two requests.
const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes of a request's head; those of browsers have one or two thousand.
const HEADER_BYTES_MAX: usize = 16 * 1024;

/// Headers of a request.
const HEADERS_MAX: usize = 64;

/// How long answers may go on after the end was asked for: far less than a unit has for its stop.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);

/// How often is looked though nobody asks, so that lines over time have no gaps.
const SNAPSHOT_INTERVAL: Duration = Duration::from_secs(10);

/// Pause after a failed accept, which means that files or memory have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// A server at work, until it is dropped or stopped.
#[derive(Debug)]
pub struct HttpServer {
    thread: Option<JoinHandle<()>>,
    shutdown: watch::Sender<bool>,
}

/// What it serves, and to whom.
#[derive(Debug)]
pub struct EndpointConfig {
    pub data: Arc<dyn DashboardData>,
    pub token: Option<Token>,
    /// From one address.
    pub requests_per_minute: u32,
}

impl HttpServer {
    /// Begins to serve.
    ///
    /// # Errors
    /// [`BindError`].
    pub fn start(listening: &Listeners, offer: EndpointConfig) -> Result<Self, BindError> {
        let listeners = listening.clone_for_server(offer.token.as_ref())?;
        let machine = |error| BindError::OutOfResources { error };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(BLOCKING_THREADS_MAX)
            .build()
            .map_err(machine)?;
        let (stop, stopped) = watch::channel(false);
        let body = move || {
            let service = Arc::new(EndpointService::new(offer, stopped.clone()));
            let served = runtime.block_on(async {
                let listeners =
                    listeners.into_iter().map(TcpListener::from_std).collect::<Result<_, _>>()?;
                accept_connections(listeners, &service, stopped).await;
                Ok::<(), io::Error>(())
            });
            if let Err(error) = served {
                warn!("the endpoint cannot serve: {error}");
            }
            // A look that waits for a disk must not hold up the end.
            runtime.shutdown_background();
        };
        let thread = std::thread::Builder::new().name("endpoint".to_owned()).spawn(body);
        let thread = thread.map_err(machine)?;
        Ok(Self { thread: Some(thread), shutdown: stop })
    }

    /// Ends what is being answered, for [`GOODBYE_MAX`] at most, and returns when it is over.
    pub fn shut_down(mut self) {
        self.shutdown.send_replace(true);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            warn!("the endpoint fell over before it was stopped");
        }
    }

    /// Whether it fell over.
    #[must_use]
    pub fn has_stopped(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.shutdown.send_replace(true);
    }
}

/// Takes connections until the end is asked for, then lets answers finish.
async fn accept_connections(
    listeners: Vec<TcpListener>,
    service: &Arc<EndpointService>,
    mut stopped: watch::Receiver<bool>,
) {
    let mut guests = Connections::default();
    let mut has_complained = false;
    let mut looks = interval(SNAPSHOT_INTERVAL);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !*stopped.borrow() {
        let accepts = listeners.iter().map(|listener| Box::pin(listener.accept()));
        tokio::select! {
            (accepted, ..) = select_all(accepts) => match accepted {
                Ok((stream, peer)) => {
                    has_complained = false;
                    guests.spawn(serve_connection(Arc::clone(service), stream, peer, stopped.clone()));
                }
                Err(error) => {
                    // It fails again after each pause until files are free, and a log needs that once.
                    if has_complained {
                        debug!(%error, "cannot accept a connection");
                    } else {
                        warn!("cannot accept connections, and tries again: {error}");
                    }
                    has_complained = true;
                    sleep(ACCEPT_PAUSE).await;
                }
            },
            _ = looks.tick() => guests.spawn(refresh_snapshot(Arc::clone(service))),
            Some(_) = guests.tasks.join_next() => guests.remove_finished(),
            // An error means that nobody is left to ask for the end, which is one.
            _ = stopped.changed() => break,
        }
    }
    drop(listeners);
    let all_gone = async { while guests.tasks.join_next().await.is_some() {} };
    if timeout(SHUTDOWN_TIMEOUT, all_gone).await.is_err() {
        debug!("answers were cut off at the end");
    }
}

/// The connections there are, the oldest first.
#[derive(Default)]
struct Connections {
    tasks: JoinSet<()>,
    oldest_first: VecDeque<AbortHandle>,
}

impl Connections {
    fn spawn(&mut self, conversation: impl Future<Output = ()> + Send + 'static) {
        while self.oldest_first.len() >= CONNECTIONS_MAX
            && let Some(oldest) = self.oldest_first.pop_front()
        {
            oldest.abort();
        }
        self.oldest_first.push_back(self.tasks.spawn(conversation));
    }

    fn remove_finished(&mut self) {
        self.oldest_first.retain(|guest| !guest.is_finished());
    }
}

async fn refresh_snapshot(service: Arc<EndpointService>) {
    // Whoever asks next is told why it cannot be seen.
    drop(service.snapshot().await);
}

async fn serve_connection(
    service: Arc<EndpointService>,
    stream: TcpStream,
    peer: SocketAddr,
    mut stopped: watch::Receiver<bool>,
) {
    // Without it, the second half of an answer waits for the acknowledgement of the first.
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, %peer, "cannot turn off the delay of small packets");
    }
    let answer = service_fn(|request| Arc::clone(&service).respond(request, peer.ip()));
    let mut protocol = http1::Builder::new();
    protocol
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_READ_TIMEOUT)
        .max_buf_size(HEADER_BYTES_MAX)
        .max_headers(HEADERS_MAX);
    let connection =
        protocol.serve_connection(TokioIo::new(WriteTimeoutStream::new(stream)), answer);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        _ = stopped.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!(%error, %peer, "connection ended early");
    }
}
