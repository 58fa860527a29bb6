//! Azure Monitor: health metrics and events for Application Insights, in the envelopes of its SDKs.
//!
//! The format is that of Breeze:
//! <https://github.com/microsoft/ApplicationInsights-Home/tree/master/EndpointSpecs>.

use std::collections::VecDeque;

use cynosure_engine::health::{HealthCheckReport, HealthLevel};
use cynosure_engine::{is_loopback_host, sanitize_line};
use serde_json::{Map, Value as Json, json};
use url::Url;

use crate::telemetry::{DeliveryStatus, MetricsSnapshot};

/// Endpoint for connection strings that contain none.
const DEFAULT_ENDPOINT: &str = "https://dc.services.visualstudio.com/";

const TRACK_PATH: &str = "v2.1/track";

/// Maximum number of findings in an event, the worst first.
const EVENT_FINDINGS_MAX: usize = 20;

/// Connection to a resource of Application Insights.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AzureConnection {
    /// URL that telemetry is posted to.
    pub track_url: Url,
    instrumentation_key: String,
}

/// Maximum number of undelivered events; beyond that, the oldest is dropped.
const PENDING_EVENTS_MAX: usize = 32;

/// Exporter that reports each change of the health level once, and keeps it until it is delivered.
#[derive(Clone, Debug, Default)]
pub struct AzureExporter {
    last_level: Option<HealthLevel>,
    /// Events that are not delivered yet, oldest first.
    pending_events: VecDeque<Json>,
    /// Number of pending events that are being delivered.
    in_flight: usize,
}

impl AzureConnection {
    /// Parses a connection string, `InstrumentationKey=…;IngestionEndpoint=https://…/`.
    ///
    /// # Errors
    /// One sentence, which does not quote the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (mut key, mut endpoint, mut suffix, mut location) = (None, None, None, None);
        for part in text.split(';').map(str::trim).filter(|part| !part.is_empty()) {
            let Some((name, value)) = part.split_once('=') else {
                return Err("it has a part without an equals sign".to_owned());
            };
            let value = Some(value.trim()).filter(|value| !value.is_empty());
            match name.trim().to_ascii_lowercase().as_str() {
                "instrumentationkey" => key = value,
                "ingestionendpoint" => endpoint = value,
                "endpointsuffix" => suffix = value,
                "location" => location = value,
                // LiveEndpoint, ApplicationId and others are not needed.
                _ => {}
            }
        }
        let Some(key) = key else { return Err("it has no InstrumentationKey".to_owned()) };
        let location_prefix = location.map(|location| format!("{location}.")).unwrap_or_default();
        let suffix_endpoint = suffix.map(|suffix| format!("https://{location_prefix}dc.{suffix}/"));
        let endpoint = endpoint.map(str::to_owned).or(suffix_endpoint);
        let mut endpoint = endpoint.unwrap_or_else(|| DEFAULT_ENDPOINT.to_owned());
        if !endpoint.ends_with('/') {
            endpoint.push('/');
        }
        let track_url = Url::parse(&endpoint).and_then(|base| base.join(TRACK_PATH));
        match track_url {
            Ok(track_url) if is_secure(&track_url) => {
                Ok(Self { track_url, instrumentation_key: key.to_owned() })
            }
            Ok(_) => Err("its IngestionEndpoint is not https".to_owned()),
            Err(_) => Err("its IngestionEndpoint is not a valid URL".to_owned()),
        }
    }
}

/// True for https, and for plain http to this machine only.
fn is_secure(url: &Url) -> bool {
    url.scheme() == "https"
        || (url.scheme() == "http" && url.host_str().is_some_and(is_loopback_host))
}

impl AzureExporter {
    /// Builds the current metrics, and an event if the health level has become warning or critical.
    /// Unknown values are left out. Undelivered events are included again until they are
    /// [acknowledged](Self::acknowledge), except while they are in flight.
    pub fn build_envelopes(
        &mut self,
        input: &MetricsSnapshot,
        connection: &AzureConnection,
    ) -> Vec<Json> {
        let metrics = health_metrics(input).into_iter().filter_map(|(name, value)| {
            let metric = json!({ "name": name, "value": value?, "count": 1 });
            let data = json!({ "ver": 2, "metrics": [metric], "properties": {} });
            Some(build_envelope(input, connection, "Metric", "MetricData", &data))
        });
        let mut envelopes: Vec<Json> = metrics.collect();
        if let Some(event) = self.level_change_event(input, connection) {
            if self.pending_events.len() >= PENDING_EVENTS_MAX {
                self.pending_events.pop_front();
                self.in_flight = self.in_flight.saturating_sub(1);
            }
            self.pending_events.push_back(event);
        }
        if self.in_flight == 0 {
            self.in_flight = self.pending_events.len();
            envelopes.extend(self.pending_events.iter().cloned());
        }
        envelopes
    }

    /// True while events are in flight, so that their delivery must be
    /// [acknowledged](Self::acknowledge).
    #[must_use]
    pub fn has_events_in_flight(&self) -> bool {
        self.in_flight > 0
    }

