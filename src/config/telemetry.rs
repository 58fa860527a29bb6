//! `[telemetry]`: export of metrics and traces to an OpenTelemetry collector.

use std::time::Duration;

use url::Url;

use super::auth::credential_if_given;
use super::credential::CredentialRef;
use super::file::plain_text;
use super::merge::EnvValueForm;
use super::ranges::{POSITIVE_DURATION, seconds};
use super::reader::Section;
use super::service_url::is_plaintext_remote;
use super::show::quote;

const ENDPOINT_KEY: &str = "otlp_endpoint";

#[derive(Clone, Debug, PartialEq)]
pub struct TelemetrySettings {
    /// Base URL of an OpenTelemetry collector that accepts JSON. If `None`, nothing is sent unless
    /// the environment names a collector.
    pub otlp_endpoint: Option<Url>,
    /// Sent as a bearer token.
    pub otlp_token: Option<CredentialRef>,
    /// Interval at which metrics are sent.
    pub interval: Duration,
    /// The share of items whose requests are traced, from 0 to 1.
    pub trace_share: f64,
}

/// Reads `[telemetry]`.
pub(super) fn read_telemetry(table: &mut Section<'_, '_>) -> TelemetrySettings {
    let given = table.given(ENDPOINT_KEY, EnvValueForm::Text, |node| {
        parse_otlp_endpoint(plain_text(&node.value)?)
    });
    let (otlp_endpoint, location) = given.unzip();
    table.record(ENDPOINT_KEY, otlp_endpoint.as_ref().map(|url| quote(url.as_str())), location);
    TelemetrySettings {
        otlp_endpoint,
        otlp_token: credential_if_given(table, "otlp_token"),
        interval: table.duration("interval", seconds(60), POSITIVE_DURATION),
        trace_share: table.share("trace_share", 0.05),
    }
}

/// Parses the URL of a collector.
///
/// # Errors
/// If the URL is not usable. The error does not quote it, because it might hold a secret.
pub fn parse_otlp_endpoint(text: &str) -> Result<Url, String> {
    let help = "write \"https://…\", or \"http://127.0.0.1:4318\" for a collector on this machine";
    let url = Url::parse(text).map_err(|_error| format!("is not a valid URL; {help}"))?;
    if !matches!(url.scheme(), "https" | "http") || url.host().is_none() {
        return Err(format!("is not an http or https URL; {help}"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("holds a user name or a password; set a token with otlp_token".to_owned());
    }
    if is_plaintext_remote(&url) {
        return Err(format!("is plain http, which others can read on the way; {help}"));
    }
    Ok(url)
}
