//! Disks that are really full: the run ends with one sentence and the right exit code, loses
//! nothing, and continues once there is room.

use std::path::{Path, PathBuf};
use std::process::Command;

use cynosure::demo::{self, DemoOptions, DemoServer};

use crate::prerequisites::skip;
use crate::test_program::TestFolder;

/// Items of the mailbox: about 1,600 messages, 15 MB.
const ITEMS: u32 = 1_000;

/// Mount option with room for all of them.
const ROOMY_BYTES: &str = "size=200m";

#[test]
fn a_full_archive_disk_stops_the_run_and_loses_nothing() {
    assert_fills_up("downloads", "size=3m");
}

#[test]
fn a_full_ledger_disk_stops_the_run_and_loses_nothing() {
    assert_fills_up("state", "size=400k");
}

fn assert_fills_up(folder: &str, size: &str) {
    let demo =
        demo::start(DemoOptions { items: ITEMS, ..DemoOptions::default() }).expect("it starts");
    let test_folder = TestFolder::new(&configuration(&demo));
    let Some(mut mount) = TmpfsMount::new(test_folder.path().join(folder), size) else { return };

    let full = test_folder.run_once();
    assert_eq!(full.code, Some(74), "{full:?}");
    let sentence = full.output.lines().last().unwrap_or_default();
    assert!(sentence.contains("full") && sentence.contains("free"), "{sentence}");
    assert!(sentence.contains(&*mount.0.to_string_lossy()), "it names the folder: {sentence}");

    mount.resize(ROOMY_BYTES);
    let done = test_folder.run_once();
    assert_eq!(done.code, Some(0), "{done:?}");
    let all = format!("listed {ITEMS} = stored {ITEMS} + gone 0 + quarantined 0");
    assert!(done.output.contains(&all), "{done:?}");
    test_folder.run_successfully(&["verify"]);
}

fn configuration(demo: &DemoServer) -> String {
    demo::demo_config(demo, Path::new("downloads"))
        .replace("{ env = \"DEMO_PASSWORD\" }", "{ command = [\"echo\", \"demo\"] }")
}

/// Filesystem in memory, unmounted at the end of the test.
struct TmpfsMount(PathBuf);

impl TmpfsMount {
    fn new(folder: PathBuf, size: &str) -> Option<Self> {
        fs_err::create_dir_all(&folder).expect("the folder is ours");
        let mounted = mount_tmpfs(&["-t", "tmpfs", "-o", size, "tmpfs"], &folder);
        if mounted { Some(Self(folder)) } else { skip("root, and mount") }
    }

    fn resize(&mut self, size: &str) {
        let options = format!("remount,{size}");
        assert!(mount_tmpfs(&["-o", &options], &self.0), "the mount is ours");
    }
}

impl Drop for TmpfsMount {
    fn drop(&mut self) {
        Command::new("umount").arg(&self.0).status().ok();
    }
}

fn mount_tmpfs(arguments: &[&str], folder: &Path) -> bool {
    let status = Command::new("mount").args(arguments).arg(folder).status();
    status.is_ok_and(|status| status.success())
}
