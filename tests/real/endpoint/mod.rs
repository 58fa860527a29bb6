//! The endpoint as those meet it for whom it is: a browser, and a program that reads its description.

mod browser;
#[path = "../../it/endpoint/fake_data.rs"]
mod fake_data;
mod openapi;
mod page;

use std::net::SocketAddr;
use std::sync::Arc;

use cynosure::endpoint::view::Snapshot;
use cynosure::endpoint::{EndpointConfig, HttpServer, Listeners};

use self::fake_data::FakeData;

/// A world and the server that shows it.
struct BrowserTestEndpoint {
    data: Arc<FakeData>,
    address: SocketAddr,
    server: HttpServer,
}

impl BrowserTestEndpoint {
    fn serving(snapshot: Snapshot) -> Self {
        Self::at_address(([127, 0, 0, 1], 0).into(), Arc::new(FakeData::new(snapshot)))
    }

    fn at_address(address: SocketAddr, scene: Arc<FakeData>) -> Self {
        let listening = Listeners::bind(address).expect("loopback has ports");
        let address = listening.addresses()[0];
        let offer = EndpointConfig {
            data: Arc::clone(&scene) as _,
            token: None,
            requests_per_minute: 10_000,
        };
        let server = HttpServer::start(&listening, offer).expect("it can be served");
        Self { data: scene, address, server }
    }

    /// The same world at the same address, changed while nobody served it.
    fn restart_with(self, change: impl FnOnce(&mut Snapshot)) -> Self {
        self.server.shut_down();
        self.data.update(change);
        Self::at_address(self.address, self.data)
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}
