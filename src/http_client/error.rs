//! Reading of transport errors: their kind, and their cause without the URL.

use std::error::Error;
use std::io;

use cynosure_engine::Cause;
use rustls::InvalidMessage;

use super::resolver::DnsError;

/// Prefix of the errors of an HTTP proxy, whose type is not public in hyper-util.
const TUNNEL_ERROR_PREFIX: &str = "tunnel error";

/// Kind of a transport error: the reason why a request has no response, or a truncated one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TransportErrorKind {
    /// The request cannot be built, and nothing was sent.
    InvalidRequest,
    /// A time limit of the client or of the system has passed.
    Timeout,
    DnsFailure,
    /// An HTTP proxy did not open a tunnel.
    ProxyFailure,
    /// TLS has failed, or the certificate is not trusted.
    TlsFailure,
    /// The server has ended the connection during the TLS handshake.
    TlsAborted,
    /// Nothing listens at the address.
    Refused,
    /// There is no route to the address.
    NoRoute,
    /// Another error before the connection was established.
    ConnectFailure,
    /// An established connection was reset, or ended before a response.
    Interrupted,
    /// The body ended too early.
    TruncatedBody,
}

impl TransportErrorKind {
    /// Returns the cause of the failure, and the problem as the words before the name of the server.
    #[must_use]
    pub fn to_cause_and_problem(self) -> (Cause, &'static str) {
        match self {
            Self::InvalidRequest => (Cause::Unknown, "an invalid request to"),
            Self::Timeout => (Cause::Timeout, "timed out connecting to"),
            Self::DnsFailure => (Cause::LocalNetwork, "cannot resolve the name"),
            Self::ProxyFailure => (Cause::Proxy, "the proxy cannot reach"),
            Self::TlsFailure => (Cause::Tls, "no secure connection to"),
            Self::TlsAborted => (Cause::Tls, "the TLS handshake was aborted by"),
            Self::Refused => (Cause::Connection, "nothing listens at"),
            Self::NoRoute => (Cause::LocalNetwork, "no route to"),
            Self::ConnectFailure | Self::Interrupted => {
                (Cause::Connection, "a broken connection to")
            }
            Self::TruncatedBody => (Cause::Truncated, "truncated response from"),
        }
    }

    /// Returns the kind of an error.
    #[must_use]
    pub fn of(error: &reqwest::Error) -> Self {
        if error.is_builder() {
            return Self::InvalidRequest;
        }
        if error.is_timeout() {
            return Self::Timeout;
        }
        match error_chain(error).find_map(kind_of_link) {
            Some(Self::Interrupted) if error.is_connect() => Self::ConnectFailure,
            Some(kind) => kind,
            // Before a request is sent, an early end of the connection can only end the handshake.
            None if error.is_connect() && error_chain(error).any(is_unexpected_eof) => {
                Self::TlsAborted
            }
            None if error.is_connect() => Self::ConnectFailure,
            None if error.is_body() || error.is_decode() => Self::TruncatedBody,
            None => Self::Interrupted,
        }
    }

    /// Returns the kind of an error of a connection that does not speak HTTP.
    #[must_use]
    pub fn of_io(error: &io::Error) -> Self {
        error_chain(error).find_map(kind_of_link).unwrap_or(Self::Interrupted)
    }

    /// Returns a summary for people, without the details of the connection.
    fn summary(self) -> &'static str {
        match self {
            Self::InvalidRequest => "the request cannot be built",
            Self::Timeout => "no response in time",
            Self::DnsFailure
            | Self::ProxyFailure
            | Self::TlsFailure
            | Self::TlsAborted
            | Self::Refused
            | Self::NoRoute
            | Self::ConnectFailure => "no connection",
            Self::Interrupted | Self::TruncatedBody => "the connection was interrupted",
        }
    }
}

/// Describes an error without the URL, which may be a secret: `no connection: Connection refused`.
#[must_use]
pub fn describe_error(error: &reqwest::Error) -> String {
    format!("{}: {}", TransportErrorKind::of(error).summary(), root_cause(error))
}

/// Returns the innermost message: the outer ones contain the URL, or only say that an inner
/// operation failed.
#[must_use]
pub fn root_cause(error: &reqwest::Error) -> String {
    error_chain(error)
        .skip(1)
        .last()
        .map_or_else(|| "no reason given".to_owned(), ToString::to_string)
}

/// True if the other side answered a TLS handshake with something else, such as a line of text.
#[must_use]
pub fn is_response_without_tls(error: &io::Error) -> bool {
    error_chain(error).any(|link| {
        matches!(
            link.downcast_ref::<rustls::Error>(),
            Some(rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType))
        )
    })
}

/// Returns the error and all its sources. `source` of an I/O error skips the error that it wraps.
pub fn error_chain<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&link| {
        let wrapped = link.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        match wrapped {
            Some(inner) => Some(inner as &(dyn Error + 'static)),
            None => link.source(),
        }
    })
}

fn kind_of_link(link: &(dyn Error + 'static)) -> Option<TransportErrorKind> {
    if link.is::<DnsError>() {
        Some(TransportErrorKind::DnsFailure)
    } else if link.to_string().starts_with(TUNNEL_ERROR_PREFIX) {
        Some(TransportErrorKind::ProxyFailure)
    } else if link.is::<rustls::Error>() {
        Some(TransportErrorKind::TlsFailure)
    } else {
        link.downcast_ref::<io::Error>().and_then(kind_of_io_error)
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the enum is non-exhaustive, and few kinds matter here"
)]
fn kind_of_io_error(error: &io::Error) -> Option<TransportErrorKind> {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Some(TransportErrorKind::Refused),
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe => Some(TransportErrorKind::Interrupted),
        io::ErrorKind::NetworkUnreachable
        | io::ErrorKind::NetworkDown
        | io::ErrorKind::HostUnreachable
        | io::ErrorKind::AddrNotAvailable => Some(TransportErrorKind::NoRoute),
        io::ErrorKind::TimedOut => Some(TransportErrorKind::Timeout),
        _ => None,
    }
}

fn is_unexpected_eof(error: &(dyn Error + 'static)) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == io::ErrorKind::UnexpectedEof)
}
