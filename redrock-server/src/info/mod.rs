//! INFO: the text, section by section, with Redis 7.2's names and order.
//!
//! Each section is a function that appends `name:value` lines to a [`Section`]. What a figure is
//! taken from stands beside it; fields without a meaning here keep the value that Redis shows
//! when the feature is unused, so that dashboards find all they look for. Our own sections,
//! Tiering and Companions, come last.

mod memory;
mod service;
mod statistics;
mod system;

use crate::config::Config;
use crate::keyspace::Keyspace;
use crate::server::Server;
use std::fmt::{Display, Write as _};

pub use memory::{MemoryFacts, human_bytes};

/// What the sections read.
pub struct Facts<'a> {
    /// The server.
    pub server: &'a Server,
    /// The configuration in force.
    pub config: &'a Config,
    /// The locked keyspace.
    pub keyspace: &'a Keyspace,
    /// Unix µs.
    pub now_us: i64,
}

impl Facts<'_> {
    fn now_s(&self) -> i64 {
        self.now_us / 1_000_000
    }
}

/// The text of one section under construction.
pub struct Section<'a>(&'a mut String);

impl Section<'_> {
    /// Appends `name:value`.
    fn field(&mut self, name: impl Display, value: impl Display) {
        // Writing to a string can't fail.
        let _ = write!(self.0, "{name}:{value}\r\n");
    }

    /// Appends fields that have the same value.
    fn all(&mut self, names: &[&str], value: impl Display) {
        for name in names {
            self.field(name, &value);
        }
    }
}

type Writer = fn(&Facts<'_>, &mut Section<'_>);

/// Title, names it is asked for by, whether `INFO` without arguments shows it, and its text.
struct Record {
    title: &'static str,
    names: &'static [&'static str],
    by_default: bool,
    write: Writer,
}

const fn record(
    title: &'static str,
    names: &'static [&'static str],
    by_default: bool,
    write: Writer,
) -> Record {
    Record {
        title,
        names,
        by_default,
        write,
    }
}

const SECTIONS: [Record; 16] = [
    record("Server", &["server"], true, system::server),
    record("Clients", &["clients"], true, system::clients),
    record("Memory", &["memory"], true, memory::memory),
    record("Persistence", &["persistence"], true, service::persistence),
    record("Stats", &["stats"], true, statistics::stats),
    record("Replication", &["replication"], true, service::replication),
    record("CPU", &["cpu"], true, system::cpu),
    record("Modules", &["module_list", "modules"], true, |_, _| {}),
    record(
        "Commandstats",
        &["commandstats"],
        false,
        statistics::commands,
    ),
    record("Errorstats", &["errorstats"], true, statistics::errors),
    record(
        "Latencystats",
        &["latencystats"],
        false,
        statistics::latencies,
    ),
    record("Cluster", &["cluster"], true, |_, out| {
        out.field("cluster_enabled", 0)
    }),
    record("Keyspace", &["keyspace"], true, statistics::keyspace),
    record("Tiering", &["tiering"], true, service::tiering),
    record("Companions", &["companions"], true, service::companions),
    record("Debug", &["debug"], false, statistics::debug),
];

/// The text for the given section names (`default`, `all` and `everything` included); none given
/// is `default`. Unknown names add nothing.
pub fn text(facts: &Facts<'_>, wanted: &[&[u8]]) -> String {
    let is = |name: &str| {
        wanted
            .iter()
            .any(|w| w.eq_ignore_ascii_case(name.as_bytes()))
    };
    let all = is("all") || is("everything");
    let default = wanted.is_empty() || is("default");
    let mut text = String::new();
    for section in &SECTIONS {
        let named = section.names.iter().any(|name| is(name));
        let debug = section.title == "Debug";
        if !(named || (all && !debug) || (default && section.by_default)) {
            continue;
        }
        if !text.is_empty() {
            text.push_str("\r\n");
        }
        let _ = write!(text, "# {}\r\n", section.title);
        (section.write)(facts, &mut Section(&mut text));
    }
    text
}
