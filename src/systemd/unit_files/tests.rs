//! Tests of the generated files.

use crate::systemd::unit_files::directives::{DROPPED, DROPPED_FOR_USERS};
use crate::systemd::unit_files::generate::{SHIPPED_MONITOR, SHIPPED_WORKER};
use crate::systemd::unit_files::{
    GeneratedFile, ManagerScope, UnitFileOptions, WorkerUnitPaths, generate_polkit_rule,
    generate_unit_files, is_generated_text,
};

/// Settings whose line differs in every generated unit.
const REPLACED: [&str; 5] = ["ExecStart", "WorkingDirectory", "After", "User", "StateDirectory"];

fn options(scope: ManagerScope) -> UnitFileOptions {
    UnitFileOptions {
        scope,
        service_name: "cynosure".to_owned(),
        program: "/usr/local/bin/cynosure".into(),
        config_file: "/srv/mail/config.toml".into(),
        state_dir: "/srv/mail/state".into(),
        written_folders: vec!["/srv/mail archive".into()],
        user: "alice".to_owned(),
        uses_home_folder: false,
        uses_credential_folder: false,
    }
}

/// Returns the lines without comments and empty lines.
fn settings(text: &str) -> Vec<&str> {
    text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect()
}

/// Returns the settings of the first text that the second one does not have.
fn missing<'t>(from: &'t str, other: &str) -> Vec<&'t str> {
    let other = settings(other);
    settings(from).into_iter().filter(|line| !other.contains(line)).collect()
}

fn units(options: &UnitFileOptions) -> [String; 2] {
    generate_unit_files(options).unwrap().map(|file| file.text)
}

#[test]
fn a_unit_of_the_system_differs_in_its_paths_and_user() {
    let [worker, monitor] = units(&options(ManagerScope::System));

    assert_eq!(
        missing(&worker, SHIPPED_WORKER),
        [
            "RequiresMountsFor=/srv/mail/state \"/srv/mail archive\"",
            "ExecStart=/usr/local/bin/cynosure run --config /srv/mail/config.toml \
             --state-dir /srv/mail/state",
            "User=alice",
            "ReadWritePaths=/srv/mail/state \"/srv/mail archive\"",
            "WorkingDirectory=/srv/mail/state",
        ]
    );
    assert_eq!(
        missing(SHIPPED_WORKER, &worker),
        [
            "Documentation=man:cynosure(1) man:cynosure-run(1)",
            "ExecStart=/usr/bin/cynosure run --config /etc/cynosure/config.toml",
            "User=cynosure",
            "Group=cynosure",
            "StateDirectory=cynosure",
            "StateDirectoryMode=0700",
            "ConfigurationDirectory=cynosure",
            "WorkingDirectory=%S/cynosure",
            "LoadCredential=token:/etc/cynosure/credentials",
        ]
    );
    assert_eq!(
        missing(&monitor, SHIPPED_MONITOR),
        [
            "ExecStart=/usr/local/bin/cynosure monitor --config /srv/mail/config.toml \
             --state-dir /srv/mail/state",
            "User=alice",
            "ReadWritePaths=/srv/mail/state",
            "WorkingDirectory=/srv/mail/state",
        ]
    );
}

#[test]
fn every_setting_of_a_shipped_unit_is_kept_or_in_a_list() {
    for scope in [ManagerScope::System, ManagerScope::User] {
        let generated = units(&options(scope));
        for (shipped, unit) in [SHIPPED_WORKER, SHIPPED_MONITOR].into_iter().zip(&generated) {
            for line in missing(shipped, unit) {
                let key = line.split('=').next().unwrap();
                let is_listed = match scope {
                    ManagerScope::System => key == "LoadCredential",
                    ManagerScope::User => key == "WantedBy" || DROPPED_FOR_USERS.contains(&key),
                };
                let is_in_every_list = DROPPED.contains(&key) || REPLACED.contains(&key);
                assert!(is_listed || is_in_every_list, "{scope:?}: {line}");
            }
        }
    }
}

#[test]
fn every_listed_setting_is_one_of_a_shipped_unit() {
    let shipped = [settings(SHIPPED_WORKER), settings(SHIPPED_MONITOR)].concat();
    for key in DROPPED.iter().chain(&DROPPED_FOR_USERS).chain(&REPLACED) {
        let is_shipped = shipped.iter().any(|line| line.split('=').next() == Some(*key));
        assert!(is_shipped, "no shipped unit has {key}");
    }
}

