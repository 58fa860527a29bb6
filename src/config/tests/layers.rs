//! Precedence of the layers, and base folders of their relative paths.

use super::*;

#[test]
fn drop_ins_override_the_file_in_name_order() {
    let folder = ConfigFolder::new("[restart]\nmax_retries = 1\nstuck_threshold = 60\n")
        .with_file("config.d/20-b.toml", "[restart]\nmax_retries = 3\n")
        .with_file("config.d/10-a.toml", "[restart]\nmax_retries = 2\nmax_consecutive_errors = 9\n")
        .with_file("config.d/.30-hidden.toml", "[restart]\nmax_retries = 4\n")
        .with_file("config.d/40-not-toml.conf", "max_retries = 4\n");

    let loaded = folder.load().expect("it is valid");

    assert_eq!(loaded.settings.restart.max_retries, 3);
    assert_eq!(loaded.settings.restart.max_consecutive_errors, 9);
    assert_eq!(loaded.settings.restart.stuck_threshold, Duration::from_secs(60));
    assert_eq!(
        loaded.files,
        ["config.toml", "config.d/10-a.toml", "config.d/20-b.toml"].map(|name| folder.path(name))
    );
}

#[test]
fn a_drop_in_replaces_auth_as_a_whole() {
    let folder = ConfigFolder::new(SOURCE_TABLE).with_file(
        "config.d/auth.toml",
        "[source.work]\naccount = \"me\"\nauth = { type = \"bearer\", token = { systemd = \"work\" } }\n",
    );

    let loaded = folder.load().expect("it is valid");

    assert_eq!(
        work_source(&loaded).auth,
        SourceAuth::Bearer { token: CredentialRef::Systemd("work".to_owned()) }
    );
    assert_eq!(work_mailbox(&loaded).url.as_str(), "https://api.example.com/.well-known/jmap");
}

#[test]
fn an_error_in_a_drop_in_names_the_drop_in() {
    let folder = ConfigFolder::new("").with_file("config.d/a.toml", "[item]\nmax_attempts = 0\n");

    let error = folder.load().expect_err("it has a mistake");
    assert!(error.starts_with("config.d/a.toml:2:1: `item.max_attempts` is 0; "), "{error}");
}

#[test]
fn variables_override_the_files() {
    let folder = ConfigFolder::new(SOURCE_TABLE)
        .with_file("config.d/a.toml", "[restart]\nmax_retries = 2\n");
    let variables = [
        ("CYNOSURE_RESTART_MAX_RETRIES", "5"),
        ("CYNOSURE_RESTART_STUCK_THRESHOLD", "5m"),
        ("CYNOSURE_BACKOFF_BASE_UNKNOWN", "7"),
        ("CYNOSURE_BACKOFF_JITTER", "0.5"),
        ("CYNOSURE_SERVICE_ENABLE_AUTO_RESTART", "false"),
        ("CYNOSURE_SOURCE_WORK_URL", "https://other.example.com/"),
        ("CYNOSURE_SOURCE_WORK_ACCOUNT", "42"),
        ("CYNOSURE_SOURCE_WORK_MAILBOXES", "[\"Inbox\", \"Sent\"]"),
        ("CYNOSURE_SOURCE_WORK_SINCE", "2020-01-31"),
        ("CYNOSURE_SOURCE_WORK_AUTH", "{ type = \"bearer\", token = { file = \"token\" } }"),
        ("CYNOSURE_CONFIG", "elsewhere"),
        ("CYNOSURE_LOG", "debug"),
        ("CYNOSURE_REQUIRE_REAL", "1"),
        ("PATH", "/usr/bin"),
    ];

    let loaded = folder.load_with_vars(variables).expect("it is valid");

    assert_eq!(loaded.settings.restart.max_retries, 5);
    assert_eq!(loaded.settings.restart.stuck_threshold, Duration::from_secs(300));
    assert_eq!(loaded.settings.backoff.unknown, Duration::from_secs(7));
    assert_eq!(loaded.settings.backoff.jitter, 0.5);
    assert!(!loaded.settings.service.enable_auto_restart);
    assert_eq!(work_source(&loaded).provider, "other.example.com");
    assert_eq!(work_source(&loaded).account, "42");
    assert_eq!(work_mailbox(&loaded).mailboxes, ["Inbox", "Sent"]);
    assert_eq!(work_mailbox(&loaded).since, chrono::NaiveDate::from_ymd_opt(2020, 1, 31));
    assert_eq!(
        work_source(&loaded).auth,
        SourceAuth::Bearer { token: CredentialRef::File(folder.path("token")) }
    );
}

#[test]
fn unknown_and_invalid_variables_are_errors() {
    let folder = ConfigFolder::new("[source.a-b]\n[source.a_b]\n");
    let variables = [
        ("CYNOSURE_RESTART_MAX_RETRYS", "5"),
        ("CYNOSURE_ITEM_RECHECK", "often"),
        ("CYNOSURE_NOTHING_OF_OURS", "1"),
        ("CYNOSURE_SOURCE_A_B_ENABLED", "false"),
    ];

    let error = folder.load_with_vars(variables).expect_err("it has mistakes");

    let about_variables: Vec<&str> =
        error.lines().filter(|line| line.starts_with("environment")).collect();
    insta::assert_snapshot!(about_variables.join("\n"), @r#"
    environment variable CYNOSURE_ITEM_RECHECK: `item.recheck` is the text "often"; write "90s", "5m", "1h" or whole seconds, from 1ms to 366d
    environment variable CYNOSURE_NOTHING_OF_OURS: matches no setting; the names are CYNOSURE_TABLE_KEY, and a source must be in a file first
    environment variable CYNOSURE_RESTART_MAX_RETRYS: matches no setting; did you mean CYNOSURE_RESTART_MAX_RETRIES?
    environment variable CYNOSURE_SOURCE_A_B_ENABLED: could mean `source.a-b.enabled` or `source.a_b.enabled`; set them in a file instead
    "#);
}

#[test]
fn relative_paths_resolve_against_their_file() {
    let bearer =
        "account = \"me\"\nauth = { type = \"bearer\", token = { file = \"keys/token\" } }\n";
    let folder = ConfigFolder::new(&format!("{SOURCE_TABLE}[archive]\ndir = \"mail\"\n"));

    let loaded = folder.load().expect("it is valid");
    assert_eq!(loaded.settings.archive.dir, folder.path("mail"));

    let folder = folder.with_file(
        "config.d/a.toml",
        &format!("[archive]\ndir = \"mail\"\n[source.work]\n{bearer}"),
    );
    let loaded = folder.load().expect("it is valid");
    assert_eq!(loaded.settings.archive.dir, folder.path("config.d/mail"));
    let token = CredentialRef::File(folder.path("config.d/keys/token"));
    assert_eq!(work_source(&loaded).auth, SourceAuth::Bearer { token });

    let loaded = folder.load_with_vars([("CYNOSURE_ARCHIVE_DIR", "mail")]).expect("it is valid");
    assert_eq!(loaded.settings.archive.dir, folder.path("mail"));

    let loaded =
        folder.load_with_vars([("CYNOSURE_ARCHIVE_DIR", "/srv/mail")]).expect("it is valid");
    assert_eq!(loaded.settings.archive.dir, Path::new("/srv/mail"));
}

#[test]
fn the_default_archive_is_beside_the_config_file() {
    let folder = ConfigFolder::new("");

    assert_eq!(folder.load().expect("it is valid").settings.archive.dir, folder.path("downloads"));
}
