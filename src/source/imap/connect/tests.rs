//! TLS connections, against a script.

use std::time::Duration;

use rustls::RootCertStore;
use tokio::net::TcpListener;
use tokio::task::spawn_local;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::source::imap::connect::test_server::{
    ScriptServer, ScriptStep, no_tls, plain_options, run_locally, self_signed_config,
};

/// Returns a configuration that trusts nobody.
fn distrusting_config() -> Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    Ok(Arc::new(config))
}

fn tls_options(port: u16) -> ImapOptions {
    ImapOptions { security: Security::Tls, ..plain_options(port) }
}

#[tokio::test]
async fn a_server_without_tls_is_named() {
    run_locally(async {
        let script = [
            ScriptStep::Say("* OK [CAPABILITY IMAP4rev1 STARTTLS] ready"),
            ScriptStep::Sleep(Duration::from_secs(60)),
        ];
        let server = ScriptServer::start(vec![script.to_vec()]).await;

        let failure = connect(&tls_options(server.port), distrusting_config).await.unwrap_err();

        assert_eq!(failure.cause, Cause::Tls);
        let expected = "does not speak TLS from the start: set security = \"starttls\"";
        assert!(failure.message.contains(expected), "{failure}");
    })
    .await;
}

#[tokio::test]
async fn an_untrusted_certificate_ends_the_handshake() {
    run_locally(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = spawn_local(async move {
            let (stream, _address) = listener.accept().await.unwrap();
            TlsAcceptor::from(self_signed_config()).accept(stream).await.is_err()
        });

        let failure = connect(&tls_options(port), distrusting_config).await.unwrap_err();

        assert_eq!(failure.cause, Cause::Tls);
        assert!(failure.message.contains("certificate"), "{failure}");
        assert!(server.await.unwrap(), "the client accepted the certificate");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_handshake_without_an_answer_times_out() {
    run_locally(async {
        let script = vec![ScriptStep::Sleep(Duration::from_secs(3600))];
        let server = ScriptServer::start(vec![script]).await;

        let failure = connect(&tls_options(server.port), distrusting_config).await.unwrap_err();

        assert_eq!(failure.cause, Cause::Timeout);
        assert!(failure.message.contains("does not answer the TLS handshake"), "{failure}");
    })
    .await;
}

#[tokio::test]
async fn a_host_without_certificates_is_named() {
    run_locally(async {
        let script = vec![ScriptStep::Sleep(Duration::from_secs(60))];
        let server = ScriptServer::start(vec![script]).await;

        let failure = connect(&tls_options(server.port), no_tls).await.unwrap_err();

        assert_eq!(failure.message, "cannot set up TLS on this host: this test needs no TLS");
    })
    .await;
}
