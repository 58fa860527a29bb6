//! Access control and rate limits of the endpoint.

use super::TestEndpoint;
use super::client::send_request;
use super::fake_data::healthy_snapshot;

#[test]
fn the_61st_request_in_a_minute_gets_retry_after() {
    let endpoint = TestEndpoint::serving_with(healthy_snapshot(), None, 60);
    for number in 1..=60 {
        let response = endpoint.get("/api/health/overview");
        assert_eq!(response.status, 200, "request {number}");
        assert_eq!(response.header("ratelimit-policy"), "\"dashboard\";q=60;w=60");
        assert!(
            response
                .header("ratelimit")
                .starts_with(&format!("\"dashboard\";r={};t=", 60 - number))
        );
    }

    let throttled = endpoint.get("/");

    assert_eq!(throttled.status, 429);
    let wait: u64 = throttled.header("retry-after").parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    assert!(throttled.header("ratelimit").starts_with("\"dashboard\";r=0;t="), "{throttled:?}");
    assert_eq!(throttled.json()["title"], "Too Many Requests");
    // A rate limited dashboard must not make health probes fail.
    let probe = endpoint.get("/health");
    assert_eq!((probe.status, probe.header("ratelimit-policy")), (200, "\"probe\";q=60;w=60"));
}

#[test]
fn wrong_tokens_do_not_use_up_the_owners_limit() {
    let endpoint = TestEndpoint::serving_with(healthy_snapshot(), Some("s3cret"), 5);
    for path in ["/", "/health", "/", "/metrics", "/nothing"] {
        let guess =
            send_request(endpoint.address, "GET", path, &[("Authorization", "Bearer guess")]);
        assert_eq!(
            (guess.status, guess.header("ratelimit-policy")),
            (401, "\"unauthenticated\";q=5;w=60")
        );
    }
    let guess = send_request(endpoint.address, "GET", "/", &[("Authorization", "Bearer guess")]);
    assert_eq!(guess.status, 429);
    // Behind a reverse proxy, both clients have the same address.
    let right = send_request(endpoint.address, "GET", "/", &[("Authorization", "Bearer s3cret")]);
    assert_eq!((right.status, right.header("ratelimit-policy")), (200, "\"dashboard\";q=5;w=60"));
    assert!(right.header("ratelimit").starts_with("\"dashboard\";r=4;t="), "{right:?}");
}

#[test]
fn cross_site_requests_use_up_nothing() {
    let endpoint = TestEndpoint::serving_with(healthy_snapshot(), None, 5);
    let foreign = [("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "no-cors")];
    for _ in 0..5 {
        assert_eq!(send_request(endpoint.address, "GET", "/", &foreign).status, 403);
    }
    assert!(endpoint.get("/").header("ratelimit").starts_with("\"dashboard\";r=4;t="));
}

#[test]
fn nothing_is_served_without_the_token() {
    let endpoint = TestEndpoint::serving_with(healthy_snapshot(), Some("s3cret"), 1000);
    for path in
        ["/", "/health", "/metrics", "/style.css", "/events", "/api/openapi.json", "/nothing"]
    {
        let response = endpoint.get(path);
        assert_eq!(response.status, 401, "{path}");
        let schemes = response.header("www-authenticate");
        assert!(schemes.contains("Bearer realm=") && schemes.contains("Basic realm="), "{schemes}");
        assert!(!response.body.contains("healthy"), "{}", response.body);
    }
    // The second is the user "me" with the token as the password, as a browser sends it.
    for authorization in ["Bearer s3cret", "Basic bWU6czNjcmV0"] {
        let headers = [("Authorization", authorization), ("Host", "cynosure.example.com")];
        assert_eq!(
            send_request(endpoint.address, "GET", "/health", &headers).status,
            200,
            "{authorization}"
        );
    }
    let openapi = send_request(
        endpoint.address,
        "GET",
        "/api/openapi.json",
        &[("Authorization", "Bearer s3cret")],
    );
    assert!(openapi.json()["security"].is_array());
}

#[test]
fn a_dns_rebinding_request_is_rejected() {
    let endpoint = TestEndpoint::serving(healthy_snapshot());
    for host in ["evil.example", "evil.example:8080", "10.0.0.1"] {
        let response =
            send_request(endpoint.address, "GET", "/api/health/sources", &[("Host", host)]);
        assert_eq!(response.status, 421, "{host}");
        assert!(!response.body.contains("work"), "{}", response.body);
    }
    let port = endpoint.address.port();
    for host in [format!("127.0.0.1:{port}"), format!("localhost:{port}"), "[::1]:9".to_owned()] {
        assert_eq!(
            send_request(endpoint.address, "GET", "/health", &[("Host", &host)]).status,
            200,
            "{host}"
        );
    }
    let with_two_hosts = send_request(
        endpoint.address,
        "GET",
        "/health",
        &[("Host", "localhost"), ("Host", "localhost")],
    );
    assert_eq!(with_two_hosts.status, 400);
}
