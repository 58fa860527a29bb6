//! Unit files: valid, equal where they must be, and hardened.

use fs_err as fs;

use crate::systemd::install::{FILES, install};
use crate::systemd::machine::TestMachine;

const UNITS: [&str; 3] = ["cynosure.service", "cynosure@work.service", "cynosure-monitor.service"];

/// Maximum exposure of a unit, in tenths of the value of `systemd-analyze security`. Most of it is
/// the network, which a worker needs.
const EXPOSURE_MAX: u32 = 11;

#[test]
fn systemd_accepts_the_units_without_warnings() {
    let Some(machine) = TestMachine::boot() else { return };
    install(&machine);

    verify(&machine);
}

/// Asserts that systemd reads the units without an error or a warning.
pub(super) fn verify(machine: &TestMachine) {
    let is_unit = |name: &str| name.ends_with(".service") || name.ends_with(".socket");
    for (unit, _) in FILES.iter().filter(|(name, _)| is_unit(name)) {
        // By path, which all versions accept. The manual pages are not checked, because only the
        // package installs them.
        let path = format!("/usr/lib/systemd/system/{unit}");
        let output = machine.run(&["systemd-analyze", "verify", "--man=no", &path]);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && stderr.is_empty(), "{unit}: {stderr}");
    }
}

#[test]
fn the_units_are_hardened() {
    let Some(machine) = TestMachine::boot() else { return };
    install(&machine);

    println!("exposure: {:?}", exposures(&machine));
}

/// Returns the exposure of each unit according to systemd, which must not exceed the maximum.
pub(super) fn exposures(machine: &TestMachine) -> Vec<(&'static str, f64)> {
    let exposure = |unit| {
        let report = machine.run_successfully(&["systemd-analyze", "security", unit]);
        let last = report.lines().last().unwrap_or_default();
        let value: Option<f64> = last.split(' ').find_map(|word| word.parse().ok());
        let value = value.expect("the last line has the value");
        assert!(value * 10.0 <= f64::from(EXPOSURE_MAX) + 0.01, "{report}");
        (unit, value)
    };
    UNITS.map(exposure).to_vec()
}

#[test]
fn the_template_differs_from_the_service_in_its_source_only() {
    let service = settings("cynosure.service");
    let template = settings("cynosure@.service");

    let added: Vec<_> = template.iter().filter(|line| !service.contains(line)).collect();
    let removed: Vec<_> = service.iter().filter(|line| !template.contains(line)).collect();

    assert_eq!(
        added,
        [
            "Description=Extraction of the mailbox %i by Cynosure",
            "Conflicts=cynosure.service",
            "ExecStart=/usr/bin/cynosure run --config /etc/cynosure/config.toml %i",
            "Environment=CYNOSURE_SERVICE_SERVICE_NAME=cynosure@%i",
        ]
    );
    assert_eq!(
        removed,
        [
            "Description=Extraction of mailboxes by Cynosure",
            "ExecStart=/usr/bin/cynosure run --config /etc/cynosure/config.toml",
        ]
    );
}

#[test]
fn the_hardening_settings_are_explained() {
    for unit in ["cynosure.service", "cynosure@.service", "cynosure-monitor.service"] {
        let text = fs::read_to_string(in_source(unit)).expect("the unit is in the source tree");
        let hardening = text.split("\n\n").find(|block| block.contains("CapabilityBoundingSet="));
        let hardening = hardening.expect("the unit is hardened");
        let comments = hardening.lines().filter(|line| line.starts_with('#')).count();
        assert!(hardening.starts_with('#') && comments > 15, "{unit} has {comments} comments");
    }
}

/// Returns the lines of a unit without comments and empty lines.
fn settings(unit: &str) -> Vec<String> {
    let text = fs::read_to_string(in_source(unit)).expect("the unit is in the source tree");
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(str::to_owned).collect()
}

fn in_source(unit: &str) -> String {
    format!("{}/systemd/{unit}", env!("CARGO_MANIFEST_DIR"))
}
