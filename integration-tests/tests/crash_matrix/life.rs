//! A server some of whose processes are armed, from its start to the death of all of them.

use rand::RngExt as _;
use rand::rngs::StdRng;
use redrock_integration_tests::daemons::{has_ended, kill_each, until};
use redrock_integration_tests::process::Server;
use redrock_integration_tests::resp::{Client, Reply};
use std::fmt;
use std::os::unix::process::ExitStatusExt as _;

/// See the module.
#[derive(Debug)]
pub(crate) struct Life {
    pub(crate) server: Server,
    points: String,
}

/// How a life ended.
#[derive(Debug)]
pub(crate) struct Ending {
    points: String,
    /// Operations at which somebody died, as `who: what file`.
    pub(crate) hit: Vec<String>,
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {:?}", self.points, self.hit)
    }
}

impl Life {
    pub(crate) fn new(server: Server, points: String) -> Self {
        Self { server, points }
    }

    /// Whether it came to serve; that it did not must be our doing.
    pub(crate) fn is_ready(&mut self) -> anyhow::Result<bool> {
        let Some(status) = self.server.ready_or_ended()? else {
            return Ok(true);
        };
        let killed = status.signal() == Some(9);
        anyhow::ensure!(killed, "{status}:\n{}", self.server.log_text());
        Ok(false)
    }

    /// Whether somebody who was armed has died.
    pub(crate) fn is_struck(&mut self) -> bool {
        self.server.ended().is_ok_and(|status| status.is_some()) || !self.hit().is_empty()
    }

    /// Waits until the companions answer, or somebody has died.
    pub(crate) fn wait_settled(&mut self) -> anyhow::Result<()> {
        let mut client = self.client();
        until("companions that answer", || {
            let reply = self.ask(&mut client, "INFO companions");
            let up = reply.is_none_or(|reply| reply.text().matches("state=up").count() == 2);
            Ok(up || self.is_struck())
        })
    }

    /// What the server says; `None`: it is gone.
    pub(crate) fn ask(&self, client: &mut Option<Client>, line: &str) -> Option<Reply> {
        let words: Vec<&str> = line.split(' ').collect();
        let reply = client.as_mut()?.run(&words).ok();
        if reply.is_none() {
            *client = None;
        }
        reply
    }

    pub(crate) fn client(&self) -> Option<Client> {
        self.server.client().ok()
    }

    /// DEBUG DIGEST, if it lives.
    pub(crate) fn digest(&self) -> Option<String> {
        match self.ask(&mut self.client(), "DEBUG DIGEST")? {
            Reply::Error(_) => None,
            reply => Some(reply.text()),
        }
    }

    fn hit(&self) -> Vec<String> {
        let log = self.server.log_text();
        log.lines().filter_map(operation).collect()
    }

    /// The companions that this life has started and that are there.
    fn companions(&self) -> Vec<u32> {
        let log = self.server.log_text();
        let pids = log.lines().filter_map(|line| {
            let (_, pid) = line.split_once("companion started")?.1.split_once("pid=")?;
            pid.trim().parse::<u32>().ok()
        });
        pids.filter(|pid| !has_ended(*pid)).collect()
    }

    /// Kills what is left of it, or leaves companions of a dead server to themselves.
    pub(crate) fn end(mut self, random: &mut StdRng) -> anyhow::Result<Ending> {
        let mut pids = self.companions();
        match self.server.ended()? {
            None => pids.push(self.server.pid()),
            // Orphans may do no harm, and end by themselves.
            Some(_) if random.random() => pids.clear(),
            Some(_) => {}
        }
        kill_each(&pids, random.random())?;
        self.server.wait_exit()?;
        Ok(Ending {
            hit: self.hit(),
            points: self.points,
        })
    }
}

/// Reads what a failpoint says before it kills.
fn operation(line: &str) -> Option<String> {
    let (head, told) = line.split_once("failpoint action=")?;
    let field = |name: &str| {
        let rest = told.split_once(name)?.1;
        rest.split(' ').next().map(str::to_owned)
    };
    let path = field("path=")?;
    let name: String = path.rsplit('/').take(2).collect::<Vec<_>>().join(" in ");
    let name: String = name.chars().filter(|c| !c.is_ascii_digit()).collect();
    let who = match head.contains(":P ") {
        true => "persister",
        false => "server",
    };
    let action = told.split(' ').next()?;
    Some(format!(
        "{who}: {action} at {} of {name}",
        field("operation=")?
    ))
}
