//! `monitor`: the second process, which checks units, sources and overall health at intervals.

use crate::app::context::AppContext;
use crate::app::error::ProgramError;
use crate::app::exit::ProgramExit;
use crate::app::log;
use crate::app::monitor::MonitorProcess;
use crate::app::progress::{ProgressBars, ShowProgress};
use crate::cli::args::CommonArgs;

pub(super) fn monitor(common: &CommonArgs) -> Result<ProgramExit, ProgramError> {
    // First of all: a SIGHUP must not end a process that is about to read its configuration.
    let process = MonitorProcess::start()?;
    let location = common.config_location();
    let context = AppContext::load(&location)?;
    let progress_bars = ProgressBars::new(ShowProgress::No);
    log::start(common.log_options(), &context.environment, &progress_bars);
    process.run(location, context)
}
