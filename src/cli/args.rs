//! What can be typed: the commands and their options.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::cli::simulate::{NamedPolicy, parse_policy};
use crate::config::parse_duration;
use crate::engine::Cause;

/// Extracts every thread of a mailbox, stores each one durably, and keeps going without a person.
#[derive(Debug, Parser)]
#[command(name = "cynosure", version, max_term_width = 100)]
pub(super) struct Cli {
    #[command(flatten)]
    pub common: CommonArgs,
    #[command(subcommand)]
    pub command: Command,
}

/// Options that every command understands.
#[derive(Clone, Debug, Args)]
pub(super) struct CommonArgs {
    /// The configuration [default: ./config.toml, then /etc/cynosure/config.toml]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where progress is kept [default: $STATE_DIRECTORY, then `state` beside the configuration]
    #[arg(long, global = true, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Log more; twice for everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Log errors only, and show no progress
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// How log lines are written
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Auto)]
    pub log_format: LogFormat,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(super) enum LogFormat {
    /// The journal under systemd, text elsewhere
    Auto,
    Text,
    Json,
    /// Straight to the journal, with fields
    Journal,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Extract the sources of the configuration
    Run(RunArgs),
    /// See the whole job on an embedded mailbox with generated mail
    Demo(DemoArgs),
    /// Show what each source is doing, and why
    Status(StatusArgs),
    /// Judge the health of everything once: 0 HEALTHY, 1 WARNING, 2 CRITICAL, 3 UNKNOWN
    Check(CheckArgs),
    /// Keep watching the workers, have systemd start anew what is stuck or down, and tell people what is amiss
    Monitor,
    /// Try the ways in which people are told what is amiss, or show what they were told
    #[command(subcommand)]
    Alert(AlertCommand),
    /// Look for what could keep the worker from its work, with a remedy for each
    Doctor(DoctorArgs),
    /// Show the states a source has passed, with the reasons
    History(HistoryArgs),
    /// Show the items that failed
    Failures(FailuresArgs),
    /// Say how a server's reply is judged, why, and what follows
    Explain(ExplainArgs),
    /// Have failed items fetched again at the worker's next look, be it running or not
    Requeue(RequeueArgs),
    /// Show the circuit breakers, or open and close one by hand
    #[command(subcommand)]
    Breaker(BreakerCommand),
    /// Check the archive against the ledger, byte for byte
    Verify(VerifyArgs),
    /// Rebuild the ledger of a source from its archive, fetching nothing
    Adopt(AdoptArgs),
    /// Rehearse a policy against a made-up server, beside another policy
    Simulate(SimulateArgs),
    /// Forget the progress of a source, keeping its archive
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
pub(super) struct RunArgs {
    /// The sources to extract [default: all that are enabled]
    #[arg(value_name = "SOURCE")]
    pub sources: Vec<String>,
    /// Extract what is new now, then leave
    #[arg(long)]
    pub once: bool,
    /// Append what the server of one source answers to this trace, for `simulate FILE.jsonl`
    #[arg(long, value_name = "FILE.jsonl", value_parser = parse_trace_path)]
    pub record: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct DemoArgs {
    /// Threads in the mailbox
    #[arg(long, default_value_t = 2000, value_name = "N")]
    pub items: u64,
    /// What goes wrong on the way
    #[arg(long, value_enum, default_value_t = FaultsArg::Some)]
    pub faults: FaultsArg,
    /// Where the demo keeps its configuration, state and archive
    #[arg(long, default_value = "demo", value_name = "DIR")]
    pub dir: PathBuf,
    /// Another number makes other mail
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub seed: u64,
    /// Append what the server answers to this trace, for `simulate FILE.jsonl`
    #[arg(long, value_name = "FILE.jsonl", value_parser = parse_trace_path, conflicts_with = "serve")]
    pub record: Option<PathBuf>,
    /// Only serve the mailbox, and print a configuration that extracts it
    #[arg(long)]
    pub serve: bool,
    /// Where to serve it
    #[arg(long, default_value = "127.0.0.1:0", value_name = "ADDR", requires = "serve")]
    pub listen: SocketAddr,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(super) enum FaultsArg {
    None,
    Some,
    /// Everything at once
    Storm,
}

#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    /// Print JSON: `sources`, a list of the state files' keys, with `configured`, `running` and `trouble`
    #[arg(long)]
    pub json: bool,
    /// Keep showing it until interrupted
    #[arg(long)]
    pub watch: bool,
}

#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// Print JSON: `level`, `checks`, `providers`, `restart`, `alerts` that were told, and what the `monitor` did last
    #[arg(long)]
    pub json: bool,
    /// Have systemd start anew what is stuck or down, as the monitor would
    #[arg(long)]
    pub restart: bool,
    /// Tell people what is amiss, as the monitor would: each cause once, and when it is over
    #[arg(long)]
    pub alert: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum AlertCommand {
    /// Send a test through every channel, and say what came of it
    Test,
    /// Show the last alerts, the newest last
    List(AlertListArgs),
}

#[derive(Debug, Args)]
pub(super) struct AlertListArgs {
    /// How many at most
    #[arg(short = 'n', long, default_value_t = 20, value_name = "N")]
    pub last: usize,
    /// Print JSON, a line for each
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(super) struct DoctorArgs {
    /// Print JSON: `sound`, and a list of `findings`
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(super) struct HistoryArgs {
    /// Only this source
    pub source: Option<String>,
    /// How many transitions, the newest last
    #[arg(short = 'n', long, default_value_t = 50, value_name = "N")]
    pub last: u32,
    /// Print JSON, a line for each
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(super) struct FailuresArgs {
    /// Only this source
    pub source: Option<String>,
    /// Only failures of this cause
    #[arg(long, value_parser = parse_cause())]
    pub cause: Option<Cause>,
    /// Only what failed since then: a date, RFC 3339, or "2h" for two hours ago
    #[arg(long, value_name = "WHEN")]
    pub since: Option<String>,
    /// One item in full, by its id, with the last reply of the server
    #[arg(long, value_name = "ID", conflicts_with_all = ["cause", "since", "limit"])]
    pub item: Option<String>,
    /// How many at most
    #[arg(short = 'n', long, default_value_t = 100, value_name = "N")]
    pub limit: u32,
    /// Print JSON, a line for each
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(super) struct RequeueArgs {
    /// The source; may be left out if there is only one
    #[arg(long)]
    pub source: Option<String>,
    /// Only what failed for this cause
    #[arg(long, value_parser = parse_cause())]
    pub cause: Option<Cause>,
    /// Only what failed since then: a date, RFC 3339, or "2h" for two hours ago
    #[arg(long, value_name = "WHEN")]
    pub since: Option<String>,
    /// Only stored documents whose files are missing or damaged, which are looked for as `verify` does
    #[arg(long, conflicts_with_all = ["cause", "since", "items"])]
    pub damaged: bool,
    /// Only these items, by their ids
    #[arg(value_name = "ITEM", conflicts_with_all = ["cause", "since"])]
    pub items: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct ExplainArgs {
    /// The status of the reply; without it, a reply that was recorded is explained
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(100..=999))]
    pub status: Option<u16>,
    /// A header of it, as 'Name: value'; may be repeated
    #[arg(long = "header", value_name = "HEADER", requires = "status")]
    pub headers: Vec<String>,
    /// A file with its body; - for standard input
    #[arg(long, value_name = "FILE", requires = "status")]
    pub body: Option<PathBuf>,
    /// The item whose last reply is explained; without it and --status, that of the session
    #[arg(long, value_name = "ID", conflicts_with = "status")]
    pub item: Option<String>,
    /// The source; may be left out if there is only one
    #[arg(long, value_name = "NAME")]
    pub source: Option<String>,
    /// The provider whose rules are tried [default: that of the source]
    #[arg(long, value_name = "NAME")]
    pub provider: Option<String>,
    /// What was asked for [default: every case]
    #[arg(long, value_enum)]
    pub scope: Option<ScopeArg>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// What a request was for.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(super) enum ScopeArg {
    /// A document of an item
    Item,
    /// A page of the listing, or of changes
    Listing,
    /// Finding the service, and being let in
    Session,
}

#[derive(Debug, Args)]
pub(super) struct VerifyArgs {
    /// Only this source
    pub source: Option<String>,
    /// Print JSON, a line for each finding, and one for each source at its end
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(super) struct SimulateArgs {
    /// The name of a scenario, or the path of a scenario or trace of your own [default: list them]
    pub scenario: Option<String>,
    /// Rehearse what the configuration says for this provider
    #[arg(long, value_name = "NAME", conflicts_with = "policy", requires = "scenario")]
    pub provider: Option<String>,
    /// follow, follow,cap=RATE,reserve=SHARE, fixed=RATE, off or backoff [default: follow]
    #[arg(long, value_name = "POLICY", value_parser = parse_policy, requires = "scenario")]
    pub policy: Option<NamedPolicy>,
    /// What to compare it with
    #[arg(long, value_name = "POLICY", value_parser = parse_policy, default_value = "backoff")]
    pub against: NamedPolicy,
    /// Write the plot as SVG, too
    #[arg(long, value_name = "FILE", requires = "scenario")]
    pub svg: Option<PathBuf>,
    /// Another number makes other latencies and other jitter
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub seed: u64,
    /// Print JSON: `scenario`, `runs`, one for each policy, and `verdict`
    #[arg(long, requires = "scenario")]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(super) struct AdoptArgs {
    /// The source whose ledger is gone or damaged
    pub source: String,
    /// Only say what would be adopted
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Debug, Args)]
pub(super) struct ResetArgs {
    /// The source whose progress is forgotten
    pub source: String,
    /// Do it; without this, only say what would be done
    #[arg(long)]
    pub yes: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum BreakerCommand {
    /// Show each breaker: its state, what it has counted up to a minute ago, and what happens next
    List {
        /// Print JSON: `breakers`, a list, and the `configuration` that all of them have
        #[arg(long)]
        json: bool,
    },
    /// Close a breaker and forget what it has counted
    Reset {
        /// A provider, `ledger` or `archive`
        name: String,
    },
    /// Let nothing through until it is closed by hand
    Open {
        /// A provider, `ledger` or `archive`
        name: String,
        /// Only for so long, such as 90s, 10m or 2h; then one request may try
        #[arg(long = "for", value_name = "DURATION", value_parser = parse_open_duration)]
        lasts: Option<Duration>,
    },
    /// Let everything through again
    Close {
        /// A provider, `ledger` or `archive`
        name: String,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Read the configuration and report every mistake in it
    Check,
    /// Print what is in effect, and where each value came from
    Show,
}

/// Reads the name of a cause; for any other word, all names are told.
fn parse_cause() -> impl TypedValueParser<Value = Cause> {
    PossibleValuesParser::new(Cause::ALL.map(Cause::name))
        .map(|name| Cause::from_name(&name).unwrap_or(Cause::Unknown))
}

/// Reads where a trace is recorded.
fn parse_trace_path(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    let is_one = path.extension().is_some_and(|extension| extension == "jsonl");
    is_one
        .then_some(path)
        .ok_or_else(|| "`simulate` knows a trace by a name that ends in .jsonl".to_owned())
}

/// The longest time a breaker is opened for; longer is until a person closes it.
const OPEN_DURATION_MAX: Duration = Duration::from_secs(366 * 86_400);

fn parse_open_duration(text: &str) -> Result<Duration, String> {
    parse_duration(text)
        .filter(|duration| !duration.is_zero() && *duration <= OPEN_DURATION_MAX)
        .ok_or_else(|| "write a time such as 90s, 10m or 2h, of a year at most".to_owned())
}
