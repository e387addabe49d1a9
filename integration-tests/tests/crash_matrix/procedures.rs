//! What goes on when somebody dies.

use crate::life::Life;
use crate::{Keeping, Matrix};
use anyhow::Context as _;
use rand::RngExt as _;
use rand::rngs::StdRng;
use redrock_integration_tests::daemons::{ask_companion, info, until};
use redrock_integration_tests::load::{Counts, Ledger, Load};
use redrock_integration_tests::process::binary;
use redrock_integration_tests::resp::{Client, Reply};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long a procedure may take that nobody interrupts.
const WAIT: Duration = redrock_integration_tests::scale::PATIENCE;
const PAUSE: Duration = Duration::from_millis(5);

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Procedure {
    Save,
    Rewrite,
    Backup,
    ShutdownSave,
    ShutdownNoSave,
    /// FLUSHALL, other data, and a rewrite or a save.
    FlushAll,
    /// `appendonly no`, then `yes`.
    LogAnew,
    Reload,
    /// Only the load.
    Writes,
    /// Only a start.
    Start,
}

impl Procedure {
    pub(crate) fn any(keeping: Keeping, random: &mut StdRng) -> Self {
        const LOG: [Procedure; 10] = [
            Procedure::Rewrite,
            Procedure::Rewrite,
            Procedure::Save,
            Procedure::Backup,
            Procedure::ShutdownSave,
            Procedure::ShutdownNoSave,
            Procedure::FlushAll,
            Procedure::LogAnew,
            Procedure::Reload,
            Procedure::Writes,
        ];
        const DUMP: [Procedure; 6] = [
            Procedure::Save,
            Procedure::Save,
            Procedure::Backup,
            Procedure::ShutdownSave,
            Procedure::FlushAll,
            Procedure::Reload,
        ];
        match keeping {
            Keeping::Dump => DUMP[random.random_range(0..DUMP.len())],
            _ => LOG[random.random_range(0..LOG.len())],
        }
    }
}

/// What of the steps must survive.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Rule {
    /// Whatever was acknowledged.
    Acknowledged,
    /// That much, and at most what was sent.
    From(Counts),
    /// That much, or nothing at all: a flush was begun and not acknowledged.
    OrNothing(Counts),
}

/// Runs a procedure under load until it is over or somebody is dead; the load goes on. The second is
/// what must survive.
pub(crate) fn run(
    matrix: &mut Matrix,
    life: &mut Life,
    procedure: Procedure,
) -> anyhow::Result<(Option<Load>, Rule)> {
    let mut client = life.client();
    let mut before = matrix.ledger.acknowledged();
    let logged = matrix.keeping != Keeping::Dump;
    if procedure == Procedure::FlushAll {
        if !flush(life, &mut client, logged) {
            return Ok((None, Rule::OrNothing(before)));
        }
        matrix.forget()?;
        before = [0; 4];
    }
    let off = procedure == Procedure::LogAnew;
    if off {
        // What is written from now on is not in the log, until a rewrite has begun another.
        life.ask(&mut client, "CONFIG SET appendonly no");
    }
    let load = Load::flat_out(life.server.port, &matrix.ledger);
    go_on(&matrix.ledger, life, matrix.random.random_range(0..100))?;
    let asked = matrix.ledger.acknowledged();
    let done = perform(life, &mut client, procedure, logged)?;
    go_on(&matrix.ledger, life, matrix.random.random_range(0..200))?;
    let rule = match (logged, done) {
        (true, false) if off => Rule::From(before),
        (true, _) => Rule::Acknowledged,
        (false, true) => Rule::From(asked),
        (false, false) => Rule::From(before),
    };
    Ok((Some(load), rule))
}

/// FLUSHALL, durable when this is true.
fn flush(life: &mut Life, client: &mut Option<Client>, logged: bool) -> bool {
    if life.ask(client, "FLUSHALL").is_none() {
        return false;
    }
    logged || matches!(taken(life, client, "SAVE"), Some(Reply::Status(_)))
}

