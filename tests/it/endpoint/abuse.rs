//! Malicious and slow clients, which must not harm the endpoint.

use std::io::{BufReader, ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use rustix::process::{Resource, getrlimit, setrlimit};

use super::TestEndpoint;
use super::client::{connect, read_head, read_response, request, send_request};
use super::fake_data::{healthy_snapshot, snapshot_of_many_sources};

/// Raises the limit as far as possible, since both ends of 1000 connections are in this process.
fn raise_open_files_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
}

/// Reads to the end, which may also be a reset by the server.
fn read_to_end(mut stream: &TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}"),
    }
    bytes
}

#[test]
fn each_of_1000_connections_gets_a_response_or_is_closed() {
    raise_open_files_limit();
    let endpoint = TestEndpoint::serving(healthy_snapshot());
    let clients: Vec<TcpStream> = (0..1000).map(|_| connect(endpoint.address)).collect();
    // Connections that the server has already closed may fail on write.
    for mut client in &clients {
        client.write_all(request("GET", "/health", &[("Connection", "close")]).as_bytes()).ok();
    }

    let responses: Vec<Vec<u8>> = clients.iter().map(read_to_end).collect();

    let ok_count =
        responses.iter().filter(|response| response.starts_with(b"HTTP/1.1 200 OK")).count();
    let empty_count = responses.iter().filter(|response| response.is_empty()).count();
    assert!(ok_count >= 500, "{ok_count} responses");
    assert_eq!(ok_count + empty_count, 1000, "no response is truncated");
    assert_eq!(endpoint.get("/health").status, 200);
}

#[test]
fn idle_connections_do_not_block_new_ones() {
    raise_open_files_limit();
    let endpoint = TestEndpoint::serving(healthy_snapshot());
    let mut slow_clients = Vec::new();
    for round in 0..10 {
        for _ in 0..100 {
            let mut client = connect(endpoint.address);
            client.write_all(b"GET /health HTTP/1.1\r\nHost: loc").unwrap();
            slow_clients.push(client);
        }
        assert_eq!(endpoint.get("/health").status, 200, "after {} slow clients", 100 * (round + 1));
    }
}

#[test]
fn an_incomplete_request_times_out() {
    let endpoint = TestEndpoint::serving(healthy_snapshot());
    let mut half = connect(endpoint.address);
    half.write_all(b"GET /health HTTP/1.1\r\nHost: loc").unwrap();
    let mut idle = connect(endpoint.address);
    idle.write_all(request("GET", "/health", &[]).as_bytes()).unwrap();
    assert_eq!(read_response(&mut BufReader::new(&idle), "GET").status, 200);

    // Reads would time out after a minute, so an end shows that the server closed the connection.
    let received = read_to_end(&half);
    assert!(!String::from_utf8_lossy(&received).contains("200 OK"), "{received:?}");
    assert_eq!(read_to_end(&idle), b"", "an idle connection is closed as well");
}

#[test]
fn a_client_that_does_not_read_times_out() {
    let endpoint = TestEndpoint::serving(snapshot_of_many_sources(200));
    let mut client = connect(endpoint.address);
    client.set_write_timeout(Some(Duration::from_secs(2))).unwrap();
    let page_request = request("GET", "/", &[]);
    // Sends requests until the unread responses fill all buffers and a write times out.
    let sent =
        (0..1_000_000).take_while(|_| client.write_all(page_request.as_bytes()).is_ok()).count();
    assert!(sent < 1_000_000, "no write ever blocked");

    assert_eq!(endpoint.get("/health").status, 200);
    // A write that fits into a buffer says nothing. One that does not waits until the server reads,
    // or has closed the connection.
    let mut timeouts = 0;
    let is_closed = loop {
        match client.write_all(page_request.as_bytes()).map_err(|error| error.kind()) {
            Ok(()) => {}
            Err(ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => break true,
            Err(_timeout) if timeouts < 30 => timeouts += 1,
            Err(_timeout) => break false,
        }
    };
    assert!(is_closed, "the connection is still open");
}

#[test]
fn oversized_requests_are_rejected_at_once() {
    let endpoint = TestEndpoint::serving(healthy_snapshot());
    let long = "x".repeat(64 * 1024);
    let many: Vec<(String, String)> =
        (0..100).map(|index| (format!("X-{index}"), "1".to_owned())).collect();
    let many: Vec<(&str, &str)> =
        many.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    for (case, text) in [
        ("a long header", request("GET", "/health", &[("X-Long", &long)])),
        ("a long path", request("GET", &format!("/{long}"), &[])),
        ("many headers", request("GET", "/health", &many)),
        ("nonsense", format!("{}\r\n\r\n", "\u{1}nonsense")),
        ("another version", "GET /health HTTP/9.9\r\nHost: localhost\r\n\r\n".to_owned()),
    ] {
        let mut stream = connect(endpoint.address);
        // The server may reject it before all of it is sent.
        stream.write_all(text.as_bytes()).ok();
        let response = read_to_end(&stream);
        let is_rejected = response.is_empty() || response.starts_with(b"HTTP/1.1 4");
        assert!(is_rejected, "{case}: {}", String::from_utf8_lossy(&response));
    }
    assert_eq!(endpoint.get("/health").status, 200);
}

#[test]
fn a_body_is_never_read() {
    let endpoint = TestEndpoint::serving(healthy_snapshot());
    let mut stream = connect(endpoint.address);
    let head = request("POST", "/health", &[("Content-Length", "10000000000")]);
    stream.write_all(head.as_bytes()).unwrap();
    let mut reader = BufReader::new(&stream);

    let response = read_response(&mut reader, "POST");

    assert_eq!((response.status, response.header("connection")), (405, "close"));
    let with_body = send_request(endpoint.address, "GET", "/health", &[("Content-Length", "10")]);
    assert_eq!((with_body.status, with_body.header("connection")), (413, "close"));
    let is_closed = (0..1000).any(|_| stream.write_all(&[b'x'; 65_536]).is_err());
    assert!(is_closed, "the server still reads the body");
}

#[test]
fn shutdown_is_quick_with_open_connections() {
    raise_open_files_limit();
    let endpoint = TestEndpoint::serving(healthy_snapshot());
    let mut stream = connect(endpoint.address);
    stream.write_all(request("GET", "/events", &[]).as_bytes()).unwrap();
    let mut events = BufReader::new(stream);
    assert_eq!(read_head(&mut events).status, 200);
    let slow_clients: Vec<TcpStream> = (0..200).map(|_| connect(endpoint.address)).collect();
    for mut client in &slow_clients {
        client.write_all(b"GET /").unwrap();
    }
    let address = endpoint.address;

    // All connections must be closed. The test runner ends a test that hangs.
    endpoint.server.shut_down();

    slow_clients.iter().for_each(|client| drop(read_to_end(client)));
    let mut rest = Vec::new();
    events.read_to_end(&mut rest).ok();
    assert!(TcpStream::connect(address).is_err(), "nothing listens any more");
}
