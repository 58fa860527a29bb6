//! The colours can be told from each other, by those who see them and those who see less.

use std::collections::BTreeMap;

use super::STYLESHEET;

/// WCAG 2.2, success criterion 1.4.3: the contrast of text at level AA.
const CONTRAST_MIN: f64 = 4.5;

/// What is written on what.
const TEXT_COLOUR_PAIRS: [(&str, &str); 20] = [
    ("ink", "ground"),
    ("ink", "card"),
    ("ink-dim", "ground"),
    ("ink-dim", "card"),
    ("link", "ground"),
    ("link", "card"),
    ("good-ink", "good-ground"),
    ("fair-ink", "fair-ground"),
    ("bad-ink", "bad-ground"),
    ("info-ink", "info-ground"),
    ("dim-ink", "dim-ground"),
    ("healthy-ink", "healthy-ground"),
    ("minor-ink", "minor-ground"),
    ("moderate-ink", "moderate-ground"),
    ("severe-ink", "severe-ground"),
    // The words beside a breaker stand on a card.
    ("bad-ink", "card"),
    ("fair-ink", "card"),
    // What a legend says of its signs.
    ("ink-dim", "ground"),
    ("ink-dim", "card"),
    ("ink", "dim-ground"),
];

/// A line or a bar beside what it stands on (1.4.11).
const GRAPHIC_COLOUR_PAIRS: [(&str, &str); 3] =
    [("line", "card"), ("line", "ground"), ("link", "card")];

/// The colours of the light scheme, and of the dark one laid over it.
fn colour_schemes() -> [BTreeMap<&'static str, [f64; 3]>; 2] {
    let (light, dark) =
        STYLESHEET.split_once("prefers-color-scheme: dark").expect("there is a dark scheme");
    let light = parse_colours(light);
    let mut both = light.clone();
    both.extend(parse_colours(dark));
    [light, both]
}

fn parse_colours(css: &'static str) -> BTreeMap<&'static str, [f64; 3]> {
    let lines = css.lines().filter_map(|line| line.trim().strip_prefix("--"));
    let entries = lines.filter_map(|line| line.trim_end_matches(';').split_once(": #"));
    entries
        .filter(|(_, hex)| hex.len() == 6)
        .map(|(name, hex)| {
            let part = |at: usize| {
                f64::from(u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal"))
            };
            (name, [part(0), part(2), part(4)])
        })
        .collect()
}

/// The relative luminance of a colour, as WCAG defines it.
fn luminance(colour: [f64; 3]) -> f64 {
    let linear = |part: f64| {
        let part = part / 255.0;
        if part <= 0.04045 { part / 12.92 } else { ((part + 0.055) / 1.055).powf(2.4) }
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
        for (ink, ground) in TEXT_COLOUR_PAIRS {
            let contrast = contrast(scheme[ink], scheme[ground]);
            assert!(contrast >= CONTRAST_MIN, "{name}: {ink} on {ground} has {contrast:.2}");
        }
        for (line, ground) in GRAPHIC_COLOUR_PAIRS {
            let contrast = contrast(scheme[line], scheme[ground]);
            assert!(contrast >= 3.0, "{name}: {line} on {ground} has {contrast:.2}");
        }
    }
}

#[test]
fn the_page_loads_nothing_from_other_hosts() {
    for text in [STYLESHEET, super::SCRIPT] {
        for word in ["http://", "https://", "@import", "url(", "eval("] {
            assert!(!text.contains(word), "{word}");
        }
    }
}
