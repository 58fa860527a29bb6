//! Errors of bus calls. Only this file interprets the errors of the bus library.

use std::error::Error;
use std::fmt;
use std::io;
use std::time::Duration;

use cynosure_engine::sanitize_line;
use zbus::DBusError;

/// Failed bus call.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BusError {
    /// Operation that failed, such as `restart cynosure.service`.
    pub operation: String,
    pub kind: BusErrorKind,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub enum BusErrorKind {
    /// Nothing responds at the address of the bus.
    BusUnavailable {
        address: String,
        reason: String,
    },
    /// The connection was refused or broke off.
    Disconnected {
        reason: String,
    },
    /// The called service is not on the bus.
    ServiceNotFound {
        service: String,
    },
    /// Neither a rule nor the privileges of the user allow the operation.
    NotAuthorised {
        reason: String,
    },
    UnknownUnit {
        unit: String,
    },
    /// No response arrived within the time limit.
    Timeout {
        after: Duration,
    },
    /// Rejected for another reason, or the response cannot be interpreted.
    Failed {
        reason: String,
    },
}

impl BusError {
    /// Returns advice for the operator.
    #[must_use]
    pub fn advice(&self) -> String {
        match &self.kind {
            BusErrorKind::BusUnavailable { .. } => {
                "start dbus (`systemctl start dbus.socket`), or allow its socket in the sandbox of \
                 the service"
                    .to_owned()
            }
            BusErrorKind::Disconnected { .. } => "see `journalctl -b -u dbus`".to_owned(),
            BusErrorKind::ServiceNotFound { service } if service == SYSTEMD_SERVICE => {
                "this needs systemd as the init process; without it, restart the worker the way it \
                 was started"
                    .to_owned()
            }
            BusErrorKind::ServiceNotFound { service } => format!("install or start {service}"),
            BusErrorKind::NotAuthorised { .. } => {
                "install polkit and the rule that allows the user cynosure to restart its own \
                 units: the package installs it at /usr/share/polkit-1/rules.d/50-cynosure.rules, \
                 `make install` in /etc/polkit-1/rules.d; or run the command as root"
                    .to_owned()
            }
            BusErrorKind::UnknownUnit { .. } => {
                "install the unit, or set service.service_name to the name it has".to_owned()
            }
            BusErrorKind::Timeout { .. } => {
                "see whether systemd and dbus respond: `systemctl status`, `busctl status`"
                    .to_owned()
            }
            BusErrorKind::Failed { .. } => {
                "see `journalctl -b -u dbus -u polkit _PID=1`".to_owned()
            }
        }
    }
}

impl fmt::Display for BusError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {}: {}", self.operation, self.kind)
    }
}

impl fmt::Display for BusErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BusUnavailable { address, reason } => {
                write!(
                    f,
                    "there is no D-Bus at {} ({})",
                    sanitize_line(address),
                    sanitize_line(reason)
                )
            }
            Self::Disconnected { reason } => {
                write!(f, "the connection to D-Bus failed ({})", sanitize_line(reason))
            }
            Self::ServiceNotFound { service } if service == SYSTEMD_SERVICE => {
                f.write_str("systemd is not on the bus")
            }
            Self::ServiceNotFound { service } => write!(f, "{service} is not on the bus"),
            Self::NotAuthorised { reason } => {
                write!(f, "systemd does not allow this user to do that ({})", sanitize_line(reason))
            }
            Self::UnknownUnit { unit } => write!(f, "there is no unit {unit}"),
            Self::Timeout { after } => {
                write!(f, "no response within {} s", after.as_secs_f32())
            }
            Self::Failed { reason } => f.write_str(&sanitize_line(reason)),
        }
    }
}

impl Error for BusError {}

/// Name of systemd on the bus.
pub(super) const SYSTEMD_SERVICE: &str = "org.freedesktop.systemd1";

impl BusErrorKind {
    /// Classifies the error of a call to `service` about `unit`.
    pub(super) fn from_call_error(error: &zbus::Error, service: &str, unit: Option<&str>) -> Self {
        // One `if` per variant, because the enum of the library may grow.
        if let zbus::Error::FDO(standard) = error {
            let message = DBusError::description(standard.as_ref()).unwrap_or_default();
            return Self::from_error_name(standard.name().as_str(), message, service, unit);
        }
        if let zbus::Error::MethodError(name, message, _) = error {
            return Self::from_error_name(
                name.as_str(),
                message.as_deref().unwrap_or_default(),
                service,
                unit,
            );
        }
        if let zbus::Error::InputOutput(error) = error {
            return Self::Disconnected { reason: error.to_string() };
        }
        Self::Failed { reason: error.to_string() }
    }

    /// Classifies the error of a connection attempt.
    pub(super) fn from_connect_error(address: &str, error: &zbus::Error) -> Self {
        let transient = [io::ErrorKind::ConnectionRefused, io::ErrorKind::ConnectionReset];
        let mut reason = error.to_string();
        if let zbus::Error::Connection(cause, _) | zbus::Error::InputOutput(cause) = error {
            if transient.contains(&cause.kind()) {
                return Self::Disconnected { reason };
            }
            // Without the address, which the error shows separately.
            reason = cause.to_string();
        }
        Self::BusUnavailable { address: address.to_owned(), reason }
    }

    fn from_error_name(name: &str, message: &str, service: &str, unit: Option<&str>) -> Self {
        let short_name = name.rsplit('.').next().unwrap_or(name);
        match short_name {
            "ServiceUnknown" | "NameHasNoOwner" | "UnknownObject" => {
                Self::ServiceNotFound { service: service.to_owned() }
            }
            // Starting a service on demand can fail in as many ways as starting a process.
            _ if name.contains(".Spawn.") => Self::ServiceNotFound { service: service.to_owned() },
            "AccessDenied" | "InteractiveAuthorizationRequired" | "AuthFailed" => {
                Self::NotAuthorised { reason: message.to_owned() }
            }
            "NoSuchUnit" => Self::UnknownUnit { unit: unit.unwrap_or_default().to_owned() },
            _ if message.is_empty() => Self::Failed { reason: short_name.to_owned() },
            _ => Self::Failed { reason: format!("{message} ({short_name})") },
        }
    }
}
