//! `service`: units of a user, with a `systemctl` and a `loginctl` that record their arguments.

use std::process::Command;

use crate::commands::test_home::{ProgramOutput, TestHome};

/// Recorded calls, one per line.
const CALLS: &str = "calls";

/// Folder of the units, below the home folder of the test.
const UNITS: &str = ".config/systemd/user";

const WORKER: &str = ".config/systemd/user/cynosure.service";
const MONITOR: &str = ".config/systemd/user/cynosure-monitor.service";

/// Creates a home with a configuration, a program, and a service manager whose units are all in
/// this state. `systemctl` fails for a call with the text `refused`.
fn home_with_manager(state: &str, refused: &str) -> TestHome {
    let home = TestHome::with_source_work();
    let calls = home.path(CALLS).display().to_string();
    let script = format!(
        "#!/bin/sh\necho \"${{0##*/}} $*\" >>'{calls}'\ncase \"$*\" in\n\
         *'{refused}'*) echo 'refused by the test' >&2; exit 1 ;;\n\
         *Version*) echo 252 ;;\n*ActiveState*) echo {state} ;;\nesac\n"
    );
    home.write(CALLS, "");
    home.write("script", &script);
    for name in ["systemctl", "loginctl", "cynosure"] {
        put_program(&home, "script", name);
    }
    home
}

/// Makes a file the program `name`. Another process writes it, so that no process of this one has
/// it open for writing when it is run.
fn put_program(home: &TestHome, file: &str, name: &str) {
    let install = Command::new("install")
        .args(["-D", "-m", "755"])
        .args([home.path(file), home.path("bin").join(name)])
        .status();
    assert!(install.unwrap().success());
}

/// Runs `service` with these arguments, in this home.
fn service(home: &TestHome, args: &[&str]) -> ProgramOutput {
    let mut command = home.command(&[&["service"][..], args].concat());
    let path = format!("{}:/usr/bin:/bin", home.path("bin").display());
    command.env("PATH", path).env("HOME", home.path("")).env_remove("XDG_CONFIG_HOME");
    home.run_to_end(&mut command)
}

fn install(home: &TestHome) -> ProgramOutput {
    install_with(home, &[])
}

/// Runs `service install` with these further arguments.
fn install_with(home: &TestHome, args: &[&str]) -> ProgramOutput {
    let program = home.path("bin/cynosure").display().to_string();
    service(home, &[&["install", "--user", "--binary", &program], args].concat())
}

/// Returns the recorded calls since the last time, without the id of the user.
fn calls(home: &TestHome) -> Vec<String> {
    let uid = rustix::process::geteuid().as_raw().to_string();
    let calls = home.read(CALLS);
    home.write(CALLS, "");
    calls.lines().map(|line| line.replace(&format!(" {uid}"), " UID")).collect()
}

#[test]
fn the_units_of_a_user_are_written_enabled_and_started() {
    let home = home_with_manager("active", "nothing");

    let output = install(&home);

    assert_eq!((output.code, &*output.stderr), (Some(0), ""), "{output:?}");
    assert_eq!(
        calls(&home),
        [
            "systemctl --user show --property=Version --value",
            "loginctl --no-ask-password enable-linger UID",
            "systemctl --user daemon-reload",
            "systemctl --user enable --now cynosure.service cynosure-monitor.service",
            "systemctl --user show --property=ActiveState --value cynosure.service",
            "systemctl --user show --property=ActiveState --value cynosure-monitor.service",
        ]
    );
    assert_eq!(
        output.stdout,
        "created   HOME/state\n\
         created   HOME/downloads\n\
         written   HOME/.config/systemd/user/cynosure.service\n\
         written   HOME/.config/systemd/user/cynosure-monitor.service\n\
         lingering enabled: the service also runs while you are logged out\n\
         cynosure.service: enabled, started, active\n\
         cynosure-monitor.service: enabled, started, active\n\
         Watch it:\n  systemctl --user status cynosure\n  journalctl --user -u cynosure\n  \
         cynosure --config HOME/config.toml --state-dir HOME/state status\n"
    );
    let dir = home.path("").display().to_string();
    let [worker, monitor] =
        [WORKER, MONITOR].map(|unit| home.read(unit).replace(dir.trim_end_matches('/'), "HOME"));
    let options = "--config HOME/config.toml --state-dir HOME/state\n";
    assert!(worker.contains(&format!("\nExecStart=HOME/bin/cynosure run {options}")), "{worker}");
    let start = format!("\nExecStart=HOME/bin/cynosure monitor {options}");
    assert!(monitor.contains(&start), "{monitor}");
    for text in [&worker, &monitor] {
        assert!(text.contains("\nWorkingDirectory=HOME/state\n"), "{text}");
        assert!(text.contains("\nWantedBy=default.target\n"), "{text}");
        assert!(!text.contains("\nUser=") && !text.contains("\nProtectSystem="), "{text}");
    }
    assert!(home.path("state").is_dir() && home.path("downloads").is_dir());
}

