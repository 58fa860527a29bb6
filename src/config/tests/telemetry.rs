//! `[telemetry]`: export of metrics and traces.

use super::*;

#[test]
fn telemetry_is_off_without_an_endpoint() {
    let loaded = load_text("").expect("it is valid");

    let expected = TelemetrySettings {
        otlp_endpoint: None,
        otlp_token: None,
        interval: Duration::from_secs(60),
        trace_share: 0.05,
    };
    assert_eq!(loaded.settings.telemetry, expected);
}

#[test]
fn an_address_and_a_token_are_read_and_shown() {
    let text = "[telemetry]\notlp_endpoint = \"https://otel.example.com/in\"\notlp_token = { file = \"t\" }\n\
                interval = \"10s\"\ntrace_share = 1\n";
    let loaded = load_text(text).expect("it is valid");

    let telemetry = &loaded.settings.telemetry;
    let url = telemetry.otlp_endpoint.as_ref().map(ToString::to_string);
    assert_eq!(url.as_deref(), Some("https://otel.example.com/in"));
    assert!(
        matches!(&telemetry.otlp_token, Some(CredentialRef::File(path)) if path.ends_with("t"))
    );
    assert_eq!((telemetry.interval, telemetry.trace_share), (Duration::from_secs(10), 1.0));
    let again = load_text(&loaded.to_toml()).expect("what is shown is valid");
    assert_eq!(again.settings.telemetry, loaded.settings.telemetry);
}

#[test]
fn a_plaintext_or_secret_endpoint_url_is_rejected() {
    for (line, remedy) in [
        ("otlp_endpoint = \"http://otel.example.com:4318\"", "is plain http"),
        ("otlp_endpoint = \"https://me:hunter2@otel.example.com\"", "set a token with otlp_token"),
        ("otlp_endpoint = \"hunter2\"", "is not a valid URL"),
        ("otlp_endpoint = \"ftp://otel.example.com\"", "is not an http or https URL"),
        ("otlp_token = \"hunter2\"", "secrets are never written in the configuration"),
        ("trace_share = 1.5", "from 0.0 to 1.0"),
        ("interval = 0", "interval"),
        ("endpoint = \"x\"", "otlp_endpoint"),
    ] {
        let error = load_errors(&format!("[telemetry]\n{line}\n"));
        assert!(error.contains(remedy) && !error.contains("hunter2"), "{error}");
    }
    for loopback in ["http://127.0.0.1:4318", "http://[::1]:4318/", "http://localhost:4318"] {
        load_text(&format!("[telemetry]\notlp_endpoint = \"{loopback}\"\n")).expect("it is valid");
    }
}
