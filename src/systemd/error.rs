//! Why a call over the bus came to nothing: the only reader of the bus's own errors.

use std::error::Error;
use std::fmt;
use std::io;
use std::time::Duration;

use zbus::DBusError;

use crate::engine::sanitize_line;

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
    /// It was there, and broke off.
    BrokeOff {
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
            BusTrouble::BrokeOff { .. } => "see why with `journalctl -b -u dbus`".to_owned(),
            BusTrouble::NoService { service } if service == SYSTEMD => {
                "it needs systemd as the first process; elsewhere restart the worker by the means \
                 you started it"
                    .to_owned()
            }
            BusTrouble::NoService { service } => format!("install or start {service}"),
            BusTrouble::NotAuthorised { .. } => {
                "install polkit and the rule that lets the user cynosure restart exactly its own \
                 units: the package puts it at /usr/share/polkit-1/rules.d/50-cynosure.rules, \
                 `make install` below /etc/polkit-1/rules.d; or ask as root"
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
        write!(f, "cannot {}: {}", self.call, self.trouble)
    }
}

impl fmt::Display for BusTrouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoBus { address, why } => {
                write!(
                    f,
                    "there is no D-Bus at {} ({})",
                    sanitize_line(address),
                    sanitize_line(why)
                )
            }
            Self::BrokeOff { why } => {
                write!(f, "D-Bus broke off ({})", sanitize_line(why))
            }
            Self::NoService { service } if service == SYSTEMD => {
                f.write_str("systemd is not on the bus")
            }
            Self::NoService { service } => write!(f, "{service} is not on the bus"),
            Self::NotAuthorised { why } => {
                write!(f, "systemd does not let this user do that ({})", sanitize_line(why))
            }
            Self::UnknownUnit { unit } => write!(f, "there is no unit {unit}"),
            Self::NoAnswer { after } => {
                write!(f, "no answer within {} s", after.as_secs_f32())
            }
            Self::Failed { why } => f.write_str(&sanitize_line(why)),
        }
    }
}

impl Error for BusError {}

/// The name of systemd on the bus.
pub(super) const SYSTEMD: &str = "org.freedesktop.systemd1";

impl BusTrouble {
    /// Judges the answer to a call on `service` about `unit`.
    pub(super) fn of(error: &zbus::Error, service: &str, unit: Option<&str>) -> Self {
        // An if for each, since the list is the library's and grows.
        if let zbus::Error::FDO(standard) = error {
            let why = DBusError::description(standard.as_ref()).unwrap_or_default();
            return Self::named(standard.name().as_str(), why, service, unit);
        }
        if let zbus::Error::MethodError(name, why, _) = error {
            return Self::named(name.as_str(), why.as_deref().unwrap_or_default(), service, unit);
        }
        if let zbus::Error::InputOutput(error) = error {
            return Self::BrokeOff { why: error.to_string() };
        }
        Self::Failed { why: error.to_string() }
    }

    /// Judges why no connection was had.
    pub(super) fn at(address: &str, error: &zbus::Error) -> Self {
        let passes = [io::ErrorKind::ConnectionRefused, io::ErrorKind::ConnectionReset];
        let mut why = error.to_string();
        if let zbus::Error::Connection(cause, _) | zbus::Error::InputOutput(cause) = error {
            if passes.contains(&cause.kind()) {
                return Self::BrokeOff { why };
            }
            // Without the address, which is told beside it.
            why = cause.to_string();
        }
        Self::NoBus { address: address.to_owned(), why }
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
