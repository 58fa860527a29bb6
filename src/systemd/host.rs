//! Host queries over the bus: permission to restart a unit, version of polkit, and clock
//! synchronisation.

use crate::systemd::bus::{Bus, MethodCall};
use crate::systemd::error::{BusError, BusErrorKind};
use crate::systemd::unit::UnitName;

const POLKIT_SERVICE: &str = "org.freedesktop.PolicyKit1";
const POLKIT_PATH: &str = "/org/freedesktop/PolicyKit1/Authority";
const POLKIT_INTERFACE: &str = "org.freedesktop.PolicyKit1.Authority";

const TIMEDATE_SERVICE: &str = "org.freedesktop.timedate1";
const TIMEDATE_PATH: &str = "/org/freedesktop/timedate1";

/// Permission to restart a unit.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum RestartPermission {
    Granted,
    Denied(BusError),
}

impl Bus {
    /// Checks whether this user may restart a unit, and restarts nothing.
    ///
    /// polkit answers a direct question about a named unit only to root. So systemd is asked for a
    /// restart in the mode `isolate`, which it rejects as invalid, but only after it has checked
    /// the permission.
    ///
    /// # Errors
    /// A bus error; then the permission is unknown.
    pub fn check_restart_permission(&self, unit: &UnitName) -> Result<RestartPermission, BusError> {
        let operation = format!("check whether {unit} may be restarted");
        match self.restart_in_mode(unit, "isolate", operation) {
            Err(BusError { kind: BusErrorKind::Failed { reason }, .. })
                if reason.contains("(InvalidArgs)") =>
            {
                Ok(RestartPermission::Granted)
            }
            Ok(()) => Ok(RestartPermission::Granted),
            Err(denied @ BusError { kind: BusErrorKind::NotAuthorised { .. }, .. }) => {
                Ok(RestartPermission::Denied(denied))
            }
            Err(error) => Err(error),
        }
    }

    /// Returns the version of polkit, which is started for the query if it is not running.
    ///
    /// # Errors
    /// A bus error, mostly because polkit is not installed.
    pub fn polkit_version(&self) -> Result<String, BusError> {
        let operation = "query the version of polkit".to_owned();
        let call = MethodCall { operation, service: POLKIT_SERVICE, unit: None };
        self.get_property(&call, POLKIT_PATH, POLKIT_INTERFACE, "BackendVersion")
    }

    /// Returns true if the kernel clock is synchronised with a server.
    ///
    /// # Errors
    /// A bus error.
    pub fn is_clock_synchronised(&self) -> Result<bool, BusError> {
        let operation = "query the clock synchronisation".to_owned();
        let call = MethodCall { operation, service: TIMEDATE_SERVICE, unit: None };
        self.get_property(&call, TIMEDATE_PATH, TIMEDATE_SERVICE, "NTPSynchronized")
    }
}
