//! Calls to hosts that do not answer, or answer with an error.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::time::Duration;

use tokio::time::Instant;

use super::*;

/// Limits for which a test can wait, and which a host of a test meets on a busy machine too.
const LIMITS: CallLimits = CallLimits {
    attempt: Duration::from_secs(5),
    script: Duration::from_secs(5),
    patience: Duration::from_secs(5),
};

/// Limit of a host, shorter than that of a call.
const HOST_WAIT_MAX: Duration = Duration::from_secs(3);

fn database(ports: &[u16]) -> Database {
    let hosts: Vec<String> = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
    let url = format!("postgres://me:s3cret@{}/mail", hosts.join(","));
    let settings = DatabaseSettings::parse(&url).unwrap();
    Database::open_with(settings.with_host_wait_max(HOST_WAIT_MAX), LIMITS).unwrap()
}

/// Returns a host whose system accepts connections, and which never answers.
fn silent_host() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// Starts a host that answers each login with this error, and returns its port.
fn refusing_host(sql_state: &'static str, message: &'static str) -> u16 {
    let (listener, port) = silent_host();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut startup = [0; 1024];
            let _length = stream.read(&mut startup).unwrap();
            let fields = format!("SFATAL\0VFATAL\0C{sql_state}\0M{message}\0\0");
            let length = u32::try_from(fields.len() + 4).unwrap();
            let reply = [b"E".as_slice(), &length.to_be_bytes(), fields.as_bytes()].concat();
            stream.write_all(&reply).unwrap();
        }
    });
    port
}

#[test]
fn a_silent_host_delays_a_call_until_its_limit_only() {
    let (_listener, port) = silent_host();
    let database = database(&[port]);
    let started_at = Instant::now();

    let error = database.query("SELECT 1", Vec::new()).unwrap_err();

    // A call without a limit would not end.
    assert!(started_at.elapsed() >= LIMITS.patience);
    assert!(!error.is_permanent());
    let text = error.to_string();
    assert!(text.contains(&format!("127.0.0.1:{port}")), "{text}");
}

#[test]
fn a_closed_port_is_named_in_the_error() {
    let (listener, port) = silent_host();
    drop(listener);

    let error = database(&[port]).run_script("SELECT 1").unwrap_err();

    let text = error.to_string();
    assert!(text.contains(&format!("127.0.0.1:{port}: Connection refused")), "{text}");
}

#[test]
fn a_wrong_password_ends_a_call_at_once() {
    let port = refusing_host("28P01", "password authentication failed");
    let settings = format!("postgres://me:s3cret@127.0.0.1:{port}/mail");
    let settings = DatabaseSettings::parse(&settings).unwrap();
    let limits = CallLimits { patience: Duration::from_secs(600), ..LIMITS };
    let database = Database::open_with(settings, limits).unwrap();

    for _ in 0..2 {
        let error = database.query("SELECT 1", Vec::new()).unwrap_err();
        assert!(matches!(error, DatabaseError::Refused { .. }), "{error}");
        assert!(error.to_string().contains("the password is wrong"), "{error}");
    }
}

#[test]
fn a_refusal_beside_a_silent_host_may_pass() {
    let (_listener, silent) = silent_host();
    let refusing = refusing_host("3D000", "database \"mail\" does not exist");

    let error = database(&[silent, refusing]).query("SELECT 1", Vec::new()).unwrap_err();

    let text = error.to_string();
    assert!(matches!(error, DatabaseError::Unreachable { .. }), "{text}");
    assert!(text.contains("no answer within 3 s; 127.0.0.1:"), "{text}");
    assert!(text.contains("the database does not exist"), "{text}");
}

#[tokio::test]
async fn a_task_waits_without_blocking() {
    let port = refusing_host("28000", "no pg_hba.conf entry");
    let database = database(&[port]);

    let (first, second) = tokio::join!(
        database.query_async("SELECT 1", Vec::new()),
        database.query_async("SELECT 2", Vec::new()),
    );

    assert!(first.unwrap_err().is_permanent());
    assert!(second.unwrap_err().is_permanent());
}

#[tokio::test]
async fn the_event_loop_may_make_a_blocking_call() {
    let port = refusing_host("28000", "no pg_hba.conf entry");

    assert!(database(&[port]).query("SELECT 1", Vec::new()).unwrap_err().is_permanent());
}

#[test]
fn a_database_does_not_show_its_password() {
    let (_listener, port) = silent_host();
    let database = database(&[port]);

    assert_eq!(database.name(), format!("127.0.0.1:{port}/mail"));
    assert!(!format!("{database:?}").contains("s3cret"));
}
