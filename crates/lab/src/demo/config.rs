//! Configuration file (`config.toml`) that extracts the embedded mailbox.

use std::path::Path;

use super::{DemoKind, DemoServer};

/// Reference to the password, without a token file.
const PASSWORD_VARIABLE: &str = "env = \"DEMO_PASSWORD\"";

/// Returns a configuration with waits of seconds, because the service's faults last seconds.
///
/// The archive folder is `archive`. Without a token file, the password is read from the environment
/// variable `DEMO_PASSWORD`, for mail.ru the session in JSON. Over IMAP the token is the password.
#[must_use]
pub fn demo_config(demo: &DemoServer, archive: &Path) -> String {
    let (server, auth) = match demo.kind() {
        DemoKind::Jmap => (jmap_server(demo), jmap_auth(demo)),
        DemoKind::Imap | DemoKind::PlainImap => (imap_server(demo), imap_auth(demo)),
        DemoKind::Gmail => (gmail_server(demo), bearer_auth(demo)),
        DemoKind::Graph => (graph_server(demo), bearer_auth(demo)),
        DemoKind::Mailru => (mailru_server(demo), session_auth(demo)),
    };
    format!(
        r#"# Extracts the embedded mailbox. Its waits are short, as are the server's faults.

[source.demo]
{server}
account = "demo@example.com"
auth = {{ {auth} }}
poll_interval = "2s"

[archive]
dir = {dir}

[restart]
retry_delay_base = "1s"
max_retry_delay = "1s"
restart_delay_auth = "10s"
restart_delay_errors = "3s"
rate_limit_duration = "2s"

[backoff.base]
transient = "1s"
rate_limit = "2s"
proxy = "2s"
challenge = "2s"
source_down = "3s"
unknown = "1s"

[request]
attempts = 2
max_delay = "2s"
concurrency = 4

[item]
retry_delay = "1s"
max_retry_delay = "5s"

[breaker]
failure_threshold = 3
recovery_timeout = "1s"
max_recovery_timeout = "1s"
"#,
        dir = toml_string(archive),
    )
}

fn jmap_server(demo: &DemoServer) -> String {
    format!("kind = \"jmap\"\nurl = \"http://{}/.well-known/jmap\"", demo.address())
}

fn jmap_auth(demo: &DemoServer) -> String {
    match demo.token_file() {
        Some(_) => bearer_auth(demo),
        None => password_auth(demo, "basic", PASSWORD_VARIABLE),
    }
}

fn imap_server(demo: &DemoServer) -> String {
    let (host, port) = (demo.address().ip(), demo.address().port());
    format!("kind = \"imap\"\nhost = \"{host}\"\nport = {port}\nsecurity = \"none\"")
}

fn imap_auth(demo: &DemoServer) -> String {
    match demo.token_file() {
        Some(file) => password_auth(demo, "password", &format!("file = {}", toml_string(file))),
        None => password_auth(demo, "password", PASSWORD_VARIABLE),
    }
}

/// Returns the keys of a source whose quota is not that of the real service, with which an
/// extraction takes much longer. The units of a request stay the same.
fn gmail_server(demo: &DemoServer) -> String {
    format!(
        "kind = \"gmail\"\nbase_url = \"http://{}/gmail/v1/users/me\"\n\
         quota = {{ per_second = 100000, weights = {{ account = 1, pin = 1, list = 5, fetch = 20, \
         changes = 2 }} }}",
        demo.address()
    )
}

fn graph_server(demo: &DemoServer) -> String {
    format!(
        "kind = \"graph\"\nbase_url = \"http://{}/v1.0\"\nquota = {{ per_second = 10000 }}",
        demo.address()
    )
}

fn mailru_server(demo: &DemoServer) -> String {
    format!(
        "kind = \"mailru\"\nbase_url = \"http://{}/api/v1\"\npace = {{ in_flight = 4 }}",
        demo.address()
    )
}

fn bearer_auth(demo: &DemoServer) -> String {
    format!("type = \"bearer\", token = {{ {} }}", credential(demo))
}

fn session_auth(demo: &DemoServer) -> String {
    format!("type = \"session\", session = {{ {} }}", credential(demo))
}

