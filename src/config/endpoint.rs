//! `[endpoint]`: where the monitor shows what it sees, and to whom.

use std::net::SocketAddr;

use super::ask::plain_text;
use super::auth::{read_credential, write_credential};
use super::build::POSITIVE_COUNT;
use super::credential::CredentialRef;
use super::merge::Variable;
use super::reader::Section;
use super::show::quote;

/// The setting that needs another one beside it.
const LISTEN_KEY: &str = "listen";

#[derive(Clone, Debug, Eq, PartialEq)]
pub struct EndpointSettings {
    /// Where it listens; nowhere when `None`, unless systemd hands a socket over.
    pub listen: Option<SocketAddr>,
    /// What whoever asks must know; everyone on this machine may ask when `None`.
    pub token: Option<CredentialRef>,
    /// Requests from one address.
    pub requests_per_minute: u32,
}

/// Reads `[endpoint]`.
pub(super) fn read_endpoint(table: &mut Section<'_, '_>) -> EndpointSettings {
    let given = table.given(LISTEN_KEY, Variable::Text, |node| {
        let text = plain_text(&node.value)?;
        text.parse::<SocketAddr>().map_err(|_error| {
            format!(
                "is {}; write an address and a port such as \"127.0.0.1:8080\" or \"[::1]:8080\"",
                quote(text)
            )
        })
    });
    let (listen, place) = given.unzip();
    table.enter(LISTEN_KEY, listen.map(|listen| quote(&listen.to_string())), place);
    let endpoint = EndpointSettings {
        listen,
        token: read_token(table),
        requests_per_minute: table.count("requests_per_minute", 60, POSITIVE_COUNT),
    };
    if endpoint.token.is_none() && listen.is_some_and(|listen| !listen.ip().is_loopback()) {
        let what = format!(
            "`{}` lets other machines ask, so they must know a token: add token = {{ file = \"endpoint-token\" }}, \
             or listen on 127.0.0.1",
            table.key(LISTEN_KEY)
        );
        table.refuse_entry(LISTEN_KEY, what);
    }
    endpoint
}

fn read_token(table: &mut Section<'_, '_>) -> Option<CredentialRef> {
    let fallback = table.reader.folder.clone();
    let given = table.given("token", Variable::Toml, |node| {
        let folder = node.place.base_folder().unwrap_or(fallback);
        read_credential(node, &folder)
    });
    let (token, place) = given.unzip();
    table.enter("token", token.as_ref().map(write_credential), place);
    token
}
