//! Functions: libraries good and bad, loaded, listed, moved and called.

use crate::families::Family;
use crate::pair::Pair;
use crate::wire::Words;
use crate::words::Generator;

/// Steps between comparisons of the whole data sets.
const DATA_INTERVAL: u32 = 150;

/// What functions do. `register_function` is called with a name and one of these.
const BODIES: &[&str] = &[
    "function(keys, args) return {keys, args} end",
    "function(keys, args) return redis.call('set', keys[1], args[1] or 'v') end",
    "function(keys, args) return redis.call('get', keys[1]) end",
    "function(keys, args) redis.call('rpush', keys[1], 1, 2) return redis.call('lrange', keys[1], 0, -1) end",
    "function(keys, args) return redis.pcall(unpack(args)) end",
    "function(keys, args) return redis.call('exists', 'k1', 'k2') + redis.call('append', 'log', 'x') end",
    "function(keys, args) return redis.error_reply('BAD of a function') end",
    "function(keys, args) error('raised') end",
    "function(keys, args) return nosuch end",
    "function(keys, args) redis.setresp(3) return {map = {a = 1}} end",
    "function(keys, args) redis.register_function('late', function() end) end",
    "function(keys, args) return {ok = args[1]} end",
    "function(keys, args) a = 1 end",
    "function(keys, args) return {redis.REPL_ALL, redis.sha1hex('x'), cjson.encode(args)} end",
    "function(keys, args) local r = redis.call('hset', keys[1], 'f', 1) return redis.call('del', keys[1]) + r end",
];

const FLAGS: &[&str] = &[
    "",
    "",
    "'no-writes'",
    "'NO-WRITES'",
    "'allow-oom'",
    "'allow-stale', 'no-cluster'",
    "'allow-cross-slot-keys', 'no-writes'",
];

/// Refused for their first line, for what they register, or for what they do.
const BAD: &[&str] = &[
    "",
    "return 1",
    "#!lua",
    "#!lua name=x",
    "#!lua\nredis.register_function('f', function() end)",
    "#!lua name=\nredis.register_function('f', function() end)",
    "#!lua name=a-b\nredis.register_function('f', function() end)",
    "#!lua name=a name=b\nredis.register_function('f', function() end)",
    "#!lua name=a foo=b\nredis.register_function('f', function() end)",
    "#!lua name=\"a\nredis.register_function('f', function() end)",
    "#!bad name=a\nredis.register_function('f', function() end)",
    "#!lua name=bad\n",
    "#!lua name=bad\nbad code",
    "#!lua name=bad\nerror('raised while it is loaded')",
    "#!lua name=bad\nerror({err = 'ERR a table'})",
    "#!lua name=bad\nerror({})",
    "#!lua name=bad\nredis.call('set', 'x', 1)",
    "#!lua name=bad\nlocal a = math.random(1)",
    "#!lua name=bad\nlocal a = string.len('x')",
    "#!lua name=bad\na = 1",
    "#!lua name=bad\nredis.register_function()",
    "#!lua name=bad\nredis.register_function(1)",
    "#!lua name=bad\nredis.register_function({})",
    "#!lua name=bad\nredis.register_function('f')",
    "#!lua name=bad\nredis.register_function('f', 1)",
    "#!lua name=bad\nredis.register_function({}, function() end)",
    "#!lua name=bad\nredis.register_function('f-g', function() end)",
    "#!lua name=bad\nredis.register_function('', function() end)",
    "#!lua name=bad\nredis.register_function('f', function() end, 1)",
    "#!lua name=bad\nredis.register_function('z', function() end) redis.register_function('z', function() end)",
    "#!lua name=bad\nredis.register_function{function_name = 'z'}",
    "#!lua name=bad\nredis.register_function{callback = function() end}",
    "#!lua name=bad\nredis.register_function{function_name = {}, callback = function() end}",
    "#!lua name=bad\nredis.register_function{function_name = 'z', callback = 1}",
    "#!lua name=bad\nredis.register_function{function_name = 'z', callback = function() end, description = {}}",
    "#!lua name=bad\nredis.register_function{function_name = 'z', callback = function() end, flags = 'no-writes'}",
    "#!lua name=bad\nredis.register_function{function_name = 'z', callback = function() end, flags = {'x'}}",
    "#!lua name=bad\nredis.register_function{function_name = 'z', callback = function() end, flags = {1}}",
    "#!lua name=bad\nredis.register_function{function_name = 'z', callback = function() end, other = 1}",
    "#!lua name=bad\nredis.register_function{1, 2}",
    "#!lua name=bad\nredis.register_function{[true] = 1}",
    "#!lua name=bad\nredis.register_function = 1",
    "#!lua name=bad\nredis.nosuch()",
    "#!lua name=bad\nsetmetatable(_G, {})",
    "#!lua name=good_numbers\nredis.register_function{function_name = 5, callback = function() return 1 end}",
];

