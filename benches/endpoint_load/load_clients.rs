//! Load clients: many that send requests, some that never finish one, and a probe of the latency.
#![expect(clippy::disallowed_methods, reason = "the benchmark measures the latency")]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

/// Connections that send requests repeatedly.
pub(crate) const CONNECTIONS: usize = 1000;

/// Clients that send a request byte by byte and never finish it.
pub(crate) const SLOW_CLIENTS: usize = 200;

/// Interval between the requests of a connection: a thousand requests a second in total.
const REQUEST_INTERVAL: Duration = Duration::from_secs(1);

/// Interval between the requests of the probe.
const PROBE_INTERVAL: Duration = Duration::from_millis(100);

const BYTE_INTERVAL: Duration = Duration::from_secs(1);

/// Timeout of a probe, which counts as its latency without a response.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);

const REQUEST: &[u8] = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// Responses to the load clients.
#[derive(Clone, Debug, Default)]
pub(crate) struct LoadStats {
    pub(crate) responses: u64,
    /// Responses with 200; the others had 429, or 503 before the first health check.
    pub(crate) ok_responses: u64,
    /// Latencies of the probe, in milliseconds.
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
        setrlimit(Resource::Nofile, limit).expect("a process may raise the limit to its maximum");
        let (stop, mut stopped) = watch::channel(false);
        let stats = Arc::new(Mutex::new(LoadStats::default()));
        let shared = Arc::clone(&stats);
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
        Self { thread, stop, stats }
    }

    pub(crate) fn stop(self) -> LoadStats {
        self.stop.send_replace(true);
        self.thread.join().expect("the clients stop on request");
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

    /// Returns the median and the maximum latency of the probe, in milliseconds.
    pub(crate) fn probe_median_and_max(&self) -> Option<(f64, f64)> {
        let mut probes = self.probe_latencies_ms.clone();
        probes.sort_by(f64::total_cmp);
        Some((*probes.get(probes.len() / 2)?, *probes.last()?))
    }

    fn record(&mut self, response: &[u8]) {
        if response.starts_with(b"HTTP/1.1 ") {
            self.responses += 1;
            self.ok_responses += u64::from(response.starts_with(b"HTTP/1.1 200"));
        }
    }
}

/// Sends requests on one connection, and reconnects when the server closes it.
async fn send_repeatedly(address: SocketAddr, stats: Arc<Mutex<LoadStats>>) {
    loop {
        let Ok(mut stream) = TcpStream::connect(address).await else { continue };
        while let Some(response) = send_request(&mut stream).await {
            stats.lock().unwrap_or_else(PoisonError::into_inner).record(&response);
            sleep(REQUEST_INTERVAL).await;
        }
        sleep(REQUEST_INTERVAL).await;
    }
}

async fn probe(address: SocketAddr, stats: Arc<Mutex<LoadStats>>) {
    loop {
        let started_at = Instant::now();
        let request = async { send_request(&mut TcpStream::connect(address).await.ok()?).await };
        let response = timeout(RESPONSE_TIMEOUT, request).await;
        let latency =
            if matches!(response, Ok(Some(_))) { started_at.elapsed() } else { RESPONSE_TIMEOUT };
        let latency = latency.as_secs_f64() * 1000.0;
        stats.lock().unwrap_or_else(PoisonError::into_inner).probe_latencies_ms.push(latency);
        sleep(PROBE_INTERVAL).await;
    }
}

/// Returns the response, which arrives in one piece; `None` without a response.
async fn send_request(stream: &mut TcpStream) -> Option<Vec<u8>> {
    stream.write_all(REQUEST).await.ok()?;
    let mut response = vec![0; 4096];
    let length = stream.read(&mut response).await.ok().filter(|length| *length > 0)?;
    response.truncate(length);
    Some(response)
}

async fn send_slowly(address: SocketAddr) {
    loop {
        let Ok(mut stream) = TcpStream::connect(address).await else { continue };
        for byte in REQUEST.iter().take(REQUEST.len() - 1) {
            if stream.write_all(&[*byte]).await.is_err() {
                break;
            }
            sleep(BYTE_INTERVAL).await;
        }
    }
}
