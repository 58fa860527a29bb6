//! Settings of the shipped unit files that do not fit another installation.

use crate::systemd::unit_files::options::{ManagerScope, UnitFileOptions, UnitPaths};

/// Settings that no generated unit has. The package has manual pages, folders with fixed names and
/// a group of its own.
pub(super) const DROPPED: [&str; 4] =
    ["Documentation", "Group", "StateDirectoryMode", "ConfigurationDirectory"];

/// Settings that a user's own manager cannot apply: they need privileges, a namespace of the
/// filesystem or of users, or units that only the system has (systemd.exec(5)).
pub(super) const DROPPED_FOR_USERS: [&str; 24] = [
    "Wants",
    "User",
    "SupplementaryGroups",
    "StateDirectory",
    "LoadCredential",
    "CapabilityBoundingSet",
    "AmbientCapabilities",
    "PrivateUsers",
    "ProtectSystem",
    "ProtectHome",
    "PrivateTmp",
    "PrivateMounts",
    "RemoveIPC",
    "PrivateDevices",
    "DevicePolicy",
    "ProtectProc",
    "ProcSubset",
    "ProtectClock",
    "ProtectHostname",
    "ProtectKernelTunables",
    "ProtectKernelModules",
    "ProtectKernelLogs",
    "ProtectControlGroups",
    "KeyringMode",
];

/// Lines by which a process finds the service manager of its user: the address of the bus, on which
/// it asks for the state and the restart of a unit.
const USER_BUS_LINES: [&str; 2] = [
    "# The bus on which it asks for a restart: that of its user's service manager.",
    "Environment=DBUS_SYSTEM_BUS_ADDRESS=unix:path=%t/bus",
];

/// Unit after which the shipped worker starts. A user's own manager does not have it.
const NETWORK_UNIT: &str = "network-online.target";

/// Shipped unit of the worker, after which the monitor starts.
const SHIPPED_WORKER: &str = "cynosure.service";

/// Process of a unit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum UnitRole {
    Worker,
    Monitor,
}

/// Change of one setting of a shipped unit. The comment above a setting stays with it only if it is
/// kept.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum DirectiveChange {
    Keep,
    Drop,
    /// Other lines take its place, comments included.
    Replace(Vec<String>),
}

/// Decides on one setting of a shipped unit.
pub(super) fn change_directive(
    options: &UnitFileOptions,
    paths: &UnitPaths,
    role: UnitRole,
    key: &str,
    value: &str,
) -> DirectiveChange {
    match key {
        "ExecStart" => DirectiveChange::Replace(exec_lines(options.scope, paths, role)),
        "WorkingDirectory" => replace(&[&format!("WorkingDirectory={}", paths.working_directory)]),
        "After" if value == SHIPPED_WORKER => {
            replace(&[&format!("After={}.service", options.service_name)])
        }
        _ if DROPPED.contains(&key) => DirectiveChange::Drop,
        _ => match options.scope {
            ManagerScope::System => change_for_system(options, paths, role, (key, value)),
            ManagerScope::User => change_for_user(key, value),
        },
    }
}

fn exec_lines(scope: ManagerScope, paths: &UnitPaths, role: UnitRole) -> Vec<String> {
    let UnitPaths { program, config_file, state_dir, .. } = paths;
    let command = match role {
        UnitRole::Worker => "run",
        UnitRole::Monitor => "monitor",
    };
    let start =
        format!("ExecStart={program} {command} --config {config_file} --state-dir {state_dir}");
    match scope {
        ManagerScope::System => vec![start],
        ManagerScope::User => {
            let more = USER_BUS_LINES.map(str::to_owned);
            std::iter::once(start).chain(more).collect()
        }
    }
}

fn change_for_system(
    options: &UnitFileOptions,
    paths: &UnitPaths,
    role: UnitRole,
    (key, value): (&str, &str),
) -> DirectiveChange {
    let written_folders = || {
        let mut folders = vec![paths.state_dir.as_str()];
        if role == UnitRole::Worker {
            folders.extend(paths.written_folders.iter().map(String::as_str));
        }
        folders.join(" ")
    };
    match key {
        "After" if value == NETWORK_UNIT => replace(&[
            &format!("After={NETWORK_UNIT}"),
            "# It does not start before their filesystems are mounted.",
            &format!("RequiresMountsFor={}", written_folders()),
        ]),
        "User" => replace(&["# The owner of its files.", &format!("User={}", options.user)]),
        "StateDirectory" => replace(&[
            "# It can write nowhere else.",
            &format!("ReadWritePaths={}", written_folders()),
        ]),
        "LoadCredential" if !options.uses_credential_folder => DirectiveChange::Drop,
        "ProtectHome" if options.uses_home_folder => replace(&[
            "# Files that it needs are in a home folder. It can read what its user may read there.",
            "ProtectHome=read-only",
        ]),
        _ => DirectiveChange::Keep,
    }
}

fn change_for_user(key: &str, value: &str) -> DirectiveChange {
    match key {
        "After" if value == NETWORK_UNIT => DirectiveChange::Drop,
        "NoNewPrivileges" => replace(&["# It can gain no privileges.", "NoNewPrivileges=yes"]),
        "PrivateUsers" => replace(&[
            "# The service manager of a user cannot hide files, devices and other processes from a \
             service, as that of the system can.",
        ]),
        "WantedBy" => replace(&["WantedBy=default.target"]),
        _ if DROPPED_FOR_USERS.contains(&key) => DirectiveChange::Drop,
        _ => DirectiveChange::Keep,
    }
}

fn replace(lines: &[&str]) -> DirectiveChange {
    DirectiveChange::Replace(lines.iter().map(|&line| line.to_owned()).collect())
}
