//! The page in a real browser: what it says, that it lives, that it asks nobody else, and how it looks.

use std::path::Path;

use cynosure::engine::watch::HealthLevel;

use super::Stage;
use super::browser::{Browser, Look};
use super::scene::{NOW, calm, crowd, source, storm};

/// The narrowest phone that is still common, and a desk.
const SIZES: [(&str, u32, u32); 2] = [("wide", 1280, 900), ("phone", 360, 740)];

const LIVE: &str = "document.querySelector('#live')?.textContent === 'live'";

fn looks() -> impl Iterator<Item = (String, Look)> {
    SIZES.into_iter().flat_map(|(size, width, height)| {
        ["light", "dark"].map(|scheme| (format!("{size}-{scheme}"), Look { width, height, scheme }))
    })
}

/// Nothing went wrong in the page, and it asked nobody but its own server.
fn is_clean(browser: &Browser, stage: &Stage) {
    assert!(browser.complaints().is_empty(), "{:#?}", browser.complaints());
    let own = stage.url("/");
    let elsewhere: Vec<&str> =
        browser.requests().into_iter().filter(|url| !url.starts_with(&own)).collect();
    assert!(elsewhere.is_empty(), "{elsewhere:?}");
}

#[test]
fn it_fits_wide_and_narrow_by_day_and_by_night() {
    let Some(mut browser) = Browser::start() else { return };
    let stage = Stage::show(storm());
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/pictures");
    for (name, look) in looks() {
        browser.look(look);
        for (view, path) in [
            ("page", "/"),
            ("near", "/?source=work"),
            ("filtered", "/?source=old&severity=critical"),
        ] {
            browser.go(&stage.url(path));
            browser.until(LIVE);

            let overflow = browser.evaluate(
                "document.documentElement.scrollWidth - document.documentElement.clientWidth",
            );
            assert_eq!(overflow, 0, "{view} {name} is wider than the screen");
            browser.picture(&folder.join(format!("{view}-{name}.png")));
        }
    }
    is_clean(&browser, &stage);
}

#[test]
fn it_says_what_is() {
    let Some(mut browser) = Browser::start() else { return };
    let stage = Stage::show(storm());
    browser.go(&stage.url("/?source=work"));

    assert!(browser.text("#summary").contains("old: the credential is refused"));
    assert!(browser.text("#source-work").contains("10,204 of 81,113"));
    assert!(browser.text("#source-home").contains("14:09 (in 4 min)"));
    assert!(browser.text("#providers").contains("severe 0.72"));
    assert!(browser.text("#near").contains("403 Forbidden"));
    assert_eq!(browser.evaluate("document.querySelectorAll('#heat tbody tr').length"), 3);
    assert_eq!(
        browser.evaluate("document.querySelectorAll('#heat tbody tr:first-child td').length"),
        24
    );
    assert_eq!(
        browser.evaluate("document.querySelector('#source-work progress').position > 0.12"),
        true
    );
    assert_eq!(
        browser.evaluate("document.querySelectorAll('svg.drawing path.stroke').length > 4"),
        true
    );
    // What a server wrote is text here, and neither picture nor script.
    assert_eq!(browser.evaluate("document.images.length"), 0);
    assert!(browser.text("#near").contains("<img src=x onerror=alert(1)>"));
    is_clean(&browser, &stage);
}

#[test]
fn it_lives_and_keeps_what_a_person_did() {
    let Some(mut browser) = Browser::start() else { return };
    let stage = Stage::show(storm());
    browser.go(&stage.url("/"));
    browser.until(LIVE);
    browser.evaluate("document.getElementById('checks-well').open = true");
    browser.evaluate("document.getElementById('source-work.link').focus()");

    stage.scene.change(|snapshot| {
        let work = snapshot.sources.iter_mut().find(|source| source.name == "work");
        work.expect("it is there").settled = 10_300;
        snapshot.checks.pop();
        snapshot.level = HealthLevel::Warning;
        snapshot.summary = "it gets better".to_owned();
    });

    browser.until("document.getElementById('source-work').innerText.includes('10,300')");
    browser.until("document.getElementById('summary').innerText.includes('it gets better')");
    browser.until("!document.getElementById('checks').innerText.includes('journal')");
    assert_eq!(browser.evaluate("document.title"), "WARNING · Cynosure");
    assert_eq!(browser.evaluate("document.getElementById('checks-well').open"), true);
    assert_eq!(browser.evaluate("document.activeElement.id"), "source-work.link");

    stage.scene.change(|snapshot| snapshot.sources.push(source("fresh", "idle")));
    browser.wait_for("Page.loadEventFired");
    assert!(browser.text("#source-fresh").contains("idle"));
    is_clean(&browser, &stage);
}

#[test]
fn it_says_when_it_is_no_longer_live() {
    let Some(mut browser) = Browser::start() else { return };
    let stage = Stage::show(calm());
    browser.go(&stage.url("/"));
    browser.until(LIVE);

    stage.server.shut_down();

    browser.until("document.querySelector('#live').textContent.startsWith('not live since ')");
}

