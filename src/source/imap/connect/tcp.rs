//! TCP connections, and the failures of connections.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use cynosure_engine::{Cause, Failure, format_duration};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{sleep, timeout};

use crate::http_client::{TransportErrorKind, error_chain};
use crate::source::imap::options::address_of;

/// Delay after which the next address of a name is tried beside the one that has not answered, so
/// that a broken IPv6 route does not use up the whole time (RFC 8305 §5).
const NEXT_ADDRESS_DELAY: Duration = Duration::from_millis(250);

/// Connects to a host by name or IP address. The first address that answers is used.
///
/// # Errors
/// Returns the failure if no address answers within `max_wait`, which includes the DNS lookup.
pub(in crate::source::imap) async fn open_tcp(
    host: &str,
    port: u16,
    max_wait: Duration,
) -> Result<TcpStream, Failure> {
    let address = address_of(host, port);
    match timeout(max_wait, resolve_and_connect(host, port, &address)).await {
        Ok(result) => result,
        Err(_elapsed) => {
            let wait = format_duration(max_wait);
            let message = format!("timed out connecting to {address}: no answer for {wait}");
            Err(Failure::new(Cause::Timeout, message))
        }
    }
}

/// Returns the failure of a connection to `address`, from the error of its system call or of TLS.
pub(in crate::source::imap) fn transport_failure(error: &io::Error, address: &str) -> Failure {
    let (cause, problem) = TransportErrorKind::of_io(error).to_cause_and_problem();
    Failure::new(cause, format!("{problem} {address}: {}", innermost_message(error)))
}

/// Returns the innermost message, because the outer ones only say that an operation failed.
fn innermost_message(error: &io::Error) -> String {
    error_chain(error).last().map(ToString::to_string).unwrap_or_default()
}

async fn resolve_and_connect(host: &str, port: u16, address: &str) -> Result<TcpStream, Failure> {
    let found = lookup_host((host, port)).await.map_err(|error| {
        Failure::new(Cause::LocalNetwork, format!("cannot resolve the name {host}: {error}"))
    })?;
    let addresses: Vec<SocketAddr> = found.collect();
    let to_failure = |error: io::Error| transport_failure(&error, address);
    let stream = connect_to_any(&addresses).await.map_err(to_failure)?;
    // Commands are short, and must not wait for the acknowledgement of those before.
    stream.set_nodelay(true).map_err(to_failure)?;
    Ok(stream)
}

/// Connects to the first address that answers. A new attempt starts when one has failed, and after
/// a delay.
async fn connect_to_any(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut untried = addresses.iter();
    let mut attempts = FuturesUnordered::new();
    let mut reported: Option<io::Error> = None;
    loop {
        attempts.extend(untried.next().map(|address| TcpStream::connect(*address)));
        tokio::select! {
            result = attempts.next() => match result {
                Some(Ok(stream)) => return Ok(stream),
                Some(Err(error)) => {
                    // A missing route for one IP version says less than an answer over the other.
                    let should_keep = reported.as_ref().is_some_and(|first| !is_no_route(first));
                    if !should_keep {
                        reported = Some(error);
                    }
                }
                None => {
                    return Err(reported.unwrap_or_else(|| io::ErrorKind::AddrNotAvailable.into()));
                }
            },
            () = sleep(NEXT_ADDRESS_DELAY), if !untried.as_slice().is_empty() => {}
        }
    }
}

fn is_no_route(error: &io::Error) -> bool {
    TransportErrorKind::of_io(error) == TransportErrorKind::NoRoute
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// Returns an address at which nothing listens.
    async fn closed_address() -> SocketAddr {
        TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
    }

    #[tokio::test]
    async fn the_next_address_is_tried_when_one_refuses() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let open = listener.local_addr().unwrap();

        let stream = connect_to_any(&[closed_address().await, open]).await.unwrap();

        assert_eq!(stream.peer_addr().unwrap(), open);
    }

    #[tokio::test]
    async fn a_port_without_a_server_is_named() {
        let closed = closed_address().await;

        let failure =
            open_tcp("127.0.0.1", closed.port(), Duration::from_secs(5)).await.unwrap_err();

        assert_eq!(failure.cause, Cause::Connection);
        let expected = format!("nothing listens at {closed}: Connection refused");
        assert!(failure.message.starts_with(&expected), "{failure}");
    }

    #[tokio::test]
    async fn a_name_without_an_address_is_a_failure_of_the_network() {
        let failure = open_tcp("nowhere.invalid", 993, Duration::from_secs(5)).await.unwrap_err();

        assert_eq!(failure.cause, Cause::LocalNetwork);
        let expected = "cannot resolve the name nowhere.invalid: ";
        assert!(failure.message.starts_with(expected), "{failure}");
    }

    #[tokio::test]
    async fn no_address_at_all_is_an_error() {
        assert!(connect_to_any(&[]).await.is_err());
    }

    #[test]
    fn an_ipv6_address_is_shown_in_brackets() {
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);

        let failure = transport_failure(&refused, &address_of("::1", 143));

        assert!(failure.message.starts_with("nothing listens at [::1]:143: "), "{failure}");
    }
}
