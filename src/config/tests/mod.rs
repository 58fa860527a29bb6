//! Whole configurations, from files and variables to settings or errors.

use std::time::Duration;

use cynosure_engine::user_input::Location;
use proptest::prelude::*;

use super::*;

mod alert;
mod endpoint;
mod error_rules;
mod imap;
mod layers;
mod proxy;
mod rest;
mod rest_auth;
mod rest_errors;
mod retry;
mod shipped;
mod sign_in;
mod sources;
mod telemetry;

const SOURCE_TABLE: &str = r#"
[source.work]
kind = "jmap"
url = "https://api.example.com/.well-known/jmap"
auth = { type = "basic", username = "me@example.com", password = { env = "WORK_PASSWORD" } }
"#;

/// Temporary folder with a configuration.
struct ConfigFolder(tempfile::TempDir);

impl ConfigFolder {
    fn new(text: &str) -> Self {
        Self(tempfile::tempdir().expect("a temporary folder")).with_file("config.toml", text)
    }

    fn with_file(self, name: &str, text: &str) -> Self {
        let path = self.path(name);
        fs_err::create_dir_all(path.parent().expect("a folder")).expect("the folder is writable");
        fs_err::write(path, text).expect("the folder is writable");
        self
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn load(&self) -> Result<LoadedConfig, String> {
        self.load_with_vars([])
    }

    /// Loads with these variables. The folder's own path is removed from the errors.
    fn load_with_vars<const N: usize>(
        &self,
        variables: [(&str, &str); N],
    ) -> Result<LoadedConfig, String> {
        let environment = variables.into_iter().collect();
        load(&self.path("config.toml"), &environment).map_err(|errors| {
            errors.to_string().replace(&format!("{}/", self.0.path().display()), "")
        })
    }
}

fn load_text(text: &str) -> Result<LoadedConfig, String> {
    ConfigFolder::new(text).load()
}

fn load_errors(text: &str) -> String {
    load_text(text).expect_err("it has mistakes")
}

fn work_source(loaded: &LoadedConfig) -> &SourceSettings {
    loaded.settings.find_source("work").expect("there is such a source").1
}

fn work_mailbox(loaded: &LoadedConfig) -> &JmapSettings {
    let KindSettings::Jmap(settings) = &work_source(loaded).kind else { panic!("a JMAP source") };
    settings
}

fn setting_origin(loaded: &LoadedConfig, table: &str, key: &str) -> Option<Location> {
    let entry =
        loaded.effective_settings.iter().find(|entry| entry.table == table && entry.key == key);
    entry?.location.clone()
}

#[test]
fn an_empty_file_gives_the_defaults_and_no_sources() {
    let settings = load_text("").expect("it is valid").settings;

    assert_eq!(settings.restart.max_retries, 3);
    assert_eq!(settings.restart.max_execution_time, Duration::from_secs(86_400));
    assert_eq!(settings.request.delay, Duration::from_millis(500));
    assert_eq!(settings.request.max_response, 64 << 20);
    assert!(settings.sources.is_empty());
}

#[test]
fn every_error_is_reported_at_once_by_line_with_a_remedy() {
    let text = r#"
[restart]
max_retrys = 5
retry_delay_base = "soon"
stuck_threshold = 0

[request]
max_answer = "big"
concurrency = 1000

[backoff]
jitter = 1.5
base.transient = true

[servce]

[source.Work]

[source.mail]
kind = "pop3"
url = "http://mail.example.com"
poll = "5m"
"#;
    insta::assert_snapshot!(load_errors(text), @r#"
    config.toml:3:1: unknown key `restart.max_retrys`; did you mean `max_retries`?
    config.toml:4:1: `restart.retry_delay_base` is the text "soon"; write "90s", "5m", "1h" or whole seconds, from 1ms to 366d
    config.toml:5:1: `restart.stuck_threshold` is 0; write "90s", "5m", "1h" or whole seconds, from 1ms to 366d
    config.toml:8:1: `request.max_answer` is the text "big"; write "64MiB", "10MB" or whole bytes, from 1KiB to 1TiB
    config.toml:9:1: `request.concurrency` is 1000; write a whole number from 1 to 64
    config.toml:12:1: `backoff.jitter` is 1.5; write a number from 0.0 to 1.0
    config.toml:13:6: `backoff.base.transient` is true; write "90s", "5m", "1h" or whole seconds, from 1ms to 366d
    config.toml:15:2: unknown table or key `servce`; did you mean [service]?
    config.toml:17:9: `source.Work` has a name that cannot be used; a source's name is 1 to 64 of a-z, 0-9, _ and -, and starts with a letter or digit
    config.toml:19:9: `source.mail.auth` is missing; write auth = { type = "bearer", token = { file = "token" } } or auth = { type = "basic", username = "me@example.com", password = { env = "PASSWORD" } }
    config.toml:20:1: `source.mail.kind` is not a known kind; write "jmap", "imap", "rest", "gmail", "graph" or "mailru"
    config.toml:21:1: `source.mail.url` is plain http, so password and mail could be read on the way; write https://, or set allow_plaintext = true in this table if the way is safe
    config.toml:22:1: unknown key `source.mail.poll`; did you mean `poll_interval`?
    13 mistakes in the configuration
    "#);
}

#[test]
fn a_syntax_error_neither_hides_nor_causes_errors() {
    let text = "[restart]\nmax_retries = three\nstuck_treshold = 1\n[archive\ndir = 3\n[item]\nrecheck = -1\n";

    insta::assert_snapshot!(load_errors(text), @r#"
    config.toml:2:15: not valid TOML: invalid boolean, expected `true`
    config.toml:3:1: unknown key `restart.stuck_treshold`; did you mean `stuck_threshold`?
    config.toml:4:9: not valid TOML: unclosed table, expected `]`
    config.toml:7:1: `item.recheck` is -1; write "90s", "5m", "1h" or whole seconds, from 1ms to 366d
    4 mistakes in the configuration
    "#);
}

#[test]
fn a_missing_file_is_reported_with_a_remedy() {
    let error = load(Path::new("/nonexistent/config.toml"), &EnvVars::default())
        .expect_err("it is missing");

    let error = error.to_string();
    assert!(error.starts_with("/nonexistent/config.toml: there is no such file; "), "{error}");
    assert!(error.contains("`cynosure demo`"), "{error}");
}

#[test]
fn an_unreadable_or_binary_file_is_rejected() {
    let folder = ConfigFolder::new("");
    fs_err::write(folder.path("config.toml"), b"# \xc3\xa9\n# \xc3\xa9\xff\xfe")
        .expect("the folder is writable");
    let error = folder.load().expect_err("refused");
    assert!(error.starts_with("config.toml:2:4: not UTF-8 text (byte 0xFF)"), "{error}");

    fs_err::write(folder.path("config.toml"), vec![b'#'; (1 << 20) + 1])
        .expect("the disk has room");
    assert!(
        folder.load().expect_err("refused").starts_with("config.toml: larger than 1048576 bytes")
    );

    let error = load(folder.0.path(), &EnvVars::default()).expect_err("a folder is no file");
    assert!(error.to_string().contains("cannot be read (is a directory)"), "{error}");
}

#[test]
fn the_transient_delay_defaults_to_retry_delay_base() {
    let transient_delay =
        |text: &str| load_text(text).expect("it is valid").settings.backoff.transient;

    assert_eq!(transient_delay("[restart]\nretry_delay_base = 7\n"), Duration::from_secs(7));
    assert_eq!(
        transient_delay("[restart]\nretry_delay_base = 7\n[backoff.base]\ntransient = 8\n"),
        Duration::from_secs(8)
    );
}

#[test]
fn contradicting_delays_are_rejected() {
    let error = load_errors("[request]\ndelay = \"20s\"\n");
    let message = "`request.delay` (20s) is longer than `request.max_delay` (10s); lower the one or raise the other";

    assert_eq!(error.lines().next(), Some(format!("config.toml:2:1: {message}").as_str()));
}

#[test]
fn contradicting_breaker_settings_are_rejected() {
    let error =
        load_errors("[breaker]\nrecovery_timeout = \"20m\"\nmin_calls = 500\nfailure_rate = 50\n");

    insta::assert_snapshot!(error, @r"
    config.toml:2:1: `breaker.recovery_timeout` (20m) is longer than `breaker.max_recovery_timeout` (10m); lower the one or raise the other
    config.toml:3:1: `breaker.min_calls` is 500; write a whole number from 2 to 100
    config.toml:4:1: `breaker.failure_rate` is 50; write a number from 0.0 to 1.0
    3 mistakes in the configuration
    ");
}

#[test]
fn a_provider_cannot_use_a_reserved_breaker_name() {
    let error = load_errors(&format!("{SOURCE_TABLE}provider = \"ledger\"\n"));

    assert!(error.contains("`source.work.provider` is reserved for a circuit breaker"), "{error}");
}

#[test]
fn a_provider_may_have_its_own_concurrency() {
    let loaded =
        load_text("[provider.\"api.example.com\"]\nconcurrency = 2\n").expect("it is valid");

    assert_eq!(loaded.settings.provider_or_default("api.example.com").concurrency, 2);
    assert_eq!(loaded.settings.provider_or_default("another").concurrency, 8);
}

#[test]
fn an_unknown_source_error_lists_the_known_ones() {
    let empty = load_text("").expect("it is valid").settings;
    let settings = load_text(SOURCE_TABLE).expect("it is valid").settings;
    let lookup_error = |settings: &Settings, name: &str| {
        settings.find_source(name).expect_err("unknown").to_string()
    };

    assert!(lookup_error(&settings, "wrok").ends_with("did you mean work?"));
    assert!(lookup_error(&settings, "private").ends_with("it has work"));
    assert!(lookup_error(&empty, "work").ends_with("add a [source.NAME] table to it first"));
}

#[test]
fn every_value_records_its_origin() {
    let folder =
        ConfigFolder::new(SOURCE_TABLE).with_file("config.d/a.toml", "[item]\n recheck = \"2d\"\n");
    let loaded = folder.load_with_vars([("CYNOSURE_ARCHIVE_DIR", "/srv")]).expect("it is valid");

    let line =
        |name: &str, line, column| Location::Line { file: folder.path(name).into(), line, column };
    assert_eq!(setting_origin(&loaded, "source.work", "url"), Some(line("config.toml", 4, 1)));
    assert_eq!(setting_origin(&loaded, "item", "recheck"), Some(line("config.d/a.toml", 2, 2)));
    assert_eq!(
        setting_origin(&loaded, "archive", "dir"),
        Some(Location::EnvVar("CYNOSURE_ARCHIVE_DIR".to_owned()))
    );
    assert_eq!(setting_origin(&loaded, "restart", "max_retries"), None);
}

#[test]
fn config_show_round_trips() {
    let more = "since = 2020-01-01\nmailboxes = [\"In\\\"box\", \"Отправленные\"]\n[provider.\"a b\"]\nconcurrency = 1\n\
                [request]\ndelay = \"1.25s\"\nmin_rate = 1000\n[backoff]\njitter = 0\n";
    let loaded = load_text(&format!("{SOURCE_TABLE}{more}")).expect("it is valid");

    let again = load_text(&loaded.to_toml()).expect("what is shown is valid");

    assert_eq!(again.settings, loaded.settings);
}

#[test]
fn config_show_names_every_origin() {
    let folder = ConfigFolder::new(SOURCE_TABLE);
    let shown = folder
        .load_with_vars([("CYNOSURE_SOURCE_WORK_POLL_INTERVAL", "90")])
        .expect("it is valid")
        .to_toml();
    let shown = shown.replace(&format!("{}/", folder.0.path().display()), "");
    let source = shown.split_once("[source.work]").expect("the source is shown").1;

    insta::assert_snapshot!(source, @r#"
    kind = "jmap"                                     # config.toml:3:1
    url = "https://api.example.com/.well-known/jmap"  # config.toml:4:1
    auth = { type = "basic", username = "me@example.com", password = { env = "WORK_PASSWORD" } }  # config.toml:5:1
    account = "me@example.com"                        # default
    provider = "api.example.com"                      # default
    poll_interval = "90s"                             # environment variable CYNOSURE_SOURCE_WORK_POLL_INTERVAL
    reconcile_interval = "30d"                        # default
    mailboxes = []                                    # default
    allow_hosts = []                                  # default
    # since is not set                                # default
    allow_plaintext = false                           # default
    enabled = true                                    # default
    "#);
}

proptest! {
    #[test]
    fn loading_any_text_never_panics(text in "(\\[(restart|source\\.a|source|backoff\\.base|provider)\\]\n|(kind|url|account|host|port|security|folders|auth|since|jitter|base|max_retries|dir|profile|list|fetch|changes|error|options|quota|records) = (1|\"jmap\"|\"imap\"|\"rest\"|\"gmail\"|\"me@gmail.com\"|\\{\\}|\\[\\]|2020-01-01|true|0.5|\"\")\n|\\PC){0,12}") {
        drop(load_text(&text));
    }
}
