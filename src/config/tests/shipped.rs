//! The `config.toml` that is shipped says exactly what the code does.

use super::*;
use crate::engine::rate_limit::HeaderNames;

const SHIPPED: &str = include_str!("../../../config.toml");

/// The example source and provider, uncommented.
fn with_examples() -> String {
    let lines = SHIPPED.lines().map(|line| match line.strip_prefix('#') {
        Some(key) if !key.starts_with(' ') => key,
        _ => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn it_has_the_defaults_of_the_code() {
    let folder = Folder::new(SHIPPED);
    let shipped = folder.load().expect("it is valid");
    fs_err::write(folder.path("config.toml"), "").expect("the folder is writable");
    let defaults = folder.load().expect("it is valid");

    assert_eq!(shipped.settings, defaults.settings);
}

#[test]
fn it_writes_every_setting() {
    let loaded = load_text(&with_examples()).expect("it is valid");
    let missing: Vec<_> = loaded.entries.iter().filter(|entry| entry.place.is_none()).collect();

    assert!(missing.is_empty(), "{missing:#?}");
    assert!(load_text(SHIPPED).expect("it is valid").settings.sources.is_empty());
}

#[test]
fn its_example_has_the_defaults_of_a_source() {
    let loaded = load_text(&with_examples()).expect("it is valid");
    let minimal = r#"
        [source.work]
        kind = "jmap"
        url = "https://api.example.com/.well-known/jmap"
        account = "me@example.com"
        auth = { type = "bearer", token = { env = "TOKEN" } }
        since = 2020-01-01
    "#;
    let minimal = load_text(minimal).expect("it is valid");
    let example = Source { auth: source(&minimal).auth.clone(), ..source(&loaded).clone() };

    assert_eq!(&example, source(&minimal));
    let example = loaded.settings.provider("api.example.com");
    let example = Provider {
        cap: None,
        headers: HeaderNames::default(),
        routes: Vec::new(),
        error_rules: Vec::new(),
        ..example
    };
    assert_eq!(example, minimal.settings.provider("api.example.com"));
}

#[test]
fn it_says_something_about_every_setting() {
    let loaded = load_text(&with_examples()).expect("it is valid");
    for entry in &loaded.entries {
        let line = match entry.key {
            // A list of tables, each with a header of its own.
            "error" => format!("[[{}.error]]", entry.table),
            key => format!("{key} = "),
        };
        let written =
            with_examples().lines().any(|text| text.starts_with(&line) && text.contains("# "));
        assert!(written, "`{}` has no comment", entry.key);
    }
}
