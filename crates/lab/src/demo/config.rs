//! Configuration file (`config.toml`) that extracts the embedded mailbox.

use std::path::Path;

use super::DemoServer;

/// Returns a configuration with waits of seconds, because the service's faults last seconds.
///
/// The archive folder is `archive`. Without a token file, the password is read from the environment
/// variable `DEMO_PASSWORD`.
#[must_use]
pub fn demo_config(demo: &DemoServer, archive: &Path) -> String {
    let auth = match demo.token_file() {
        Some(file) => {
            format!("{{ type = \"bearer\", token = {{ file = {} }} }}", toml_string(file))
        }
        None => format!(
            "{{ type = \"basic\", username = {}, password = {{ env = \"DEMO_PASSWORD\" }} }}",
            serde_json::Value::from(demo.username())
        ),
    };
    format!(
        r#"# Extracts the embedded mailbox. Its waits are short, as are the server's faults.

[source.demo]
kind = "jmap"
url = "http://{address}/.well-known/jmap"
account = "demo@example.com"
auth = {auth}
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
        address = demo.address(),
        dir = toml_string(archive),
    )
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
    fn without_a_token_file_the_config_uses_the_password() {
        let demo = start(DemoOptions { items: 1, ..DemoOptions::default() }).unwrap();

        let table: toml::Table = demo_config(&demo, Path::new("x")).parse().unwrap();

        assert_eq!(table["source"]["demo"]["auth"]["type"].as_str(), Some("basic"));
    }
}
