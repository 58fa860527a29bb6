//! Time limits of the responses to a command.

use std::cell::RefCell;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use cynosure_engine::{Cause, Failure, format_duration};
use tokio::io::AsyncRead;
use tokio::time::{Instant, timeout};

use crate::source::imap::connection::account::ImapAccount;
use crate::source::imap::wire::{BodySink, Response, Value, WireError, WireReader};

/// Time that a connection has waited for the server since the last progress, and bytes of a body in
/// the current rate window.
///
/// Time spent in the sink of a body does not count, because the server does not cause it.
#[derive(Debug)]
pub(super) struct ResponseTimer {
    account: Rc<ImapAccount>,
    /// Start of the current wait; `None` while the sink works.
    waiting_since: Option<Instant>,
    elapsed: Duration,
    window_elapsed: Duration,
    window_bytes: u64,
}

/// Sink that stops the timer while another sink works.
struct TimedBodies<'a, S> {
    bodies: &'a mut S,
    timer: &'a RefCell<ResponseTimer>,
}

/// Reads the next response, unless the server is too slow.
///
/// # Errors
/// Returns the errors of the reader. A timeout is that of a sink, with [`Cause::Timeout`].
pub(super) async fn read_in_time<R: AsyncRead + Unpin>(
    wire: &mut WireReader<R>,
    bodies: &mut impl BodySink,
    timer: &RefCell<ResponseTimer>,
) -> Result<Response, WireError> {
    let mut bodies = TimedBodies { bodies, timer };
    let mut reading = pin!(wire.read_response(&mut bodies));
    timer.borrow_mut().start_wait();
    loop {
        let max_wait = timer.borrow().remaining().map_err(WireError::Sink)?;
        if let Ok(result) = timeout(max_wait, reading.as_mut()).await {
            timer.borrow_mut().end_wait();
            return result;
        }
    }
}

impl ResponseTimer {
    pub(super) fn new(account: Rc<ImapAccount>) -> Self {
        Self {
            account,
            waiting_since: None,
            elapsed: Duration::ZERO,
            window_elapsed: Duration::ZERO,
            window_bytes: 0,
        }
    }

    /// Begins the time of the next message, row or reply.
    pub(super) fn restart(&mut self) {
        self.elapsed = Duration::ZERO;
    }

    /// Begins a wait. One that was dropped before its end does not count.
    fn start_wait(&mut self) {
        self.waiting_since = Some(Instant::now());
    }

    fn end_wait(&mut self) {
        if let Some(since) = self.waiting_since.take() {
            let waited = since.elapsed();
            self.elapsed = self.elapsed.saturating_add(waited);
            self.window_elapsed = self.window_elapsed.saturating_add(waited);
        }
    }

    fn restart_window(&mut self) {
        self.window_elapsed = Duration::ZERO;
        self.window_bytes = 0;
    }

    /// Returns the time after which the timer must be asked again.
    fn remaining(&self) -> Result<Duration, Failure> {
        let limits = &self.account.options.limits;
        // The sink has no deadline.
        let Some(since) = self.waiting_since else { return Ok(limits.idle_timeout) };
        let elapsed = self.elapsed.saturating_add(since.elapsed());
        let remaining = limits.total_timeout.saturating_sub(elapsed);
        if remaining.is_zero() {
            let (host, total) = (self.account.host(), format_duration(limits.total_timeout));
            let message = format!("{host} did not complete its response within {total}");
            return Err(Failure::new(Cause::Timeout, message));
        }
        Ok(remaining)
    }

    /// Ends the wait for the next bytes of a body, and checks the rate.
    fn record_bytes(&mut self, count: usize) -> Result<(), Failure> {
        self.end_wait();
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        self.window_bytes = self.window_bytes.saturating_add(count);
        let limits = &self.account.options.limits;
        if self.window_elapsed < limits.idle_timeout {
            return Ok(());
        }
        let rate = limits.min_rate;
        let required_bytes =
            u128::from(rate).saturating_mul(self.window_elapsed.as_millis()) / 1_000;
        if u128::from(self.window_bytes) < required_bytes {
            let message = format!("{} sends less than {rate} bytes a second", self.account.host());
            return Err(Failure::new(Cause::Timeout, message));
        }
        self.restart_window();
        Ok(())
    }
}

