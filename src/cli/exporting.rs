//! Sends metrics and traces to those who collect them, where the configuration or the environment names one.

use std::sync::Arc;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use secrecy::ExposeSecret as _;
use serde_json::Value;
use tokio::sync::watch;
use tracing::{info, warn};

use crate::cli::place::Ground;
use crate::config::{self, Environment, Telemetry};
use crate::monitor::measure;
use crate::telemetry::{Azure, Collector, Connection, Exporter, Headers, otlp};
use crate::worker::{RealWorld, Tracer, World};

/// What OpenTelemetry's own programs go by.
const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const HEADERS: &str = "OTEL_EXPORTER_OTLP_HEADERS";

/// What Azure Monitor's own programs go by.
const CONNECTION: &str = "APPLICATIONINSIGHTS_CONNECTION_STRING";

/// How long the last telemetry may take when the program ends.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);

/// Traces of the worker.
#[derive(Debug, Default)]
pub(super) struct Traces {
    exporter: Option<Exporter>,
    share: f64,
}

/// Metrics of the monitor: the settings that they are made by.
#[derive(Debug)]
pub(super) struct Metrics {
    followed: watch::Sender<Arc<Ground>>,
}

impl Traces {
    /// Begins to send, if there is someone to send to. What is wrong with that is only reported.
    pub(super) fn open(ground: &Ground) -> Self {
        let telemetry = &ground.loaded.settings.telemetry;
        let Some(collector) = collector(telemetry, &ground.environment) else {
            return Self::default();
        };
        let exporter = started(Some(collector));
        Self { exporter, share: telemetry.trace_share }
    }

    pub(super) fn of(&self, source: &str) -> Tracer {
        match &self.exporter {
            Some(exporter) => Tracer::new(exporter.outbox(), source, self.share),
            None => Tracer::default(),
        }
    }

    /// Sends what is left, for a moment.
    pub(super) fn close(self) {
        self.exporter.into_iter().for_each(|exporter| exporter.close(CLOSE_LIMIT));
    }
}

impl Metrics {
    /// Begins to send, if there is someone to send to, until the runtime ends.
    pub(super) fn open(ground: &Ground) -> Self {
        let (followed, following) = watch::channel(Arc::new(ground.clone()));
        let telemetry = &ground.loaded.settings.telemetry;
        let collector = collector(telemetry, &ground.environment);
        let azure = connection(&ground.environment).map(|to| (Azure::default(), to));
        if (collector.is_some() || azure.is_some())
            && let Some(exporter) = started(None)
        {
            tokio::spawn(keep_sending(exporter, collector, azure, following));
        }
        Self { followed }
    }

    /// Goes by another configuration from now on; who is sent to is read at the start only.
    pub(super) fn follow(&self, ground: &Ground) {
        self.followed.send_replace(Arc::new(ground.clone()));
    }
}

async fn keep_sending(
    exporter: Exporter,
    collector: Option<Collector>,
    mut azure: Option<(Azure, Connection)>,
    following: watch::Receiver<Arc<Ground>>,
) {
    let outbox = exporter.outbox();
    loop {
        let (ground, now) = (Arc::clone(&following.borrow()), RealWorld.now());
        let interval = ground.loaded.settings.telemetry.interval;
        let measuring = move || measure(&ground.loaded.settings, &ground.state_dir, now);
        let input = RealWorld.offload(measuring).await;
        if let Some(to) = &collector {
            let url = to.at(otlp::METRICS_PATH);
            outbox.post(url, to.headers.clone(), &otlp::metrics(&input));
        }
        if let Some((azure, to)) = &mut azure {
            let envelopes = azure.envelopes(&input, to);
            outbox.post(to.track.clone(), Headers::default(), &Value::from(envelopes));
        }
        RealWorld.sleep_until(now.after(interval)).await;
    }
}

fn started(collector: Option<Collector>) -> Option<Exporter> {
    match Exporter::start(collector) {
        Ok(exporter) => Some(exporter),
        Err(why) => {
            warn!("no telemetry is sent: {why}");
            None
        }
    }
}

fn collector(telemetry: &Telemetry, environment: &Environment) -> Option<Collector> {
    let named = environment.get(ENDPOINT).and_then(|text| text.to_str());
    let base = match (&telemetry.otlp_endpoint, named.filter(|text| !text.is_empty())) {
        (Some(url), _) => Ok(url.clone()),
        (None, Some(text)) => config::collector(text).map_err(|why| format!("{ENDPOINT} {why}")),
        (None, None) => return None,
    };
    let made = base.and_then(|base| Ok((base, headers(telemetry, environment)?)));
    match made {
        Ok((base, headers)) => {
            info!(host = base.host_str().unwrap_or_default(), "telemetry goes to a collector");
            Some(Collector { base, headers, version: env!("CARGO_PKG_VERSION") })
        }
        Err(why) => {
            warn!("no telemetry is sent: {why}");
            None
        }
    }
}

fn headers(telemetry: &Telemetry, environment: &Environment) -> Result<Headers, String> {
    let mut headers = Headers::default();
    let given = environment.get(HEADERS).and_then(|text| text.to_str()).unwrap_or_default();
    for pair in given.split(',').filter(|pair| !pair.trim().is_empty()) {
        let Some((name, value)) = pair.split_once('=') else {
            return Err(format!("{HEADERS} has a part without a sign of equality"));
        };
        let value = percent_decode_str(value.trim()).decode_utf8_lossy();
        headers.add(name.trim(), &value).map_err(|why| format!("{HEADERS}: {why}"))?;
    }
    if let Some(token) = &telemetry.otlp_token {
        let token = token.read(environment).map_err(|error| error.to_string())?;
        headers.add("authorization", &format!("Bearer {}", token.expose_secret()))?;
    }
    Ok(headers)
}

fn connection(environment: &Environment) -> Option<Connection> {
    let text = environment.get(CONNECTION)?.to_str().filter(|text| !text.is_empty())?;
    match Connection::parse(text) {
        Ok(connection) => {
            let host = connection.track.host_str().unwrap_or_default();
            info!(host, "health goes to Azure Monitor");
            Some(connection)
        }
        Err(why) => {
            warn!("nothing is sent to Azure Monitor: {CONNECTION} is not understood: {why}");
            None
        }
    }
}
