//! HTTP server with its own thread and runtime, so that requests never delay the monitor.

mod auth;
mod data_reader;
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

pub(super) use self::data_reader::DataReader;
pub use self::service::EndpointConfig;

use self::data_reader::BLOCKING_THREADS_MAX;
use self::service::EndpointService;
use self::write_timeout::WriteTimeoutStream;

/// Open connections. A new one beyond this limit replaces the oldest, so that idle connections
/// never lock out other clients. Half of the files that a process may usually open.
const CONNECTIONS_MAX: usize = 512;

/// Timeout for the headers of a request, and for an idle connection between two requests.
const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(10);

/// Size limit of a request's headers. Browsers send one or two thousand bytes.
const HEADER_BYTES_MAX: usize = 16 * 1024;

/// Number of headers of a request.
const HEADERS_MAX: usize = 64;

/// Time that responses have to complete at shutdown: far less than systemd's stop timeout.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);

/// Interval of snapshots without any request, so that the time series have no gaps.
const SNAPSHOT_INTERVAL: Duration = Duration::from_secs(10);

/// Pause after a failed accept, which means that file descriptors or memory have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// Running server. Dropping it starts the shutdown without waiting for it.
#[derive(Debug)]
pub struct HttpServer {
    thread: Option<JoinHandle<()>>,
    shutdown: watch::Sender<bool>,
}

impl HttpServer {
    /// Starts the server.
    ///
    /// # Errors
    /// Returns a [`BindError`] if other machines could send requests without a token, or no threads
    /// or file descriptors are left.
    pub fn start(listeners: &Listeners, config: EndpointConfig) -> Result<Self, BindError> {
        let sockets = listeners.clone_for_server(config.token.as_ref())?;
        let out_of_resources = |error| BindError::OutOfResources { error };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(BLOCKING_THREADS_MAX)
            .build()
            .map_err(out_of_resources)?;
        let (shutdown, shutdown_receiver) = watch::channel(false);
        let run_server = move || {
            let service = Arc::new(EndpointService::new(config, shutdown_receiver.clone()));
            let result = runtime.block_on(async {
                let listeners =
                    sockets.into_iter().map(TcpListener::from_std).collect::<Result<_, _>>()?;
                accept_connections(listeners, &service, shutdown_receiver).await;
                Ok::<(), io::Error>(())
            });
            if let Err(error) = result {
                warn!(%error, "endpoint cannot serve");
            }
            // A snapshot that waits for a disk must not delay the shutdown.
            runtime.shutdown_background();
        };
        let thread = std::thread::Builder::new().name("endpoint".to_owned()).spawn(run_server);
        let thread = thread.map_err(out_of_resources)?;
        Ok(Self { thread: Some(thread), shutdown })
    }

    /// Shuts the server down and waits for it. Responses in progress have `SHUTDOWN_TIMEOUT` to
    /// complete.
    pub fn shut_down(mut self) {
        self.shutdown.send_replace(true);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            warn!("endpoint thread panicked");
        }
    }

    /// True if the server has stopped without a shutdown.
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

/// Accepts connections until the shutdown, then lets responses complete.
async fn accept_connections(
    listeners: Vec<TcpListener>,
    service: &Arc<EndpointService>,
    mut shutdown: watch::Receiver<bool>,
) {
    let mut connections = Connections::default();
    let mut has_warned = false;
    let mut snapshot_ticks = interval(SNAPSHOT_INTERVAL);
    snapshot_ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !*shutdown.borrow() {
        let accepts = listeners.iter().map(|listener| Box::pin(listener.accept()));
        tokio::select! {
            (accepted, ..) = select_all(accepts) => match accepted {
                Ok((stream, peer)) => {
                    has_warned = false;
                    let service = Arc::clone(service);
                    connections.spawn(serve_connection(service, stream, peer, shutdown.clone()));
                }
                Err(error) => {
                    // It fails after each pause until file descriptors are free: warn only once.
                    if has_warned {
                        debug!(%error, "cannot accept a connection");
                    } else {
                        warn!(%error, "cannot accept connections, retrying");
                    }
                    has_warned = true;
                    sleep(ACCEPT_PAUSE).await;
                }
            },
            _ = snapshot_ticks.tick() => connections.spawn(refresh_snapshot(Arc::clone(&service.reader))),
            Some(_) = connections.tasks.join_next() => connections.remove_finished(),
            // An error means that the sender was dropped, which also requests the shutdown.
            _ = shutdown.changed() => break,
        }
    }
    drop(listeners);
    let drain = async { while connections.tasks.join_next().await.is_some() {} };
    if timeout(SHUTDOWN_TIMEOUT, drain).await.is_err() {
        debug!("responses aborted at shutdown");
    }
}

/// Tasks of the open connections, and of the snapshots that [`SNAPSHOT_INTERVAL`] requires.
#[derive(Default)]
struct Connections {
    tasks: JoinSet<()>,
    oldest_first: VecDeque<AbortHandle>,
}

impl Connections {
    fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        while self.oldest_first.len() >= CONNECTIONS_MAX
            && let Some(oldest) = self.oldest_first.pop_front()
        {
            oldest.abort();
        }
        self.oldest_first.push_back(self.tasks.spawn(task));
    }

    fn remove_finished(&mut self) {
        self.oldest_first.retain(|task| !task.is_finished());
    }
}

async fn refresh_snapshot(reader: Arc<DataReader>) {
    // The next request reports the error.
    drop(reader.snapshot().await);
}

async fn serve_connection(
    service: Arc<EndpointService>,
    stream: TcpStream,
    peer: SocketAddr,
    mut shutdown: watch::Receiver<bool>,
) {
    // Otherwise the second half of a response waits for the acknowledgement of the first.
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, %peer, "cannot set TCP_NODELAY");
    }
    let handler = service_fn(|request| Arc::clone(&service).respond(request, peer.ip()));
    let mut protocol = http1::Builder::new();
    protocol
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_READ_TIMEOUT)
        .max_buf_size(HEADER_BYTES_MAX)
        .max_headers(HEADERS_MAX);
    let connection =
        protocol.serve_connection(TokioIo::new(WriteTimeoutStream::new(stream)), handler);
    let mut connection = std::pin::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        _ = shutdown.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        debug!(%error, %peer, "connection ended early");
    }
}
