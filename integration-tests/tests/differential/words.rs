//! Makes random commands from templates.
//!
//! A template is a line of words. `a|b` takes one of the alternatives, `?a` takes `a` or nothing,
//! `a~b` stands for several words, and `$name` is a random value of a kind, or several (see
//! [`Words::value`]). A part of the commands is then damaged: a word is taken away, added or
//! replaced by something odd.

use crate::wire::Words;
use rand::rngs::StdRng;
use rand::{Rng, RngExt as _};

/// What damages a command. Nothing here makes a key expire soon or a client wait: that would
/// make replies depend on time.
const ODD: &[&[u8]] = &[
    b"",
    b"\xff\xfe\x00\x80",
    b"9223372036854775807",
    b"-9223372036854775808",
    b"99999999999999999999",
    b"-1",
    b"0",
    b"1.5",
    b"nan",
    b"-inf",
    b" 1",
    b"x",
    b"*",
];

const WRONG_TYPES: [&str; 5] = ["a-string", "a-list", "a-set", "a-hash", "a-zset"];

/// Keys of every type, for commands that want another one.
pub(crate) const SETUP: [&str; 5] = [
    "SET a-string value",
    "RPUSH a-list 3 1 2",
    "SADD a-set a 1 2 foo b",
    "HSET a-hash f v g 2",
    "ZADD a-zset 1 a 2 b 3 foo",
];

/// A source of random commands.
pub(crate) struct Generator {
    pub(crate) random: StdRng,
    /// Share of commands that get damaged, in percent.
    pub(crate) damaged_percent: u32,
}

impl Generator {
    pub(crate) fn below(&mut self, n: u32) -> u32 {
        self.random.random_range(0..n)
    }

