//! Tests of the colour contrast, and of what the page loads.

use std::collections::BTreeMap;

use super::STYLESHEET;

/// Minimum contrast of text at level AA (WCAG 2.2, success criterion 1.4.3).
const CONTRAST_MIN: f64 = 4.5;

/// Text colours with their background colours.
const TEXT_COLOUR_PAIRS: [(&str, &str); 20] = [
    ("text", "background"),
    ("text", "card"),
    ("text-dim", "background"),
    ("text-dim", "card"),
    ("link", "background"),
    ("link", "card"),
    ("good-text", "good-background"),
    ("fair-text", "fair-background"),
    ("bad-text", "bad-background"),
    ("info-text", "info-background"),
    ("dim-text", "dim-background"),
    ("healthy-text", "healthy-background"),
    ("minor-text", "minor-background"),
    ("moderate-text", "moderate-background"),
    ("severe-text", "severe-background"),
    // The label of a circuit breaker is on a card.
    ("bad-text", "card"),
    ("fair-text", "card"),
    // The labels of a legend.
    ("text-dim", "background"),
    ("text-dim", "card"),
    ("text", "dim-background"),
];

/// Lines and bars with their background colours (1.4.11).
const GRAPHIC_COLOUR_PAIRS: [(&str, &str); 3] =
    [("line", "card"), ("line", "background"), ("link", "card")];

/// Returns the colours of the light scheme, and the same overridden by the dark scheme.
fn colour_schemes() -> [BTreeMap<&'static str, [f64; 3]>; 2] {
    let (light, dark) =
        STYLESHEET.split_once("prefers-color-scheme: dark").expect("there is a dark scheme");
    let light = parse_colours(light);
    let mut merged = light.clone();
    merged.extend(parse_colours(dark));
    [light, merged]
}

fn parse_colours(css: &'static str) -> BTreeMap<&'static str, [f64; 3]> {
    let lines = css.lines().filter_map(|line| line.trim().strip_prefix("--"));
    let entries = lines.filter_map(|line| line.trim_end_matches(';').split_once(": #"));
    entries
        .filter(|(_, hex)| hex.len() == 6)
        .map(|(name, hex)| {
            let channel = |start: usize| {
                f64::from(u8::from_str_radix(&hex[start..start + 2], 16).expect("hexadecimal"))
            };
            (name, [channel(0), channel(2), channel(4)])
        })
        .collect()
}

/// Returns the relative luminance of a colour, as defined by WCAG.
fn luminance(colour: [f64; 3]) -> f64 {
    let linear = |channel: f64| {
        let channel = channel / 255.0;
        if channel <= 0.04045 { channel / 12.92 } else { ((channel + 0.055) / 1.055).powf(2.4) }
    };
    let [red, green, blue] = colour.map(linear);
    0.2126 * red + 0.7152 * green + 0.0722 * blue
}

fn contrast(one: [f64; 3], other: [f64; 3]) -> f64 {
    let (one, other) = (luminance(one), luminance(other));
    (one.max(other) + 0.05) / (one.min(other) + 0.05)
}

#[test]
fn text_contrast_is_enough_in_both_colour_schemes() {
    assert!((contrast([0.0; 3], [255.0; 3]) - 21.0).abs() < 1e-9);
    for (scheme, name) in colour_schemes().iter().zip(["light", "dark"]) {
        assert_eq!(scheme.len(), 25, "{name}");
        for (text, background) in TEXT_COLOUR_PAIRS {
            let contrast = contrast(scheme[text], scheme[background]);
            assert!(contrast >= CONTRAST_MIN, "{name}: {text} on {background} has {contrast:.2}");
        }
        for (line, background) in GRAPHIC_COLOUR_PAIRS {
            let contrast = contrast(scheme[line], scheme[background]);
            assert!(contrast >= 3.0, "{name}: {line} on {background} has {contrast:.2}");
        }
    }
}

#[test]
fn the_page_loads_nothing_from_other_hosts() {
    for text in [STYLESHEET, super::SCRIPT] {
        for pattern in ["http://", "https://", "@import", "url(", "eval("] {
            assert!(!text.contains(pattern), "{pattern}");
        }
    }
}
