//! Arguments of `explain`. The doc comments are the help texts.

use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueEnum};
use cynosure_engine::rest::TableName;

#[derive(Debug, Args)]
pub(in crate::cli) struct ExplainArgs {
    /// The HTTP status of the response; without it and --imap, a stored response is explained
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(100..=999))]
    pub status: Option<u16>,
    /// A header of the response, as 'Name: value'; may be repeated
    #[arg(long = "header", value_name = "HEADER", requires = "status")]
    pub headers: Vec<String>,
    /// A file with the body of the response; - for standard input
    #[arg(long, value_name = "FILE", requires = "status")]
    pub body: Option<PathBuf>,
    /// A status reply of an IMAP server, such as 'NO LOGIN failed.'
    #[arg(
        long,
        value_name = "REPLY",
        conflicts_with_all = ["status", "item", "scope", "profile", "table"]
    )]
    pub imap: Option<String>,
    /// The command that the IMAP server replied to [default: all of them]
    #[arg(long, value_enum, requires = "imap")]
    pub phase: Option<ImapPhaseArg>,
    /// The item whose last response is explained; without it, --status and --imap, the last
    /// response of the session is explained
    #[arg(long, value_name = "ID", conflicts_with = "status")]
    pub item: Option<String>,
    /// The source; optional if there is only one
    #[arg(long, value_name = "NAME")]
    pub source: Option<String>,
    /// The provider whose rules are applied [default: the provider of the source]
    #[arg(long, value_name = "NAME")]
    pub provider: Option<String>,
    /// The profile whose rules are applied: a built-in one, such as gmail, or a file, such as
    /// my.toml [default: the profile of the source]
    #[arg(long, value_name = "NAME")]
    pub profile: Option<String>,
    /// The table of the profile whose request was answered [default: fetch for an item, list for
    /// the listing, account for the session]
    #[arg(long, value_parser = table_parser(), conflicts_with = "scope")]
    pub table: Option<TableName>,
    /// The purpose of the request [default: all of them]
    #[arg(long, value_enum)]
    pub scope: Option<ScopeArg>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Purpose of a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(in crate::cli) enum ScopeArg {
    /// A document of an item
    Item,
    /// A page of the listing, or of the changes
    Listing,
    /// Discovery of the service, and authentication
    Session,
}

/// Command that an IMAP server replied to.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(in crate::cli) enum ImapPhaseArg {
    /// LOGIN or AUTHENTICATE
    Login,
    /// LIST, STATUS, or FETCH of ids
    Listing,
    /// EXAMINE, which opens a folder
    Select,
    /// FETCH of messages
    Fetch,
}

/// Returns the parser of table names. Its error for another word lists all names.
fn table_parser() -> impl TypedValueParser<Value = TableName> {
    PossibleValuesParser::new(TableName::ALL.map(TableName::name)).map(|name| {
        let mut tables = TableName::ALL.into_iter();
        tables.find(|table| table.name() == name).unwrap_or(TableName::List)
    })
}
