//! Commands of the program, one file or folder each, and their helpers.

mod adopt;
mod alert;
mod auth;
mod breaker;
mod check;
mod completions;
mod config;
mod config_probe;
mod demo;
mod doctor;
pub(super) mod explain;
pub(super) mod export;
mod failures;
mod history;
pub(super) mod init;
mod man;
mod monitor;
mod profile_text;
mod requeue;
mod requeue_damaged;
mod reset;
mod run;
mod run_summary;
pub(super) mod service;
pub(super) mod simulate;
mod status;
mod verify;
mod verify_report;

use std::process::ExitCode;

use crate::cli::args::{Cli, Command};
use crate::cli::error::to_exit_code;

/// Runs the command, and returns the exit code of the program.
pub(super) fn run_command(cli: &Cli) -> ExitCode {
    let common = &cli.common;
    match &cli.command {
        Command::Init(args) => to_exit_code(init::init(common, args)),
        Command::Auth(args) => to_exit_code(auth::auth(common, args)),
        Command::Run(args) => to_exit_code(run::run(common, args)),
        Command::Demo(args) => demo::demo(common, args),
        Command::Config(command) => to_exit_code(config::config(common, command)),
        Command::Status(args) => to_exit_code(status::status(common, args)),
        Command::Check(args) => check::check(common, args),
        Command::Monitor => to_exit_code(monitor::monitor(common)),
        Command::Alert(command) => to_exit_code(alert::alert(common, command)),
        Command::Doctor(args) => to_exit_code(doctor::doctor(common, args)),
        Command::History(args) => to_exit_code(history::history(common, args)),
        Command::Failures(args) => to_exit_code(failures::failures(common, args)),
        Command::Explain(args) => to_exit_code(explain::explain(common, args)),
        Command::Requeue(args) => to_exit_code(requeue::requeue(common, args)),
        Command::Breaker(command) => to_exit_code(breaker::breaker(common, command)),
        Command::Verify(args) => to_exit_code(verify::verify(common, args)),
        Command::Adopt(args) => to_exit_code(adopt::adopt(common, args)),
        Command::Export(args) => to_exit_code(export::export(common, args)),
        Command::Service(command) => to_exit_code(service::service(common, command)),
        Command::Simulate(args) => to_exit_code(simulate::simulate(common, args)),
        Command::Reset(args) => to_exit_code(reset::reset(common, args)),
        Command::Completions { shell } => to_exit_code(completions::print_completions(*shell)),
        Command::Man { dir } => to_exit_code(man::write_man_pages(dir)),
    }
}
