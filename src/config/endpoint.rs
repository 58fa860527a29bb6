//! `[endpoint]`: where the monitor shows what it sees, and to whom.

use std::net::SocketAddr;

use super::ask::plain_text;
use super::auth::{read_credential, write_credential};
use super::build::AT_LEAST_ONE;
use super::credential::CredentialRef;
use super::merge::Variable;
use super::reader::Section;
use super::show::quote;

/// The setting that needs another one beside it.
const LISTEN: &str = "listen";

#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Endpoint {
    /// Where it listens; nowhere when `None`, unless systemd hands a socket over.
    pub listen: Option<SocketAddr>,
    /// What whoever asks must know; everyone on this machine may ask when `None`.
    pub token: Option<CredentialRef>,
    /// Requests from one address.
    pub requests_per_minute: u32,
}

/// Reads `[endpoint]`.
pub(super) fn endpoint(table: &mut Section<'_, '_>) -> Endpoint {
    let given = table.given(LISTEN, Variable::Text, |node| {
        let text = plain_text(&node.value)?;
        text.parse::<SocketAddr>().map_err(|_error| {
            format!(
                "is {}; write an address and a port such as \"127.0.0.1:8080\" or \"[::1]:8080\"",
                quote(text)
            )
        })
    });
    let (listen, place) = given.unzip();
    table.enter(LISTEN, listen.map(|listen| quote(&listen.to_string())), place);
    let endpoint = Endpoint {
        listen,
        token: token(table),
        requests_per_minute: table.count("requests_per_minute", 60, AT_LEAST_ONE),
    };
    if endpoint.token.is_none() && listen.is_some_and(|listen| !listen.ip().is_loopback()) {
        let what = format!(
            "`{}` lets other machines ask, so they must know a token: add token = {{ file = \"endpoint-token\" }}, \
             or listen on 127.0.0.1",
            table.key(LISTEN)
        );
        table.refuse_entry(LISTEN, what);
    }
    endpoint
}

fn token(table: &mut Section<'_, '_>) -> Option<CredentialRef> {
    let fallback = table.reader.folder.clone();
    let given = table.given("token", Variable::Toml, |node| {
        let folder = node.place.folder().unwrap_or(fallback);
        read_credential(node, &folder)
    });
    let (token, place) = given.unzip();
    table.enter("token", token.as_ref().map(write_credential), place);
    token
}
