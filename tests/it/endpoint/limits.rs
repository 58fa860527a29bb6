//! Who may ask, and how often.

use super::TestEndpoint;
use super::client::send_request;
use super::fake_data::healthy_snapshot;

#[test]
fn the_61st_request_in_a_minute_gets_retry_after() {
    let stage = TestEndpoint::serving_with(healthy_snapshot(), None, 60);
    for number in 1..=60 {
        let reply = stage.get("/api/health/overview");
        assert_eq!(reply.status, 200, "request {number}");
        assert_eq!(reply.header("ratelimit-policy"), "\"look\";q=60;w=60");
        assert!(reply.header("ratelimit").starts_with(&format!("\"look\";r={};t=", 60 - number)));
    }

    let refused = stage.get("/");

    assert_eq!(refused.status, 429);
    let wait: u64 = refused.header("retry-after").parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    assert!(refused.header("ratelimit").starts_with("\"look\";r=0;t="), "{refused:?}");
    assert_eq!(refused.json()["title"], "Too Many Requests");
    // A person who looks too often must not make a probe believe that all is lost.
    let probe = stage.get("/health");
    assert_eq!((probe.status, probe.header("ratelimit-policy")), (200, "\"probe\";q=60;w=60"));
}

#[test]
fn wrong_tokens_do_not_use_up_the_owners_limit() {
    let stage = TestEndpoint::serving_with(healthy_snapshot(), Some("s3cret"), 5);
    for path in ["/", "/health", "/", "/metrics", "/nothing"] {
        let guess = send_request(stage.address, "GET", path, &[("Authorization", "Bearer guess")]);
        assert_eq!(
            (guess.status, guess.header("ratelimit-policy")),
            (401, "\"stranger\";q=5;w=60")
        );
    }
    let guess = send_request(stage.address, "GET", "/", &[("Authorization", "Bearer guess")]);
    assert_eq!(guess.status, 429);
    // Behind a proxy both have one address.
    let right = send_request(stage.address, "GET", "/", &[("Authorization", "Bearer s3cret")]);
    assert_eq!((right.status, right.header("ratelimit-policy")), (200, "\"look\";q=5;w=60"));
    assert!(right.header("ratelimit").starts_with("\"look\";r=4;t="), "{right:?}");
}

#[test]
fn cross_site_requests_use_up_nothing() {
    let stage = TestEndpoint::serving_with(healthy_snapshot(), None, 5);
    let foreign = [("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "no-cors")];
    for _ in 0..5 {
        assert_eq!(send_request(stage.address, "GET", "/", &foreign).status, 403);
    }
    assert!(stage.get("/").header("ratelimit").starts_with("\"look\";r=4;t="));
}

#[test]
fn nothing_is_served_without_the_token() {
    let stage = TestEndpoint::serving_with(healthy_snapshot(), Some("s3cret"), 1000);
    for path in
        ["/", "/health", "/metrics", "/style.css", "/events", "/api/openapi.json", "/nothing"]
    {
        let reply = stage.get(path);
        assert_eq!(reply.status, 401, "{path}");
        let schemes = reply.header("www-authenticate");
        assert!(schemes.contains("Bearer realm=") && schemes.contains("Basic realm="), "{schemes}");
        assert!(!reply.body.contains("well"), "{}", reply.body);
    }
    // The second is the user "me" with the token as the password, as a browser sends it.
    for proof in ["Bearer s3cret", "Basic bWU6czNjcmV0"] {
        let headers = [("Authorization", proof), ("Host", "cynosure.example.com")];
        assert_eq!(send_request(stage.address, "GET", "/health", &headers).status, 200, "{proof}");
    }
    let described = send_request(
        stage.address,
        "GET",
        "/api/openapi.json",
        &[("Authorization", "Bearer s3cret")],
    );
    assert!(described.json()["security"].is_array());
}

#[test]
fn a_dns_rebinding_request_is_rejected() {
    let stage = TestEndpoint::serving(healthy_snapshot());
    for host in ["evil.example", "evil.example:8080", "10.0.0.1"] {
        let reply = send_request(stage.address, "GET", "/api/health/sources", &[("Host", host)]);
        assert_eq!(reply.status, 421, "{host}");
        assert!(!reply.body.contains("work"), "{}", reply.body);
    }
    let port = stage.address.port();
    for host in [format!("127.0.0.1:{port}"), format!("localhost:{port}"), "[::1]:9".to_owned()] {
        assert_eq!(
            send_request(stage.address, "GET", "/health", &[("Host", &host)]).status,
            200,
            "{host}"
        );
    }
    let two = send_request(
        stage.address,
        "GET",
        "/health",
        &[("Host", "localhost"), ("Host", "localhost")],
    );
    assert_eq!(two.status, 400);
}
