//! `[endpoint]`: the HTTP server of the monitor.

use super::*;

#[test]
fn the_endpoint_is_off_without_a_listen_address() {
    let loaded = load_text("").expect("it is valid");

    let expected = EndpointSettings { listen: None, token: None, requests_per_minute: 60 };
    assert_eq!(loaded.settings.endpoint, expected);
}

#[test]
fn an_address_and_a_token_are_read_and_shown() {
    let text = "[endpoint]\nlisten = \"[::]:8080\"\ntoken = { file = \"endpoint-token\" }\n";
    let loaded = load_text(text).expect("it is valid");

    let endpoint = &loaded.settings.endpoint;
    assert_eq!(endpoint.listen, Some("[::]:8080".parse().expect("an address")));
    assert!(
        matches!(&endpoint.token, Some(CredentialRef::File(path)) if path.ends_with("endpoint-token"))
    );
    let again = load_text(&loaded.to_toml()).expect("what is shown is valid");
    assert_eq!(again.settings.endpoint, loaded.settings.endpoint);
}

#[test]
fn other_machines_need_a_token() {
    for public in ["0.0.0.0:8080", "[::]:80", "192.0.2.7:8080"] {
        let error = load_errors(&format!("[endpoint]\nlisten = \"{public}\"\n"));
        assert!(error.contains("config.toml:2:1") && error.contains("add token = "), "{error}");
    }
    for loopback in ["127.0.0.1:8080", "127.9.9.9:1", "[::1]:8080"] {
        load_text(&format!("[endpoint]\nlisten = \"{loopback}\"\n")).expect("it is valid");
    }
}

#[test]
fn an_invalid_address_or_token_is_rejected_with_a_remedy() {
    for (line, remedy) in [
        ("listen = \"localhost\"", "such as \"127.0.0.1:8080\""),
        ("listen = 8080", "write a text in quotes"),
        ("token = \"hunter2\"", "secrets are never written in the configuration"),
        ("requests_per_minute = 0", "from 1 to 10000"),
    ] {
        let error = load_errors(&format!("[endpoint]\n{line}\n"));
        assert!(error.contains(remedy), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}
