//! Whole processes under a clock that is set a day forward, a day back, to 1970, and right again.

mod fake_clock;
mod monitor;
mod worker;

#[expect(clippy::unwrap_used, reason = "it fails as loudly as tests")]
#[path = "../../it/bus/daemon.rs"]
mod daemon;
#[expect(clippy::unwrap_used, reason = "it fails as loudly as tests")]
#[expect(dead_code, reason = "what others ask of it is not asked here")]
#[path = "../../it/fake_receiver.rs"]
mod receiver;
#[expect(clippy::unwrap_used, clippy::panic, reason = "it fails as loudly as tests")]
#[path = "../../it/bus/systemd.rs"]
mod systemd;

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::thread;

use serde_json::Value;

use crate::test_program::TestFolder;

/// Answers every request with these bytes, for as long as the test runs.
fn fixed_response_server(answer: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
    let address = listener.local_addr().expect("a bound socket has an address");
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let Ok(copy) = stream.try_clone() else { continue };
            let mut request = BufReader::new(copy).lines();
            while request.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
            // Whoever asked may be gone.
            stream.write_all(answer.as_bytes()).ok();
        }
    });
    address
}

/// What a file of the state folder says; null while there is none.
fn read_state_file(workplace: &TestFolder, file: &str) -> Value {
    let path = workplace.path().join("state").join(file);
    let Ok(text) = fs_err::read_to_string(path) else { return Value::Null };
    serde_json::from_str(&text).expect("what is there is whole")
}

/// A moment of such a file, in seconds since the epoch.
fn seconds(value: &Value) -> Option<i64> {
    let text = value.as_str()?;
    Some(chrono::DateTime::parse_from_rfc3339(text).expect("a time of RFC 3339").timestamp())
}
