//! `statsd host:port[:prefix]`: the figures pushed each second over UDP.
//!
//! Gauges go as they are, counters as what was added since the last push. Nothing here holds
//! anything else up: names are resolved in the background with a limit, packets that can't be
//! sent at once are lost, and a target that can't be reached is told once and tried again.

use super::{Figure, Kind, figures};
use crate::server::Server;
use hashbrown::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

const PERIOD: Duration = Duration::from_secs(1);
/// Fits an Ethernet frame, with the headers of IPv6 and some tunnel.
const PACKET_BYTES_MAX: usize = 1432;
const PREFIX: &str = "redrock";
/// A socket whose buffer stays full for so long loses the packet.
const SEND_WAIT: Duration = Duration::from_millis(100);
const RESOLVE_WAIT: Duration = Duration::from_secs(5);
/// Names may come to mean another host.
const RESOLVE_PERIOD: Duration = Duration::from_secs(60);

/// Where figures go, and what their names begin with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    host: String,
    port: u16,
    prefix: String,
}

impl Target {
    /// Reads `host:port[:prefix]`; an IPv6 address stands in brackets.
    pub fn parse(text: &str) -> Result<Self, String> {
        let bad = || format!("statsd must be host:port or host:port:prefix, not '{text}'");
        let (host, rest) = match text.strip_prefix('[') {
            Some(rest) => rest
                .split_once(']')
                .and_then(|(host, rest)| Some((host, rest.strip_prefix(':')?))),
            None => text.split_once(':'),
        }
        .ok_or_else(bad)?;
        let (port, prefix) = rest.split_once(':').unwrap_or((rest, PREFIX));
        let port = port.parse().ok().filter(|port| *port != 0);
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if host.is_empty() || prefix.is_empty() || !prefix.chars().all(is_plain) {
            return Err(bad());
        }
        Ok(Self {
            host: host.to_owned(),
            port: port.ok_or_else(bad)?,
            prefix: prefix.to_owned(),
        })
    }

    async fn resolve(&self) -> Result<SocketAddr, String> {
        let found = tokio::net::lookup_host((self.host.as_str(), self.port));
        match tokio::time::timeout(RESOLVE_WAIT, found).await {
            Ok(Ok(mut found)) => found.next().ok_or_else(|| "it has no address".to_owned()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("no answer within {RESOLVE_WAIT:?}")),
        }
    }
}

/// The figures as packets of whole lines; `last` has the counters of the push before.
fn packets(prefix: &str, figures: &[Figure], last: &mut HashMap<&'static str, u64>) -> Vec<String> {
    let mut packets: Vec<String> = Vec::new();
    for figure in figures {
        let (value, kind) = match figure.kind {
            Kind::Gauge => (figure.value, 'g'),
            Kind::Counter => match last.insert(figure.name, figure.value) {
                // What was counted before the first push happened at some other time.
                None => continue,
                // Less than before: it was set back to zero.
                Some(before) => match figure.value.checked_sub(before).unwrap_or(figure.value) {
                    0 => continue,
                    added => (added, 'c'),
                },
            },
        };
        let line = format!("{prefix}.{}:{value}|{kind}\n", figure.name);
        match packets.last_mut() {
            Some(packet) if packet.len() + line.len() <= PACKET_BYTES_MAX => packet.push_str(&line),
            _ => packets.push(line),
        }
    }
    packets
}

/// Pushes to one target.
struct Pusher {
    target: Target,
    socket: Option<(UdpSocket, Instant)>,
    last: HashMap<&'static str, u64>,
    told: bool,
}

impl Pusher {
    fn new(target: Target) -> Self {
        Self {
            target,
            socket: None,
            last: HashMap::new(),
            told: false,
        }
    }

    async fn connect(&self) -> Result<UdpSocket, String> {
        let address = self.target.resolve().await?;
        let own: SocketAddr = match address {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let connect = async {
            let socket = UdpSocket::bind(own).await?;
            socket.connect(address).await?;
            Ok::<_, std::io::Error>(socket)
        };
        connect.await.map_err(|error| error.to_string())
    }

    async fn push(&mut self, figures: &[Figure]) {
        let is_old = |(_, since): &(UdpSocket, Instant)| since.elapsed() >= RESOLVE_PERIOD;
        if self.socket.as_ref().is_none_or(is_old) {
            match self.connect().await {
                Ok(socket) => {
                    self.socket = Some((socket, Instant::now()));
                    self.told = false;
                }
                Err(error) => self.tell(&error),
            }
        }
        let packets = packets(&self.target.prefix, figures, &mut self.last);
        let Some((socket, _)) = &self.socket else {
            return;
        };
        for packet in packets {
            // Nobody listening, or no room: the next second brings the next figures.
            match tokio::time::timeout(SEND_WAIT, socket.send(packet.as_bytes())).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => tracing::debug!(%error, "statsd packet not sent"),
                Err(_) => tracing::debug!("statsd packets not sent"),
            }
        }
    }

