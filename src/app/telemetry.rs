//! Telemetry export: sends metrics and traces to an OTLP collector, and health metrics and events
//! to Azure Monitor, if the configuration or the environment names one.

use std::sync::Arc;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use secrecy::ExposeSecret as _;
use serde_json::Value;
use tokio::sync::watch;
use tracing::{info, warn};

use crate::app::context::AppContext;
use crate::config::{self, EnvVars, TelemetrySettings};
use crate::env::{Env, RealEnv};
use crate::monitor::{collect_metrics, host_name};
use crate::telemetry::{
    AzureConnection, AzureExporter, Collector, DeliveryHandle, DeliveryStatus, ExportHeaders,
    Exporter, TelemetryResource, otlp,
};
use crate::worker::Tracer;

/// Endpoint variable, standardised by OpenTelemetry.
const OTLP_ENDPOINT_VAR: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";

/// Headers variable, standardised by OpenTelemetry.
const OTLP_HEADERS_VAR: &str = "OTEL_EXPORTER_OTLP_HEADERS";

/// Connection string variable of the Azure Monitor SDKs.
const AZURE_CONNECTION_VAR: &str = "APPLICATIONINSIGHTS_CONNECTION_STRING";

/// Maximum time to send the last telemetry when the program ends.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// Trace export of the worker.
#[derive(Debug, Default)]
pub(super) struct TraceExport {
    exporter: Option<Exporter>,
    sampling_share: f64,
}

/// Metrics export of the monitor. Holds the configuration in use.
#[derive(Debug)]
pub(super) struct MetricsExport {
    context: watch::Sender<Arc<AppContext>>,
}

impl TraceExport {
    /// Starts the export, if a collector is configured. Errors are only logged.
    pub(super) fn start(context: &AppContext) -> Self {
        let telemetry = &context.loaded.settings.telemetry;
        let Some(collector) = otlp_collector(context) else {
            return Self::default();
        };
        let exporter = start_exporter(Some(collector));
        Self { exporter, sampling_share: telemetry.trace_share }
    }

    pub(super) fn tracer(&self, source: &str) -> Tracer {
        match &self.exporter {
            Some(exporter) => Tracer::new(exporter.queue(), source, self.sampling_share),
            None => Tracer::default(),
        }
    }

    /// Sends the remaining spans, for at most [`FLUSH_TIMEOUT`].
    pub(super) fn flush(self) {
        self.exporter.into_iter().for_each(|exporter| exporter.close(FLUSH_TIMEOUT));
    }
}

impl MetricsExport {
    /// Starts the export, if a receiver is configured. It runs until the runtime ends.
    pub(super) fn start(context: &AppContext) -> Self {
        let (context_sender, context_receiver) = watch::channel(Arc::new(context.clone()));
        let collector = otlp_collector(context);
        let connection = azure_connection(&context.environment);
        let azure = connection.map(|connection| (AzureExporter::default(), connection));
        if (collector.is_some() || azure.is_some())
            && let Some(exporter) = start_exporter(None)
        {
            tokio::spawn(export_metrics(exporter, collector, azure, context_receiver));
        }
        Self { context: context_sender }
    }

    /// Replaces the configuration. The receivers are read only at the start.
    pub(super) fn update_config(&self, context: &AppContext) {
        self.context.send_replace(Arc::new(context.clone()));
    }
}

async fn export_metrics(
    exporter: Exporter,
    collector: Option<Collector>,
    mut azure: Option<(AzureExporter, AzureConnection)>,
    context_receiver: watch::Receiver<Arc<AppContext>>,
) {
    let queue = exporter.queue();
    let mut events_delivery: Option<DeliveryHandle> = None;
    loop {
        let (context, now) = (Arc::clone(&context_receiver.borrow()), RealEnv.now());
        let interval = context.loaded.settings.telemetry.interval;
        let collect = move || collect_metrics(&context.loaded.settings, &context.state_dir, now);
        let snapshot = RealEnv.spawn_blocking(collect).await;
        if let Some(collector) = &collector {
            let url = collector.url_for(otlp::METRICS_PATH);
            // Not tracked, because the next export contains all metrics again.
            let _delivery = queue.send_json(
                url,
                collector.headers.clone(),
                &otlp::encode_metrics(&snapshot, &collector.resource),
            );
        }
        if let Some((azure, connection)) = &mut azure {
            if let Some(status) = events_delivery.as_mut().map(DeliveryHandle::status)
                && status != DeliveryStatus::Pending
            {
                azure.acknowledge(status);
                events_delivery = None;
            }
            let envelopes = azure.build_envelopes(&snapshot, connection);
            let delivery = queue.send_json(
                connection.track_url.clone(),
                ExportHeaders::default(),
                &Value::from(envelopes),
            );
            // Only the first delivery has events; later ones have none until it has a status.
            if azure.has_events_in_flight() {
                events_delivery.get_or_insert(delivery);
            }
        }
        // By uptime: a clock that was set back by a day would stop the export for that day.
        tokio::time::sleep(interval).await;
    }
}

fn start_exporter(collector: Option<Collector>) -> Option<Exporter> {
    match Exporter::start(collector) {
        Ok(exporter) => Some(exporter),
        Err(error) => {
            warn!(%error, "cannot export telemetry");
            None
        }
    }
}

