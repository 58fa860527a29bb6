//! Commands of the program, one file or folder each, and the parts that they share.

mod adopt;
mod alert;
mod archive_check;
mod args;
mod breaker;
mod check;
mod clock_step;
mod config;
mod context;
mod dashboard_data;
mod demo;
mod doctor;
mod error;
mod exit;
mod explain;
#[cfg(debug_assertions)]
mod failpoint;
mod failures;
mod health_task;
mod history;
mod http_server;
mod journald;
mod key_values;
mod logging;
mod man;
mod monitor;
mod monitoring;
mod plot;
mod print;
mod progress;
mod quotas;
mod requeue;
mod requeue_damaged;
mod reset;
mod run;
mod run_summary;
mod signals;
mod simulate;
mod source_status;
mod sources;
mod status;
mod status_line;
mod systemd_status;
mod table;
mod telemetry;
mod time_arg;
mod trace_writer;
mod verify;
mod verify_report;
mod watchdog;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use self::args::{Cli, Command};
use self::error::{CliError, to_exit_code};
use self::exit::ProgramExit;
use self::print::print_result;

/// Parses the command line and runs its command.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let common = &cli.common;
    match &cli.command {
        Command::Run(args) => run::run(common, args),
        Command::Demo(args) => demo::demo(common, args),
        Command::Config(command) => config::config(common, command).into(),
        Command::Status(args) => to_exit_code(status::status(common, args)),
        Command::Check(args) => check::check(common, args),
        Command::Monitor => monitor::monitor(common),
        Command::Alert(command) => to_exit_code(alert::alert(common, command)),
        Command::Doctor(args) => to_exit_code(doctor::doctor(common, args)),
        Command::History(args) => to_exit_code(history::history(common, args)),
        Command::Failures(args) => to_exit_code(failures::failures(common, args)),
        Command::Explain(args) => to_exit_code(explain::explain(common, args)),
        Command::Requeue(args) => to_exit_code(requeue::requeue(common, args)),
        Command::Breaker(command) => to_exit_code(breaker::breaker(common, command)),
        Command::Verify(args) => to_exit_code(verify::verify(common, args)),
        Command::Adopt(args) => to_exit_code(adopt::adopt(common, args)),
        Command::Simulate(args) => to_exit_code(simulate::simulate(common, args)),
        Command::Reset(args) => to_exit_code(reset::reset(common, args)),
        Command::Completions { shell } => to_exit_code(print_completions(*shell)),
        Command::Man { dir } => to_exit_code(man::write_man_pages(dir)),
    }
}

fn print_completions(shell: clap_complete::Shell) -> Result<ProgramExit, CliError> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "cynosure", &mut script);
    print_result(String::from_utf8_lossy(&script).trim_end())?;
    Ok(ProgramExit::Success)
}
