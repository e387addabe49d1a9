//! The one table of commands.
//!
//! Every family file exports a `COMMANDS` slice of [`Spec`] records; dispatch, `COMMAND`, ACL
//! categories, residency and propagation all read these records and nothing else. A new command
//! is one record and one function.

use super::{Context, args::Args, error::CommandResult};

/// A command's implementation. It writes exactly one reply, or returns an error and writes none.
pub type Handler = fn(&mut Context<'_>, &Args<'_>) -> CommandResult;

/// Command flags, with Redis's names in `COMMAND INFO`.
pub mod flag {
    /// May change the data set.
    pub const WRITE: u32 = 1 << 0;
    /// Only reads the data set.
    pub const READONLY: u32 = 1 << 1;
    /// May use more memory; refused with `-OOM` past the limit.
    pub const DENYOOM: u32 = 1 << 2;
    /// An administrative command.
    pub const ADMIN: u32 = 1 << 3;
    /// Part of publish/subscribe.
    pub const PUBSUB: u32 = 1 << 4;
    /// Not allowed from scripts.
    pub const NOSCRIPT: u32 = 1 << 5;
    /// May block the client.
    pub const BLOCKING: u32 = 1 << 6;
    /// Allowed while a data set is being loaded.
    pub const LOADING: u32 = 1 << 7;
    /// Allowed on a replica with stale data.
    pub const STALE: u32 = 1 << 8;
    /// Never sent to MONITOR.
    pub const SKIP_MONITOR: u32 = 1 << 9;
    /// Never put into the slow log.
    pub const SKIP_SLOWLOG: u32 = 1 << 10;
    /// O(1) or O(log N).
    pub const FAST: u32 = 1 << 11;
    /// Allowed before authentication.
    pub const NO_AUTH: u32 = 1 << 12;
    /// May propagate effects though it is not a write (`PUBLISH`).
    pub const MAY_REPLICATE: u32 = 1 << 13;
    /// Not allowed inside MULTI.
    pub const NO_MULTI: u32 = 1 << 14;
    /// Its keys come from [`super::KeySpec::Custom`]; shown as `movablekeys`.
    pub const MOVABLE_KEYS: u32 = 1 << 15;
    /// Allowed while another command is running for too long.
    pub const ALLOW_BUSY: u32 = 1 << 16;
    /// A subcommand container or a command that must not be queued without checking.
    pub const NO_ASYNC_LOADING: u32 = 1 << 17;
    /// Keys are touched neither read nor written by value (`TOUCH`, `EXISTS`...).
    pub const NO_MANDATORY_KEYS: u32 = 1 << 18;
    /// Allowed from a protected command path only (`DEBUG`).
    pub const PROTECTED: u32 = 1 << 19;
    /// Runs a script: in a fiber, because that may take its time.
    pub const SCRIPT: u32 = 1 << 20;
}

/// ACL categories beyond those that follow from flags and group.
pub mod acl {
    /// `@dangerous`
    pub const DANGEROUS: u32 = 1 << 0;
    /// `@keyspace`
    pub const KEYSPACE: u32 = 1 << 1;
    /// `@connection`
    pub const CONNECTION: u32 = 1 << 2;
    /// `@transaction`
    pub const TRANSACTION: u32 = 1 << 3;
    /// `@scripting`
    pub const SCRIPTING: u32 = 1 << 4;
    /// `@bitmap`
    pub const BITMAP: u32 = 1 << 5;
    /// `@hyperloglog`
    pub const HYPERLOGLOG: u32 = 1 << 6;
    /// `@geo`
    pub const GEO: u32 = 1 << 7;
}

/// The documentation group of a command; also its type's ACL category.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// Any type of key.
    Generic,
    /// Strings.
    String,
    /// Bitmaps.
    Bitmap,
    /// Lists.
    List,
    /// Sets.
    Set,
    /// Sorted sets.
    SortedSet,
    /// Hashes.
    Hash,
    /// Publish/subscribe.
    Pubsub,
    /// MULTI and its relatives.
    Transactions,
    /// Connection state.
    Connection,
    /// Administration.
    Server,
    /// Scripts and functions.
    Scripting,
    /// Streams.
    Stream,
    /// HyperLogLog.
    HyperLogLog,
    /// Geospatial.
    Geo,
    /// Cluster.
    Cluster,
}

/// What must be in memory before the command runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// The value itself.
    Value,
    /// Only whether the key exists, its type and expiry (`SET`, `DEL`, `EXPIRE`, `TTL`).
    Presence,
    /// The first key's value, of the others presence (`RENAME`, `COPY`).
    FirstValue,
}

