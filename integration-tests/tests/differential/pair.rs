//! Both servers side by side: the same commands to both, the replies compared.
//!
//! Replies are brought into a comparable form first: what Redis gives in no order is sorted,
//! random picks are compared by their shape, times within a tolerance, ids not at all.

use crate::comparable::{close_times, comparable, exact_numbers};
use crate::differences;
use crate::wire::{Connection, Reply, Words, show};
use redrock_integration_tests::process::Server;
use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

/// Connections to each server.
pub(crate) const CONNECTIONS: usize = 4;
/// The connection that only checks: in database 0, with RESP2, never in a transaction.
pub(crate) const CHECKS: usize = CONNECTIONS - 1;
/// Differences that are collected before a run ends.
const FOUND_MAX: usize = 15;
/// Commands that a report shows before the one that differs.
const HISTORY: usize = 12;
/// How long active expiry may take on either server to meet a key.
const EXPIRY_DEADLINE: Duration = redrock_integration_tests::scale::PATIENCE;

/// Both servers.
pub(crate) struct Pair {
    ours: Vec<Connection>,
    theirs: Vec<Connection>,
    ports: [u16; 2],
    history: VecDeque<String>,
    found: Vec<String>,
    pub(crate) commands: u64,
    /// Named in reports.
    context: String,
    /// Whether [`Pair::spill`] does something.
    pub(crate) spills: bool,
    /// Keys that SORT has read: Redis turns a sorted set into a skip list to sort it, where a
    /// command that reads changes nothing here.
    sorted: BTreeSet<Vec<u8>>,
}

impl Pair {
    pub(crate) fn connect(ours: &Server, theirs: &Server, context: &str) -> anyhow::Result<Self> {
        let open = |port| -> anyhow::Result<Vec<_>> {
            (0..CONNECTIONS).map(|_| Connection::open(port)).collect()
        };
        Ok(Self {
            ours: open(ours.port)?,
            theirs: open(theirs.port)?,
            ports: [ours.port, theirs.port],
            history: VecDeque::new(),
            found: Vec::new(),
            commands: 0,
            context: context.to_owned(),
            spills: false,
            sorted: BTreeSet::new(),
        })
    }

    /// Opens connections anew that both servers have closed; it is reported if only one has.
    pub(crate) fn open_anew(&mut self, connections: &[usize]) -> anyhow::Result<()> {
        let ping: Words = vec![b"PING".to_vec()];
        for &at in connections {
            let (ours, theirs) = (self.ours[at].run(&ping), self.theirs[at].run(&ping));
            if ours.is_err() != theirs.is_err() {
                let text = format!("{}: ours {ours:?}, theirs {theirs:?}", self.context);
                self.found.push(text);
            }
            if ours.is_err() || theirs.is_err() {
                self.ours[at] = Connection::open(self.ports[0])?;
                self.theirs[at] = Connection::open(self.ports[1])?;
            }
        }
        Ok(())
    }

    /// Runs a command on both and compares; then what keeps both alike after a random pick.
    pub(crate) fn run(&mut self, at: usize, words: &Words) -> anyhow::Result<Reply> {
        self.note(at, words);
        self.ours[at].send(words)?;
        self.theirs[at].send(words)?;
        let ours = self.ours[at].receive();
        let theirs = self.theirs[at].receive();
        let (Ok(ours), Ok(theirs)) = (&ours, &theirs) else {
            anyhow::bail!(
                "{}: no reply\n ours   {ours:?}\n theirs {theirs:?}\n{}",
                self.context,
                self.last_commands()
            );
        };
        self.compare(words, ours, theirs);
        let result = theirs.clone();
        let again = self.alike_again(words, &result);
        again.map_or(Ok(()), |words| self.run(at, &words).map(|_| ()))?;
        Ok(result)
    }

    /// What makes both alike after a command that leaves them apart by design.
    fn alike_again(&mut self, words: &Words, result: &Reply) -> Option<Words> {
        let is = |at: usize, option: &str| words.get(at).is_some_and(|word| upper(word) == option);
        match name(words).as_str() {
            // Which element goes is random.
            "SPOP" if words.len() > 1 && !result.is_error() => {
                Some(vec![b"DEL".to_vec(), words[1].clone()])
            }
            // 7.0 takes the name over before it reads the next option, 7.2 when all are right.
            "HELLO" if result.is_error() => {
                let at = (1..words.len()).rfind(|at| is(*at, "SETNAME"))?;
                let name = words.get(at + 1)?;
                Some(vec![b"CLIENT".to_vec(), b"SETNAME".to_vec(), name.clone()])
            }
            // 7.2 looks at all elements to choose the encoding, 7.0 at the first one; a listpack has
            // no -0.
            "ZADD" if words.iter().any(|word| word == b"-0") && !result.is_error() => {
                Some(vec![b"DEL".to_vec(), words[1].clone()])
            }
            "SORT" | "SORT_RO" => {
                self.sorted.extend(words.get(1).cloned());
                None
            }
            _ => None,
        }
    }

