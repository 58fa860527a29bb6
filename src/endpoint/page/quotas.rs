//! Rate and quota over time.

use maud::{Markup, html};

use super::{chart, mark};
use crate::endpoint::view::{Quota, Snapshot};
use crate::words::{NOTHING, rate};

/// Lines of rates that are drawn here: the others are seen from near.
const RATES_MAX: usize = 6;

pub(super) fn trends(snapshot: &Snapshot) -> Markup {
    let rates = &snapshot.trends.rates;
    let known =
        snapshot.sources.iter().filter_map(|source| Some((source, rates.get(&source.name)?)));
    html! {
        section #trends aria-labelledby="trends-title" {
            h2 #trends-title { "Rate and quota over time" }
            @if rates.is_empty() && snapshot.quotas.is_empty() {
                p .note { "Nothing was measured yet." }
            }
            div .charts {
                @for (source, trend) in known.take(RATES_MAX) {
                    (chart::line(&trend.day, snapshot.at, "items per second", &format!("{}: items per second", source.name)))
                }
                @for quota in &snapshot.quotas {
                    @if let Some(trend) = snapshot.trends.quotas.get(&quota.scope) {
                        (chart::line(&trend.recent, snapshot.at, "requests left", &format!("{}: requests left", quota.scope)))
                    }
                }
            }
            @if rates.len() > RATES_MAX {
                p .note { "The first " (RATES_MAX) " of " (rates.len()) " sources; the name on a card shows any of them from near." }
            }
            @if !snapshot.quotas.is_empty() { (table(snapshot)) }
        }
    }
}

fn table(snapshot: &Snapshot) -> Markup {
    html! {
        div .scroll tabindex="0" role="region" aria-label="Quotas" {
            table .list {
                thead { tr { th scope="col" { "Quota" } th scope="col" { "Rate" } th scope="col" { "As" } th scope="col" { "Left" } th scope="col" { "Gate" } } }
                tbody { @for quota in &snapshot.quotas { (row(quota, snapshot)) } }
            }
        }
    }
}

fn row(quota: &Quota, snapshot: &Snapshot) -> Markup {
    let is_held = quota.held_until.is_some_and(|until| until > snapshot.at);
    html! {
        tr {
            th scope="row" { (quota.scope) }
            td { (quota.rate_per_second.map_or_else(|| NOTHING.to_owned(), rate)) }
            td { (quota.basis) }
            td { (quota.remaining.map_or_else(|| NOTHING.to_owned(), |left| left.to_string())) }
            td {
                @if is_held { (mark::badge("fair", "◷", "held")) " " }
                (quota.gate)
            }
        }
    }
}
