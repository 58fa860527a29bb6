//! Units: what systemd knows of one, and having it started anew.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use zbus::{Connection, ObjectPath, OwnedObjectPath, OwnedVariant};

use crate::engine::Timestamp;
use crate::engine::watch::{ActiveState, LoadState, StartLimit, UnitStatus};
use crate::systemd::bus::{Bus, Call};
use crate::systemd::error::{BusError, SYSTEMD};

const MANAGER_PATH: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const UNIT: &str = "org.freedesktop.systemd1.Unit";
const SERVICE: &str = "org.freedesktop.systemd1.Service";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

const SUFFIX: &str = ".service";

/// systemd.unit(5): the longest name of a unit, its suffix included.
const NAME_BYTES_MAX: usize = 255;

/// A time that is not set is written as the largest number.
const UNSET: u64 = u64::MAX;

/// The name of a service, with its suffix.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct UnitName(String);

/// A text that is no name of a service.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NotAUnit(String);

impl UnitName {
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the instance of this unit's template for `source`: `cynosure@work.service`; `None`
    /// where this is an instance itself, or the name grows too long.
    #[must_use]
    pub fn instance(&self, source: &str) -> Option<Self> {
        let stem = self.0.strip_suffix(SUFFIX).filter(|stem| !stem.contains('@'))?;
        format!("{stem}@{source}").parse().ok()
    }
}

impl FromStr for UnitName {
    type Err = NotAUnit;

    /// Reads a name with or without `.service`.
    fn from_str(text: &str) -> Result<Self, NotAUnit> {
        let stem = text.strip_suffix(SUFFIX).unwrap_or(text);
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
        let fits = !stem.is_empty() && stem.len() + SUFFIX.len() <= NAME_BYTES_MAX;
        if fits && stem.chars().all(is_allowed) {
            Ok(Self(format!("{stem}{SUFFIX}")))
        } else {
            Err(NotAUnit(text.to_owned()))
        }
    }
}

impl fmt::Display for UnitName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for NotAUnit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is no name of a service; write it in letters, digits and :-_.\\@", self.0)
    }
}

impl std::error::Error for NotAUnit {}

impl Bus {
    /// Has systemd start a unit anew, whatever it is doing. Returns when that is accepted, not when it is done.
    ///
    /// # Errors
    /// Why it was not.
    pub fn restart_unit(&self, unit: &UnitName) -> Result<(), BusError> {
        self.restart_in_mode(unit, "replace", format!("restart {unit}"))
    }

    pub(super) fn restart_in_mode(
        &self,
        unit: &UnitName,
        mode: &str,
        what: String,
    ) -> Result<(), BusError> {
        let call = Call { what, service: SYSTEMD, unit: Some(unit.as_str()) };
        self.call(&call, async |connection| {
            let body = (unit.as_str(), mode);
            let (path, interface) = (MANAGER_PATH, Some(MANAGER));
            connection.call_method(Some(SYSTEMD), path, interface, "RestartUnit", &body).await?;
            Ok(())
        })
    }

    /// Asks what a unit is doing. One that is not installed is [`LoadState::NotFound`], and no error.
    ///
    /// # Errors
    /// Why it was not told.
    pub fn unit_status(&self, unit: &UnitName) -> Result<UnitStatus, BusError> {
        let what = format!("ask for the state of {unit}");
        let call = Call { what, service: SYSTEMD, unit: Some(unit.as_str()) };
        self.call(&call, async |connection| {
            let body = unit.as_str();
            let (path, interface) = (MANAGER_PATH, Some(MANAGER));
            let loaded =
                connection.call_method(Some(SYSTEMD), path, interface, "LoadUnit", &body).await?;
            let loaded = loaded.body();
            let path: OwnedObjectPath = loaded.deserialize()?;
            let mut known = properties(connection, &path, UNIT).await?;
            known.extend(properties(connection, &path, SERVICE).await?);
            Ok(status(unit, &mut Known(known)))
        })
    }

    /// Asks for the version of systemd, as `252.38-1~deb12u1`.
    ///
    /// # Errors
    /// Why it was not told.
    pub fn systemd_version(&self) -> Result<String, BusError> {
        let call = Call {
            what: "ask for the version of systemd".to_owned(),
            service: SYSTEMD,
            unit: None,
        };
        self.property(&call, MANAGER_PATH, MANAGER, "Version")
    }

    /// Asks for one property.
    pub(super) fn property<T>(
        &self,
        call: &Call<'_>,
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
            let told =
                connection.call_method(Some(service), path, Some(PROPERTIES), "Get", &body).await?;
            let value: OwnedVariant = told.body().deserialize()?;
            T::try_from(value).map_err(Into::into)
        })
    }
}

async fn properties(
    connection: &Connection,
    path: &ObjectPath<'_>,
    interface: &str,
) -> Result<BTreeMap<String, OwnedVariant>, zbus::Error> {
    let told =
        connection.call_method(Some(SYSTEMD), path, Some(PROPERTIES), "GetAll", &interface).await?;
    told.body().deserialize()
}

/// Properties by name. What is missing or of another type reads as nothing: versions of systemd differ.
struct Known(BTreeMap<String, OwnedVariant>);

impl Known {
    fn take<T: TryFrom<OwnedVariant>>(&mut self, name: &str) -> Option<T> {
        T::try_from(self.0.remove(name)?).ok()
    }

    fn text(&mut self, name: &str) -> String {
        self.take(name).unwrap_or_default()
    }

    /// A point in time, in microseconds since the epoch; zero is none.
    fn moment(&mut self, name: &str) -> Option<Timestamp> {
        let micros = self.take(name).filter(|micros: &u64| *micros != 0 && *micros != UNSET)?;
        i64::try_from(micros / 1000).ok().map(Timestamp)
    }

    /// A time span in microseconds; zero and "infinity" are none.
    fn span(&mut self, name: &str) -> Option<Duration> {
        let micros = self.take(name).filter(|micros: &u64| *micros != 0 && *micros != UNSET);
        micros.map(Duration::from_micros)
    }
}

fn status(unit: &UnitName, known: &mut Known) -> UnitStatus {
    UnitStatus {
        name: unit.to_string(),
        load_state: LoadState::from_name(&known.text("LoadState")),
        active_state: ActiveState::from_name(&known.text("ActiveState")),
        sub_state: known.text("SubState"),
        result: known.text("Result"),
        main_pid: known.take("MainPID").filter(|pid: &u32| *pid != 0),
        restarts: known.take("NRestarts").unwrap_or_default(),
        exit_status: known.take("ExecMainStatus").unwrap_or_default(),
        active_since: known.moment("ActiveEnterTimestamp"),
        state_changed_at: known.moment("StateChangeTimestamp"),
        status_text: known.text("StatusText"),
        watchdog_timeout: known.span("WatchdogUSec"),
        start_limit: StartLimit {
            interval: known.span("StartLimitIntervalUSec").unwrap_or_default(),
            burst: known.take("StartLimitBurst").unwrap_or_default(),
        },
        unit_file_state: known.text("UnitFileState"),
    }
}

#[cfg(test)]
mod laws {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_name_that_is_read_is_one_that_systemd_takes(text in "\\PC{0,300}|[a-z@.\\-]{1,260}") {
            if let Ok(name) = text.parse::<UnitName>() {
                prop_assert!(name.as_str().len() <= NAME_BYTES_MAX);
                prop_assert!(name.as_str().ends_with(SUFFIX));
                prop_assert_eq!(name.as_str().parse::<UnitName>(), Ok(name));
            }
        }
    }
}
