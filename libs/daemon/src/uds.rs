//! gRPC on a Unix socket that only the daemon's own user and root can use.
//!
//! - The directory is made with mode 0700, the socket has 0600, and each
//!   peer's credentials are checked besides.
//! - A socket left behind by a dead process is replaced, after making sure
//!   that nobody answers there. The new one is made aside and renamed over it,
//!   so the name is never missing and never open to others. Two starters at
//!   once are kept apart by the role lock, which is taken before.

use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use tokio::net::{UnixListener, UnixStream};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic_health::server::HealthReporter;

/// Longest path of a socket: `sun_path` holds 108 bytes with the final NUL,
/// and the name aside takes 4 more.
pub const SOCKET_PATH_BYTES_MAX: usize = 103;

/// How long open streams may take to end once the daemon stops.
const STREAM_GRACE: Duration = Duration::from_secs(2);
/// A failing accept (no descriptors left) is tried again after this pause.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// A peer that answers no HTTP/2 ping for so long is disconnected.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// Why a socket can't be served.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error("another process answers at {}", .0.display())]
    InUse(PathBuf),
    #[error("{} exists and is no socket", .0.display())]
    NotASocket(PathBuf),
    #[error(
        "socket path {} is longer than {SOCKET_PATH_BYTES_MAX} bytes; set a shorter socket-dir",
        .0.display()
    )]
    PathTooLong(PathBuf),
    #[error("listen at {}: {error}", path.display())]
    Io { path: PathBuf, error: io::Error },
}

/// A listening socket; its name is removed on drop if it is still ours.
#[derive(Debug)]
pub struct PrivateListener {
    listener: UnixListener,
    path: PathBuf,
    identity: (u64, u64),
}

