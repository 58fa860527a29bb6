//! Self-signed certificates of private servers.

use std::path::Path;
use std::process::{Command, Stdio};

const OPENSSL: &str = "/usr/bin/openssl";

/// Returns true if this machine can create certificates.
pub(crate) fn can_create_certificate() -> bool {
    Path::new(OPENSSL).exists()
}

/// Creates a certificate for 127.0.0.1, `cert.pem` and `key.pem` in `folder`, for clients that are
/// configured to trust it.
pub(crate) fn create_certificate(folder: &Path) {
    let status = Command::new(OPENSSL)
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"])
        .args(["-nodes", "-days", "30", "-subj", "/CN=127.0.0.1"])
        .args(["-addext", "subjectAltName=IP:127.0.0.1"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .args(["-keyout", "key.pem", "-out", "cert.pem"])
        .current_dir(folder)
        .stderr(Stdio::null())
        .status();
    assert!(status.expect("openssl starts").success(), "openssl failed");
}
