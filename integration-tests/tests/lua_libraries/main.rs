//! The Lua libraries beside Redis's own: the same scripts run in a Redis server and in this
//! process, and must give the same text. Random values, random bytes, damaged input, the limits.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod words;

use mlua::{Lua, LuaOptions, StdLib};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use redrock_integration_tests::process::{Kind, Server, has_redis};
use redrock_integration_tests::resp::{Client, Reply};
use redrock_integration_tests::scale::{between, seed};
use words::{bytes, format, json, message, number, pick, quoted, value};

/// The expressions with their results that the library's own tests hold it to.
const VECTORS: &str = include_str!("../../../libs/lua-libs/tests/libraries/vectors.txt");

/// Calls in one script.
const CALLS: usize = 40;

/// The script's own part of every script.
const DUMP: &str = include_str!("../../../libs/lua-libs/tests/libraries/dump.lua");

/// The beginning of a text that may be long.
fn shown(text: &str) -> &str {
    text.get(..2000).unwrap_or(text)
}

/// Both sides.
struct Pair {
    // Kept for its end.
    _server: Server,
    _folder: tempfile::TempDir,
    redis: Client,
    ours: Lua,
    /// Calls that gave results, and those that raised.
    results: usize,
    errors: usize,
}

impl Pair {
    fn start() -> Option<Self> {
        if !has_redis() {
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let server = Server::start(Kind::Redis, folder.path(), &[]).unwrap();
        let redis = server.client().unwrap();
        // So that `pcall` is Lua's own.
        let options = LuaOptions::new().catch_rust_panics(true);
        let libraries = StdLib::STRING | StdLib::TABLE | StdLib::MATH;
        let ours = Lua::new_with(libraries, options).unwrap();
        redrock_lua_libs::open(&ours).unwrap();
        Some(Self {
            _server: server,
            _folder: folder,
            redis,
            ours,
            results: 0,
            errors: 0,
        })
    }

    /// Runs a script with arguments on both sides; panics where they differ, else gives its lines.
    fn compare(&mut self, body: &str, arguments: &[Vec<u8>]) -> Vec<String> {
        let script = format!("{DUMP}\n{body}\nreturn table.concat(lines, '\\n')");
        let mut command = vec![b"EVAL".to_vec(), script.clone().into_bytes(), b"0".to_vec()];
        command.extend_from_slice(arguments);
        let theirs = match self.redis.run(&command).unwrap() {
            Reply::Bulk(bytes) => bytes,
            other => panic!("Redis: {}", shown(&format!("{other:?}\n{body}"))),
        };
        let table = self.ours.create_table().unwrap();
        for (index, argument) in arguments.iter().enumerate() {
            let text = self.ours.create_string(argument).unwrap();
            table.set(index + 1, text).unwrap();
        }
        self.ours.globals().set("ARGV", table).unwrap();
        let ours: mlua::LuaString = self
            .ours
            .load(&script)
            .set_name("@user_script")
            .call(())
            .unwrap_or_else(|error| panic!("ours: {}", shown(&format!("{error}\n{body}"))));
        let ours = ours.as_bytes().to_vec();
        let split = |bytes: &[u8]| -> Vec<String> {
            let text = String::from_utf8_lossy(bytes);
            text.split('\n').map(str::to_owned).collect()
        };
        let (theirs, ours) = (split(&theirs), split(&ours));
        assert_eq!(theirs.len(), ours.len(), "{}", shown(body));
        let results = ours.iter().filter(|line| line.starts_with("true"));
        self.results += results.count();
        let errors = ours.iter().filter(|line| line.starts_with("false"));
        self.errors += errors.count();
        for (line, (theirs, ours)) in theirs.iter().zip(&ours).enumerate() {
            let call = body
                .lines()
                .filter(|line| line.starts_with("try"))
                .nth(line);
            let argument = arguments
                .get(line)
                .map(|bytes| bytes.escape_ascii().to_string());
            assert!(
                theirs == ours,
                "{}\n{}\nRedis: {}\nours:  {}",
                shown(call.unwrap_or_default()),
                shown(&argument.unwrap_or_default()),
                shown(theirs),
                shown(ours),
            );
        }
        ours
    }

    /// Compares the results of random calls.
    fn calls(&mut self, rounds: u64, mut call: impl FnMut(&mut StdRng) -> String) {
        let mut random = StdRng::seed_from_u64(seed());
        for _ in 0..rounds {
            let mut body = String::from("local circle = {} circle[1] = circle\n");
            for _ in 0..CALLS {
                body.push_str(&call(&mut random));
                body.push('\n');
            }
            self.compare(&body, &[]);
        }
    }

    /// Compares what a function makes of random bytes.
    fn reads(&mut self, rounds: u64, body: &str, mut input: impl FnMut(&mut StdRng) -> Vec<u8>) {
        let mut random = StdRng::seed_from_u64(seed());
        let body = format!("for i = 1, #ARGV do\n{body}\nend");
        for _ in 0..rounds {
            let inputs: Vec<Vec<u8>> = (0..CALLS).map(|_| input(&mut random)).collect();
            self.compare(&body, &inputs);
        }
    }
}

impl Drop for Pair {
    /// What was compared must be both results and errors.
    fn drop(&mut self) {
        let (results, errors) = (self.results, self.errors);
        println!("{results} calls gave results, {errors} raised");
        if !std::thread::panicking() {
            assert!(results * 20 > errors && errors * 50 > results);
        }
    }
}

#[test]
fn the_literal_results_are_those_of_redis() {
    let Some(mut pair) = Pair::start() else {
        return;
    };
    let mut lines = VECTORS.lines().peekable();
    while let Some(expression) = lines.next() {
        if let Some(expected) = lines.peek().and_then(|line| line.strip_prefix("    ")) {
            let body = format!("try(function() return {expression} end)");
            assert_eq!(pair.compare(&body, &[]), [expected], "{expression}");
        }
    }
}

#[test]
fn json_is_written_as_redis_writes_it() {
    let Some(mut pair) = Pair::start() else {
        return;
    };
    pair.calls(between(100, 3000), |random| {
        let settings = match random.random_range(0..3) {
            0 => "c = cjson.new()".into(),
            1 => format!(
                "c = cjson.new() c.encode_sparse_array({}, {}, {}) c.encode_number_precision({}) \
                 c.encode_invalid_numbers({}) c.encode_max_depth({})",
                pick(random, &["true", "false", "'on'"]),
                // 0 would let a great index make gigabytes.
                random.random_range(1..4),
                random.random_range(0..12),
                random.random_range(1..15),
                pick(random, &["true", "false", "'null'"]),
                random.random_range(1..7),
            ),
            _ => "c = cjson".into(),
        };
        format!(
            "do local {settings}\ntry(c.encode, {}) end",
            value(random, 0)
        )
    });
}

#[test]
fn json_is_read_as_redis_reads_it() {
    let Some(mut pair) = Pair::start() else {
        return;
    };
    let body = "try(cjson.decode, ARGV[i])";
    pair.reads(between(100, 3000), body, |random| json(random, 0));
    let body = "local c = cjson.new() c.decode_invalid_numbers(false) c.decode_max_depth(3)
        try(c.decode, ARGV[i])";
    pair.reads(between(50, 1500), body, |random| json(random, 0));
    pair.reads(between(20, 500), "try(cjson.decode, ARGV[i])", |random| {
        bytes(random, 30)
    });
}

#[test]
fn settings_are_taken_and_told_as_redis_does() {
    let Some(mut pair) = Pair::start() else {
        return;
    };
    pair.calls(between(30, 500), |random| {
        let name = pick(
            random,
            &[
                "encode_sparse_array",
                "encode_max_depth",
                "decode_max_depth",
                "encode_number_precision",
                "encode_keep_buffer",
                "encode_invalid_numbers",
                "decode_invalid_numbers",
                "encode",
                "decode",
            ],
        );
        let arguments: Vec<&str> = (0..random.random_range(0..4))
            .map(|_| {
                pick(
                    random,
                    &[
                        "true",
                        "false",
                        "nil",
                        "'on'",
                        "'off'",
                        "'null'",
                        "'x'",
                        "1",
                        "0",
                        "14",
                        "15",
                        "2.9",
                        "'3'",
                        "4294967297",
                        "{}",
                        "-1",
                        "2147483647",
                        "'on\\0x'",
                    ],
                )
            })
            .collect();
        let call = format!("cjson.{name}({})", arguments.join(", "));
        // Names in errors depend on how a function is called. The second call tells what is set.
        match random.random_range(0..3) {
            0 => format!("try(function() return {call} end)"),
            1 => format!("try(function() local a, b = {call} return a, b end)"),
            _ => format!(
                "try(cjson.{name}, {}nil)",
                arguments
                    .iter()
                    .map(|a| format!("{a}, "))
                    .collect::<String>()
            ),
        }
    });
    // The settings outlive a script: the next tests have servers of their own.
}

#[test]
fn messages_are_packed_as_redis_packs_them() {
    let Some(mut pair) = Pair::start() else {
        return;
    };
    pair.calls(between(100, 3000), |random| {
        let values: Vec<String> = (0..random.random_range(0..4))
            .map(|_| value(random, 0))
            .collect();
        let call = format!("try(cmsgpack.pack, {})", values.join(", "));
        call.replace("pack, )", "pack)")
    });
    pair.calls(between(20, 500), |random| {
        let value = value(random, 0);
        format!("try(function() return cmsgpack.unpack(cmsgpack.pack({value})) end)")
    });
}

#[test]
fn messages_are_unpacked_as_redis_unpacks_them() {
    let Some(mut pair) = Pair::start() else {
        return;
    };
    let body = "try(cmsgpack.unpack, ARGV[i])";
    pair.reads(between(100, 3000), body, |random| {
        let mut out = Vec::new();
        for _ in 0..random.random_range(0..4) {
            message(random, 0, &mut out);
        }
        if random.random_bool(0.2) {
            out.truncate(random.random_range(0..=out.len()));
        }
        out
    });
    pair.calls(between(50, 1000), |random| {
        let mut out = Vec::new();
        for _ in 0..random.random_range(0..4) {
            message(random, 4, &mut out);
        }
        let data = quoted(&out);
        let some = |random: &mut StdRng| -> String {
            match random.random_range(0..8) {
                0 => pick(random, &["nil", "'2'", "'x'", "1e10", "-5"]).into(),
                1 => "99".into(),
                _ => random.random_range(-1..5).to_string(),
            }
        };
        match random.random_range(0..4) {
            0 => format!("try(cmsgpack.unpack_one, {data})"),
            1 => format!("try(cmsgpack.unpack_one, {data}, {})", some(random)),
            2 => format!("try(cmsgpack.unpack_limit, {data}, {})", some(random)),
            _ => format!(
                "try(cmsgpack.unpack_limit, {data}, {}, {})",
                some(random),
                some(random)
            ),
        }
    });
}

#[test]
fn structures_are_packed_and_unpacked_as_redis_does() {
    let Some(mut pair) = Pair::start() else {
        return;
    };
    pair.calls(between(150, 4000), |random| {
        let format = format(random);
        let mut arguments = String::new();
        for _ in 0..random.random_range(3..8) {
            let argument = match random.random_range(0..10) {
                0..=5 => number(random),
                6..=8 => quoted(&bytes(random, 6)),
                _ => pick(random, &["nil", "true", "'12'", "{}"]).into(),
            };
            arguments.push_str(&format!(", {argument}"));
        }
        let data = quoted(&bytes(random, 60));
        match random.random_range(0..8) {
            0..=2 => format!("try(struct.pack, '{format}'{arguments})"),
            3 => format!(
                "try(function() return struct.unpack('{format}', struct.pack('{format}'{arguments})) end)"
            ),
            4 | 5 => format!("try(struct.unpack, '{format}', {data})"),
            6 => format!(
                "try(struct.unpack, '{format}', {data}, {})",
                pick(random, &["1", "2", "5", "0", "-1", "-7", "61", "1e18", "'3'", "nil", "{}"])
            ),
            _ => format!("try(struct.size, '{format}')"),
        }
    });
}

#[test]
fn bits_are_as_in_redis() {
    let Some(mut pair) = Pair::start() else {
        return;
    };
    pair.calls(between(100, 2000), |random| {
        let name = pick(
            random,
            &[
                "tobit", "tohex", "bnot", "band", "bor", "bxor", "lshift", "rshift", "arshift",
                "rol", "ror", "bswap",
            ],
        );
        let arguments: Vec<String> = (0..random.random_range(0..4))
            .map(|_| match random.random_range(0..12) {
                0 => pick(random, &["nil", "true", "'12'", "'0x10'", "'x'", "{}"]).into(),
                // Redis 7.0 crashes for this number of digits.
                _ => number(random).replace("-2147483648", "-8"),
            })
            .collect();
        if random.random_bool(0.5) {
            return format!(
                "try(function() return bit.{name}({}) end)",
                arguments.join(", ")
            );
        }
        format!("try(bit.{name}, {})", arguments.join(", ")).replace(", )", ")")
    });
}

#[test]
fn limits_are_met_at_the_same_values() {
    let Some(mut pair) = Pair::start() else {
        return;
    };
    let mut body = String::from(
        "local deep = cjson.new() deep.encode_max_depth(100000) deep.decode_max_depth(100000)
        local function array(levels) local t = {} for i = 2, levels do t = {t} end return t end
        local function object(levels) local t = {} for i = 2, levels do t = {a = t} end return t end
        local function length(f, ...) local ok, text = pcall(f, ...)
            lines[#lines + 1] = show(ok, ok and #text or text) end\n",
    );
    for n in [
        1, 2, 999, 1000, 1001, 3998, 3999, 4000, 4001, 7990, 7995, 7996, 7997, 7998, 7999, 8000,
        8001, 9000,
    ] {
        body.push_str(&format!(
            "length(cjson.encode, array({n})) length(cjson.encode, object({n}))
            length(deep.encode, array({n})) length(deep.encode, object({n}))
            count(cjson.decode, string.rep('[', {n}) .. string.rep(']', {n}))
            count(deep.decode, string.rep('[', {n}) .. string.rep(']', {n}))
            count(deep.decode, string.rep('[', {n}))
            count(deep.decode, string.rep('{{\"a\":', {n}) .. '1' .. string.rep('}}', {n}))
            count(deep.decode, string.rep('[{{\"a\":', {n}))
            count(cmsgpack.unpack, string.rep('\\145', {n}) .. '\\1')
            count(cmsgpack.unpack, string.rep('\\129', {n}))
            count(cmsgpack.unpack, string.rep('\\129\\1', {n}) .. '\\1')
            count(cmsgpack.unpack, string.rep('\\1', {n}))
            count(cmsgpack.unpack_limit, string.rep('\\1', {n}), {n})
            count(struct.unpack, string.rep('b', {n}), string.rep('a', {n}))
            length(cmsgpack.pack, array({n})) length(cmsgpack.pack, object({n}))\n"
        ));
    }
    // As many arguments as Lua allows `unpack` to return.
    for n in [1, 3998, 3999, 4000, 4001, 7000] {
        body.push_str(&format!(
            "local t = {{}} for i = 1, {n} do t[i] = {{}} end
            length(function() return cmsgpack.pack(unpack(t)) end)
            for i = 1, {n} do t[i] = i % 200 end
            length(function() return cmsgpack.pack(unpack(t)) end)
            t[{n}] = {{{{1}}}}
            length(function() return cmsgpack.pack(unpack(t)) end)
            length(function() return bit.bxor(unpack(t)) end)\n"
        ));
    }
    pair.compare(&body, &[]);
}
