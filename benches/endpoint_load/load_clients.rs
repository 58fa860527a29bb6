//! Those who besiege: many who ask at once, some who never finish, and one who only wants to know.
#![expect(clippy::disallowed_methods, reason = "how long an answer takes is what is measured")]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

/// Connections that ask again and again.
pub(crate) const CONNECTIONS: usize = 1000;

/// Clients that send a letter of their request now and then.
pub(crate) const SLOW_CLIENTS: usize = 200;

/// How often each of the many asks: a thousand times a second in all.
const REQUEST_INTERVAL: Duration = Duration::from_secs(1);

/// How often the one asks.
const PROBE_INTERVAL: Duration = Duration::from_millis(100);

const BYTE_INTERVAL: Duration = Duration::from_secs(1);

/// What counts as no answer.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);

const REQUEST: &[u8] = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// What they saw.
#[derive(Clone, Debug, Default)]
pub(crate) struct LoadStats {
    pub(crate) responses: u64,
    /// Those that were 200; the others were 429, or 503 before the first look.
    pub(crate) ok_responses: u64,
    /// How long the one waited, in milliseconds.
    probe_latencies_ms: Vec<f64>,
}

pub(crate) struct LoadClients {
    thread: JoinHandle<()>,
    stop: watch::Sender<bool>,
    stats: Arc<Mutex<LoadStats>>,
}

impl LoadClients {
    pub(crate) fn start(address: SocketAddr) -> Self {
        let mut limit = getrlimit(Resource::Nofile);
        limit.current = limit.maximum;
        setrlimit(Resource::Nofile, limit).expect("a process may raise it so far");
        let (stop, mut stopped) = watch::channel(false);
        let tally = Arc::new(Mutex::new(LoadStats::default()));
        let shared = Arc::clone(&tally);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                for _ in 0..CONNECTIONS {
                    tokio::spawn(send_repeatedly(address, Arc::clone(&shared)));
                }
                for _ in 0..SLOW_CLIENTS {
                    tokio::spawn(send_slowly(address));
                }
                tokio::spawn(probe(address, Arc::clone(&shared)));
                stopped.changed().await.ok();
            });
        });
        Self { thread, stop, stats: tally }
    }

    pub(crate) fn stop(self) -> LoadStats {
        self.stop.send_replace(true);
        self.thread.join().expect("they end when they are told");
        self.stats.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl LoadStats {
    pub(crate) fn merged(mut self, other: &Self) -> Self {
        self.responses += other.responses;
        self.ok_responses += other.ok_responses;
        self.probe_latencies_ms.extend(&other.probe_latencies_ms);
        self
    }

    /// How long half of the probes took at most, and the slowest of all, in milliseconds.
    pub(crate) fn probe_percentiles(&self) -> Option<(f64, f64)> {
        let mut probes = self.probe_latencies_ms.clone();
        probes.sort_by(f64::total_cmp);
        Some((*probes.get(probes.len() / 2)?, *probes.last()?))
    }

    fn count(&mut self, answer: &[u8]) {
        if answer.starts_with(b"HTTP/1.1 ") {
            self.responses += 1;
            self.ok_responses += u64::from(answer.starts_with(b"HTTP/1.1 200"));
        }
    }
}

/// Keeps its connection while it can, and makes a new one when it was pushed out.
async fn send_repeatedly(address: SocketAddr, tally: Arc<Mutex<LoadStats>>) {
    loop {
        let Ok(mut stream) = TcpStream::connect(address).await else { continue };
        while let Some(answer) = send_request(&mut stream).await {
            tally.lock().unwrap_or_else(PoisonError::into_inner).count(&answer);
            sleep(REQUEST_INTERVAL).await;
        }
        sleep(REQUEST_INTERVAL).await;
    }
}

async fn probe(address: SocketAddr, tally: Arc<Mutex<LoadStats>>) {
    loop {
        let began = Instant::now();
        let asked = async { send_request(&mut TcpStream::connect(address).await.ok()?).await };
        let answer = timeout(RESPONSE_TIMEOUT, asked).await;
        let took = if matches!(answer, Ok(Some(_))) { began.elapsed() } else { RESPONSE_TIMEOUT };
        let took = took.as_secs_f64() * 1000.0;
        tally.lock().unwrap_or_else(PoisonError::into_inner).probe_latencies_ms.push(took);
        sleep(PROBE_INTERVAL).await;
    }
}

/// The answer, which comes in one piece; `None` where there is none.
async fn send_request(stream: &mut TcpStream) -> Option<Vec<u8>> {
    stream.write_all(REQUEST).await.ok()?;
    let mut answer = vec![0; 4096];
    let length = stream.read(&mut answer).await.ok().filter(|length| *length > 0)?;
    answer.truncate(length);
    Some(answer)
}

async fn send_slowly(address: SocketAddr) {
    loop {
        let Ok(mut stream) = TcpStream::connect(address).await else { continue };
        for letter in REQUEST.iter().take(REQUEST.len() - 1) {
            if stream.write_all(&[*letter]).await.is_err() {
                break;
            }
            sleep(BYTE_INTERVAL).await;
        }
    }
}
