//! Logins over a connection that STARTTLS encrypts.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::net::TcpListener;
use tokio::task::spawn_local;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::limiter::Unlimited;
use crate::source::imap::connect::test_server::{account_with, play, self_signed_config};

/// Verifier that trusts any certificate.
#[derive(Debug)]
struct TrustingVerifier;

impl ServerCertVerifier for TrustingVerifier {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

fn trusting_config() -> Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(TrustingVerifier))
        .with_no_client_auth();
    Ok(Arc::new(config))
}

#[tokio::test]
async fn what_came_before_tls_is_forgotten() {
    run_locally(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = spawn_local(async move {
            let (stream, _address) = listener.accept().await.unwrap();
            let plain = [
                Say("* OK [CAPABILITY IMAP4rev1 STARTTLS LOGINDISABLED] ready"),
                Expect("A1 STARTTLS"),
                // In one packet: somebody on the way has added the second and third line.
                Say("A1 OK begin\n* CAPABILITY IMAP4rev1 AUTH=PLAIN\nA1 OK done"),
            ];
            let stream = play(stream, plain.to_vec()).await;
            let stream = TlsAcceptor::from(self_signed_config()).accept(stream).await.unwrap();
            let encrypted = [
                Expect("A1 CAPABILITY"),
                Say("* CAPABILITY IMAP4rev1\nA1 OK done"),
                Expect("A2 LOGIN me@example.com s3cret-word"),
                Say("A2 OK [CAPABILITY IMAP4rev1 OBJECTID] done"),
                UntilClosed,
            ];
            drop(play(stream, encrypted.to_vec()).await);
        });
        let options = ImapOptions { security: Security::StartTls, ..plain_options(port) };
        let account = account_with(options, Rc::new(Unlimited), trusting_config);

        let stream = connect(&account.options, account.tls_config).await.unwrap();
        let mut channel = log_in(stream, &account, &SecretString::from(SECRET)).await.unwrap();

        assert!(channel.is_encrypted());
        assert!(channel.capabilities().contains("OBJECTID"));
        drop(channel);
        server.await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn nothing_is_sent_to_a_server_without_starttls() {
    run_locally(async {
        for script in [
            &[Say("* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN] ready"), UntilClosed][..],
            &[
                Say("* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN STARTTLS] ready"),
                Expect("A1 STARTTLS"),
                Say("A1 NO [PRIVACYREQUIRED] no certificate"),
                UntilClosed,
            ],
        ] {
            let result = log_in_with(LoginMechanism::Password, Security::StartTls, script).await;

            let Err(LoginError::Refused(failure)) = result else { panic!("{result:?}") };
            assert_eq!(failure.cause, Cause::Tls, "{failure}");
        }
    })
    .await;
}
