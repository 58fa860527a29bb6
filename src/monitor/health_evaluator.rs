//! Health evaluation: collects the inputs, evaluates them, publishes the report and queues
//! notifications.

use std::collections::BTreeMap;

use cynosure_engine::alert::{Notification, Observation, correlate};
use cynosure_engine::health::degradation::ProviderHealth;
use cynosure_engine::health::{
    Finding, HealthCheckReport, HealthLimits, HostMetrics, SourceObservation, evaluate,
    evaluate_providers,
};
use cynosure_engine::{Failure, Timestamp};

use crate::monitor::alert_delivery::AlertDelivery;
use crate::monitor::collect::{CollectConfig, Collectors};
use crate::monitor::health_files::HealthFiles;
use crate::monitor::status_collector::SourceStates;
use crate::notify::journal;

/// Health evaluator with its collection settings and limits.
#[derive(Debug)]
pub struct HealthEvaluator {
    pub config: CollectConfig,
    pub limits: HealthLimits,
}

/// Result of one health evaluation.
#[derive(Clone, Debug)]
pub struct HealthSnapshot {
    pub report: HealthCheckReport,
    pub providers: Vec<ProviderHealth>,
    /// Metrics of the host, if it could be measured.
    pub system: Option<HostMetrics>,
    observation: Observation,
    /// Number of completed sessions by source.
    sessions_completed: BTreeMap<String, u64>,
}

impl HealthEvaluator {
    /// Collects and evaluates, and changes nothing. `states` and `findings` are those of a monitor
    /// cycle. Blocks for a few times `config.timeout` at most.
    #[must_use]
    pub fn evaluate(
        &self,
        collectors: &Collectors,
        states: SourceStates,
        findings: Vec<Finding>,
        now: Timestamp,
    ) -> HealthSnapshot {
        let inputs = collectors.collect_all(&self.config, states, findings, now);
        let report = evaluate(&inputs, &self.limits, now);
        let providers = evaluate_providers(&inputs, &report);
        let completed = inputs
            .sources
            .iter()
            .filter_map(|source| Some((source.name.clone(), sessions_completed(source)?)));
        HealthSnapshot {
            observation: correlate(&inputs, &report),
            sessions_completed: completed.collect(),
            system: inputs.system.clone().ok(),
            report,
            providers,
        }
    }

    /// Writes the report to the state folder, for all readers.
    ///
    /// # Errors
    /// A storage failure.
    pub fn publish(&self, snapshot: &HealthSnapshot, now: Timestamp) -> Result<(), Failure> {
        let HealthSnapshot { report, providers, system, .. } = snapshot;
        let files = HealthFiles::new(&self.config.state_dir);
        files.publish(report.clone(), providers.clone(), system.clone(), now)
    }

    /// Sends notifications, one per cause: to the log immediately, to other channels as soon as
    /// they accept them.
    ///
    /// # Errors
    /// A storage failure; then nothing is stored as notified, and the next evaluation notifies.
    pub fn notify(
        &self,
        snapshot: &HealthSnapshot,
        delivery: &AlertDelivery,
        now: Timestamp,
    ) -> Result<Vec<Notification>, Failure> {
        let mut observation = snapshot.observation.clone();
        observation.findings.extend(delivery.channel_findings(now)?);
        observation.known_subjects.extend(delivery.channel_names());
        let files = HealthFiles::new(&self.config.state_dir);
        let enqueue = |notifications: &[Notification]| {
            delivery.enqueue(notifications, &snapshot.sessions_completed, now)
        };
        let notifications = files.update_alerts(&observation, enqueue, now)?;
        notifications.iter().for_each(journal::log_notification);
        Ok(notifications)
    }
}

/// Returns the completed sessions; `None` if the counters are unreadable. A source without counters
/// has completed 0 sessions, so that its first completed session is detected.
fn sessions_completed(source: &SourceObservation) -> Option<u64> {
    let counters = source.counters.as_ref().ok()?;
    Some(counters.map(|counters| counters.sessions_completed).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unreadable_counters_differ_from_zero_sessions() {
        use cynosure_engine::health::CounterObservation;

        let source = |counters| SourceObservation {
            name: "work".to_owned(),
            provider: "example".to_owned(),
            state: None,
            counters,
        };
        let counters =
            CounterObservation { sessions_completed: 7, ..CounterObservation::default() };

        assert_eq!(sessions_completed(&source(Ok(Some(counters)))), Some(7));
        assert_eq!(sessions_completed(&source(Ok(None))), Some(0));
        assert_eq!(sessions_completed(&source(Err("EOF".to_owned()))), None);
    }
}
