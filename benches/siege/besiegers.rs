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
pub(crate) const SLOW: usize = 200;

/// How often each of the many asks: a thousand times a second in all.
const ASK_INTERVAL: Duration = Duration::from_secs(1);

/// How often the one asks.
const PROBE_INTERVAL: Duration = Duration::from_millis(100);

const LETTER_INTERVAL: Duration = Duration::from_secs(1);

/// What counts as no answer.
const PATIENCE: Duration = Duration::from_secs(10);

const REQUEST: &[u8] = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// What they saw.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) answers: u64,
    /// Those that were 200; the others were 429, or 503 before the first look.
    pub(crate) well: u64,
    /// How long the one waited, in milliseconds.
    probes: Vec<f64>,
}

pub(crate) struct Besiegers {
    thread: JoinHandle<()>,
    stop: watch::Sender<bool>,
    tally: Arc<Mutex<Tally>>,
}

impl Besiegers {
    pub(crate) fn start(address: SocketAddr) -> Self {
        let mut limit = getrlimit(Resource::Nofile);
        limit.current = limit.maximum;
        setrlimit(Resource::Nofile, limit).expect("a process may raise it so far");
        let (stop, mut stopped) = watch::channel(false);
        let tally = Arc::new(Mutex::new(Tally::default()));
        let shared = Arc::clone(&tally);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                for _ in 0..CONNECTIONS {
                    tokio::spawn(ask_on_and_on(address, Arc::clone(&shared)));
                }
                for _ in 0..SLOW {
                    tokio::spawn(never_finish(address));
                }
                tokio::spawn(probe(address, Arc::clone(&shared)));
                stopped.changed().await.ok();
            });
        });
        Self { thread, stop, tally }
    }

    pub(crate) fn stop(self) -> Tally {
        self.stop.send_replace(true);
        self.thread.join().expect("they end when they are told");
        self.tally.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Tally {
    pub(crate) fn with(mut self, other: &Self) -> Self {
        self.answers += other.answers;
        self.well += other.well;
        self.probes.extend(&other.probes);
        self
    }

    /// How long half of the probes took at most, and the slowest of all, in milliseconds.
    pub(crate) fn probes(&self) -> Option<(f64, f64)> {
        let mut probes = self.probes.clone();
        probes.sort_by(f64::total_cmp);
        Some((*probes.get(probes.len() / 2)?, *probes.last()?))
    }

    fn count(&mut self, answer: &[u8]) {
        if answer.starts_with(b"HTTP/1.1 ") {
            self.answers += 1;
            self.well += u64::from(answer.starts_with(b"HTTP/1.1 200"));
        }
    }
}

/// Keeps its connection while it can, and makes a new one when it was pushed out.
async fn ask_on_and_on(address: SocketAddr, tally: Arc<Mutex<Tally>>) {
    loop {
        let Ok(mut stream) = TcpStream::connect(address).await else { continue };
        while let Some(answer) = ask(&mut stream).await {
            tally.lock().unwrap_or_else(PoisonError::into_inner).count(&answer);
            sleep(ASK_INTERVAL).await;
        }
        sleep(ASK_INTERVAL).await;
    }
}

async fn probe(address: SocketAddr, tally: Arc<Mutex<Tally>>) {
    loop {
        let began = Instant::now();
        let asked = async { ask(&mut TcpStream::connect(address).await.ok()?).await };
        let answer = timeout(PATIENCE, asked).await;
        let took = if matches!(answer, Ok(Some(_))) { began.elapsed() } else { PATIENCE };
        let took = took.as_secs_f64() * 1000.0;
        tally.lock().unwrap_or_else(PoisonError::into_inner).probes.push(took);
        sleep(PROBE_INTERVAL).await;
    }
}

/// The answer, which comes in one piece; `None` where there is none.
async fn ask(stream: &mut TcpStream) -> Option<Vec<u8>> {
    stream.write_all(REQUEST).await.ok()?;
    let mut answer = vec![0; 4096];
    let length = stream.read(&mut answer).await.ok().filter(|length| *length > 0)?;
    answer.truncate(length);
    Some(answer)
}

async fn never_finish(address: SocketAddr) {
    loop {
        let Ok(mut stream) = TcpStream::connect(address).await else { continue };
        for letter in REQUEST.iter().take(REQUEST.len() - 1) {
            if stream.write_all(&[*letter]).await.is_err() {
                break;
            }
            sleep(LETTER_INTERVAL).await;
        }
    }
}