/// Lets the writers have some steps acknowledged, unless the server is dead.
fn go_on(ledger: &Ledger, life: &mut Life, steps: u64) -> anyhow::Result<()> {
    let goal = ledger.total() + steps;
    let deadline = Instant::now() + WAIT;
    while ledger.total() < goal && life.server.ended()?.is_none() {
        anyhow::ensure!(
            Instant::now() < deadline,
            "writers stand still:\n{}",
            life.server.log_text()
        );
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// Whether it was seen to be over, and well.
fn perform(
    life: &mut Life,
    client: &mut Option<Client>,
    procedure: Procedure,
    logged: bool,
) -> anyhow::Result<bool> {
    Ok(match procedure {
        Procedure::Save => counted(life, client, "BGSAVE", "rdb_saves"),
        Procedure::FlushAll if !logged => counted(life, client, "BGSAVE", "rdb_saves"),
        Procedure::Rewrite | Procedure::FlushAll => {
            counted(life, client, "BGREWRITEAOF", "aof_rewrites")
        }
        Procedure::LogAnew => counted(life, client, "CONFIG SET appendonly yes", "aof_rewrites"),
        Procedure::Reload => {
            let reply = taken(life, client, "DEBUG RELOAD");
            reply.is_some_and(|reply| matches!(reply, Reply::Status(_)))
        }
        Procedure::Backup => {
            back_up(life)?;
            false
        }
        Procedure::ShutdownSave => shut_down(life, client, "SHUTDOWN SAVE")?,
        Procedure::ShutdownNoSave => shut_down(life, client, "SHUTDOWN NOSAVE")?,
        Procedure::Writes | Procedure::Start => false,
    })
}

/// A reply that is no complaint about a persister that is still starting.
fn taken(life: &mut Life, client: &mut Option<Client>, line: &str) -> Option<Reply> {
    let deadline = Instant::now() + WAIT;
    loop {
        match life.ask(client, line)? {
            Reply::Error(text)
                if text.contains("persister") && !life.is_struck() && Instant::now() < deadline =>
            {
                std::thread::sleep(PAUSE);
            }
            reply => return Some(reply),
        }
    }
}

fn figure(life: &Life, client: &mut Option<Client>, field: &str) -> Option<String> {
    let text = life.ask(client, "INFO persistence")?.text();
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    value.map(str::to_owned)
}

/// Begins what counts its ends in `counter`; whether one more came.
fn counted(life: &mut Life, client: &mut Option<Client>, line: &str, counter: &str) -> bool {
    let Some(before) = figure(life, client, counter) else {
        return false;
    };
    if !matches!(taken(life, client, line), Some(Reply::Status(_))) {
        return false;
    }
    let deadline = Instant::now() + WAIT;
    while Instant::now() < deadline {
        match figure(life, client, counter) {
            None => return false,
            Some(now) if now != before => return true,
            // What the persister's death has ended, its successor does not begin again.
            Some(_) if life.is_struck() => return false,
            Some(_) => std::thread::sleep(PAUSE),
        }
    }
    false
}

/// Asks for a backup from beside.
fn back_up(life: &mut Life) -> anyhow::Result<()> {
    let folder = std::fs::read_link(format!("/proc/{}/cwd", life.server.pid()));
    let Ok(folder) = folder else {
        return Ok(());
    };
    let mut child = Command::new(binary("redrock-persist")?)
        .arg("backup")
        .arg("--dir")
        .arg(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let deadline = Instant::now() + WAIT;
    while child.try_wait()?.is_none() {
        if life.is_struck() || Instant::now() > deadline {
            child.kill()?;
        }
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

/// Whether the server has ended as it should.
fn shut_down(life: &mut Life, client: &mut Option<Client>, line: &str) -> anyhow::Result<bool> {
    match taken(life, client, line) {
        Some(_) => Ok(false),
        None => Ok(life.server.wait_exit()?.success() && line.ends_with("SAVE")),
    }
}

/// The procedure works again.
pub(crate) fn succeeds(client: &mut Client, keeping: Keeping) -> anyhow::Result<()> {
    let (line, counter) = match keeping {
        Keeping::Dump => ("BGSAVE", "rdb_saves"),
        _ => ("BGREWRITEAOF", "aof_rewrites"),
    };
    let before = info(client, "persistence", counter)?;
    let reply = ask_companion(client, line, || false)?;
    anyhow::ensure!(matches!(reply, Reply::Status(_)), "{line}: {reply:?}");
    let over = until("a procedure's success", || {
        Ok(info(client, "persistence", counter)? != before)
    });
    over.context(line)
}
