//! The server: a thread and a runtime of its own, so that nobody who asks holds up whoever watches.

mod guard;
mod limiter;
mod listen;
mod patient;
mod service;

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

pub use self::guard::Token;
pub use self::listen::{Listening, NotListening};

use self::patient::Patient;
use self::service::BLOCKING_MAX;
pub(super) use self::service::Service;
use crate::endpoint::view::Lookout;

/// Connections at once; a newcomer beyond them pushes out the oldest, so that those who only hold
/// theirs keep nobody away. Half of the files that a process usually may open.
const CONNECTIONS_MAX: usize = 512;

/// The time for a request's head, and how long a connection may rest between two requests.
const HEAD_TIME_MAX: Duration = Duration::from_secs(10);

/// Bytes of a request's head; those of browsers have one or two thousand.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Headers of a request.
const HEADERS_MAX: usize = 64;

/// How long answers may go on after the end was asked for: far less than a unit has for its stop.
const GOODBYE_MAX: Duration = Duration::from_secs(1);

/// How often is looked though nobody asks, so that lines over time have no gaps.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);

/// Pause after a failed accept, which means that files or memory have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// A server at work, until it is dropped or stopped.
#[derive(Debug)]
pub struct Server {
    thread: Option<JoinHandle<()>>,
    stop: watch::Sender<bool>,
}

/// What it serves, and to whom.
#[derive(Debug)]
pub struct Offer {
    pub lookout: Arc<dyn Lookout>,
    pub token: Option<Token>,
    /// From one address.
    pub requests_per_minute: u32,
}

impl Server {
    /// Begins to serve.
    ///
    /// # Errors
    /// [`NotListening`].
    pub fn start(listening: &Listening, offer: Offer) -> Result<Self, NotListening> {
        let listeners = listening.shared(offer.token.as_ref())?;
        let machine = |error| NotListening::Machine { error };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(BLOCKING_MAX)
            .build()
            .map_err(machine)?;
        let (stop, stopped) = watch::channel(false);
        let body = move || {
            let service = Arc::new(Service::new(offer, stopped.clone()));
            let served = runtime.block_on(async {
                let listeners =
                    listeners.into_iter().map(TcpListener::from_std).collect::<Result<_, _>>()?;
                serve(listeners, &service, stopped).await;
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
        Ok(Self { thread: Some(thread), stop })
    }

    /// Ends what is being answered, for [`GOODBYE_MAX`] at most, and returns when it is over.
    pub fn stop(mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            warn!("the endpoint fell over before it was stopped");
        }
    }

    /// Whether it fell over.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

/// Takes connections until the end is asked for, then lets answers finish.
async fn serve(
    listeners: Vec<TcpListener>,
    service: &Arc<Service>,
    mut stopped: watch::Receiver<bool>,
) {
    let mut guests = Guests::default();
    let mut has_complained = false;
    let mut looks = interval(LOOK_INTERVAL);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !*stopped.borrow() {
        let accepts = listeners.iter().map(|listener| Box::pin(listener.accept()));
        tokio::select! {
            (accepted, ..) = select_all(accepts) => match accepted {
                Ok((stream, peer)) => {
                    has_complained = false;
                    guests.admit(converse(Arc::clone(service), stream, peer, stopped.clone()));
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
            _ = looks.tick() => guests.admit(look(Arc::clone(service))),
            Some(_) = guests.tasks.join_next() => guests.forget_the_gone(),
            // An error means that nobody is left to ask for the end, which is one.
            _ = stopped.changed() => break,
        }
    }
    drop(listeners);
    let all_gone = async { while guests.tasks.join_next().await.is_some() {} };
    if timeout(GOODBYE_MAX, all_gone).await.is_err() {
        debug!("answers were cut off at the end");
    }
}

/// The connections there are, the oldest first.
#[derive(Default)]
struct Guests {
    tasks: JoinSet<()>,
    order: VecDeque<AbortHandle>,
}

impl Guests {
    fn admit(&mut self, conversation: impl Future<Output = ()> + Send + 'static) {
        while self.order.len() >= CONNECTIONS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            oldest.abort();
        }
        self.order.push_back(self.tasks.spawn(conversation));
    }

    fn forget_the_gone(&mut self) {
        self.order.retain(|guest| !guest.is_finished());
    }
}

async fn look(service: Arc<Service>) {
    // Whoever asks next is told why it cannot be seen.
    drop(service.snapshot().await);
}

async fn converse(
    service: Arc<Service>,
    stream: TcpStream,
    peer: SocketAddr,
    mut stopped: watch::Receiver<bool>,
) {
    // Without it, the second half of an answer waits for the acknowledgement of the first.
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, %peer, "cannot turn off the delay of small packets");
    }
    let answer = service_fn(|request| Arc::clone(&service).answer(request, peer.ip()));
    let mut protocol = http1::Builder::new();
    protocol
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX);
    let connection = protocol.serve_connection(TokioIo::new(Patient::new(stream)), answer);
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
