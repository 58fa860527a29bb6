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
    /// Creates a client for an address. Each attempt of a call takes `timeout` at most; `again` is
    /// the retry policy for calls whose connection breaks.
    #[must_use]
    pub fn new(address: impl Into<String>, timeout: Duration, again: RetryPolicy) -> Self {
        Self { address: address.into(), timeout, retry: again }
    }

    /// Makes a call on a separate connection and runtime.
    pub(super) fn call<T>(
        &self,
        call: &MethodCall<'_>,
        mut ask: impl AsyncFnMut(&Connection) -> Result<T, zbus::Error>,
    ) -> Result<T, BusError> {
        let broke_off = |error: &BusError| matches!(error.kind, BusErrorKind::Disconnected { .. });
        let outcome = self.retry.when(broke_off).run_blocking(|| {
            let asked = self.call_once(call, &mut ask);
            asked.map_err(|trouble| BusError { operation: call.operation.clone(), kind: trouble })
        });
        outcome.map_err(|gave_up| match gave_up {
            RetryError::Failed { failure, .. } => failure,
            RetryError::Rejected { breaker: guard } => {
                let trouble =
                    BusErrorKind::Failed { reason: format!("the breaker {guard} is open") };
                BusError { operation: call.operation.clone(), kind: trouble }
            }
        })
    }

    fn call_once<T>(
        &self,
        call: &MethodCall<'_>,
        ask: &mut impl AsyncFnMut(&Connection) -> Result<T, zbus::Error>,
    ) -> Result<T, BusErrorKind> {
        let runtime = self.build_runtime()?;
        let asked = runtime.block_on(async {
            let answer = tokio::time::timeout(self.timeout, self.connect_and_call(call, ask)).await;
            answer.unwrap_or(Err(BusErrorKind::Timeout { after: self.timeout }))
        });
        // A task that hangs must not delay the caller.
        runtime.shutdown_background();
        asked
    }

    async fn connect_and_call<T>(
        &self,
        call: &MethodCall<'_>,
        ask: &mut impl AsyncFnMut(&Connection) -> Result<T, zbus::Error>,
    ) -> Result<T, BusErrorKind> {
        let connection = connection::Builder::address(self.address.as_str())
            .build()
            .await
            .map_err(|error| BusErrorKind::from_connect_error(&self.address, &error))?;
        ask(&connection)
            .await
            .map_err(|error| BusErrorKind::from_call_error(&error, call.service, call.unit))
    }

    fn build_runtime(&self) -> Result<Runtime, BusErrorKind> {
        let runtime = Builder::new_current_thread().enable_all().build();
        runtime.map_err(|error| BusErrorKind::Failed { reason: error.to_string() })
    }
}