impl PrivateListener {
    /// Listens at `path`, making its directory if it is missing. Must be
    /// called within a tokio runtime.
    pub fn bind(path: &Path) -> Result<PrivateListener, BindError> {
        if path.as_os_str().len() > SOCKET_PATH_BYTES_MAX {
            return Err(BindError::PathTooLong(path.to_owned()));
        }
        let io_error = |error| BindError::Io {
            path: path.to_owned(),
            error,
        };
        if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(dir)
                .map_err(io_error)?;
        }
        check_vacant(path)?;
        let mut aside = path.as_os_str().to_owned();
        aside.push(".new");
        let aside = PathBuf::from(aside);
        match std::fs::remove_file(&aside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io_error(error)),
            _ => {}
        }
        let listener = UnixListener::bind(&aside).map_err(io_error)?;
        let mode = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(&aside, mode).map_err(io_error)?;
        let metadata = std::fs::symlink_metadata(&aside).map_err(io_error)?;
        std::fs::rename(&aside, path).map_err(io_error)?;
        let identity = (metadata.dev(), metadata.ino());
        Ok(PrivateListener {
            listener,
            path: path.to_owned(),
            identity,
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The next connection of our own user or root; others are closed and
    /// logged. Failures to accept are waited out, so this never fails.
    /// Cancel-safe.
    pub async fn accept(&self) -> UnixStream {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => match allowed(&stream) {
                    Ok(true) => return stream,
                    Ok(false) => tracing::warn!(
                        socket = %self.path.display(),
                        "refused a connection of another user"
                    ),
                    Err(error) => tracing::debug!(%error, "a peer has no credentials"),
                },
                Err(error) => {
                    tracing::warn!(%error, socket = %self.path.display(), "accept failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

impl Drop for PrivateListener {
    fn drop(&mut self) {
        let ours = std::fs::symlink_metadata(&self.path)
            .is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == self.identity);
        if ours {
            // Left behind it would only be replaced by the next start.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Nothing at `path`, or a socket where nobody answers.
fn check_vacant(path: &Path) -> Result<(), BindError> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => {
            return Err(BindError::Io {
                path: path.to_owned(),
                error,
            });
        }
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(BindError::NotASocket(path.to_owned()));
        }
        Ok(_) => {}
    }
    // A hung owner's backlog may be full (`WouldBlock` is impossible on a
    // blocking socket, but its connect would wait): hence non-blocking.
    match connect_now(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Ok(_) => Err(BindError::InUse(path.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            Err(BindError::InUse(path.to_owned()))
        }
        Err(error) => Err(BindError::Io {
            path: path.to_owned(),
            error,
        }),
    }
}

fn connect_now(path: &Path) -> io::Result<StdUnixStream> {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect};
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(StdUnixStream::from(socket))
}

fn allowed(stream: &UnixStream) -> io::Result<bool> {
    let peer = stream.peer_cred()?.uid();
    Ok(peer == 0 || peer == rustix::process::geteuid().as_raw())
}

/// Serves `routes` until `stop` is cancelled, then lets streams that are open
/// end for two seconds and returns.
pub async fn serve(
    listener: PrivateListener,
    routes: Routes,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let path = listener.path().to_owned();
    // The queue is short: tonic takes a connection as soon as it is there.
    let (sender, receiver) = tokio::sync::mpsc::channel::<io::Result<UnixStream>>(16);
    let accepting = async {
        loop {
            let stream = listener.accept().await;
            if sender.send(Ok(stream)).await.is_err() {
                return;
            }
        }
    };
    let serving = Server::builder()
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .http2_keepalive_timeout(Some(KEEP_ALIVE))
        .add_routes(routes)
        .serve_with_incoming_shutdown(
            ReceiverStream::new(receiver),
            stop.clone().cancelled_owned(),
        );
    let graceless = async {
        stop.cancelled().await;
        tokio::time::sleep(STREAM_GRACE).await;
    };
    tokio::select! {
        result = serving => result.with_context(|| format!("serve {}", path.display())),
        () = async { tokio::join!(accepting, std::future::pending::<()>()); } => Ok(()),
        () = graceless => {
            tracing::debug!(socket = %path.display(), "streams were cut at the end");
            Ok(())
        }
    }
}

/// Routes with `grpc.health.v1` and reflection (`v1` and `v1alpha`), to which
/// the daemon adds its services. `descriptors` are the encoded descriptor sets
/// of those services.
pub fn base_routes(descriptors: &[&'static [u8]]) -> anyhow::Result<(HealthReporter, Routes)> {
    let (reporter, health) = tonic_health::server::health_reporter();
    let builder = || {
        let builder = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET);
        descriptors.iter().fold(builder, |builder, set| {
            builder.register_encoded_file_descriptor_set(set)
        })
    };
    let routes = Routes::new(health)
        .add_service(builder().build_v1().context("describe the services")?)
        .add_service(builder().build_v1alpha().context("describe the services")?);
    Ok((reporter, routes))
}

#[cfg(test)]
mod tests {
    use redrock_proto::client::{Timeouts, channel, connect};
    use tonic_health::ServingStatus;
    use tonic_health::pb::HealthCheckRequest;
    use tonic_health::pb::health_client::HealthClient;

    use super::*;

    #[tokio::test]
    async fn health_is_served_over_a_private_socket() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run/server.sock");
        let listener = PrivateListener::bind(&path).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(path.parent().unwrap()), 0o700);

        let (reporter, routes) = base_routes(&[redrock_proto::FILE_DESCRIPTOR_SET]).unwrap();
        let stop = CancellationToken::new();
        let server = tokio::spawn(serve(listener, routes, stop.clone()));
        let mut client = HealthClient::new(connect(&path, Timeouts::default()).await.unwrap());
        let request = || HealthCheckRequest {
            service: "redrock.v1.Snapshot".into(),
        };
        assert_eq!(
            client.check(request()).await.unwrap_err().code(),
            tonic::Code::NotFound
        );
        reporter
            .set_service_status("redrock.v1.Snapshot", ServingStatus::Serving)
            .await;
        assert_eq!(
            client.check(request()).await.unwrap().into_inner().status,
            1
        );

        // An open stream doesn't keep the daemon from stopping.
        let _watch = client.watch(request()).await.unwrap();
        stop.cancel();
        server.await.unwrap().unwrap();
        assert!(!path.exists());
        let error = connect(&path, Timeouts::default()).await.unwrap_err();
        assert_eq!(error.code, redrock_proto::ErrorCode::Unavailable);
        assert!(!error.hint.is_empty());
    }

    #[tokio::test]
    async fn a_lazy_channel_finds_a_daemon_that_comes_later_and_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p.sock");
        let mut client = HealthClient::new(channel(&path, Timeouts::default()));
        let request = || HealthCheckRequest {
            service: String::new(),
        };
        let error = client.check(request()).await.unwrap_err();
        assert_eq!(
            redrock_proto::RpcError::from(error).code,
            redrock_proto::ErrorCode::Unavailable
        );
        for _ in 0..2 {
            let (_reporter, routes) = base_routes(&[]).unwrap();
            let stop = CancellationToken::new();
            let listener = PrivateListener::bind(&path).unwrap();
            let server = tokio::spawn(serve(listener, routes, stop.clone()));
            // A call may still meet the former connection's end.
            let mut answered = false;
            for _ in 0..10 {
                answered |= client.check(request()).await.is_ok();
            }
            assert!(answered);
            stop.cancel();
            server.await.unwrap().unwrap();
        }
    }

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_living_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "std leaves the name behind, as a crash does");
        let listener = PrivateListener::bind(&path).unwrap();
        assert!(matches!(
            PrivateListener::bind(&path),
            Err(BindError::InUse(_))
        ));
        drop(listener);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn what_is_no_socket_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("precious");
        std::fs::write(&path, "data").unwrap();
        assert!(matches!(
            PrivateListener::bind(&path),
            Err(BindError::NotASocket(_))
        ));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "data");
        let long = dir.path().join("x".repeat(120));
        assert!(matches!(
            PrivateListener::bind(&long),
            Err(BindError::PathTooLong(_))
        ));
    }
}