/// Where the keys are among the arguments, as in Redis's key specifications.
#[derive(Debug, Clone, Copy)]
pub enum KeySpec {
    /// No keys.
    None,
    /// From argument `first` to `last` (negative: from the end) in steps of `step`. The command
    /// name is argument 0.
    Range {
        /// First key.
        first: usize,
        /// Last key; −1 is the last argument.
        last: i32,
        /// Distance between keys.
        step: usize,
    },
    /// Argument `count_at` holds the number of keys that follow it; `also` (if not 0) is one
    /// more key before it (`ZUNIONSTORE destination numkeys key...`).
    Counted {
        /// Index of the count.
        count_at: usize,
        /// Index of one more key, or 0.
        also: usize,
    },
    /// Found by a function over the arguments: returns argument indexes.
    Custom(fn(&Args<'_>) -> Vec<usize>),
}

impl KeySpec {
    /// One key at argument 1.
    pub const ONE: Self = Self::Range {
        first: 1,
        last: 1,
        step: 1,
    };
    /// Two keys at arguments 1 and 2.
    pub const TWO: Self = Self::Range {
        first: 1,
        last: 2,
        step: 1,
    };
    /// All arguments are keys.
    pub const ALL: Self = Self::Range {
        first: 1,
        last: -1,
        step: 1,
    };

    /// Calls `visit` with the argument index of each key.
    pub fn visit(&self, args: &Args<'_>, mut visit: impl FnMut(usize)) {
        match *self {
            Self::None => {}
            Self::Range { first, last, step } => {
                let count = args.len() as i64;
                let last = if last < 0 {
                    count + i64::from(last)
                } else {
                    i64::from(last)
                };
                let mut at = first as i64;
                while at <= last && at < count {
                    visit(at as usize);
                    at += step.max(1) as i64;
                }
            }
            Self::Counted { count_at, also } => {
                if also != 0 && also < args.len() {
                    visit(also);
                }
                let Some(count) = args.get(count_at).and_then(redrock_rdb::number::parse_i64)
                else {
                    return;
                };
                let end = (count_at as i64 + 1).saturating_add(count.max(0));
                for at in (count_at + 1)..args.len().min(end.max(0) as usize) {
                    visit(at);
                }
            }
            Self::Custom(find) => find(args).into_iter().for_each(visit),
        }
    }
}

/// One command's facts.
#[derive(Debug, Clone, Copy)]
pub struct Spec {
    /// Number among all commands and subcommands, given by the registry; statistics use it.
    pub index: u16,
    /// Lower-case name; a subcommand's is `container|name`.
    pub name: &'static str,
    /// Number of arguments, the name included; negative: at least.
    pub arity: i32,
    /// Bits of [`flag`].
    pub flags: u32,
    /// Bits of [`acl`] beyond what flags and group imply.
    pub acl: u32,
    /// Documentation group.
    pub group: Group,
    /// Key positions.
    pub keys: KeySpec,
    /// What must be resident.
    pub needs: Needs,
    /// First Redis version with it.
    pub since: &'static str,
    /// One line for `COMMAND DOCS`.
    pub summary: &'static str,
    /// The implementation. Containers have subcommands instead and answer Redis's help error.
    pub handler: Handler,
    /// Subcommands of a container.
    pub subcommands: &'static [Spec],
}

impl Spec {
    /// A record with the common defaults, to be completed with struct update syntax.
    pub const fn new(name: &'static str, arity: i32, flags: u32, handler: Handler) -> Self {
        Self {
            index: 0,
            name,
            arity,
            flags,
            acl: 0,
            group: Group::Generic,
            keys: KeySpec::None,
            needs: Needs::Value,
            since: "1.0.0",
            summary: "",
            handler,
            subcommands: &[],
        }
    }

    /// Sets the documentation group.
    pub const fn group(mut self, group: Group) -> Self {
        self.group = group;
        self
    }

    /// Sets where the keys are.
    pub const fn keys(mut self, keys: KeySpec) -> Self {
        self.keys = keys;
        self
    }

    /// The command needs no value in memory, only presence, type and expiry.
    pub const fn presence(mut self) -> Self {
        self.needs = Needs::Presence;
        self
    }

    /// The command needs the value of its first key only.
    pub const fn first_value(mut self) -> Self {
        self.needs = Needs::FirstValue;
        self
    }

    /// Adds ACL categories.
    pub const fn acl(mut self, acl: u32) -> Self {
        self.acl = acl;
        self
    }

    /// Sets the version and summary for `COMMAND DOCS`.
    pub const fn doc(mut self, since: &'static str, summary: &'static str) -> Self {
        self.since = since;
        self.summary = summary;
        self
    }

    /// Makes the record a container.
    pub const fn sub(mut self, subcommands: &'static [Self]) -> Self {
        self.subcommands = subcommands;
        self
    }

    /// Whether a flag bit is set.
    pub fn has(&self, bits: u32) -> bool {
        self.flags & bits != 0
    }

    /// Whether `count` arguments (name included) satisfy the arity.
    pub fn arity_ok(&self, count: usize) -> bool {
        let count = i32::try_from(count).unwrap_or(i32::MAX);
        if self.arity >= 0 {
            count == self.arity
        } else {
            count >= -self.arity
        }
    }
}
