//! Commands of `service`, and their options.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum ServiceCommand {
    /// Write the units for this program and its configuration, and start them
    Install(ServiceInstallArgs),
    /// Stop the units that `install` wrote, and remove them
    Uninstall(ServiceScopeArgs),
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ServiceInstallArgs {
    #[command(flatten)]
    pub scope: ServiceScopeArgs,
    /// The program that the units start [default: this one]
    #[arg(long, value_name = "PATH")]
    pub binary: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Args)]
pub(in crate::cli) struct ServiceScopeArgs {
    /// Use the service manager of this user [default: that of the system if run as root]
    #[arg(long)]
    pub user: bool,
}
