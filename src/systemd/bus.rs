//! One call over the bus: connect, ask, leave, all within one time limit.

use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use zbus::{Connection, connection};

use crate::retry::{RetryError, RetryPolicy};
use crate::systemd::error::{BusError, BusErrorKind};

/// Where the system bus is, unless the environment says otherwise (D-Bus specification, "System message bus").
pub const SYSTEM_BUS: &str = "unix:path=/run/dbus/system_bus_socket";

/// The way to a bus. Holds no connection: a call makes its own, since between two of them a minute
/// passes, and a connection that broke meanwhile would have to be noticed.
#[derive(Clone, Debug)]
pub struct Bus {
    address: String,
    timeout: Duration,
    retry: RetryPolicy,
}

/// What is asked, and whom, for the error.
pub(super) struct MethodCall<'a> {
    /// `restart cynosure.service`
    pub operation: String,
    pub service: &'a str,
    pub unit: Option<&'a str>,
}

impl Bus {
    /// The bus at an address. Each attempt of a call takes `timeout` at most; `again` says how often
    /// one is made that finds the bus broken off.
    #[must_use]
    pub fn new(address: impl Into<String>, timeout: Duration, again: RetryPolicy) -> Self {
        Self { address: address.into(), timeout, retry: again }
    }

    /// Carries out a call on a connection and a runtime of its own.
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
        // What hangs must not hold up whoever asked.
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
