//! D-Bus call: connects, calls and disconnects, all within one time limit.

use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use zbus::{Connection, connection};

use crate::retry::{RetryError, RetryPolicy};
use crate::systemd::error::{BusError, BusErrorKind};

/// Address of the system bus, unless the environment overrides it (D-Bus specification, "System
/// message bus").
pub const SYSTEM_BUS: &str = "unix:path=/run/dbus/system_bus_socket";

/// Client of a bus. It keeps no connection: each call opens one, because calls are a minute apart,
/// and a connection that broke meanwhile would have to be detected.
#[derive(Clone, Debug)]
pub struct Bus {
    address: String,
    timeout: Duration,
    retry: RetryPolicy,
}

/// Description of a method call, for its error.
pub(super) struct MethodCall<'a> {
    /// Such as `restart cynosure.service`.
    pub operation: String,
    pub service: &'a str,
    pub unit: Option<&'a str>,
}

impl Bus {
    /// Creates a client for an address. Each attempt of a call takes `timeout` at most; `retry` is
    /// the retry policy for calls whose connection breaks.
    #[must_use]
    pub fn new(address: impl Into<String>, timeout: Duration, retry: RetryPolicy) -> Self {
        Self { address: address.into(), timeout, retry }
    }

    /// Makes a call on a separate connection and runtime.
    pub(super) fn call<T>(
        &self,
        call: &MethodCall<'_>,
        mut request: impl AsyncFnMut(&Connection) -> Result<T, zbus::Error>,
    ) -> Result<T, BusError> {
        let is_disconnected =
            |error: &BusError| matches!(error.kind, BusErrorKind::Disconnected { .. });
        let outcome = self.retry.when(is_disconnected).run_blocking(|| {
            let result = self.call_once(call, &mut request);
            result.map_err(|kind| BusError { operation: call.operation.clone(), kind })
        });
        outcome.map_err(|error| match error {
            RetryError::Failed { failure, .. } => failure,
            RetryError::Rejected { breaker } => {
                let kind = BusErrorKind::Failed {
                    reason: format!("the circuit breaker {breaker} is open"),
                };
                BusError { operation: call.operation.clone(), kind }
            }
        })
    }

    fn call_once<T>(
        &self,
        call: &MethodCall<'_>,
        request: &mut impl AsyncFnMut(&Connection) -> Result<T, zbus::Error>,
    ) -> Result<T, BusErrorKind> {
        let runtime = self.build_runtime()?;
        let result = runtime.block_on(async {
            let call = self.connect_and_call(call, request);
            let result = tokio::time::timeout(self.timeout, call).await;
            result.unwrap_or(Err(BusErrorKind::Timeout { after: self.timeout }))
        });
        // A task that hangs must not delay the caller.
        runtime.shutdown_background();
        result
    }

    async fn connect_and_call<T>(
        &self,
        call: &MethodCall<'_>,
        request: &mut impl AsyncFnMut(&Connection) -> Result<T, zbus::Error>,
    ) -> Result<T, BusErrorKind> {
        let connection = connection::Builder::address(self.address.as_str())
            .build()
            .await
            .map_err(|error| BusErrorKind::from_connect_error(&self.address, &error))?;
        request(&connection)
            .await
            .map_err(|error| BusErrorKind::from_call_error(&error, call.service, call.unit))
    }

    fn build_runtime(&self) -> Result<Runtime, BusErrorKind> {
        let runtime = Builder::new_current_thread().enable_all().build();
        runtime.map_err(|error| BusErrorKind::Failed { reason: error.to_string() })
    }
}
