//! Results of the simulations, as a table, a chart and JSON.

use std::time::Duration;

use cynosure_engine::{format_count, format_duration};
use cynosure_lab::plot::{Chart, PlotSeries};
use cynosure_lab::simulate::{Scenario, SimulationResult, StopCondition};
use serde::Serialize;

use crate::cli::table::table;
use crate::human::{EMPTY_CELL, pluralize};

pub(super) struct SimulationReport {
    pub(super) name: String,
    pub(super) scenario: Scenario,
    /// Notes about the origin of the scenario, a sentence each.
    pub(super) notes: Vec<String>,
    /// Result of the policy, and of the one that it is compared with.
    pub(super) results: [PolicyResult; 2],
    /// Time that each sample covers.
    pub(super) sample_interval: Duration,
}

/// Result of one policy.
pub(super) struct PolicyResult {
    pub(super) name: String,
    /// Maximum number of requests in flight.
    pub(super) workers: u32,
    pub(super) result: SimulationResult,
}

/// Output of `simulate --json`.
#[derive(Serialize)]
pub(super) struct SimulationJson<'a> {
    /// Name of the scenario.
    #[serde(rename = "scenario")]
    name: &'a str,
    #[serde(rename = "about")]
    description: &'a str,
    /// Units that the server grants in the long run.
    quota_per_second: f64,
    runs: Vec<RunJson<'a>>,
    /// Comparison of the policies, as text.
    verdict: &'a str,
}

/// Result of one policy.
#[derive(Serialize)]
struct RunJson<'a> {
    policy: &'a str,
    /// Maximum number of requests in flight.
    #[serde(rename = "in_flight")]
    workers: u32,
    #[serde(rename = "seconds")]
    duration_seconds: f64,
    #[serde(rename = "finished")]
    is_finished: bool,
    #[serde(rename = "done")]
    accepted_requests: u64,
    /// Accepted units as a fraction of those granted; can exceed 1 by up to one window.
    #[serde(rename = "share_of_quota")]
    utilization: f64,
    /// Requests rejected with 429.
    throttled: u64,
    /// Requests that failed for another reason.
    failed: u64,
    #[serde(rename = "during_outages")]
    requests_during_outage: u64,
}

impl SimulationReport {
    /// Returns a description of the scenario, and a table with a line for each policy.
    pub(super) fn summary_table(&self) -> String {
        let scenario = &self.scenario;
        let at_once = match self.results.each_ref().map(|policy| policy.workers) {
            [first, second] if first == second => format!("{first} at once"),
            [first, second] => format!("{first} and {second} at once"),
        };
        let quota = scenario.server.algorithm.granted_rate();
        let job = match scenario.stop_condition {
            StopCondition::Requests(requests) => format!(
                "{}, {at_once}. The quota is {quota}: {} at that pace.",
                pluralize(requests, "request"),
                format_duration(scenario.min_duration(requests))
            ),
            StopCondition::Elapsed(duration) => {
                format!(
                    "As many requests as possible in {}, {at_once}. The quota is {quota}.",
                    format_duration(duration)
                )
            }
        };
        let mut heading = format!("{}: {}\n{job}\n", self.name, scenario.description);
        for note in &self.notes {
            heading.push_str(&format!("{note}\n"));
        }
        let rows: Vec<Vec<String>> =
            self.results.iter().map(|policy| self.result_row(policy)).collect();
        format!(
            "{heading}\n{}",
            table(&["POLICY", "TIME", "DONE", "OF THE QUOTA", "429S", "IN OUTAGES"], &rows)
        )
    }

    fn result_row(&self, PolicyResult { name, result, .. }: &PolicyResult) -> Vec<String> {
        let in_outages = if self.scenario.server.outages.is_empty() {
            EMPTY_CELL.to_owned()
        } else {
            format_count(result.requests_during_outage)
        };
        vec![
            name.clone(),
            self.duration_text(result),
            format_count(self.accepted_requests(result)),
            format_quota_share(result.utilization),
            format_count(result.throttled),
            in_outages,
        ]
    }

    /// Returns the duration, marked if the policy did not finish.
    fn duration_text(&self, result: &SimulationResult) -> String {
        match self.scenario.stop_condition {
            StopCondition::Requests(_) if !result.is_finished => {
                format!("given up after {}", format_duration(result.duration))
            }
            StopCondition::Requests(_) | StopCondition::Elapsed(_) => {
                format_duration(result.duration)
            }
        }
    }

    /// Returns the number of accepted requests.
    fn accepted_requests(&self, result: &SimulationResult) -> u64 {
        result.accepted / u64::from(self.scenario.weight.max(1))
    }

    pub(super) fn to_chart(&self) -> Chart {
        let series = self.results.iter().map(|PolicyResult { name, result, .. }| PlotSeries {
            name: name.clone(),
            subtitle: format!(
                "{} in {}, {} of the quota, {}",
                pluralize(self.accepted_requests(result), "request"),
                format_duration(result.duration),
                format_quota_share(result.utilization),
                pluralize(result.throttled, "429")
            ),
            samples: result.samples.clone(),
            sample_interval: self.sample_interval,
            end: result.duration,
        });
        let outages = self.scenario.server.outages.iter();
        Chart {
            title: format!("{}: {}", self.name, self.scenario.description),
            series: series.collect(),
            quota: Some(self.scenario.server.algorithm.granted_rate()),
            outages: outages.map(|outage| outage.start..outage.start + outage.duration).collect(),
        }
    }

    pub(super) fn to_json<'a>(&'a self, verdict: &'a str) -> SimulationJson<'a> {
        let runs = self.results.iter().map(|PolicyResult { name, workers, result }| RunJson {
            policy: name,
            workers: *workers,
            duration_seconds: result.duration.as_secs_f64(),
            is_finished: result.is_finished,
            accepted_requests: self.accepted_requests(result),
            utilization: result.utilization,
            throttled: result.throttled,
            failed: result.failed,
            requests_during_outage: result.requests_during_outage,
        });
        SimulationJson {
            name: &self.name,
            description: &self.scenario.description,
            quota_per_second: self.scenario.server.algorithm.granted_rate().get(),
            runs: runs.collect(),
            verdict,
        }
    }
}

/// Formats a share of the quota in per cent, at most 100. The share can exceed 1, because a
/// simulation that begins or ends within a window can use that window's whole quota.
pub(super) fn format_quota_share(share: f64) -> String {
    let percent = (share.min(1.0) * 1000.0).floor() / 10.0;
    format!("{percent} %")
}
