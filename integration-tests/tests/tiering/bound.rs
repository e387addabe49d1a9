//! `maxmemory`, `maxrockmem` and `maxpsmem` while the server runs.

use super::{ALONE, MB, check, error, fill, number, report, start, statistic, value};
use redrock_integration_tests::daemons::{companions_up, until};
use redrock_integration_tests::memory::{proportional_bytes, resident_bytes};
use redrock_integration_tests::process::{Kind, Server};
use redrock_integration_tests::resp::{Client, Reply};
use redrock_integration_tests::small_disk::SmallDisk;

const VALUE_BYTES: usize = 20_000;
/// What all processes may take beyond `maxmemory` (I7).
const BEYOND: u64 = 64 * MB;

fn until_below(server: &Server, limit: u64) -> anyhow::Result<()> {
    let mut last = 0;
    let found = until("memory within the bound", || {
        last = proportional_bytes(server.pid());
        Ok(last <= limit)
    });
    found.map_err(|error| error.context(format!("{last} bytes, at most {limit}")))
}

/// Reads everything twice: what is wanted again stays in memory as far as it has room.
fn read_twice(client: &mut Client, count: usize) -> anyhow::Result<()> {
    check(client, "key", 0..count, VALUE_BYTES)?;
    check(client, "key", 0..count, VALUE_BYTES)
}

#[test]
fn a_bound_that_is_lowered_and_raised_is_followed_by_all_processes() -> anyhow::Result<()> {
    const COUNT: usize = 17_000;
    let folder = tempfile::tempdir()?;
    let server = start(folder.path(), "400mb", &[])?;
    let mut client = server.client()?;
    companions_up(&mut client)?;
    let errors = fill(&mut client, "key", 0..COUNT, VALUE_BYTES)?;
    anyhow::ensure!(errors.is_empty(), "{errors:?}");
    let before = proportional_bytes(server.pid());
    anyhow::ensure!(before > 280 * MB, "only {before} bytes are used");
    anyhow::ensure!(before < 400 * MB + BEYOND, "{before} bytes are used");

    client.ok("CONFIG SET maxmemory 128mb")?;
    until_below(&server, 128 * MB + BEYOND)?;
    // What scales with the bound follows too.
    until("a smaller cache", || {
        Ok(statistic(&mut client, "cache_bytes")? <= 18 * MB)
    })?;
    check(&mut client, "key", (0..COUNT).step_by(7), VALUE_BYTES)?;
    until_below(&server, 128 * MB + BEYOND)?;

    client.ok("CONFIG SET maxmemory 300mb")?;
    until("more memory in use", || {
        read_twice(&mut client, COUNT)?;
        Ok(proportional_bytes(server.pid()) > 220 * MB)
    })?;
    until_below(&server, 300 * MB + BEYOND)?;
    assert_eq!(number(&mut client, "memory", "maxmemory")?, 300 * MB);
    let log = server.log_text();
    let line = "memory is shared anew: maxmemory 134217728 (cache 16777216, snapshots 8388608, \
                log 4194304, clients 16777216, processes 50331648: 96468992 in all; hot values \
                37748736)";
    anyhow::ensure!(log.contains(line), "{log}");
    Ok(())
}

#[test]
fn a_bound_that_comes_later_turns_tiering_on() -> anyhow::Result<()> {
    const COUNT: usize = 12_000;
    let folder = tempfile::tempdir()?;
    let server = start(folder.path(), "0", &[])?;
    let mut client = server.client()?;
    companions_up(&mut client)?;
    anyhow::ensure!(
        server
            .log_text()
            .contains("has no effect while maxmemory is 0")
    );
    fill(&mut client, "key", 0..COUNT, VALUE_BYTES)?;
    assert_eq!(number(&mut client, "tiering", "tiering_enabled")?, 0);
    let off = error(&mut client, "ROCKALL")?;
    anyhow::ensure!(off.starts_with("ERR the disk tier is off"), "{off}");

    let small = error(&mut client, "CONFIG SET maxmemory 100mb")?;
    anyhow::ensure!(
        small.contains("maxmemory 104857600 is too small"),
        "{small}"
    );
    assert_eq!(number(&mut client, "tiering", "tiering_enabled")?, 0);
    client.ok("CONFIG SET maxmemory 128mb")?;
    assert_eq!(number(&mut client, "tiering", "tiering_enabled")?, 1);
    until_below(&server, 128 * MB + BEYOND)?;
    check(&mut client, "key", (0..COUNT).step_by(5), VALUE_BYTES)?;
    assert_eq!(client.ok("DBSIZE")?.int(), Some(COUNT as i64));
    client.ok("SAVE")?;
    until_below(&server, 128 * MB + BEYOND)?;
    // And that is that.
    let zero = error(&mut client, "CONFIG SET maxmemory 0")?;
    anyhow::ensure!(zero.contains("can't become 0"), "{zero}");
    server.terminate()?;
    let server = start(folder.path(), "128mb", &ALONE)?;
    check(
        &mut server.client()?,
        "key",
        (0..COUNT).step_by(11),
        VALUE_BYTES,
    )
}

#[test]
fn tiering_that_can_not_be_turned_on_leaves_all_as_it_was() -> anyhow::Result<()> {
    let (folder, foreign) = (tempfile::tempdir()?, tempfile::tempdir()?);
    std::fs::write(foreign.path().join("precious"), "1")?;
    let place = foreign.path().display().to_string();
    let server = start(folder.path(), "0", &["--rockdbdir", &place])?;
    let mut client = server.client()?;
    client.ok("SET a 1")?;
    let refused = error(&mut client, "CONFIG SET maxmemory 128mb")?;
    anyhow::ensure!(
        refused.starts_with("ERR CONFIG SET failed (possibly related to argument 'maxmemory') - ")
            && refused.contains(&place),
        "{refused}"
    );
    anyhow::ensure!(foreign.path().join("precious").exists());
    let shown = client.ok("CONFIG GET maxmemory")?.elements();
    assert_eq!(shown[1].text(), "0");
    assert_eq!(client.ok("GET a")?.text(), "1");
    assert_eq!(number(&mut client, "tiering", "tiering_enabled")?, 0);
    Ok(())
}

