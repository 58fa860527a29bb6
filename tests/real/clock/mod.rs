//! Worker and monitor under a clock that is set a day forward, a day back, to 1970, and to the true
//! time again.

mod fake_clock;
mod monitor;
mod worker;

#[expect(clippy::unwrap_used, reason = "test helpers panic on failure")]
#[path = "../../it/bus/daemon.rs"]
mod daemon;
#[expect(clippy::unwrap_used, reason = "test helpers panic on failure")]
#[expect(dead_code, reason = "other tests use more of it")]
#[path = "../../it/fake_receiver.rs"]
mod receiver;
#[expect(clippy::unwrap_used, clippy::panic, reason = "test helpers panic on failure")]
#[path = "../../it/bus/systemd.rs"]
mod systemd;

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::thread;

use serde_json::Value;

use crate::test_program::TestFolder;

/// Starts a server that responds to every request with these bytes, until the test ends.
fn fixed_response_server(response: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
    let address = listener.local_addr().expect("a bound socket has an address");
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let Ok(copy) = stream.try_clone() else { continue };
            let mut request = BufReader::new(copy).lines();
            while request.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
            // Fails if the client has closed the connection.
            stream.write_all(response.as_bytes()).ok();
        }
    });
    address
}

/// Returns the content of a file of the state folder; null if it does not exist.
fn read_state_file(test_folder: &TestFolder, file: &str) -> Value {
    let path = test_folder.path().join("state").join(file);
    let Ok(text) = fs_err::read_to_string(path) else { return Value::Null };
    serde_json::from_str(&text).expect("the file is complete")
}

/// Parses a time of a state file, in seconds since the epoch.
fn unix_seconds(value: &Value) -> Option<i64> {
    let text = value.as_str()?;
    Some(chrono::DateTime::parse_from_rfc3339(text).expect("a time of RFC 3339").timestamp())
}
