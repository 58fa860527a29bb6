//! TCP proxy in front of an IMAP server: it records the commands of the clients, and delays both
//! directions, as a long way to the server does.

use std::io::{self, Read, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::wait::{instant_after, sleep_until};

const BUFFER_BYTES: usize = 64 * 1024;

/// Lines that the clients sent.
type RecordedCommands = Arc<Mutex<Vec<String>>>;

/// Received bytes, and the instant at which they may be passed on.
type DelayedBytes = (Instant, Vec<u8>);

/// TCP proxy. It runs until the process ends.
pub(crate) struct RecordingProxy {
    pub(crate) port: u16,
    commands: RecordedCommands,
}

/// Command that fetches messages by their UIDs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UidFetch {
    /// Number of UIDs that it names.
    pub(crate) uids: u32,
    /// True if it fetches the bodies, false if it lists the messages.
    pub(crate) has_bodies: bool,
}

impl RecordingProxy {
    /// Starts a proxy in front of a server on this machine. All bytes are late by `delay`, so a
    /// round trip takes twice as long.
    pub(crate) fn start(server_port: u16, delay: Duration) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has ports");
        let port = listener.local_addr().expect("a bound socket has an address").port();
        let commands = RecordedCommands::default();
        let proxy = Self { port, commands: Arc::clone(&commands) };
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                // A client of a server that has ended just loses its connection.
                start_forwarding(client, server_port, delay, Arc::clone(&commands)).ok();
            }
        });
        proxy
    }

    /// Returns the commands so far, in the order of their arrival.
    pub(crate) fn commands(&self) -> Vec<String> {
        self.commands.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns those of the commands that fetch messages.
    pub(crate) fn fetches(&self) -> Vec<UidFetch> {
        self.commands().iter().filter_map(|command| UidFetch::parse(command)).collect()
    }

    /// Returns the number of bodies that were fetched.
    pub(crate) fn fetched_bodies(&self) -> u32 {
        let fetches = self.fetches().into_iter().filter(|fetch| fetch.has_bodies);
        fetches.map(|fetch| fetch.uids).sum()
    }
}

impl UidFetch {
    /// Parses a command: `TAG UID FETCH 7,9:12 (UID BODY.PEEK[])`. `None` for any other.
    fn parse(command: &str) -> Option<Self> {
        let (_tag, fetch) = command.split_once(" UID FETCH ")?;
        let (uid_set, attributes) = fetch.split_once(' ')?;
        let uids = uid_set.split(',').map(uids_in_range).sum::<Option<u32>>()?;
        Some(Self { uids, has_bodies: attributes.contains("BODY") })
    }
}

/// Returns the number of UIDs in a range such as `9:12`, or in `7`.
fn uids_in_range(range: &str) -> Option<u32> {
    let (first, last) = range.split_once(':').unwrap_or((range, range));
    let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
    last.checked_sub(first)?.checked_add(1)
}

/// Starts the threads of one connection.
fn start_forwarding(
    mut client: TcpStream,
    server_port: u16,
    delay: Duration,
    commands: RecordedCommands,
) -> io::Result<()> {
    let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, server_port))?;
    // The proxy must not delay small packets itself.
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let to_client = start_writing(client.try_clone()?);
    let to_server = start_writing(server.try_clone()?);
    thread::spawn(move || {
        let mut line = Vec::new();
        forward(&mut client, &to_server, delay, |bytes| record(&commands, &mut line, bytes));
    });
    thread::spawn(move || forward(&mut server, &to_client, delay, |_bytes| {}));
    Ok(())
}

/// Starts a thread that writes what is sent to it, each chunk at its instant. After the last one it
/// closes this direction.
fn start_writing(mut stream: TcpStream) -> Sender<DelayedBytes> {
    let (sender, receiver) = mpsc::channel::<DelayedBytes>();
    thread::spawn(move || {
        for (instant, bytes) in receiver {
            sleep_until(instant);
            if stream.write_all(&bytes).is_err() {
                return;
            }
        }
        stream.shutdown(Shutdown::Write).ok();
    });
    sender
}

/// Passes on the bytes of one direction until it is closed.
fn forward(
    from: &mut impl Read,
    to: &Sender<DelayedBytes>,
    delay: Duration,
    mut on_bytes: impl FnMut(&[u8]),
) {
    let mut buffer = vec![0; BUFFER_BYTES];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        let bytes = &buffer[..length];
        on_bytes(bytes);
        if to.send((instant_after(delay), bytes.to_vec())).is_err() {
            return;
        }
    }
}

/// Adds the lines that are complete. `line` is the beginning of the next one.
fn record(commands: &Mutex<Vec<String>>, line: &mut Vec<u8>, bytes: &[u8]) {
    let mut commands = commands.lock().unwrap_or_else(PoisonError::into_inner);
    for &byte in bytes {
        if byte == b'\n' {
            commands.push(String::from_utf8_lossy(line).trim_end().to_owned());
            line.clear();
        } else {
            line.push(byte);
        }
    }
}
