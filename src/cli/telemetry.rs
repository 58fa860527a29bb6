//! Sends metrics and traces to those who collect them, where the configuration or the environment names one.

use std::sync::Arc;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use secrecy::ExposeSecret as _;
use serde_json::Value;
use tokio::sync::watch;
use tracing::{info, warn};

use crate::cli::context::AppContext;
use crate::config::{self, EnvVars, TelemetrySettings};
use crate::monitor::{collect_metrics, host_name};
use crate::telemetry::{
    AzureConnection, AzureExporter, Collector, DeliveryHandle, DeliveryStatus, ExportHeaders,
    Exporter, TelemetryResource, otlp,
};
use crate::worker::{Env, RealEnv, Tracer};

/// What OpenTelemetry's own programs go by.
const OTLP_ENDPOINT_VAR: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const OTLP_HEADERS_VAR: &str = "OTEL_EXPORTER_OTLP_HEADERS";

/// What Azure Monitor's own programs go by.
const AZURE_CONNECTION_VAR: &str = "APPLICATIONINSIGHTS_CONNECTION_STRING";

/// How long the last telemetry may take when the program ends.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// Traces of the worker.
#[derive(Debug, Default)]
pub(super) struct TraceExport {
    exporter: Option<Exporter>,
    sampling_share: f64,
}

/// Metrics of the monitor: the settings that they are made by.
#[derive(Debug)]
pub(super) struct MetricsExport {
    context: watch::Sender<Arc<AppContext>>,
}

