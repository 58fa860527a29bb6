//! Clients that mean harm, or are merely slow, do none.

use std::io::{BufReader, ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use rustix::process::{Resource, getrlimit, setrlimit};

use super::TestEndpoint;
use super::client::{connect, read_head, read_response, request, send_request};
use super::fake_data::{healthy_snapshot, snapshot_of_many_sources};

/// Both ends of a thousand connections are in this process.
fn raise_open_files_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
}

/// Reads to the end, which a server that has had enough may also make abrupt.
fn read_to_end(mut stream: &TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}"),
    }
    bytes
}

#[test]
fn a_thousand_connections_are_all_answered_or_closed() {
    raise_open_files_limit();
    let stage = TestEndpoint::serving(healthy_snapshot());
    let clients: Vec<TcpStream> = (0..1000).map(|_| connect(stage.address)).collect();
    // Those that were pushed out may refuse even the request.
    for mut client in &clients {
        client.write_all(request("GET", "/health", &[("Connection", "close")]).as_bytes()).ok();
    }

    let answers: Vec<Vec<u8>> = clients.iter().map(read_to_end).collect();

    let answered = answers.iter().filter(|answer| answer.starts_with(b"HTTP/1.1 200 OK")).count();
    let silent = answers.iter().filter(|answer| answer.is_empty()).count();
    assert!(answered >= 500, "{answered} were answered");
    assert_eq!(answered + silent, 1000, "nobody gets half an answer");
    assert_eq!(stage.get("/health").status, 200);
}

#[test]
fn idle_connections_do_not_block_new_ones() {
    raise_open_files_limit();
    let stage = TestEndpoint::serving(healthy_snapshot());
    let mut holding = Vec::new();
    for round in 0..10 {
        for _ in 0..100 {
            let mut slow = connect(stage.address);
            slow.write_all(b"GET /health HTTP/1.1\r\nHost: loc").unwrap();
            holding.push(slow);
        }
        assert_eq!(stage.get("/health").status, 200, "after {} of them", 100 * (round + 1));
    }
}

#[test]
fn an_incomplete_request_times_out() {
    let stage = TestEndpoint::serving(healthy_snapshot());
    let mut half = connect(stage.address);
    half.write_all(b"GET /health HTTP/1.1\r\nHost: loc").unwrap();
    let mut idle = connect(stage.address);
    idle.write_all(request("GET", "/health", &[]).as_bytes()).unwrap();
    assert_eq!(read_response(&mut BufReader::new(&idle), "GET").status, 200);

    // Their reads would fail after a minute: an end means that the server made it.
    let left = read_to_end(&half);
    assert!(!String::from_utf8_lossy(&left).contains("200 OK"), "{left:?}");
    assert_eq!(read_to_end(&idle), b"", "a connection that rests is ended as well");
}

#[test]
fn a_client_that_does_not_read_times_out() {
    let stage = TestEndpoint::serving(snapshot_of_many_sources(200));
    let mut greedy = connect(stage.address);
    greedy.set_write_timeout(Some(Duration::from_secs(2))).unwrap();
    let page = request("GET", "/", &[]);
    // Until what it wants and does not read fills every buffer on the way, and nothing moves any more.
    let asked = (0..1_000_000).take_while(|_| greedy.write_all(page.as_bytes()).is_ok()).count();
    assert!(asked < 1_000_000, "it was never held up");

    assert_eq!(stage.get("/health").status, 200);
    // Its writes fail for good once the server has hung up.
    let mut hung_up = || match greedy.write(b"G") {
        Ok(_) => false,
        Err(error) => matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe),
    };
    assert!((0..30).any(|_| hung_up()), "it still waits");
}

#[test]
fn oversized_requests_are_rejected_at_once() {
    let stage = TestEndpoint::serving(healthy_snapshot());
    let long = "x".repeat(64 * 1024);
    let many: Vec<(String, String)> =
        (0..100).map(|at| (format!("X-{at}"), "1".to_owned())).collect();
    let many: Vec<(&str, &str)> =
        many.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    for (what, text) in [
        ("a long header", request("GET", "/health", &[("X-Long", &long)])),
        ("a long path", request("GET", &format!("/{long}"), &[])),
        ("many headers", request("GET", "/health", &many)),
        ("nonsense", format!("{}\r\n\r\n", "\u{1}nonsense")),
        ("another version", "GET /health HTTP/9.9\r\nHost: localhost\r\n\r\n".to_owned()),
    ] {
        let mut stream = connect(stage.address);
        // It may be refused before all of it is sent.
        stream.write_all(text.as_bytes()).ok();
        let answer = read_to_end(&stream);
        let refused = answer.is_empty() || answer.starts_with(b"HTTP/1.1 4");
        assert!(refused, "{what}: {}", String::from_utf8_lossy(&answer));
    }
    assert_eq!(stage.get("/health").status, 200);
}

#[test]
fn a_body_is_never_read() {
    let stage = TestEndpoint::serving(healthy_snapshot());
    let mut stream = connect(stage.address);
    let head = request("POST", "/health", &[("Content-Length", "10000000000")]);
    stream.write_all(head.as_bytes()).unwrap();
    let mut reader = BufReader::new(&stream);

    let reply = read_response(&mut reader, "POST");

    assert_eq!((reply.status, reply.header("connection")), (405, "close"));
    let with_body = send_request(stage.address, "GET", "/health", &[("Content-Length", "10")]);
    assert_eq!((with_body.status, with_body.header("connection")), (413, "close"));
    let ended = (0..1000).any(|_| stream.write_all(&[b'x'; 65_536]).is_err());
    assert!(ended, "it goes on taking what nobody asked for");
}

#[test]
fn shutdown_is_quick_with_open_connections() {
    raise_open_files_limit();
    let stage = TestEndpoint::serving(healthy_snapshot());
    let mut watching = connect(stage.address);
    watching.write_all(request("GET", "/events", &[]).as_bytes()).unwrap();
    let mut watched = BufReader::new(watching);
    assert_eq!(read_head(&mut watched).status, 200);
    let holding: Vec<TcpStream> = (0..200).map(|_| connect(stage.address)).collect();
    for mut slow in &holding {
        slow.write_all(b"GET /").unwrap();
    }
    let address = stage.address;

    // The runner ends a test that hangs; what is to be seen here is that everyone is let go.
    stage.server.shut_down();

    holding.iter().for_each(|slow| drop(read_to_end(slow)));
    let mut rest = Vec::new();
    watched.read_to_end(&mut rest).ok();
    assert!(TcpStream::connect(address).is_err(), "nobody listens any more");
}
