//! Fake HTTP receiver that records each POST request, and responds with given statuses.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::Value;

/// Maximum wait for a request: 30 s, because a busy machine is slow.
const TIMEOUT: Duration = Duration::from_secs(30);

/// One complete request.
#[derive(Debug)]
pub(crate) struct ReceivedPost {
    pub(crate) path: String,
    /// Names in lower case, and values.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) json: Value,
}

/// HTTP server that listens until the test process ends.
pub(crate) struct FakeReceiver {
    pub(crate) address: SocketAddr,
    received: Receiver<ReceivedPost>,
}

impl ReceivedPost {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }
}

impl FakeReceiver {
    /// Responds to the first requests with these statuses, and to all further ones with 200.
    pub(crate) fn with_statuses(statuses: &'static [u16]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, received) = channel();
        let mut statuses = statuses.iter();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let Some(request) = read_request(&mut stream) else { continue };
                let status = statuses.next().unwrap_or(&200);
                let response = format!(
                    "HTTP/1.1 {status} So\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{{}}"
                );
                // Fails if the client has disconnected or the test has ended.
                if stream.write_all(response.as_bytes()).is_err() || sender.send(request).is_err() {
                    return;
                }
            }
        });
        Self { address, received }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Waits for the next request and returns it.
    pub(crate) fn next_post(&self) -> ReceivedPost {
        self.received.recv_timeout(TIMEOUT).expect("a request arrives in time")
    }

    /// Returns the next request if it has arrived already.
    pub(crate) fn try_next(&self) -> Option<ReceivedPost> {
        self.received.try_recv().ok()
    }

    /// Returns true if no further request has arrived. Consumes one that has.
    pub(crate) fn is_empty(&self) -> bool {
        self.try_next().is_none()
    }
}

fn read_request(stream: &mut TcpStream) -> Option<ReceivedPost> {
    let (mut bytes, mut chunk) = (Vec::new(), [0; 65_536]);
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at;
        }
        match stream.read(&mut chunk) {
            Ok(read @ 1..) => bytes.extend_from_slice(&chunk[..read]),
            Ok(0) | Err(_) => return None,
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = head.lines();
    let path = lines.next()?.split(' ').nth(1)?.to_owned();
    let headers: Vec<_> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let length = headers.iter().find(|(name, _)| name == "content-length")?.1.parse().ok()?;
    let mut body = bytes.split_off(end + 4);
    while body.len() < length {
        match stream.read(&mut chunk) {
            Ok(read @ 1..) => body.extend_from_slice(&chunk[..read]),
            Ok(0) | Err(_) => return None,
        }
    }
    Some(ReceivedPost { path, headers, json: serde_json::from_slice(&body).ok()? })
}