    /// Records the delivery status of the last envelopes that contained events.
    pub fn acknowledge(&mut self, delivery: DeliveryStatus) {
        match delivery {
            DeliveryStatus::Pending => return,
            DeliveryStatus::Delivered => drop(self.pending_events.drain(..self.in_flight)),
            DeliveryStatus::Dropped => {}
        }
        self.in_flight = 0;
    }

    fn level_change_event(
        &mut self,
        input: &MetricsSnapshot,
        connection: &AzureConnection,
    ) -> Option<Json> {
        let report = input.report.as_ref()?;
        if self.last_level.replace(report.level) == Some(report.level) {
            return None;
        }
        let name = match report.level {
            HealthLevel::Critical => "health_critical",
            HealthLevel::Warning => "health_warning",
            HealthLevel::Skipped | HealthLevel::Healthy | HealthLevel::Unknown => return None,
        };
        let data = json!({ "ver": 2, "name": name, "properties": failing_findings(report) });
        Some(build_envelope(input, connection, "Event", "EventData", &data))
    }
}

/// Returns the health metrics, each in the unit that its name says or in percent.
#[expect(clippy::cast_precision_loss, reason = "counts of restarts are small")]
fn health_metrics(input: &MetricsSnapshot) -> [(&'static str, Option<f64>); 5] {
    let system = input.system.as_ref();
    let disks = system.iter().flat_map(|system| &system.disks).map(|disk| disk.used_ratio * 100.0);
    // Of several units, one that is down must show.
    let active = input.units.iter().map(|unit| unit.is_active).reduce(|all, active| all && active);
    let restarts = input.units.iter().filter_map(|unit| unit.restarts).reduce(u64::saturating_add);
    [
        ("health.disk_usage", disks.reduce(f64::max)),
        (
            "health.memory_usage",
            system.and_then(|system| system.memory_ratio).map(|used| used * 100.0),
        ),
        ("health.heartbeat_age", max_heartbeat_age(input)),
        ("health.crash_count", restarts.map(|restarts| restarts as f64)),
        ("health.service_active", active.map(|active| f64::from(u8::from(active)))),
    ]
}

/// Returns the largest time since a worker last wrote its state, in seconds.
fn max_heartbeat_age(input: &MetricsSnapshot) -> Option<f64> {
    let states = input.sources.iter().filter_map(|source| source.state.as_ref());
    let ages = states.map(|state| input.taken_at.since(state.last_updated).as_secs_f64());
    ages.reduce(f64::max)
}

/// Returns the failing findings, one property for each.
fn failing_findings(report: &HealthCheckReport) -> Map<String, Json> {
    let mut findings: Vec<_> =
        report.findings.iter().filter(|finding| finding.level > HealthLevel::Healthy).collect();
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.level));
    let properties = findings.into_iter().take(EVENT_FINDINGS_MAX).map(|finding| {
        let key = format!("{} {}", finding.check.name(), finding.subject);
        (sanitize_line(key.trim_end()), Json::from(sanitize_line(&finding.message)))
    });
    properties.collect()
}

fn build_envelope(
    input: &MetricsSnapshot,
    connection: &AzureConnection,
    kind: &str,
    base_type: &str,
    data: &Json,
) -> Json {
    json!({
        "ver": 1,
        "name": format!("Microsoft.ApplicationInsights.{kind}"),
        "time": input.taken_at.to_string(),
        "iKey": connection.instrumentation_key,
        "tags": {
            "ai.cloud.role": "cynosure",
            "ai.application.ver": input.version,
            "ai.internal.sdkVersion": format!("cynosure:{}", input.version),
        },
        "data": { "baseType": base_type, "baseData": data },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_string_yields_the_track_url() {
        let track =
            |text| AzureConnection::parse(text).map(|connection| connection.track_url.to_string());
        let full = "InstrumentationKey=k; ingestionendpoint=https://we-5.in.example.com/;LiveEndpoint=https://l/";
        assert_eq!(track(full).as_deref(), Ok("https://we-5.in.example.com/v2.1/track"));
        let plain = "InstrumentationKey=k;IngestionEndpoint=http://127.0.0.1:9";
        assert_eq!(track(plain).as_deref(), Ok("http://127.0.0.1:9/v2.1/track"));
        let usual = "https://dc.services.visualstudio.com/v2.1/track";
        assert_eq!(track("InstrumentationKey=k;").as_deref(), Ok(usual));
        let suffix = "InstrumentationKey=k;EndpointSuffix=ai.example.com;Location=north";
        assert_eq!(track(suffix).as_deref(), Ok("https://north.dc.ai.example.com/v2.1/track"));
    }

    #[test]
    fn an_invalid_connection_string_is_rejected_unquoted() {
        for text in [
            "",
            "s3cret",
            "InstrumentationKey=",
            "IngestionEndpoint=https://s3cret/",
            "InstrumentationKey=s3cret;IngestionEndpoint=http://in.example.com/",
            "InstrumentationKey=s3cret;IngestionEndpoint=nowhere",
        ] {
            let reason = AzureConnection::parse(text).unwrap_err();
            assert!(!reason.contains("s3cret"), "{reason}");
        }
    }
}