fn word(text: &str) -> Vec<u8> {
    text.as_bytes().to_vec()
}

fn library(generator: &mut Generator) -> Vec<u8> {
    let engine = generator.pick(&["lua", "lua", "LUA"]);
    let mut code = format!("#!{engine} name=lib{}\n", generator.below(4));
    let mut names: Vec<&str> = Vec::new();
    for _ in 0..=generator.below(2) {
        let name = generator.pick(&["f0", "f1", "f2", "f3", "F4", "F0"]);
        // Two names in one library that differ by case alone end Redis 7.0 by an assertion.
        if names
            .iter()
            .any(|other| *other != name && other.eq_ignore_ascii_case(name))
        {
            continue;
        }
        names.push(name);
        let body = generator.pick(BODIES);
        code += &match generator.below(3) {
            0 => format!("redis.register_function('{name}', {body})\n"),
            _ => format!(
                "redis.register_function{{function_name = '{name}', callback = {body}, \
                 flags = {{{}}}{}}}\n",
                generator.pick(FLAGS),
                generator.pick(&["", ", description = 'what it does'", ", DESCRIPTION = 7"]),
            ),
        };
    }
    code.into_bytes()
}

fn load(generator: &mut Generator) -> Words {
    let mut words = vec![word("FUNCTION"), word("LOAD")];
    match generator.below(12) {
        0 => words.push(word("x")),
        1 => words.extend([word("REPLACE"), word("replace")]),
        2..5 => {}
        _ => words.push(word("REPLACE")),
    }
    words.push(match generator.below(3) {
        0 => word(generator.pick(BAD)),
        _ => library(generator),
    });
    words
}

fn call(generator: &mut Generator) -> Words {
    let mut words = generator.undamaged(&["FCALL|FCALL|FCALL_RO f0|f1|f2|F3|f4|5|late|nosuch"]);
    let count = 1 + generator.below(2);
    words.push(match generator.below(15) {
        0 => word(generator.pick(&["-1", "x", "99", ""])),
        _ => word(&count.to_string()),
    });
    for _ in 0..count {
        words.push(format!("k{}", generator.below(5)).into());
    }
    match generator.below(3) {
        0 => words.extend(generator.undamaged(&["SET $k $v", "GET $k", "LPUSH $k $v", "nosuch"])),
        1 => words.push(generator.text()),
        _ => {}
    }
    words
}

/// Each restores what the other or itself dumped.
fn restore(pair: &mut Pair, generator: &mut Generator) -> anyhow::Result<()> {
    let dumped = pair.both_words(0, &vec![word("FUNCTION"), word("DUMP")])?;
    // Theirs to both: ours has another order of libraries, which shows in nothing else.
    let [_, theirs] = dumped;
    let mut payload = theirs.bytes().to_vec();
    if generator.below(6) == 0 {
        let at = generator.below(payload.len() as u32) as usize;
        payload[at] ^= 1;
    }
    if generator.below(2) == 0 {
        pair.run(
            0,
            &generator.undamaged(&["FUNCTION FLUSH", "FUNCTION DELETE lib0|lib1|lib2"]),
        )?;
    }
    let mut words = vec![word("FUNCTION"), word("RESTORE"), payload];
    match generator.below(5) {
        0 => {}
        1 => words.push(word("x")),
        _ => words.push(word(generator.pick(&["APPEND", "REPLACE", "flush"]))),
    }
    pair.run(0, &words)?;
    Ok(())
}

/// Drives the family.
pub(crate) fn drive(
    pair: &mut Pair,
    generator: &mut Generator,
    _family: &Family,
    steps: u32,
) -> anyhow::Result<()> {
    pair.line(0, "FUNCTION FLUSH")?;
    for step in 1..=steps {
        pair.spill(crate::families::SPILL)?;
        let words = match generator.below(20) {
            0 => {
                restore(pair, generator)?;
                continue;
            }
            1..3 => generator.command(&[
                "FUNCTION LIST",
                "FUNCTION LIST WITHCODE",
                "FUNCTION LIST LIBRARYNAME LIB*|lib1 ?WITHCODE",
                "FUNCTION STATS",
                "FUNCTION DELETE lib0|lib1|nosuch",
                "FUNCTION FLUSH ?ASYNC|SYNC|x",
                "FUNCTION KILL",
                "FUNCTION HELP",
                "FUNCTION x",
                "FUNCTION RESTORE $v",
            ]),
            3..9 => load(generator),
            _ => call(generator),
        };
        pair.run(0, &words)?;
        if step % DATA_INTERVAL == 0 {
            pair.compare_data()?;
        }
        if pair.is_hopeless() {
            break;
        }
    }
    pair.line(0, "FUNCTION LIST WITHCODE")?;
    pair.line(0, "FUNCTION FLUSH")?;
    Ok(())
}
