//! Opening the sockets that the configuration names.
//!
//! Addresses are as in redis.conf: `*` and `::*` are all addresses of IPv4 and IPv6, a leading
//! `-` marks one that may be missing on this machine.

use crate::config::{Config, os_error_text};
use rustix::io::Errno;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use tokio::net::{TcpListener, TcpSocket, UnixListener, UnixSocket};

/// A socket that could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("Could not create server {kind} listening socket {address}: {why}")]
pub struct BindError {
    kind: &'static str,
    address: String,
    /// 0 for a Unix socket.
    port: u16,
    why: String,
}

impl BindError {
    /// What it means for the server, in Redis's words.
    pub fn outcome(&self) -> String {
        match self.port {
            0 => "Failed opening Unix socket, aborting.".to_owned(),
            port => format!("Failed listening on port {port} ({}), aborting.", self.kind),
        }
    }
}

/// One word of `bind`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Target {
    host: String,
    optional: bool,
}

fn target(word: &str) -> Target {
    match word.strip_prefix('-') {
        Some(host) => Target {
            host: host.to_owned(),
            optional: true,
        },
        None => Target {
            host: word.to_owned(),
            optional: false,
        },
    }
}

/// The address of a word; a name is looked up. IPv6 only where the word has a colon, as in Redis.
fn resolve(host: &str, port: u16) -> io::Result<SocketAddr> {
    match host {
        "*" => return Ok((Ipv4Addr::UNSPECIFIED, port).into()),
        "::*" => return Ok((Ipv6Addr::UNSPECIFIED, port).into()),
        _ => {}
    }
    let wants_v6 = host.contains(':');
    let mut found = (host, port).to_socket_addrs()?;
    found
        .find(|address| address.is_ipv6() == wants_v6)
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no address of this family"))
}

/// Errors that only mean that this machine lacks an address or a protocol.
fn is_forgiven(error: &io::Error, optional: bool) -> bool {
    let missing = [
        Errno::NOPROTOOPT,
        Errno::PROTONOSUPPORT,
        Errno::SOCKTNOSUPPORT,
    ]
    .into_iter()
    .chain([Errno::PFNOSUPPORT, Errno::AFNOSUPPORT]);
    match Errno::from_io_error(error) {
        Some(Errno::ADDRNOTAVAIL) => optional,
        Some(errno) => missing.into_iter().any(|known| known == errno),
        None => false,
    }
}

fn listen(address: SocketAddr, backlog: u32) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => {
            let socket = TcpSocket::new_v6()?;
            rustix::net::sockopt::set_ipv6_v6only(&socket, true)?;
            socket
        }
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(backlog)
}

/// A port, and where it is to be listened on.
#[derive(Debug)]
pub struct Port {
    kind: &'static str,
    number: u16,
    backlog: u32,
    /// None if the port is 0.
    wanted: Vec<(Target, io::Result<SocketAddr>)>,
}

impl Port {
    /// `port`
    pub fn plain(config: &Config) -> Self {
        Self::new(config, "TCP", config.port)
    }

    /// `tls-port`
    pub fn tls(config: &Config) -> Self {
        Self::new(config, "TLS", config.tls.port)
    }

    fn new(config: &Config, kind: &'static str, number: u16) -> Self {
        let words = config.network.bind.iter().filter(|_| number != 0);
        let wanted = words.map(|word| {
            let target = target(word);
            let address = resolve(&target.host, number);
            (target, address)
        });
        Self {
            kind,
            number,
            backlog: config.network.backlog,
            wanted: wanted.collect(),
        }
    }
}

/// Those of the open sockets that the port wants; the others are closed.
pub fn keep(port: &Port, mut open: Vec<TcpListener>) -> Vec<TcpListener> {
    open.retain(|listener| {
        let local = listener.local_addr().ok();
        let mut wanted = port.wanted.iter();
        wanted.any(|(_, address)| address.as_ref().ok() == local.as_ref())
    });
    open
}

