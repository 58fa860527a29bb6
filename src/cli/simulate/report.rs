//! What came of the rehearsals, as a table, a chart and JSON.

use std::time::Duration;

use serde_json::{Value, json};

use crate::cli::plot::{Chart, PlotSeries};
use crate::cli::simulate::comparison::compare;
use crate::cli::table::table;
use crate::human::{EMPTY_CELL, format_count, format_duration, pluralize};
use crate::simulate::{Scenario, SimulationResult, StopCondition};

pub(super) struct SimulationReport {
    pub(super) name: String,
    pub(super) scenario: Scenario,
    /// How the scenario came about, where that needs telling.
    pub(super) notes: Vec<String>,
    /// The policy in question, and the one it is compared with.
    pub(super) results: [PolicyResult; 2],
    /// The time that each sample covers.
    pub(super) sample_interval: Duration,
}

/// What came of one policy.
pub(super) struct PolicyResult {
    pub(super) name: String,
    /// Requests side by side at most.
    pub(super) workers: u32,
    pub(super) result: SimulationResult,
}

impl SimulationReport {
    /// What is rehearsed, and what came of it, a line for each policy.
    pub(super) fn summary_table(&self) -> String {
        let scenario = &self.scenario;
        let at_once = match self.results.each_ref().map(|run| run.workers) {
            [ours, theirs] if ours == theirs => format!("{ours} at once"),
            [ours, theirs] => format!("{ours} and {theirs} at once"),
        };
        let quota = scenario.server.algorithm.granted_rate();
        let job = match scenario.stop_condition {
            StopCondition::Requests(requests) => format!(
                "{}, {at_once}. The quota is {quota}: {} at that pace.",
                pluralize(requests, "request"),
                format_duration(scenario.min_duration(requests))
            ),
            StopCondition::Elapsed(lasts) => {
                format!(
                    "As many requests as {} allow, {at_once}. The quota is {quota}.",
                    format_duration(lasts)
                )
            }
        };
        let mut head = format!("{}: {}\n{job}\n", self.name, scenario.description);
        for line in &self.notes {
            head.push_str(&format!("{line}\n"));
        }
        let rows: Vec<Vec<String>> = self.results.iter().map(|run| self.result_row(run)).collect();
        format!(
            "{head}\n{}",
            table(&["POLICY", "TIME", "DONE", "OF THE QUOTA", "429S", "IN OUTAGES"], &rows)
        )
    }

    fn result_row(&self, PolicyResult { name, result: outcome, .. }: &PolicyResult) -> Vec<String> {
        let in_outages = if self.scenario.server.outages.is_empty() {
            EMPTY_CELL.to_owned()
        } else {
            format_count(outcome.requests_during_outage)
        };
        vec![
            name.clone(),
            self.duration_text(outcome),
            format_count(self.accepted_requests(outcome)),
            format_percent(outcome.utilization),
            format_count(outcome.throttled),
            in_outages,
        ]
    }

    /// How long it took, or that it was given up.
    fn duration_text(&self, outcome: &SimulationResult) -> String {
        match self.scenario.stop_condition {
            StopCondition::Requests(_) if !outcome.is_finished => {
                format!("given up after {}", format_duration(outcome.duration))
            }
            StopCondition::Requests(_) | StopCondition::Elapsed(_) => {
                format_duration(outcome.duration)
            }
        }
    }

    /// Requests answered well.
    fn accepted_requests(&self, outcome: &SimulationResult) -> u64 {
        outcome.accepted / u64::from(self.scenario.weight.max(1))
    }

    pub(super) fn to_chart(&self) -> Chart {
        let runs =
            self.results.iter().map(|PolicyResult { name, result: outcome, .. }| PlotSeries {
                name: name.clone(),
                subtitle: format!(
                    "{} in {}, {} of the quota, {}",
                    pluralize(self.accepted_requests(outcome), "request"),
                    format_duration(outcome.duration),
                    format_percent(outcome.utilization),
                    pluralize(outcome.throttled, "429")
                ),
                samples: outcome.samples.clone(),
                sample_interval: self.sample_interval,
                end: outcome.duration,
            });
        let outages = self.scenario.server.outages.iter();
        Chart {
            title: format!("{}: {}", self.name, self.scenario.description),
            series: runs.collect(),
            quota: Some(self.scenario.server.algorithm.granted_rate()),
            outages: outages.map(|outage| outage.start..outage.start + outage.duration).collect(),
        }
    }

    pub(super) fn to_json(&self) -> Value {
        let runs = self.results.iter().map(|PolicyResult { name, workers, result: outcome }| {
            json!({
                "policy": name,
                "in_flight": workers,
                "seconds": outcome.duration.as_secs_f64(),
                "finished": outcome.is_finished,
                "done": self.accepted_requests(outcome),
                "share_of_quota": outcome.utilization,
                "throttled": outcome.throttled,
                "failed": outcome.failed,
                "during_outages": outcome.requests_during_outage,
            })
        });
        json!({
            "scenario": self.name,
            "about": self.scenario.description,
            "quota_per_second": self.scenario.server.algorithm.granted_rate().get(),
            "runs": runs.collect::<Vec<_>>(),
            "verdict": compare(self),
        })
    }
}

/// A share of the quota in per cent. Who begins and ends within a window can get more than its share of it,
/// which is all that there is.
pub(super) fn format_percent(share: f64) -> String {
    let percent = (share.min(1.0) * 1000.0).floor() / 10.0;
    format!("{percent} %")
}
