//! The page in a real browser: what it says, that it lives, that it asks nobody else, and how it looks.

use std::path::Path;

use cynosure::engine::watch::Level;

use super::browser::{Browser, Look};
use super::scene::{HOSTILE, storm};
use super::Stage;

const WIDE: (u32, u32) = (1280, 900);
/// The narrowest phone that is still common.
const PHONE: (u32, u32) = (360, 740);

fn looks() -> impl Iterator<Item = (String, Look)> {
    [("wide", WIDE), ("phone", PHONE)].into_iter().flat_map(|(size, (width, height))| {
        ["light", "dark"].map(|scheme| (format!("{size}-{scheme}"), Look { width, height, scheme }))
    })
}

#[test]
fn it_looks_right_wide_and_narrow_by_day_and_by_night() {
    let Some(mut browser) = Browser::start() else { return };
    let stage = Stage::show(storm());
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/pictures");
    for (name, look) in looks() {
        browser.look(look);
        for (view, path) in [("page", "/"), ("near", "/?source=work"), ("old", "/?source=old&severity=critical")] {
            browser.go(&stage.url(path));
            browser.until("document.querySelector('#live')?.textContent === 'live'");

            let overflow = browser.evaluate(
                "document.documentElement.scrollWidth - document.documentElement.clientWidth");
            assert_eq!(overflow, 0, "{view} {name} is wider than the screen");
            browser.picture(&folder.join(format!("{view}-{name}.png")));
        }
    }
    assert!(browser.complaints().is_empty(), "{:#?}", browser.complaints());
}
