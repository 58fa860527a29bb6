//! The commands, a file each.

mod adopt;
mod alert;
mod archive;
mod args;
mod board;
mod breaker;
mod check;
mod clock;
mod closing;
mod config;
mod damaged;
mod demo;
mod doctor;
mod exit;
mod explain;
mod exporting;
mod facts;
#[cfg(debug_assertions)]
mod failpoint;
mod failures;
mod findings;
mod guard;
mod health;
mod herald;
mod history;
mod journal;
mod logging;
mod man;
mod monitor;
mod place;
mod plot;
mod print;
mod progress;
mod quotas;
mod recording;
mod requeue;
mod reset;
mod run;
mod sentence;
mod serving;
mod signals;
mod simulate;
mod since;
mod sources;
mod standing;
mod status;
mod table;
mod trouble;
mod verify;
mod watching;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use self::args::{Cli, Command};
use self::exit::Exit;
use self::print::show;
use self::trouble::{Trouble, end};

/// Runs what was typed.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let common = &cli.common;
    match &cli.command {
        Command::Run(args) => run::run(common, args),
        Command::Demo(args) => demo::demo(common, args),
        Command::Config(command) => config::config(common, command).into(),
        Command::Status(args) => end(status::status(common, args)),
        Command::Check(args) => check::check(common, args),
        Command::Monitor => monitor::monitor(common),
        Command::Alert(command) => end(alert::alert(common, command)),
        Command::Doctor(args) => end(doctor::doctor(common, args)),
        Command::History(args) => end(history::history(common, args)),
        Command::Failures(args) => end(failures::failures(common, args)),
        Command::Explain(args) => end(explain::explain(common, args)),
        Command::Requeue(args) => end(requeue::requeue(common, args)),
        Command::Breaker(command) => end(breaker::breaker(common, command)),
        Command::Verify(args) => end(verify::verify(common, args)),
        Command::Adopt(args) => end(adopt::adopt(common, args)),
        Command::Simulate(args) => end(simulate::simulate(common, args)),
        Command::Reset(args) => end(reset::reset(common, args)),
        Command::Completions { shell } => end(completions(*shell)),
        Command::Man { dir } => end(man::man(dir)),
    }
}

fn completions(shell: clap_complete::Shell) -> Result<Exit, Trouble> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "cynosure", &mut script);
    show(String::from_utf8_lossy(&script).trim_end())?;
    Ok(Exit::Done)
}
