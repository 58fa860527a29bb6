//! Webhooks and pings over HTTP. Redirects are not followed, and response bodies are not read.

use cynosure_engine::alert::{Severity, WebhookFormat};
use cynosure_engine::{is_loopback_host, truncate_to_bytes};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Client, RequestBuilder};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;
use url::Url;

use crate::http_client::{client_builder_for, describe_error};
use crate::notify::{AlertMessage, DeliveryError, WebhookChannel};

/// Maximum size of an ntfy message, in bytes; a longer one becomes an attachment.
const NTFY_BYTES_MAX: usize = 4096;

/// Maximum size of a text that Slack shows, in bytes.
const SLACK_BYTES_MAX: usize = 40_000;

pub(super) async fn send_webhook(
    webhook: &WebhookChannel,
    message: &AlertMessage,
) -> Result<(), DeliveryError> {
    let url = parse_address(&webhook.url)?;
    let request = build_client(&url)?.post(url);
    let request = match webhook.format {
        WebhookFormat::Json => json_body(request, message.to_json().to_string()),
        WebhookFormat::Slack => {
            json_body(request, json!({ "text": slack_text(message) }).to_string())
        }
        WebhookFormat::Ntfy => request
            .header("title", to_ascii(&format!("cynosure on {}", message.host)))
            .header("priority", ntfy_priority(message))
            .header("tags", ntfy_tags(message))
            .header(CONTENT_TYPE, "text/plain; charset=utf-8")
            .body(truncate_text(message.to_text(), NTFY_BYTES_MAX)),
    };
    let request = match &webhook.token {
        Some(token) => request.header(AUTHORIZATION, bearer_header(token)?),
        None => request,
    };
    send_request(request).await
}

pub(super) async fn send_ping(url: &SecretString) -> Result<(), DeliveryError> {
    let url = parse_address(url)?;
    send_request(build_client(&url)?.get(url)).await
}

async fn send_request(request: RequestBuilder) -> Result<(), DeliveryError> {
    let sent = request.send().await;
    let response = sent.map_err(|error| DeliveryError::new(describe_error(&error)))?;
    let status = response.status();
    if status.is_success() {
        return Ok(());
    }
    let explanation = match status.as_u16() {
        300..=399 => "redirects are not followed: configure the address that it leads to",
        401 | 403 => "the token is missing or not accepted",
        404 | 410 => "nothing exists at this address",
        429 => "too many requests",
        _ => "the message was not accepted",
    };
    Err(DeliveryError::new(format!("status {}: {explanation}", status.as_u16())))
}

fn build_client(url: &Url) -> Result<Client, DeliveryError> {
    // At about one delivery per hour, an idle connection need not be kept.
    let builder = client_builder_for(&[url.origin()]).pool_max_idle_per_host(0);
    builder.build().map_err(|_error| DeliveryError::new("TLS is unavailable on this machine"))
}

/// Parses and checks a URL. A secret URL is read only at delivery, and cannot be checked earlier.
fn parse_address(url: &SecretString) -> Result<Url, DeliveryError> {
    let invalid = |reason: &str| {
        DeliveryError::new(format!("the address {reason}: correct the credential that holds it"))
    };
    let url = Url::parse(url.expose_secret()).map_err(|_error| invalid("is not a URL"))?;
    match url.scheme() {
        "https" => Ok(url),
        "http" if url.host_str().is_some_and(is_loopback_host) => Ok(url),
        _ => Err(invalid("does not begin with https://")),
    }
}

fn bearer_header(token: &SecretString) -> Result<HeaderValue, DeliveryError> {
    let value = HeaderValue::from_str(&format!("Bearer {}", token.expose_secret()));
    let mut value = value.map_err(|_error| {
        DeliveryError::new("the token has characters that no HTTP header can carry")
    })?;
    value.set_sensitive(true);
    Ok(value)
}

fn json_body(request: RequestBuilder, json: String) -> RequestBuilder {
    request.header(CONTENT_TYPE, "application/json").body(json)
}

/// Formats the message for Slack, with its three special characters escaped.
fn slack_text(message: &AlertMessage) -> String {
    let text = format!("*{}*\n{}", message.subject(), message.to_text());
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    truncate_text(text, SLACK_BYTES_MAX)
}

/// Returns the ntfy priority: 5 rings, 3 does not.
fn ntfy_priority(message: &AlertMessage) -> &'static str {
    match message.severity() {
        Severity::Critical => "5",
        Severity::Warning => "4",
        Severity::Info => "3",
    }
}

/// Returns the name of an emoji, which ntfy shows before the title.
fn ntfy_tags(message: &AlertMessage) -> &'static str {
    match message.severity() {
        Severity::Critical => "rotating_light",
        Severity::Warning => "warning",
        Severity::Info => "white_check_mark",
    }
}

/// Replaces all characters that a header cannot carry.
fn to_ascii(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' }).collect()
}

fn truncate_text(text: String, max: usize) -> String {
    const ELLIPSIS: &str = "\n…";
    if text.len() <= max {
        return text;
    }
    truncate_to_bytes(&text, max.saturating_sub(ELLIPSIS.len())).to_owned() + ELLIPSIS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_truncated_text_ends_with_an_ellipsis() {
        assert_eq!(truncate_text("ééé".to_owned(), 6), "ééé");
        assert_eq!(truncate_text("ééééé".to_owned(), 9), "éé\n…");
        assert_eq!(truncate_text("é".repeat(5000), NTFY_BYTES_MAX).len(), NTFY_BYTES_MAX);
    }

    #[test]
    fn an_invalid_address_is_rejected_without_being_quoted() {
        for text in ["hunter2", "ftp://hunter2.example/", "http://hunter2.example/"] {
            let error = parse_address(&SecretString::from(text)).unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
        for text in
            ["https://a.example/x", "http://127.0.0.1:1/", "http://[::1]/", "http://localhost/"]
        {
            assert!(parse_address(&SecretString::from(text)).is_ok(), "{text}");
        }
    }
}
