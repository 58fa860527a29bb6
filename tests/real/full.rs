//! A disk that is really full: one sentence, the right code, nothing lost, and on it goes once there is room.

use std::path::{Path, PathBuf};
use std::process::Command;

use cynosure::demo::{self, DemoOptions, DemoServer};

use crate::binary::Workplace;
use crate::requirement::skip;

/// The mailbox: some 1,600 messages, 15 MB.
const ITEMS: u32 = 1_000;

/// Room for all of it.
const ROOMY: &str = "size=200m";

#[test]
fn an_archive_without_room_stops_the_run_and_loses_nothing() {
    fill_up("downloads", "size=3m");
}

#[test]
fn a_ledger_without_room_stops_the_run_and_loses_nothing() {
    fill_up("state", "size=400k");
}

fn fill_up(folder: &str, size: &str) {
    let demo =
        demo::start(DemoOptions { items: ITEMS, ..DemoOptions::default() }).expect("it starts");
    let workplace = Workplace::new(&configuration(&demo));
    let Some(mut small) = Mount::new(workplace.path().join(folder), size) else { return };

    let full = workplace.run_once();
    assert_eq!(full.code, Some(74), "{full:?}");
    let sentence = full.said.lines().last().unwrap_or_default();
    assert!(sentence.contains("full") && sentence.contains("free"), "{sentence}");
    assert!(sentence.contains(&*small.0.to_string_lossy()), "it names the place: {sentence}");

    small.resize(ROOMY);
    let done = workplace.run_once();
    assert_eq!(done.code, Some(0), "{done:?}");
    let all = format!("listed {ITEMS} = stored {ITEMS} + gone 0 + quarantined 0");
    assert!(done.said.contains(&all), "{done:?}");
    workplace.succeed(&["verify"]);
}

fn configuration(demo: &DemoServer) -> String {
    demo::demo_config(demo, Path::new("downloads"))
        .replace("{ env = \"DEMO_PASSWORD\" }", "{ command = [\"echo\", \"demo\"] }")
}

/// A filesystem in memory, gone with the test.
struct Mount(PathBuf);

impl Mount {
    fn new(folder: PathBuf, size: &str) -> Option<Self> {
        fs_err::create_dir_all(&folder).expect("the folder is ours");
        let mounted = mount(&["-t", "tmpfs", "-o", size, "tmpfs"], &folder);
        if mounted { Some(Self(folder)) } else { skip("root, and mount") }
    }

    fn resize(&mut self, size: &str) {
        let options = format!("remount,{size}");
        assert!(mount(&["-o", &options], &self.0), "the mount is ours");
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        Command::new("umount").arg(&self.0).status().ok();
    }
}

fn mount(arguments: &[&str], folder: &Path) -> bool {
    let status = Command::new("mount").args(arguments).arg(folder).status();
    status.is_ok_and(|status| status.success())
}
