//! Health of the providers, from the findings about their sources.

use crate::health::degradation::{
    ProviderHealth, ProviderInputs, SourceHealth, SourceInput, evaluate,
};
use crate::health::finding::SESSION_TOO_LONG;
use crate::health::{
    CheckKind, Finding, HealthCheckReport, HealthInputs, HealthLevel, SourceObservation,
};

/// Evaluates every provider that has a source, from the inputs and their report; sorted by name.
#[must_use]
pub fn evaluate_providers(
    inputs: &HealthInputs,
    report: &HealthCheckReport,
) -> Vec<ProviderHealth> {
    let breakers = inputs.breakers.iter().flatten();
    let p95 = |source: &SourceObservation| {
        Some((source.provider.clone(), source.known_counters()?.p95_latency?))
    };
    let provider_inputs = ProviderInputs {
        breaker_states: breakers.map(|breaker| (breaker.name.clone(), breaker.state)).collect(),
        p95_latencies: inputs.sources.iter().filter_map(p95).collect(),
    };
    evaluate(&source_inputs(inputs, report), &provider_inputs)
}

/// Returns the health of each source according to the report, as input for the degradation of its
/// provider.
pub(super) fn source_inputs(inputs: &HealthInputs, report: &HealthCheckReport) -> Vec<SourceInput> {
    let health = |source: &SourceObservation| {
        let is_shared =
            |finding: &Finding| finding.subject.is_empty() && finding.check == CheckKind::Sources;
        let is_relevant = |finding: &&Finding| finding.subject == source.name || is_shared(finding);
        let findings = report.findings.iter().filter(is_relevant);
        // A late heartbeat may be caused by this host, and a large mailbox takes long.
        let counted = findings.filter(|finding| {
            finding.check != CheckKind::Heartbeat && finding.kind != SESSION_TOO_LONG
        });
        match counted.map(|finding| finding.level).max() {
            Some(HealthLevel::Critical) => SourceHealth::Failed,
            Some(HealthLevel::Warning | HealthLevel::Unknown) => SourceHealth::Degraded,
            Some(HealthLevel::Healthy | HealthLevel::Skipped) | None => SourceHealth::Healthy,
        }
    };
    let to_input = |source: &SourceObservation| SourceInput {
        provider: source.provider.clone(),
        health: health(source),
        success_rate: source.known_counters().and_then(|counters| counters.success_rate),
    };
    inputs.sources.iter().map(to_input).collect()
}
