//! SVG elements of the plots, each written on one line.

use std::ops::Range;

/// Alignment of a text relative to its x coordinate.
#[derive(Clone, Copy, Debug)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

pub(super) fn path(class: &str, steps: &str) -> String {
    format!("<path class=\"{class}\" d=\"{steps}\"/>\n")
}

pub(super) fn rect(class: &str, x: Range<f64>, y: Range<f64>) -> String {
    translucent_rect(class, x, y, 1.0)
}

/// Returns a rectangle with the given opacity, from 0 to 1.
pub(super) fn translucent_rect(class: &str, x: Range<f64>, y: Range<f64>, opacity: f64) -> String {
    let (width, height) = (x.end - x.start, y.end - y.start);
    let opacity =
        if opacity < 1.0 { format!(" fill-opacity=\"{opacity}\"") } else { String::new() };
    let (x, y) = (x.start, y.start);
    format!(
        "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y}\" width=\"{width:.1}\" height=\"{height}\"{opacity}/>\n"
    )
}

/// Returns a line of text with its baseline at `y`.
pub(super) fn text(class: &str, anchor: Anchor, [x, y]: [f64; 2], text: &str) -> String {
    let anchor = match anchor {
        Anchor::Start => "start",
        Anchor::Middle => "middle",
        Anchor::End => "end",
    };
    let text = escape_xml(text);
    format!(
        "<text class=\"{class}\" text-anchor=\"{anchor}\" x=\"{x:.1}\" y=\"{y:.1}\">{text}</text>\n"
    )
}

pub(super) fn escape_xml(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
