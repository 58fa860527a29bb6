//! Evaluation of a unit by the monitor: findings and restart decision.

use cynosure_engine::health::{Finding, HealthLevel};
use cynosure_engine::{Failure, RestartPermit, Timestamp};

use crate::systemd::{BusError, UnitName};

/// Evaluation of one unit and its sources.
#[derive(Debug)]
pub struct UnitEvaluation {
    pub unit: UnitName,
    /// The first is about the unit, the others are about its sources.
    pub findings: Vec<Finding>,
    pub action: RestartAction,
}

/// Restart decision for a unit.
#[derive(Debug)]
pub enum RestartAction {
    /// No restart is needed.
    None,
    /// A restart would help, but the policy denies it.
    Denied,
    /// A restart would help, but it cannot be counted.
    BudgetUnavailable { failure: Failure },
    /// systemd accepted the restart request.
    Requested { permit: RestartPermit, reason: String },
    /// The last restart is too recent, so this one has to wait.
    Delayed { not_before: Timestamp, reason: String },
    /// systemd rejected the restart request.
    Rejected { error: BusError, reason: String },
}

impl UnitEvaluation {
    /// Returns the findings of all units.
    pub fn all_findings(units: &[Self]) -> impl Iterator<Item = &Finding> {
        units.iter().flat_map(|evaluation| &evaluation.findings)
    }

    /// Returns the worst level of all units.
    #[must_use]
    pub fn worst_level(units: &[Self]) -> HealthLevel {
        HealthLevel::worst(units.iter().map(|evaluation| {
            HealthLevel::worst(evaluation.findings.iter().map(|finding| finding.level))
        }))
    }
}