#[test]
fn a_comment_stays_only_above_a_setting_that_stays() {
    let [worker, monitor] = units(&options(ManagerScope::User));

    for text in [&worker, &monitor] {
        assert!(text.contains("# It can gain no privileges.\nNoNewPrivileges=yes\n"), "{text}");
        assert!(text.contains("\nWantedBy=default.target\n"), "{text}");
        assert!(!text.contains("\n\n\n") && !text.contains("home folders"), "{text}");
    }
    assert!(!worker.contains("network-online") && !worker.contains("polkit"), "{worker}");
    assert!(worker.contains(
        "--state-dir /srv/mail/state\n\
         # The bus on which it asks for a restart: that of its user's service manager.\n\
         Environment=DBUS_SYSTEM_BUS_ADDRESS=unix:path=%t/bus\n\
         # Reloads the configuration"
    ));
    assert!(monitor.contains("\nAfter=cynosure.service\n"), "{monitor}");
}

#[test]
fn home_folders_are_readable_only_where_a_file_is_in_one() {
    let hidden = units(&options(ManagerScope::System));
    let readable =
        units(&UnitFileOptions { uses_home_folder: true, ..options(ManagerScope::System) });

    for (hidden, readable) in hidden.iter().zip(&readable) {
        assert!(hidden.contains("\nProtectHome=yes\n"), "{hidden}");
        assert_eq!(missing(readable, hidden), ["ProtectHome=read-only"]);
        assert!(!readable.contains("It needs nothing in the home folders"), "{readable}");
    }
}

#[test]
fn credentials_are_loaded_where_the_configuration_names_them() {
    let with_folder =
        UnitFileOptions { uses_credential_folder: true, ..options(ManagerScope::System) };

    let [worker, monitor] = units(&with_folder);

    assert!(worker.contains("\nLoadCredential=token:/etc/cynosure/credentials\n"), "{worker}");
    assert!(!monitor.contains("LoadCredential"), "{monitor}");
}

#[test]
fn the_name_of_the_service_is_that_of_its_units() {
    let renamed =
        UnitFileOptions { service_name: "mail.home".to_owned(), ..options(ManagerScope::System) };

    let [worker, monitor] = generate_unit_files(&renamed).unwrap();
    let rule = generate_polkit_rule(&renamed).unwrap();

    assert_eq!((&*worker.name, &*monitor.name), ("mail.home.service", "mail.home-monitor.service"));
    assert!(monitor.text.contains("\nAfter=mail.home.service\n"), "{}", monitor.text);
    assert_eq!(rule.name, "50-mail.home.rules");
    assert!(rule.text.contains("/^mail\\.home\\.service$/.test("), "{}", rule.text);
}

#[test]
fn the_polkit_rule_is_for_the_user_of_the_units() {
    let hostile = "a\" || true || \"";
    let options = UnitFileOptions { user: hostile.to_owned(), ..options(ManagerScope::System) };

    let GeneratedFile { text, .. } = generate_polkit_rule(&options).unwrap();

    assert!(text.contains(r#"subject.user === "a\" || true || \"" &&"#), "{text}");
    assert!(text.contains("/^cynosure\\.service$/.test("), "{text}");
    assert!(!text.contains("\"cynosure\"") && !text.contains('@'), "{text}");
}

#[test]
fn root_and_the_manager_of_a_user_need_no_rule() {
    let root = UnitFileOptions { user: "root".to_owned(), ..options(ManagerScope::System) };

    assert_eq!(generate_polkit_rule(&root), None);
    assert_eq!(generate_polkit_rule(&options(ManagerScope::User)), None);
}

#[test]
fn the_paths_of_a_worker_are_read_from_its_unit() {
    for scope in [ManagerScope::System, ManagerScope::User] {
        let spaces = UnitFileOptions {
            config_file: "/srv/my mail/config.toml".into(),
            state_dir: "/srv/my mail/state".into(),
            ..options(scope)
        };
        for expected in [options(scope), spaces] {
            let UnitFileOptions { config_file, state_dir, .. } = expected.clone();
            let [worker, monitor] = units(&expected);

            let paths = WorkerUnitPaths { config_file, state_dir };
            assert_eq!(WorkerUnitPaths::parse(&worker), Some(paths), "{worker}");
            assert_eq!(WorkerUnitPaths::parse(&monitor), None, "{monitor}");
        }
    }
    let foreign = "[Service]\nExecStart=/bin/x run --config /a --state-dir /b\n";
    assert_eq!(WorkerUnitPaths::parse(foreign), None);
}

#[test]
fn generated_files_are_recognised_by_their_first_line() {
    for scope in [ManagerScope::System, ManagerScope::User] {
        for text in units(&options(scope)) {
            assert!(is_generated_text(&text), "{text}");
            assert!(text.split("\n\n").nth(1).is_some_and(|part| part.starts_with("[Unit]\n")));
        }
    }
    let rule = generate_polkit_rule(&options(ManagerScope::System)).unwrap();
    assert!(is_generated_text(&rule.text), "{}", rule.text);
    let quoting = "[Unit]\n# Written by `cynosure service install`\n";
    for foreign in [SHIPPED_WORKER, SHIPPED_MONITOR, "", quoting] {
        assert!(!is_generated_text(foreign), "{foreign}");
    }
}
