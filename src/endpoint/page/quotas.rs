//! Rate and quota over time.

use maud::{Markup, html};

use super::table::data_table;
use super::{badge, chart};
use crate::endpoint::view::{QuotaView, Snapshot, TrendView};
use crate::engine::Timestamp;
use crate::engine::time_series::TimeSeries;
use crate::human::{EMPTY_CELL, format_rate};

/// Lines of each kind that are drawn here: other sources are seen from near, other quotas in the table.
const CHARTS_MAX: usize = 6;

pub(super) fn trend_charts(snapshot: &Snapshot) -> Markup {
    let rates = &snapshot.trends.rates;
    let known =
        snapshot.sources.iter().filter_map(|source| Some((source, rates.get(&source.name)?)));
    let lines = &snapshot.trends.quotas;
    let told = snapshot.quotas.iter().filter_map(|quota| Some((quota, lines.get(&quota.scope)?)));
    let told: Vec<(&QuotaView, &TrendView)> = told.collect();
    html! {
        section #trends aria-labelledby="trends-title" {
            h2 #trends-title { "Rate and quota over time" }
            @if rates.is_empty() && snapshot.quotas.is_empty() {
                p .note { "Nothing was measured yet." }
            }
            @if let Some(why) = &snapshot.trends.day_error {
                p .note { "The last day is missing: " (why) }
            }
            div .charts {
                @for (source, trend) in known.take(CHARTS_MAX) {
                    (chart::line_chart(preferred_series(trend, snapshot.at), snapshot.at, "items per second", &format!("{}: items per second", source.name)))
                }
                @for (quota, trend) in told.iter().take(CHARTS_MAX) {
                    (chart::line_chart(preferred_series(trend, snapshot.at), snapshot.at, "requests left", &format!("{}: requests left", quota.scope)))
                }
            }
            @if rates.len() > CHARTS_MAX {
                p .note { "The first " (CHARTS_MAX) " of " (rates.len()) " sources; the name on a card shows any of them from near." }
            }
            @if told.len() > CHARTS_MAX {
                p .note { "The first " (CHARTS_MAX) " of " (told.len()) " quotas; " a href="api/trends" { "all as JSON" } }
            }
            @if !snapshot.quotas.is_empty() { (quota_table(snapshot)) }
        }
    }
}

/// The day, once an hour of it is known; before that the last half hour says more.
fn preferred_series(trend: &TrendView, now: Timestamp) -> &TimeSeries {
    const STEPS_MIN: usize = 6;
    let known = trend.day.samples_until(now).iter().flatten().count();
    if known < STEPS_MIN { &trend.recent } else { &trend.day }
}

fn quota_table(snapshot: &Snapshot) -> Markup {
    let rows: Vec<_> = snapshot.quotas.iter().map(|quota| quota_row(quota, snapshot)).collect();
    data_table("Quotas", &["Quota", "Rate", "As", "Left", "Gate"], &rows)
}

fn quota_row(quota: &QuotaView, snapshot: &Snapshot) -> Vec<Markup> {
    let is_held = quota.blocked_until.is_some_and(|until| until > snapshot.at);
    let rate = quota.rate_per_second.map_or_else(|| EMPTY_CELL.to_owned(), format_rate);
    let left = quota.remaining.map_or_else(|| EMPTY_CELL.to_owned(), |left| left.to_string());
    vec![
        html! { (quota.scope) },
        html! { span .figure { (rate) } },
        html! { (quota.rate_source) },
        html! { (left) },
        html! { @if is_held { (badge::badge("fair", "◷", "held")) " " } (quota.block_status) },
    ]
}
