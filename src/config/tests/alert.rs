//! `[health]` and `[alert]`: alert channels and their secrets.

use cynosure_engine::alert::{SmtpTls, WebhookFormat};

use super::*;

const MAIL_TABLE: &str = r#"
[alert.mail]
server = "smtp.example.com"
from = "cynosure@example.com"
to = ["me@example.com"]
username = "me"
password = { file = "mail-password" }
"#;

#[test]
fn channels_are_read_and_absent_by_default() {
    let none = load_text("").expect("it is valid").settings.alert;
    assert_eq!((none.ping_url, none.mail, none.webhooks.len()), (None, None, 0));

    let text = format!(
        "[alert]\nping = {{ file = \"ping\" }}\n{MAIL_TABLE}[alert.webhook.a]\nurl = \"https://a.example/x\"\n\
         [alert.webhook.b]\nurl = {{ env = \"HOOK\" }}\nshape = \"slack\"\n"
    );
    let alert = load_text(&text).expect("it is valid").settings.alert;

    let mail = alert.mail.expect("there is one");
    assert_eq!((mail.port, mail.tls), (465, SmtpTls::Implicit));
    assert!(matches!(alert.ping_url, Some(UrlOrSecret::Secret(CredentialRef::File(_)))));
    assert_eq!(alert.webhooks["a"].format, WebhookFormat::Json);
    let hook = UrlOrSecret::Secret(CredentialRef::Env("HOOK".to_owned()));
    assert_eq!(
        (&alert.webhooks["b"].url, alert.webhooks["b"].format),
        (&hook, WebhookFormat::Slack)
    );
}

#[test]
fn channel_errors_are_reported_without_secrets() {
    let error = load_errors(
        r#"
[health]
disk_warning = 0.95
[alert]
severity = "loud"
ping = "https://me:hunter2@ping.example/x"
[alert.mail]
server = "smtp.example.com:25"
protection = "plain"
from = "me"
to = []
username = "me"
[alert.webhook.a]
url = "http://hunter2.example/"
[alert.webhook.b]
shape = "ntfy"
token = "hunter2"
"#,
    );

    assert!(!error.contains("hunter2"), "{error}");
    insta::assert_snapshot!(error, @r#"
    config.toml:3:1: `health.disk_warning` is larger than `health.disk_critical`; lower the one or raise the other
    config.toml:5:1: `alert.severity` is "loud"; write one of "info", "warning", "critical"
    config.toml:6:1: `alert.ping` holds a user name or a password; put the whole URL into a file, and write { file = "PATH" }
    config.toml:8:1: `alert.mail.server` is "smtp.example.com:25", which is not a host name; write one such as "smtp.example.com"
    config.toml:9:1: `alert.mail.protection` is "plain"; write one of "tls", "starttls", "none"
    config.toml:10:1: `alert.mail.from` holds "me", which is not a mail address; write "me@example.com"
    config.toml:11:1: `alert.mail.to` is an empty list; write ["me@example.com"]
    config.toml:12:1: `alert.mail.username` and `alert.mail.password` must both be set or both be left out; add the other
    config.toml:14:1: `alert.webhook.a.url` is plain http, so that alerts could be read on the way; write https://
    config.toml:15:16: `alert.webhook.b.url` is missing; write url = "https://ntfy.example.com/alerts", or url = { file = "hook-url" } where it is a secret
    config.toml:17:1: `alert.webhook.b.token` is not a reference; secrets are never written in the configuration: write { file = "PATH" }, { env = "NAME" }, { command = ["PROGRAM", "ARGUMENT"] } or { systemd = "NAME" }
    11 mistakes in the configuration
    "#);
}

#[test]
fn plaintext_smtp_to_a_remote_server_is_rejected() {
    let error = load_errors(&format!("{MAIL_TABLE}protection = \"none\"\n"));
    assert!(error.contains("could be read on the way to smtp.example.com"), "{error}");

    let loopback = MAIL_TABLE.replace("smtp.example.com", "127.0.0.1");
    assert!(load_text(&format!("{loopback}protection = \"none\"\n")).is_ok());
}
