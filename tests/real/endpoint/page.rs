//! Dashboard page in a real browser: its content, live updates, layout and accessibility, and that
//! it sends no request to another server.

use std::path::Path;

use cynosure_engine::health::HealthLevel;

use super::TestEndpoint;
use super::browser::{ChromeBrowser, Viewport};
use super::fake_data::{NOW, full_snapshot, healthy_snapshot, snapshot_of_many_sources, source};

/// Sizes of a desktop window, and of the narrowest phone that is still common.
const SIZES: [(&str, u32, u32); 2] = [("wide", 1280, 900), ("phone", 360, 740)];

const LIVE_CONDITION: &str = "document.querySelector('#live')?.textContent === 'live'";

fn viewports() -> impl Iterator<Item = (String, Viewport)> {
    SIZES.into_iter().flat_map(|(size, width, height)| {
        ["light", "dark"]
            .map(|scheme| (format!("{size}-{scheme}"), Viewport { width, height, scheme }))
    })
}

/// Asserts that the page had no errors, and sent requests only to its own server.
fn assert_no_page_errors(browser: &ChromeBrowser, endpoint: &TestEndpoint) {
    assert!(browser.page_errors().is_empty(), "{:#?}", browser.page_errors());
    let own_url = endpoint.url("/");
    let other_urls: Vec<&str> =
        browser.requests().into_iter().filter(|url| !url.starts_with(&own_url)).collect();
    assert!(other_urls.is_empty(), "{other_urls:?}");
}

#[test]
fn the_page_fits_all_sizes_and_colour_schemes() {
    let Some(mut browser) = ChromeBrowser::start() else { return };
    let endpoint = TestEndpoint::serving(full_snapshot());
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/pictures");
    for (name, viewport) in viewports() {
        browser.set_viewport(viewport);
        for (view, path) in [
            ("page", "/"),
            ("detail", "/?source=work"),
            ("filtered", "/?source=old&severity=critical"),
        ] {
            browser.navigate(&endpoint.url(path));
            browser.wait_until(LIVE_CONDITION);

            let overflow = browser.evaluate(
                "document.documentElement.scrollWidth - document.documentElement.clientWidth",
            );
            assert_eq!(overflow, 0, "{view} {name} is wider than the screen");
            browser.screenshot(&folder.join(format!("{view}-{name}.png")));
        }
    }
    assert_no_page_errors(&browser, &endpoint);
}

#[test]
fn the_page_shows_the_data() {
    let Some(mut browser) = ChromeBrowser::start() else { return };
    let endpoint = TestEndpoint::serving(full_snapshot());
    browser.navigate(&endpoint.url("/?source=work"));

    assert!(browser.text("#summary").contains("old: the credential is refused"));
    assert!(browser.text("#source-work").contains("10,204 of 81,113"));
    assert!(browser.text("#source-home").contains("14:09 (in 4 min)"));
    assert!(browser.text("#providers").contains("severe 0.72"));
    assert!(browser.text("#source-detail").contains("403 Forbidden"));
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
    // Text of a server is escaped, so it is neither an image nor a script.
    assert_eq!(browser.evaluate("document.images.length"), 0);
    assert!(browser.text("#source-detail").contains("<img src=x onerror=alert(1)>"));
    assert_no_page_errors(&browser, &endpoint);
}

#[test]
fn live_updates_keep_the_users_state() {
    let Some(mut browser) = ChromeBrowser::start() else { return };
    let endpoint = TestEndpoint::serving(full_snapshot());
    browser.navigate(&endpoint.url("/"));
    browser.wait_until(LIVE_CONDITION);
    browser.evaluate("document.getElementById('checks-healthy').open = true");
    browser.evaluate("document.getElementById('source-work.link').focus()");

    endpoint.data.update(|snapshot| {
        let work = snapshot.sources.iter_mut().find(|source| source.name == "work");
        work.expect("the source exists").settled = 10_300;
        snapshot.health.findings.pop();
        snapshot.health.level = HealthLevel::Warning;
        snapshot.health.summary = "the state improves".to_owned();
    });

    browser.wait_until("document.getElementById('source-work').innerText.includes('10,300')");
    browser
        .wait_until("document.getElementById('summary').innerText.includes('the state improves')");
    browser.wait_until("!document.getElementById('checks').innerText.includes('journal')");
    assert_eq!(browser.evaluate("document.title"), "WARNING · Cynosure");
    assert_eq!(browser.evaluate("document.getElementById('checks-healthy').open"), true);
    assert_eq!(browser.evaluate("document.activeElement.id"), "source-work.link");

    endpoint.data.update(|snapshot| snapshot.sources.push(source("fresh", "idle")));
    browser.wait_for("Page.loadEventFired");
    assert!(browser.text("#source-fresh").contains("idle"));
    assert_no_page_errors(&browser, &endpoint);
}