    /// Runs a line of words separated by blanks.
    pub(crate) fn line(&mut self, at: usize, line: &str) -> anyhow::Result<Reply> {
        self.run(at, &line.split(' ').map(|word| word.into()).collect())
    }

    /// Sends without reading replies.
    pub(crate) fn send(&mut self, at: usize, words: &Words) -> anyhow::Result<()> {
        self.note(at, words);
        self.ours[at].send(words)?;
        self.theirs[at].send(words)
    }

    /// Reads one reply that is outstanding from each and compares.
    pub(crate) fn receive(&mut self, at: usize, of: &Words) -> anyhow::Result<()> {
        let ours = self.ours[at].receive();
        let theirs = self.theirs[at].receive();
        let (Ok(ours), Ok(theirs)) = (&ours, &theirs) else {
            anyhow::bail!(
                "{}: no reply to {}\n ours   {ours:?}\n theirs {theirs:?}\n{}",
                self.context,
                show(of),
                self.last_commands()
            );
        };
        self.compare(of, ours, theirs);
        Ok(())
    }

    /// Runs a command of which the number of replies is not known, compares all that arrived.
    pub(crate) fn run_until_ping(&mut self, at: usize, words: &Words) -> anyhow::Result<()> {
        self.note(at, words);
        let comparable = |replies: Vec<Reply>| {
            let sub = words.get(1).map(|word| upper(word)).unwrap_or_default();
            let name = name(words);
            let mut replies: Vec<_> = replies
                .iter()
                .map(|reply| comparable(&name, &sub, reply))
                .collect();
            // Patterns are matched in any order, and channels left all at once too.
            if words.len() == 1 && name.ends_with("UNSUBSCRIBE") {
                replies = replies
                    .iter()
                    .flat_map(|reply| reply.elements().to_vec())
                    .collect();
            }
            replies.sort();
            Reply::Many(b'*', replies)
        };
        let ours = comparable(self.ours[at].run_until_ping(words)?);
        let theirs = comparable(self.theirs[at].run_until_ping(words)?);
        if ours != theirs {
            self.report(&format!("{at} got after {}", show(words)), &ours, &theirs);
        }
        Ok(())
    }

    /// Runs a command on both and hands both replies out, not compared.
    pub(crate) fn both(&mut self, at: usize, line: &str) -> anyhow::Result<[Reply; 2]> {
        let words: Words = line.split(' ').map(|word| word.into()).collect();
        self.both_words(at, &words)
    }

    pub(crate) fn both_words(&mut self, at: usize, words: &Words) -> anyhow::Result<[Reply; 2]> {
        Ok([self.ours[at].run(words)?, self.theirs[at].run(words)?])
    }

    /// Runs a command on each that contains ids of its own, and compares.
    pub(crate) fn each(&mut self, at: usize, words: [Words; 2]) -> anyhow::Result<()> {
        self.note(at, &words[0]);
        let ours = self.ours[at].run(&words[0])?;
        let theirs = self.theirs[at].run(&words[1])?;
        self.compare(&words[0], &ours, &theirs);
        Ok(())
    }

    /// Moves everything of our server to disk if this run is about that.
    pub(crate) fn spill(&mut self, command: &str) -> anyhow::Result<()> {
        if self.spills {
            let reply = self.ours[CHECKS].run(&[command])?;
            anyhow::ensure!(!reply.is_error(), "{command}: {reply:?}");
        }
        Ok(())
    }

    /// Iterates to the end on both from a first command with cursor 0: the elements, or pairs.
    pub(crate) fn both_scans(
        &mut self,
        at: usize,
        first: &Words,
    ) -> anyhow::Result<[BTreeSet<Vec<Reply>>; 2]> {
        self.note(at, first);
        Ok([
            scan(&mut self.ours[at], first)?,
            scan(&mut self.theirs[at], first)?,
        ])
    }

