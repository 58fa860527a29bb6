//! Systemd units: status queries and restarts.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use cynosure_engine::Timestamp;
use cynosure_engine::health::watch::{ActiveState, LoadState, StartLimit, UnitStatus};
use zbus::{Connection, ObjectPath, OwnedObjectPath, OwnedVariant};

use crate::systemd::bus::{Bus, MethodCall};
use crate::systemd::error::{BusError, SYSTEMD_SERVICE};

const MANAGER_PATH: &str = "/org/freedesktop/systemd1";
const MANAGER_INTERFACE: &str = "org.freedesktop.systemd1.Manager";
const UNIT_INTERFACE: &str = "org.freedesktop.systemd1.Unit";
const SERVICE_INTERFACE: &str = "org.freedesktop.systemd1.Service";
const PROPERTIES_INTERFACE: &str = "org.freedesktop.DBus.Properties";

const SERVICE_SUFFIX: &str = ".service";

/// Maximum length of a unit name, its suffix included, in bytes (systemd.unit(5)).
const NAME_BYTES_MAX: usize = 255;

/// Value that systemd uses for a time that is not set.
const USEC_INFINITY: u64 = u64::MAX;

/// Name of a service unit, with its suffix.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct UnitName(String);

/// Text that is not a valid name of a service.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct InvalidUnitName(String);

impl UnitName {
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the instance of this unit's template for `source`: `cynosure@work.service`. `None`
    /// if this unit is an instance itself, or the name would be too long.
    #[must_use]
    pub fn instance(&self, source: &str) -> Option<Self> {
        let stem = self.0.strip_suffix(SERVICE_SUFFIX).filter(|stem| !stem.contains('@'))?;
        format!("{stem}@{source}").parse().ok()
    }
}

impl FromStr for UnitName {
    type Err = InvalidUnitName;

    /// Parses a name with or without `.service`.
    fn from_str(text: &str) -> Result<Self, InvalidUnitName> {
        let stem = text.strip_suffix(SERVICE_SUFFIX).unwrap_or(text);
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
        let fits = !stem.is_empty() && stem.len() + SERVICE_SUFFIX.len() <= NAME_BYTES_MAX;
        if fits && stem.chars().all(is_allowed) {
            Ok(Self(format!("{stem}{SERVICE_SUFFIX}")))
        } else {
            Err(InvalidUnitName(text.to_owned()))
        }
    }
}

impl fmt::Display for UnitName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for InvalidUnitName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not a valid service name; use only letters, digits and :-_.\\@", self.0)
    }
}

impl std::error::Error for InvalidUnitName {}

impl Bus {
    /// Restarts a unit in any state. Returns when systemd accepts the request, not when the restart
    /// is complete.
    ///
    /// # Errors
    /// A bus error, if the request was not accepted.
    pub fn restart_unit(&self, unit: &UnitName) -> Result<(), BusError> {
        self.restart_in_mode(unit, "replace", format!("restart {unit}"))
    }

    pub(super) fn restart_in_mode(
        &self,
        unit: &UnitName,
        mode: &str,
        operation: String,
    ) -> Result<(), BusError> {
        let call = MethodCall { operation, service: SYSTEMD_SERVICE, unit: Some(unit.as_str()) };
        self.call(&call, async |connection| {
            let body = (unit.as_str(), mode);
            let (path, interface) = (MANAGER_PATH, Some(MANAGER_INTERFACE));
            connection
                .call_method(Some(SYSTEMD_SERVICE), path, interface, "RestartUnit", &body)
                .await?;
            Ok(())
        })
    }

    /// Returns the status of a unit. A unit that is not installed is [`LoadState::NotFound`], and
    /// no error.
    ///
    /// # Errors
    /// A bus error.
    pub fn unit_status(&self, unit: &UnitName) -> Result<UnitStatus, BusError> {
        let operation = format!("query the state of {unit}");
        let call = MethodCall { operation, service: SYSTEMD_SERVICE, unit: Some(unit.as_str()) };
        self.call(&call, async |connection| {
            let body = unit.as_str();
            let (path, interface) = (MANAGER_PATH, Some(MANAGER_INTERFACE));
            let reply = connection
                .call_method(Some(SYSTEMD_SERVICE), path, interface, "LoadUnit", &body)
                .await?;
            let body = reply.body();
            let path: OwnedObjectPath = body.deserialize()?;
            let mut properties = get_all_properties(connection, &path, UNIT_INTERFACE).await?;
            properties.extend(get_all_properties(connection, &path, SERVICE_INTERFACE).await?);
            Ok(to_unit_status(unit, &mut UnitProperties(properties)))
        })
    }

