//! The text format of Prometheus, version 0.0.4.
//!
//! <https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format>

use std::fmt::Display;

use crate::telemetry::{MetricFamily, MetricSeries, MetricValue, MetricsSnapshot, families};

/// Content type of the text in a response.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Returns all metrics in the text format.
#[must_use]
pub fn to_prometheus(input: &MetricsSnapshot) -> String {
    let mut out = String::new();
    for MetricFamily { name, help, kind, series } in families(input) {
        out.push_str(&format!("# HELP {name} {help}\n# TYPE {name} {}\n", kind.name()));
        series.iter().for_each(|series| write_series(&mut out, name, series));
    }
    out
}

fn write_series(out: &mut String, name: &str, MetricSeries { labels, value }: &MetricSeries) {
    match value {
        MetricValue::Number(number) => write_line(out, name, "", labels, None, number),
        MetricValue::Histogram { buckets, sum, .. } => {
            let mut cumulative = 0_u64;
            for (bound, count) in buckets {
                cumulative = cumulative.saturating_add(*count);
                write_line(out, name, "_bucket", labels, Some(&bound.to_string()), cumulative);
            }
            let count = value.count().unwrap_or(0);
            write_line(out, name, "_bucket", labels, Some("+Inf"), count);
            write_line(out, name, "_sum", labels, None, sum);
            write_line(out, name, "_count", labels, None, count);
        }
    }
}

fn write_line(
    out: &mut String,
    name: &str,
    suffix: &str,
    labels: &[(&'static str, String)],
    bound: Option<&str>,
    value: impl Display,
) {
    out.push_str(name);
    out.push_str(suffix);
    let labels = labels.iter().map(|(label, value)| (*label, value.as_str()));
    let mut separator = '{';
    for (label, value) in labels.chain(bound.map(|bound| ("le", bound))) {
        out.push(separator);
        out.push_str(label);
        out.push_str("=\"");
        escape(out, value);
        out.push('"');
        separator = ',';
    }
    if separator == ',' {
        out.push('}');
    }
    out.push_str(&format!(" {value}\n"));
}

fn escape(out: &mut String, value: &str) {
    for letter in value.chars() {
        match letter {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            letter => out.push(letter),
        }
    }
}
