//! Alert messages: a subject, a text for people, and JSON for programs.

use cynosure_engine::alert::{Alert, AlertKey, Notification, NotificationKind, Severity};
use cynosure_engine::{Timestamp, format_duration, sanitize_line};
use serde::Serialize;
use serde_json::Value;

/// Schema version of the JSON.
const SCHEMA: u32 = 2;

/// Maximum number of alerts in the text of one message.
const PARAGRAPHS_MAX: usize = 50;

/// Message with all notifications of one delivery.
#[derive(Clone, Debug)]
pub struct AlertMessage {
    /// Name of the machine that sends it.
    pub host: String,
    pub notifications: Vec<Notification>,
    /// True for a test, which contains no notifications.
    pub is_test: bool,
    pub now: Timestamp,
}

/// Message as a webhook receives it.
#[derive(Serialize)]
struct MessageJson<'a> {
    schema: u32,
    /// Name of the machine that sends it.
    host: &'a str,
    sent_at: Timestamp,
    /// True for a test, which contains no alerts.
    #[serde(rename = "test")]
    is_test: bool,
    /// Highest severity. A resolved alert counts as information.
    severity: Severity,
    /// One line, for people.
    subject: String,
    alerts: Vec<AlertJson<'a>>,
}

/// Change of one alert.
#[derive(Serialize)]
struct AlertJson<'a> {
    event: NotificationKind,
    key: &'a AlertKey,
    /// Source, unit, provider, folder or channel concerned; empty: all of them.
    subject: &'a str,
    /// Severity of the change itself: `info` once a notified alert has resolved.
    severity: Severity,
    /// Highest severity since it last started firing.
    max_severity: Severity,
    /// One sentence, without the subject.
    message: &'a str,
    advice: Option<&'a str>,
    started_at: Timestamp,
    /// Null while it is firing.
    resolved_at: Option<Timestamp>,
    /// Null if the condition simply no longer holds.
    resolved_reason: Option<&'a str>,
    /// Times it started firing, each within an hour of the last notification.
    occurrences: u32,
}

impl AlertMessage {
    /// Creates a message from notifications of the machine `host`.
    #[must_use]
    pub fn new(host: impl Into<String>, notifications: Vec<Notification>, now: Timestamp) -> Self {
        Self { host: sanitize_line(&host.into()), notifications, is_test: false, now }
    }

    /// Creates a test message.
    #[must_use]
    pub fn new_test(host: impl Into<String>, now: Timestamp) -> Self {
        Self { is_test: true, ..Self::new(host, Vec::new(), now) }
    }

    /// Returns the subject in one line: `cynosure on mars: CRITICAL: work: its credential is
    /// refused`.
    #[must_use]
    pub fn subject(&self) -> String {
        let summary = match &self.notifications[..] {
            [] => "test".to_owned(),
            [one] => format!("{}: {}", status_label(one), alert_summary(&one.alert)),
            many => {
                let firing = many
                    .iter()
                    .filter(|notification| notification.kind != NotificationKind::Resolved);
                let firing: Vec<&Notification> = firing.collect();
                let worst = severity_label(self.severity());
                match (&firing[..], many.len() - firing.len()) {
                    ([], resolved) => format!("RESOLVED: {resolved} alerts"),
                    ([one], resolved) => {
                        format!(
                            "{}: {}, and {resolved} resolved",
                            status_label(one),
                            alert_summary(&one.alert)
                        )
                    }
                    (firing, 0) => format!("{worst}: {} alerts", firing.len()),
                    (firing, resolved) => {
                        format!("{worst}: {} alerts, and {resolved} resolved", firing.len())
                    }
                }
            }
        };
        format!("cynosure on {}: {summary}", self.host)
    }

