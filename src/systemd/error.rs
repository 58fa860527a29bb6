//! Why a call over the bus came to nothing: the only reader of the bus's own errors.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use zbus::DBusError;

use crate::engine::printable;

/// A call that came to nothing.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BusError {
    /// What was asked for: `restart cynosure.service`.
    pub call: String,
    pub trouble: BusTrouble,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub enum BusTrouble {
    /// Nothing answers where the bus should be.
    NoBus {
        address: String,
        why: String,
    },
    /// The bus is there, and what was called is not on it.
    NoService {
        service: String,
    },
    /// Neither a rule nor the user's rank allows it.
    NotAuthorised {
        why: String,
    },
    UnknownUnit {
        unit: String,
    },
    /// Within the time it had.
    NoAnswer {
        after: Duration,
    },
    /// Refused for a reason of its own, or answered with what nobody understands.
    Failed {
        why: String,
    },
}

impl BusError {
    /// What a person can do about it.
    #[must_use]
    pub fn remedy(&self) -> String {
        match &self.trouble {
            BusTrouble::NoBus { .. } => {
                "start dbus (`systemctl start dbus.socket`), or let the service's own sandbox reach \
                 its socket"
                    .to_owned()
            }
            BusTrouble::NoService { service } if service == SYSTEMD => {
                "it needs systemd as the first process; elsewhere restart the worker by the means \
                 you started it"
                    .to_owned()
            }
            BusTrouble::NoService { service } => format!("install or start {service}"),
            BusTrouble::NotAuthorised { .. } => {
                "install polkit and the rule 50-cynosure.rules into /etc/polkit-1/rules.d, which lets \
                 the user cynosure restart exactly its own units; or ask as root"
                    .to_owned()
            }
            BusTrouble::UnknownUnit { .. } => {
                "install the unit, or set service.service_name to the name it has".to_owned()
            }
            BusTrouble::NoAnswer { .. } => {
                "see whether systemd and dbus are alive: `systemctl status`, `busctl status`".to_owned()
            }
            BusTrouble::Failed { .. } => "see `journalctl -b -u dbus -u polkit _PID=1`".to_owned(),
        }
    }
}

impl fmt::Display for BusError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {}: ", self.call)?;
        match &self.trouble {
            BusTrouble::NoBus { address, why } => {
                write!(f, "there is no D-Bus at {} ({})", printable(address), printable(why))
            }
            BusTrouble::NoService { service } if service == SYSTEMD => {
                f.write_str("systemd is not on the bus")
            }
            BusTrouble::NoService { service } => write!(f, "{service} is not on the bus"),
            BusTrouble::NotAuthorised { why } => {
                write!(f, "systemd does not let this user do that ({})", printable(why))
            }
            BusTrouble::UnknownUnit { unit } => write!(f, "there is no unit {unit}"),
            BusTrouble::NoAnswer { after } => {
                write!(f, "no answer within {} s", after.as_secs_f32())
            }
            BusTrouble::Failed { why } => f.write_str(&printable(why)),
        }
    }
}

impl Error for BusError {}

/// The name of systemd on the bus.
pub(super) const SYSTEMD: &str = "org.freedesktop.systemd1";

impl BusTrouble {
    /// Judges the answer to a call on `service` about `unit`.
    pub(super) fn of(error: &zbus::Error, service: &str, unit: Option<&str>) -> Self {
        match error {
            zbus::Error::FDO(standard) => {
                let why = DBusError::description(standard.as_ref()).unwrap_or_default();
                Self::named(standard.name().as_str(), why, service, unit)
            }
            zbus::Error::MethodError(name, why, _) => {
                Self::named(name.as_str(), why.as_deref().unwrap_or_default(), service, unit)
            }
            // The rest is about the connection or what came over it; the list is the library's and grows.
            other => Self::Failed { why: other.to_string() },
        }
    }

    fn named(name: &str, why: &str, service: &str, unit: Option<&str>) -> Self {
        let word = name.rsplit('.').next().unwrap_or(name);
        match word {
            "ServiceUnknown" | "NameHasNoOwner" | "UnknownObject" => {
                Self::NoService { service: service.to_owned() }
            }
            // Starting a service on demand fails in as many ways as starting a process.
            _ if name.contains(".Spawn.") => Self::NoService { service: service.to_owned() },
            "AccessDenied" | "InteractiveAuthorizationRequired" | "AuthFailed" => {
                Self::NotAuthorised { why: why.to_owned() }
            }
            "NoSuchUnit" => Self::UnknownUnit { unit: unit.unwrap_or_default().to_owned() },
            _ if why.is_empty() => Self::Failed { why: word.to_owned() },
            _ => Self::Failed { why: format!("{why} ({word})") },
        }
    }
}
