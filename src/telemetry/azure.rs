//! Azure Monitor: metrics and events of health for Application Insights, in the envelopes of its SDKs.
//!
//! The shape is that of Breeze, <https://github.com/microsoft/ApplicationInsights-Home/tree/master/EndpointSpecs>.

use std::collections::VecDeque;

use serde_json::{Map, Value as Json, json};
use url::{Host, Url};

use crate::engine::health::HealthCheckReport;
use crate::engine::sanitize_line;
use crate::engine::watch::HealthLevel;
use crate::telemetry::{Delivery, Input};

/// Where telemetry goes when a connection string does not say.
const USUAL_ENDPOINT: &str = "https://dc.services.visualstudio.com/";

const TRACK_PATH: &str = "v2.1/track";

/// How many checks an event tells of, the worst first.
const CHECKS_MAX: usize = 20;

/// A resource of Application Insights.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Connection {
    /// Where to post.
    pub track: Url,
    key: String,
}

/// How many events wait for a receiver that takes none; then the oldest goes.
const EVENTS_MAX: usize = 32;

/// Follows the level of health, so that each change is told once, and until it is taken.
#[derive(Clone, Debug, Default)]
pub struct Azure {
    level: Option<HealthLevel>,
    /// Events that nobody took yet, the oldest first.
    untold: VecDeque<Json>,
    /// How many of them are on their way.
    under_way: usize,
}

impl Connection {
    /// Reads a connection string, `InstrumentationKey=…;IngestionEndpoint=https://…/`.
    ///
    /// # Errors
    /// One sentence, which does not quote it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (mut key, mut endpoint, mut suffix, mut location) = (None, None, None, None);
        for part in text.split(';').map(str::trim).filter(|part| !part.is_empty()) {
            let Some((name, value)) = part.split_once('=') else {
                return Err("it has a part without a sign of equality".to_owned());
            };
            let value = Some(value.trim()).filter(|value| !value.is_empty());
            match name.trim().to_ascii_lowercase().as_str() {
                "instrumentationkey" => key = value,
                "ingestionendpoint" => endpoint = value,
                "endpointsuffix" => suffix = value,
                "location" => location = value,
                // LiveEndpoint, ApplicationId and others of which we have no use.
                _ => {}
            }
        }
        let Some(key) = key else { return Err("it names no InstrumentationKey".to_owned()) };
        let place = location.map(|location| format!("{location}.")).unwrap_or_default();
        let of_suffix = suffix.map(|suffix| format!("https://{place}dc.{suffix}/"));
        let endpoint = endpoint.map(str::to_owned).or(of_suffix);
        let mut endpoint = endpoint.unwrap_or_else(|| USUAL_ENDPOINT.to_owned());
        if !endpoint.ends_with('/') {
            endpoint.push('/');
        }
        let track = Url::parse(&endpoint).and_then(|base| base.join(TRACK_PATH));
        match track {
            Ok(track) if is_safe(&track) => Ok(Self { track, key: key.to_owned() }),
            Ok(_) => Err("its IngestionEndpoint is not https".to_owned()),
            Err(_) => Err("its IngestionEndpoint is no address".to_owned()),
        }
    }
}

/// Plain http is for this machine only.
fn is_safe(url: &Url) -> bool {
    url.scheme() == "https" || (url.scheme() == "http" && is_loopback(url))
}

/// Whether it is on this machine.
pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

impl Azure {
    /// Writes the metrics of this moment, and an event when the level of health has come to be
    /// warning or critical. What is not known is left out. Events are in it again and again until
    /// they are [settled](Self::settle), but for those that are on their way.
    pub fn envelopes(&mut self, input: &Input, connection: &Connection) -> Vec<Json> {
        let metrics = metrics(input).into_iter().filter_map(|(name, value)| {
            let metric = json!({ "name": name, "value": value?, "count": 1 });
            let data = json!({ "ver": 2, "metrics": [metric], "properties": {} });
            Some(envelope(input, connection, "Metric", "MetricData", &data))
        });
        let mut envelopes: Vec<Json> = metrics.collect();
        if let Some(event) = self.event(input, connection) {
            if self.untold.len() >= EVENTS_MAX {
                self.untold.pop_front();
                self.under_way = self.under_way.saturating_sub(1);
            }
            self.untold.push_back(event);
        }
        if self.under_way == 0 {
            self.under_way = self.untold.len();
            envelopes.extend(self.untold.iter().cloned());
        }
        envelopes
    }

    /// Whether events are on their way, so that it is to be [settled](Self::settle) what becomes of
    /// them.
    #[must_use]
    pub fn has_events_under_way(&self) -> bool {
        self.under_way > 0
    }

