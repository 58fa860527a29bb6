//! What else the machine tells over the bus: whether we may restart a unit, polkit, and its clock.

use crate::systemd::bus::{Bus, Call};
use crate::systemd::error::{BusError, BusTrouble};
use crate::systemd::unit::UnitName;

const POLKIT: &str = "org.freedesktop.PolicyKit1";
const POLKIT_PATH: &str = "/org/freedesktop/PolicyKit1/Authority";
const AUTHORITY: &str = "org.freedesktop.PolicyKit1.Authority";

const CLOCK: &str = "org.freedesktop.timedate1";
const CLOCK_PATH: &str = "/org/freedesktop/timedate1";

/// Whether a restart would be granted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Permission {
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
    pub fn may_restart(&self, unit: &UnitName) -> Result<Permission, BusError> {
        let what = format!("ask whether {unit} may be restarted");
        match self.restart_in_mode(unit, "isolate", what) {
            Err(BusError { trouble: BusTrouble::Failed { why }, .. })
                if why.contains("(InvalidArgs)") =>
            {
                Ok(Permission::Granted)
            }
            Ok(()) => Ok(Permission::Granted),
            Err(denied @ BusError { trouble: BusTrouble::NotAuthorised { .. }, .. }) => {
                Ok(Permission::Denied(denied))
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
        let call = Call { what, service: POLKIT, unit: None };
        self.property(&call, POLKIT_PATH, AUTHORITY, "BackendVersion")
    }

    /// Asks whether the kernel's clock follows a server.
    ///
    /// # Errors
    /// Why it was not told.
    pub fn clock_is_synchronised(&self) -> Result<bool, BusError> {
        let what = "ask whether the clock is synchronised".to_owned();
        let call = Call { what, service: CLOCK, unit: None };
        self.property(&call, CLOCK_PATH, CLOCK, "NTPSynchronized")
    }
}
