//! Scripts: fixed ones with random keys and arguments, and random commands from within a script, with
//! keys that it declares and keys that it does not.

use crate::families::Family;
use crate::pair::{Pair, name};
use crate::templates;
use crate::wire::Words;
use crate::words::Generator;

/// Steps between comparisons of the whole data sets.
const DATA_INTERVAL: u32 = 150;

/// One command, given as arguments.
const WRAPPERS: &[&str] = &[
    "return redis.call(unpack(ARGV))",
    "return redis.pcall(unpack(ARGV))",
    "redis.setresp(3) return redis.call(unpack(ARGV))",
    "#!lua\nreturn redis.call(unpack(ARGV))",
    "#!lua flags=no-writes\nreturn redis.pcall(unpack(ARGV))",
    "local r = redis.pcall(unpack(ARGV)) return {r, redis.call('exists', 'k0'), type(r)}",
    // Reads what it did not declare before and after its first write.
    "local a = redis.call('exists', 'k1', 'k2') redis.call('append', 'log', ARGV[1]) \
     return {a, redis.pcall(unpack(ARGV)), redis.call('exists', 'k3'), redis.call('strlen', 'log')}",
    "local ok, e = pcall(redis.call, unpack(ARGV)) return {tostring(ok), e}",
];

/// With keys k0 to k4 and values as keys and arguments.
const WHOLE: &[&str] = &[
    "return {KEYS, ARGV, #KEYS, #ARGV}",
    "return ARGV[1]",
    "return tonumber(ARGV[1])",
    "return {1, 2.9, 'x', false, true, nil, 7}",
    "return {ok = ARGV[1]}",
    "return {err = ARGV[1]}",
    "return redis.error_reply(ARGV[1])",
    "return redis.status_reply(ARGV[1])",
    "error(ARGV[1])",
    "error({err = ARGV[1]})",
    "return {map = {a = ARGV[1]}}",
    "return {set = {x = true}}",
    "return {big_number = '1234567999999999999999999999999999999'}",
    "return {verbatim_string = {format = 'txt', string = ARGV[1]}}",
    "return redis.sha1hex(ARGV[1])",
    "for i = 1, 5 do redis.call('rpush', KEYS[1], i) end return redis.call('llen', KEYS[1])",
    "local v = redis.call('get', KEYS[1]) redis.call('set', KEYS[2], v or 'none') return v",
    "redis.call('set', KEYS[1], 1.5) redis.call('incrby', KEYS[1], 1)",
    "return redis.call('set', KEYS[1], ARGV[1], 'nx')",
    "redis.call('select', 3) redis.call('set', 'x', ARGV[1]) return redis.call('get', 'x')",
    "redis.call('del', unpack(KEYS)) redis.call('hset', KEYS[1], 'f', ARGV[1]) \
     return redis.call('hgetall', KEYS[1])",
    "redis.call('set', KEYS[1], 'v') redis.call('pexpire', KEYS[1], 1000000) \
     return redis.call('pttl', KEYS[1]) > 0",
    "local t = redis.call(ARGV[2] and 'ttl' or 'pttl', KEYS[1]) return t > 0 and 'some' or t",
    "redis.set_repl(redis.REPL_ALL) return redis.call('append', KEYS[1], 'z')",
    "return cjson.encode({1, 2, {a = 3}})",
    "return cmsgpack.unpack(cmsgpack.pack(ARGV))",
    "return {struct.unpack('>I2h', struct.pack('>I2h', 5, -7))}",
    "return {bit.tohex(65535), bit.band(7, 12)}",
    "return nosuch",
    "nosuch = 1",
    "redis.call = 1",
    "return redis.call('nosuch')",
    "return redis.call('get')",
    "return redis.call('eval', 'return 1', 0)",
    "return redis.call('subscribe', 'x')",
    "return redis.call()",
    "return redis.call({})",
    "redis.setresp(4)",
    "#!lua flags=nosuch\nreturn 1",
    "#!lua name=x\nreturn 1",
    "#!luau\nreturn 1",
    "return )",
    "return string.rep(ARGV[1], 100)",
    "return {string.find(ARGV[1], '(%d+)')}",
    "return table.concat(KEYS, ',')",
    "return {tostring(1e15), tostring(0/0), 1e300}",
    "return redis.call('mget', unpack(KEYS))",
    "redis.call('multi')",
    "return {redis.REPL_ALL, redis.REPL_AOF, redis.LOG_WARNING}",
    "return redis.replicate_commands()",
    "return redis.acl_check_cmd('get', KEYS[1])",
];

