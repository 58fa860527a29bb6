//! Settings of `[endpoint]`: the HTTP endpoint of the monitor.

use std::net::SocketAddr;

use super::auth::credential_if_given;
use super::credential::CredentialRef;
use super::file::plain_text;
use super::merge::EnvValueForm;
use super::ranges::POSITIVE_COUNT;
use super::reader::Section;
use super::show::quote;

/// Key of the listen address. An address that other machines can reach requires `token` too.
const LISTEN_KEY: &str = "listen";

/// Listen address, token and request limit of the HTTP endpoint.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct EndpointSettings {
    /// Listen address. If `None`, the endpoint is off unless systemd passes a socket.
    pub listen: Option<SocketAddr>,
    /// Token that clients must send. If `None`, every client on this machine is allowed.
    pub token: Option<CredentialRef>,
    /// Largest number of requests per minute from one address.
    pub requests_per_minute: u32,
}

/// Reads `[endpoint]`.
pub(super) fn read_endpoint(table: &mut Section<'_, '_>) -> EndpointSettings {
    let given = table.given(LISTEN_KEY, EnvValueForm::Text, |node| {
        let text = plain_text(&node.value)?;
        text.parse::<SocketAddr>().map_err(|_error| {
            format!(
                "is {}; write an address and a port such as \"127.0.0.1:8080\" or \"[::1]:8080\"",
                quote(text)
            )
        })
    });
    let (listen, location) = given.unzip();
    table.record(LISTEN_KEY, listen.map(|listen| quote(&listen.to_string())), location);
    let endpoint = EndpointSettings {
        listen,
        token: credential_if_given(table, "token"),
        requests_per_minute: table.count("requests_per_minute", 60, POSITIVE_COUNT),
    };
    if endpoint.token.is_none() && listen.is_some_and(|listen| !listen.ip().is_loopback()) {
        let message = format!(
            "`{}` accepts requests from other machines, so a token is required: \
             add token = {{ file = \"endpoint-token\" }}, or listen on 127.0.0.1",
            table.key(LISTEN_KEY)
        );
        table.report_setting(LISTEN_KEY, message);
    }
    endpoint
}
