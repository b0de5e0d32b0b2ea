//! Who the resolver is to clients that ask over TLS (RFC 7858).
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sixgate_engine::config::Identity;
use sixgate_engine::finding::{Finding, Severity};
use tokio_rustls::TlsAcceptor;

/// The certificate with its key, as it is now.
#[derive(Clone, Default)]
pub(super) struct Acceptor(Arc<Mutex<Option<TlsAcceptor>>>);

impl Acceptor {
    /// Shows this certificate from the next connection on. A finding says what is wrong with it.
    pub(super) fn follow(&self, identity: Option<&Identity>) -> Option<Finding> {
        let made = identity.map(server).transpose();
        let finding = made.as_ref().err().map(|error| {
            let text = format!("the resolver cannot be asked over TLS: {error}");
            let mend =
                "give the certificate, those between it and its authority, and the private key that belongs to it";
            Finding::new(Severity::Error, "dns-tls-identity", "dns64", text, mend)
        });
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = made.unwrap_or_default().map(TlsAcceptor::from);
        finding
    }

    /// For the next connection; nothing where there is no certificate to show.
    pub(super) fn current(&self) -> Option<TlsAcceptor> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn server(identity: &Identity) -> io::Result<Arc<ServerConfig>> {
    let chain = identity.certificates.iter().map(|der| CertificateDer::from(der.clone())).collect();
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).map_err(io::Error::other)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(io::Error::other)?.with_no_client_auth();
    let mut config = config.with_single_cert(chain, key).map_err(io::Error::other)?;
    config.alpn_protocols = vec![b"dot".to_vec()];
    Ok(Arc::new(config))
}