    /// Compares the data sets: sizes, digests of all and of each key.
    ///
    /// A key whose time has passed is in both until each server's active expiry has met it, so
    /// what differs is looked at again until it agrees or has had the time to.
    pub(crate) fn compare_data(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + EXPIRY_DEADLINE;
        let [ours, theirs] = loop {
            let sizes = self.both(CHECKS, "DBSIZE")?;
            let digests = self.both(CHECKS, "DEBUG DIGEST")?;
            if sizes[0] == sizes[1] && digests[0] == digests[1] {
                return Ok(());
            }
            if Instant::now() > deadline {
                break digests;
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        self.line(CHECKS, "DBSIZE")?;
        self.report("DEBUG DIGEST", &ours, &theirs);
        let Reply::Many(_, keys) = self.line(CHECKS, "KEYS *")? else {
            return Ok(());
        };
        for key in keys {
            self.run(
                CHECKS,
                &vec![
                    b"DEBUG".to_vec(),
                    b"DIGEST-VALUE".to_vec(),
                    key.bytes().to_vec(),
                ],
            )?;
        }
        Ok(())
    }

    /// Compares digests and encodings of the keys among a command's words; of keys whose time has
    /// passed as [`Pair::compare_data`] does.
    pub(crate) fn compare_touched(&mut self, words: &Words) -> anyhow::Result<()> {
        let mut digest: Words = vec![b"DEBUG".to_vec(), b"DIGEST-VALUE".to_vec()];
        digest.extend(words.iter().skip(1).take(6).cloned());
        let deadline = Instant::now() + EXPIRY_DEADLINE;
        loop {
            let [ours, theirs] = self.both_words(0, &digest)?;
            if ours == theirs {
                break;
            }
            if Instant::now() > deadline {
                self.report(&show(&digest), &ours, &theirs);
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        if let Some(key) = words.get(1) {
            let encoding = vec![b"OBJECT".to_vec(), b"ENCODING".to_vec(), key.clone()];
            self.run(0, &encoding)?;
        }
        Ok(())
    }

    /// Notes that something differs.
    pub(crate) fn report(&mut self, what: &str, ours: &Reply, theirs: &Reply) {
        let text = format!(
            "{}: {what}\n  ours   {ours:?}\n  theirs {theirs:?}\n{}",
            self.context,
            self.last_commands()
        );
        self.found.push(text);
    }

    /// Whether so much differs that going on makes no sense.
    pub(crate) fn is_hopeless(&self) -> bool {
        self.found.len() >= FOUND_MAX
    }

    /// What differed.
    pub(crate) fn into_found(self) -> Vec<String> {
        self.found
    }

    fn note(&mut self, at: usize, words: &Words) {
        self.commands += 1;
        if self.history.len() == HISTORY {
            self.history.pop_front();
        }
        self.history.push_back(format!("{at}: {}", show(words)));
    }

    fn last_commands(&self) -> String {
        let lines: Vec<_> = self
            .history
            .iter()
            .map(|line| format!("    {line}\n"))
            .collect();
        lines.concat()
    }

    /// Whether OBJECT ENCODING may differ: of what SORT has read, and of a string that came back
    /// from disk, where its way to its content is forgotten as it is by Redis at a restart.
    fn may_be_encoded_otherwise(&self, words: &Words, ours: &Reply, theirs: &Reply) -> bool {
        let among = |encodings: &[&[u8]]| {
            encodings.contains(&ours.bytes()) && encodings.contains(&theirs.bytes())
        };
        let is_sorted = words.get(2).is_some_and(|key| self.sorted.contains(key));
        name(words) == "OBJECT"
            && (is_sorted && among(&[b"listpack", b"skiplist"])
                || self.spills && among(&[b"int", b"embstr", b"raw"]))
    }

    fn compare(&mut self, words: &Words, ours: &Reply, theirs: &Reply) {
        let name = name(words);
        let sub = words.get(1).map(|w| upper(w)).unwrap_or_default();
        if ours == theirs
            || comparable(&name, &sub, ours) == comparable(&name, &sub, theirs)
            || close_times(&name, ours, theirs)
            || differences::known(words, ours, theirs).is_some()
            || self.may_be_encoded_otherwise(words, ours, theirs)
        {
            return;
        }
        self.report(&show(words), ours, theirs);
    }
}

/// Iterates to the end. A wrong type or syntax gives its error as the only element.
fn scan(connection: &mut Connection, first: &Words) -> anyhow::Result<BTreeSet<Vec<Reply>>> {
    const CALLS_MAX: usize = 100_000;
    let is_keyed = name(first) != "SCAN";
    let width = if ["HSCAN", "ZSCAN"].contains(&name(first).as_str()) {
        2
    } else {
        1
    };
    let mut words = first.clone();
    let mut all = BTreeSet::new();
    for _ in 0..CALLS_MAX {
        let reply = connection.run(&words)?;
        if reply.is_error() {
            return Ok([vec![reply]].into());
        }
        let [cursor, elements] = reply.elements() else {
            anyhow::bail!("{reply:?} is no reply of a scan");
        };
        for group in elements.elements().chunks(width) {
            all.insert(group.iter().map(exact_numbers).collect());
        }
        if cursor.bytes() == b"0" {
            return Ok(all);
        }
        words[usize::from(is_keyed) + 1] = cursor.bytes().to_vec();
    }
    anyhow::bail!("{} does not end", show(first))
}

/// A command's name in capitals.
pub(crate) fn name(words: &[Vec<u8>]) -> String {
    words.first().map(|word| upper(word)).unwrap_or_default()
}

fn upper(word: &[u8]) -> String {
    String::from_utf8_lossy(word).to_ascii_uppercase()
}