    pub(crate) fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.random.random_range(0..from.len())]
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.below(100) < percent
    }

    /// A command of one of the templates.
    pub(crate) fn command(&mut self, templates: &[&str]) -> Words {
        let template = self.pick(templates);
        let mut words = self.expand(template);
        // Ranges by name are only defined while all scores are the same.
        let is_lex = words.iter().any(|word| word == b"lex");
        if !is_lex && self.chance(self.damaged_percent) {
            self.damage(&mut words);
        }
        words
    }

    /// A command of one of the templates, not damaged.
    pub(crate) fn undamaged(&mut self, templates: &[&str]) -> Words {
        let template = self.pick(templates);
        self.expand(template)
    }

    /// The command of a template, not damaged.
    pub(crate) fn expand(&mut self, template: &str) -> Words {
        let mut words = Words::new();
        for token in template.split(' ') {
            let token = match token.strip_prefix('?') {
                Some(_) if !self.chance(35) => continue,
                Some(optional) => optional,
                None => token,
            };
            let alternatives: Vec<&str> = token.split('|').collect();
            for part in self.pick(&alternatives).split('~') {
                match part.strip_prefix('$') {
                    Some(name) => self.value(name, &mut words),
                    None => words.push(part.into()),
                }
            }
        }
        words
    }

    fn damage(&mut self, words: &mut Words) {
        let at = self.random.random_range(0..words.len());
        match self.below(5) {
            0 if words.len() > 1 => {
                words.pop();
            }
            1 => words.push(self.pick(ODD).to_vec()),
            2 => words[0] = words[0].to_ascii_lowercase(),
            _ if at > 0 => words[at] = self.pick(ODD).to_vec(),
            _ => {}
        }
    }

    /// One random value of a kind, or several, appended to a command.
    fn value(&mut self, name: &str, out: &mut Words) {
        match name {
            "k" => out.push(self.key()),
            "K" => self.repeat(1, 4, "k", out),
            // A key that only this family writes, so that much gets into it.
            "own" => out.push(format!("k{}", self.below(5)).into()),
            "ownkeys" => self.repeat(1, 4, "own", out),
            "nk" => {
                let count = self.below(3) + 1;
                let told = if self.chance(95) {
                    count
                } else {
                    self.below(6)
                };
                out.push(told.to_string().into());
                self.repeat(count, count + 1, "k", out);
            }
            "v" => out.push(self.text()),
            "V" => self.repeat(1, 5, "v", out),
            "VV" => self.repeat(20, 150, "v", out),
            "m" => out.push(self.member()),
            "M" => self.repeat(1, 6, "m", out),
            "MM" => self.repeat(30, 200, "m", out),
            "int" => out.push(self.integer()),
            "I" => self.repeat(1, 300, "small", out),
            "small" => out.push(self.below(700).to_string().into()),
            "count" => out.push(
                self.pick(&[
                    "0", "1", "2", "3", "5", "10", "100", "1000", "-1", "-3", "x", "",
                ])
                .into(),
            ),
            "offset" => out.push(match self.below(10) {
                0 => self.integer(),
                1 => b"5000".to_vec(),
                _ => self.below(120).to_string().into(),
            }),
            "float" => out.push(self.float()),
            "score" => out.push(self.score()),
            "sm" => self.pairs(1, 5, ["score", "m"], out),
            "SM" => self.pairs(10, 100, ["score", "m"], out),
            "mv" => self.pairs(1, 4, ["m", "v"], out),
            "MV" => self.pairs(20, 80, ["m", "v"], out),
            "kv" => self.pairs(1, 4, ["k", "v"], out),
            "sb" => {
                let mut bound = self.pick(&["", "", "("]).as_bytes().to_vec();
                bound.extend(self.score());
                out.push(bound);
            }
            "lb" => {
                let mut bound = self
                    .pick(&["[", "(", "-", "+", "[", "("])
                    .as_bytes()
                    .to_vec();
                if bound[0] == b'[' || bound[0] == b'(' || self.chance(5) {
                    bound.extend(self.member());
                }
                out.push(bound);
            }
            "pattern" => out.push(
                self.pick(&[
                    "*", "a*", "k?", "[a-c]*", "[^a]", "", "*1*", "\\*", "f[", "?",
                ])
                .into(),
            ),
            "at" => out.push(
                self.pick(&["4000000000", "5000000000", "1", "-5", "0"])
                    .into(),
            ),
            "pat" => out.push(
                self.pick(&["4000000000000", "5000000000000", "1", "-5"])
                    .into(),
            ),
            // Far enough away and never the same twice, so that GT and LT decide alike.
            "in" => out.push((self.below(1_000_000_000) + 100_000).to_string().into()),
            other => self.special(other, out),
        }
    }

    /// What only HyperLogLogs and commands about places take.
    fn special(&mut self, name: &str, out: &mut Words) {
        match name {
            // Enough different elements for a dense one.
            "many" => self.repeat(500, 1500, "wide", out),
            "wide" => out.push(self.random.random_range(0..1_000_000).to_string().into()),
            // Coordinates, some shared by several members, few where no place is.
            "place" => {
                let [east, north] = match self.below(40) {
                    0 => ["180.1", "0"],
                    1 => ["0", "-86"],
                    2 => ["-180", "85.05112878"],
                    3 => ["180", "-85.05112878"],
                    4..8 => ["13.361389", "38.115556"],
                    8..12 => ["15.087269", "37.502669"],
                    12..14 => ["179.99", "-0.001"],
                    14..16 => ["-179.99", "0.001"],
                    16 => ["25", "81.5"],
                    _ => ["", ""],
                };
                if east.is_empty() {
                    let near = self.chance(60);
                    let (east, north) = if near { (10.0, 5.0) } else { (180.0, 85.0) };
                    for most in [east, north] {
                        let value: f64 = self.random.random_range(-most..most);
                        out.push(format!("{value:.4}").into());
                    }
                } else {
                    out.extend([east.into(), north.into()]);
                }
            }
            "p" => out.push(format!("p{}", self.below(50)).into()),
            "places" => self.pairs(1, 6, ["place", "p"], out),
            "PLACES" => self.pairs(60, 200, ["place", "m"], out),
            "unit" => out.push(
                self.pick(&["m", "km", "ft", "mi", "KM", "km", "km", "x"])
                    .into(),
            ),
            "radius" => {
                let radii = [
                    "0", "1", "50.5", "200", "1000", "5000", "30000", "1e6", "-1", "x",
                ];
                out.push(self.pick(&radii).into());
            }
            "from" if self.chance(50) => {
                out.push("FROMMEMBER".into());
                self.value("p", out);
            }
            "from" => {
                out.push("FROMLONLAT".into());
                self.value("place", out);
            }
            "around" => {
                let sizes = self.below(2) + 1;
                out.push(["BYRADIUS", "BYBOX"][sizes as usize - 1].into());
                self.repeat(sizes, sizes + 1, "radius", out);
                self.value("unit", out);
            }
            other => crate::streams::value(self, other, out),
        }
    }

    fn repeat(&mut self, least: u32, below: u32, name: &str, out: &mut Words) {
        for _ in 0..self.random.random_range(least..below) {
            self.value(name, out);
        }
    }

    fn pairs(&mut self, least: u32, below: u32, names: [&str; 2], out: &mut Words) {
        for _ in 0..self.random.random_range(least..below) {
            names.iter().for_each(|name| self.value(name, out));
        }
    }

    fn key(&mut self) -> Vec<u8> {
        match self.below(100) {
            0..88 => format!("k{}", self.below(5)).into(),
            88..94 => self.pick(&WRONG_TYPES).into(),
            94..96 => Vec::new(),
            96..98 => b"\xff\x00\r\nkey".to_vec(),
            _ => b"missing".to_vec(),
        }
    }

    pub(crate) fn text(&mut self) -> Vec<u8> {
        match self.below(10) {
            0..4 => self.below(1000).to_string().into(),
            4 => self.integer(),
            5 => self.float(),
            6 => {
                let mut bytes = vec![0; self.random.random_range(0..20)];
                self.random.fill_bytes(&mut bytes);
                bytes
            }
            7 => vec![b'x'; self.random.random_range(40..90)],
            _ => self
                .pick(&["value", "ohmytext", "mynewtext", "a", ""])
                .into(),
        }
    }

    fn member(&mut self) -> Vec<u8> {
        match self.below(40) {
            0..16 => self.below(200).to_string().into(),
            16..30 => self
                .pick(&["a", "b", "c", "dd", "foo", "", "-20", "007", "1.5"])
                .into(),
            30..37 => format!("member{}", self.below(200)).into(),
            37 => vec![b'm'; self.random.random_range(60..70)],
            _ => self.text(),
        }
    }

    fn integer(&mut self) -> Vec<u8> {
        match self.below(12) {
            0 => self
                .pick(&[
                    "9223372036854775807",
                    "-9223372036854775808",
                    "2147483",
                    "-100",
                ])
                .into(),
            1 => self
                .pick(&["x", "", "1.5", "99999999999999999999", " 1", "01"])
                .into(),
            _ => (i64::from(self.below(24)) - 12).to_string().into(),
        }
    }

    fn float(&mut self) -> Vec<u8> {
        self.pick(&[
            "1", "0.1", "-2.5", "1e10", "3.0", "inf", "-inf", "nan", "x", "1e5000", "1e-20", " 1",
            "0.25", "100",
        ])
        .into()
    }

    fn score(&mut self) -> Vec<u8> {
        match self.below(20) {
            0 => self.pick(&["nan", "abc", "", "1e400", " 1", "0x10"]).into(),
            1..3 => self
                .pick(&["inf", "-inf", "+inf", "1e3", "-0", "123456789012"])
                .into(),
            3..6 => self
                .pick(&["1.5", "-2.25", "0.1", "3.0", "4503599627370497"])
                .into(),
            _ => (i64::from(self.below(40)) - 20).to_string().into(),
        }
    }
}
