//! HTTP endpoint over loopback sockets, with fake dashboard data.

mod abuse;
pub(crate) mod client;
pub(crate) mod fake_data;
mod limits;
mod responses;
mod stream;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use cynosure::endpoint::view::Snapshot;
use cynosure::endpoint::{EndpointConfig, HttpServer, Listeners, Token};

use self::client::{TestResponse, send_request};
use self::fake_data::FakeData;

/// Running endpoint and its fake data.
struct TestEndpoint {
    data: Arc<FakeData>,
    address: SocketAddr,
    server: HttpServer,
}

impl TestEndpoint {
    fn serving(snapshot: Snapshot) -> Self {
        Self::serving_with(snapshot, None, 100_000)
    }

    fn serving_with(snapshot: Snapshot, token: Option<&str>, requests_per_minute: u32) -> Self {
        let data = Arc::new(FakeData::new(snapshot));
        let listeners = Listeners::bind(([127, 0, 0, 1], 0).into()).unwrap();
        let address = listeners.addresses()[0];
        let config = EndpointConfig {
            data: Arc::clone(&data) as _,
            token: token.map(Token::new),
            requests_per_minute,
        };
        let server = HttpServer::start(&listeners, config).unwrap();
        Self { data, address, server }
    }

    fn get(&self, path: &str) -> TestResponse {
        send_request(self.address, "GET", path, &[])
    }
}

/// Polls `condition` every 50 ms until it is true, and not faster, because requests count against
/// the rate limit. There is no timeout, because the test runner ends a test that hangs.
#[expect(clippy::disallowed_methods, reason = "another process does not announce that it is ready")]
pub(crate) fn wait_until(mut condition: impl FnMut() -> bool) {
    while !condition() {
        std::thread::sleep(Duration::from_millis(50));
    }
}
