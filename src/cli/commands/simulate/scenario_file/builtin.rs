//! Built-in scenarios, by name.

use std::path::Path;

use cynosure_lab::simulate::{Scenario, ScenarioFileError};

use super::parse_scenario;

macro_rules! scenarios {
    ($($name:literal),+ $(,)?) => {
        /// Name and text of each scenario, in the order of the list.
        const BUILTIN_SCENARIOS: &[(&str, &str)] =
            &[$(($name, include_str!(concat!("../../../../../scenarios/", $name, ".toml")))),+];
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

/// Returns the name and the text of each built-in scenario.
pub(crate) fn builtin_scenarios() -> impl Iterator<Item = (&'static str, &'static str)> + Clone {
    BUILTIN_SCENARIOS.iter().copied()
}

/// Parses the built-in scenario of this name. `None` if there is none.
#[must_use]
pub(crate) fn find_builtin(name: &str) -> Option<Result<Scenario, ScenarioFileError>> {
    let (name, text) = builtin_scenarios().find(|(known, _)| *known == name)?;
    Some(parse_scenario(Path::new(&format!("{name}.toml")), text))
}
