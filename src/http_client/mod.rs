//! HTTP clients without automatic features, the reading of their errors, and the cryptography of TLS
//! for this process.
//!
//! Sources, sign-in, alerts and telemetry build their own clients here. They share no connections,
//! limits or proxies.

mod error;
mod resolver;
mod tls;

use reqwest::ClientBuilder;
use reqwest::redirect::Policy;
use url::Origin;

pub use self::error::{
    TransportErrorKind, describe_error, error_chain, is_response_without_tls, root_cause,
};
pub use self::tls::shared_tls_config;
use cynosure_engine::is_loopback_host;

use self::resolver::SystemResolver;

/// Returns the builder of a client without redirects, Referer, decompression and cookies.
///
/// It uses the proxies of the environment, and the certificates of the system.
pub fn client_builder() -> ClientBuilder {
    install_crypto_provider();
    ClientBuilder::new()
        .user_agent(concat!("cynosure/", env!("CARGO_PKG_VERSION")))
        .redirect(Policy::none())
        .referer(false)
        .dns_resolver(SystemResolver)
}

/// Installs ring as the cryptography of TLS. Must precede the first client with TLS.
pub fn install_crypto_provider() {
    // Fails if a provider is already installed, and then that one is used.
    let _installed = rustls::crypto::ring::default_provider().install_default();
}

/// Returns the builder of a client that sends requests to these origins only: past any proxy of the
/// environment if all are this machine, and without certificates if all are plain http.
pub fn client_builder_for(origins: &[Origin]) -> ClientBuilder {
    let mut builder = client_builder();
    if origins.iter().all(is_plain_http) {
        // Reading the system's certificates takes longer than a whole demo request.
        builder = builder.tls_certs_only([]);
    }
    if origins.iter().all(is_loopback) {
        builder = builder.no_proxy();
    }
    builder
}

fn is_plain_http(origin: &Origin) -> bool {
    matches!(origin, Origin::Tuple(scheme, ..) if scheme == "http")
}

fn is_loopback(origin: &Origin) -> bool {
    matches!(origin, Origin::Tuple(_, host, _) if is_loopback_host(&host.to_string()))
}
