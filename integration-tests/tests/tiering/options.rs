//! Names of options, and which can't be changed.

use super::{ALONE, error, start};
use redrock_integration_tests::process::{Kind, Server, has_redis};

#[test]
fn what_is_for_the_start_only_is_refused_as_redis_refuses_it() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let server = start(folder.path(), "128mb", &ALONE)?;
    let mut client = server.client()?;
    for (name, value) in [
        ("enable-rocksdb-feature", "no"),
        ("rockdbdir", "/elsewhere"),
        ("rocksdb_folder", "/elsewhere"),
        ("maxmemory-only-for-rocksdb", "no"),
        ("databases", "3"),
    ] {
        let refused = error(&mut client, &format!("CONFIG SET {name} {value}"))?;
        let text = format!(
            "ERR CONFIG SET failed (possibly related to argument '{name}') - can't set immutable config"
        );
        assert_eq!(refused, text);
    }
    if has_redis() {
        let theirs = tempfile::tempdir()?;
        let redis = Server::start(Kind::Redis, theirs.path(), &[])?;
        let line = "CONFIG SET databases 3";
        assert_eq!(
            error(&mut redis.client()?, line)?,
            error(&mut client, line)?
        );
    }
    for (name, wanted) in [
        ("enable-rocksdb-feature", "yes"),
        ("maxmemory-only-for-rocksdb", "yes"),
        ("max-hope-hot-keys", "1000"),
        ("maxmemory-policy", "noeviction"),
        ("maxrockmem", "0"),
        ("maxpsmem", "0"),
        ("hash-max-rock-entries", "0"),
    ] {
        let shown = client.ok(&format!("CONFIG GET {name}"))?.elements();
        assert_eq!(shown[1].text(), wanted, "{name}");
    }
    Ok(())
}

#[test]
fn the_tier_is_where_either_name_of_its_option_says() -> anyhow::Result<()> {
    for name in ["--rockdbdir", "--rocksdb_folder"] {
        let (folder, place) = (tempfile::tempdir()?, tempfile::tempdir()?);
        let place = place.path().join("tier");
        let text = place.display().to_string();
        let server = start(
            folder.path(),
            "128mb",
            &[&ALONE[..], &[name, &text]].concat(),
        )?;
        let mut client = server.client()?;
        for shown in ["rockdbdir", "rocksdb_folder"] {
            let found = client.ok(&format!("CONFIG GET {shown}"))?.elements();
            assert_eq!(found[1].text(), text, "{name}, {shown}");
        }
        anyhow::ensure!(place.join("REDROCK_TIER").exists(), "{name}");
        anyhow::ensure!(!folder.path().join("tier").exists(), "{name}");
    }
    let folder = tempfile::tempdir()?;
    let _server = start(folder.path(), "128mb", &ALONE)?;
    anyhow::ensure!(folder.path().join("tier").join("REDROCK_TIER").exists());
    Ok(())
}

#[test]
fn with_the_feature_off_nothing_is_tiered_and_no_folder_is_made() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let options = ["--maxmemory", "128mb"];
    let server = Server::start(
        Kind::RedRock,
        folder.path(),
        &[&options[..], &ALONE].concat(),
    )?;
    let mut client = server.client()?;
    client.ok("SET a 1")?;
    assert_eq!(super::number(&mut client, "tiering", "tiering_enabled")?, 0);
    anyhow::ensure!(!folder.path().join("tier").exists());
    // As in Redis, the limit goes and comes, however small.
    for bytes in ["0", "50mb", "1gb", "0"] {
        client.ok(&format!("CONFIG SET maxmemory {bytes}"))?;
    }
    Ok(())
}
