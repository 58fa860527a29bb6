//! Disks that are really full: the run ends with one sentence and the right exit code and loses
//! nothing, and a later run continues once there is room.

use std::path::{Path, PathBuf};
use std::process::Command;

use cynosure_lab::demo::{self, DemoOptions, DemoServer};

use crate::prerequisites::skip;
use crate::test_program::TestFolder;

/// Items of the mailbox: about 1,600 messages, 15 MB.
const ITEMS: u32 = 1_000;

/// Mount option for a size with room for all of them.
const ROOMY_SIZE_OPTION: &str = "size=200m";

#[test]
fn a_full_archive_disk_stops_the_run_and_loses_nothing() {
    assert_stops_and_resumes("downloads", "size=3m");
}

#[test]
fn a_full_ledger_disk_stops_the_run_and_loses_nothing() {
    assert_stops_and_resumes("state", "size=400k");
}

/// Asserts that a run stops when the disk of this folder is full, and that the next one completes.
fn assert_stops_and_resumes(folder: &str, size_option: &str) {
    let demo = demo::start(DemoOptions { items: ITEMS, ..DemoOptions::default() })
        .expect("the service starts");
    let test_folder = TestFolder::new(&configuration(&demo));
    let Some(mut mount) = TmpfsMount::new(test_folder.path().join(folder), size_option) else {
        return;
    };

    let stopped = test_folder.run_once();
    assert_eq!(stopped.code, Some(74), "{stopped:?}");
    let sentence = stopped.output.lines().last().unwrap_or_default();
    assert!(sentence.contains("full") && sentence.contains("free"), "{sentence}");
    assert!(sentence.contains(&*mount.0.to_string_lossy()), "it names the folder: {sentence}");

    mount.resize(ROOMY_SIZE_OPTION);
    let resumed = test_folder.run_once();
    assert_eq!(resumed.code, Some(0), "{resumed:?}");
    let summary = format!("listed {ITEMS} = stored {ITEMS} + gone 0 + quarantined 0");
    assert!(resumed.output.contains(&summary), "{resumed:?}");
    test_folder.run_successfully(&["verify"]);
}

fn configuration(demo: &DemoServer) -> String {
    demo::demo_config(demo, Path::new("downloads"))
        .replace("{ env = \"DEMO_PASSWORD\" }", "{ command = [\"echo\", \"demo\"] }")
}

/// Filesystem in memory, unmounted at the end of the test.
struct TmpfsMount(PathBuf);

impl TmpfsMount {
    fn new(folder: PathBuf, size_option: &str) -> Option<Self> {
        fs_err::create_dir_all(&folder).expect("the folder is ours");
        let mounted = mount_tmpfs(&["-t", "tmpfs", "-o", size_option, "tmpfs"], &folder);
        if mounted { Some(Self(folder)) } else { skip("root, and mount") }
    }

    fn resize(&mut self, size_option: &str) {
        let options = format!("remount,{size_option}");
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