    /// Takes in what became of the last envelopes that had events in them.
    pub fn settle(&mut self, delivery: Delivery) {
        match delivery {
            Delivery::UnderWay => return,
            Delivery::Done => drop(self.untold.drain(..self.under_way)),
            Delivery::Dropped => {}
        }
        self.under_way = 0;
    }

    fn event(&mut self, input: &Input, connection: &Connection) -> Option<Json> {
        let report = input.report.as_ref()?;
        if self.level.replace(report.level) == Some(report.level) {
            return None;
        }
        let name = match report.level {
            HealthLevel::Critical => "health_critical",
            HealthLevel::Warning => "health_warning",
            HealthLevel::Healthy | HealthLevel::Unknown => return None,
        };
        let data = json!({ "ver": 2, "name": name, "properties": amiss(report) });
        Some(envelope(input, connection, "Event", "EventData", &data))
    }
}

/// The metrics of health, each in the unit that its name says or in percent.
#[expect(clippy::cast_precision_loss, reason = "counts of restarts are small")]
fn metrics(input: &Input) -> [(&'static str, Option<f64>); 5] {
    let system = input.system.as_ref();
    let disks = system.iter().flat_map(|system| &system.disks).map(|disk| disk.used_ratio * 100.0);
    // Of several units, the one that is down is the one to be told of.
    let active = input.units.iter().map(|unit| unit.is_active).reduce(|all, is| all && is);
    let restarts = input.units.iter().filter_map(|unit| unit.restarts).reduce(u64::saturating_add);
    [
        ("health.disk_usage", disks.reduce(f64::max)),
        (
            "health.memory_usage",
            system.and_then(|system| system.memory_ratio).map(|used| used * 100.0),
        ),
        ("health.heartbeat_age", heartbeat_age(input)),
        ("health.crash_count", restarts.map(|restarts| restarts as f64)),
        ("health.service_active", active.map(|is| f64::from(u8::from(is)))),
    ]
}

/// Seconds since the worker that is silent for longest wrote its state.
fn heartbeat_age(input: &Input) -> Option<f64> {
    let standings = input.sources.iter().filter_map(|source| source.standing.as_ref());
    let ages = standings.map(|standing| input.at.since(standing.last_updated).as_secs_f64());
    ages.reduce(f64::max)
}

/// What is amiss, a property for each.
fn amiss(report: &HealthCheckReport) -> Map<String, Json> {
    let mut checks: Vec<_> =
        report.checks.iter().filter(|check| check.level != HealthLevel::Healthy).collect();
    checks.sort_by_key(|check| std::cmp::Reverse(check.level));
    let told = checks.into_iter().take(CHECKS_MAX).map(|check| {
        let key = format!("{} {}", check.kind.name(), check.subject);
        (sanitize_line(key.trim_end()), Json::from(sanitize_line(&check.message)))
    });
    told.collect()
}

fn envelope(input: &Input, to: &Connection, what: &str, base_type: &str, data: &Json) -> Json {
    json!({
        "ver": 1,
        "name": format!("Microsoft.ApplicationInsights.{what}"),
        "time": input.at.to_string(),
        "iKey": to.key,
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
    fn a_connection_string_says_where_to_post() {
        let track = |text| Connection::parse(text).map(|connection| connection.track.to_string());
        let here = "InstrumentationKey=k; ingestionendpoint=https://we-5.in.example.com/;LiveEndpoint=https://l/";
        assert_eq!(track(here).as_deref(), Ok("https://we-5.in.example.com/v2.1/track"));
        let plain = "InstrumentationKey=k;IngestionEndpoint=http://127.0.0.1:9";
        assert_eq!(track(plain).as_deref(), Ok("http://127.0.0.1:9/v2.1/track"));
        let usual = "https://dc.services.visualstudio.com/v2.1/track";
        assert_eq!(track("InstrumentationKey=k;").as_deref(), Ok(usual));
        let suffix = "InstrumentationKey=k;EndpointSuffix=ai.example.com;Location=north";
        assert_eq!(track(suffix).as_deref(), Ok("https://north.dc.ai.example.com/v2.1/track"));
    }

    #[test]
    fn a_connection_string_that_is_none_is_refused_and_not_quoted() {
        for text in [
            "",
            "s3cret",
            "InstrumentationKey=",
            "IngestionEndpoint=https://s3cret/",
            "InstrumentationKey=s3cret;IngestionEndpoint=http://in.example.com/",
            "InstrumentationKey=s3cret;IngestionEndpoint=nowhere",
        ] {
            let why = Connection::parse(text).unwrap_err();
            assert!(!why.contains("s3cret"), "{why}");
        }
    }
}