    /// Once a failure.
    fn tell(&mut self, error: &str) {
        if !self.told {
            self.told = true;
            let (host, port) = (&self.target.host, self.target.port);
            tracing::warn!(%host, port, %error, "statsd can't be reached, going on trying");
        }
    }
}

/// Pushes until `stop`, following the configuration.
pub async fn run(server: Arc<Server>, stop: CancellationToken) {
    let mut current: Option<(String, Option<Pusher>)> = None;
    loop {
        tokio::select! {
            () = tokio::time::sleep(PERIOD) => {}
            () = stop.cancelled() => return,
        }
        let Some(wanted) = server.config().observation.statsd.clone() else {
            current = None;
            continue;
        };
        if current.as_ref().is_none_or(|(text, _)| *text != wanted) {
            // What can't be parsed was refused when it was set.
            let pusher = Target::parse(&wanted).ok().map(Pusher::new);
            current = Some((wanted, pusher));
        }
        if let Some((_, Some(pusher))) = &mut current {
            let figures = figures(&server);
            tokio::select! {
                () = pusher.push(&figures) => {}
                () = stop.cancelled() => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(name: &'static str, kind: Kind, value: u64) -> Figure {
        Figure {
            name,
            help: "",
            kind,
            value,
        }
    }

    #[test]
    fn targets_have_a_host_a_port_and_maybe_a_prefix() {
        let target = |host: &str, port, prefix: &str| Target {
            host: host.into(),
            port,
            prefix: prefix.into(),
        };
        for (text, parsed) in [
            ("localhost:8125", target("localhost", 8125, "redrock")),
            ("10.0.0.1:1:a.b-c", target("10.0.0.1", 1, "a.b-c")),
            ("[::1]:8125:x", target("::1", 8125, "x")),
        ] {
            assert_eq!(Target::parse(text), Ok(parsed), "{text}");
        }
        for bad in [
            "",
            "x",
            "x:",
            ":1",
            "x:0",
            "x:70000",
            "x:1:",
            "x:1:a b",
            "[::1]8125",
        ] {
            assert!(Target::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn counters_go_as_what_was_added_and_lines_stay_whole() {
        let mut last = HashMap::new();
        let first = [figure("a", Kind::Counter, 5), figure("b", Kind::Gauge, 7)];
        assert_eq!(packets("p", &first, &mut last), ["p.b:7|g\n"]);
        let next = [figure("a", Kind::Counter, 9), figure("b", Kind::Gauge, 0)];
        assert_eq!(packets("p", &next, &mut last), ["p.a:4|c\np.b:0|g\n"]);
        let reset = [figure("a", Kind::Counter, 3)];
        assert_eq!(packets("p", &reset, &mut last), ["p.a:3|c\n"]);
        let many = [figure("some_name", Kind::Gauge, u64::MAX); 200];
        let sent = packets("redrock", &many, &mut last);
        assert!(sent.len() > 1);
        assert!(
            sent.iter()
                .all(|p| p.len() <= PACKET_BYTES_MAX && p.ends_with('\n'))
        );
        assert_eq!(sent.concat().lines().count(), 200);
    }

    #[tokio::test]
    async fn figures_arrive_over_udp_and_an_unknown_host_is_told_once() {
        let listener = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let target = Target::parse(&format!("127.0.0.1:{port}:test")).unwrap();
        let mut pusher = Pusher::new(target);
        pusher.push(&[figure("keys", Kind::Gauge, 3)]).await;
        let mut buffer = [0; 2000];
        let length = tokio::time::timeout(RESOLVE_WAIT, listener.recv(&mut buffer));
        let length = length.await.unwrap().unwrap();
        assert_eq!(&buffer[..length], b"test.keys:3|g\n");

        let mut lost = Pusher::new(Target::parse("no-such-host.invalid:1").unwrap());
        for _ in 0..2 {
            lost.push(&[]).await;
            assert!(lost.told && lost.socket.is_none());
        }
    }
}
