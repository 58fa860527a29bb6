//! `[source.NAME]`: its settings and its authentication.

use super::*;

#[test]
fn omitted_source_settings_are_derived() {
    let loaded = load_text(SOURCE_TABLE).expect("it is valid");

    assert_eq!(work_source(&loaded).account, "me@example.com");
    assert_eq!(work_source(&loaded).provider, "api.example.com");
    assert_eq!(work_source(&loaded).poll_interval, Duration::from_secs(300));
    assert!(work_source(&loaded).is_enabled);
    assert_eq!(work_mailbox(&loaded).since, None);
}

#[test]
fn a_source_error_names_the_missing_settings() {
    let text = "[source.work]\n[source.home]\nkind = \"jmap\"\nurl = \"https://a.example.com\"\n\
                auth = { type = \"bearer\", token = { env = \"T\" } }\n";

    insta::assert_snapshot!(load_errors(text), @r#"
    config.toml:1:9: `source.work.auth` is missing; write auth = { type = "bearer", token = { file = "token" } } or auth = { type = "basic", username = "me@example.com", password = { env = "PASSWORD" } }
    config.toml:1:9: `source.work.kind` is missing; write kind = "jmap", "imap", "rest", "gmail", "graph" or "mailru"
    config.toml:1:9: `source.work.url` is missing; write url = "https://api.example.com/.well-known/jmap"
    config.toml:2:9: `source.home.account` is missing; a bearer token contains no user name: write account = "me@example.com", which names the folder
    4 mistakes in the configuration
    "#);
}

#[test]
fn plain_http_needs_loopback_or_consent() {
    let plain = SOURCE_TABLE.replace("https://", "http://");
    let error = load_errors(&plain);
    assert!(error.starts_with("config.toml:4:1: `source.work.url` is plain http"), "{error}");

    assert!(load_text(&format!("{plain}allow_plaintext = true\n")).is_ok());
    assert!(load_text(&plain.replace("api.example.com", "127.0.0.1:8080")).is_ok());
}

#[test]
fn invalid_auth_is_rejected_without_quoting_it() {
    let cases = [
        "\"hunter2\"",
        "{ type = \"hunter2\" }",
        "{ type = \"basic\", username = \"me\", password = \"hunter2\" }",
        "{ type = \"basic\", username = \"me\", pasword = \"hunter2\" }",
        "{ type = \"basic\", username = \"me:hunter2\", password = { env = \"P\" } }",
        "{ type = \"basic\", password = { env = \"hunter2\" } }",
        "{ type = \"basic\", username = \"me\", password = { env = \"hunter2\", file = \"hunter2\" } }",
        "{ type = \"basic\", username = \"me\", password = {} }",
        "{ type = \"bearer\", username = \"me\", token = { env = \"hunter2\" } }",
        "{ type = \"bearer\", token = { enw = \"hunter2\" } }",
        "{ type = \"bearer\", token = { systemd = \"../hunter2\" } }",
        "{ type = \"bearer\", token = { env = \"T=hunter2\" } }",
        "{ type = \"bearer\", token = { command = \"echo hunter2\" } }",
        "{ type = \"bearer\", token = { command = [] } }",
        "{ type = \"bearer\", token = { file = 5 } }",
    ];
    let head =
        "[source.work]\nkind = \"jmap\"\nurl = \"https://a.example.com\"\naccount = \"me\"\n";
    let errors: Vec<String> =
        cases.iter().map(|auth| load_errors(&format!("{head}auth = {auth}\n"))).collect();

    assert!(
        errors.iter().all(|error| !error.contains("hunter2") && error.lines().count() == 2),
        "{errors:#?}"
    );
    let first_lines: Vec<&str> = errors.iter().filter_map(|error| error.lines().next()).collect();
    insta::assert_snapshot!(first_lines.join("\n"), @r#"
    config.toml:5:1: `source.work.auth` is not a table; write auth = { type = "bearer", token = { file = "token" } } or auth = { type = "basic", username = "me@example.com", password = { env = "PASSWORD" } }
    config.toml:5:1: `source.work.auth` has a `type` that is neither "basic" nor "bearer"; write auth = { type = "bearer", token = { file = "token" } } or auth = { type = "basic", username = "me@example.com", password = { env = "PASSWORD" } }
    config.toml:5:1: `source.work.auth` has a `password` that is not a reference; secrets are never written in the configuration: write { file = "PATH" }, { env = "NAME" }, { command = ["PROGRAM", "ARGUMENT"] } or { systemd = "NAME" }
    config.toml:5:1: `source.work.auth` has an unknown key `pasword`; did you mean `password`?
    config.toml:5:1: `source.work.auth` has a `username` with a colon, which basic auth does not allow; correct it
    config.toml:5:1: `source.work.auth` has no `username`; add it
    config.toml:5:1: `source.work.auth` has a `password` that does not have exactly one key; write { file = "PATH" }, { env = "NAME" }, { command = ["PROGRAM", "ARGUMENT"] } or { systemd = "NAME" }
    config.toml:5:1: `source.work.auth` has a `password` that does not have exactly one key; write { file = "PATH" }, { env = "NAME" }, { command = ["PROGRAM", "ARGUMENT"] } or { systemd = "NAME" }
    config.toml:5:1: `source.work.auth` has a `username`, which its type does not use; write auth = { type = "bearer", token = { file = "token" } } or auth = { type = "basic", username = "me@example.com", password = { env = "PASSWORD" } }
    config.toml:5:1: `source.work.auth` has a `token` that has an unknown key `enw`; did you mean `env`?
    config.toml:5:1: `source.work.auth` has a `token` that is not the name of a systemd credential; write the name given to LoadCredential=
    config.toml:5:1: `source.work.auth` has a `token` that has an `=` in the name of an environment variable; write { env = "NAME" }
    config.toml:5:1: `source.work.auth` has a `token` that is not a command; write { command = ["PROGRAM", "ARGUMENT"] }, without shell quoting
    config.toml:5:1: `source.work.auth` has a `token` that is not a command; write { command = ["PROGRAM", "ARGUMENT"] }, without shell quoting
    config.toml:5:1: `source.work.auth` has a `token` that has a `file` that is not a text; write one in quotes
    "#);
}

#[test]
fn a_relative_command_resolves_against_its_file() {
    let head =
        "[source.work]\nkind = \"jmap\"\nurl = \"https://a.example.com\"\naccount = \"me\"\n";
    let read_command = |command: &str| {
        let folder = ConfigFolder::new(&format!(
            "{head}auth = {{ type = \"bearer\", token = {{ command = {command} }} }}\n"
        ));
        let loaded = folder.load().expect("it is valid");
        let SourceAuth::Bearer { token: CredentialRef::Command(argv) } =
            work_source(&loaded).auth.clone()
        else {
            panic!("a bearer token from a command");
        };
        argv.join("|").replace(&folder.0.path().display().to_string(), "FOLDER")
    };

    assert_eq!(read_command(r#"["pass", "show", ""]"#), "pass|show|");
    assert_eq!(read_command(r#"["bin/token", "-x"]"#), "FOLDER/bin/token|-x");
    assert_eq!(read_command(r#"["/usr/bin/pass"]"#), "/usr/bin/pass");
}