#[test]
fn another_installation_rewrites_and_restarts_its_units() {
    let home = home_with_manager("active", "nothing");
    install(&home);
    calls(&home);
    let worker = home.read(WORKER);
    home.write(WORKER, &worker.replace("WatchdogSec=60s", "WatchdogSec=1s"));

    let output = install(&home);

    assert_eq!(output.code, Some(0), "{output:?}");
    assert_eq!(home.read(WORKER), worker);
    assert!(output.stdout.contains("written   HOME/.config/systemd/user/cynosure.service\n"));
    assert!(output.stdout.contains("unchanged HOME/.config/systemd/user/cynosure-monitor."));
    assert!(output.stdout.contains("cynosure.service: enabled, restarted, active\n"));
    let calls = calls(&home);
    let restart = "systemctl --user restart cynosure.service cynosure-monitor.service";
    assert!(calls.iter().any(|call| call == restart), "{calls:?}");
}

#[test]
fn a_unit_of_somebody_else_is_never_changed() {
    let home = home_with_manager("active", "nothing");
    home.write(MONITOR, "[Service]\nExecStart=/bin/true\n");

    let output = install(&home);

    assert_eq!(output.code, Some(1), "{output:?}");
    assert!(output.stderr.contains("cynosure-monitor.service exists"), "{output:?}");
    assert_eq!(home.read(MONITOR), "[Service]\nExecStart=/bin/true\n");
    assert!(!home.path(WORKER).exists() && calls(&home).is_empty());

    let output = service(&home, &["uninstall", "--user"]);

    assert_eq!(output.code, Some(0), "{output:?}");
    assert!(output.stdout.contains("there is nothing to remove"), "{output:?}");
    assert!(home.path(MONITOR).exists() && calls(&home).is_empty());
}

#[test]
fn a_service_that_does_not_start_is_reported_with_the_reason() {
    let home = home_with_manager("failed", "enable --now");

    let output = install(&home);

    assert_eq!(output.code, Some(1), "{output:?}");
    assert!(output.stdout.contains("\ncynosure.service: failed\n"), "{output:?}");
    assert!(output.stderr.contains("refused by the test"), "{output:?}");
    assert!(output.stderr.contains("`cynosure service uninstall` removes the units"), "{output:?}");
    assert!(output.stderr.contains("`journalctl --user -n 20 -u cynosure.service`"), "{output:?}");
}

#[test]
fn refused_lingering_is_a_note() {
    let home = home_with_manager("active", "enable-linger");

    let output = install(&home);

    assert_eq!(output.code, Some(0), "{output:?}");
    assert!(output.stderr.contains("only while you are logged in"), "{output:?}");
    assert!(output.stderr.contains("as root: `loginctl enable-linger "), "{output:?}");
}

#[test]
fn without_a_service_manager_nothing_is_written() {
    let home = home_with_manager("active", "Version");

    let output = install(&home);

    assert_eq!(output.code, Some(1), "{output:?}");
    assert!(output.stderr.contains("the service manager of your user"), "{output:?}");
    assert!(!home.path(UNITS).exists() && !home.path("state").exists());
}

#[test]
fn a_systemctl_that_does_nothing_is_no_service_manager() {
    let home = home_with_manager("active", "nothing");
    home.write("silent", "#!/bin/sh\n");
    put_program(&home, "silent", "systemctl");

    let output = install(&home);

    assert_eq!(output.code, Some(1), "{output:?}");
    assert!(output.stderr.contains("reaches no service manager"), "{output:?}");
    assert!(!home.path(UNITS).exists() && !home.path("state").exists());
}

#[test]
fn a_changed_name_makes_no_second_service() {
    let home = home_with_manager("active", "nothing");
    install(&home);
    calls(&home);
    let config = home.read("config.toml");
    home.write("config.toml", &format!("{config}[service]\nservice_name = \"mail\"\n"));

    let output = install(&home);

    assert_eq!(output.code, Some(1), "{output:?}");
    let reason = "cynosure.service runs this configuration already";
    assert!(output.stderr.contains(reason), "{output:?}");
    assert!(!home.path(UNITS).join("mail.service").exists() && calls(&home).is_empty());

    let output = service(&home, &["uninstall", "--user"]);

    assert_eq!(output.code, Some(0), "{output:?}");
    assert!(!home.path(WORKER).exists() && !home.path(MONITOR).exists());
    assert_eq!(install(&home).code, Some(0));
    assert!(home.path(UNITS).join("mail.service").exists());
}