/// Opens all sockets of a port; those of `kept` that already have one of its addresses are used
/// again. Must be called within a tokio runtime.
pub fn open(port: &Port, mut kept: Vec<TcpListener>) -> Result<Vec<TcpListener>, BindError> {
    let mut open = Vec::new();
    for (target, address) in &port.wanted {
        let held = kept.iter().position(|listener| {
            let local = listener.local_addr();
            local.is_ok_and(|local| address.as_ref().is_ok_and(|address| *address == local))
        });
        if let Some(at) = held {
            open.push(kept.swap_remove(at));
            continue;
        }
        let opened = match address {
            Ok(address) => listen(*address, port.backlog),
            Err(error) => Err(again(error)),
        };
        match opened {
            Ok(listener) => open.push(listener),
            Err(error) => {
                let error_text = os_error_text(&error);
                if is_forgiven(&error, target.optional) {
                    tracing::debug!(address = target.host, error_text, "address left out");
                    continue;
                }
                return Err(BindError {
                    kind: port.kind,
                    address: format!("{}:{}", target.host, port.number),
                    port: port.number,
                    why: error_text,
                });
            }
        }
    }
    Ok(open)
}

/// The same error once more.
fn again(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::new(error.kind(), error.to_string()),
    }
}

/// Opens a Unix socket, in place of one left behind by a process that is gone. `mode` 0 leaves
/// the permissions that the umask gives. Must be called within a tokio runtime.
pub fn unix(path: &Path, mode: u32, backlog: u32) -> Result<UnixListener, BindError> {
    let open = || {
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(Errno::ADDRINUSE.into());
        }
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let socket = UnixSocket::new_stream()?;
        socket.bind(path)?;
        if mode != 0 {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
        }
        socket.listen(backlog)
    };
    open().map_err(|error| BindError {
        kind: "Unix",
        address: path.display().to_string(),
        port: 0,
        why: os_error_text(&error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;
    use crate::config::settings::find;

    fn config(port: u16, bind: &[&str]) -> Config {
        let mut settings = Settings::new(Path::new("/"));
        let mut set = |name: &[u8], words: &[&[u8]]| {
            settings.set(find(name).unwrap().0, words, false).unwrap();
        };
        set(b"port", &[port.to_string().as_bytes()]);
        set(
            b"bind",
            &bind.iter().map(|b| b.as_bytes()).collect::<Vec<_>>(),
        );
        Config::new(settings, None)
    }

    fn tcp(config: &Config, kept: Vec<TcpListener>) -> Result<Vec<TcpListener>, BindError> {
        let port = Port::plain(config);
        let kept = keep(&port, kept);
        open(&port, kept)
    }

    fn free_port() -> u16 {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    }

    #[tokio::test]
    async fn missing_addresses_are_left_out_only_where_marked() {
        let port = free_port();
        let open = tcp(&config(port, &["127.0.0.1", "-192.0.2.1"]), Vec::new()).unwrap();
        assert_eq!(open.len(), 1);
        let error = tcp(&config(free_port(), &["192.0.2.1"]), Vec::new()).unwrap_err();
        assert!(
            error
                .to_string()
                .ends_with(": Cannot assign requested address"),
            "{error}"
        );
        assert!(tcp(&config(0, &["*"]), Vec::new()).unwrap().is_empty());
    }

    #[tokio::test]
    async fn an_address_in_use_is_named() {
        let port = free_port();
        let first = tcp(&config(port, &["127.0.0.1"]), Vec::new()).unwrap();
        let error = tcp(&config(port, &["127.0.0.1"]), Vec::new()).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "Could not create server TCP listening socket 127.0.0.1:{port}: \
                 Address already in use"
            )
        );
        // What is listening already is kept, also when all addresses are asked for beside it.
        let again = tcp(&config(port, &["127.0.0.1"]), first).unwrap();
        assert_eq!(again.len(), 1);
        let all = tcp(&config(port, &["*", "-::*"]), again).unwrap();
        assert_eq!(
            all[0].local_addr().unwrap(),
            (Ipv4Addr::UNSPECIFIED, port).into()
        );
    }

    #[tokio::test]
    async fn a_unix_socket_replaces_a_dead_one_but_not_a_live_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("r.sock");
        let first = unix(&path, 0o700, 5).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        let error = unix(&path, 0, 5).unwrap_err();
        assert!(
            error
                .to_string()
                .ends_with("r.sock: Address already in use"),
            "{error}"
        );
        drop(first);
        unix(&path, 0, 5).unwrap();
    }
}
