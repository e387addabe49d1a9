//! Streams: random commands, and their dumps carried from each server to the other.
//!
//! Nodes are kept small, so that many are made, trimmed and deleted whole. Ids come from a few
//! milliseconds: what is read, deleted or claimed is often there. Times are not compared, nor is
//! what 7.2 has and 7.0 has not.

use crate::families::Family;
use crate::pair::{CHECKS, Pair, name};
use crate::templates::STREAMS;
use crate::wire::{Reply, Words};
use crate::words::Generator;

/// Steps between comparisons of the whole data sets.
const DATA_INTERVAL: u32 = 150;
/// Steps between fillings: random commands delete more than they make.
const FILL_INTERVAL: u32 = 40;
/// Steps between dumps carried over.
const DUMP_INTERVAL: u32 = 25;

/// A random value of a kind that only streams have; see [`Generator::expand`].
pub(crate) fn value(generator: &mut Generator, kind: &str, out: &mut Words) {
    let text = match kind {
        "id" => id(generator),
        "ids" => {
            for _ in 0..=generator.below(4) {
                value(generator, "id", out);
            }
            return;
        }
        // Mostly above all that there is.
        "newid" => match generator.below(10) {
            0..6 => "8-*".to_owned(),
            6..8 => format!("{}-*", generator.below(9)),
            8 => format!("{}-{}", generator.below(9), generator.below(40)),
            _ => id(generator),
        },
        "fv" => {
            for _ in 0..=generator.below(2) {
                out.push(generator.pick(&["f", "f", "g", "7"]).into());
                out.push(generator.text());
            }
            return;
        }
        "group" => generator.pick(&["g", "g", "h"]).to_owned(),
        "consumer" => generator.pick(&["c", "d", "1"]).to_owned(),
        "trim" => {
            out.push(generator.pick(&["MAXLEN", "MAXLEN", "MINID", "x"]).into());
            let how = generator.pick(&["~", "~", "=", ""]);
            if !how.is_empty() {
                out.push(how.into());
            }
            match out[out.len() - 1] == b"MINID" || out[out.len() - 2] == b"MINID" {
                true => id(generator),
                false => generator.below(30).to_string(),
            }
        }
        "dollar" => "$".to_owned(),
        other => panic!("no kind of value is called {other}"),
    };
    out.push(text.into());
}

fn id(generator: &mut Generator) -> String {
    match generator.below(24) {
        0 => generator
            .pick(&[
                "x",
                "",
                "5-*",
                "$",
                ">",
                "18446744073709551615-18446744073709551615",
                "18446744073709551616",
                "007-+1",
            ])
            .to_owned(),
        1..3 => generator.pick(&["-", "+", "0-0"]).to_owned(),
        3..6 => format!("({}-{}", generator.below(9), generator.below(12)),
        6..10 => generator.below(9).to_string(),
        10..18 => format!("8-{}", generator.below(40)),
        _ => format!("{}-{}", generator.below(9), generator.below(12)),
    }
}

/// One connection; what 7.0 does otherwise is made alike after each command.
pub(crate) fn drive(
    pair: &mut Pair,
    generator: &mut Generator,
    _family: &Family,
    steps: u32,
) -> anyhow::Result<()> {
    pair.line(CHECKS, "CONFIG SET stream-node-max-entries 4")?;
    for step in 1..=steps * 2 {
        if step % FILL_INTERVAL == 1 {
            fill(pair, generator)?;
        }
        pair.spill("ROCKALL")?;
        let words = generator.command(STREAMS);
        // Ids by the clock differ.
        if name(&words) == "XADD" && words.iter().any(|word| word == b"*") {
            continue;
        }
        pair.run(0, &words)?;
        make_alike(pair, &words)?;
        if generator.below(4) == 0 {
            pair.compare_touched(&words)?;
        }
        if step % DUMP_INTERVAL == 0 {
            carry_dumps(pair)?;
        }
        if step % DATA_INTERVAL == 0 {
            pair.compare_data()?;
        }
        if pair.is_hopeless() {
            break;
        }
    }
    pair.line(CHECKS, "CONFIG SET stream-node-max-entries 100")?;
    Ok(())
}

