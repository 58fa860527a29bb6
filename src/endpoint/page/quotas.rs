//! Rates and quotas: charts over time, and a table of the quotas.

use cynosure_engine::Timestamp;
use cynosure_engine::time_series::TimeSeries;
use maud::{Markup, html};

use super::table::data_table;
use super::{badge, chart};
use crate::endpoint::view::{QuotaView, Snapshot, TrendView};
use crate::human::{EMPTY_CELL, format_rate};

/// Charts of each kind. The details of a source show its own chart; the table lists all quotas.
const CHARTS_MAX: usize = 6;

pub(super) fn trend_charts(snapshot: &Snapshot) -> Markup {
    let rates = &snapshot.trends.rates;
    let source_trends =
        snapshot.sources.iter().filter_map(|source| Some((source, rates.get(&source.name)?)));
    let quotas = &snapshot.trends.quotas;
    let quota_trends: Vec<(&QuotaView, &TrendView)> = snapshot
        .quotas
        .iter()
        .filter_map(|quota| Some((quota, quotas.get(&quota.scope)?)))
        .collect();
    html! {
        section #trends aria-labelledby="trends-title" {
            h2 #trends-title { "Rates and quotas" }
            @if rates.is_empty() && snapshot.quotas.is_empty() {
                p .note { "No data yet." }
            }
            @if let Some(reason) = &snapshot.trends.day_error {
                p .note { "The last day is missing: " (reason) }
            }
            div .charts {
                @for (source, trend) in source_trends.take(CHARTS_MAX) {
                    (chart::line_chart(preferred_series(trend, snapshot.at), snapshot.at, &chart::ITEMS_PER_SECOND, &format!("{}: items per second", source.name)))
                }
                @for (quota, trend) in quota_trends.iter().take(CHARTS_MAX) {
                    (chart::line_chart(preferred_series(trend, snapshot.at), snapshot.at, &chart::REQUESTS_LEFT, &format!("{}: requests left", quota.scope)))
                }
            }
            @if rates.len() > CHARTS_MAX {
                p .note { "The first " (CHARTS_MAX) " of " (rates.len()) " sources; the name on a card opens the details of its source." }
            }
            @if quota_trends.len() > CHARTS_MAX {
                p .note { "The first " (CHARTS_MAX) " of " (quota_trends.len()) " quotas; " a href="api/trends" { "all as JSON" } }
            }
            @if !snapshot.quotas.is_empty() { (quota_table(snapshot)) }
        }
    }
}

/// Returns the series of the last day if it has at least an hour of data, else the recent one.
fn preferred_series(trend: &TrendView, now: Timestamp) -> &TimeSeries {
    const STEPS_MIN: usize = 6;
    let samples = trend.day.values_until(now).iter().flatten().count();
    if samples < STEPS_MIN { &trend.recent } else { &trend.day }
}

fn quota_table(snapshot: &Snapshot) -> Markup {
    let rows: Vec<_> = snapshot.quotas.iter().map(|quota| quota_row(quota, snapshot)).collect();
    data_table("Quotas", &["Scope", "Rate", "Rate source", "Requests left", "Status"], &rows)
}

fn quota_row(quota: &QuotaView, snapshot: &Snapshot) -> Vec<Markup> {
    let is_blocked = quota.blocked_until.is_some_and(|until| until > snapshot.at);
    let rate = quota.rate_per_second.map_or_else(|| EMPTY_CELL.to_owned(), format_rate);
    let remaining =
        quota.remaining.map_or_else(|| EMPTY_CELL.to_owned(), |units| units.to_string());
    vec![
        html! { (quota.scope) },
        html! { span .rate { (rate) } },
        html! { (quota.rate_source) },
        html! { (remaining) },
        html! { @if is_blocked { (badge::badge("fair", "◷", "blocked")) " " } (quota.block_status) },
    ]
}
