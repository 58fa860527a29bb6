//! JMAP service with a few very long messages, which it generates while it sends them.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use serde_json::{Value, json};

/// Line of a message's body, sent repeatedly.
const LINE: &[u8] =
    b"All work and no play makes a very long message, line by line by line by line.\r\n";

/// Bytes written at once.
const CHUNK_BYTES: usize = 64 * 1024;

/// Running service. Its threads end with the process of the test.
pub(crate) struct LargeMessageServer {
    address: SocketAddr,
}

impl LargeMessageServer {
    /// Serves `count` messages of `bytes` bytes, each in a separate mail thread.
    pub(crate) fn start(count: usize, bytes: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it has an address");
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // Fails if the client closes the connection.
                thread::spawn(move || serve_connection(&stream, count, bytes).ok());
            }
        });
        Self { address }
    }

    /// Returns a configuration that extracts it, with the credential in the file `token`.
    pub(crate) fn config(&self) -> String {
        format!(
            r#"[source.large]
            kind = "jmap"
            url = "http://{}/session"
            account = "large@example.com"
            auth = {{ type = "bearer", token = {{ file = "token" }} }}"#,
            self.address
        )
    }
}

fn serve_connection(stream: &TcpStream, count: usize, bytes: usize) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    while let Some((path, body)) = read_request(&mut reader)? {
        match path.as_str() {
            "/session" => send_json(stream, &session())?,
            "/api" => {
                let request = serde_json::from_slice(&body)?;
                send_json(stream, &handle_call(&request, count, bytes))?;
            }
            _message => send_message(stream, bytes)?,
        }
    }
    Ok(())
}

/// Reads the path and the body of the next request; `None` at the end of the connection.
fn read_request(reader: &mut BufReader<&TcpStream>) -> io::Result<Option<(String, Vec<u8>)>> {
    let mut request_line = String::new();
    if reader.read_line(&mut request_line)? == 0 {
        return Ok(None);
    }
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let line = line.trim_end().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().map_err(io::Error::other)?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let path = request_line.split(' ').nth(1).unwrap_or_default().to_owned();
    Ok(Some((path, body)))
}

fn session() -> Value {
    json!({
        "capabilities": {
            "urn:ietf:params:jmap:core": {"maxConcurrentRequests": 8},
            "urn:ietf:params:jmap:mail": {},
        },
        "accounts": {"a": {}},
        "primaryAccounts": {"urn:ietf:params:jmap:mail": "a"},
        "apiUrl": "/api",
        "downloadUrl": "/{accountId}/{blobId}/{name}?accept={type}",
        "state": "0",
    })
}

fn handle_call(request: &Value, count: usize, bytes: usize) -> Value {
    let call = &request["methodCalls"][0];
    let (method, arguments) = (&call[0], &call[1]);
    let result = match method.as_str() {
        Some("Email/query") => {
            let numbers = if arguments["anchor"].is_null() { 0..count } else { 0..0 };
            let ids: Vec<_> = numbers.map(|number| format!("m{number}")).collect();
            json!({"ids": ids, "queryState": "0", "position": 0, "total": count})
        }
        Some("Email/get") => {
            let ids = arguments["ids"].as_array().expect("the request has ids");
            let list =
                ids.iter().map(|id| json!({"id": id, "blobId": id, "threadId": id, "size": bytes}));
            json!({"state": "0", "list": list.collect::<Vec<_>>(), "notFound": []})
        }
        _unsupported => json!({"type": "unknownMethod"}),
    };
    let name = if result["type"].is_null() { method.clone() } else { json!("error") };
    json!({"methodResponses": [[name, result, call[2]]], "sessionState": "0"})
}

fn send_json(mut stream: &TcpStream, response: &Value) -> io::Result<()> {
    let body = response.to_string();
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}

fn send_message(mut stream: &TcpStream, bytes: usize) -> io::Result<()> {
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: {bytes}\r\n\r\n"
    )?;
    let chunk: Vec<u8> = LINE.iter().copied().cycle().take(CHUNK_BYTES).collect();
    let mut remaining = bytes;
    while remaining > 0 {
        let length = remaining.min(CHUNK_BYTES);
        stream.write_all(&chunk[..length])?;
        remaining -= length;
    }
    Ok(())
}
