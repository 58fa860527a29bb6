//! Texts of the generated files, and the line by which they are recognised.

use std::path::PathBuf;

use crate::systemd::unit_files::directives::{DirectiveChange, UnitRole, change_directive};
use crate::systemd::unit_files::options::{ManagerScope, UnitFileOptions, UnitPaths};

/// Unit of the worker, as the package installs it.
pub(super) const SHIPPED_WORKER: &str = include_str!("../../../systemd/cynosure.service");

/// Unit of the monitor, as the package installs it.
pub(super) const SHIPPED_MONITOR: &str = include_str!("../../../systemd/cynosure-monitor.service");

/// polkit rule, as the package installs it.
const SHIPPED_RULE: &str = include_str!("../../../systemd/cynosure.rules");

/// User and units of the shipped rule, as it writes them.
const SHIPPED_RULE_USER: &str = "\"cynosure\"";
const SHIPPED_RULE_UNITS: &str = "/^cynosure(@[a-z0-9_-]{1,64})?\\.service$/";

/// Begin of the first line of each generated file, after the mark of a comment.
const MARKER: &str = "Written by `cynosure service install`";

/// User who may restart units without a rule.
const ROOT: &str = "root";

/// Generated file, without the folder that it belongs into.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct GeneratedFile {
    pub name: String,
    pub text: String,
}

/// Paths in the unit of a worker that `cynosure service install` wrote.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct WorkerUnitPaths {
    pub config_file: PathBuf,
    pub state_dir: PathBuf,
}

impl WorkerUnitPaths {
    /// Parses the text of a unit. `None` for that of a monitor, and for a text of another origin.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if !is_generated_text(text) {
            return None;
        }
        let start = text.lines().find_map(|line| line.strip_prefix("ExecStart="))?;
        let (_, options) = start.split_once(" run --config ")?;
        let (config_file, state_dir) = options.split_once(" --state-dir ")?;
        let unquoted = |path: &str| PathBuf::from(path.trim_matches('"'));
        Some(Self { config_file: unquoted(config_file), state_dir: unquoted(state_dir) })
    }
}

/// Returns the file name of the worker's unit.
#[must_use]
pub fn worker_unit_file(service_name: &str) -> String {
    format!("{service_name}.service")
}

/// Returns the file name of the monitor's unit.
#[must_use]
pub fn monitor_unit_file(service_name: &str) -> String {
    format!("{service_name}-monitor.service")
}

/// Returns the file name of the polkit rule.
#[must_use]
pub fn polkit_rule_file(service_name: &str) -> String {
    format!("50-{service_name}.rules")
}

/// True for the text of a file that `cynosure service install` wrote.
#[must_use]
pub fn is_generated_text(text: &str) -> bool {
    let line = text.strip_prefix("# ").or_else(|| text.strip_prefix("// "));
    line.is_some_and(|line| line.starts_with(MARKER))
}

/// Generates the unit files of the worker and of the monitor.
///
/// # Errors
/// One sentence about a path that a unit file cannot contain.
pub fn generate_unit_files(options: &UnitFileOptions) -> Result<[GeneratedFile; 2], String> {
    let paths = UnitPaths::new(options)?;
    let name = &options.service_name;
    let generate = |name: String, role: UnitRole, shipped: &str| {
        let text = generate_unit(options, &paths, role, &name, shipped);
        GeneratedFile { name, text }
    };
    Ok([
        generate(worker_unit_file(name), UnitRole::Worker, SHIPPED_WORKER),
        generate(monitor_unit_file(name), UnitRole::Monitor, SHIPPED_MONITOR),
    ])
}

/// Generates the polkit rule that lets the user of the units restart the worker. `None` if it needs
/// none: root may restart all units, and a user those of the own service manager.
#[must_use]
pub fn generate_polkit_rule(options: &UnitFileOptions) -> Option<GeneratedFile> {
    if options.scope == ManagerScope::User || options.user == ROOT {
        return None;
    }
    let name = &options.service_name;
    let escaped = name.replace('\\', "\\\\").replace('.', "\\.");
    // A text in JSON is one in JavaScript.
    let user = serde_json::Value::from(options.user.as_str()).to_string();
    let rule = SHIPPED_RULE
        .replace(SHIPPED_RULE_UNITS, &format!("/^{escaped}\\.service$/"))
        .replace(SHIPPED_RULE_USER, &user);
    let text = format!("// {MARKER}, and removed by `cynosure service uninstall`.\n{rule}");
    Some(GeneratedFile { name: polkit_rule_file(name), text })
}

fn generate_unit(
    options: &UnitFileOptions,
    paths: &UnitPaths,
    role: UnitRole,
    unit: &str,
    shipped: &str,
) -> String {
    let option = match options.scope {
        ManagerScope::System => "",
        ManagerScope::User => "--user ",
    };
    let mut lines = vec![
        format!("# {MARKER}, which overwrites it, and removed by `cynosure service uninstall`."),
        format!("# Change settings with `systemctl {option}edit {unit}`, which keeps them."),
    ];
    let mut comments = Vec::new();
    // The first comment of a shipped unit is about its package.
    for line in shipped.lines().skip_while(|line| line.starts_with('#')) {
        if line.starts_with('#') {
            comments.push(line.to_owned());
            continue;
        }
        let change = line.split_once('=').map_or(DirectiveChange::Keep, |(key, value)| {
            change_directive(options, paths, role, key, value)
        });
        match change {
            DirectiveChange::Keep => {
                lines.append(&mut comments);
                lines.push(line.to_owned());
            }
            DirectiveChange::Drop => comments.clear(),
            DirectiveChange::Replace(replacement) => {
                comments.clear();
                lines.extend(replacement);
            }
        }
    }
    lines.dedup_by(|later, earlier| later.is_empty() && earlier.is_empty());
    lines.join("\n") + "\n"
}
