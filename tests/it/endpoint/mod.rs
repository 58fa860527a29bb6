//! The endpoint over real sockets on loopback, before a made-up world.

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

/// A world and the server that shows it.
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
        let scene = Arc::new(FakeData::new(snapshot));
        let listening = Listeners::bind(([127, 0, 0, 1], 0).into()).unwrap();
        let address = listening.addresses()[0];
        let offer = EndpointConfig {
            data: Arc::clone(&scene) as _,
            token: token.map(Token::new),
            requests_per_minute,
        };
        let server = HttpServer::start(&listening, offer).unwrap();
        Self { data: scene, address, server }
    }

    fn get(&self, path: &str) -> TestResponse {
        send_request(self.address, "GET", path, &[])
    }
}

/// Asks until it is so, a few times a second, since requests are counted; the runner ends a test that hangs.
#[expect(clippy::disallowed_methods, reason = "another process tells nobody when it is there")]
pub(crate) fn wait_until(mut is_so: impl FnMut() -> bool) {
    while !is_so() {
        std::thread::sleep(Duration::from_millis(50));
    }
}
