//! `service uninstall`: stops the units that `install` wrote, and removes them.

use std::path::Path;

use cynosure_engine::sanitize_line;

use crate::app::error::ProgramError;
use crate::app::exit::ProgramExit;
use crate::cli::args::CommonArgs;
use crate::cli::commands::service::args::ServiceScopeArgs;
use crate::cli::commands::service::config::ServiceConfig;
use crate::cli::commands::service::folders::select_scope;
use crate::cli::commands::service::installed_worker::{find_workers, names_to_remove};
use crate::cli::commands::service::manager::SystemctlClient;
use crate::cli::commands::service::target_files::{
    FileOrigin, ServiceFiles, read_origin, remove_generated,
};
use crate::cli::print::print_result;
use crate::disk::parent_folder;
use crate::systemd::ManagerScope;

pub(super) fn uninstall(
    common: &CommonArgs,
    scope: ServiceScopeArgs,
) -> Result<ProgramExit, ProgramError> {
    let scope = select_scope(scope);
    let config = ServiceConfig::load_partially(&common.config_location())?;
    let files = ServiceFiles::new(scope, config.service_name())?;
    let workers = find_workers(parent_folder(&files.worker_unit))?;
    let names = names_to_remove(&workers, &config)?;
    let mut generated = Vec::new();
    for name in &names {
        let files = ServiceFiles::new(scope, name)?;
        for path in files.paths() {
            match read_origin(path)? {
                FileOrigin::Absent => {}
                FileOrigin::Generated(_) => generated.push(path.to_owned()),
                FileOrigin::Foreign => print_result(format!(
                    "kept    {}: `cynosure service install` did not write it",
                    path.display()
                ))?,
            }
        }
    }
    if generated.is_empty() {
        print_result(format!(
            "{} was not installed by this command: there is nothing to remove",
            config.service_name()
        ))?;
        return Ok(ProgramExit::Success);
    }
    let units: Vec<&str> = generated.iter().filter_map(|path| unit_name(path)).collect();
    let systemctl = SystemctlClient::new(scope);
    if !units.is_empty() {
        systemctl.check_available()?;
        systemctl.run(&[&["disable", "--now"][..], &units].concat())?;
        for unit in &units {
            print_result(format!("stopped {unit}"))?;
        }
    }
    for path in &generated {
        remove_generated(path)?;
        print_result(format!("removed {}", path.display()))?;
    }
    if !units.is_empty() {
        systemctl.run(&["daemon-reload"])?;
        // It fails for a unit that never failed, which is then forgotten already.
        drop(systemctl.run(&[&["reset-failed"][..], &units].concat()));
    }
    if scope == ManagerScope::User {
        print_result("If no other service needs it, end lingering: `loginctl disable-linger`")?;
    }
    let worker = workers.iter().find(|worker| names.contains(&worker.service_name));
    let state_dir = worker.map_or(&config.state_dir, |worker| &worker.paths.state_dir);
    print_kept(&config, state_dir)?;
    Ok(ProgramExit::Success)
}

fn print_kept(config: &ServiceConfig, state_dir: &Path) -> Result<(), ProgramError> {
    let state_dir = state_dir.display();
    if !config.config_file.exists() {
        return print_result(format!("Kept: the state {state_dir} and the mail."));
    }
    print_result(format!(
        "Kept: the configuration {}, the state {state_dir} and the mail {}.",
        config.config_file.display(),
        sanitize_line(&config.settings().archive.dir.to_string_lossy())
    ))
}

/// Returns the name of the unit in a file; `None` for the file of a rule.
fn unit_name(path: &Path) -> Option<&str> {
    path.file_name()?.to_str().filter(|name| name.ends_with(".service"))
}