    /// Returns the full text, for people.
    #[must_use]
    pub fn to_text(&self) -> String {
        if self.is_test {
            return "This is a test, requested with `cynosure alert test`. Alerts arrive through this channel."
                .to_owned();
        }
        let shown = self.notifications.iter().take(PARAGRAPHS_MAX);
        let mut paragraphs: Vec<String> =
            shown.map(|notification| paragraph(notification, self.now)).collect();
        match self.notifications.len().saturating_sub(PARAGRAPHS_MAX) {
            0 => {}
            more => paragraphs.push(format!("And {more} more: see `cynosure alert list`.")),
        }
        paragraphs.join("\n\n")
    }

    /// Returns the full content as JSON, for a program.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let json = MessageJson {
            schema: SCHEMA,
            host: &self.host,
            sent_at: self.now,
            is_test: self.is_test,
            severity: self.severity(),
            subject: self.subject(),
            alerts: self.notifications.iter().map(alert_json).collect(),
        };
        // Serialization cannot fail: all keys are strings.
        serde_json::to_value(json).unwrap_or_default()
    }

    /// Returns the highest severity. A resolved alert counts as information.
    #[must_use]
    pub fn severity(&self) -> Severity {
        self.notifications.iter().map(Notification::severity).max().unwrap_or(Severity::Info)
    }
}

fn alert_json(notification: &Notification) -> AlertJson<'_> {
    let alert = &notification.alert;
    AlertJson {
        event: notification.kind,
        key: &alert.key,
        subject: &alert.subject,
        severity: notification.severity(),
        max_severity: alert.max_severity,
        message: &alert.message,
        advice: alert.advice.as_deref(),
        started_at: alert.started_at,
        resolved_at: alert.resolved_at,
        resolved_reason: alert.resolved_reason.as_deref(),
        occurrences: alert.occurrences,
    }
}

fn paragraph(notification: &Notification, now: Timestamp) -> String {
    let alert = &notification.alert;
    let mut lines = vec![format!("{}: {}", status_label(notification), alert_summary(alert))];
    let duration = alert.resolved_at.unwrap_or(now).since(alert.started_at);
    match notification.kind {
        NotificationKind::Resolved => {
            let reason = alert.resolved_reason.as_deref();
            lines.extend(reason.map(|reason| format!("Reason: {}.", sanitize_line(reason))));
            lines.push(format!(
                "It began at {} and lasted {}.",
                alert.started_at,
                format_duration(duration)
            ));
        }
        NotificationKind::ResolvedUnnotified => {
            let (from, to) = (alert.started_at, alert.resolved_at.unwrap_or(now));
            let reason =
                alert.resolved_reason.as_deref().unwrap_or("the condition no longer holds");
            let worst = severity_label(alert.max_severity);
            lines.push(format!(
                "It was {worst} from {from} to {to} ({}), and is resolved: {}.",
                format_duration(duration),
                sanitize_line(reason)
            ));
        }
        NotificationKind::Firing | NotificationKind::Escalated => {
            let since = match duration.as_secs() {
                0 => String::new(),
                _ => format!(", {} ago", format_duration(duration)),
            };
            lines.push(format!("It began at {}{since}.", alert.started_at));
            let advice = alert.advice.as_deref();
            lines.extend(advice.map(|advice| format!("What to do: {}.", sanitize_line(advice))));
        }
    }
    if alert.occurrences > 1 {
        let within = if notification.kind == NotificationKind::ResolvedUnnotified {
            "meanwhile"
        } else {
            "within the hour"
        };
        lines.push(format!("It occurred {} times {within}.", alert.occurrences));
    }
    lines.join("\n")
}

fn alert_summary(alert: &Alert) -> String {
    let message = sanitize_line(&alert.message);
    if alert.subject.is_empty() {
        message
    } else {
        format!("{}: {message}", sanitize_line(&alert.subject))
    }
}

fn status_label(notification: &Notification) -> String {
    let severity = severity_label(notification.severity());
    match notification.kind {
        NotificationKind::Resolved => "RESOLVED".to_owned(),
        NotificationKind::ResolvedUnnotified => format!("{severity}, RESOLVED"),
        NotificationKind::Firing | NotificationKind::Escalated => severity.to_owned(),
    }
}