/// Commands whose replies have no order, or not the same in both, are left to their families; so are
/// times, which both servers tell from clocks of their own.
fn is_comparable(words: &Words) -> bool {
    !matches!(
        name(words).as_str(),
        "HGETALL"
            | "HKEYS"
            | "HVALS"
            | "HRANDFIELD"
            | "HSCAN"
            | "OBJECT"
            | "DEBUG"
            | "TTL"
            | "PTTL"
            | "EXPIRETIME"
            | "PEXPIRETIME"
            | "HELLO"
            | "RESET"
    )
}

fn word(text: &str) -> Vec<u8> {
    text.as_bytes().to_vec()
}

/// A script over random keys and arguments.
fn whole(generator: &mut Generator) -> Words {
    let script = generator.pick(WHOLE);
    let command = generator.pick(&["EVAL", "EVAL", "EVAL", "EVAL_RO"]);
    let count = 1 + generator.below(4);
    let told = match generator.below(20) {
        0 => generator.pick(&["-1", "x", "99"]).to_owned(),
        _ => count.to_string(),
    };
    let mut words = vec![word(command), word(script), word(&told)];
    for _ in 0..count {
        words.push(format!("k{}", generator.below(5)).into());
    }
    for _ in 0..=generator.below(2) {
        words.push(generator.text());
    }
    words
}

/// A random command of another family from within a script.
fn wrapped(generator: &mut Generator) -> Words {
    let family = [
        templates::STRINGS,
        templates::BITMAPS,
        templates::LISTS,
        templates::HASHES,
    ];
    let inner = loop {
        let which = generator.below(4) as usize;
        let inner = generator.command(family[which]);
        if is_comparable(&inner) {
            break inner;
        }
    };
    let script = generator.pick(WRAPPERS);
    let mut words = vec![word("EVAL"), word(script)];
    // Some keys are declared.
    if generator.below(3) == 0 && inner.len() > 1 {
        words.extend([word("1"), inner[1].clone()]);
    } else {
        words.push(word("0"));
    }
    words.extend(inner);
    words
}

/// Drives the family: everything is on disk before each step in that mode.
pub(crate) fn drive(
    pair: &mut Pair,
    generator: &mut Generator,
    _family: &Family,
    steps: u32,
) -> anyhow::Result<()> {
    for step in 1..=steps {
        pair.spill(crate::families::SPILL)?;
        let words = match generator.below(10) {
            0..3 => whole(generator),
            3 => generator.command(&[
                "SCRIPT EXISTS e0e1f9fabfc9d4800c877a703b823ac0578ff8db $v",
                "SCRIPT FLUSH ?ASYNC|SYNC|x",
                "SCRIPT KILL",
                "SCRIPT x",
                "EVALSHA $v 0",
                "EVALSHA e0e1f9fabfc9d4800c877a703b823ac0578ff8db 0",
                "EVALSHA_RO E0E1F9FABFC9D4800C877A703B823AC0578FF8DB 0|1",
            ]),
            4 => vec![word("SCRIPT"), word("LOAD"), word("return 1")],
            _ => wrapped(generator),
        };
        pair.run(0, &words)?;
        if step % DATA_INTERVAL == 0 {
            pair.compare_data()?;
        }
        if pair.is_hopeless() {
            break;
        }
    }
    Ok(())
}
