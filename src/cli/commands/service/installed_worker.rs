//! Workers whose units `install` wrote before, and the configurations that they run.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use cynosure_engine::Failure;

use crate::app::error::ProgramError;
use crate::app::exit::ProgramExit;
use crate::cli::commands::service::config::ServiceConfig;
use crate::cli::commands::service::folders::{is_same_path, shell_word};
use crate::cli::commands::service::target_files::{FileOrigin, read_origin};
use crate::disk::{Disk, RealDisk, storage_failure};
use crate::systemd::WorkerUnitPaths;

/// Worker whose unit `install` wrote.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct InstalledWorker {
    pub service_name: String,
    pub paths: WorkerUnitPaths,
}

impl InstalledWorker {
    fn has_config(&self, config: &ServiceConfig) -> bool {
        is_same_path(&self.paths.config_file, &config.config_file)
    }

    /// True if it runs another configuration, which still exists.
    fn has_other_config(&self, config: &ServiceConfig) -> bool {
        !self.has_config(config) && self.paths.config_file.exists()
    }
}

/// Finds the workers in a folder of units.
///
/// # Errors
/// A storage failure.
pub(super) fn find_workers(folder: &Path) -> Result<Vec<InstalledWorker>, Failure> {
    let names = match RealDisk.list_dir(folder) {
        Ok(names) => names,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(storage_failure("read", folder, &error)),
    };
    let mut workers = Vec::new();
    for name in &names {
        let service_name = name.to_str().and_then(|name| name.strip_suffix(".service"));
        // A file that this user may not read is none of this user.
        if let Some(service_name) = service_name
            && let Ok(FileOrigin::Generated(text)) = read_origin(&folder.join(name))
            && let Some(paths) = WorkerUnitPaths::parse(&text)
        {
            workers.push(InstalledWorker { service_name: service_name.to_owned(), paths });
        }
    }
    workers.sort_by(|one, other| one.service_name.cmp(&other.service_name));
    Ok(workers)
}

/// Checks that an installation replaces no service of another configuration, makes no second one of
/// this configuration, and does not begin again with an empty state.
///
/// # Errors
/// A message with advice.
pub(super) fn check_other_workers(
    workers: &[InstalledWorker],
    config: &ServiceConfig,
) -> Result<(), ProgramError> {
    for worker in workers {
        let InstalledWorker { service_name, paths } = worker;
        let WorkerUnitPaths { config_file, state_dir } = paths;
        let has_this_name = service_name == config.service_name();
        let message = if has_this_name && worker.has_other_config(config) {
            format!(
                "{service_name}.service runs the configuration {}: to run both, set \
                 service.service_name to another name in one of them; to replace it, first run \
                 `cynosure --config {} service uninstall`",
                config_file.display(),
                shell_word(config_file)
            )
        } else if has_this_name && state_dir.exists() && !is_same_path(state_dir, &config.state_dir)
        {
            format!(
                "{service_name}.service has its state in {}: name that folder with --state-dir {}; \
                 to begin again with an empty one, first run `cynosure service uninstall`",
                state_dir.display(),
                shell_word(state_dir)
            )
        } else if !has_this_name && worker.has_config(config) {
            format!(
                "{service_name}.service runs this configuration already, under the name that it \
                 had before: first run `cynosure --config {} service uninstall`",
                shell_word(config_file)
            )
        } else {
            continue;
        };
        return Err(ProgramError::new(ProgramExit::Other, message));
    }
    Ok(())
}

/// Returns the names of the services to remove: that of the configuration, and other ones that run
/// it, because its name was changed.
///
/// # Errors
/// A message with advice, if the only service of that name runs another configuration.
pub(super) fn names_to_remove(
    workers: &[InstalledWorker],
    config: &ServiceConfig,
) -> Result<BTreeSet<String>, ProgramError> {
    let own = workers.iter().filter(|worker| worker.has_config(config));
    let mut names: BTreeSet<String> = own.map(|worker| worker.service_name.clone()).collect();
    let name = config.service_name();
    let is_of_other =
        |worker: &&InstalledWorker| worker.service_name == name && worker.has_other_config(config);
    // Without a configuration, the name alone decides.
    let other = workers.iter().find(is_of_other).filter(|_| config.config_file.exists());
    match other {
        None => {
            names.insert(name.to_owned());
        }
        Some(worker) if names.is_empty() => {
            let config_file = &worker.paths.config_file;
            return Err(ProgramError::new(
                ProgramExit::Other,
                format!(
                    "{name}.service runs the configuration {}, not {}: to remove it, run \
                     `cynosure --config {} service uninstall`",
                    config_file.display(),
                    config.config_file.display(),
                    shell_word(config_file)
                ),
            ));
        }
        Some(_) => {}
    }
    Ok(names)
}