    /// Returns the version of systemd, such as `252.38-1~deb12u1`.
    ///
    /// # Errors
    /// A bus error.
    pub fn systemd_version(&self) -> Result<String, BusError> {
        let call = MethodCall {
            operation: "query the version of systemd".to_owned(),
            service: SYSTEMD_SERVICE,
            unit: None,
        };
        self.get_property(&call, MANAGER_PATH, MANAGER_INTERFACE, "Version")
    }

    /// Returns the value of one property.
    pub(super) fn get_property<T>(
        &self,
        call: &MethodCall<'_>,
        path: &str,
        interface: &str,
        name: &str,
    ) -> Result<T, BusError>
    where
        T: TryFrom<OwnedVariant>,
        T::Error: Into<zbus::Error>,
    {
        let service = call.service;
        self.call(call, async |connection| {
            let body = (interface, name);
            let reply = connection
                .call_method(Some(service), path, Some(PROPERTIES_INTERFACE), "Get", &body)
                .await?;
            let value: OwnedVariant = reply.body().deserialize()?;
            T::try_from(value).map_err(Into::into)
        })
    }
}

async fn get_all_properties(
    connection: &Connection,
    path: &ObjectPath<'_>,
    interface: &str,
) -> Result<BTreeMap<String, OwnedVariant>, zbus::Error> {
    let reply = connection
        .call_method(Some(SYSTEMD_SERVICE), path, Some(PROPERTIES_INTERFACE), "GetAll", &interface)
        .await?;
    reply.body().deserialize()
}

/// Properties by name. A missing property, or one of another type, reads as absent, because
/// versions of systemd differ.
struct UnitProperties(BTreeMap<String, OwnedVariant>);

impl UnitProperties {
    fn take<T: TryFrom<OwnedVariant>>(&mut self, name: &str) -> Option<T> {
        T::try_from(self.0.remove(name)?).ok()
    }

    fn string(&mut self, name: &str) -> String {
        self.take(name).unwrap_or_default()
    }

    /// Returns a point in time, stored in microseconds since the epoch; zero and "infinity" are
    /// `None`.
    fn timestamp(&mut self, name: &str) -> Option<Timestamp> {
        let micros =
            self.take(name).filter(|micros: &u64| *micros != 0 && *micros != USEC_INFINITY)?;
        i64::try_from(micros / 1000).ok().map(Timestamp)
    }

    /// Returns a duration, stored in microseconds; zero and "infinity" are `None`.
    fn duration(&mut self, name: &str) -> Option<Duration> {
        let micros =
            self.take(name).filter(|micros: &u64| *micros != 0 && *micros != USEC_INFINITY);
        micros.map(Duration::from_micros)
    }
}

fn to_unit_status(unit: &UnitName, properties: &mut UnitProperties) -> UnitStatus {
    UnitStatus {
        name: unit.to_string(),
        load_state: LoadState::from_name(&properties.string("LoadState")),
        active_state: ActiveState::from_name(&properties.string("ActiveState")),
        sub_state: properties.string("SubState"),
        result: properties.string("Result"),
        main_pid: properties.take("MainPID").filter(|pid: &u32| *pid != 0),
        restarts: properties.take("NRestarts").unwrap_or_default(),
        exit_status: properties.take("ExecMainStatus").unwrap_or_default(),
        active_since: properties.timestamp("ActiveEnterTimestamp"),
        state_changed_at: properties.timestamp("StateChangeTimestamp"),
        status_text: properties.string("StatusText"),
        watchdog_timeout: properties.duration("WatchdogUSec"),
        start_limit: StartLimit {
            interval: properties.duration("StartLimitIntervalUSec").unwrap_or_default(),
            burst: properties.take("StartLimitBurst").unwrap_or_default(),
        },
        unit_file_state: properties.string("UnitFileState"),
    }
}

#[cfg(test)]
mod proptests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_parsed_name_is_valid_for_systemd(text in "\\PC{0,300}|[a-z@.\\-]{1,260}") {
            if let Ok(name) = text.parse::<UnitName>() {
                prop_assert!(name.as_str().len() <= NAME_BYTES_MAX);
                prop_assert!(name.as_str().ends_with(SERVICE_SUFFIX));
                prop_assert_eq!(name.as_str().parse::<UnitName>(), Ok(name));
            }
        }
    }
}
