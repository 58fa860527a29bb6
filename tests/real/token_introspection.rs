//! Authorization server on loopback that says whose an access token is (token introspection, RFC
//! 7662).

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;

use serde_json::{Value, json};

/// Authorization server that knows one valid token. It runs until the process ends.
pub(crate) struct TokenIntrospection {
    pub(crate) port: u16,
}

impl TokenIntrospection {
    /// Starts a server. The token, which needs no escaping in a URL, belongs to `user`.
    pub(crate) fn start(token: &'static str, user: &'static str) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has ports");
        let port = listener.local_addr().expect("a bound socket has an address").port();
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                // A client that breaks the connection gets no answer.
                thread::spawn(move || answer(&client, token, user).ok());
            }
        });
        Self { port }
    }
}

/// Answers one request, `GET /introspect?token=…`, and closes the connection.
fn answer(mut client: &TcpStream, token: &str, user: &str) -> io::Result<()> {
    let mut lines = BufReader::new(client).lines();
    let request_line = lines.next().transpose()?.unwrap_or_default();
    // The rest of the head.
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    let answer = introspect(&request_line, token, user).to_string();
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n";
    write!(client, "{head}Content-Length: {}\r\n\r\n{answer}", answer.len())
}

/// Returns what is known about the token in the first line of a request (RFC 7662 §2.2).
fn introspect(request_line: &str, token: &str, user: &str) -> Value {
    let parameter = format!("token={token}");
    let is_active =
        request_line.split([' ', '?', '&']).any(|parameter_or_word| parameter_or_word == parameter);
    if is_active { json!({ "active": true, "username": user }) } else { json!({ "active": false }) }
}