#[test]
fn a_lost_connection_is_shown() {
    let Some(mut browser) = ChromeBrowser::start() else { return };
    let endpoint = TestEndpoint::serving(healthy_snapshot());
    browser.navigate(&endpoint.url("/"));
    browser.wait_until(LIVE_CONDITION);

    endpoint.server.shut_down();

    browser.wait_until("document.querySelector('#live').textContent.startsWith('not live since ')");
}

#[test]
fn changes_during_a_disconnect_are_shown() {
    let Some(mut browser) = ChromeBrowser::start() else { return };
    let mut endpoint = TestEndpoint::serving(full_snapshot());
    browser.navigate(&endpoint.url("/"));
    browser.wait_until(LIVE_CONDITION);

    for (change, expected) in [("removed", false), ("added", true)] {
        endpoint = endpoint.restart_with(|snapshot| match change {
            "added" => snapshot.sources.push(source("home", "idle")),
            _ => snapshot.sources.retain(|source| source.name != "home"),
        });

        browser.wait_for("Page.loadEventFired");
        browser.wait_until(LIVE_CONDITION);
        let is_shown = browser.evaluate("document.getElementById('source-home') !== null");
        assert_eq!(is_shown, expected, "{change}");
    }
}

#[test]
fn every_control_is_reachable_by_keyboard() {
    let Some(mut browser) = ChromeBrowser::start() else { return };
    let endpoint = TestEndpoint::serving(full_snapshot());
    browser.navigate(&endpoint.url("/"));
    browser.wait_until(LIVE_CONDITION);
    let focused_expression = "document.activeElement.id || document.activeElement.textContent";

    browser.press("Tab");
    assert_eq!(browser.evaluate(focused_expression), "Skip to the content");
    let outline = browser.evaluate("getComputedStyle(document.activeElement).outlineStyle");
    assert_eq!(outline, "solid", "the focused element has no outline");
    let mut reached = Vec::new();
    while reached.last().is_none_or(|last| last != "filter-critical") && reached.len() < 60 {
        browser.press("Tab");
        reached.push(browser.evaluate(focused_expression).as_str().expect("it is text").to_owned());
    }
    for id in ["source-home.link", "source-work.link", "filter-all", "filter-critical"] {
        assert!(reached.iter().any(|reached| reached == id), "{id} is not among {reached:#?}");
    }

    let before = browser.evaluate("performance.timeOrigin");
    browser.press("Enter");
    browser.wait_until_loaded_after(&before);
    assert_eq!(browser.evaluate("location.search"), "?severity=critical");
    assert_eq!(browser.evaluate("document.querySelectorAll('#alerts li').length"), 2);
    assert_eq!(browser.evaluate("document.querySelector('[aria-current]').id"), "filter-critical");
}

#[test]
fn everything_has_an_accessible_name() {
    let Some(mut browser) = ChromeBrowser::start() else { return };
    let endpoint = TestEndpoint::serving(full_snapshot());
    browser.navigate(&endpoint.url("/?source=work"));

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
    assert!(named > 30, "only {named} nodes were checked");
    let levels =
        "[...document.querySelectorAll('h1,h2,h3,h4')].map((title) => Number(title.tagName[1]))";
    let skips_no_level = browser.evaluate(&format!(
        "{levels}.every((level, at, all) => at === 0 || level <= all[at - 1] + 1)"
    ));
    assert_eq!(skips_no_level, true, "a level of headings is skipped");
}

#[test]
fn the_page_works_without_a_script() {
    let Some(mut browser) = ChromeBrowser::start() else { return };
    let endpoint = TestEndpoint::serving(full_snapshot());
    browser.call("Emulation.setScriptExecutionDisabled", &serde_json::json!({ "value": true }));
    browser.navigate(&endpoint.url("/?severity=warning"));
    assert!(browser.text("#alerts").contains("filling up"));
    assert!(!browser.text("#alerts").contains("refused"));

    endpoint.data.update(|snapshot| snapshot.health.summary = "the data has changed".to_owned());

    // It reloads itself, with the same URL.
    browser.wait_for("Page.loadEventFired");
    assert!(browser.text("#summary").contains("the data has changed"));
    assert!(browser.text("#content").contains("10,204 of 81,113"));
    assert_no_page_errors(&browser, &endpoint);
}

#[test]
fn the_page_shows_two_hundred_sources() {
    let Some(mut browser) = ChromeBrowser::start() else { return };
    let endpoint = TestEndpoint::serving(snapshot_of_many_sources(200));
    browser.navigate(&endpoint.url("/"));
    browser.wait_until(LIVE_CONDITION);
    assert_eq!(browser.evaluate("document.querySelectorAll('.card').length"), 200);

    endpoint.data.update(|snapshot| {
        snapshot.at = NOW.after(std::time::Duration::from_secs(2));
        snapshot.sources[150].settled = 77_777;
    });

    browser.wait_until("document.getElementById('source-source-150').innerText.includes('77,777')");
    assert!(endpoint.data.snapshot_count() < 60, "an open page causes additional snapshots");
    assert_no_page_errors(&browser, &endpoint);
}
