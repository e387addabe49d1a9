//! The bytes of a link to a master, encrypted or not.

use std::io;
use std::net::Ipv4Addr;

use redrock_tls::{Built, Options, client_config};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_util::either::Either;

/// A connected socket, without TLS or with it.
pub(super) type Stream = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// What shakes hands, out of the files that the options name.
pub(super) async fn connector(options: Options) -> anyhow::Result<TlsConnector> {
    let loading = tokio::task::spawn_blocking(move || client_config(&options));
    let Built { config, notices } = loading.await??;
    for notice in notices {
        tracing::debug!("{notice}");
    }
    Ok(TlsConnector::from(config))
}

/// Shakes hands where that is asked for. Callers bound it with a timeout.
pub(super) async fn open(socket: TcpStream, tls: Option<&TlsConnector>) -> io::Result<Stream> {
    let Some(tls) = tls else {
        return Ok(Either::Left(socket));
    };
    // Nobody looks at it: as in Redis the chain of certificates counts, not the name.
    let name = ServerName::from(Ipv4Addr::UNSPECIFIED);
    let shaken = tls.connect(name, socket).await;
    let stream = shaken.map_err(|error| {
        let text = format!("TLS handshake with the master: {error}");
        io::Error::new(error.kind(), text)
    })?;
    Ok(Either::Right(Box::new(stream)))
}
