//! The endpoint as those meet it for whom it is: a browser, and a program that reads its description.

mod browser;
mod described;
mod page;
#[path = "../../it/endpoint/scene.rs"]
mod scene;

use std::net::SocketAddr;
use std::sync::Arc;

use cynosure::endpoint::view::Snapshot;
use cynosure::endpoint::{EndpointConfig, HttpServer, Listeners};

use self::scene::Scene;

/// A world and the server that shows it.
struct Stage {
    scene: Arc<Scene>,
    address: SocketAddr,
    server: HttpServer,
}

impl Stage {
    fn show(snapshot: Snapshot) -> Self {
        Self::at(([127, 0, 0, 1], 0).into(), Arc::new(Scene::of(snapshot)))
    }

    fn at(address: SocketAddr, scene: Arc<Scene>) -> Self {
        let listening = Listeners::bind(address).expect("loopback has ports");
        let address = listening.addresses()[0];
        let offer = EndpointConfig {
            data: Arc::clone(&scene) as _,
            token: None,
            requests_per_minute: 10_000,
        };
        let server = HttpServer::start(&listening, offer).expect("it can be served");
        Self { scene, address, server }
    }

    /// The same world at the same address, changed while nobody served it.
    fn away(self, change: impl FnOnce(&mut Snapshot)) -> Self {
        self.server.shut_down();
        self.scene.change(change);
        Self::at(self.address, self.scene)
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}
