//! Options of the sockets to peers, and peers' sockets of either family.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use anyhow::Context;
use rustix::net::sockopt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use crate::config::Settings;

/// Keep-alive and, unless `repl-disable-tcp-nodelay`, no delay. Failures only
/// cost the option.
pub(crate) fn prepare(socket: impl AsFd, settings: &Settings) {
    let result = (|| -> rustix::io::Result<()> {
        sockopt::set_tcp_nodelay(&socket, !settings.repl_disable_tcp_nodelay)?;
        let Some(idle) = settings.tcp_keepalive else {
            return Ok(());
        };
        sockopt::set_socket_keepalive(&socket, true)?;
        sockopt::set_tcp_keepidle(&socket, idle)?;
        let between = (idle / 3).max(Duration::from_secs(1));
        sockopt::set_tcp_keepintvl(&socket, between)?;
        sockopt::set_tcp_keepcnt(&socket, 3)
    })();
    if let Err(error) = result {
        tracing::debug!(%error, "a socket option was refused");
    }
}

/// A connection that was handed over: TCP, or the end of a socket pair behind
/// which the server speaks TLS.
pub(crate) trait PeerIo: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> PeerIo for T {}

/// Registers a received descriptor with the runtime.
pub(crate) fn from_descriptor(
    descriptor: OwnedFd,
    settings: &Settings,
) -> anyhow::Result<Box<dyn PeerIo>> {
    rustix::io::ioctl_fionbio(&descriptor, true).context("make the socket non-blocking")?;
    let domain = sockopt::socket_domain(&descriptor).context("tell the socket's family")?;
    if domain == rustix::net::AddressFamily::UNIX {
        let stream = std::os::unix::net::UnixStream::from(descriptor);
        return Ok(Box::new(
            UnixStream::from_std(stream).context("register the socket")?,
        ));
    }
    let stream = std::net::TcpStream::from(descriptor);
    prepare(&stream, settings);
    Ok(Box::new(
        TcpStream::from_std(stream).context("register the socket")?,
    ))
}
