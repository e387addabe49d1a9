//! The libraries as scripts see them: literal results, hostile input, limits of memory.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use mlua::{Lua, LuaOptions, StdLib};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

const DUMP: &str = include_str!("dump.lua");
const VECTORS: &str = include_str!("vectors.txt");

/// An interpreter with the libraries and what Redis has of the standard ones.
fn lua() -> Lua {
    // So that `pcall` is Lua's own.
    let options = LuaOptions::new().catch_rust_panics(true);
    let lua = Lua::new_with(StdLib::STRING | StdLib::TABLE | StdLib::MATH, options).unwrap();
    redrock_lua_libs::open(&lua).unwrap();
    lua
}

/// Runs a script; its first result as text.
fn run(lua: &Lua, script: &str) -> String {
    let result: mlua::LuaString = lua.load(script).set_name("@user_script").call(()).unwrap();
    result.to_string_lossy()
}

#[test]
fn expressions_give_what_they_give_in_redis() {
    let lua = lua();
    let mut lines = VECTORS.lines().peekable();
    let mut checked = 0;
    while let Some(expression) = lines.next() {
        let Some(expected) = lines.peek().and_then(|line| line.strip_prefix("    ")) else {
            continue;
        };
        let script = format!("{DUMP}\ntry(function() return {expression} end)\nreturn lines[1]");
        assert_eq!(run(&lua, &script), expected, "{expression}");
        checked += 1;
    }
    assert_eq!(checked, 236);
}

#[test]
fn values_come_back_as_they_were() {
    let script = format!(
        "{DUMP}
        local value = {{1, -2.5, 'text\\0\\255', true, {{}}, {{a = {{b = {{c = false}}}}}}, 2^53, ''}}
        local json = dump(cjson.decode(cjson.encode({{a = 'x', b = {{1, 2}}}})), 0)
        return dump(cmsgpack.unpack(cmsgpack.pack(value)), 0) == dump(value, 0) and json or 'differ'"
    );
    assert_eq!(run(&lua(), &script), "{\"a\"=\"x\",\"b\"={1=1,2=2}}");
}