/// Returns the reference to the token file, or to the variable with the password.
fn credential(demo: &DemoServer) -> String {
    let file = demo.token_file().map(|file| format!("file = {}", toml_string(file)));
    file.unwrap_or_else(|| PASSWORD_VARIABLE.to_owned())
}

/// Returns the keys of an `auth` with a user name and a reference to the password.
fn password_auth(demo: &DemoServer, kind: &str, password: &str) -> String {
    let username = serde_json::Value::from(demo.username());
    format!("type = \"{kind}\", username = {username}, password = {{ {password} }}")
}

/// Writes a path as a TOML basic string, of which a JSON string is a special case.
fn toml_string(path: &Path) -> String {
    serde_json::Value::from(path.to_string_lossy()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::{DemoOptions, start};

    #[test]
    fn the_config_contains_the_address_and_the_token_file() {
        let dir = tempfile::tempdir().unwrap();
        let token = dir.path().join("to\"ken");
        let demo = start(DemoOptions {
            items: 1,
            token_file: Some(token.clone()),
            ..DemoOptions::default()
        })
        .unwrap();

        let text = demo_config(&demo, Path::new("downloads"));

        let table: toml::Table = text.parse().unwrap();
        let source = &table["source"]["demo"];
        assert_eq!(
            source["url"].as_str().unwrap(),
            format!("http://{}/.well-known/jmap", demo.address())
        );
        assert_eq!(source["auth"]["token"]["file"].as_str(), token.to_str());
        assert_eq!(table["archive"]["dir"].as_str(), Some("downloads"));
    }

    #[test]
    fn over_imap_the_token_is_the_password() {
        let dir = tempfile::tempdir().unwrap();
        let token = dir.path().join("token");
        let demo = start(DemoOptions {
            kind: DemoKind::Imap,
            items: 1,
            token_file: Some(token.clone()),
            ..DemoOptions::default()
        })
        .unwrap();

        let table: toml::Table = demo_config(&demo, Path::new("x")).parse().unwrap();

        let source = &table["source"]["demo"];
        assert_eq!(source["kind"].as_str(), Some("imap"));
        assert_eq!(source["host"].as_str(), Some("127.0.0.1"));
        assert_eq!(source["port"].as_integer(), Some(i64::from(demo.address().port())));
        assert_eq!(source["security"].as_str(), Some("none"));
        assert_eq!(source["auth"]["type"].as_str(), Some("password"));
        assert_eq!(source["auth"]["username"].as_str(), Some("demo@example.com"));
        assert_eq!(source["auth"]["password"]["file"].as_str(), token.to_str());
    }

    #[test]
    fn each_rest_api_has_its_url_its_pace_and_its_credential() {
        for (kind, name, path, auth, credential) in [
            (DemoKind::Gmail, "gmail", "/gmail/v1/users/me", "bearer", "token"),
            (DemoKind::Graph, "graph", "/v1.0", "bearer", "token"),
            (DemoKind::Mailru, "mailru", "/api/v1", "session", "session"),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let file = dir.path().join("credential");
            let token_file = Some(file.clone());
            let options = DemoOptions { kind, items: 1, token_file, ..DemoOptions::default() };
            let demo = start(options).unwrap();

            let table: toml::Table = demo_config(&demo, Path::new("x")).parse().unwrap();

            let source = &table["source"]["demo"];
            assert_eq!(source["kind"].as_str(), Some(name));
            let base_url = format!("http://{}{path}", demo.address());
            assert_eq!(source["base_url"].as_str(), Some(base_url.as_str()));
            assert_eq!(source["auth"]["type"].as_str(), Some(auth));
            assert_eq!(source["auth"][credential]["file"].as_str(), file.to_str());
            let text = fs_err::read_to_string(&file).unwrap();
            assert_eq!(text.starts_with('{'), kind == DemoKind::Mailru, "{text}");
        }
    }

    #[test]
    fn without_a_token_file_the_config_uses_the_password() {
        let demo = start(DemoOptions { items: 1, ..DemoOptions::default() }).unwrap();

        let table: toml::Table = demo_config(&demo, Path::new("x")).parse().unwrap();

        assert_eq!(table["source"]["demo"]["auth"]["type"].as_str(), Some("basic"));
    }
}