fn severity_label(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "INFO",
        Severity::Warning => "WARNING",
        Severity::Critical => "CRITICAL",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cynosure_engine::alert::{AlertStore, Episode, Observation, Resolution};
    use cynosure_engine::health::{CheckKind, Finding, HealthLevel};

    const NOW: Timestamp = Timestamp(1_772_874_303_000);

    fn observe(sources: &[&str]) -> Observation {
        let message = "its credential is refused: 401 \u{1b}[31m";
        let finding = |name: &&str| {
            let level = HealthLevel::Critical;
            Finding::new(CheckKind::Execution, "credential_refused", level, message)
                .with_subject(*name)
                .with_advice("put a fresh credential in its place")
        };
        let subjects = ["work", "home"].map(str::to_owned).into();
        Observation {
            findings: sources.iter().map(finding).collect(),
            known_subjects: subjects,
            ..Observation::default()
        }
    }

    fn render(message: &AlertMessage) -> String {
        format!("{}\n\n{}", message.subject(), message.to_text())
    }

    #[test]
    fn firing_and_resolved_alerts_are_rendered() {
        let mut alerts = AlertStore::default();
        let firing = alerts.evaluate(&observe(&["work"]), NOW);
        let later = Timestamp(NOW.0 + 11_100_000);
        let resolved = alerts.evaluate(&observe(&[]), later);

        insta::assert_snapshot!(render(&AlertMessage::new("mars", firing, NOW)), @r"
        cynosure on mars: CRITICAL: work: its credential is refused: 401 \u{1b}[31m

        CRITICAL: work: its credential is refused: 401 \u{1b}[31m
        It began at 2026-03-07T09:05:03.000Z.
        What to do: put a fresh credential in its place.
        ");
        insta::assert_snapshot!(render(&AlertMessage::new("mars", resolved, later)), @r"
        cynosure on mars: RESOLVED: work: its credential is refused: 401 \u{1b}[31m

        RESOLVED: work: its credential is refused: 401 \u{1b}[31m
        It began at 2026-03-07T09:05:03.000Z and lasted 3 h 5 min.
        ");
    }

    #[test]
    fn several_notifications_share_one_message() {
        let mut alerts = AlertStore::default();
        let firing = alerts.evaluate(&observe(&["work", "home"]), NOW);
        let mixed = alerts.evaluate(
            &Observation { known_subjects: ["home".to_owned()].into(), ..observe(&[]) },
            NOW,
        );

        insta::assert_snapshot!(render(&AlertMessage::new("mars", firing.clone(), NOW)), @r"
        cynosure on mars: CRITICAL: 2 alerts

        CRITICAL: work: its credential is refused: 401 \u{1b}[31m
        It began at 2026-03-07T09:05:03.000Z.
        What to do: put a fresh credential in its place.

        CRITICAL: home: its credential is refused: 401 \u{1b}[31m
        It began at 2026-03-07T09:05:03.000Z.
        What to do: put a fresh credential in its place.
        ");
        insta::assert_snapshot!(render(&AlertMessage::new("mars", mixed.clone(), NOW)), @r"
        cynosure on mars: RESOLVED: 2 alerts

        RESOLVED: work: its credential is refused: 401 \u{1b}[31m
        Reason: it is no longer in the configuration.
        It began at 2026-03-07T09:05:03.000Z and lasted 0 s.

        RESOLVED: home: its credential is refused: 401 \u{1b}[31m
        It began at 2026-03-07T09:05:03.000Z and lasted 0 s.
        ");
        assert_eq!(
            AlertMessage::new("mars", [&firing[..1], &mixed[..1]].concat(), NOW).subject(),
            "cynosure on mars: CRITICAL: work: its credential is refused: 401 \\u{1b}[31m, and 1 resolved"
        );
        let both = [firing, mixed].concat();
        assert_eq!(
            AlertMessage::new("mars", both, NOW).subject(),
            "cynosure on mars: CRITICAL: 2 alerts, and 2 resolved"
        );
    }

    #[test]
    fn a_missed_episode_shows_its_period_and_severity() {
        let mut alerts = AlertStore::default();
        let episode = |sequence: u64, start_ms: i64, reason: Option<&str>| Episode {
            finding: Finding {
                subject: "example".to_owned(),
                ..observe(&["work"]).findings.remove(0)
            },
            sequence,
            started_at: Timestamp(NOW.0 + start_ms),
            resolution: Some(Resolution {
                resolved_at: Timestamp(NOW.0 + start_ms + 67_000),
                severity: Severity::Info,
                reason: reason.map(str::to_owned),
            }),
            is_inhibited: false,
        };
        let mut evaluate = |episodes: &[Episode], ms: i64| {
            let observation = Observation { episodes: episodes.to_vec(), ..observe(&[]) };
            let now = Timestamp(NOW.0 + ms);
            AlertMessage::new("mars", alerts.evaluate(&observation, now), now)
        };
        evaluate(&[], 0);
        let one = evaluate(&[episode(1, 60_000, None)], 600_000);
        let manual_reset = Some("an operator closed its circuit breaker");
        let two = evaluate(
            &[episode(4, 7_200_000, None), episode(7, 7_320_000, manual_reset)],
            9_000_000,
        );

        insta::assert_snapshot!([render(&one), render(&two)].join("\n\n"), @r"
        cynosure on mars: INFO, RESOLVED: example: its credential is refused: 401 \u{1b}[31m

        INFO, RESOLVED: example: its credential is refused: 401 \u{1b}[31m
        It was CRITICAL from 2026-03-07T09:06:03.000Z to 2026-03-07T09:07:10.000Z (1 min 7 s), and is resolved: the condition no longer holds.

        cynosure on mars: INFO, RESOLVED: example: its credential is refused: 401 \u{1b}[31m

        INFO, RESOLVED: example: its credential is refused: 401 \u{1b}[31m
        It was CRITICAL from 2026-03-07T11:05:03.000Z to 2026-03-07T11:08:10.000Z (3 min 7 s), and is resolved: an operator closed its circuit breaker.
        It occurred 2 times meanwhile.
        ");
        let json = one.to_json();
        let alert = &json["alerts"][0];
        assert_eq!((&json["severity"], &alert["severity"]), (&"info".into(), &"info".into()));
        assert_eq!(
            (&alert["event"], &alert["max_severity"]),
            (&"resolved_unnotified".into(), &"critical".into())
        );
    }

    #[test]
    fn json_shows_the_severity_of_resolved_alerts() {
        let mut alerts = AlertStore::default();
        assert_eq!(alerts.evaluate(&observe(&["work"]), NOW).len(), 1);

        let json = AlertMessage::new("mars", alerts.evaluate(&observe(&[]), NOW), NOW).to_json();

        let alert = &json["alerts"][0];
        assert_eq!(
            (&alert["event"], &alert["max_severity"]),
            (&"resolved".into(), &"critical".into())
        );
        assert_eq!((&json["severity"], &alert["severity"]), (&"info".into(), &"info".into()));
    }

    #[test]
    fn json_contains_every_field() {
        let firing = AlertStore::default().evaluate(&observe(&["work"]), NOW);

        let json = AlertMessage::new("mars", firing, NOW).to_json();

        insta::assert_snapshot!(serde_json::to_string_pretty(&json).unwrap(), @r#"
        {
          "alerts": [
            {
              "advice": "put a fresh credential in its place",
              "event": "firing",
              "key": "execution.credential_refused",
              "max_severity": "critical",
              "message": "its credential is refused: 401 \u001b[31m",
              "occurrences": 1,
              "resolved_at": null,
              "resolved_reason": null,
              "severity": "critical",
              "started_at": "2026-03-07T09:05:03.000Z",
              "subject": "work"
            }
          ],
          "host": "mars",
          "schema": 2,
          "sent_at": "2026-03-07T09:05:03.000Z",
          "severity": "critical",
          "subject": "cynosure on mars: CRITICAL: work: its credential is refused: 401 \\u{1b}[31m",
          "test": false
        }
        "#);
        assert_eq!(AlertMessage::new_test("mars", NOW).to_json()["test"], true);
    }
}
