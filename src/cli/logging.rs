//! Where log lines go: plain text, JSON, or the journal with fields.

use std::io::{self, IsTerminal, Write};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt};

use crate::cli::args::{CommonArgs, LogFormat};
use crate::cli::journald::JournaldLayer;
use crate::cli::progress::ProgressBars;
use crate::config::EnvVars;
use crate::worker::ITERATION_SPAN;

/// Starts logging to standard error, above the progress lines of `screen` where there are any.
///
/// `CYNOSURE_LOG` takes a filter such as `cynosure=debug`.
pub(super) fn start(common: &CommonArgs, environment: &EnvVars, screen: &ProgressBars) {
    let under_systemd = environment.get("JOURNAL_STREAM").is_some();
    let format = match common.log_format {
        LogFormat::Auto if under_systemd => LogFormat::Journal,
        LogFormat::Auto => LogFormat::Text,
        format @ (LogFormat::Text | LogFormat::Json | LogFormat::Journal) => format,
    };
    let colours = io::stderr().is_terminal() && environment.get("NO_COLOR").is_none();
    let lines = ProgressAwareStderr { progress_bars: screen.clone() };
    let layer: Box<dyn Layer<Registry> + Send + Sync> = match format {
        LogFormat::Auto | LogFormat::Text => {
            text_layer(fmt::layer().with_writer(lines).with_ansi(colours).with_target(false))
        }
        LogFormat::Json => fmt::layer().with_writer(lines).json().flatten_event(true).boxed(),
        LogFormat::Journal => match JournaldLayer::open() {
            Ok(journal) => journal.boxed(),
            // Without a journal the lines must go somewhere.
            Err(_) => text_layer(fmt::layer().with_writer(lines).with_ansi(false)),
        },
    };
    tracing_subscriber::registry()
        .with(layer.with_filter(log_filter(common, environment, screen)))
        .init();
}

/// Lines for people name the source they are about; session and state are fields for programs.
fn text_layer(layer: impl Layer<Registry> + Send + Sync) -> Box<dyn Layer<Registry> + Send + Sync> {
    layer.with_filter(filter_fn(|metadata| metadata.name() != ITERATION_SPAN)).boxed()
}

fn log_filter(common: &CommonArgs, environment: &EnvVars, screen: &ProgressBars) -> EnvFilter {
    let level = match (common.quiet, common.verbose) {
        (true, _) => LevelFilter::ERROR,
        // Where a progress line tells the story, the log need not.
        (false, 0) if screen.is_drawing() => LevelFilter::ERROR,
        (false, 0) => LevelFilter::INFO,
        (false, 1) => LevelFilter::DEBUG,
        (false, _) => LevelFilter::TRACE,
    };
    let wanted = environment.get("CYNOSURE_LOG").and_then(|text| text.to_str());
    let builder = EnvFilter::builder().with_default_directive(LevelFilter::WARN.into());
    match wanted {
        Some(wanted) => builder.parse_lossy(wanted),
        None => builder.parse_lossy(format!("cynosure={level}")),
    }
}

/// Standard error, written to without tearing the progress lines.
#[derive(Clone)]
struct ProgressAwareStderr {
    progress_bars: ProgressBars,
}

impl<'a> MakeWriter<'a> for ProgressAwareStderr {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Write for ProgressAwareStderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.progress_bars.suspend(|| io::stderr().write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