/// Gives each key two groups, of which one has delivered something, and entries ahead.
fn fill(pair: &mut Pair, generator: &mut Generator) -> anyhow::Result<()> {
    for key in 0..5 {
        pair.line(0, &format!("XGROUP CREATE k{key} g 0 MKSTREAM"))?;
        pair.line(0, &format!("XGROUP CREATE k{key} h $"))?;
        for _ in 0..generator.below(12) {
            let add = generator.expand(&format!("XADD k{key} $newid $fv"));
            pair.run(0, &add)?;
        }
        let read = generator.expand(&format!(
            "XREADGROUP GROUP g $consumer COUNT 1|3|9 STREAMS k{key} >"
        ));
        pair.run(0, &read)?;
        make_alike(pair, &read)?;
    }
    Ok(())
}

/// Commands that leave the two versions apart, and what brings them together.
fn make_alike(pair: &mut Pair, words: &Words) -> anyhow::Result<()> {
    let text = |word: &str| word.as_bytes().to_vec();
    let create = |key: &[u8], group: &[u8], consumer: &[u8]| {
        let start = [text("XGROUP"), text("CREATECONSUMER")];
        start
            .into_iter()
            .chain([key, group, consumer].map(<[u8]>::to_vec))
            .collect::<Words>()
    };
    match name(words).as_str() {
        // 7.2 creates a consumer even if it gets nothing.
        "XCLAIM" | "XAUTOCLAIM" if words.len() > 3 => {
            pair.both_words(0, &create(&words[1], &words[2], &words[3]))?;
        }
        "XREADGROUP" if words.len() > 3 => {
            for key in words.iter().skip(4) {
                pair.both_words(0, &create(key, &words[2], &words[3]))?;
            }
        }
        // 7.2 compares with the largest id that was deleted.
        "XSETID" if words.len() > 1 => {
            let digest = vec![text("XINFO"), text("STREAM"), words[1].clone()];
            let [ours, theirs] = pair.both_words(0, &digest)?;
            if ours != theirs {
                pair.both_words(0, &vec![text("DEL"), words[1].clone()])?;
            }
        }
        _ => {}
    }
    Ok(())
}

/// Carries each stream's dump to the other server and compares all that XINFO tells of it.
fn carry_dumps(pair: &mut Pair) -> anyhow::Result<()> {
    for key in 0..5 {
        let line = |line: &str| -> Words { line.split(' ').map(|word| word.into()).collect() };
        let [ours, theirs] = pair.both_words(0, &line(&format!("DUMP k{key}")))?;
        let (Reply::Bulk(_, ours), Reply::Bulk(_, theirs)) = (ours, theirs) else {
            continue;
        };
        let restore = |payload| {
            let mut words = line("RESTORE carried 0");
            words.extend([payload, b"REPLACE".to_vec()]);
            words
        };
        // Each gets what the other wrote.
        pair.each(0, [restore(theirs), restore(ours)])?;
        pair.line(0, "XINFO STREAM carried FULL COUNT 0")?;
        pair.line(0, "XREVRANGE carried + -")?;
        pair.line(0, "DEBUG DIGEST-VALUE carried")?;
        pair.line(0, "DEL carried")?;
    }
    Ok(())
}

/// The form of a reply in which both servers must agree: without times, and without what only 7.2
/// has.
pub(crate) fn comparable(name: &str, reply: &Reply) -> Reply {
    match name {
        "XINFO" => without_times(reply),
        "XPENDING" => Reply::Many(b'*', reply.elements().iter().map(pending).collect()),
        _ => reply.clone(),
    }
}

/// XPENDING's element without its idle time; anything else as it is.
fn pending(element: &Reply) -> Reply {
    match element {
        Reply::Many(kind, fields) if fields.len() == 4 => {
            let mut fields = fields.clone();
            fields[2] = Reply::Null(b':');
            Reply::Many(*kind, fields)
        }
        other => other.clone(),
    }
}

/// A number that is no id, count or length of these tests: it is a time.
fn is_time(reply: &Reply) -> bool {
    reply.int().is_some_and(|n| n > 1_000_000_000)
}

fn without_times(reply: &Reply) -> Reply {
    let Reply::Many(kind, elements) = reply else {
        return match is_time(reply) {
            true => Reply::Null(b':'),
            false => reply.clone(),
        };
    };
    let mut kept = Vec::new();
    let mut rest = elements.iter();
    while let Some(element) = rest.next() {
        match element.bytes() {
            b"inactive" | b"active-time" => {
                rest.next();
            }
            b"idle" => {
                kept.push(element.clone());
                rest.next();
            }
            _ => kept.push(without_times(element)),
        }
    }
    Reply::Many(*kind, kept)
}
