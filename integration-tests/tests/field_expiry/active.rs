//! Active expiry of fields, in memory and on disk.

use crate::{FAR, TIERED, evict, number, start, timed, until};

#[test]
fn fields_go_on_time_in_memory_and_on_disk_and_nothing_else_is_read() -> anyhow::Result<()> {
    for (options, cold) in [(&[][..], false), (&TIERED, false), (&TIERED, true)] {
        let folder = tempfile::tempdir()?;
        let server = start(folder.path(), options)?;
        let mut client = server.client()?;
        client.ok("DEBUG SET-ACTIVE-EXPIRE 0")?;
        let names =
            |kind: &str| -> Vec<String> { (0..50).map(|n| format!("{kind}:{n}")).collect() };
        for key in names("soon") {
            client.ok(&format!("HSET {key} a 1 b 2 c 3"))?;
            client.ok(&format!("HPEXPIRE {key} 300 FIELDS 2 a b"))?;
        }
        for key in names("all") {
            client.ok(&format!("HSETEX {key} PX 300 FIELDS 2 a 1 b 2"))?;
        }
        for key in names("far") {
            client.ok(&format!("HSETEX {key} PXAT {FAR} FIELDS 2 a 1 b 2"))?;
        }
        // The key's own expiry comes first.
        for key in names("key") {
            client.ok(&format!("HSETEX {key} PXAT {FAR} FIELDS 1 a 1"))?;
            client.ok(&format!("PEXPIRE {key} 300"))?;
        }
        assert_eq!(timed(&mut client)?, 200);
        if cold {
            for kind in ["soon", "all", "far", "key"] {
                evict(&mut client, &names(kind))?;
            }
        }
        client.ok("DEBUG SET-ACTIVE-EXPIRE 1")?;
        until("fields expire", || {
            Ok(number(&mut client, "stats", "expired_subkeys")? == 200
                && number(&mut client, "stats", "expired_keys")? == 50)
        })?;
        assert_eq!(client.ok("DBSIZE")?.int(), Some(100));
        assert_eq!(timed(&mut client)?, 50);
        if cold {
            // Only those with something due have been read.
            let loaded = number(&mut client, "tiering", "tiering_loaded_values")?;
            assert_eq!(loaded, 100, "values read");
        }
        for key in names("soon") {
            assert_eq!(client.ok(&format!("HLEN {key}"))?.int(), Some(1), "{key}");
            assert_eq!(client.ok(&format!("HGET {key} c"))?.text(), "3");
        }
        for key in names("far") {
            assert_eq!(client.ok(&format!("HLEN {key}"))?.int(), Some(2), "{key}");
        }
    }
    Ok(())
}

#[test]
fn a_large_hash_loses_its_fields_while_others_are_served() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let server = start(folder.path(), &[])?;
    let mut client = server.client()?;
    for first in (0..20_000).step_by(500) {
        let pairs: Vec<String> = (first..first + 500).map(|f| format!("f{f} v")).collect();
        client.ok(&format!(
            "HSETEX big PX 1500 FIELDS 500 {}",
            pairs.join(" ")
        ))?;
    }
    client.ok("HSET big stays v")?;
    until("all fields but one expire", || {
        client.ok("SET other 1")?;
        Ok(client.ok("HLEN big")?.int() == Some(1))
    })?;
    assert_eq!(client.ok("HGETALL big")?.elements().len(), 2);
    assert_eq!(number(&mut client, "stats", "expired_subkeys")?, 20_000);
    Ok(())
}
