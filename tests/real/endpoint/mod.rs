//! Endpoint with its real clients: a browser, and a program that reads its OpenAPI document.

pub(crate) mod browser;
#[path = "../../it/endpoint/fake_data.rs"]
mod fake_data;
mod openapi;
mod page;

use std::net::SocketAddr;
use std::sync::Arc;

use cynosure::endpoint::view::Snapshot;
use cynosure::endpoint::{EndpointConfig, HttpServer, Listeners};

use self::fake_data::FakeData;

/// Server of the endpoint, and the data that it shows.
struct TestEndpoint {
    data: Arc<FakeData>,
    address: SocketAddr,
    server: HttpServer,
}

impl TestEndpoint {
    fn serving(snapshot: Snapshot) -> Self {
        Self::at_address(([127, 0, 0, 1], 0).into(), Arc::new(FakeData::new(snapshot)))
    }

    fn at_address(address: SocketAddr, data: Arc<FakeData>) -> Self {
        let listeners = Listeners::bind(address).expect("loopback has ports");
        let address = listeners.addresses()[0];
        let config = EndpointConfig {
            data: Arc::clone(&data) as _,
            token: None,
            requests_per_minute: 10_000,
        };
        let server = HttpServer::start(&listeners, config).expect("it can be served");
        Self { data, address, server }
    }

    /// Restarts the server at the same address, with data that changed while it was down.
    fn restart_with(self, change: impl FnOnce(&mut Snapshot)) -> Self {
        self.server.shut_down();
        self.data.update(change);
        Self::at_address(self.address, self.data)
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}
