//! The shipped `config.toml` agrees with the code.

use std::collections::BTreeSet;

use cynosure_engine::rate_limit::HeaderNames;

use super::*;

const SHIPPED_CONFIG: &str = include_str!("../../../config.toml");

/// The example source and provider, uncommented.
fn config_with_examples() -> String {
    let lines = SHIPPED_CONFIG.lines().map(|line| match line.strip_prefix('#') {
        Some(key) if !key.starts_with(' ') => key,
        _ => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Returns the table and the key of a setting. All providers are one table here, because some of
/// their keys are for one kind of source only; and so are the sources with a profile.
fn table_and_key(entry: &EffectiveSetting) -> (&str, &str) {
    let table = match entry.table.as_str() {
        "source.records" | "source.gmail" => "source with a profile",
        table if table.starts_with("provider.") => "provider",
        table => table,
    };
    (table, entry.key)
}

/// True for a setting that only a preset or a profile gives.
fn is_filled(entry: &EffectiveSetting) -> bool {
    entry.location.is_none() && entry.origin.is_some()
}

#[test]
fn the_shipped_config_has_the_default_values() {
    let folder = ConfigFolder::new(SHIPPED_CONFIG);
    let shipped = folder.load().expect("it is valid");
    fs_err::write(folder.path("config.toml"), "").expect("the folder is writable");
    let defaults = folder.load().expect("it is valid");

    assert_eq!(shipped.settings, defaults.settings);
}

#[test]
fn the_shipped_config_lists_every_setting() {
    let loaded = load_text(&config_with_examples()).expect("it is valid");
    let settings = &loaded.effective_settings;
    let written = settings.iter().filter(|entry| entry.location.is_some());
    let listed: BTreeSet<_> = written.map(table_and_key).collect();
    let is_missing =
        |entry: &&EffectiveSetting| !is_filled(entry) && !listed.contains(&table_and_key(entry));
    let missing: Vec<_> = settings.iter().filter(is_missing).collect();

    assert!(missing.is_empty(), "{missing:#?}");
    assert!(load_text(SHIPPED_CONFIG).expect("it is valid").settings.sources.is_empty());
}

#[test]
fn the_example_source_has_the_default_values() {
    let loaded = load_text(&config_with_examples()).expect("it is valid");
    let minimal = r#"
        [source.work]
        kind = "jmap"
        url = "https://api.example.com/.well-known/jmap"
        account = "me@example.com"
        auth = { type = "bearer", token = { env = "TOKEN" } }
        since = 2020-01-01
    "#;
    let minimal = load_text(minimal).expect("it is valid");
    let example =
        SourceSettings { auth: work_source(&minimal).auth.clone(), ..work_source(&loaded).clone() };

    assert_eq!(&example, work_source(&minimal));
    let example = loaded.settings.provider_or_default("api.example.com");
    let example = ProviderSettings {
        bytes_per_day: None,
        cap: None,
        headers: HeaderNames::default(),
        routes: Vec::new(),
        error_rules: Vec::new(),
        ..example
    };
    assert_eq!(example, minimal.settings.provider_or_default("api.example.com"));
}

#[test]
fn the_imap_example_has_the_default_values() {
    let loaded = load_text(&config_with_examples()).expect("it is valid");
    let minimal = r#"
        [source.mail]
        kind = "imap"
        account = "me@example.com"
        host = "imap.example.com"
        auth = { type = "password", password = { env = "PASSWORD" } }
        since = 2020-01-01
    "#;
    let minimal = load_text(minimal).expect("it is valid");
    let mail_source = |loaded: &LoadedConfig| {
        loaded.settings.find_source("mail").expect("there is such a source").1.clone()
    };

    let expected = mail_source(&minimal);
    let example = SourceSettings { auth: expected.auth.clone(), ..mail_source(&loaded) };

    assert_eq!(example, expected);
}

#[test]
fn the_rest_example_has_the_default_values() {
    let loaded = load_text(&config_with_examples()).expect("it is valid");
    let minimal = r#"
        [source.records]
        kind = "rest"
        account = "me@example.com"
        base_url = "https://api.example.com/v1"
        auth = { type = "bearer", token = { env = "TOKEN" } }
        list = { get = "/records", items = "/records", id = "/id" }
    "#;
    let minimal = load_text(minimal).expect("it is valid");
    let records_source = |loaded: &LoadedConfig| {
        loaded.settings.find_source("records").expect("there is such a source").1.clone()
    };

    let expected = records_source(&minimal);
    let example = SourceSettings { auth: expected.auth.clone(), ..records_source(&loaded) };

    assert_eq!(example, expected);
}

#[test]
fn the_shipped_config_documents_every_setting() {
    let loaded = load_text(&config_with_examples()).expect("it is valid");
    for entry in loaded.effective_settings.iter().filter(|entry| !is_filled(entry)) {
        let line = match entry.key {
            // A list of tables, each with its own header.
            "error" => format!("[[{}.error]]", entry.table),
            key => format!("{key} = "),
        };
        let written = config_with_examples()
            .lines()
            .any(|text| text.starts_with(&line) && text.contains("# "));
        assert!(written, "`{}` has no comment", entry.key);
    }
}