#[test]
fn maxrockmem_is_what_hot_values_may_take_of_the_bound() -> anyhow::Result<()> {
    const COUNT: usize = 6000;
    let folder = tempfile::tempdir()?;
    let options = [&ALONE[..], &["--maxrockmem", "40mb"]].concat();
    let server = start(folder.path(), "300mb", &options)?;
    let mut client = server.client()?;
    let errors = fill(&mut client, "key", 0..COUNT, VALUE_BYTES)?;
    anyhow::ensure!(errors.is_empty(), "{errors:?}");
    let hot = |client: &mut Client| -> anyhow::Result<u64> {
        let [_, in_memory, ..] = report(client)?;
        Ok(in_memory as u64 * VALUE_BYTES as u64)
    };
    // 120 MB would have room.
    until("few hot values", || Ok(hot(&mut client)? <= 42 * MB))?;
    anyhow::ensure!(
        hot(&mut client)? > 20 * MB,
        "too few: {}",
        hot(&mut client)?
    );
    read_twice(&mut client, COUNT)?;
    until("few hot values", || Ok(hot(&mut client)? <= 42 * MB))?;
    client.ok("CONFIG SET maxrockmem 0")?;
    until("more hot values", || {
        read_twice(&mut client, COUNT)?;
        Ok(hot(&mut client)? > 80 * MB)
    })?;
    let refused = error(&mut client, "CONFIG SET maxrockmem 301mb")?;
    let text = "ERR CONFIG SET failed (possibly related to argument 'maxrockmem') - maxrockmem \
                (315621376) is the hot part of maxmemory (314572800): it can't be larger";
    assert_eq!(refused, text);
    Ok(())
}

#[test]
fn maxpsmem_is_the_line_of_process_memory_at_which_writes_are_refused() -> anyhow::Result<()> {
    // What goes there stays in memory: the tier has no room.
    let Some(disk) = SmallDisk::mount(24 << 20) else {
        return Ok(());
    };
    let folder = tempfile::tempdir()?;
    let tier = disk.path().join("tier").display().to_string();
    let options = ["--rockdbdir", &tier, "--maxpsmem", "230mb"];
    let server = start(folder.path(), "400mb", &[&ALONE[..], &options].concat())?;
    let mut client = server.client()?;
    let mut written = 0;
    let refusal = loop {
        let key = format!("key:{written}");
        let words = [b"SET", key.as_bytes(), &value(written, VALUE_BYTES)];
        if let Reply::Error(text) = client.run(&words)? {
            break text;
        }
        written += 1;
        anyhow::ensure!(written < 20_000, "nothing is refused");
    };
    anyhow::ensure!(refusal.starts_with("OOM "), "{refusal}");
    let used = resident_bytes(server.pid());
    // What the allocator can't give back at once comes on top, as with the bound.
    anyhow::ensure!(
        used < 280 * MB && written > 3000,
        "{used} bytes, {written} keys"
    );
    // Reads and deletes go on.
    check(&mut client, "key", (0..written).step_by(97), VALUE_BYTES)?;
    assert_eq!(client.ok("DEL key:1")?.int(), Some(1));
    // A line further up is more room.
    client.ok("CONFIG SET maxpsmem 0")?;
    until("a write that is taken", || {
        Ok(client
            .run(&["SET", "more", &"v".repeat(VALUE_BYTES)])?
            .text()
            == "OK")
    })?;
    let errors = fill(&mut client, "key", written..written + 1000, VALUE_BYTES)?;
    anyhow::ensure!(errors.is_empty(), "{errors:?}");
    Ok(())
}

#[test]
fn what_maxmemory_and_its_parts_can_not_be_is_refused_with_the_sum() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let server = start(folder.path(), "128mb", &ALONE)?;
    let mut client = server.client()?;
    let log = server.log_text();
    // Told at start, each part and their sum.
    let line = "tiering is on: maxmemory 134217728 (cache 16777216, snapshots 8388608, log 4194304, \
                clients 16777216, processes 50331648: 96468992 in all; hot values 37748736)";
    anyhow::ensure!(log.contains(line), "{log}");

    let failed = |why: &str| {
        format!("ERR CONFIG SET failed (possibly related to argument 'maxmemory') - {why}")
    };
    let refused = error(&mut client, "CONFIG SET maxmemory 0")?;
    let why = "maxmemory can't become 0 while enable-rocksdb-feature is in use";
    assert_eq!(refused, failed(why));
    let why = "maxmemory 104857600 is too small with enable-rocksdb-feature: it needs at least \
               119930880 bytes (cache 13107200, snapshots 6553600, log 3276800, clients 13107200, \
               processes 50331648, hot values 33554432)";
    let refused = error(&mut client, "CONFIG SET maxmemory 100mb")?;
    assert_eq!(refused, failed(why));
    let shown = client.ok("CONFIG GET maxmemory")?.elements();
    assert_eq!(shown[1].text(), "134217728");
    drop(server);

    let port = redrock_integration_tests::process::free_port()?;
    let options = ["--maxmemory", "100mb", "--enable-rocksdb-feature", "yes"];
    let (status, text) = Server::refused(Kind::RedRock, folder.path(), port, &options)?;
    anyhow::ensure!(!status.success() && text.contains(why), "{status}: {text}");
    Ok(())
}
