//! `kind = "imap"`: its keys, its authentication, and the presets of mail providers.

use super::*;

const IMAP_TABLE: &str = r#"
[source.work]
kind = "imap"
account = "me@example.com"
host = "imap.example.com"
auth = { type = "password", password = { env = "WORK_PASSWORD" } }
"#;

/// Source with an account, and the rest by its preset.
fn preset_table(account: &str) -> String {
    format!(
        "[source.work]\nkind = \"imap\"\naccount = \"{account}\"\n\
         auth = {{ type = \"oauth2\", token = {{ env = \"TOKEN\" }} }}\n"
    )
}

fn work_server(loaded: &LoadedConfig) -> &ImapSettings {
    let KindSettings::Imap(settings) = &work_source(loaded).kind else { panic!("an IMAP source") };
    settings
}

/// Returns what `config show` prints from a table on, with comments that are not aligned.
fn shown_from(folder: &ConfigFolder, table: &str) -> String {
    let toml = folder.load().expect("it is valid").to_toml();
    let toml = toml.replace(&format!("{}/", folder.0.path().display()), "");
    let (_, rest) = toml.split_once(&format!("[{table}]")).expect("the table is shown");
    let compact =
        |line: &str| line.split("  # ").map(str::trim_end).collect::<Vec<_>>().join("  # ") + "\n";
    rest.lines().map(compact).collect()
}

#[test]
fn omitted_imap_settings_are_derived() {
    let loaded = load_text(IMAP_TABLE).expect("it is valid");
    let password = CredentialRef::Env("WORK_PASSWORD".to_owned());

    let source = work_source(&loaded);
    assert_eq!((source.kind.name(), source.provider.as_str()), ("imap", "imap.example.com"));
    assert_eq!(
        source.auth,
        SourceAuth::Password { username: "me@example.com".to_owned(), password }
    );
    assert_eq!(
        work_server(&loaded),
        &ImapSettings {
            host: "imap.example.com".to_owned(),
            port: 993,
            security: ImapSecurity::Tls,
            allows_plaintext: false,
            folders: Vec::new(),
            excluded_folders: Vec::new(),
            since: None,
        }
    );
    let provider = loaded.settings.provider_or_default("imap.example.com");
    assert_eq!((provider.connections, provider.bytes_per_day), (4, None));
}

#[test]
fn every_imap_setting_can_be_written() {
    let text = r#"
        [source.work]
        kind = "imap"
        account = "me@example.com"
        host = "[::1]"
        port = 1143
        security = "starttls"
        auth = { type = "password", username = "me", password = { file = "password" } }
        folders = ["INBOX", "Archive/*"]
        exclude = ["Spam"]
        since = 2020-01-31

        [provider."::1"]
        connections = 2
        bytes_per_day = "2500MB"
    "#;

    let loaded = load_text(text).expect("it is valid");

    let server = work_server(&loaded);
    assert_eq!((server.host.as_str(), server.port), ("::1", 1143));
    assert_eq!(server.security, ImapSecurity::StartTls);
    assert_eq!(server.folders, ["INBOX", "Archive/*"]);
    assert_eq!(server.excluded_folders, ["Spam"]);
    assert_eq!(server.since, chrono::NaiveDate::from_ymd_opt(2020, 1, 31));
    assert_eq!(work_source(&loaded).auth.username(), Some("me"));
    let provider = loaded.settings.provider_or_default("::1");
    assert_eq!((provider.connections, provider.bytes_per_day), (2, Some(2_500_000_000)));
    assert_eq!(loaded.settings.rate_limit_policy("::1").bytes_per_day, Some(2_500_000_000));
}

#[test]
fn the_port_follows_from_the_security() {
    let port = |security: &str| {
        let loopback = IMAP_TABLE.replace("imap.example.com", "localhost");
        let loaded = load_text(&format!("{loopback}security = \"{security}\"\n"));
        work_server(&loaded.expect("it is valid")).port
    };

    assert_eq!(["tls", "starttls", "none"].map(port), [993, 143, 143]);
}

