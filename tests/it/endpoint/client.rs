//! Minimal HTTP/1.1 client over a socket, which can also send invalid requests.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// Longer than any timeout of the server.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// Received response.
#[derive(Debug)]
pub(crate) struct TestResponse {
    pub(crate) status: u16,
    /// Values by lower-case name; those of a repeated header are joined with a comma.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

/// Sends one request on a new connection.
pub(crate) fn send_request(
    server: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> TestResponse {
    let mut stream = connect(server);
    stream.write_all(request(method, path, headers).as_bytes()).unwrap();
    read_response(&mut BufReader::new(stream), method)
}

pub(crate) fn connect(server: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(server).unwrap();
    stream.set_read_timeout(Some(READ_TIMEOUT)).unwrap();
    stream.set_write_timeout(Some(READ_TIMEOUT)).unwrap();
    stream
}

/// Returns the text of a request. `Host` is that of a browser on this machine, unless given.
pub(crate) fn request(method: &str, path: &str, headers: &[(&str, &str)]) -> String {
    let mut text = format!("{method} {path} HTTP/1.1\r\n");
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        text.push_str("Host: localhost\r\n");
    }
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text + "\r\n"
}

/// Reads one response.
pub(crate) fn read_response(reader: &mut impl BufRead, method: &str) -> TestResponse {
    let mut response = read_head(reader);
    let length = response.headers.get("content-length").map(|length| length.parse().unwrap());
    if method != "HEAD" {
        let mut body = vec![0; length.unwrap_or(0)];
        reader.read_exact(&mut body).unwrap();
        response.body = String::from_utf8(body).unwrap();
    }
    response
}

/// Reads the head of a response.
pub(crate) fn read_head(reader: &mut impl BufRead) -> TestResponse {
    let mut lines = reader.by_ref().lines().map(|line| line.expect("the server responds"));
    let first = lines.next().expect("the server responds");
    let status = first.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.unwrap_or_else(|| panic!("no status in {first:?}"));
    let mut headers = BTreeMap::<String, String>::new();
    for line in lines.take_while(|line| !line.is_empty()) {
        let (name, value) = line.split_once(": ").unwrap();
        let entry = headers.entry(name.to_ascii_lowercase()).or_default();
        entry.push_str(if entry.is_empty() { "" } else { ", " });
        entry.push_str(value);
    }
    TestResponse { status, headers, body: String::new() }
}

impl TestResponse {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}
