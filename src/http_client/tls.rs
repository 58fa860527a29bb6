//! TLS configuration of connections that do not speak HTTP.

use std::sync::{Arc, OnceLock};

use rustls::ClientConfig;
use rustls_platform_verifier::BuilderVerifierExt as _;

use super::install_crypto_provider;

/// Configuration shared by all connections of this process, so that they share the certificates in
/// memory and the sessions that can be resumed.
static SHARED_CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();

/// Returns the TLS configuration of this process. It trusts the certificates of the system, or of
/// `SSL_CERT_FILE`, as the HTTP clients do. They are read at the first call.
///
/// # Errors
/// Returns the reason if there are no trusted certificates. The next call reads them again.
pub fn shared_tls_config() -> Result<Arc<ClientConfig>, String> {
    if let Some(config) = SHARED_CONFIG.get() {
        return Ok(Arc::clone(config));
    }
    install_crypto_provider();
    let builder =
        ClientConfig::builder().with_platform_verifier().map_err(|error| error.to_string())?;
    Ok(Arc::clone(SHARED_CONFIG.get_or_init(|| Arc::new(builder.with_no_client_auth()))))
}
