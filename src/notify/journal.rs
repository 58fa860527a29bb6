//! Log channel, which under systemd is the journal: it is always used, also beside other channels.

use tracing::{error, info, warn};

use crate::engine::alert::{Notification, NotificationKind, Severity};

/// Logs a notification.
pub fn log_notification(notice: &Notification) {
    let alert = &notice.alert;
    let (cause, about, severity) = (alert.key.as_str(), &alert.subject, notice.severity().name());
    let advice = alert.advice.as_deref().unwrap_or_default();
    let (message, worst) = (&alert.message, alert.max_severity.name());
    let since = alert.resolved_reason.as_deref().unwrap_or("well again");
    match (notice.kind, alert.severity) {
        (NotificationKind::Resolved, _) => {
            info!(cause, about, severity, worst, "alert over, {since}: {message}");
        }
        (NotificationKind::ResolvedUnnotified, _) => {
            let (from, to) = (alert.started_at, alert.resolved_at.unwrap_or_default());
            info!(
                cause,
                about,
                severity,
                worst,
                times = alert.occurrences,
                "alert, over by now, {since}: {message} (from {from} to {to})"
            );
        }
        (NotificationKind::Firing | NotificationKind::Escalated, Severity::Info) => {
            info!(cause, about, severity, advice, "alert: {message}");
        }
        (NotificationKind::Firing | NotificationKind::Escalated, Severity::Warning) => {
            warn!(cause, about, severity, advice, "alert: {message}");
        }
        (NotificationKind::Firing | NotificationKind::Escalated, Severity::Critical) => {
            error!(cause, about, severity, advice, "alert: {message}");
        }
    }
}

/// Logs a test alert.
pub fn log_test() {
    info!("a test of alerts, asked for by a person");
}