#[test]
fn an_unencrypted_connection_needs_loopback_or_consent() {
    let plain = format!("{IMAP_TABLE}security = \"none\"\n");

    insta::assert_snapshot!(load_errors(&plain), @r#"
    config.toml:7:1: `source.work.security` is "none", so password and mail could be read on the way to imap.example.com; write "tls" or "starttls", or set allow_plaintext = true in this table if the way is safe
    1 mistake in the configuration
    "#);
    assert!(load_text(&format!("{plain}allow_plaintext = true\n")).is_ok());

    let loopback = plain.replace("imap.example.com", "127.0.0.1");
    assert!(load_text(&loopback).is_ok());
    let through_proxy = format!("{loopback}[proxy]\npool = [\"socks5://10.0.0.1:1080\"]\n");
    insta::assert_snapshot!(load_errors(&through_proxy), @r#"
    config.toml:7:1: `source.work.security` is "none", so password and mail could be read on the way to the proxy 10.0.0.1; write "tls" or "starttls", or set allow_plaintext = true in this table if the way is safe
    1 mistake in the configuration
    "#);
}

#[test]
fn every_imap_error_is_reported_at_once() {
    let text = r#"
[source.a]
kind = "imap"

[source.b]
kind = "imap"
account = "me@example.com"
auth = { type = "bearer", token = { env = "TOKEN" } }
secruity = "tls"

[source.c]
kind = "imap"
account = "me"
auth = { type = "hunter2" }
mailboxes = ["INBOX"]

[source.d]
kind = "imap"
account = "me@gmail.com"
host = "imaps://imap.gmail.com:993"
port = 0
security = "ssl"
auth = { type = "oauth2", password = { env = "hunter2" } }
since = "yesterday"

[source.e]
kind = "jmap"
url = "https://api.example.com"
account = "me@example.com"
auth = { type = "password", password = { env = "PASSWORD" } }

[provider.gmail]
connections = 0
bytes_per_day = "2500"
"#;
    insta::assert_snapshot!(load_errors(text), @r#"
    config.toml:2:9: `source.a.account` is missing; write account = "me@example.com", the mail address of the mailbox
    config.toml:2:9: `source.a.auth` is missing; write auth = { type = "password", password = { file = "password" } } or auth = { type = "oauth2", token = { file = "token" } }
    config.toml:5:9: `source.b.host` is missing; no server is known for "example.com": write host = "imap.example.com"
    config.toml:8:1: `source.b.auth` has the type "bearer", which kind "imap" does not use; write auth = { type = "password", password = { file = "password" } } or auth = { type = "oauth2", token = { file = "token" } }
    config.toml:9:1: unknown key `source.b.secruity`; did you mean `security`?
    config.toml:11:9: `source.c.host` is missing; write host = "imap.example.com"
    config.toml:14:1: `source.c.auth` has a `type` that is none of "password", "oauth2", "service_account", "client_credentials"; write auth = { type = "password", password = { file = "password" } } or auth = { type = "oauth2", token = { file = "token" } }
    config.toml:15:1: unknown key `source.c.mailboxes`; the keys here are account, allow_plaintext, auth, enabled, exclude, folders, host, kind, poll_interval, port, provider, reconcile_interval, security, since
    config.toml:20:1: `source.d.host` is "imaps://imap.gmail.com:993", which is not a host name; write one such as "imap.example.com"
    config.toml:21:1: `source.d.port` is 0; write a whole number from 1 to 65535
    config.toml:22:1: `source.d.security` is "ssl"; write one of "tls", "starttls", "none"
    config.toml:23:1: `source.d.auth` has a `password`, which its type does not use; write auth = { type = "password", password = { file = "password" } } or auth = { type = "oauth2", token = { file = "token" } }
    config.toml:24:1: `source.d.since` is the text "yesterday"; write a date such as 2020-01-31
    config.toml:30:1: `source.e.auth` has the type "password", which kind "jmap" does not use; write auth = { type = "bearer", token = { file = "token" } } or auth = { type = "basic", username = "me@example.com", password = { env = "PASSWORD" } }
    config.toml:33:1: `provider.gmail.connections` is 0; write a whole number from 1 to 64
    config.toml:34:1: `provider.gmail.bytes_per_day` is the text "2500"; write "64MiB", "10MB" or whole bytes, from 1MB to 1TiB
    16 mistakes in the configuration
    "#);
}

#[test]
fn a_preset_gives_server_provider_and_limits() {
    let folder = ConfigFolder::new(&preset_table("me@gmail.com"));

    insta::assert_snapshot!(shown_from(&folder, "source.work"), @r#"
    kind = "imap"  # config.toml:2:1
    account = "me@gmail.com"  # config.toml:3:1
    host = "imap.gmail.com"  # preset gmail
    security = "tls"  # default
    port = 993  # default
    auth = { type = "oauth2", username = "me@gmail.com", token = { env = "TOKEN" } }  # config.toml:4:1
    provider = "gmail"  # preset gmail
    poll_interval = "5m"  # default
    reconcile_interval = "30d"  # default
    folders = []  # default
    exclude = []  # default
    # since is not set  # default
    allow_plaintext = false  # default
    enabled = true  # default

    [provider.gmail]
    concurrency = 8  # default
    connections = 3  # preset gmail
    bytes_per_day = "2500MB"  # preset gmail
    mode = "follow"  # default
    # cap is not set  # default
    reserve = 0.0  # default
    max_wait = "1h"  # default
    quota_of = "account"  # preset gmail
    # limit_header is not set  # default
    # remaining_header is not set  # default
    # reset_header is not set  # default
    reset_means = "auto"  # default
    routes = []  # default
    "#);
}

#[test]
fn what_is_written_overrides_a_preset() {
    let text = format!(
        "{}host = \"localhost\"\nprovider = \"mine\"\n[provider.mine]\nconnections = 9\n",
        preset_table("me@gmail.com")
    );
    let loaded = load_text(&text).expect("it is valid");
    assert_eq!(work_server(&loaded).host, "localhost");
    let provider = loaded.settings.provider_or_default("mine");
    assert_eq!((provider.connections, provider.bytes_per_day), (9, None));

    let own_domain = format!(
        "{}host = \"imap.gmail.com\"\n[provider.gmail]\nbytes_per_day = \"1GB\"\n\
         quota_of = \"provider\"\n",
        preset_table("me@example.com")
    );
    let loaded = load_text(&own_domain).expect("it is valid");
    assert_eq!(work_source(&loaded).provider, "gmail");
    let provider = loaded.settings.provider_or_default("gmail");
    assert_eq!((provider.connections, provider.bytes_per_day), (3, Some(1_000_000_000)));
    assert_eq!(provider.rate_limit_scope, RateLimitScope::Provider);
}

#[test]
fn different_presets_of_one_provider_need_its_limits() {
    let load_accounts = |accounts: [&str; 2], limits: &str| {
        let [a, b] = accounts.map(|account| {
            format!(
                "kind = \"imap\"\naccount = \"{account}\"\nprovider = \"mine\"\n\
                 auth = {{ type = \"oauth2\", token = {{ env = \"TOKEN\" }} }}\n"
            )
        });
        load_text(&format!("[source.a]\n{a}[source.b]\n{b}[provider.mine]\n{limits}"))
    };
    let different = ["me@gmail.com", "me@yahoo.com"];

    insta::assert_snapshot!(load_accounts(different, "").expect_err("nothing decides"), @r"
    config.toml:9:1: `source.a` and `source.b` have one provider, but their presets gmail and yahoo differ in connections and bytes_per_day; set connections and bytes_per_day in [provider.mine], which then applies to both
    1 mistake in the configuration
    ");
    let one_decided = load_accounts(different, "connections = 1\n").expect_err("one is open");
    assert!(one_decided.contains("differ in bytes_per_day; set bytes_per_day in"), "{one_decided}");

    let loaded = load_accounts(different, "connections = 2\nbytes_per_day = \"1GB\"\n");
    let provider = loaded.expect("it is valid").settings.provider_or_default("mine");
    assert_eq!((provider.connections, provider.bytes_per_day), (2, Some(1_000_000_000)));
    assert!(load_accounts(["me@yandex.ru", "me@mail.ru"], "").is_ok(), "their limits are equal");
}

#[test]
fn connections_need_an_imap_source() {
    let jmap_only = format!(
        "{SOURCE_TABLE}[provider.\"api.example.com\"]\nconnections = 2\nbytes_per_day = \"1GB\"\n"
    );

    insta::assert_snapshot!(load_errors(&jmap_only), @r#"
    config.toml:7:1: `provider."api.example.com".connections` limits the connections of IMAP sources, and the provider has none; write `concurrency`, which limits the requests in flight over HTTP
    1 mistake in the configuration
    "#);

    let imap = IMAP_TABLE.replace("source.work", "source.mail");
    let both = format!("{jmap_only}{imap}provider = \"api.example.com\"\n");
    assert!(load_text(&both).is_ok());
    assert!(load_text("[provider.unused]\nconnections = 2\n").is_ok());
}

#[test]
fn a_preset_is_shown_as_it_is_read() {
    for account in ["me@gmail.com", "me@mail.ru", "me@fastmail.com"] {
        let loaded = load_text(&preset_table(account)).expect("it is valid");

        let again = load_text(&loaded.to_toml()).expect("what is shown is valid");

        assert_eq!(again.settings, loaded.settings, "{account}");
    }
}

#[test]
fn a_password_for_outlook_is_rejected() {
    let password = "auth = { type = \"password\", password = { env = \"PASSWORD\" } }\n";
    let by_account =
        format!("[source.work]\nkind = \"imap\"\naccount = \"me@outlook.com\"\n{password}");
    let by_host = format!(
        "[source.work]\nkind = \"imap\"\naccount = \"me@example.com\"\n{password}\
         host = \"Outlook.Office365.com\"\n"
    );

    for text in [by_account, by_host] {
        let error = load_errors(&text);
        let message = "config.toml:4:1: `source.work.auth` is a password, which \
                       outlook.office365.com rejects because basic authentication is off there; \
                       write auth = { type = \"oauth2\", client_id = \"CLIENT-ID\" } and sign in \
                       with `cynosure auth`";
        assert_eq!(error.lines().next(), Some(message), "{error}");
    }
    assert!(load_text(&preset_table("me@outlook.com")).is_ok());
}

#[test]
fn variables_override_imap_settings_and_presets() {
    let folder = ConfigFolder::new(&preset_table("me@gmail.com"));
    let variables = [
        ("CYNOSURE_SOURCE_WORK_PORT", "1993"),
        ("CYNOSURE_SOURCE_WORK_FOLDERS", "[\"INBOX\"]"),
        ("CYNOSURE_PROVIDER_GMAIL_CONNECTIONS", "5"),
    ];

    let loaded = folder.load_with_vars(variables).expect("it is valid");

    assert_eq!(work_server(&loaded).port, 1993);
    assert_eq!(work_server(&loaded).folders, ["INBOX"]);
    assert_eq!(loaded.settings.provider_or_default("gmail").connections, 5);
}
