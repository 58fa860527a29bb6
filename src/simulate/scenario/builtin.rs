//! The scenarios that come with the program, by name.

use std::path::Path;

use crate::simulate::{Scenario, ScenarioFileError};

macro_rules! scenarios {
    ($($name:literal),+ $(,)?) => {
        /// Name and text, in the order in which they are listed.
        const BUILTIN_SCENARIOS: &[(&str, &str)] =
            &[$(($name, include_str!(concat!("../../../scenarios/", $name, ".toml")))),+];
    };
}

scenarios![
    "fixed-600-per-minute",
    "fixed-600-per-minute-silent",
    "bucket-10-per-second",
    "bucket-10-per-second-silent",
    "5000-per-hour",
    "5000-per-hour-silent",
    "lock-out",
    "lock-out-silent",
    "long-outage",
    "shared-with-another",
];

/// The names of the shipped scenarios, each with its text.
pub fn builtin_scenarios() -> impl Iterator<Item = (&'static str, &'static str)> + Clone {
    BUILTIN_SCENARIOS.iter().copied()
}

/// Reads a shipped scenario; `None` if there is none of that name.
#[must_use]
pub fn find_builtin(name: &str) -> Option<Result<Scenario, ScenarioFileError>> {
    let (name, text) = builtin_scenarios().find(|(known, _)| *known == name)?;
    Some(Scenario::parse(Path::new(&format!("{name}.toml")), text))
}
