//! What the kernel was asked for while the server saves, rewrites and feeds a replica: no copy of
//! a process, and each file written by the daemon that owns it.
//!
//! The server runs under `strace -ff` (one file a thread) from its first instruction, and so do
//! the companions that it starts. Skipped, and said so, where tracing is not permitted.

mod trace;

use redrock_integration_tests::daemons::{companions_up, has_ended, info, signal, until};
use redrock_integration_tests::load::steps::Plan;
use redrock_integration_tests::load::{Ledger, Load};
use redrock_integration_tests::process::{Kind, Server, binary, free_port, has_redis, missing};
use redrock_integration_tests::resp::{Client, Reply};
use redrock_integration_tests::scale::{between, seed};
use rustix::process::Signal;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use trace::Trace;

const CALLS: &str = "trace=clone,?clone3,?fork,?vfork,execve,?open,openat,?openat2,?creat,?rename,\
    ?renameat,renameat2,?unlink,unlinkat,?link,linkat,?symlink,symlinkat,truncate";

/// Whether strace is there and may trace.
fn can_trace() -> bool {
    let traced = Command::new("strace")
        .args(["-f", "-o", "/dev/null", "true"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let can = traced.is_ok_and(|status| status.success());
    if !can {
        missing("strace is not installed or may not trace here");
    }
    can
}

/// A tracer; dropping it lets what it traces go, and asks that to end.
struct Tracer {
    child: Child,
    server: Option<u32>,
}

impl Drop for Tracer {
    fn drop(&mut self) {
        if let Some(pid) = self.server.filter(|pid| !has_ended(*pid)) {
            let _ = signal(pid, Signal::KILL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn start(folder: &Path, traces: &Path, port: u16) -> anyhow::Result<Tracer> {
    let port = port.to_string();
    let child = Command::new("strace")
        .args(["-f", "-ff", "-y", "--seccomp-bpf", "-e", CALLS, "-o"])
        .arg(traces.join("calls"))
        .arg(binary("redrock-server")?)
        .args(["--port", &port, "--save", "", "--appendonly", "yes"])
        .args(["--maxmemory", "128mb", "--enable-rocksdb-feature", "yes"])
        .args(["--loglevel", "warning", "--dir"])
        .arg(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()?;
    Ok(Tracer {
        child,
        server: None,
    })
}

fn connected(port: u16) -> anyhow::Result<Client> {
    let mut found = None;
    until("a server under strace", || {
        let client = Client::connect(port).and_then(|mut client| {
            let pong = client.run(&["PING"])?;
            anyhow::ensure!(pong == Reply::Status("PONG".into()), "{pong:?}");
            Ok(client)
        });
        found = client.ok();
        Ok(found.is_some())
    })?;
    found.ok_or_else(|| anyhow::anyhow!("no server"))
}

/// Everything that makes files, under load.
fn everything(client: &mut Client, port: u16) -> anyhow::Result<()> {
    let plan = Plan {
        seed: seed(),
        cold_keys: between(5000, 200_000),
        cold_bytes: 500,
    };
    let ledger = Ledger::new(plan);
    ledger.preload(client)?;
    client.ok("ROCKALL")?;
    for _ in 0..between(1, 20) {
        let load = Load::start(port, &ledger);
        load.advance(30)?;
        for (command, counter) in [("BGSAVE", "rdb_saves"), ("BGREWRITEAOF", "aof_rewrites")] {
            let before = info(client, "persistence", counter)?;
            client.ok(command)?;
            until(command, || {
                Ok(info(client, "persistence", counter)? != before)
            })?;
        }
        load.advance(30)?;
        load.stop()?;
    }
    if has_redis() {
        let folder = tempfile::tempdir()?;
        let port = port.to_string();
        let options = ["--replicaof", "127.0.0.1", &port];
        let _replica = Server::start(Kind::Redis, folder.path(), &options)?;
        until("a replica", || {
            Ok(client
                .ok("INFO replication")?
                .text()
                .contains("state=online"))
        })?;
        follow_a_real_master(client)?;
    }
    Ok(())
}

/// The agent spools what a master sends.
fn follow_a_real_master(client: &mut Client) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let master = Server::start(Kind::Redis, folder.path(), &[])?;
    master.client()?.ok("SET from master")?;
    client.ok(&format!("REPLICAOF 127.0.0.1 {}", master.port))?;
    until("a link to the master", || {
        Ok(info(client, "replication", "master_link_status")? == "up")
    })?;
    anyhow::ensure!(client.ok("GET from")?.text() == "master");
    client.ok("REPLICAOF NO ONE")?;
    Ok(())
}

fn traced(folder: &Path) -> anyhow::Result<Trace> {
    let traces = tempfile::tempdir()?;
    let port = free_port()?;
    let mut tracer = start(folder, traces.path(), port)?;
    let mut client = connected(port)?;
    tracer.server = Some(info(&mut client, "server", "process_id")?.parse()?);
    companions_up(&mut client)?;
    everything(&mut client, port)?;
    until("a shutdown", || {
        // Refused, as in Redis, while the log that comes back after the full sync has no base.
        Ok(match client.run(&["SHUTDOWN", "NOSAVE"]) {
            Ok(Reply::Error(text)) => {
                anyhow::ensure!(text.starts_with("ERR Errors trying to SHUTDOWN"), "{text}");
                false
            }
            _ => true,
        })
    })?;
    until("the end of all processes", || {
        Ok(tracer.child.try_wait()?.is_some())
    })?;
    Trace::read(traces.path(), folder)
}

#[test]
fn nothing_is_forked_and_each_daemon_writes_only_its_own_files() -> anyhow::Result<()> {
    if !can_trace() {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    // As the kernel shows it.
    let path = std::fs::canonicalize(folder.path())?;
    let trace = traced(&path)?;
    println!("{trace}");
    trace.check_births()?;
    trace.check_files()?;
    Ok(())
}