impl TraceExport {
    /// Begins to send, if there is someone to send to. What is wrong with that is only reported.
    pub(super) fn start(ground: &AppContext) -> Self {
        let telemetry = &ground.loaded.settings.telemetry;
        let Some(collector) = otlp_collector(ground) else {
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

    /// Sends what is left, for a moment.
    pub(super) fn flush(self) {
        self.exporter.into_iter().for_each(|exporter| exporter.close(FLUSH_TIMEOUT));
    }
}

impl MetricsExport {
    /// Begins to send, if there is someone to send to, until the runtime ends.
    pub(super) fn start(ground: &AppContext) -> Self {
        let (followed, following) = watch::channel(Arc::new(ground.clone()));
        let collector = otlp_collector(ground);
        let azure = azure_connection(&ground.environment).map(|to| (AzureExporter::default(), to));
        if (collector.is_some() || azure.is_some())
            && let Some(exporter) = start_exporter(None)
        {
            tokio::spawn(export_metrics(exporter, collector, azure, following));
        }
        Self { context: followed }
    }

    /// Goes by another configuration from now on; who is sent to is read at the start only.
    pub(super) fn update_config(&self, ground: &AppContext) {
        self.context.send_replace(Arc::new(ground.clone()));
    }
}

async fn export_metrics(
    exporter: Exporter,
    collector: Option<Collector>,
    mut azure: Option<(AzureExporter, AzureConnection)>,
    following: watch::Receiver<Arc<AppContext>>,
) {
    let outbox = exporter.queue();
    let mut receipt: Option<DeliveryHandle> = None;
    loop {
        let (ground, now) = (Arc::clone(&following.borrow()), RealEnv.now());
        let interval = ground.loaded.settings.telemetry.interval;
        let measuring = move || collect_metrics(&ground.loaded.settings, &ground.state_dir, now);
        let input = RealEnv.spawn_blocking(measuring).await;
        if let Some(to) = &collector {
            let url = to.url_for(otlp::METRICS_PATH);
            // What is lost of it is in the next one.
            let _receipt = outbox.send_json(
                url,
                to.headers.clone(),
                &otlp::encode_metrics(&input, &to.resource),
            );
        }
        if let Some((azure, to)) = &mut azure {
            if let Some(delivery) = receipt.as_mut().map(DeliveryHandle::status)
                && delivery != DeliveryStatus::Pending
            {
                azure.acknowledge(delivery);
                receipt = None;
            }
            let envelopes = azure.build_envelopes(&input, to);
            let posted = outbox.send_json(
                to.track_url.clone(),
                ExportHeaders::default(),
                &Value::from(envelopes),
            );
            // One for the events: what follows before it is known has none in it.
            if azure.has_events_in_flight() {
                receipt.get_or_insert(posted);
            }
        }
        // By uptime: a clock that was set back a day would silence telemetry for that day.
        tokio::time::sleep(interval).await;
    }
}

fn start_exporter(collector: Option<Collector>) -> Option<Exporter> {
    match Exporter::start(collector) {
        Ok(exporter) => Some(exporter),
        Err(why) => {
            warn!("no telemetry is sent: {why}");
            None
        }
    }
}

fn otlp_collector(ground: &AppContext) -> Option<Collector> {
    let (telemetry, environment) = (&ground.loaded.settings.telemetry, &ground.environment);
    let named = environment.get(OTLP_ENDPOINT_VAR).and_then(|text| text.to_str());
    let base = match (&telemetry.otlp_endpoint, named.filter(|text| !text.is_empty())) {
        (Some(url), _) => Ok(url.clone()),
        (None, Some(text)) => {
            config::parse_otlp_endpoint(text).map_err(|why| format!("{OTLP_ENDPOINT_VAR} {why}"))
        }
        (None, None) => return None,
    };
    let made = base.and_then(|base| Ok((base, otlp_headers(telemetry, environment)?)));
    match made {
        Ok((base, headers)) => {
            info!(host = base.host_str().unwrap_or_default(), "telemetry goes to a collector");
            // The folder may not be there yet, and its name must be the same before and after.
            let folder = std::path::absolute(&ground.state_dir);
            let folder = folder.unwrap_or_else(|_| ground.state_dir.clone());
            let resource = TelemetryResource::new(env!("CARGO_PKG_VERSION"), &host_name(), &folder);
            Some(Collector { base_url: base, headers, resource })
        }
        Err(why) => {
            warn!("no telemetry is sent: {why}");
            None
        }
    }
}

fn otlp_headers(
    telemetry: &TelemetrySettings,
    environment: &EnvVars,
) -> Result<ExportHeaders, String> {
    let mut headers = ExportHeaders::default();
    let given =
        environment.get(OTLP_HEADERS_VAR).and_then(|text| text.to_str()).unwrap_or_default();
    for pair in given.split(',').filter(|pair| !pair.trim().is_empty()) {
        let Some((name, value)) = pair.split_once('=') else {
            return Err(format!("{OTLP_HEADERS_VAR} has a part without a sign of equality"));
        };
        let value = percent_decode_str(value.trim()).decode_utf8_lossy();
        headers.add(name.trim(), &value).map_err(|why| format!("{OTLP_HEADERS_VAR}: {why}"))?;
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
            info!(host, "health goes to Azure Monitor");
            Some(connection)
        }
        Err(why) => {
            warn!(
                "nothing is sent to Azure Monitor: {AZURE_CONNECTION_VAR} is not understood: {why}"
            );
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

    /// Somebody on this machine who takes what is posted, and says when something was.
    fn fake_receiver() -> (Collector, mpsc::UnboundedReceiver<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
        let (sender, posted) = mpsc::unbounded_channel();
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
        (Collector { base_url: base, headers: ExportHeaders::default(), resource }, posted)
    }

    /// Whoever closes before everything is read is asked again.
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

    /// In made-up time the clock of the machine stands still, as good as one that is set back.
    #[tokio::test(start_paused = true)]
    async fn a_backward_clock_step_does_not_stop_exports() {
        let home = tempfile::tempdir().unwrap();
        let config_file = home.path().join("config.toml");
        fs_err::write(&config_file, CONFIGURATION).unwrap();
        let environment = EnvVars::default();
        let loaded = config::load(&config_file, &environment).unwrap();
        let state_dir = home.path().join("state");
        let ground = AppContext { config_file, state_dir, environment, loaded, diagnostics: None };
        let (_followed, following) = watch::channel(Arc::new(ground));
        let (collector, mut posted) = fake_receiver();
        let exporter = start_exporter(None).unwrap();

        let sending = export_metrics(exporter, Some(collector), None, following);

        let three = async {
            for _ in 0..3 {
                posted.recv().await.unwrap();
            }
        };
        tokio::select! {
            () = sending => panic!("it ended"),
            () = three => {}
        }
    }
}
