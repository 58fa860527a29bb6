//! `service install`: writes the units, enables and starts them, and says what it did.

use std::path::{Path, PathBuf};

use cynosure_engine::sanitize_line;

use crate::app::error::ProgramError;
use crate::app::exit::ProgramExit;
use crate::cli::args::CommonArgs;
use crate::cli::commands::service::args::{ServiceInstallArgs, ServiceScopeArgs};
use crate::cli::commands::service::config::{ServiceConfig, config_error};
use crate::cli::commands::service::folders::{
    POLKIT_PACKAGE_RULES_DIR, POLKIT_RULES_DIR, check_visible, find_packaged_unit, is_in_home,
    select_scope, shell_word,
};
use crate::cli::commands::service::installed_worker::{check_other_workers, find_workers};
use crate::cli::commands::service::manager::{SystemctlClient, run_program};
use crate::cli::commands::service::owner::{ServiceOwner, ensure_service_folder};
use crate::cli::commands::service::program::find_program;
use crate::cli::commands::service::target_files::{
    FileOrigin, InstalledService, ServiceFiles, WriteResult, read_origin, remove_generated,
    write_generated,
};
use crate::cli::print::{print_note, print_result};
use crate::disk::parent_folder;
use crate::systemd::{
    ManagerScope, UnitFileOptions, generate_polkit_rule, generate_unit_files, monitor_unit_file,
    worker_unit_file,
};

pub(super) fn install(
    common: &CommonArgs,
    args: &ServiceInstallArgs,
) -> Result<ProgramExit, ProgramError> {
    let scope = select_scope(args.scope);
    let config = ServiceConfig::load(&common.config_location())?;
    let files = ServiceFiles::new(scope, config.service_name())?;
    check_not_packaged(args.scope, config.service_name(), &files)?;
    let installed = files.check_replaceable()?;
    check_other_workers(&find_workers(parent_folder(&files.worker_unit))?, &config)?;
    let program = find_program(args.binary.as_deref())?;
    let systemctl = SystemctlClient::new(scope);
    systemctl.check_available()?;
    let options = unit_file_options(scope, &config, program)?;
    write_files(&files, &options)?;
    if scope == ManagerScope::User {
        enable_lingering()?;
    }
    start_units(systemctl, &options, installed)?;
    print_next_steps(systemctl, &options)?;
    Ok(ProgramExit::Success)
}

/// Checks that a package has installed no units of these names.
fn check_not_packaged(
    scope: ServiceScopeArgs,
    service_name: &str,
    files: &ServiceFiles,
) -> Result<(), ProgramError> {
    let units = [worker_unit_file(service_name), monitor_unit_file(service_name)];
    let Some(unit) = find_packaged_unit(scope, &units) else { return Ok(()) };
    let first_step = match read_origin(&files.worker_unit)? {
        FileOrigin::Generated(_) => "run `cynosure service uninstall`, then ",
        FileOrigin::Absent | FileOrigin::Foreign => "",
    };
    let message = format!(
        "{} exists already; if the package of Cynosure or `make install` wrote it, {first_step}\
         start it with `systemctl enable --now {service_name} {service_name}-monitor`; if not, \
         set service.service_name to another name",
        unit.display()
    );
    Err(ProgramError::new(ProgramExit::Other, message))
}

/// Collects what the units depend on, and creates the folders in which the worker writes.
fn unit_file_options(
    scope: ManagerScope,
    config: &ServiceConfig,
    program: PathBuf,
) -> Result<UnitFileOptions, ProgramError> {
    let archive = config.settings().archive.dir.as_path();
    let config_path = fs_err::canonicalize(&config.config_file)
        .map_err(|error| config_error(error.to_string()))?;
    let mut owner = None;
    let mut uses_credential_folder = false;
    match scope {
        ManagerScope::System => {
            for path in [program.as_path(), &config_path, &config.state_dir, archive] {
                check_visible(path)?;
            }
            uses_credential_folder = config.uses_credential_folder()?;
            owner = Some(ServiceOwner::find(&config.state_dir, &config.config_file)?);
        }
        ManagerScope::User if config.names_systemd_credential() => {
            return Err(config_error(
                "the configuration names a credential of systemd, which only the service manager \
                 of the system passes on; name a file instead",
            ));
        }
        ManagerScope::User => {}
    }
    let state_dir = prepare_folder(&config.state_dir, owner.as_ref())?;
    let mut written_folders = vec![prepare_folder(archive, owner.as_ref())?];
    let tokens = config.token_folders().into_iter();
    written_folders.extend(tokens.filter(|folder| !folder.starts_with(&state_dir)));
    let paths = [&program, &config_path, &state_dir];
    let is_home_path = |path: &PathBuf| is_in_home(path);
    let uses_home_folder = config.names_home_file()
        || paths.into_iter().any(is_home_path)
        || written_folders.iter().any(is_home_path);
    Ok(UnitFileOptions {
        scope,
        service_name: config.service_name().to_owned(),
        program,
        config_file: config.config_file.clone(),
        state_dir,
        written_folders,
        user: owner.map(|owner| owner.name).unwrap_or_default(),
        uses_home_folder,
        uses_credential_folder,
    })
}

