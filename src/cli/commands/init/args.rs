//! Options of `init`. Each answers one of its questions.

use std::path::PathBuf;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};

use crate::onboarding::{AccessKind, ServerSecurity};

/// Names of the encryptions, as the configuration has them.
const SECURITY_NAMES: [(&str, ServerSecurity); 3] = [
    ("tls", ServerSecurity::Tls),
    ("starttls", ServerSecurity::StartTls),
    ("none", ServerSecurity::None),
];

#[derive(Debug, Args)]
pub(in crate::cli) struct InitArgs {
    /// The mail address of the mailbox
    #[arg(long, value_name = "ADDRESS")]
    pub account: Option<String>,
    /// The protocol or API of the mailbox [default: ask, and recommend one]
    #[arg(long, value_name = "KIND", value_parser = kind_parser())]
    pub kind: Option<AccessKind>,
    /// The name of the source [default: after the provider]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// The server: HOST or HOST:PORT of IMAP, the URL of JMAP or of an API
    #[arg(long, value_name = "SERVER")]
    pub server: Option<String>,
    /// The encryption of IMAP [default: tls, starttls on port 143]
    #[arg(long, value_name = "MODE", value_parser = security_parser())]
    pub security: Option<ServerSecurity>,
    /// The user name at the server [default: the mail address]; with JMAP at your own server, it
    /// means that the credential is a password and no token
    #[arg(long, value_name = "NAME")]
    pub username: Option<String>,
    /// The file with the password, the token or the session [default: ask, and write one]
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
    /// The client id, to sign in with a browser
    #[arg(long, value_name = "ID")]
    pub client_id: Option<String>,
    /// The file with the client secret [default: ask, and write one]
    #[arg(long, value_name = "FILE", requires = "client_id")]
    pub client_secret_file: Option<PathBuf>,
    /// The folder of the archive [default: `downloads` beside the configuration]
    #[arg(long, value_name = "DIR")]
    pub archive: Option<PathBuf>,
    /// Look up no unknown mail domain in the network
    #[arg(long)]
    pub no_lookup: bool,
    /// Answer every question that has a default with it
    #[arg(long)]
    pub yes: bool,
}

/// Returns the parser of kinds. Its error for another word lists all names.
fn kind_parser() -> impl TypedValueParser<Value = AccessKind> {
    PossibleValuesParser::new(AccessKind::ALL.map(AccessKind::name)).map(|name| {
        let found = AccessKind::ALL.into_iter().find(|kind| kind.name() == name);
        found.unwrap_or(AccessKind::Imap)
    })
}

/// Returns the parser of encryptions. Its error for another word lists all names.
fn security_parser() -> impl TypedValueParser<Value = ServerSecurity> {
    PossibleValuesParser::new(SECURITY_NAMES.map(|(name, _)| name)).map(|name| {
        let found = SECURITY_NAMES.into_iter().find(|(known, _)| *known == name);
        found.map_or(ServerSecurity::Tls, |(_, security)| security)
    })
}
