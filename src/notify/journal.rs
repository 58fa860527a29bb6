//! The log, which under systemd is the journal: always told, and read by whoever looks there.

use tracing::{error, info, warn};

use crate::engine::alert::{News, Notice, Severity};

/// Writes a notice down.
pub fn tell(notice: &Notice) {
    let alert = &notice.alert;
    let (cause, about, severity) = (alert.cause.as_str(), &alert.about, notice.severity().name());
    let advice = alert.advice.as_deref().unwrap_or_default();
    let (message, worst) = (&alert.message, alert.worst.name());
    let since = alert.ended_since.as_deref().unwrap_or("well again");
    match (notice.news, alert.severity) {
        (News::Ended, _) => {
            info!(cause, about, severity, worst, "alert over, {since}: {message}");
        }
        (News::Passed, _) => {
            let (from, to) = (alert.raised_at, alert.ended_at.unwrap_or_default());
            info!(
                cause,
                about,
                severity,
                worst,
                times = alert.times,
                "alert, over by now, {since}: {message} (from {from} to {to})"
            );
        }
        (News::Raised | News::Worse, Severity::Info) => {
            info!(cause, about, severity, advice, "alert: {message}");
        }
        (News::Raised | News::Worse, Severity::Warning) => {
            warn!(cause, about, severity, advice, "alert: {message}");
        }
        (News::Raised | News::Worse, Severity::Critical) => {
            error!(cause, about, severity, advice, "alert: {message}");
        }
    }
}

/// Writes down that this is a test.
pub fn test() {
    info!("a test of alerts, asked for by a person");
}
