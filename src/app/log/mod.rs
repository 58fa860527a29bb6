//! Setup of logging: plain text, JSON, or the systemd journal with fields.

mod journald;

use std::io::{self, IsTerminal, Write};

use tracing::level_filters::LevelFilter;
use tracing::warn;
use tracing_subscriber::filter::{Targets, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt};

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
/// `CYNOSURE_LOG` takes a level for each module, such as `cynosure=info,cynosure::worker=debug`.
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
    let default_filter = default_filter(options.verbosity, progress_bars);
    let variable = environment.get("CYNOSURE_LOG").and_then(|text| text.to_str());
    let (filter, error) = match variable.filter(|text| !text.is_empty()).map(str::parse) {
        None => (default_filter, None),
        Some(Ok(filter)) => (filter, None),
        Some(Err(error)) => (default_filter, Some(error)),
    };
    tracing_subscriber::registry().with(layer.with_filter(filter)).init();
    if let Some(error) = error {
        warn!(%error, "ignoring CYNOSURE_LOG, which must be like `cynosure::worker=debug`");
    }
}

/// Creates a layer for readable text: its lines name the source, and leave out the fields of the
/// iteration span, which are for programs.
fn text_layer(layer: impl Layer<Registry> + Send + Sync) -> Box<dyn Layer<Registry> + Send + Sync> {
    layer.with_filter(filter_fn(|metadata| metadata.name() != ITERATION_SPAN)).boxed()
}

/// Returns the filter for a verbosity. Other crates log nothing.
fn default_filter(verbosity: Verbosity, progress_bars: &ProgressBars) -> Targets {
    let level = match verbosity {
        Verbosity::ErrorsOnly => LevelFilter::ERROR,
        // Progress bars already show what an INFO line reports.
        Verbosity::Default if progress_bars.is_drawing() => LevelFilter::ERROR,
        Verbosity::Default => LevelFilter::INFO,
        Verbosity::Debug => LevelFilter::DEBUG,
        Verbosity::Trace => LevelFilter::TRACE,
    };
    Targets::new().with_target("cynosure", level)
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
