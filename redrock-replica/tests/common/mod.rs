//! Helpers of the integration tests: the agent as a process, a stand-in for
//! the server, real Redis servers.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::allow_attributes,
    reason = "each test file uses a part of it"
)]

pub mod redis;
pub mod server;

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use redrock_daemon::handoff::{Handoff, HandoffReply, PeerRequest, hand_over};
use redrock_proto::client::{HANDOFF_SOCKET, Timeouts, replica_client};
use redrock_proto::v1;
use redrock_proto::v1::replica_client::ReplicaClient;
use std::os::fd::AsFd;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tonic::transport::Channel;

use server::Fake;

pub const LONG: Duration = Duration::from_secs(30);

/// Factor of the sizes: `RR_SCALE`, 1 by default.
pub fn scale() -> usize {
    let scale = std::env::var("RR_SCALE").ok();
    scale.and_then(|scale| scale.parse().ok()).unwrap_or(1)
}

/// Waits until something holds; names it if it never does.
pub async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < LONG, "never came true: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The agent as a child of the test.
pub struct Agent {
    process: Child,
    pub log: std::path::PathBuf,
    pub client: ReplicaClient<Channel>,
}

impl Agent {
    pub async fn start(fake: &Fake) -> Agent {
        static STARTS: AtomicU64 = AtomicU64::new(0);
        let start = STARTS.fetch_add(1, Ordering::Relaxed);
        let log = fake.dir.join(format!("agent-{start}.log"));
        let process = Command::new(env!("CARGO_BIN_EXE_redrock-replica"))
            .arg("--dir")
            .arg(&fake.dir)
            .arg("--socket-dir")
            .arg(&fake.socket_dir)
            .args(["--server-pid", &std::process::id().to_string()])
            .args(["--log-level", "verbose", "--log-file"])
            .arg(&log)
            .stdin(Stdio::null())
            .spawn()
            .expect("start the agent");
        let mut client = replica_client(&fake.socket_dir, Timeouts::default());
        let began = Instant::now();
        loop {
            let request = v1::ReplicaStatusRequest {
                run: fake.run.to_wire(),
            };
            match client.status(request).await {
                Ok(_) => break,
                Err(error) if began.elapsed() > LONG => panic!("the agent: {error}"),
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
        Agent {
            process,
            log,
            client,
        }
    }

    pub async fn status(&mut self, fake: &Fake) -> v1::ReplicaStatus {
        let run = fake.run.to_wire();
        let reply = self.client.status(v1::ReplicaStatusRequest { run }).await;
        reply.expect("status").into_inner()
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    pub fn log_text(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            eprintln!("--- agent's log\n{}", self.log_text());
        }
    }
}

/// The server's port, as far as peers use it: answers the handshake and hands
/// over whoever says PSYNC.
pub struct Front {
    pub port: u16,
    task: tokio::task::JoinHandle<()>,
}

impl Front {
    pub async fn start(fake: &Arc<Fake>) -> Front {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let fake = Arc::clone(fake);
        let task = tokio::spawn(async move {
            static CLIENTS: AtomicU64 = AtomicU64::new(1);
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let client_id = CLIENTS.fetch_add(1, Ordering::Relaxed);
                let fake = Arc::clone(&fake);
                tokio::spawn(async move {
                    let _ = greet(&fake, client_id, stream).await;
                });
            }
        });
        Front { port, task }
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn greet(fake: &Fake, client_id: u64, mut stream: TcpStream) -> anyhow::Result<()> {
    let mut handoff = Handoff {
        run_id: fake.run.run_id.to_string(),
        epoch: fake.run.epoch,
        client_id,
        tls_proxied: false,
        address: stream.peer_addr()?.to_string(),
        local_address: stream.local_addr()?.to_string(),
        user: "default".into(),
        listening_port: 0,
        announced_ip: String::new(),
        version: String::new(),
        capabilities: vec![],
        request: PeerRequest::Sync,
        unread: vec![],
    };
    let mut unread = vec![];
    loop {
        while let Some((words, length)) = parse(&unread) {
            unread.drain(..length);
            let word = |index: usize| words.get(index).map_or("", String::as_str);
            match word(0).to_ascii_uppercase().as_str() {
                "PING" => stream.write_all(b"+PONG\r\n").await?,
                "REPLCONF" => {
                    for pair in words[1..].chunks(2) {
                        match pair[0].as_str() {
                            "listening-port" => handoff.listening_port = pair[1].parse()?,
                            "capa" => handoff.capabilities.push(pair[1].clone()),
                            _ => {}
                        }
                    }
                    stream.write_all(b"+OK\r\n").await?;
                }
                "PSYNC" => {
                    handoff.request = PeerRequest::Psync {
                        replid: word(1).to_owned(),
                        offset: word(2).parse()?,
                        failover: word(3).eq_ignore_ascii_case("failover"),
                    };
                    handoff.unread = unread;
                    return pass(fake, &handoff, &stream).await;
                }
                "SYNC" => return pass(fake, &handoff, &stream).await,
                _ => stream.write_all(b"-ERR unknown\r\n").await?,
            }
        }
        if stream.read_buf(&mut unread).await? == 0 {
            return Ok(());
        }
    }
}

async fn pass(fake: &Fake, handoff: &Handoff, stream: &TcpStream) -> anyhow::Result<()> {
    let path = fake.socket_dir.join(HANDOFF_SOCKET);
    let reply = hand_over(&path, handoff, stream.as_fd(), LONG).await?;
    assert_eq!(reply, HandoffReply::Accepted);
    Ok(())
}

fn parse(bytes: &[u8]) -> Option<(Vec<String>, usize)> {
    let text = std::str::from_utf8(bytes).ok()?;
    let mut lines = text.split_inclusive("\r\n");
    let head = lines.next().filter(|line| line.ends_with("\r\n"))?;
    let mut length = head.len();
    let count: usize = head.trim().strip_prefix('*')?.parse().ok()?;
    let mut words = vec![];
    for _ in 0..count {
        let (size, word) = (lines.next()?, lines.next()?);
        if !word.ends_with("\r\n") {
            return None;
        }
        length += size.len() + word.len();
        words.push(word.trim_end().to_owned());
    }
    Some((words, length))
}