fn otlp_collector(context: &AppContext) -> Option<Collector> {
    let (telemetry, environment) = (&context.loaded.settings.telemetry, &context.environment);
    let from_env = environment.get(OTLP_ENDPOINT_VAR).and_then(|text| text.to_str());
    let base_url = match (&telemetry.otlp_endpoint, from_env.filter(|text| !text.is_empty())) {
        (Some(url), _) => Ok(url.clone()),
        (None, Some(text)) => config::parse_otlp_endpoint(text)
            .map_err(|error| format!("{OTLP_ENDPOINT_VAR} {error}")),
        (None, None) => return None,
    };
    let target = base_url.and_then(|url| Ok((url, otlp_headers(telemetry, environment)?)));
    match target {
        Ok((base_url, headers)) => {
            let host = base_url.host_str().unwrap_or_default();
            info!(host, "exporting telemetry to an OTLP collector");
            // Not canonicalised, because the folder may not exist yet, and the name must be stable.
            let folder = std::path::absolute(&context.state_dir);
            let folder = folder.unwrap_or_else(|_| context.state_dir.clone());
            let resource = TelemetryResource::new(env!("CARGO_PKG_VERSION"), &host_name(), &folder);
            Some(Collector { base_url, headers, resource })
        }
        Err(error) => {
            warn!(%error, "cannot export telemetry");
            None
        }
    }
}

fn otlp_headers(
    telemetry: &TelemetrySettings,
    environment: &EnvVars,
) -> Result<ExportHeaders, String> {
    let mut headers = ExportHeaders::default();
    let pairs =
        environment.get(OTLP_HEADERS_VAR).and_then(|text| text.to_str()).unwrap_or_default();
    for pair in pairs.split(',').filter(|pair| !pair.trim().is_empty()) {
        let Some((name, value)) = pair.split_once('=') else {
            return Err(format!("{OTLP_HEADERS_VAR} has a part without an equals sign"));
        };
        let value = percent_decode_str(value.trim()).decode_utf8_lossy();
        headers.add(name.trim(), &value).map_err(|error| format!("{OTLP_HEADERS_VAR}: {error}"))?;
    }
    if let Some(token) = &telemetry.otlp_token {
        let token = token.read(environment).map_err(|error| error.to_string())?;
        headers.add("authorization", &format!("Bearer {}", token.expose_secret()))?;
    }
    Ok(headers)
}

fn azure_connection(environment: &EnvVars) -> Option<AzureConnection> {
    let text = environment.get(AZURE_CONNECTION_VAR)?.to_str().filter(|text| !text.is_empty())?;
    match AzureConnection::parse(text) {
        Ok(connection) => {
            let host = connection.track_url.host_str().unwrap_or_default();
            info!(host, "exporting health to Azure Monitor");
            Some(connection)
        }
        Err(error) => {
            let variable = AZURE_CONNECTION_VAR;
            warn!(variable, %error, "cannot export to Azure Monitor, invalid connection string");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};

    use tokio::sync::mpsc;

    use super::*;

    const CONFIGURATION: &str = r#"
        [telemetry]
        interval = "1h"
        [source.work]
        kind = "jmap"
        url = "http://127.0.0.1:9/"
        account = "me@example.com"
        auth = { type = "bearer", token = { file = "token" } }
    "#;

    /// Starts a local HTTP server that accepts every request and signals each one.
    fn fake_receiver() -> (Collector, mpsc::UnboundedReceiver<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base_url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
        let (sender, requests) = mpsc::unbounded_channel();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                read_request(&stream);
                stream
                    .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                    .ok();
                if sender.send(()).is_err() {
                    return;
                }
            }
        });
        let resource = TelemetryResource::new("1.2.3", "host", std::path::Path::new("/state"));
        (Collector { base_url, headers: ExportHeaders::default(), resource }, requests)
    }

    /// Reads a whole request, because a client retries if the connection is closed before that.
    fn read_request(stream: &TcpStream) {
        let mut reader = BufReader::new(stream);
        let mut length = 0;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            if line.trim().is_empty() {
                break;
            }
        }
        reader.read_exact(&mut vec![0; length]).unwrap();
    }

    /// Paused time advances while the wall clock does not, which is equivalent to a step back.
    #[tokio::test(start_paused = true)]
    async fn a_backward_clock_step_does_not_stop_exports() {
        let dir = tempfile::tempdir().unwrap();
        let config_file = dir.path().join("config.toml");
        fs_err::write(&config_file, CONFIGURATION).unwrap();
        let environment = EnvVars::default();
        let loaded = config::load(&config_file, &environment).unwrap();
        let state_dir = dir.path().join("state");
        let context = AppContext { config_file, state_dir, environment, loaded, diagnostics: None };
        let (_context_sender, context_receiver) = watch::channel(Arc::new(context));
        let (collector, mut requests) = fake_receiver();
        let exporter = start_exporter(None).unwrap();

        let export = export_metrics(exporter, Some(collector), None, context_receiver);

        let three_requests = async {
            for _ in 0..3 {
                requests.recv().await.unwrap();
            }
        };
        tokio::select! {
            () = export => panic!("the export ended"),
            () = three_requests => {}
        }
    }
}