#[test]
fn it_notices_what_came_and_went_while_nobody_answered() {
    let Some(mut browser) = Browser::start() else { return };
    let mut stage = Stage::show(storm());
    browser.go(&stage.url("/"));
    browser.until(LIVE);

    for (change, now_there) in [("removed", false), ("added", true)] {
        stage = stage.away(|snapshot| match change {
            "added" => snapshot.sources.push(source("home", "idle")),
            _ => snapshot.sources.retain(|source| source.name != "home"),
        });

        browser.wait_for("Page.loadEventFired");
        browser.until(LIVE);
        let is_there = browser.evaluate("document.getElementById('source-home') !== null");
        assert_eq!(is_there, now_there, "{change}");
    }
}

#[test]
fn every_part_is_reached_by_keyboard() {
    let Some(mut browser) = Browser::start() else { return };
    let stage = Stage::show(storm());
    browser.go(&stage.url("/"));
    browser.until(LIVE);
    let focused = "document.activeElement.id || document.activeElement.textContent";

    browser.press("Tab");
    assert_eq!(browser.evaluate(focused), "Skip to the content");
    let outline = browser.evaluate("getComputedStyle(document.activeElement).outlineStyle");
    assert_eq!(outline, "solid", "what has the focus is seen");
    let mut reached = Vec::new();
    while reached.last().is_none_or(|last| last != "filter-critical") && reached.len() < 60 {
        browser.press("Tab");
        reached.push(browser.evaluate(focused).as_str().expect("it is text").to_owned());
    }
    for id in ["source-home.link", "source-work.link", "filter-all", "filter-critical"] {
        assert!(reached.iter().any(|reached| reached == id), "{id} is not among {reached:#?}");
    }

    let before = browser.evaluate("performance.timeOrigin");
    browser.press("Enter");
    browser.until_loaded_after(&before);
    assert_eq!(browser.evaluate("location.search"), "?severity=critical");
    assert_eq!(browser.evaluate("document.querySelectorAll('#alerts li').length"), 2);
    assert_eq!(browser.evaluate("document.querySelector('[aria-current]').id"), "filter-critical");
}

#[test]
fn everything_has_a_name_for_those_who_cannot_see_it() {
    let Some(mut browser) = Browser::start() else { return };
    let stage = Stage::show(storm());
    browser.go(&stage.url("/?source=work"));

    let mut tree = browser.call("Accessibility.getFullAXTree", &serde_json::json!({}));
    let nodes = tree["nodes"].take();
    let nodes = nodes.as_array().expect("a tree").iter().filter(|node| node["ignored"] != true);
    let mut named = 0;
    for node in nodes {
        let role = node["role"]["value"].as_str().unwrap_or_default();
        let name = node["name"]["value"].as_str().unwrap_or_default();
        if ["link", "button", "progressbar", "image", "img", "table", "heading", "navigation"]
            .contains(&role)
        {
            assert!(!name.trim().is_empty(), "a {role} without a name: {node}");
            named += 1;
        }
    }
    assert!(named > 30, "{named} were looked at");
    let levels =
        "[...document.querySelectorAll('h1,h2,h3,h4')].map((title) => Number(title.tagName[1]))";
    let steps = browser.evaluate(&format!(
        "{levels}.every((level, at, all) => at === 0 || level <= all[at - 1] + 1)"
    ));
    assert_eq!(steps, true, "no level of headings is left out");
}

#[test]
fn it_works_without_a_script() {
    let Some(mut browser) = Browser::start() else { return };
    let stage = Stage::show(storm());
    browser.call("Emulation.setScriptExecutionDisabled", &serde_json::json!({ "value": true }));
    browser.go(&stage.url("/?severity=warning"));
    assert!(browser.text("#alerts").contains("filling up"));
    assert!(!browser.text("#alerts").contains("refused"));

    stage.scene.change(|snapshot| snapshot.summary = "it is otherwise now".to_owned());

    // It loads itself again; the address stays.
    browser.wait_for("Page.loadEventFired");
    assert!(browser.text("#summary").contains("it is otherwise now"));
    assert!(browser.text("#content").contains("10,204 of 81,113"));
    is_clean(&browser, &stage);
}

#[test]
fn two_hundred_sources_are_a_page_too() {
    let Some(mut browser) = Browser::start() else { return };
    let stage = Stage::show(crowd(200));
    browser.go(&stage.url("/"));
    browser.until(LIVE);
    assert_eq!(browser.evaluate("document.querySelectorAll('.card').length"), 200);

    stage.scene.change(|snapshot| {
        snapshot.at = NOW.after(std::time::Duration::from_secs(2));
        snapshot.sources[150].settled = 77_777;
    });

    browser.until("document.getElementById('source-source-150').innerText.includes('77,777')");
    assert!(stage.scene.looks() < 60, "an open page makes nobody look more often");
    is_clean(&browser, &stage);
}
