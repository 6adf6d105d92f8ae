//! TLS, with client certificates where they are asked for, and new certificates without a restart.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use tokio_rustls::rustls::{self, RootCertStore, ServerConfig};

/// The files of TLS, all in PEM.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The certificate and those between it and its authority.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The authorities whose certificates clients must have; without them clients need none.
    pub client_ca: Option<PathBuf>,
}

/// Why TLS can't be had from the files.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can't be read, or holds no PEM of its kind.
    #[error("{}", file.display())]
    Pem {
        /// The file.
        file: PathBuf,
        /// Why.
        source: pem::Error,
    },
    /// A file holds no private key.
    #[error("{}: no private key in it", .0.display())]
    NoKey(PathBuf),
    /// A file holds no certificate.
    #[error("{}: no certificate in it", .0.display())]
    NoCertificate(PathBuf),
    /// Certificate and key don't fit together, or can't be used.
    #[error("certificate {} and key {}", certificate.display(), key.display())]
    Pair {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// The authorities can't be used.
    #[error("client authorities {}", file.display())]
    Authorities {
        /// The file.
        file: PathBuf,
        /// Why.
        source: VerifierBuilderError,
    },
}

/// TLS for a listener.
#[derive(Debug)]
pub struct Tls {
    files: TlsFiles,
    config: ArcSwap<ServerConfig>,
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    ///
    /// [`TlsError`], with the file.
    pub fn read(files: TlsFiles) -> Result<Self, TlsError> {
        let config = ArcSwap::from(config(&files)?);
        Ok(Self { files, config })
    }

    /// Reads the files anew, for connections from now on.
    ///
    /// # Errors
    ///
    /// [`TlsError`]; what was read before stays.
    pub fn reload(&self) -> Result<(), TlsError> {
        self.config.store(config(&self.files)?);
        Ok(())
    }

    /// The files.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        let TlsFiles { certificate, key, client_ca } = &self.files;
        [certificate, key].into_iter().chain(client_ca).cloned().collect()
    }

    /// An acceptor for the next connection.
    #[must_use]
    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.config.load_full())
    }
}

fn config(files: &TlsFiles) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let pair = |source| TlsError::Pair { certificate: files.certificate.clone(), key: files.key.clone(), source };
    let builder =
        ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions().map_err(pair)?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(file) => {
            let wrong = |source| TlsError::Authorities { file: file.clone(), source };
            let mut roots = RootCertStore::empty();
            for certificate in certificates(file)? {
                roots.add(certificate).map_err(|_| TlsError::NoCertificate(file.clone()))?;
            }
            builder.with_client_cert_verifier(
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().map_err(wrong)?,
            )
        }
    };
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|source| {
        let file = files.key.clone();
        if matches!(source, pem::Error::NoItemsFound) { TlsError::NoKey(file) } else { TlsError::Pem { file, source } }
    })?;
    let mut config = builder.with_single_cert(certificates(&files.certificate)?, key).map_err(pair)?;
    // gRPC clients insist on it.
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let wrong = |source| TlsError::Pem { file: file.to_owned(), source };
    let found = CertificateDer::pem_file_iter(file).map_err(wrong)?.collect::<Result<Vec<_>, _>>().map_err(wrong)?;
    if found.is_empty() { Err(TlsError::NoCertificate(file.to_owned())) } else { Ok(found) }
}
