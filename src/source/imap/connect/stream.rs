//! Byte stream to a server, in plain text or through TLS.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::client::TlsStream;

/// Byte stream to a server. It knows when data arrived, which gives the latency of a response.
#[derive(Debug)]
pub(in crate::source::imap) struct ImapStream {
    transport: StreamTransport,
    first_data_at: Option<Instant>,
}

/// Protocol below IMAP.
#[derive(Debug)]
enum StreamTransport {
    Plain(TcpStream),
    /// Boxed because a TLS session is ten times as large.
    Tls(Box<TlsStream<TcpStream>>),
}

impl ImapStream {
    pub(super) fn plain(stream: TcpStream) -> Self {
        Self { transport: StreamTransport::Plain(stream), first_data_at: None }
    }

    pub(super) fn tls(stream: TlsStream<TcpStream>) -> Self {
        Self { transport: StreamTransport::Tls(Box::new(stream)), first_data_at: None }
    }

    pub(in crate::source::imap) fn is_encrypted(&self) -> bool {
        match self.transport {
            StreamTransport::Plain(_) => false,
            StreamTransport::Tls(_) => true,
        }
    }

    /// Returns the connection below; `None` if it is encrypted.
    pub(in crate::source::imap) fn into_plain(self) -> Option<TcpStream> {
        match self.transport {
            StreamTransport::Plain(stream) => Some(stream),
            StreamTransport::Tls(_) => None,
        }
    }

    /// Forgets the arrival of earlier data.
    pub(in crate::source::imap) fn restart_clock(&mut self) {
        self.first_data_at = None;
    }

    /// Returns the arrival of the first data since the clock was restarted.
    pub(in crate::source::imap) fn first_data_at(&self) -> Option<Instant> {
        self.first_data_at
    }
}

impl AsyncRead for ImapStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let length = buffer.filled().len();
        let result = match &mut this.transport {
            StreamTransport::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            StreamTransport::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        };
        if length < buffer.filled().len() {
            this.first_data_at.get_or_insert_with(Instant::now);
        }
        result
    }
}

impl AsyncWrite for ImapStream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().transport {
            StreamTransport::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            StreamTransport::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().transport {
            StreamTransport::Plain(stream) => Pin::new(stream).poll_flush(context),
            StreamTransport::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().transport {
            StreamTransport::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            StreamTransport::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
