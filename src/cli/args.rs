//! Command line: the commands and their options. The doc comments are the help texts.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};
use cynosure_engine::Cause;
use cynosure_engine::user_input::parse_duration;

use crate::app::context::ConfigLocation;
use crate::app::log::{LogFormat, LogOptions, Verbosity};
use crate::app::progress::ShowProgress;
use crate::cli::commands::explain::args::ExplainArgs;
use crate::cli::commands::export::args::ExportArgs;
use crate::cli::commands::init::args::InitArgs;
use crate::cli::commands::service::args::ServiceCommand;
use crate::cli::commands::simulate::policy::{NamedPolicy, parse_policy};

/// Copies mailboxes to disk, one file per message, and keeps running without supervision.
#[derive(Debug, Parser)]
#[command(name = "cynosure", version, max_term_width = 100)]
pub(super) struct Cli {
    #[command(flatten)]
    pub common: CommonArgs,
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Clone, Debug, Args)]
pub(super) struct CommonArgs {
    /// The configuration file [default: ./config.toml, then /etc/cynosure/config.toml]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The state folder [default: $STATE_DIRECTORY, then `state` next to the
    /// configuration file]
    #[arg(long, global = true, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Log more; twice for everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Log errors only, and show no progress
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Format of the log lines
    #[arg(long, global = true, value_enum, default_value_t = LogFormatArg::Auto)]
    pub log_format: LogFormatArg,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(super) enum LogFormatArg {
    /// The journal under systemd, text elsewhere
    Auto,
    Text,
    Json,
    /// Directly to the journal, with fields
    Journal,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Write a configuration for a mailbox, step by step
    Init(InitArgs),
    /// Sign in to a source with OAuth 2.0, and store its token, which then refreshes itself
    Auth(AuthArgs),
    /// Extract the configured sources
    Run(RunArgs),
    /// Extract an embedded mailbox with generated mail, as a demonstration
    Demo(DemoArgs),
    /// Show what each source is doing, and why
    Status(StatusArgs),
    /// Run all health checks once; exit with 0 HEALTHY, 1 WARNING, 2 CRITICAL or 3 UNKNOWN
    Check(CheckArgs),
    /// Watch the workers continuously, restart stuck or stopped ones through systemd, and send
    /// alerts
    Monitor,
    /// Send a test alert, or show the last alerts
    #[command(subcommand)]
    Alert(AlertCommand),
    /// Find problems of this machine or configuration that would stop the worker, with a remedy
    /// for each
    Doctor(DoctorArgs),
    /// Show the state transitions of the sources, with the reasons
    History(HistoryArgs),
    /// Show the items that failed
    Failures(FailuresArgs),
    /// Show how a response of a server is classified, by which rule, and what follows
    Explain(ExplainArgs),
    /// Schedule failed items to be fetched again at the next poll, even if no worker is running
    Requeue(RequeueArgs),
    /// Show the circuit breakers, or open, close or reset one manually
    #[command(subcommand)]
    Breaker(BreakerCommand),
    /// Check the archive against the ledger, byte for byte
    Verify(VerifyArgs),
    /// Rebuild the ledger of a source from its archive, fetching nothing
    Adopt(AdoptArgs),
    /// Copy the archive into a Maildir, an mbox file for each folder, or a ZIP file
    Export(ExportArgs),
    /// Run this program as a service of systemd, without a package
    #[command(subcommand)]
    Service(ServiceCommand),
    /// Test a rate limit policy against a simulated server, and compare it with another policy
    Simulate(SimulateArgs),
    /// Delete the progress of a source, and keep its archive
    Reset(ResetArgs),
    /// Check or show the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print the completions for a shell
    Completions {
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
    /// Write the manual pages into a folder
    #[command(hide = true)]
    Man { dir: PathBuf },
}

#[derive(Debug, Args)]
pub(super) struct AuthArgs {
    /// The source to sign in to
    pub source: String,
    /// Sign in with a browser on another machine, and paste the address of the page that it then
    /// cannot open
    #[arg(long, conflicts_with = "device")]
    pub paste: bool,
    /// Sign in with a browser on another machine, by entering a code; not every provider allows it
    #[arg(long)]
    pub device: bool,
    /// Only print the address, and open no browser
    #[arg(long)]
    pub no_browser: bool,
}

#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// The sources to extract [default: all that are enabled]
    #[arg(value_name = "SOURCE")]
    pub sources: Vec<String>,
    /// Extract what is new now, then exit
    #[arg(long)]
    pub once: bool,
    /// Append the responses of the server of one source to this trace, for `simulate FILE.jsonl`;
    /// only responses over HTTP, so nothing of an IMAP source
    #[arg(long, value_name = "FILE.jsonl", value_parser = parse_trace_path)]
    pub record: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct DemoArgs {
    /// The protocol or API that the mailbox is served over
    #[arg(long, value_enum, default_value_t = DemoKindArg::Jmap)]
    pub kind: DemoKindArg,
    /// Threads in the mailbox
    #[arg(long, default_value_t = 2000, value_name = "N")]
    pub items: u64,
    /// The faults to inject
    #[arg(long, value_enum, default_value_t = FaultsArg::Some)]
    pub faults: FaultsArg,
    /// The folder of the configuration, state and archive of the demo
    #[arg(long, default_value = "demo", value_name = "DIR")]
    pub dir: PathBuf,
    /// The seed of the generated mail
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub seed: u64,
    /// Append the responses of the server to this trace, for `simulate FILE.jsonl`; only responses
    /// over HTTP, so nothing with `--kind imap`
    #[arg(long, value_name = "FILE.jsonl", value_parser = parse_trace_path, conflicts_with = "serve")]
    pub record: Option<PathBuf>,
    /// Only serve the mailbox, and print a configuration that extracts it
    #[arg(long)]
    pub serve: bool,
    /// The address to serve the mailbox on
    #[arg(long, default_value = "127.0.0.1:0", value_name = "ADDR", requires = "serve")]
    pub listen: SocketAddr,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(super) enum DemoKindArg {
    Jmap,
    Imap,
    /// The API of Gmail
    Gmail,
    /// Microsoft Graph
    Graph,
    /// The interface of the website of mail.ru
    Mailru,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(super) enum FaultsArg {
    None,
    Some,
    /// All faults at once
    Storm,
}

#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    /// Print JSON: `sources`, each with the keys of its state file, and with `configured`,
    /// `running` and `trouble`
    #[arg(long)]
    pub json: bool,
    /// Repeat the output until interrupted
    #[arg(long)]
    pub watch: bool,
}

#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// Print JSON: `level`, `checks`, `providers`, `restart`, `alerts` with the results of sending
    /// them, and `monitor` with its last check
    #[arg(long)]
    pub json: bool,
    /// Restart stuck or stopped workers through systemd, as the monitor does
    #[arg(long)]
    pub restart: bool,
    /// Send alerts, as the monitor does: one for each cause, and one when it is resolved
    #[arg(long)]
    pub alert: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum AlertCommand {
    /// Send a test alert through every channel, and show the results
    Test,
    /// Show the last alerts, the newest last
    List(AlertListArgs),
}

#[derive(Debug, Args)]
pub(super) struct AlertListArgs {
    /// Maximum number of alerts
    #[arg(short = 'n', long, default_value_t = 20, value_name = "N")]
    pub last: usize,
    /// Print JSON, one line for each alert
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(super) struct DoctorArgs {
    /// Print JSON: `ok`, and the list `findings`
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(super) struct HistoryArgs {
    /// Only this source
    pub source: Option<String>,
    /// Maximum number of transitions, the newest last
    #[arg(short = 'n', long, default_value_t = 50, value_name = "N")]
    pub last: u32,
    /// Print JSON, one line for each transition
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(super) struct FailuresArgs {
    /// Only this source
    pub source: Option<String>,
    /// Only failures with this cause
    #[arg(long, value_parser = cause_parser())]
    pub cause: Option<Cause>,
    /// Only failures since then: a date, an RFC 3339 time, or "2h" for two hours ago
    #[arg(long, value_name = "WHEN")]
    pub since: Option<String>,
    /// All details of one item, by its id, with the last response of the server
    #[arg(long, value_name = "ID", conflicts_with_all = ["cause", "since", "limit"])]
    pub item: Option<String>,
    /// Maximum number of items
    #[arg(short = 'n', long, default_value_t = 100, value_name = "N")]
    pub limit: u32,
    /// Print JSON, one line for each item
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(super) struct RequeueArgs {
    /// The source; optional if there is only one
    #[arg(long)]
    pub source: Option<String>,
    /// Only failures with this cause
    #[arg(long, value_parser = cause_parser())]
    pub cause: Option<Cause>,
    /// Only failures since then: a date, an RFC 3339 time, or "2h" for two hours ago
    #[arg(long, value_name = "WHEN")]
    pub since: Option<String>,
    /// Only stored documents whose files are missing or damaged, checked as by `verify`
    #[arg(long, conflicts_with_all = ["cause", "since", "items"])]
    pub damaged: bool,
    /// Only these items, by their ids
    #[arg(value_name = "ITEM", conflicts_with_all = ["cause", "since"])]
    pub items: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct VerifyArgs {
    /// Only this source
    pub source: Option<String>,
    /// Print JSON, one line for each finding, and a summary line at the end of each source
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(super) struct SimulateArgs {
    /// The name of a built-in scenario, or the path of a scenario or trace [default: list the
    /// built-in scenarios]
    pub scenario: Option<String>,
    /// Test the configured policy of this provider
    #[arg(long, value_name = "NAME", conflicts_with = "policy", requires = "scenario")]
    pub provider: Option<String>,
    /// The policy to test: follow, follow,cap=RATE,reserve=SHARE, fixed=RATE, off or backoff
    /// [default: follow]
    #[arg(long, value_name = "POLICY", value_parser = parse_policy, requires = "scenario")]
    pub policy: Option<NamedPolicy>,
    /// The policy to compare with
    #[arg(long, value_name = "POLICY", value_parser = parse_policy, default_value = "backoff")]
    pub against: NamedPolicy,
    /// Also write the plot as SVG
    #[arg(long, value_name = "FILE", requires = "scenario")]
    pub svg: Option<PathBuf>,
    /// The seed of the latencies and the jitter
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub seed: u64,
    /// Print JSON: `scenario`, `runs` with one entry for each policy, and `verdict`
    #[arg(long, requires = "scenario")]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(super) struct AdoptArgs {
    /// The source whose ledger is missing or damaged
    pub source: String,
    /// Only show what would be adopted
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Debug, Args)]
pub(super) struct ResetArgs {
    /// The source whose progress is deleted
    pub source: String,
    /// Delete it; without this option, only show what would be deleted
    #[arg(long)]
    pub yes: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum BreakerCommand {
    /// Show each breaker: its state, its counts (up to a minute old), and what happens next
    List {
        /// Print JSON: the list `breakers`, and their common `configuration`
        #[arg(long)]
        json: bool,
    },
    /// Close a breaker and clear its counts
    Reset {
        /// A provider, `ledger` or `archive`
        name: String,
    },
    /// Open a breaker: reject all requests until it is closed manually
    Open {
        /// A provider, `ledger` or `archive`
        name: String,
        /// Only for this time, such as 90s, 10m or 2h; then one request is sent as a probe
        #[arg(long = "for", value_name = "DURATION", value_parser = parse_open_duration)]
        duration: Option<Duration>,
    },
    /// Close a breaker: allow requests again
    Close {
        /// A provider, `ledger` or `archive`
        name: String,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Read the configuration and report every mistake in it
    Check(ConfigCheckArgs),
    /// Print the effective settings, and the origin of each value
    Show,
}

#[derive(Debug, Args)]
pub(super) struct ConfigCheckArgs {
    /// Also log in to each source, list its folders and fetch one message, and store nothing
    #[arg(long)]
    pub probe: bool,
    /// The sources to probe [default: all that are enabled]
    #[arg(value_name = "SOURCE", requires = "probe")]
    pub sources: Vec<String>,
}

impl CommonArgs {
    pub(super) fn config_location(&self) -> ConfigLocation {
        ConfigLocation { config_file: self.config.clone(), state_dir: self.state_dir.clone() }
    }

    pub(super) fn log_options(&self) -> LogOptions {
        let format = match self.log_format {
            LogFormatArg::Auto => None,
            LogFormatArg::Text => Some(LogFormat::Text),
            LogFormatArg::Json => Some(LogFormat::Json),
            LogFormatArg::Journal => Some(LogFormat::Journal),
        };
        let verbosity = match (self.quiet, self.verbose) {
            (true, _) => Verbosity::ErrorsOnly,
            (false, 0) => Verbosity::Default,
            (false, 1) => Verbosity::Debug,
            (false, _) => Verbosity::Trace,
        };
        LogOptions { format, verbosity }
    }

    pub(super) fn show_progress(&self) -> ShowProgress {
        if self.quiet { ShowProgress::No } else { ShowProgress::Yes }
    }
}

/// Returns the parser of cause names. Its error for another word lists all names.
fn cause_parser() -> impl TypedValueParser<Value = Cause> {
    PossibleValuesParser::new(Cause::ALL.map(Cause::name))
        .map(|name| Cause::from_name(&name).unwrap_or(Cause::Unknown))
}

/// Parses the path of the trace to record.
fn parse_trace_path(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    let is_trace_name = path.extension().is_some_and(|extension| extension == "jsonl");
    is_trace_name
        .then_some(path)
        .ok_or_else(|| "`simulate` requires that the name of a trace ends in .jsonl".to_owned())
}

/// Maximum of `breaker open --for`. Without it, a breaker stays open until it is closed manually.
const OPEN_DURATION_MAX: Duration = Duration::from_secs(366 * 86_400);

fn parse_open_duration(text: &str) -> Result<Duration, String> {
    parse_duration(text)
        .filter(|duration| !duration.is_zero() && *duration <= OPEN_DURATION_MAX)
        .ok_or_else(|| "write a duration such as 90s, 10m or 2h, at most a year".to_owned())
}
