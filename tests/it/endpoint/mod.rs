//! The endpoint over real sockets on loopback, before a made-up world.

mod answers;
pub(crate) mod client;
mod limits;
pub(crate) mod scene;
mod siege;
mod stream;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use cynosure::endpoint::view::Snapshot;
use cynosure::endpoint::{EndpointConfig, HttpServer, Listeners, Token};

use self::client::{Reply, ask};
use self::scene::Scene;

/// A world and the server that shows it.
struct Stage {
    scene: Arc<Scene>,
    address: SocketAddr,
    server: HttpServer,
}

impl Stage {
    fn show(snapshot: Snapshot) -> Self {
        Self::with(snapshot, None, 100_000)
    }

    fn with(snapshot: Snapshot, token: Option<&str>, requests_per_minute: u32) -> Self {
        let scene = Arc::new(Scene::of(snapshot));
        let listening = Listeners::bind(([127, 0, 0, 1], 0).into()).unwrap();
        let address = listening.addresses()[0];
        let offer = EndpointConfig {
            data: Arc::clone(&scene) as _,
            token: token.map(Token::new),
            requests_per_minute,
        };
        let server = HttpServer::start(&listening, offer).unwrap();
        Self { scene, address, server }
    }

    fn get(&self, path: &str) -> Reply {
        ask(self.address, "GET", path, &[])
    }
}

/// Asks until it is so, a few times a second, since requests are counted; the runner ends a test that hangs.
#[expect(clippy::disallowed_methods, reason = "another process tells nobody when it is there")]
pub(crate) fn until(mut is_so: impl FnMut() -> bool) {
    while !is_so() {
        std::thread::sleep(Duration::from_millis(50));
    }
}
