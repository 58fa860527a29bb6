//! What else the machine tells over the bus: whether we may restart a unit, polkit, and its clock.

use crate::systemd::bus::{Bus, MethodCall};
use crate::systemd::error::{BusError, BusErrorKind};
use crate::systemd::unit::UnitName;

const POLKIT_SERVICE: &str = "org.freedesktop.PolicyKit1";
const POLKIT_PATH: &str = "/org/freedesktop/PolicyKit1/Authority";
const POLKIT_INTERFACE: &str = "org.freedesktop.PolicyKit1.Authority";

const TIMEDATE_SERVICE: &str = "org.freedesktop.timedate1";
const TIMEDATE_PATH: &str = "/org/freedesktop/timedate1";

/// Whether a restart would be granted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum RestartPermission {
    Granted,
    Denied(BusError),
}

impl Bus {
    /// Finds out whether this user may restart a unit, and restarts nothing.
    ///
    /// polkit itself answers such a question with the unit's name in it to root alone. So systemd is
    /// asked for a restart that "isolates", which it refuses as nonsense, but only after it has looked
    /// whether a restart is allowed.
    ///
    /// # Errors
    /// Why that is not known.
    pub fn check_restart_permission(&self, unit: &UnitName) -> Result<RestartPermission, BusError> {
        let what = format!("ask whether {unit} may be restarted");
        match self.restart_in_mode(unit, "isolate", what) {
            Err(BusError { kind: BusErrorKind::Failed { reason: why }, .. })
                if why.contains("(InvalidArgs)") =>
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

    /// Asks for the version of polkit, which is started for it where it sleeps.
    ///
    /// # Errors
    /// Why it was not told: mostly that there is none.
    pub fn polkit_version(&self) -> Result<String, BusError> {
        let what = "ask for the version of polkit".to_owned();
        let call = MethodCall { operation: what, service: POLKIT_SERVICE, unit: None };
        self.get_property(&call, POLKIT_PATH, POLKIT_INTERFACE, "BackendVersion")
    }

    /// Asks whether the kernel's clock follows a server.
    ///
    /// # Errors
    /// Why it was not told.
    pub fn is_clock_synchronised(&self) -> Result<bool, BusError> {
        let what = "ask whether the clock is synchronised".to_owned();
        let call = MethodCall { operation: what, service: TIMEDATE_SERVICE, unit: None };
        self.get_property(&call, TIMEDATE_PATH, TIMEDATE_SERVICE, "NTPSynchronized")
    }
}
