//! Setup of logging: plain text, JSON, or the systemd journal with fields.

mod journald;

use std::io::{self, IsTerminal, Write};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt};

use crate::app::progress::ProgressBars;
use crate::config::EnvVars;
use crate::worker::ITERATION_SPAN;

use self::journald::JournaldLayer;

/// Format of the log lines.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum LogFormat {
    Text,
    Json,
    /// Directly to the journal, with fields.
    Journal,
}

/// Amount of logging.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Verbosity {
    ErrorsOnly,
    /// INFO; ERROR while progress bars are drawn.
    Default,
    Debug,
    Trace,
}

/// Options of logging.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogOptions {
    /// Format; `None` selects the journal under systemd, and text elsewhere.
    pub format: Option<LogFormat>,
    pub verbosity: Verbosity,
}

/// Starts logging to the journal, or to standard error above the progress bars.
///
/// `CYNOSURE_LOG` takes a filter such as `cynosure=debug`.
pub(crate) fn start(options: LogOptions, environment: &EnvVars, progress_bars: &ProgressBars) {
    let is_under_systemd = environment.get("JOURNAL_STREAM").is_some();
    let default_format = if is_under_systemd { LogFormat::Journal } else { LogFormat::Text };
    let format = options.format.unwrap_or(default_format);
    let has_colors = io::stderr().is_terminal() && environment.get("NO_COLOR").is_none();
    let writer = ProgressAwareStderr { progress_bars: progress_bars.clone() };
    let layer: Box<dyn Layer<Registry> + Send + Sync> = match format {
        LogFormat::Text => {
            text_layer(fmt::layer().with_writer(writer).with_ansi(has_colors).with_target(false))
        }
        LogFormat::Json => fmt::layer().with_writer(writer).json().flatten_event(true).boxed(),
        LogFormat::Journal => match JournaldLayer::open() {
            Ok(journal) => journal.boxed(),
            // Without a journal the lines go to standard error.
            Err(_) => text_layer(fmt::layer().with_writer(writer).with_ansi(false)),
        },
    };
    tracing_subscriber::registry()
        .with(layer.with_filter(log_filter(options.verbosity, environment, progress_bars)))
        .init();
}

/// Creates a layer for readable text: its lines name the source, and leave out the fields of the
/// iteration span, which are for programs.
fn text_layer(layer: impl Layer<Registry> + Send + Sync) -> Box<dyn Layer<Registry> + Send + Sync> {
    layer.with_filter(filter_fn(|metadata| metadata.name() != ITERATION_SPAN)).boxed()
}

fn log_filter(
    verbosity: Verbosity,
    environment: &EnvVars,
    progress_bars: &ProgressBars,
) -> EnvFilter {
    let level = match verbosity {
        Verbosity::ErrorsOnly => LevelFilter::ERROR,
        // Progress bars already show what an INFO line reports.
        Verbosity::Default if progress_bars.is_drawing() => LevelFilter::ERROR,
        Verbosity::Default => LevelFilter::INFO,
        Verbosity::Debug => LevelFilter::DEBUG,
        Verbosity::Trace => LevelFilter::TRACE,
    };
    let filter = environment.get("CYNOSURE_LOG").and_then(|text| text.to_str());
    let builder = EnvFilter::builder().with_default_directive(LevelFilter::WARN.into());
    match filter {
        Some(filter) => builder.parse_lossy(filter),
        None => builder.parse_lossy(format!("cynosure={level}")),
    }
}

/// Standard error, which suspends the progress bars while a line is written.
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