/// Returns true for the end of a command and for data that only an answer to one has.
///
/// Servers send untagged replies to keep a connection alive. Counts, flags and other messages are
/// sent unasked, too, so that a `FETCH` response is judged by the reader of the rows or bodies.
pub(super) fn is_progress(response: &Response) -> bool {
    match response {
        Response::Tagged { .. } => true,
        Response::Data { name, .. } => matches!(name.as_str(), "LIST" | "STATUS"),
        Response::Status(_) | Response::Continuation(_) => false,
    }
}

impl<S: BodySink> BodySink for TimedBodies<'_, S> {
    async fn begin(&mut self, values: &[Value], length: u64) -> Result<(), Failure> {
        self.timer.borrow_mut().end_wait();
        let result = self.bodies.begin(values, length).await;
        self.timer.borrow_mut().restart_window();
        self.timer.borrow_mut().start_wait();
        result
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.timer.borrow_mut().record_bytes(bytes.len())?;
        let result = self.bodies.write(bytes).await;
        self.timer.borrow_mut().start_wait();
        result
    }

    async fn end(&mut self) -> Result<(), Failure> {
        self.timer.borrow_mut().end_wait();
        let result = self.bodies.end().await;
        self.timer.borrow_mut().start_wait();
        result
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt as _, duplex};
    use tokio::time::sleep;

    use super::*;
    use crate::source::imap::connect::test_server::{account, plain_options};

    /// Sink that is slow.
    struct DelayedBodies(Duration);

    impl BodySink for DelayedBodies {
        async fn begin(&mut self, _values: &[Value], _length: u64) -> Result<(), Failure> {
            Ok(())
        }

        async fn write(&mut self, _bytes: &[u8]) -> Result<(), Failure> {
            sleep(self.0).await;
            Ok(())
        }

        async fn end(&mut self) -> Result<(), Failure> {
            Ok(())
        }
    }

    /// Returns a timer with a window of 5 seconds and a total of 60.
    fn timer(min_rate: u64) -> RefCell<ResponseTimer> {
        let mut options = plain_options(0);
        options.limits.min_rate = min_rate;
        RefCell::new(ResponseTimer::new(account(options)))
    }

    /// Reads a response that goes on by one byte every 4 seconds. Returns the error and its time in
    /// seconds.
    async fn read_trickle(start: &str, min_rate: u64) -> (String, u64) {
        let (mut server, client) = duplex(1024);
        let (mut wire, timer) = (WireReader::new(client), timer(min_rate));
        let started_at = Instant::now();
        let read = async {
            let result = read_in_time(&mut wire, &mut DelayedBodies(Duration::ZERO), &timer).await;
            (result.unwrap_err().to_string(), started_at.elapsed().as_secs())
        };
        let write = async {
            server.write_all(start.as_bytes()).await.unwrap();
            for _ in 0..20 {
                sleep(Duration::from_secs(4)).await;
                server.write_all(b" ").await.unwrap();
            }
        };
        tokio::join!(read, write).0
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_below_the_lowest_rate_times_out() {
        let (message, seconds) = read_trickle("* 1 FETCH (BODY[] {500}\r\n", 100).await;

        assert_eq!(message, "127.0.0.1 sends less than 100 bytes a second");
        assert_eq!(seconds, 8, "the first byte after a window");
    }

    #[tokio::test(start_paused = true)]
    async fn a_response_that_does_not_end_times_out() {
        for start in ["* 1 FETCH (BODY[] {500}\r\n", "* LIST ("] {
            let (message, seconds) = read_trickle(start, 0).await;

            assert_eq!(message, "127.0.0.1 did not complete its response within 1 min");
            assert_eq!(seconds, 60, "{start}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn time_in_the_sink_counts_for_no_limit() {
        let body = "a".repeat(100_000);
        let text = format!("* 1 FETCH (BODY[] {{100000}}\r\n{body})\r\n");
        let mut wire = WireReader::new(text.as_bytes());
        let mut bodies = DelayedBodies(Duration::from_secs(120));

        let response = read_in_time(&mut wire, &mut bodies, &timer(1024)).await.unwrap();

        assert!(matches!(response, Response::Data { .. }), "{response:?}");
    }
}