/// Creates a folder if it does not exist, and says so.
fn prepare_folder(folder: &Path, owner: Option<&ServiceOwner>) -> Result<PathBuf, ProgramError> {
    let is_new = !folder.exists();
    let path = ensure_service_folder(folder, owner)?;
    if is_new {
        print_result(format!("created   {}", sanitize_line(&path.to_string_lossy())))?;
    }
    Ok(path)
}

/// Writes the units and the polkit rule. A rule that is not needed any more is removed.
fn write_files(files: &ServiceFiles, options: &UnitFileOptions) -> Result<(), ProgramError> {
    let [worker, monitor] = generate_unit_files(options)
        .map_err(|message| ProgramError::new(ProgramExit::Other, message))?;
    write_file(&files.worker_unit, &worker.text)?;
    write_file(&files.monitor_unit, &monitor.text)?;
    let Some(path) = &files.polkit_rule else { return Ok(()) };
    let Some(rule) = generate_polkit_rule(options) else {
        if matches!(read_origin(path)?, FileOrigin::Generated(_)) {
            remove_generated(path)?;
            print_result(format!("removed   {}", path.display()))?;
        }
        return Ok(());
    };
    if [POLKIT_RULES_DIR, POLKIT_PACKAGE_RULES_DIR].iter().any(|dir| Path::new(dir).exists()) {
        return write_file(path, &rule.text);
    }
    print_note(
        "polkit is not installed: the monitor cannot restart the worker; if that is stuck, it \
         exits by itself, or the watchdog of systemd ends it, and systemd starts it again",
    );
    Ok(())
}

fn write_file(path: &Path, text: &str) -> Result<(), ProgramError> {
    let result = match write_generated(path, text)? {
        WriteResult::Written => "written",
        WriteResult::Unchanged => "unchanged",
    };
    print_result(format!("{result:<9} {}", path.display()))
}

/// Asks systemd to run the service manager of this user from the start of the machine on.
fn enable_lingering() -> Result<(), ProgramError> {
    let uid = rustix::process::geteuid().as_raw().to_string();
    match run_program("loginctl", &["--no-ask-password", "enable-linger", &uid]) {
        Ok(_) => print_result("lingering enabled: the service also runs while you are logged out"),
        Err(error) => {
            print_note(format!(
                "the service runs only while you are logged in, because lingering was refused: \
                 {error}; as root: `loginctl enable-linger {uid}`"
            ));
            Ok(())
        }
    }
}

/// Enables both units and starts them; those that run are restarted with the new files. Returns
/// when each is active.
fn start_units(
    systemctl: SystemctlClient,
    options: &UnitFileOptions,
    installed: InstalledService,
) -> Result<(), ProgramError> {
    let name = &options.service_name;
    let (worker, monitor) = (worker_unit_file(name), monitor_unit_file(name));
    let result = systemctl.run(&["daemon-reload"]).and_then(|_| match installed {
        InstalledService::Absent => systemctl.run(&["enable", "--now", &worker, &monitor]),
        // `enable --now` does not restart a unit that runs.
        InstalledService::Present => systemctl
            .run(&["enable", &worker, &monitor])
            .and_then(|_| systemctl.run(&["restart", &worker, &monitor])),
    });
    let action = match (&result, installed) {
        (Ok(_), InstalledService::Absent) => "enabled, started, ",
        (Ok(_), InstalledService::Present) => "enabled, restarted, ",
        (Err(error), InstalledService::Absent | InstalledService::Present) => {
            print_note(error.message());
            ""
        }
    };
    let mut inactive = Vec::new();
    for unit in [&worker, &monitor] {
        let state = systemctl.active_state(unit)?;
        print_result(format!("{unit}: {action}{state}"))?;
        // A worker that has completed a session is between two starts.
        if ["failed", "inactive"].contains(&state.as_str()) {
            inactive.push(unit.as_str());
        }
    }
    if result.is_ok() && inactive.is_empty() {
        return Ok(());
    }
    let unit = inactive.first().copied().unwrap_or(&worker);
    let message = format!(
        "the units are written, and the service did not start: see `journalctl {}-n 20 -u {unit}`, \
         correct the cause, and run `cynosure service install` again; `cynosure service uninstall` \
         removes the units",
        systemctl.option_text()
    );
    Err(ProgramError::new(ProgramExit::Other, message))
}

fn print_next_steps(
    systemctl: SystemctlClient,
    options: &UnitFileOptions,
) -> Result<(), ProgramError> {
    let UnitFileOptions { service_name, config_file, state_dir, user, .. } = options;
    let option = systemctl.option_text();
    if !user.is_empty() {
        print_result(format!("The service runs as the user {}.", sanitize_line(user)))?;
    }
    print_result(format!(
        "Watch it:\n  systemctl {option}status {service_name}\n  journalctl {option}-u \
         {service_name}\n  cynosure --config {} --state-dir {} status",
        shell_word(config_file),
        shell_word(state_dir)
    ))
}
