//! Log channel, which under systemd is the journal. It is always used, beside the other channels.

use cynosure_engine::alert::{Notification, NotificationKind, Severity};
use tracing::{error, info, warn};

/// Logs a notification.
pub fn log_notification(notification: &Notification) {
    let alert = &notification.alert;
    let (key, subject) = (alert.key.as_str(), &alert.subject);
    let severity = notification.severity().name();
    let (problem, max_severity) = (&alert.message, alert.max_severity.name());
    let advice = alert.advice.as_deref().unwrap_or_default();
    let reason = alert.resolved_reason.as_deref().unwrap_or("the condition no longer holds");
    match (notification.kind, alert.severity) {
        (NotificationKind::Resolved, _) => {
            info!(key, subject, severity, max_severity, problem, reason, "alert resolved");
        }
        (NotificationKind::ResolvedUnnotified, _) => {
            let (from, to) = (alert.started_at, alert.resolved_at.unwrap_or_default());
            let occurrences = alert.occurrences;
            info!(
                key, subject, severity, max_severity, problem, reason, occurrences, %from, %to,
                "alert resolved before it was sent"
            );
        }
        (NotificationKind::Firing | NotificationKind::Escalated, Severity::Info) => {
            info!(key, subject, severity, problem, advice, "alert firing");
        }
        (NotificationKind::Firing | NotificationKind::Escalated, Severity::Warning) => {
            warn!(key, subject, severity, problem, advice, "alert firing");
        }
        (NotificationKind::Firing | NotificationKind::Escalated, Severity::Critical) => {
            error!(key, subject, severity, problem, advice, "alert firing");
        }
    }
}

/// Logs a test alert.
pub fn log_test() {
    info!("test alert requested");
}