#[test]
fn a_service_of_another_configuration_is_not_replaced() {
    let home = home_with_manager("active", "nothing");
    install(&home);
    calls(&home);
    let worker = home.read(WORKER);
    home.write("other/config.toml", &home.read("config.toml"));
    let other = ["--config", "other/config.toml"];

    let installed = install_with(&home, &other);
    let removed = service(&home, &[&["uninstall", "--user"][..], &other].concat());

    for output in [installed, removed] {
        assert_eq!(output.code, Some(1), "{output:?}");
        let advice = "`cynosure --config HOME/config.toml service uninstall`";
        assert!(output.stderr.contains(advice), "{output:?}");
    }
    assert_eq!(home.read(WORKER), worker);
    assert!(home.path(MONITOR).exists() && calls(&home).is_empty());
}

#[test]
fn a_moved_configuration_keeps_its_state() {
    let home = home_with_manager("active", "nothing");
    install(&home);
    home.write("other/config.toml", &home.read("config.toml"));
    fs_err::remove_file(home.path("config.toml")).unwrap();
    let other = ["--config", "other/config.toml"];

    let refused = install_with(&home, &other);
    let moved = install_with(&home, &[&other[..], &["--state-dir", "state"]].concat());

    assert_eq!((refused.code, moved.code), (Some(1), Some(0)), "{refused:?} {moved:?}");
    let advice = "name that folder with --state-dir HOME/state;";
    assert!(refused.stderr.contains(advice), "{refused:?}");
    let dir = home.path("").display().to_string();
    let worker = home.read(WORKER).replace(dir.trim_end_matches('/'), "HOME");
    let options = "run --config HOME/other/config.toml --state-dir HOME/state\n";
    assert!(worker.contains(options), "{worker}");
}

#[test]
fn a_missing_or_wrong_configuration_is_refused() {
    let home = home_with_manager("active", "nothing");
    home.write("config.toml", "[restart]\nmax_retires = 3\n");

    let wrong = install(&home);
    let missing = service(&home, &["install", "--user", "--config", "other.toml"]);

    assert_eq!((wrong.code, missing.code), (Some(78), Some(78)), "{wrong:?} {missing:?}");
    assert!(wrong.stderr.contains("max_retries"), "{wrong:?}");
    assert!(missing.stderr.contains("`cynosure init`"), "{missing:?}");
    assert!(!home.path(UNITS).exists() && calls(&home).is_empty());
}

#[test]
fn a_credential_of_systemd_is_refused_for_a_user() {
    let home = home_with_manager("active", "nothing");
    home.configure("{ file = \"token\" }", "{ systemd = \"token_work\" }");

    let output = install(&home);

    assert_eq!(output.code, Some(78), "{output:?}");
    assert!(output.stderr.contains("name a file instead"), "{output:?}");
    assert!(!home.path(UNITS).exists());
}

#[test]
fn uninstall_removes_the_units_and_keeps_everything_else() {
    let home = home_with_manager("active", "nothing");
    install(&home);
    calls(&home);
    home.write(&format!("{UNITS}/other.service"), "[Service]\n");

    let output = service(&home, &["uninstall", "--user"]);

    assert_eq!((output.code, &*output.stderr), (Some(0), ""), "{output:?}");
    assert_eq!(
        calls(&home),
        [
            "systemctl --user show --property=Version --value",
            "systemctl --user disable --now cynosure.service cynosure-monitor.service",
            "systemctl --user daemon-reload",
            "systemctl --user reset-failed cynosure.service cynosure-monitor.service",
        ]
    );
    assert!(!home.path(WORKER).exists() && !home.path(MONITOR).exists());
    for kept in ["config.toml", "state", "downloads", ".config/systemd/user/other.service"] {
        assert!(home.path(kept).exists(), "{kept} is gone");
    }
    assert!(
        output.stdout.ends_with(
            "`loginctl disable-linger`\nKept: the configuration HOME/config.toml, the state \
             HOME/state and the mail HOME/downloads.\n"
        ),
        "{output:?}"
    );

    let again = service(&home, &["uninstall", "--user"]);

    assert_eq!(again.code, Some(0), "{again:?}");
    assert!(again.stdout.contains("there is nothing to remove"), "{again:?}");
    assert!(calls(&home).is_empty());
}

#[test]
fn uninstall_needs_no_configuration() {
    let home = home_with_manager("active", "nothing");
    install(&home);
    fs_err::remove_file(home.path("config.toml")).unwrap();

    let output = service(&home, &["uninstall", "--user"]);

    assert_eq!(output.code, Some(0), "{output:?}");
    assert!(output.stdout.ends_with("Kept: the state HOME/state and the mail.\n"), "{output:?}");
    assert!(!home.path(WORKER).exists() && !home.path(MONITOR).exists());
}

#[test]
fn a_program_in_the_folder_of_a_build_must_be_named() {
    let home = home_with_manager("active", "nothing");

    let output = service(&home, &["install", "--user"]);

    assert_eq!(output.code, Some(1), "{output:?}");
    assert!(output.stderr.contains("or confirm the place with --binary "), "{output:?}");
    assert!(!home.path(UNITS).exists());
}
