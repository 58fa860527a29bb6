//! TLS of the connections to the database. A certificate is always verified, and so is its name.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt as _;
use tokio_postgres_rustls::MakeRustlsConnect;

/// Returns what encrypts a connection. It trusts the certificates in a PEM file, or those of the
/// system.
///
/// # Errors
/// One sentence, if there are no trusted certificates.
pub(super) fn tls_connector(root_certificates: Option<&Path>) -> Result<MakeRustlsConnect, String> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let builder = match root_certificates {
        Some(path) => builder.with_root_certificates(read_certificates(path)?),
        None => builder
            .with_platform_verifier()
            .map_err(|error| format!("cannot use the certificates of the system: {error}"))?,
    };
    Ok(MakeRustlsConnect::new(builder.with_no_client_auth()))
}

fn read_certificates(path: &Path) -> Result<RootCertStore, String> {
    let place = path.display();
    // The error names the file.
    let pem = fs_err::read(path).map_err(|error| format!("{error}; check sslrootcert"))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate =
            certificate.map_err(|error| format!("{place} is not a PEM file: {error}"))?;
        roots
            .add(certificate)
            .map_err(|error| format!("a certificate in {place} cannot be used: {error}"))?;
    }
    if roots.is_empty() {
        return Err(format!("{place} contains no certificate; check sslrootcert"));
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_certificates_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("roots.pem");
        let missing = tls_connector(Some(&path)).err().unwrap();
        assert!(missing.contains("roots.pem") && missing.contains("sslrootcert"), "{missing}");

        fs_err::write(&path, "no certificates\n").unwrap();
        let empty = tls_connector(Some(&path)).err().unwrap();
        assert!(empty.ends_with("roots.pem contains no certificate; check sslrootcert"), "{empty}");
    }
}