/// Random bytes in every function that reads bytes: it returns or raises, and memory is what it
/// was.
#[test]
fn random_bytes_do_no_harm() {
    let seed = std::env::var("RR_SEED").map_or(1, |text| text.parse().unwrap());
    println!("RR_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let lua = lua();
    let feed: mlua::Function = lua
        .load(
            "return function(bytes, other, number)
                local raised = 0
                local function drop(f, ...) f(...) end
                local function try(f, ...) if not pcall(drop, f, ...) then raised = raised + 1 end end
                try(cjson.decode, bytes) try(cjson.decode, '[' .. bytes) try(cjson.decode, '\"' .. bytes .. '\"')
                try(cmsgpack.unpack, bytes) try(cmsgpack.unpack_one, bytes, number)
                try(cmsgpack.unpack_limit, bytes, number, number)
                try(struct.unpack, bytes, other, number) try(struct.unpack, other, bytes)
                try(struct.pack, bytes, number, other, number, other) try(struct.size, bytes)
                try(cjson.encode, {bytes, [other] = number}) try(cmsgpack.pack, {bytes, [other] = number})
                try(bit.tohex, bytes, number) try(bit.rol, number, number)
                return raised
            end",
        )
        .eval()
        .unwrap();
    let likely = b"{}[]\",:\\u0123456789abcdef \x81\x91\xdc\xdd\xde\xdf\xdb\xcf><!ilsxc\0";
    let (mut raised, mut after_warm_up) = (0u64, 0);
    for round in 0..20_000 {
        let mut bytes = || -> Vec<u8> {
            let count = random.random_range(0..40);
            let any = random.random_bool(0.3);
            (0..count)
                .map(|_| match any {
                    true => random.random(),
                    false => likely[random.random_range(0..likely.len())],
                })
                .collect()
        };
        let (first, second) = (bytes(), bytes());
        let number = f64::from_bits(random.random::<u64>() >> random.random_range(0..20));
        let (first, second) = (lua.create_string(first), lua.create_string(second));
        raised += feed
            .call::<u64>((first.unwrap(), second.unwrap(), number))
            .unwrap();
        if round == 1000 {
            lua.gc_collect().unwrap();
            after_warm_up = lua.used_memory();
        }
    }
    lua.gc_collect().unwrap();
    assert!(lua.used_memory() < after_warm_up + 64 * 1024);
    assert!(raised > 20_000, "{raised}");
}

/// Tables that name each other twice make a result that no memory holds; Lua's limit ends it.
#[test]
fn a_result_beyond_the_memory_limit_is_an_error_and_leaves_nothing() {
    let lua = lua();
    let before = lua.used_memory();
    lua.set_memory_limit(16 << 20).unwrap();
    for pack in [
        "cjson.encode(t)",
        "cmsgpack.pack(t, t, t, t, t, t, t, t, t, t, t, t, t)",
    ] {
        let script = format!(
            "local t = {{'a rather long text'}} for i = 1, 40 do t = {{t, t, t, t}} end
            local ok, text = pcall(function() return {pack} end)
            return tostring(ok) .. ' ' .. text"
        );
        // cmsgpack stops at 16 levels, with 4^15 elements.
        assert_eq!(run(&lua, &script), "false not enough memory", "{pack}");
    }
    lua.gc_collect().unwrap();
    assert!(lua.used_memory() < before + 64 * 1024);
    assert_eq!(run(&lua, "return cjson.encode({1})"), "[1]");
}

/// A sparse array may stand for gigabytes of nulls. Takes 800 MB of memory: only at scale.
#[test]
fn a_result_is_bounded_without_a_memory_limit_too() {
    let scale = std::env::var("RR_SCALE").unwrap_or_default();
    if scale.parse().unwrap_or(1) < 10 {
        return;
    }
    let script = "local c = cjson.new() c.encode_sparse_array(false, 0)
        local ok, text = pcall(c.encode, {[2147483647] = 1})
        return tostring(ok) .. ' ' .. text";
    let text = run(&lua(), script);
    assert_eq!(text, "false result is longer than 536870912 bytes");
}

/// The collector runs finalizers in the middle of a call, and these call the libraries again.
#[test]
fn finalizers_that_use_the_libraries_disturb_no_call() {
    let script = "
        local calls = 0
        local function litter()
            for i = 1, 20 do
                local proxy = newproxy(true)
                getmetatable(proxy).__gc = function()
                    calls = calls + 1
                    assert(cjson.encode({string.rep('x', 3000)}) == '[\"' .. string.rep('x', 3000) .. '\"]')
                    assert(cjson.decode('\"\\\\u0041' .. string.rep('y', 3000) .. '\"') == 'A' .. string.rep('y', 3000))
                    assert(#cmsgpack.pack(string.rep('z', 3000)) == 3003)
                end
            end
        end
        local list, text = {}, {}
        for i = 1, 3000 do list[i] = 'element ' .. i text[i] = '\"element ' .. i .. '\"' end
        local expected = '[' .. table.concat(text, ',') .. ']'
        collectgarbage('setpause', 50)
        for round = 1, 100 do
            litter()
            assert(cjson.encode(list) == expected)
            assert(#cjson.decode(expected) == 3000)
            local copy = cmsgpack.unpack(cmsgpack.pack(list))
            assert(#copy == 3000 and copy[3000] == 'element 3000')
            assert(#struct.pack('s', expected) == #expected + 1)
        end
        return tostring(calls > 100)";
    assert_eq!(run(&lua(), script), "true");
}

/// Deep nesting must not need a thread's own stack.
#[test]
fn deep_nesting_needs_little_stack() {
    let check = || {
        let script = "
            local c = cjson.new() c.encode_max_depth(1000000) c.decode_max_depth(1000000)
            local json = string.rep('[', 7000) .. string.rep(']', 7000)
            local value = c.decode(json)
            assert(c.encode(value) == string.rep('[', 6999) .. '{}' .. string.rep(']', 6999))
            local ok, text = pcall(c.decode, string.rep('[', 1000000))
            assert(not ok and text:find('too many nested data structures'))
            ok, text = pcall(cmsgpack.unpack, string.rep('\\145', 1000000))
            assert(not ok and text:find('stack overflow'))
            return 'done'";
        run(&lua(), script)
    };
    let thread = std::thread::Builder::new().stack_size(512 << 10);
    assert_eq!(thread.spawn(check).unwrap().join().unwrap(), "done");
}
